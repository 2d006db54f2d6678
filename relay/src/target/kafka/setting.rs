//! What a topic is set to, as its brokers say.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;

use super::producer::properties;
use crate::config::KafkaConfig;

const TIMEOUT: Duration = Duration::from_secs(5);

/// How long a topic keeps its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// As long as there is room, or until a newer one of its key comes.
    ForEver,
    /// `retention.ms`.
    For(Duration),
}

/// Asks the brokers of a target how long a topic keeps its records.
///
/// Cancel safety: nothing is changed.
///
/// # Errors
/// Why there is no answer, on one line: no such topic, no right to ask (`DescribeConfigs`), no broker.
pub async fn retention(config: &KafkaConfig, topic: &str) -> Result<Retention, String> {
    let settings = settings(&properties(config), topic).await?;
    let value = |name| settings.get(name).and_then(|entry| entry.value.as_deref());
    read(value("cleanup.policy"), value("retention.ms"))
}

/// All settings of a topic.
pub(super) async fn settings(
    properties: &ClientConfig,
    topic: &str,
) -> Result<ConfigResource, String> {
    let admin: AdminClient<DefaultClientContext> =
        properties.create().map_err(|error| error.to_string())?;
    let options = AdminOptions::new().request_timeout(Some(TIMEOUT));
    let asked = [&ResourceSpecifier::Topic(topic)];
    let answers =
        admin.describe_configs(asked, &options).await.map_err(|error| error.to_string())?;
    match answers.into_iter().next() {
        Some(Ok(settings)) => Ok(settings),
        Some(Err(code)) => Err(code.to_string()),
        None => Err("no answer".to_owned()),
    }
}

fn read(policy: Option<&str>, retention_ms: Option<&str>) -> Result<Retention, String> {
    // `compact,delete` deletes by age, too.
    if policy.is_some_and(|policy| !policy.contains("delete")) {
        return Ok(Retention::ForEver);
    }
    let millis = retention_ms.and_then(|text| text.parse::<i64>().ok());
    let millis = millis.ok_or_else(|| "it does not say its retention.ms".to_owned())?;
    // -1 is without a limit.
    Ok(u64::try_from(millis)
        .map_or(Retention::ForEver, |millis| Retention::For(Duration::from_millis(millis))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_deleted_by_age_is_told_from_what_stays() {
        let week = Retention::For(Duration::from_secs(7 * 86_400));
        for (policy, millis, expected) in [
            (Some("delete"), Some("604800000"), Ok(week)),
            (Some("compact,delete"), Some("604800000"), Ok(week)),
            (None, Some("604800000"), Ok(week)),
            (Some("compact"), Some("604800000"), Ok(Retention::ForEver)),
            (Some("delete"), Some("-1"), Ok(Retention::ForEver)),
        ] {
            assert_eq!(read(policy, millis), expected, "{policy:?} {millis:?}");
        }
        assert!(read(None, None).is_err());
    }
}
