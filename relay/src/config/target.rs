//! `[target.NAME]`: one broker, and how hard to try.

use std::time::Duration;

use super::default::*;
use super::duration::format_duration;
use super::raw::{RawTarget, Setting};
use super::section::Section;
use super::size::format_size;
use super::{
    BrokerConfig, OnPoison, Order, SourceConfig, Start, TargetConfig, Unrouted, amqp, kafka, route,
};

/// The kind of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Amqp,
    Kafka,
}

impl Kind {
    pub(super) fn other(self) -> &'static str {
        match self {
            Self::Amqp => "kafka",
            Self::Kafka => "amqp",
        }
    }
}

pub(super) fn check(
    name: &str,
    raw: &RawTarget,
    source: &SourceConfig,
    s: &mut Section<'_>,
) -> Option<TargetConfig> {
    if raw.kind.is_none() {
        s.missing("kind", "\"amqp\" (or \"kafka\")");
    }
    // Without a kind, nothing can be said of the other keys.
    let kind = s.choice("kind", &raw.kind, &[("amqp", Kind::Amqp), ("kafka", Kind::Kafka)])?;
    refuse_other_kind(raw, kind, s);
    let (broker, window_messages_max) = match kind {
        Kind::Amqp => (BrokerConfig::Amqp(amqp::check(raw, s)), DEFAULT_AMQP_WINDOW_MESSAGES_MAX),
        Kind::Kafka => {
            (BrokerConfig::Kafka(kafka::check(raw, s)), DEFAULT_KAFKA_WINDOW_MESSAGES_MAX)
        }
    };
    let unrouted =
        [Unrouted::Settle, Unrouted::Wait, Unrouted::Stop].map(|value| (value.as_str(), value));
    let order = [("pipelined", Order::Pipelined), ("strict", Order::Strict)];
    let on_poison = [("skip", OnPoison::Skip), ("hold_key", OnPoison::HoldKey)];
    let start = [("earliest", Start::Earliest), ("now", Start::Now)];
    let (pause, day) = (Duration::from_millis(1), Duration::from_secs(86_400));
    let target = TargetConfig {
        name: name.to_owned(),
        broker,
        routes: route::check(raw, kind, s),
        unrouted: s.choice("unrouted", &raw.unrouted, &unrouted).unwrap_or(DEFAULT_UNROUTED),
        order: s.choice("order", &raw.order, &order).unwrap_or(Order::Pipelined),
        on_poison: s.choice("on_poison", &raw.on_poison, &on_poison).unwrap_or(OnPoison::Skip),
        start: s.choice("start", &raw.start, &start).unwrap_or(Start::Earliest),
        window_messages_max: s.integer(
            "window_messages_max",
            &raw.window_messages_max,
            window_messages_max,
            1..=1_000_000,
        ),
        window_bytes_max: s.size(
            "window_bytes_max",
            &raw.window_bytes_max,
            DEFAULT_WINDOW_BYTES_MAX,
            1 << 10..=16 << 30,
        ),
        attempts_max: s.integer(
            "attempts_max",
            &raw.attempts_max,
            DEFAULT_ATTEMPTS_MAX,
            1..=1_000_000,
        ),
        retry_backoff_min: s.duration(
            "retry_backoff_min",
            &raw.retry_backoff_min,
            DEFAULT_RETRY_BACKOFF_MIN,
            pause..=day,
        ),
        retry_backoff_max: s.duration(
            "retry_backoff_max",
            &raw.retry_backoff_max,
            DEFAULT_RETRY_BACKOFF_MAX,
            pause..=day,
        ),
        outage_backoff_min: s.duration(
            "outage_backoff_min",
            &raw.outage_backoff_min,
            DEFAULT_OUTAGE_BACKOFF_MIN,
            pause..=day,
        ),
        outage_backoff_max: s.duration(
            "outage_backoff_max",
            &raw.outage_backoff_max,
            DEFAULT_OUTAGE_BACKOFF_MAX,
            pause..=day,
        ),
        confirm_timeout: s.duration(
            "confirm_timeout",
            &raw.confirm_timeout,
            DEFAULT_CONFIRM_TIMEOUT,
            Duration::from_millis(100)..=day,
        ),
        straggler_after: s.duration(
            "straggler_after",
            &raw.straggler_after,
            DEFAULT_STRAGGLER_AFTER,
            Duration::from_millis(10)..=day,
        ),
        stragglers_max: s.integer(
            "stragglers_max",
            &raw.stragglers_max,
            DEFAULT_STRAGGLERS_MAX,
            1..=1_000_000,
        ),
        retry_rows_max: s.integer(
            "retry_rows_max",
            &raw.retry_rows_max,
            DEFAULT_RETRY_ROWS_MAX,
            1..=1_000_000_000,
        ),
        waiting_rows_max: s.integer(
            "waiting_rows_max",
            &raw.waiting_rows_max,
            DEFAULT_WAITING_ROWS_MAX,
            1..=1_000_000,
        ),
    };
    check_together(&target, source, s);
    Some(target)
}

fn check_together(target: &TargetConfig, source: &SourceConfig, s: &mut Section<'_>) {
    for (low, high) in [
        (
            ("retry_backoff_min", target.retry_backoff_min),
            ("retry_backoff_max", target.retry_backoff_max),
        ),
        (
            ("outage_backoff_min", target.outage_backoff_min),
            ("outage_backoff_max", target.outage_backoff_max),
        ),
        (("straggler_after", target.straggler_after), ("confirm_timeout", target.confirm_timeout)),
    ] {
        s.ordered(low, high, |&duration| format_duration(duration));
    }
    if target.window_bytes_max < source.row_bytes_max {
        s.refuse(
            "window_bytes_max",
            format!(
                "must hold the largest row, source.row_bytes_max = {}",
                format_size(source.row_bytes_max as u64)
            ),
            "raise window_bytes_max or lower source.row_bytes_max",
        );
    }
}

/// Keys that belong to the other kind of target.
fn refuse_other_kind(raw: &RawTarget, kind: Kind, s: &mut Section<'_>) {
    let amqp: [(&str, &Setting); 4] = [
        ("url", &raw.url),
        ("password", &raw.password),
        ("password_file", &raw.password_file),
        ("heartbeat", &raw.heartbeat),
    ];
    let kafka: [(&str, &Setting); 8] = [
        ("brokers", &raw.brokers),
        ("linger", &raw.linger),
        ("compression", &raw.compression),
        ("timestamp", &raw.timestamp),
        ("sasl_mechanism", &raw.sasl_mechanism),
        ("sasl_username", &raw.sasl_username),
        ("sasl_password", &raw.sasl_password),
        ("sasl_password_file", &raw.sasl_password_file),
    ];
    let (keys, hint): (&[_], _) = match kind {
        Kind::Amqp => (&kafka, "a target of kind = \"amqp\" has url, password_file and heartbeat"),
        Kind::Kafka => (&amqp, "a target of kind = \"kafka\" has brokers and sasl_… keys"),
    };
    let written = keys.iter().filter(|(_, value)| value.is_some()).map(|&(key, _)| key);
    let properties = raw.properties.as_ref().filter(|_| kind == Kind::Amqp).map(|_| "properties");
    for key in written.chain(properties) {
        s.refuse_key(key, format!("belongs to a target of kind = \"{}\"", kind.other()), hint);
    }
}
