//! An exchange, as the API describes it, and which of its bindings take a routing key.

use serde::Deserialize;
use serde_json::Value;

/// An exchange's settings.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Exchange {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    arguments: Value,
    /// Its name alone: what it says is not told with the exchange.
    #[serde(default)]
    policy: Option<String>,
}

/// What an exchange leads to.
#[derive(Debug, Deserialize)]
pub(super) struct Binding {
    destination: String,
    destination_type: String,
    #[serde(default)]
    routing_key: String,
}

impl Binding {
    pub(super) fn into_queue(self) -> Option<String> {
        (self.destination_type == "queue").then_some(self.destination)
    }
}

impl Exchange {
    /// Whether a message may arrive somewhere; `None` for the routing key: with any.
    ///
    /// "No" is certain, "yes" is not: an exchange that a binding leads to may lead nowhere, and of kinds
    /// that are not RabbitMQ's own only the plug-in knows.
    pub(super) fn leads_on(&self, bindings: &[Binding], routing_key: Option<&str>) -> bool {
        // An alternate exchange takes what no binding takes; a policy may name one.
        if !self.arguments["alternate-exchange"].is_null() || self.policy.is_some() {
            return true;
        }
        let takes = |binding: &Binding| match (self.kind.as_str(), routing_key) {
            ("direct", Some(key)) => binding.routing_key == key,
            ("topic", Some(key)) => topic_takes(&binding.routing_key, key),
            _ => true,
        };
        bindings.iter().any(takes)
    }
}

/// RabbitMQ's pattern: words with dots between them, `*` is one word, `#` any number of them.
fn topic_takes(pattern: &str, key: &str) -> bool {
    let words: Vec<&str> = key.split('.').collect();
    // The beginnings of the key that the pattern's words so far may have taken.
    let mut taken = vec![false; words.len() + 1];
    taken[0] = true;
    for word in pattern.split('.') {
        let mut next = vec![false; words.len() + 1];
        for at in 0..=words.len() {
            next[at] = match word {
                "#" => taken[at] || (at > 0 && next[at - 1]),
                "*" => at > 0 && taken[at - 1],
                word => at > 0 && taken[at - 1] && words[at - 1] == word,
            };
        }
        taken = next;
    }
    taken[words.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_rabbitmq() {
        for (pattern, key, expected) in [
            ("order.created", "order.created", true),
            ("order.created", "order.paid", false),
            ("order.*", "order.created", true),
            ("order.*", "order", false),
            ("order.*", "order.a.b", false),
            ("*", "", true),
            ("#", "", true),
            ("#", "a.b.c", true),
            ("order.#", "order", true),
            ("order.#", "order.a.b", true),
            ("#.created", "order.created", true),
            ("#.created", "created.order", false),
            ("a.#.z", "a.z", true),
            ("a.#.z", "a.b.c.z", true),
            ("a.#.z", "a.b.c", false),
            ("*.#.*", "a", false),
            ("*.#.*", "a.b", true),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(topic_takes(pattern, key), expected, "{pattern} {key}");
        }
    }

    fn exchange(text: &str) -> Exchange {
        serde_json::from_str(text).expect("an exchange")
    }

    #[test]
    fn nothing_is_called_unbound_that_may_lead_on() {
        let binding = |routing_key: &str| Binding {
            destination: "q".to_owned(),
            destination_type: "queue".to_owned(),
            routing_key: routing_key.to_owned(),
        };
        let bound = [binding("a.*")];
        for (text, bindings, key, expected) in [
            (r#"{"type": "direct", "arguments": {}}"#, &bound[..], Some("a.b"), false),
            (r#"{"type": "direct"}"#, &bound, Some("a.*"), true),
            (r#"{"type": "direct"}"#, &bound, None, true),
            (r#"{"type": "topic"}"#, &bound, Some("a.b"), true),
            (r#"{"type": "topic"}"#, &bound, Some("b"), false),
            (r#"{"type": "fanout"}"#, &bound, Some("b"), true),
            (r#"{"type": "fanout"}"#, &[], Some("b"), false),
            (r#"{"type": "headers"}"#, &bound, Some("b"), true),
            (r#"{"type": "x-delayed-message"}"#, &bound, Some("b"), true),
            (r#"{"type": "x-delayed-message"}"#, &[], None, false),
            (r#"{"type": "topic", "policy": "ae"}"#, &[], Some("b"), true),
            (r#"{"type": "topic", "arguments": {"alternate-exchange": "x"}}"#, &[], None, true),
        ] {
            assert_eq!(exchange(text).leads_on(bindings, key), expected, "{text} {key:?}");
        }
    }
}
