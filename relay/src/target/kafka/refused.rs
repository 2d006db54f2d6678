//! Why no broker lets the relay in, and what a person can do about it.

use std::time::Duration;

use rdkafka::types::RDKafkaErrorCode as Code;

use super::inbox::Trouble;
use crate::cause::Cause;
use crate::config::{KafkaConfig, TlsMode};
use crate::target::ConnectError;
use crate::tls;

/// What a broker refuses; a person has to change something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// The user, the password, the mechanism.
    Credentials,
    /// The handshake: a certificate, most often.
    Tls,
    /// The user may not be an idempotent producer.
    Idempotence,
}

impl Refused {
    /// `None` = an outage.
    pub(super) fn of(code: Code, reason: &str) -> Option<Self> {
        match code {
            // With TLS 1.3 a broker refuses the relay's certificate only after the handshake.
            Code::BrokerTransportFailure
                if reason.contains("SSL routines") && reason.contains("alert") =>
            {
                Some(Self::Tls)
            }
            Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::UnsupportedSASLMechanism
            | Code::IllegalSASLState => Some(Self::Credentials),
            Code::SSL => Some(Self::Tls),
            Code::ClusterAuthorizationFailed => Some(Self::Idempotence),
            _ => None,
        }
    }
}

/// How long a broker is asked what is wrong with TLS.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Why no broker has answered.
pub(super) async fn unreachable(config: &KafkaConfig, trouble: Option<Trouble>) -> ConnectError {
    let (brokers, timeout) = (&config.brokers, config.connect_timeout);
    let Some(Trouble { reason, refused }) = trouble else {
        return ConnectError::Outage(format!("no answer from {brokers} within {timeout:?}"));
    };
    let Some(refused) = refused else { return ConnectError::Outage(reason) };
    let Cause { reason, hint } = match refused {
        Refused::Credentials => Cause::new(reason, credentials_hint(config)),
        Refused::Idempotence => Cause::new(
            reason,
            "allow the user to be an idempotent producer (IdempotentWrite on the cluster)",
        ),
        Refused::Tls => certificate(config, reason).await,
    };
    ConnectError::Configuration { reason, hint: hint.unwrap_or_default() }
}

fn credentials_hint(config: &KafkaConfig) -> String {
    let file = config.secret_properties.iter().find_map(|(_, secret)| secret.file());
    let password = match file {
        Some(file) => format!("the password in {}", file.display()),
        None => "the password".to_owned(),
    };
    format!(
        "check `sasl_username`, {password} and `sasl_mechanism` of the target, and that the \
         brokers know the user"
    )
}

/// librdkafka says the same for a wrong name, an unknown CA and an expired certificate. So the
/// broker is asked once more, by a library that tells them apart.
async fn certificate(config: &KafkaConfig, reason: String) -> Cause {
    let address = address(&reason).unwrap_or_else(|| first(&config.brokers)).to_owned();
    let general = "check the files under `tls` of the target, and that the certificate names the \
                   host of `brokers`";
    if config.tls.mode != TlsMode::VerifyFull {
        return Cause::new(reason, general);
    }
    let (tls, host) = (config.tls.clone(), address.clone());
    let asked = tokio::task::spawn_blocking(move || tls::probe(&tls, &host, PROBE_TIMEOUT)).await;
    match asked.ok().flatten() {
        Some(trouble) => {
            let Cause { reason, hint } = trouble.cause("tls.");
            Cause { reason: format!("{address}: TLS: {reason}"), hint }
        }
        None => Cause::new(reason, general),
    }
}

/// The broker in "ssl://host:9093/bootstrap: SSL handshake failed".
fn address(reason: &str) -> Option<&str> {
    let (_, rest) = reason.split_once("ssl://")?;
    let end = rest.find(['/', ' '])?;
    Some(&rest[..end]).filter(|address| address.contains(':'))
}

fn first(brokers: &str) -> &str {
    brokers.split(',').next().unwrap_or(brokers).trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_has_to_change_is_told_from_an_outage() {
        for (code, expected) in [
            (Code::Authentication, Some(Refused::Credentials)),
            (Code::SaslAuthenticationFailed, Some(Refused::Credentials)),
            (Code::UnsupportedSASLMechanism, Some(Refused::Credentials)),
            (Code::IllegalSASLState, Some(Refused::Credentials)),
            (Code::SSL, Some(Refused::Tls)),
            (Code::ClusterAuthorizationFailed, Some(Refused::Idempotence)),
            (Code::Resolve, None),
            (Code::BrokerTransportFailure, None),
            (Code::AllBrokersDown, None),
            (Code::OperationTimedOut, None),
            (Code::ThrottlingQuotaExceeded, None),
        ] {
            assert_eq!(Refused::of(code, "Receive failed: Broken pipe"), expected, "{code}");
        }
        let alert = "Receive failed: error:0A00045C:SSL routines::tlsv13 alert certificate \
                     required: SSL alert number 116";
        assert_eq!(Refused::of(Code::BrokerTransportFailure, alert), Some(Refused::Tls));
    }

    #[test]
    fn the_broker_stands_in_what_librdkafka_says() {
        let said = "sasl_ssl://k1.internal:9093/bootstrap: SSL handshake failed: error";
        assert_eq!(address(said), Some("k1.internal:9093"));
        assert_eq!(address("ssl://[::1]:9093/1: SSL handshake failed"), Some("[::1]:9093"));
        assert_eq!(address("1/1 brokers are down"), None);
        assert_eq!(first("k1:9092, k2:9092"), "k1:9092");
    }
}
