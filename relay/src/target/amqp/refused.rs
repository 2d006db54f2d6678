//! What RabbitMQ says when it does not let a connection in, by what it calls for.
//!
//! A limit (of the virtual host, the user, the node) is an outage: it passes when somebody else's
//! connection ends or an operator raises it. Everything else that is refused wants a person. Both
//! are tried again. docs/reactions/rabbitmq.md has the same table in words.

use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::{Error, ErrorKind};

use super::classify::describe;
use crate::cause::Cause;
use crate::config::AmqpConfig;
use crate::target::ConnectError;
use crate::target::fence::FenceName;
use crate::tls;

const LIMIT_HINT: &str = "end connections or channels, or raise the limit: `rabbitmqctl \
                          set_vhost_limits`, `set_user_limits`, or the node's in rabbitmq.conf";
const QUEUE_LIMIT_HINT: &str =
    "delete queues, or raise max-queues of the virtual host: `rabbitmqctl set_vhost_limits`";

/// Why a connection was not made. `broker`: its address.
pub(super) fn refusal(config: &AmqpConfig, broker: &str, error: &Error) -> ConnectError {
    let reason = format!("{broker}: {}", describe(error));
    match kind(error) {
        Kind::Outage => ConnectError::Outage(reason),
        Kind::Limit => ConnectError::Outage(Cause::new(reason, LIMIT_HINT).text()),
        Kind::Tls(trouble) => {
            let Cause { reason, hint } = trouble.cause("tls.");
            let reason = format!("{broker}: TLS: {reason}");
            ConnectError::Configuration { reason, hint: hint.unwrap_or_default() }
        }
        kind => ConnectError::Configuration { reason, hint: hint(&kind, config) },
    }
}

/// Whether another password may do.
pub(super) fn is_about_password(error: &Error) -> bool {
    kind(error) == Kind::Credentials
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Outage,
    Limit,
    Credentials,
    Vhost,
    Mechanism,
    NotAmqp,
    Tls(tls::Trouble),
}

fn hint(kind: &Kind, config: &AmqpConfig) -> String {
    match kind {
        Kind::Credentials => {
            let password = match config.password.as_ref().and_then(|password| password.file()) {
                Some(file) => format!("the password in {}", file.display()),
                None => "the password".to_owned(),
            };
            format!(
                "check the user of the target's `url`, {password}, and whether the user may log in"
            )
        }
        Kind::Vhost => "check that the virtual host of the target's `url` exists and that the \
                        user has a permission there: `rabbitmqctl set_permissions`"
            .to_owned(),
        Kind::Mechanism => "check `auth_mechanism` in the target's `url`".to_owned(),
        _ => "check host and port of the target's `url`: this is no AMQP 0-9-1 broker".to_owned(),
    }
}

fn kind(error: &Error) -> Kind {
    match error.kind() {
        ErrorKind::ProtocolError(error) => match error.kind() {
            _ if is_limit(error.get_message().as_str()) => Kind::Limit,
            AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => {
                match error.get_message().as_str().contains("vhost") {
                    true => Kind::Vhost,
                    false => Kind::Credentials,
                }
            }
            AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED | AMQPHardError::INVALIDPATH) => {
                Kind::Vhost
            }
            _ => Kind::Outage,
        },
        ErrorKind::AuthProviderError(_) => Kind::Mechanism,
        ErrorKind::InvalidProtocolVersion(_) => Kind::NotAmqp,
        ErrorKind::IOError(error) => tls::found_in(error.as_ref()).map_or(Kind::Outage, Kind::Tls),
        _ => Kind::Outage,
    }
}

/// Whether a refusal is about a number that has been reached. RabbitMQ names the virtual host and
/// the user first, in quotes, and either may be called as it likes: what counts stands after them.
fn is_limit(text: &str) -> bool {
    // "vhost NAME not found" has no quotes.
    if text.ends_with(" not found") {
        return false;
    }
    let said = text.rsplit('\'').next().unwrap_or(text);
    ["limit (", "limit of (", "channel_max ("].iter().any(|words| said.contains(words))
}

/// Why the fence cannot be held.
pub(super) fn not_fenced(fence: &FenceName, error: &Error) -> ConnectError {
    let reason = format!("queue `{fence}`: {}", describe(error));
    let ErrorKind::ProtocolError(said) = error.kind() else { return ConnectError::Outage(reason) };
    match said.kind() {
        AMQPErrorKind::Soft(AMQPSoftError::RESOURCELOCKED) => {
            ConnectError::Fenced(format!("the predecessor still holds the fence: {reason}"))
        }
        // "cannot declare queue 'x': queue limit in vhost 'y' (1) is reached", by whatever code.
        _ if said.get_message().as_str().contains("queue limit in ") => {
            ConnectError::Outage(Cause::new(reason, QUEUE_LIMIT_HINT).text())
        }
        _ if is_limit(said.get_message().as_str()) => {
            ConnectError::Outage(Cause::new(reason, LIMIT_HINT).text())
        }
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => ConnectError::Configuration {
            reason,
            hint: format!(
                "let the target's user configure queues that match `^{}`, or set fence = \"none\"",
                FenceName::PREFIX.replace('.', "\\.")
            ),
        },
        _ => ConnectError::Outage(reason),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use lapin::protocol::AMQPError;

    use super::*;

    fn protocol(code: u16, text: &str) -> Error {
        ErrorKind::ProtocolError(AMQPError::from_id(code, text.into()).unwrap()).into()
    }

    fn kind_of(code: u16, text: &str) -> Kind {
        kind(&protocol(code, text))
    }

    /// The texts are those of RabbitMQ 3.10 to 4.2.
    #[test]
    fn a_vhost_at_its_connection_limit_is_an_outage() {
        for vhost in ["c06", "vhost not found", "a'b"] {
            let text = format!(
                "NOT_ALLOWED - access to vhost '{vhost}' refused for user 'u': connection limit (0) is reached"
            );
            assert_eq!(kind_of(530, &text), Kind::Limit, "{text}");
        }
    }

    #[test]
    fn a_user_at_its_connection_limit_is_an_outage() {
        let text =
            "NOT_ALLOWED - connection refused for user 'u': user connection limit (0) is reached";
        assert_eq!(kind_of(530, text), Kind::Limit);
    }

    #[test]
    fn a_node_at_its_connection_limit_is_an_outage() {
        let text = "NOT_ALLOWED - connection refused: node connection limit (1000) is reached";
        assert_eq!(kind_of(530, text), Kind::Limit);
    }

    #[test]
    fn a_user_at_its_channel_limit_is_an_outage() {
        let text = "NOT_ALLOWED - number of channels opened for user 'u' has reached the maximum \
                    allowed user limit of (0)";
        assert_eq!(kind_of(530, text), Kind::Limit);
    }

    #[test]
    fn a_node_or_a_connection_at_its_channel_limit_is_an_outage() {
        let text = "NOT_ALLOWED - number of channels opened on node 'rabbit@mq' has reached the \
                    maximum allowed limit of (100)";
        assert_eq!(kind_of(530, text), Kind::Limit);
        let text = "NOT_ALLOWED - number of channels opened (2047) has reached the negotiated \
                    channel_max (2047)";
        assert_eq!(kind_of(530, text), Kind::Limit);
    }

    #[test]
    fn a_vhost_that_is_missing_or_closed_to_the_user_is_configuration() {
        for vhost in ["nope", "limit", "connection limit (0) is reached'"] {
            let text = format!("NOT_ALLOWED - vhost '{vhost}' not found");
            assert_eq!(kind_of(530, &text), Kind::Vhost, "{text}");
            let text = format!("NOT_ALLOWED - access to vhost '{vhost}' refused for user 'u'");
            assert_eq!(kind_of(530, &text), Kind::Vhost, "{text}");
        }
        for text in ["vhost nope not found", "vhost nope limit (3) is reached not found"] {
            assert_eq!(kind_of(530, &format!("NOT_ALLOWED - {text}")), Kind::Vhost);
        }
        assert_eq!(kind_of(403, "ACCESS_REFUSED - access to vhost 'v' refused"), Kind::Vhost);
        assert_eq!(kind_of(402, "INVALID_PATH - no such vhost"), Kind::Vhost);
    }

    #[test]
    fn a_vhost_that_is_down_is_an_outage() {
        let text = "INTERNAL_ERROR - access to vhost 'v' refused for user 'u': vhost 'v' is down";
        assert_eq!(kind_of(541, text), Kind::Outage);
    }

    #[test]
    fn a_refused_login_is_about_the_password() {
        let text = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. \
                    For details see the broker logfile.";
        assert_eq!(kind_of(403, text), Kind::Credentials);
        assert!(is_about_password(&protocol(403, text)));
        assert!(!is_about_password(&protocol(530, "NOT_ALLOWED - vhost x not found")));
    }

    #[test]
    fn a_broker_that_closes_for_its_own_reasons_is_an_outage() {
        for (code, text) in [(320, "CONNECTION_FORCED - broker forced"), (541, "INTERNAL_ERROR")] {
            assert_eq!(kind_of(code, text), Kind::Outage, "{code}");
        }
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(kind(&reset.into()), Kind::Outage);
        assert_eq!(kind(&ErrorKind::MissingHeartbeatError.into()), Kind::Outage);
    }

    #[test]
    fn what_is_no_amqp_or_no_trusted_server_is_configuration() {
        assert_eq!(kind(&ErrorKind::AuthProviderError("x".into()).into()), Kind::Mechanism);
        let certificate = rustls::CertificateError::UnknownIssuer;
        let error = rustls::Error::InvalidCertificate(certificate);
        let error = io::Error::new(io::ErrorKind::InvalidData, error);
        assert_eq!(kind(&error.into()), Kind::Tls(tls::Trouble::UnknownCa));
    }

    #[test]
    fn a_fence_is_held_forbidden_or_out_of_reach() {
        let fence = FenceName::new(uuid::Uuid::nil(), "orders");
        let refused = |code, text| not_fenced(&fence, &protocol(code, text));
        assert!(matches!(refused(405, "RESOURCE_LOCKED"), ConnectError::Fenced(_)));
        assert!(matches!(refused(406, "PRECONDITION_FAILED"), ConnectError::Outage(_)));
        assert!(matches!(refused(541, "INTERNAL_ERROR"), ConnectError::Outage(_)));
        let ConnectError::Configuration { reason, hint } = refused(403, "ACCESS_REFUSED") else {
            panic!("a person must act")
        };
        assert!(reason.contains(fence.as_str()), "{reason}");
        assert!(hint.contains(r"`^outbox-relay\.fence\.`"), "{hint}");
    }

    #[test]
    fn a_queue_limit_is_an_outage_with_its_remedy() {
        let fence = FenceName::new(uuid::Uuid::nil(), "orders");
        for text in [
            "cannot declare queue 'q': queue limit in vhost 'v' (1) is reached",
            "cannot declare queue 'q': queue limit in cluster (1) is reached",
        ] {
            let ConnectError::Outage(reason) = not_fenced(&fence, &protocol(406, text)) else {
                panic!("{text}")
            };
            assert!(reason.contains("\nhint: ") && reason.contains("max-queues"), "{reason}");
        }
    }
}
