//! What RabbitMQ's and lapin's errors call for.

use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::{Error, ErrorKind};

use crate::target::fence::FenceName;
use crate::target::{Broken, ConnectError, Reaction};

/// What the loss of a channel or connection says about the messages in flight: `Some` if one of
/// them may have caused it, with the reaction once the culprit is known.
pub(super) fn classify(error: &Error) -> Option<Reaction> {
    let ErrorKind::ProtocolError(error) = error.kind() else { return None };
    match error.kind() {
        AMQPErrorKind::Soft(soft) => match soft {
            // The exchange is missing, or its write permission; a resource held by somebody else.
            AMQPSoftError::NOTFOUND
            | AMQPSoftError::ACCESSREFUSED
            | AMQPSoftError::RESOURCELOCKED
            | AMQPSoftError::NOROUTE
            | AMQPSoftError::NOCONSUMERS => Some(Reaction::Park),
            AMQPSoftError::CONTENTTOOLARGE => Some(Reaction::Bury),
            // RabbitMQ's way to say "larger than max_message_size"; 406 has other uses as well.
            AMQPSoftError::PRECONDITIONFAILED
                if error.get_message().as_str().contains("message size") =>
            {
                Some(Reaction::Bury)
            }
            AMQPSoftError::PRECONDITIONFAILED => Some(Reaction::Retry),
        },
        AMQPErrorKind::Hard(hard) => match hard {
            // The broker could not read what was sent: perhaps one message's fault.
            AMQPHardError::FRAMEERROR
            | AMQPHardError::SYNTAXERROR
            | AMQPHardError::COMMANDINVALID
            | AMQPHardError::UNEXPECTEDFRAME
            | AMQPHardError::NOTIMPLEMENTED => Some(Reaction::Retry),
            // An operator, a shutdown, a virtual host that went away, the broker's own trouble.
            AMQPHardError::CONNECTIONFORCED
            | AMQPHardError::INVALIDPATH
            | AMQPHardError::CHANNELERROR
            | AMQPHardError::RESOURCEERROR
            | AMQPHardError::NOTALLOWED
            | AMQPHardError::INTERNALERROR => None,
        },
    }
}

/// The reaction to a returned message, by its reply code.
pub(super) fn classify_return(reply_code: u16) -> Reaction {
    match AMQPSoftError::from_id(reply_code) {
        Some(AMQPSoftError::NOROUTE | AMQPSoftError::NOCONSUMERS) => Reaction::Park,
        Some(AMQPSoftError::CONTENTTOOLARGE) => Reaction::Bury,
        _ => Reaction::Retry,
    }
}

/// Why a connection that cannot be made will never be made as configured; `None` = an outage.
pub(super) fn misconfigured(error: &Error) -> Option<&'static str> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => match error.kind() {
            AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => {
                Some("check user and password of the target's `url`, and the user's permissions")
            }
            AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => Some(
                "check that the virtual host of the target's `url` exists and is open to the user",
            ),
            _ => None,
        },
        ErrorKind::AuthProviderError(_) => Some("check `auth_mechanism` in the target's `url`"),
        ErrorKind::InvalidProtocolVersion(_) => {
            Some("check host and port of the target's `url`: this is no AMQP 0-9-1 broker")
        }
        ErrorKind::IOError(error) => {
            match error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>())? {
                rustls::Error::InvalidCertificate(_) => Some(
                    "check `tls.ca_file`, and that the certificate names the host of the `url`",
                ),
                rustls::Error::AlertReceived(_) => Some(
                    "check `tls.cert_file` and `tls.key_file`: the broker refused the handshake",
                ),
                rustls::Error::InvalidMessage(_) => {
                    Some("check the port of the target's `url`: it does not speak TLS")
                }
                _ => None,
            }
        }
        _ => None,
    }
}

/// Why the fence cannot be held.
pub(super) fn not_fenced(fence: &FenceName, error: &Error) -> ConnectError {
    let reason = format!("queue `{fence}`: {}", describe(error));
    let soft = match error.kind() {
        ErrorKind::ProtocolError(error) => match error.kind() {
            AMQPErrorKind::Soft(soft) => Some(soft),
            AMQPErrorKind::Hard(_) => None,
        },
        _ => None,
    };
    match soft {
        Some(AMQPSoftError::RESOURCELOCKED) => {
            ConnectError::Fenced(format!("the predecessor still holds the fence: {reason}"))
        }
        Some(AMQPSoftError::ACCESSREFUSED) => ConnectError::Configuration {
            reason,
            hint: format!(
                "let the target's user configure queues that match `^{}`, or set fence = \"none\"",
                FenceName::PREFIX.replace('.', "\\.")
            ),
        },
        _ => ConnectError::Outage(reason),
    }
}

/// The loss, as the flow sees it.
pub(super) fn broken(error: &Error) -> Broken {
    Broken { reason: describe(error), suspect: classify(error) }
}

/// What the broker said, without lapin's decoration.
pub(super) fn describe(error: &Error) -> String {
    match error.kind() {
        // RabbitMQ's text begins with the code's name: "NOT_FOUND - no exchange 'x' in vhost '/'".
        ErrorKind::ProtocolError(error) => format!("{} {}", error.get_id(), error.get_message()),
        ErrorKind::IOError(error) | ErrorKind::RuntimeShutdownError(error) => error.to_string(),
        _ => error.to_string(),
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

    #[test]
    fn every_code_has_its_reaction() {
        use Reaction::{Bury, Park, Retry};
        for (code, reaction) in [
            (311, Some(Bury)),
            (312, Some(Park)),
            (313, Some(Park)),
            (403, Some(Park)),
            (404, Some(Park)),
            (405, Some(Park)),
            (406, Some(Retry)),
            (320, None),
            (402, None),
            (501, Some(Retry)),
            (502, Some(Retry)),
            (503, Some(Retry)),
            (504, None),
            (505, Some(Retry)),
            (506, None),
            (530, None),
            (540, Some(Retry)),
            (541, None),
        ] {
            assert_eq!(classify(&protocol(code, "text")), reaction, "{code}");
        }
        let size = "PRECONDITION_FAILED - message size 9 is larger than configured max size 5";
        assert_eq!(classify(&protocol(406, size)), Some(Bury));
        assert_eq!(classify(&ErrorKind::MissingHeartbeatError.into()), None);
        assert_eq!(classify(&io::Error::from(io::ErrorKind::ConnectionReset).into()), None);
    }

    #[test]
    fn every_return_has_its_reaction() {
        for (code, reaction) in [
            (312, Reaction::Park),
            (313, Reaction::Park),
            (311, Reaction::Bury),
            (404, Reaction::Retry),
            (0, Reaction::Retry),
        ] {
            assert_eq!(classify_return(code), reaction, "{code}");
        }
    }

    #[test]
    fn what_no_second_attempt_changes_is_a_misconfiguration() {
        let tls = |error: rustls::Error| -> Error {
            io::Error::new(io::ErrorKind::InvalidData, error).into()
        };
        let certificate = rustls::CertificateError::UnknownIssuer;
        for (error, expected) in [
            (protocol(403, "ACCESS_REFUSED"), true),
            (protocol(530, "NOT_ALLOWED - vhost x not found"), true),
            (protocol(320, "CONNECTION_FORCED"), false),
            (protocol(541, "INTERNAL_ERROR"), false),
            (tls(rustls::Error::InvalidCertificate(certificate)), true),
            (tls(rustls::Error::AlertReceived(rustls::AlertDescription::UnknownCA)), true),
            (tls(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)), true),
            (tls(rustls::Error::HandshakeNotComplete), false),
            (ErrorKind::AuthProviderError("x".into()).into(), true),
            (io::Error::from(io::ErrorKind::ConnectionRefused).into(), false),
            (ErrorKind::MissingHeartbeatError.into(), false),
        ] {
            assert_eq!(misconfigured(&error).is_some(), expected, "{error}");
        }
    }

    #[test]
    fn a_fence_is_held_forbidden_or_out_of_reach() {
        let fence = FenceName::new(uuid::Uuid::nil(), "orders");
        let refused = |code, text| not_fenced(&fence, &protocol(code, text));
        assert!(matches!(refused(405, "RESOURCE_LOCKED"), ConnectError::Fenced(_)));
        assert!(matches!(refused(406, "PRECONDITION_FAILED"), ConnectError::Outage(_)));
        assert!(matches!(refused(541, "INTERNAL_ERROR"), ConnectError::Outage(_)));
        let ConnectError::Configuration { reason, hint } = refused(403, "ACCESS_REFUSED") else {
            panic!("forbidden for ever")
        };
        assert!(reason.contains(fence.as_str()), "{reason}");
        assert!(hint.contains(r"`^outbox-relay\.fence\.`"), "{hint}");
    }

    #[test]
    fn descriptions_name_the_code_and_the_brokers_words() {
        let error = protocol(404, "NOT_FOUND - no exchange 'x' in vhost '/'");
        assert_eq!(describe(&error), "404 NOT_FOUND - no exchange 'x' in vhost '/'");
    }
}
