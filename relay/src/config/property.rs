//! `properties = { … }` of a Kafka target: what of librdkafka may be set, and what may not, and why.

use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;

use super::raw::{RawTarget, Scalar};
use super::section::Section;

/// Why a property cannot be set, and what to do instead.
struct Refused {
    /// A whole name, or what a name begins with if it ends in `.`.
    name: &'static str,
    reason: &'static str,
    hint: &'static str,
}

const NO_REMEDY: &str = "take it out";

const fn refused(name: &'static str, reason: &'static str, hint: &'static str) -> Refused {
    Refused { name, reason, hint }
}

/// The first that matches counts.
const REFUSED: [Refused; 42] = [
    // What "confirmed" means.
    refused("acks", "a row is settled only when all in-sync replicas have it", NO_REMEDY),
    refused(
        "request.required.acks",
        "a row is settled only when all in-sync replicas have it",
        NO_REMEDY,
    ),
    refused("delivery.report.only.error", "every row waits for its delivery report", NO_REMEDY),
    refused(
        "message.timeout.ms",
        "a row that expires in the client may have been written all the same; rows never expire",
        "an outage is noticed by confirm_timeout",
    ),
    refused(
        "delivery.timeout.ms",
        "a row that expires in the client may have been written all the same; rows never expire",
        "an outage is noticed by confirm_timeout",
    ),
    // The order per key.
    refused(
        "enable.idempotence",
        "without it a retry inside the client breaks the order",
        NO_REMEDY,
    ),
    refused("enable.gapless.guarantee", "the relay sends again itself, in order", NO_REMEDY),
    refused(
        "max.in.flight",
        "the idempotent producer sets it: more would break the order",
        NO_REMEDY,
    ),
    refused(
        "max.in.flight.requests.per.connection",
        "the idempotent producer sets it: more would break the order",
        NO_REMEDY,
    ),
    refused("retries", "the client retries for ever, in order; the relay decides", NO_REMEDY),
    refused(
        "message.send.max.retries",
        "the client retries for ever, in order; the relay decides",
        NO_REMEDY,
    ),
    refused(
        "partitioner",
        "a key must stay in its partition, the one that Java clients choose (murmur2_random)",
        NO_REMEDY,
    ),
    refused("transactional.id", "it is derived from the pipeline when there is a fence", NO_REMEDY),
    refused("transaction.timeout.ms", "there are no transactions without a fence", NO_REMEDY),
    // What the relay does by itself.
    refused(
        "allow.auto.create.topics",
        "a typing error in a route must not create a topic",
        "create topics with the partitions and replicas that they need",
    ),
    refused("statistics.interval.ms", "nobody would read them: the relay has its own", NO_REMEDY),
    // What the window bounds.
    refused(
        "queue.buffering.max.ms",
        "it is another name of linger.ms, which has a key of its own",
        "set linger",
    ),
    refused(
        "queue.buffering.",
        "the window bounds what is in flight, the client's queue only has room for it",
        "set window_messages_max and window_bytes_max",
    ),
    // What has a key of its own.
    refused("bootstrap.servers", "it has a key of its own", "set brokers"),
    refused("metadata.broker.list", "it has a key of its own", "set brokers"),
    refused("linger.ms", "it has a key of its own", "set linger"),
    refused("compression.codec", "it has a key of its own", "set compression"),
    refused("compression.type", "it has a key of its own", "set compression"),
    refused("socket.connection.setup.timeout.ms", "it has a key of its own", "set connect_timeout"),
    refused("security.protocol", "it follows from tls and sasl_mechanism", "set those"),
    refused(
        "enable.ssl.certificate.verification",
        "certificates are always verified",
        "set tls.ca_file",
    ),
    refused(
        "ssl.endpoint.identification.algorithm",
        "names are always verified",
        "connect by a name that the certificate holds",
    ),
    refused("ssl.ca.location", "it has a key of its own", "set tls.ca_file"),
    refused("ssl.certificate.location", "it has a key of its own", "set tls.cert_file"),
    refused("ssl.key.location", "it has a key of its own", "set tls.key_file"),
    refused("sasl.mechanism", "it has a key of its own", "set sasl_mechanism"),
    refused("sasl.mechanisms", "it has a key of its own", "set sasl_mechanism"),
    refused("sasl.username", "it has a key of its own", "set sasl_username"),
    refused("sasl.password", "it is a secret and has a key of its own", "set sasl_password_file"),
    // Secrets, for which there is no key that would keep them out of logs.
    refused(
        "ssl.key.password",
        "it is a secret",
        "store the key unencrypted, readable by the relay alone",
    ),
    refused("ssl.key.pem", "it is a secret", "set tls.key_file"),
    refused("ssl.keystore.password", "it is a secret", "set tls.cert_file and tls.key_file (PEM)"),
    refused(
        "ssl.keystore.location",
        "keystores need a password",
        "set tls.cert_file and tls.key_file (PEM)",
    ),
    refused("ssl_key", "it is a secret", "set tls.key_file"),
    refused("sasl.oauthbearer.", "OAUTHBEARER is not available yet", "use SCRAM-SHA-512 or tls"),
    // What would run other code inside the relay.
    refused("plugin.library.paths", "the relay loads no code at run time", NO_REMEDY),
    refused("sasl.kerberos.", "GSSAPI is not available", "use SCRAM-SHA-512 or tls"),
];

/// The properties, checked by librdkafka itself. No message holds a value: a misspelt secret is
/// one that nothing here knows to be a secret.
pub(super) fn check(raw: &RawTarget, s: &mut Section<'_>) -> Vec<(String, String)> {
    let Some(properties) = &raw.properties else { return Vec::new() };
    let mut s = s.table("properties");
    let mut checked = Vec::new();
    for (name, value) in &properties.0 {
        if let Some(refused) = REFUSED.iter().find(|refused| refused.matches(name)) {
            s.refuse_key(name, format!("cannot be set: {}", refused.reason), refused.hint);
            continue;
        }
        let Scalar::Text(text) = value else {
            let found = format!("expected text, found {}", value.found());
            let hint = match value {
                Scalar::Table => "a name with dots is one key: write it in quotes, \"client.id\"",
                _ => "librdkafka takes text: write the value in quotes",
            };
            s.refuse(name, found, hint);
            continue;
        };
        match ClientConfig::new().set(name, text).create_native_config() {
            Ok(_) => checked.push((name.clone(), text.clone())),
            Err(error) => s.refuse(name, refusal(&error), HINT),
        }
    }
    checked
}

const HINT: &str = "properties and their values: \
                    https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md";

impl Refused {
    fn matches(&self, name: &str) -> bool {
        name == self.name || (self.name.ends_with('.') && name.starts_with(self.name))
    }
}

fn refusal(error: &KafkaError) -> &'static str {
    use rdkafka::types::RDKafkaConfRes::{RD_KAFKA_CONF_INVALID, RD_KAFKA_CONF_UNKNOWN};
    match error {
        KafkaError::ClientConfig(RD_KAFKA_CONF_UNKNOWN, ..) => "librdkafka has no such property",
        KafkaError::ClientConfig(RD_KAFKA_CONF_INVALID, ..) => "librdkafka refuses this value",
        _ => "librdkafka refuses it",
    }
}
