//! The routes of a target as a run writes them down: the same text, and so the same hash, for the
//! same routes, whatever the configuration file looks like.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Destination, Pattern, RouteConfig, Template};
use crate::config::Unrouted;

/// The routes of one run, for the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canonical {
    /// The routes as JSON: patterns and destinations. The values of headers are left out, since an
    /// operator may have put a secret there.
    pub routes: String,
    /// The patterns alone, as SQL's LIKE has them; a type that takes every row is `null`.
    pub taken: String,
    /// SHA-256, in hexadecimal, of everything that decides where a row goes: also the values of
    /// headers, and what becomes of a row that no route takes.
    pub hash: String,
}

impl Canonical {
    /// Of the routes in the order in which they are tried.
    #[must_use]
    pub fn new(routes: &[RouteConfig], unrouted: Unrouted) -> Self {
        let shown: Vec<Value> = routes.iter().map(|route| value(route, false)).collect();
        let whole: Vec<Value> = routes.iter().map(|route| value(route, true)).collect();
        let whole = json!({ "routes": whole, "unrouted": unrouted.as_str() }).to_string();
        let digest = Sha256::digest(whole.as_bytes());
        Self {
            routes: Value::from(shown).to_string(),
            taken: routes.iter().map(taken).collect::<Value>().to_string(),
            hash: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }
}

/// The keys of an object are sorted by `serde_json`; `null` is a type that was not written.
fn value(route: &RouteConfig, with_headers: bool) -> Value {
    let (mut value, headers) = match &route.destination {
        Destination::Amqp { exchange, routing_key, headers, .. } => {
            (json!({ "exchange": text(exchange), "routing_key": text(routing_key) }), headers)
        }
        Destination::Kafka { topic, headers, .. } => {
            (json!({ "kafka_topic": text(topic) }), headers)
        }
    };
    value["topic"] = route.topic.as_str().into();
    value["type"] = route.kind.as_ref().map(|kind| kind.as_str()).into();
    if with_headers {
        value["headers"] = headers.iter().map(|(name, value)| json!([name, text(value)])).collect();
    }
    value
}

fn taken(route: &RouteConfig) -> Value {
    let kind = route.kind.as_ref().filter(|kind| !kind.matches_everything());
    json!({ "topic": like(&route.topic), "type": kind.map(like) })
}

/// The pattern for LIKE.
fn like(pattern: &Pattern) -> String {
    let literal = pattern.as_str().replace('\\', r"\\").replace('%', r"\%").replace('_', r"\_");
    literal.replace('*', "%")
}

/// PostgreSQL's text holds no NUL, so a template that contains one is shown without it.
fn text(template: &Template) -> String {
    template.as_str().replace('\0', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(topic: &str, kind: Option<&str>, header: &str) -> RouteConfig {
        RouteConfig {
            topic: topic.parse().unwrap(),
            kind: kind.map(|kind| kind.parse().unwrap()),
            destination: Destination::Kafka {
                topic: "{{ topic }}".parse().unwrap(),
                headers: vec![("from".into(), header.parse().unwrap())],
            },
        }
    }

    #[test]
    fn the_hash_follows_everything_that_decides_where_a_row_goes() {
        // GIVEN routes
        let one = [route("a", None, "x"), route("b", Some("*"), "x")];
        let settle = Canonical::new(&one, Unrouted::Settle);
        // THEN the same routes have the same hash, and the JSON shows no value of a header
        assert_eq!(Canonical::new(&one.clone(), Unrouted::Settle), settle);
        assert_eq!(
            settle.routes,
            r#"[{"kafka_topic":"{{ topic }}","topic":"a","type":null},{"kafka_topic":"{{ topic }}","topic":"b","type":"*"}]"#
        );
        // AND its patterns are those of LIKE
        let odd = [route(r"a_b%c\d*", Some("p*"), "x")];
        let expected = r#"[{"topic":"a\\_b\\%c\\\\d%","type":"p%"}]"#;
        assert_eq!(Canonical::new(&odd, Unrouted::Settle).taken, expected);
        assert_eq!(settle.taken, r#"[{"topic":"a","type":null},{"topic":"b","type":null}]"#);
        // WHEN anything differs, THEN so does the hash
        let [a, b] = one;
        for (other, unrouted) in [
            (vec![b.clone(), a.clone()], Unrouted::Settle),
            (vec![a.clone()], Unrouted::Settle),
            (vec![a.clone(), route("b", None, "x")], Unrouted::Settle),
            (vec![a.clone(), route("b", Some("*"), "y")], Unrouted::Settle),
            (vec![a, b], Unrouted::Stop),
        ] {
            assert_ne!(Canonical::new(&other, unrouted).hash, settle.hash, "{other:?}");
        }
    }
}
