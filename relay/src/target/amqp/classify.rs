//! What RabbitMQ's and lapin's errors call for while messages are in flight; `refused` is about connecting. The
//! page `docs/reactions/rabbitmq.md` has every line.

use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::{Error, ErrorKind};

use crate::target::{Broken, Reaction, Trouble};

/// The destination over which RabbitMQ closed a channel, as far as its text says it for sure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Blame {
    /// Some exchange does not exist.
    Missing,
    /// The user may not write to the exchange at all (or it is an internal one).
    Exchange { name: Option<String> },
    /// The user may not write to the exchange with this routing key: exchange, routing key.
    Key { place: Option<(String, String)> },
}

/// What the loss of a channel or connection says about the messages in flight: `Some` if one of
/// them may have caused it, with the reaction once the culprit is known.
pub(super) fn classify(error: &Error) -> Option<Reaction> {
    let ErrorKind::ProtocolError(protocol) = error.kind() else { return None };
    match protocol.kind() {
        AMQPErrorKind::Soft(soft) => Some(match soft {
            AMQPSoftError::NOTFOUND => Reaction::Park(Trouble::Missing),
            AMQPSoftError::ACCESSREFUSED => match blame(error) {
                Some(Blame::Key { .. }) => Reaction::Park(Trouble::ForbiddenKey),
                _ => Reaction::Park(Trouble::Forbidden),
            },
            // RabbitMQ closes no channel with these over a publish: whatever it is, the place is meant.
            AMQPSoftError::RESOURCELOCKED | AMQPSoftError::NOROUTE | AMQPSoftError::NOCONSUMERS => {
                Reaction::Park(Trouble::Unroutable)
            }
            AMQPSoftError::CONTENTTOOLARGE => Reaction::Bury,
            // RabbitMQ's way to say "larger than max_message_size"; 406 has other uses as well.
            AMQPSoftError::PRECONDITIONFAILED
                if protocol.get_message().as_str().contains("message size") =>
            {
                Reaction::Bury
            }
            AMQPSoftError::PRECONDITIONFAILED => Reaction::Retry,
        }),
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

/// Which destination a channel was closed over, if it was one.
pub(super) fn blame(error: &Error) -> Option<Blame> {
    let ErrorKind::ProtocolError(protocol) = error.kind() else { return None };
    let text = protocol.get_message().as_str();
    match protocol.kind() {
        AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => Some(Blame::Missing),
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => Some(blame_of_refusal(text)),
        _ => None,
    }
}

/// `access to topic 'KEY' in exchange 'NAME' in vhost 'V' refused for user 'U'`, and for the exchange
/// itself `access to exchange 'NAME' in vhost 'V' refused for user 'U'` or `cannot publish to internal
/// exchange 'NAME' in vhost 'V'`. The names are the application's and may hold such words themselves,
/// and RabbitMQ cuts the text at 255 bytes: names are believed only where there is one way to read them.
fn blame_of_refusal(text: &str) -> Blame {
    let name = |text: &str| {
        let (name, rest) = text.split_once("' in vhost '")?;
        (!rest.contains("' in vhost '")).then(|| exchange_name(name))
    };
    if let Some((_, rest)) = text.split_once("access to topic '") {
        let place = rest.split_once("' in exchange '").and_then(|(routing_key, rest)| {
            let only = !rest.contains("' in exchange '");
            only.then(|| Some((name(rest)?, routing_key.to_owned())))?
        });
        return Blame::Key { place };
    }
    Blame::Exchange { name: text.split_once("exchange '").and_then(|(_, rest)| name(rest)) }
}

/// The default exchange has a name of its own where permissions are concerned.
fn exchange_name(name: &str) -> String {
    if name == "amq.default" { String::new() } else { name.to_owned() }
}

/// The reaction to a returned message, by its reply code.
pub(super) fn classify_return(reply_code: u16) -> Reaction {
    match AMQPSoftError::from_id(reply_code) {
        Some(AMQPSoftError::NOROUTE | AMQPSoftError::NOCONSUMERS) => {
            Reaction::Park(Trouble::Unroutable)
        }
        Some(AMQPSoftError::CONTENTTOOLARGE) => Reaction::Bury,
        _ => Reaction::Retry,
    }
}

/// What a nack calls for. RabbitMQ nacks when a queue refuses the message (`overflow = reject-publish`
/// at its length limit) or fails with it: the queue's trouble, never the message's.
pub(super) const NACKED: Reaction = Reaction::Park(Trouble::Refuses);

/// What is said of it.
pub(super) const NACKED_REASON: &str =
    "a queue refuses it (nack): look at its length limit, or at the queue in the broker's log";

/// Whether the exchange has told that it delays, by its refusal to be declared as a direct one.
pub(super) fn delays(error: &Error) -> bool {
    let ErrorKind::ProtocolError(protocol) = error.kind() else { return true };
    let text = protocol.get_message().as_str();
    match protocol.kind() {
        // `inequivalent arg 'type' for exchange 'NAME' in vhost 'V': received 'direct' but current is
        // ''x-delayed-message''`. Its end is cut off if the name is long: then it may be one.
        AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) => text
            .rsplit_once("current is")
            .map_or(text.ends_with("..."), |(_, kind)| kind.contains("x-delayed-message")),
        AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => false,
        _ => true,
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
            (312, Some(Park(Trouble::Unroutable))),
            (313, Some(Park(Trouble::Unroutable))),
            (403, Some(Park(Trouble::Forbidden))),
            (404, Some(Park(Trouble::Missing))),
            (405, Some(Park(Trouble::Unroutable))),
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
            (312, Reaction::Park(Trouble::Unroutable)),
            (313, Reaction::Park(Trouble::Unroutable)),
            (311, Reaction::Bury),
            (404, Reaction::Retry),
            (0, Reaction::Retry),
        ] {
            assert_eq!(classify_return(code), reaction, "{code}");
        }
    }

    #[test]
    fn the_refused_place_is_read_from_the_text_where_there_is_one_way_to_read_it() {
        let of = |text: &str| blame(&protocol(403, &format!("ACCESS_REFUSED - {text}"))).unwrap();
        let vhost = "in vhost '/' refused for user 'u'";
        let key = |exchange: &str, routing_key: &str| Blame::Key {
            place: Some((exchange.into(), routing_key.into())),
        };
        let exchange = |name: &str| Blame::Exchange { name: Some(name.into()) };
        for (text, blame) in [
            (format!("access to topic 'no.a' in exchange 'c29' {vhost}"), key("c29", "no.a")),
            (format!("write access to topic 'no.a' in exchange 'c29' {vhost}"), key("c29", "no.a")),
            (format!("access to topic '' in exchange 'c29' {vhost}"), key("c29", "")),
            (format!("access to topic 'it's' in exchange 'c29' {vhost}"), key("c29", "it's")),
            (
                format!(
                    "access to topic 'a' in exchange 'good' in vhost '/' in exchange 'c' {vhost}"
                ),
                Blame::Key { place: None },
            ),
            ("access to topic 'no.a' in exchange 'c29...".into(), Blame::Key { place: None }),
            ("access to topic 'no.a...".into(), Blame::Key { place: None }),
            (format!("access to exchange 'c29' {vhost}"), exchange("c29")),
            (format!("write access to exchange 'c29' {vhost}"), exchange("c29")),
            (format!("access to exchange 'amq.default' {vhost}"), exchange("")),
            ("cannot publish to internal exchange 'i' in vhost '/'".into(), exchange("i")),
            (
                format!("access to exchange 'good' in vhost '/' {vhost}"),
                Blame::Exchange { name: None },
            ),
            ("access to exchange 'c29...".into(), Blame::Exchange { name: None }),
            ("something new".into(), Blame::Exchange { name: None }),
        ] {
            assert_eq!(of(&text), blame, "{text}");
        }
        let topic = format!("ACCESS_REFUSED - access to topic 'no.a' in exchange 'c29' {vhost}");
        let reaction = Some(Reaction::Park(Trouble::ForbiddenKey));
        assert_eq!(classify(&protocol(403, &topic)), reaction);
        assert_eq!(blame(&protocol(406, &topic)), None);
    }

    #[test]
    fn an_exchange_that_delays_tells_it_by_its_type() {
        let of = |code, text: &str| delays(&protocol(code, text));
        let inequivalent = |kind: &str| {
            format!(
                "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'x-delayed-message' in \
                 vhost '/': received 'direct' but current is {kind}"
            )
        };
        assert!(of(406, &inequivalent("''x-delayed-message''")));
        assert!(!of(406, &inequivalent("'topic'")));
        let absent = "PRECONDITION_FAILED - invalid type 'signedint' for arg 'alternate-exchange'";
        assert!(!of(406, absent));
        assert!(of(406, "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'xxx..."));
        assert!(of(403, "ACCESS_REFUSED"), "unknown: what it returned had a delay");
        assert!(!of(404, "NOT_FOUND"));
    }

    const PAGE: &str = include_str!("../../../../docs/reactions/rabbitmq.md");

    /// The cells of each row of a table under a heading.
    fn rows(heading: &str) -> Vec<Vec<&'static str>> {
        let (_, section) = PAGE.split_once(&format!("## {heading}\n")).expect("the heading");
        let section = section.split("\n## ").next().unwrap_or_default();
        let rows = section.lines().filter(|line| line.starts_with("| ")).skip(1);
        rows.map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
    }

    fn said(reaction: Option<Reaction>) -> String {
        reaction.map_or("`outage`".into(), |reaction| format!("`{reaction:?}`"))
    }

    /// Page and code say the same, of every reply code that the protocol has.
    #[test]
    fn the_page_has_every_answer() {
        let mut codes = std::collections::BTreeSet::new();
        for row in rows("The channel or the connection is closed") {
            let code: u16 = row[0].parse().expect("a code");
            assert_eq!(row[2], said(classify(&protocol(code, row[1]))), "{code} {}", row[1]);
            codes.insert(code);
        }
        let known = (0..1_000).filter(|&code| AMQPError::from_id(code, "".into()).is_some());
        assert!(codes.into_iter().eq(known), "the page misses a code of the protocol");

        let mut returns = 0;
        for row in rows("The message comes back, or is refused by a queue") {
            if let Some(code) = row[0].strip_prefix("return ") {
                let code = code.split(' ').next().and_then(|code| code.parse().ok()).unwrap_or(0);
                assert_eq!(row[1], said(Some(classify_return(code))), "{}", row[0]);
                returns += 1;
            } else if row[0] == "`basic.nack`" {
                assert_eq!(row[1], said(Some(NACKED)));
                returns += 1;
            }
        }
        assert_eq!(returns, 5);
    }

    #[test]
    fn descriptions_name_the_code_and_the_brokers_words() {
        let error = protocol(404, "NOT_FOUND - no exchange 'x' in vhost '/'");
        assert_eq!(describe(&error), "404 NOT_FOUND - no exchange 'x' in vhost '/'");
    }
}
