//! What RabbitMQ's and lapin's errors call for while messages are in flight; `refused` is about connecting.

use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::{Error, ErrorKind};

use crate::target::{Broken, Reaction};

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
    fn descriptions_name_the_code_and_the_brokers_words() {
        let error = protocol(404, "NOT_FOUND - no exchange 'x' in vhost '/'");
        assert_eq!(describe(&error), "404 NOT_FOUND - no exchange 'x' in vhost '/'");
    }
}
