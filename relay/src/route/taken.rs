//! What the routes of a run take, as the database has it.

use serde_json::Value;

use super::Pattern;

/// The patterns of the routes of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// No run has recorded its routes, or not in a way that this relay can read.
    Unknown,
    /// Topic and type of each route.
    Routes(Vec<(Pattern, Option<Pattern>)>),
}

impl Taken {
    /// Of `outbox.route.routes`.
    #[must_use]
    pub fn parse(routes: Option<&Value>) -> Self {
        let pattern = |value: &Value| value.as_str().and_then(|text| Pattern::parse(text).ok());
        let route = |route: &Value| match &route["type"] {
            Value::Null => Some((pattern(&route["topic"])?, None)),
            kind => Some((pattern(&route["topic"])?, Some(pattern(kind)?))),
        };
        let routes = routes.and_then(Value::as_array);
        routes
            .and_then(|routes| routes.iter().map(route).collect::<Option<Vec<_>>>())
            .map_or(Self::Unknown, Self::Routes)
    }

    /// Whether one of them takes a row of this topic and type; what is unknown might.
    #[must_use]
    pub fn takes(&self, topic: &str, kind: Option<&str>) -> bool {
        match self {
            Self::Unknown => true,
            Self::Routes(routes) => routes.iter().any(|(topics, kinds)| {
                topics.matches(topic)
                    && kinds.as_ref().is_none_or(|pattern| pattern.matches_optional(kind))
            }),
        }
    }

    /// Whether one of them takes every row there can be.
    #[must_use]
    pub fn takes_everything(&self) -> bool {
        let Self::Routes(routes) = self else { return false };
        routes.iter().any(|(topics, kinds)| {
            topics.matches_everything() && kinds.as_ref().is_none_or(Pattern::matches_everything)
        })
    }

    /// Whether they are known.
    #[must_use]
    pub fn is_known(&self) -> bool {
        *self != Self::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Unrouted;
    use crate::route::{Canonical, Destination, RouteConfig};

    #[test]
    fn what_a_run_has_written_is_read_as_what_it_takes() {
        let route = |topic: &str, kind: Option<&str>| RouteConfig {
            topic: topic.parse().unwrap(),
            kind: kind.map(|kind| kind.parse().unwrap()),
            destination: Destination::Kafka { topic: "t".parse().unwrap(), headers: vec![] },
        };
        let routes = [route("order.*", Some("p*")), route("bill", Some("*")), route("user", None)];
        let written = Canonical::new(&routes, Unrouted::Settle).routes;
        let taken = Taken::parse(Some(&serde_json::from_str(&written).unwrap()));
        for (topic, kind) in [("order.1", Some("paid")), ("bill", None), ("user", Some("x"))] {
            assert!(taken.takes(topic, kind), "{topic}");
        }
        assert!(!taken.takes("order.1", None) && !taken.takes("users", None));
        // What cannot be read is unknown, and nothing is concluded from it.
        for odd in ["{}", r#"[{"topic": 1}]"#, r#"[{"topic": "a", "type": "?"}]"#] {
            assert_eq!(Taken::parse(Some(&serde_json::from_str(odd).unwrap())), Taken::Unknown);
        }
        assert!(Taken::Unknown.takes("anything", None));
    }
}
