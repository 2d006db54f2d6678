//! Where the rows of a target go: what its routes name, and what the rows in the table make of them.

use std::collections::BTreeMap;

use crate::message::Message;
use crate::route::{Destination, RouteConfig, Router};
use crate::target::amqp::probe::Place;

/// Destinations that are looked at for one target.
pub(super) const DESTINATIONS_MAX: usize = 100;

/// How a destination is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Known {
    /// A route names it: it will not work without it.
    ByRoute,
    /// A row in the table goes there, or went there when it was new.
    ByRow,
}

/// Destinations of one target, each once.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Destinations<D> {
    pub(super) all: BTreeMap<D, Known>,
    /// More than could be looked at.
    pub(super) left_out: usize,
}

/// Exchanges and routing keys.
pub(super) fn places(routes: &[RouteConfig], sample: &[Message]) -> Destinations<Place> {
    let constant = |destination: &Destination| match destination {
        Destination::Amqp { exchange, routing_key, .. } => Some(Place {
            exchange: exchange.constant()?.to_owned(),
            routing_key: routing_key.constant().map(str::to_owned),
        }),
        Destination::Kafka { .. } => None,
    };
    let rendered = |destination: &Destination, message: &Message| match destination {
        Destination::Amqp { exchange, routing_key, .. } => Some(Place {
            exchange: exchange.render(message).ok()?.into_owned(),
            routing_key: Some(routing_key.render(message).ok()?.into_owned()),
        }),
        Destination::Kafka { .. } => None,
    };
    collect(routes, sample, constant, rendered)
}

/// Kafka's topics.
pub(super) fn topics(routes: &[RouteConfig], sample: &[Message]) -> Destinations<String> {
    let constant = |destination: &Destination| match destination {
        Destination::Kafka { topic, .. } => topic.constant().map(str::to_owned),
        Destination::Amqp { .. } => None,
    };
    let rendered = |destination: &Destination, message: &Message| match destination {
        Destination::Kafka { topic, .. } => topic.render(message).ok().map(|t| t.into_owned()),
        Destination::Amqp { .. } => None,
    };
    collect(routes, sample, constant, rendered)
}

/// A row that a template cannot be rendered for has no destination, which is said elsewhere.
fn collect<D: Ord>(
    routes: &[RouteConfig],
    sample: &[Message],
    constant: impl Fn(&Destination) -> Option<D>,
    rendered: impl Fn(&Destination, &Message) -> Option<D>,
) -> Destinations<D> {
    let router = Router::new(routes.to_vec());
    let named =
        routes.iter().filter_map(|route| Some((constant(&route.destination)?, Known::ByRoute)));
    // The newest first: of too many, those are looked at.
    let of_rows = sample.iter().rev().filter_map(|message| {
        let route = &routes[router.route(message)?];
        Some((rendered(&route.destination, message)?, Known::ByRow))
    });
    let mut destinations = Destinations { all: BTreeMap::new(), left_out: 0 };
    for (destination, known) in named.chain(of_rows) {
        if destinations.all.contains_key(&destination) {
            continue;
        }
        match destinations.all.len() < DESTINATIONS_MAX {
            true => drop(destinations.all.insert(destination, known)),
            false => destinations.left_out += 1,
        }
    }
    destinations
}

impl<D> Destinations<D> {
    /// How many were looked at, for people.
    pub(super) fn looked_at(&self, noun: &str) -> String {
        let by_route = self.all.values().filter(|known| **known == Known::ByRoute).count();
        let by_row = self.all.len() - by_route;
        let more = match self.left_out {
            0 => String::new(),
            more => format!(", {more} more of rows were not"),
        };
        format!(
            "{} {noun} looked at: {by_route} of routes, {by_row} of rows in the table{more}",
            self.all.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::message::Parts;

    fn route(topic: &str, exchange: &str, routing_key: &str) -> RouteConfig {
        RouteConfig {
            topic: topic.parse().unwrap(),
            kind: None,
            destination: Destination::Amqp {
                exchange: exchange.parse().unwrap(),
                routing_key: routing_key.parse().unwrap(),
                headers: vec![],
                mandatory: true,
            },
        }
    }

    fn row(topic: &str, key: Option<&str>) -> Message {
        Message::new(Parts {
            id: 1,
            message_id: Uuid::nil(),
            created_at_us: 0,
            topic,
            key,
            kind: None,
            headers: None,
            payload: None,
            oversize_bytes: None,
        })
    }

    fn place(exchange: &str, routing_key: Option<&str>) -> Place {
        Place { exchange: exchange.to_owned(), routing_key: routing_key.map(str::to_owned) }
    }

    #[test]
    fn a_destination_is_what_a_route_names_or_what_a_row_makes_of_it() {
        let routes = [
            route("a.*", "orders", "fixed"),
            route("b.*", "orders", "{{ topic }}"),
            route("c.*", "{{ topic }}", "{{ key }}"),
        ];
        let sample = [
            row("a.1", None),
            row("b.1", None),
            row("c.1", None),
            row("c.2", Some("k")),
            row("z", None),
        ];
        let expected = [
            (place("c.2", Some("k")), Known::ByRow),
            (place("orders", None), Known::ByRoute),
            (place("orders", Some("b.1")), Known::ByRow),
            (place("orders", Some("fixed")), Known::ByRoute),
        ];
        let found = places(&routes, &sample);
        assert_eq!(found, Destinations { all: BTreeMap::from(expected), left_out: 0 });
        let said = "4 destinations looked at: 2 of routes, 2 of rows in the table";
        assert_eq!(found.looked_at("destinations"), said);
    }

    #[test]
    fn of_too_many_the_newest_are_looked_at_and_the_others_counted() {
        let routes = [route("*", "{{ topic }}", "k")];
        let sample: Vec<_> = (0..=DESTINATIONS_MAX).map(|n| row(&format!("t{n}"), None)).collect();
        let found = places(&routes, &sample);
        assert_eq!((found.all.len(), found.left_out), (DESTINATIONS_MAX, 1));
        assert!(!found.all.contains_key(&place("t0", Some("k"))));
        assert!(found.looked_at("x").ends_with(", 1 more of rows were not"));
    }
}
