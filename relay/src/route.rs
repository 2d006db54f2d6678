//! Which rows go where: routes by topic and type, with templates for the destination.

pub mod canonical;
pub mod pattern;
pub mod taken;
pub mod template;
pub mod wait;

pub use canonical::Canonical;
pub use pattern::{Pattern, PatternError};
pub use taken::Taken;
pub use template::{Absent, Template, TemplateError};

use crate::message::Message;

/// One `route` of a target, checked and compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteConfig {
    /// The topics it takes.
    pub topic: Pattern,
    /// The types it takes; without it every row. A row whose type is NULL is taken by a pattern that
    /// takes every type (`*`), and by no other.
    pub kind: Option<Pattern>,
    /// Where its rows go.
    pub destination: Destination,
}

impl RouteConfig {
    /// Whether the route takes a row of this topic and type.
    #[must_use]
    pub fn takes(&self, topic: &str, kind: Option<&str>) -> bool {
        self.topic.matches(topic)
            && self.kind.as_ref().is_none_or(|pattern| pattern.matches_optional(kind))
    }

    /// Where a row of this route goes.
    ///
    /// # Errors
    /// A template needs what the row does not have.
    pub fn place(&self, message: &Message) -> Result<Place, Absent> {
        Ok(match &self.destination {
            Destination::Amqp { exchange, routing_key, .. } => {
                let whole = format!("exchange {:?}", exchange.render(message)?);
                Place {
                    full: format!("{whole}, routing key {:?}", routing_key.render(message)?),
                    whole,
                }
            }
            Destination::Kafka { topic, .. } => {
                let whole = format!("topic {:?}", topic.render(message)?);
                Place { full: whole.clone(), whole }
            }
        })
    }

    /// What a template of this route asks for and the row does not have.
    #[must_use]
    pub fn absent(&self, message: &Message) -> Option<Absent> {
        let (places, headers) = match &self.destination {
            Destination::Amqp { exchange, routing_key, headers, .. } => {
                (vec![exchange, routing_key], headers)
            }
            Destination::Kafka { topic, headers } => (vec![topic], headers),
        };
        let mut templates = places.into_iter().chain(headers.iter().map(|(_, value)| value));
        templates.find_map(|template| template.render(message).err())
    }
}

/// Where one row goes, for people and as the name of what may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The exchange, or the Kafka topic.
    pub whole: String,
    /// Exchange and routing key, or the Kafka topic.
    pub full: String,
}

impl Place {
    /// The name of what waits because of one setting of the place, while the rest of it works.
    #[must_use]
    pub fn setting(&self, setting: &str) -> String {
        format!("{} ({setting})", self.full)
    }

    /// Whether `name` is that of the place, of what it lies in, or of one of its settings.
    #[must_use]
    pub fn is_named(&self, name: &str) -> bool {
        let setting = name.strip_prefix(self.full.as_str());
        name == self.whole || setting.is_some_and(|rest| rest.is_empty() || rest.starts_with(" ("))
    }
}

/// Where the rows of a route go. The kind is that of the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// RabbitMQ.
    Amqp {
        /// `""` is the default exchange, whose routing key is a queue's name.
        exchange: Template,
        /// The routing key, at most 255 bytes once rendered.
        routing_key: Template,
        /// Further headers; one of the same name as a header of the row replaces it.
        headers: Vec<(String, Template)>,
        /// Whether RabbitMQ returns what no queue is bound for. Without it such a message is confirmed
        /// and lost.
        mandatory: bool,
    },
    /// Apache Kafka.
    Kafka {
        /// The topic.
        topic: Template,
        /// Further headers; one of the same name as a header of the row replaces it.
        headers: Vec<(String, Template)>,
    },
}

/// The routes of a target, in order: the first that matches takes the row.
///
/// Decisions are not cached: a match costs less than the hash of a topic until there are dozens of
/// routes, and a cache would need a limit and a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Router {
    routes: Vec<RouteConfig>,
}

impl Router {
    /// Takes the routes in the order in which they are tried.
    #[must_use]
    pub fn new(routes: Vec<RouteConfig>) -> Self {
        Self { routes }
    }

    /// The route that takes the row, as an index into the routes; `None` if none does.
    #[must_use]
    pub fn route(&self, message: &Message) -> Option<usize> {
        self.find(message.topic(), message.kind())
    }

    /// The route that takes a row of this topic and type.
    #[must_use]
    pub fn find(&self, topic: &str, kind: Option<&str>) -> Option<usize> {
        self.routes.iter().position(|route| route.takes(topic, kind))
    }

    /// The routes, in order.
    #[must_use]
    pub fn routes(&self) -> &[RouteConfig] {
        &self.routes
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::message::Parts;

    fn route(topic: &str, kind: Option<&str>) -> RouteConfig {
        RouteConfig {
            topic: topic.parse().unwrap(),
            kind: kind.map(|kind| kind.parse().unwrap()),
            destination: Destination::Kafka {
                topic: "{{ topic }}".parse().unwrap(),
                headers: vec![],
            },
        }
    }

    fn message(topic: &str, kind: Option<&str>) -> Message {
        Message::new(Parts {
            id: 1,
            message_id: Uuid::nil(),
            created_at_us: 0,
            topic,
            key: None,
            kind,
            headers: None,
            payload: None,
            oversize_bytes: None,
        })
    }

    #[test]
    fn the_first_route_that_matches_takes_the_row() {
        let router = Router::new(vec![
            route("order.*", Some("created")),
            route("order.*", None),
            route("user", Some("*")),
            route("bill", Some("p*")),
        ]);
        assert_eq!(router.route(&message("order.1", Some("created"))), Some(0));
        assert_eq!(router.route(&message("order.1", Some("paid"))), Some(1));
        assert_eq!(router.route(&message("order.1", None)), Some(1));
        assert_eq!(router.route(&message("user", Some(""))), Some(2));
        // Every type includes none: the example of the configuration delivers a row without a type.
        assert_eq!(router.route(&message("user", None)), Some(2));
        assert_eq!(router.route(&message("bill", Some("paid"))), Some(3));
        assert_eq!(router.route(&message("bill", None)), None);
        assert_eq!(router.route(&message("orders", None)), None);
    }
}
