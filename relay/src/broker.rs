//! Where a target's messages go, as the broker itself calls it.
//!
//! A ledger says what was sent, and means nothing at another broker. So it remembers where that was: the
//! kind of broker, the id of the Kafka cluster, the virtual host of RabbitMQ. Addresses and names have
//! no part in it, since they change while the broker stays the same.

use std::fmt;

/// What kind of broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokerKind {
    /// RabbitMQ.
    Amqp,
    /// Kafka.
    Kafka,
}

/// A broker, and the place in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// Its kind.
    pub kind: BrokerKind,
    /// Kafka: the cluster's id. RabbitMQ: the virtual host. `None`: not known.
    pub place: Option<String>,
}

impl BrokerKind {
    /// As the configuration and the ledger call it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Amqp => "amqp",
            Self::Kafka => "kafka",
        }
    }
}

impl Broker {
    /// What a ledger has noted; `None` if that is nothing, or nothing that this relay knows.
    #[must_use]
    pub fn noted(kind: Option<&str>, place: Option<String>) -> Option<Self> {
        let kind = [BrokerKind::Amqp, BrokerKind::Kafka]
            .into_iter()
            .find(|known| Some(known.as_str()) == kind)?;
        Some(Self { kind, place })
    }

    /// Whether it is certainly another one than `noted`. What is not known is not compared.
    #[must_use]
    pub fn is_other_than(&self, noted: &Self) -> bool {
        let differ = |(one, other): (&String, &String)| one != other;
        self.kind != noted.kind || self.place.as_ref().zip(noted.place.as_ref()).is_some_and(differ)
    }

    /// Whether it says more than `noted`.
    #[must_use]
    pub fn is_news(&self, noted: Option<&Self>) -> bool {
        noted.is_none_or(|noted| noted.place.is_none() && self.place.is_some())
    }
}

/// For people.
impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind, &self.place) {
            (BrokerKind::Amqp, None) => f.write_str("RabbitMQ"),
            (BrokerKind::Amqp, Some(host)) => write!(f, "RabbitMQ, virtual host {host:?}"),
            (BrokerKind::Kafka, None) => f.write_str("Kafka"),
            (BrokerKind::Kafka, Some(id)) => write!(f, "the Kafka cluster {id:?}"),
        }
    }
}

/// Why a target must not go on at `present`, with the remedy; `None` if it may.
#[must_use]
pub fn refusal(target: &str, noted: Option<&Broker>, present: &Broker) -> Option<(String, String)> {
    let noted = noted.filter(|noted| present.is_other_than(noted))?;
    let reason = format!(
        "target {target} has sent to {noted}, and is now configured to send to {present}: what is \
         settled there was never sent here"
    );
    let hint = format!(
        "correct the configuration of the target; or `outbox-relay target move {target}`, and it \
         goes on there with what is pending; or configure a target of another name, which begins anew"
    );
    Some((reason, hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker(kind: BrokerKind, place: Option<&str>) -> Broker {
        Broker { kind, place: place.map(str::to_owned) }
    }

    #[test]
    fn another_kind_or_another_place_is_refused_and_what_is_not_known_is_not() {
        use BrokerKind::{Amqp, Kafka};
        let noted = broker(Kafka, Some("a"));
        for (present, refused) in [
            (broker(Kafka, Some("a")), false),
            (broker(Kafka, Some("b")), true),
            (broker(Kafka, None), false),
            (broker(Amqp, Some("a")), true),
            (broker(Amqp, None), true),
        ] {
            assert_eq!(refusal("lake", Some(&noted), &present).is_some(), refused, "{present}");
        }
        assert_eq!(refusal("lake", None, &noted), None);
        assert_eq!(refusal("lake", Some(&broker(Kafka, None)), &noted), None);
    }

    #[test]
    fn a_refusal_names_both_places_and_the_remedy() {
        let (noted, present) =
            (broker(BrokerKind::Amqp, Some("/")), broker(BrokerKind::Kafka, Some("b")));
        let (reason, hint) = refusal("lake", Some(&noted), &present).unwrap();
        assert!(
            reason.contains("virtual host \"/\"") && reason.contains("cluster \"b\""),
            "{reason}"
        );
        assert!(hint.contains("outbox-relay target move lake"), "{hint}");
    }

    #[test]
    fn what_was_not_known_is_news() {
        let known = broker(BrokerKind::Kafka, Some("a"));
        assert!(known.is_news(None) && known.is_news(Some(&broker(BrokerKind::Kafka, None))));
        assert!(!known.is_news(Some(&known)));
    }

    #[test]
    fn a_ledger_of_an_unknown_kind_says_nothing() {
        assert_eq!(Broker::noted(Some("carrier pigeon"), None), None);
        assert_eq!(Broker::noted(None, Some("/".to_owned())), None);
        let noted = Broker::noted(Some("amqp"), Some("/".to_owned()));
        assert_eq!(noted, Some(broker(BrokerKind::Amqp, Some("/"))));
    }
}
