//! The keys of a target of `kind = "kafka"`.

use std::path::Path;
use std::time::Duration;

use super::default::{
    DEFAULT_COMPRESSION, DEFAULT_CONNECT_TIMEOUT, DEFAULT_KAFKA_FENCE, DEFAULT_KAFKA_TIMESTAMP,
    DEFAULT_LINGER,
};
use super::property;
use super::raw::RawTarget;
use super::section::Section;
use super::{KafkaConfig, KafkaFence, KafkaTimestamp, TlsConfig, TlsMode, tls};
use crate::secret::Secret;

const COMPRESSIONS: [(&str, &str); 5] =
    [("none", "none"), ("gzip", "gzip"), ("snappy", "snappy"), ("lz4", "lz4"), ("zstd", "zstd")];

const FENCES: [(&str, KafkaFence); 2] =
    [("none", KafkaFence::Off), ("transaction", KafkaFence::Transaction)];

const TIMESTAMPS: [(&str, KafkaTimestamp); 2] =
    [("created", KafkaTimestamp::Created), ("sent", KafkaTimestamp::Sent)];

const MECHANISMS: [(&str, &str); 3] =
    [("PLAIN", "PLAIN"), ("SCRAM-SHA-256", "SCRAM-SHA-256"), ("SCRAM-SHA-512", "SCRAM-SHA-512")];

pub(super) fn check(raw: &RawTarget, s: &mut Section<'_>) -> KafkaConfig {
    let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3_600));
    let brokers = brokers(raw, s);
    let tls = tls::check(&raw.tls.0, TlsMode::Disable, &mut s.table("tls"));
    let sasl = sasl(raw, s);
    let mut properties = property::check(raw, s);
    properties.extend(security(&tls, sasl.as_ref()));
    KafkaConfig {
        brokers,
        linger: s.duration("linger", &raw.linger, DEFAULT_LINGER, Duration::ZERO..=second),
        compression: s
            .choice("compression", &raw.compression, &COMPRESSIONS)
            .unwrap_or(DEFAULT_COMPRESSION)
            .to_owned(),
        timestamp: s
            .choice("timestamp", &raw.timestamp, &TIMESTAMPS)
            .unwrap_or(DEFAULT_KAFKA_TIMESTAMP),
        fence: s.choice("fence", &raw.fence, &FENCES).unwrap_or(DEFAULT_KAFKA_FENCE),
        tls,
        properties,
        secret_properties: sasl
            .map(|sasl| ("sasl.password".to_owned(), sasl.password))
            .into_iter()
            .collect(),
        connect_timeout: s.duration(
            "connect_timeout",
            &raw.connect_timeout,
            DEFAULT_CONNECT_TIMEOUT,
            second..=hour,
        ),
    }
}

fn brokers(raw: &RawTarget, s: &mut Section<'_>) -> String {
    let text = s.required("brokers", &raw.brokers, "\"kafka:9092\"");
    let address = |part: &str| match part.rsplit_once(':') {
        Some((host, port)) => {
            !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok()
        }
        None => !part.is_empty() && !part.contains('/'),
    };
    if !text.is_empty() && !text.split(',').all(|part| address(part.trim())) {
        s.refuse(
            "brokers",
            "not a list of addresses",
            "write HOST:PORT, several with commas between them: \"k1:9092,k2:9092\"",
        );
    }
    text
}

/// Who the relay is to the brokers.
struct Sasl {
    mechanism: &'static str,
    username: String,
    password: Secret,
}

/// `None` without SASL, and if something is missing or wrong, which is reported.
fn sasl(raw: &RawTarget, s: &mut Section<'_>) -> Option<Sasl> {
    let password = s.secret("sasl_password", &raw.sasl_password, &raw.sasl_password_file);
    if raw.sasl_mechanism.is_none() {
        let keys = [
            ("sasl_username", &raw.sasl_username),
            ("sasl_password", &raw.sasl_password),
            ("sasl_password_file", &raw.sasl_password_file),
        ];
        if keys.iter().any(|(_, value)| value.is_some()) {
            s.missing("sasl_mechanism", "\"SCRAM-SHA-512\"");
        }
        return None;
    }
    let mechanism = s.choice("sasl_mechanism", &raw.sasl_mechanism, &MECHANISMS);
    let username = s.required("sasl_username", &raw.sasl_username, "\"relay\"");
    if raw.sasl_password.is_none() && raw.sasl_password_file.is_none() {
        s.missing("sasl_password_file", "\"/etc/outbox-relay/kafka-password\"");
    }
    Some(Sasl { mechanism: mechanism?, username, password: password? })
}

/// librdkafka's properties for `tls` and the `sasl_…` keys. With TLS, it verifies chain and name
/// unless it is told otherwise; it is told the opposite all the same.
fn security(tls: &TlsConfig, sasl: Option<&Sasl>) -> Vec<(String, String)> {
    let encrypted = tls.mode == TlsMode::VerifyFull;
    let protocol = match (encrypted, sasl.is_some()) {
        (false, false) => "plaintext",
        (false, true) => "sasl_plaintext",
        (true, false) => "ssl",
        (true, true) => "sasl_ssl",
    };
    let mut properties = vec![("security.protocol", protocol.to_owned())];
    if encrypted {
        properties.push(("enable.ssl.certificate.verification", "true".to_owned()));
        properties.push(("ssl.endpoint.identification.algorithm", "https".to_owned()));
    }
    for (property, file) in [
        ("ssl.ca.location", &tls.ca_file),
        ("ssl.certificate.location", &tls.cert_file),
        ("ssl.key.location", &tls.key_file),
    ] {
        properties.extend(file.as_deref().map(|file| (property, path_text(file))));
    }
    if let Some(sasl) = sasl {
        properties.push(("sasl.mechanism", sasl.mechanism.to_owned()));
        properties.push(("sasl.username", sasl.username.clone()));
    }
    properties.into_iter().map(|(property, value)| (property.to_owned(), value)).collect()
}

/// A path that came out of a TOML text (or a UTF-8 variable) is UTF-8, except for the folder of
/// the configuration file, whose odd bytes librdkafka could not take anyway.
fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
