//! A queue, as the API describes it: what its declaration says, and what a policy adds.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

/// A queue's settings.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Queue {
    #[serde(default)]
    arguments: Value,
    /// `{}`, and `null` in old versions, without a policy; of several policies the one that counts.
    #[serde(default)]
    effective_policy_definition: Value,
}

impl Queue {
    /// The time after which a message is dropped, or goes on; `None`: it stays.
    pub(super) fn message_ttl(&self) -> Option<Duration> {
        let declared = self.arguments["x-message-ttl"].as_u64();
        let policy = self.effective_policy_definition["message-ttl"].as_u64();
        // Where both say something, the lower one counts.
        declared.into_iter().chain(policy).min().map(Duration::from_millis)
    }

    /// The declaration counts before the policy.
    pub(super) fn dead_letter_exchange(&self) -> Option<&str> {
        self.text("x-dead-letter-exchange", "dead-letter-exchange")
    }

    pub(super) fn dead_letter_routing_key(&self) -> Option<&str> {
        self.text("x-dead-letter-routing-key", "dead-letter-routing-key")
    }

    fn text(&self, argument: &str, policy: &str) -> Option<&str> {
        let declared = self.arguments[argument].as_str();
        declared.or_else(|| self.effective_policy_definition[policy].as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(text: &str) -> Queue {
        serde_json::from_str(text).expect("a queue")
    }

    #[test]
    fn the_lower_ttl_counts_and_the_declared_exchange() {
        let found = queue(
            r#"{"name": "q", "arguments": {"x-message-ttl": 5000, "x-dead-letter-exchange": "a"},
                "effective_policy_definition": {"message-ttl": 1000, "dead-letter-exchange": "b"}}"#,
        );
        assert_eq!(found.message_ttl(), Some(Duration::from_secs(1)));
        assert_eq!(found.dead_letter_exchange(), Some("a"));
        let found = queue(
            r#"{"arguments": {}, "effective_policy_definition":
                {"dead-letter-exchange": "", "dead-letter-routing-key": "k"}}"#,
        );
        assert_eq!(found.message_ttl(), None);
        assert_eq!(found.dead_letter_exchange(), Some(""));
        assert_eq!(found.dead_letter_routing_key(), Some("k"));
    }

    #[test]
    fn a_queue_without_settings_keeps_everything_and_drops_what_is_rejected() {
        for text in ["{}", r#"{"arguments": {}, "effective_policy_definition": null}"#] {
            assert_eq!(queue(text).message_ttl(), None);
            assert_eq!(queue(text).dead_letter_exchange(), None);
        }
    }
}
