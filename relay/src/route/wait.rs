//! What a row waits for when no broker is to blame: other routes.
//!
//! Each name stands in `retry.destination` beside those of brokers' destinations, so it is told from
//! them by how it begins: a [`Place`](super::Place) begins with `exchange` or `topic`. Nothing of a
//! row but its topic is in a name, so that rows of one fault wait under one name.

use super::RouteConfig;
use super::template::Absent;

const ROUTE: &str = "route ";
const NO_ROUTE: &str = "no route";

/// Where topics wait that are more than are kept apart.
pub const OTHER_TOPICS: &str = "no route takes (other topics)";

/// The name for the rows that lack what a template of the route asks for. `index` counts from 0, the
/// name from 1, as a person counts the routes of a file.
#[must_use]
pub fn lacking(index: usize, route: &RouteConfig, absent: &Absent) -> String {
    let number = index + 1;
    let topic = route.topic.as_str();
    let kind = route.kind.as_ref().map(|kind| format!(", type {:?}", kind.as_str()));
    let kind = kind.unwrap_or_default();
    format!("{ROUTE}{number} (topic {topic:?}{kind}): {}", absent.condition())
}

/// The name for the rows of a topic that no route takes.
#[must_use]
pub fn unrouted(topic: &str) -> String {
    format!("{NO_ROUTE} takes topic {topic:?}")
}

/// The rows that count together against `waiting_rows_max`: those of one route, and those of none.
/// `None` if the name is that of a broker's destination.
#[must_use]
pub fn group(name: &str) -> Option<&str> {
    if name.starts_with(NO_ROUTE) {
        return Some(NO_ROUTE);
    }
    name.starts_with(ROUTE).then(|| name.split(" (").next().unwrap_or(name))
}

/// Whether the name is that of rows which no route takes.
#[must_use]
pub fn is_unrouted(name: &str) -> bool {
    name.starts_with(NO_ROUTE)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::message::{Message, Parts};
    use crate::route::{Destination, Template};

    fn message(headers: Option<&str>) -> Message {
        Message::new(Parts {
            id: 1,
            message_id: Uuid::nil(),
            created_at_us: 0,
            topic: "route 1 (",
            key: None,
            kind: None,
            headers,
            payload: None,
            oversize_bytes: None,
        })
    }

    fn amqp(routing_key: &str, headers: &[(&str, &str)]) -> RouteConfig {
        let template = |text: &str| text.parse::<Template>().unwrap();
        RouteConfig {
            topic: "order.*".parse().unwrap(),
            kind: Some("v1".parse().unwrap()),
            destination: Destination::Amqp {
                mandatory: true,
                exchange: template("{{ topic }}"),
                routing_key: template(routing_key),
                headers: headers.iter().map(|(n, v)| ((*n).into(), template(v))).collect(),
            },
        }
    }

    #[test]
    fn rows_of_one_route_and_variable_wait_under_one_name() {
        for (route, headers) in [
            (amqp("{{ headers.tenant }}", &[]), None),
            (amqp("{{ headers.tenant }}", &[]), Some(r#"{"tenant": null, "secret": "s"}"#)),
            (amqp("x", &[("t", "{{ headers.tenant }}")]), Some("{}")),
        ] {
            let absent = route.absent(&message(headers)).unwrap();
            let name = lacking(1, &route, &absent);
            assert_eq!(name, r#"route 2 (topic "order.*", type "v1"): headers.tenant is absent"#);
            assert_eq!(group(&name), Some("route 2"));
            assert!(!is_unrouted(&name));
        }
        assert_eq!(amqp("{{ key | 'none' }}", &[]).absent(&message(None)), None);
    }

    #[test]
    fn a_name_is_told_from_a_destination_of_a_broker() {
        let place = amqp("x", &[]).place(&message(None)).unwrap();
        assert_eq!(group(&place.whole), None);
        assert_eq!(group(&place.full), None);
        assert_eq!(group(r#"topic "route 1""#), None);
        for name in [unrouted("route 1 ("), OTHER_TOPICS.to_owned()] {
            assert_eq!(group(&name), Some("no route"));
            assert!(is_unrouted(&name));
        }
    }
}
