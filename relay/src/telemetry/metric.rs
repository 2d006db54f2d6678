//! The relay's metrics, each once: name, labels, help. docs/metrics.md is for people, and a test compares.
//!
//! Labels are `target`, as configured, and words of closed sets. Nothing of a message is one, so the
//! number of series does not grow with the traffic.

/// Counter or gauge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, from 0 at the start of the process.
    Counter,
    /// As it is now.
    Gauge,
}

/// A metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// A counter ends in `_total`, a gauge in what it counts, or its unit.
    pub name: &'static str,
    /// Counter or gauge.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// The line that Prometheus shows.
    pub help: &'static str,
}

// Of a target, by the relay that leads it; elsewhere its gauges are 0.

pub(crate) const CONFIRMED: Metric =
    counter("outbox_relay_confirmed_total", "Messages that the broker has confirmed");
pub(crate) const RESENT: Metric =
    counter("outbox_relay_resent_total", "Submissions of a message beyond its first one");
pub(crate) const REFUSALS: Metric =
    counter("outbox_relay_refusals_total", "Refusals by the broker, each one");
pub(crate) const PARKED: Metric = counter(
    "outbox_relay_parked_total",
    "Messages set aside because their destination is missing, or wait for another route",
);
pub(crate) const STRAGGLERS: Metric =
    counter("outbox_relay_stragglers_total", "Messages set aside because no outcome came");
pub(crate) const BURIED: Metric =
    counter("outbox_relay_buried_total", "Messages given up: they stand in dead");
pub(crate) const ROUTE_OVERFLOW: Metric = counter(
    "outbox_relay_route_overflow_total",
    "Messages given up because waiting_rows_max others wait for the same route",
);
pub(crate) const GONE: Metric =
    counter("outbox_relay_gone_total", "Rows of retry whose message was nowhere");
pub(crate) const FILTERED: Metric =
    counter("outbox_relay_filtered_total", "Messages settled because no route takes them");
pub(crate) const MARKS: Metric = counter("outbox_relay_marks_total", "Marks written to the ledger");
pub(crate) const MARKED: Metric =
    gauge("outbox_relay_last_mark_timestamp_seconds", "When the last mark was written");
pub(crate) const IN_FLIGHT: Metric =
    gauge("outbox_relay_in_flight_messages", "Messages sent and not yet answered");
pub(crate) const RETRY: Metric =
    gauge("outbox_relay_retry_messages", "Messages set aside in retry");
pub(crate) const PARKED_DESTINATIONS: Metric =
    gauge("outbox_relay_parked_destinations", "Destinations and routes that messages wait for");
pub(crate) const READ_ID: Metric = gauge("outbox_relay_read_id", "The highest id read");
pub(crate) const OPEN_HOLES: Metric =
    gauge("outbox_relay_open_hole_ids", "Ids read past that a transaction may still commit");
pub(crate) const OPEN_HOLE_RANGES: Metric =
    gauge("outbox_relay_open_hole_ranges", "The same in ranges: what holes_max limits");
pub(crate) const READING_STOPPED: Metric = Metric {
    labels: &["target", "limit"],
    ..gauge("outbox_relay_reading_stopped", "1: nothing new is read, a limit is reached")
};

// Of each process.

pub(crate) const STATE: Metric = Metric {
    labels: &["target", "state"],
    ..gauge("outbox_relay_state", "1 at the state of the pipeline, 0 at the others")
};
pub(crate) const BELL: Metric = Metric {
    labels: &[],
    ..gauge("outbox_relay_bell_armed", "1: asleep, and the next commit rings")
};
pub(crate) const BUILD: Metric =
    Metric { labels: &["version"], ..gauge("outbox_relay_build_info", "1, at the version") };

// Of the database, by the relay that is its keeper. What it looked up is NaN elsewhere.

pub(crate) const KEEPER: Metric =
    Metric { labels: &[], ..gauge("outbox_relay_keeper", "1: this process is the keeper") };
pub(crate) const KEEPER_SUCCESS: Metric = Metric {
    labels: &[],
    ..gauge(
        "outbox_relay_keeper_last_success_timestamp_seconds",
        "When the last round of retention ended well",
    )
};
pub(crate) const KEEPER_TROUBLES: Metric = Metric {
    labels: &[],
    ..gauge("outbox_relay_keeper_troubles", "Parts of the keeper's work that the database refuses")
};
pub(crate) const FLOOR: Metric =
    Metric { labels: &[], ..gauge("outbox_relay_floor_id", "Below this id nothing is kept") };
pub(crate) const DELETED: Metric = Metric {
    labels: &[],
    ..counter("outbox_relay_deleted_messages_total", "Messages deleted by retention")
};
pub(crate) const LATE: Metric = Metric {
    labels: &[],
    ..counter("outbox_relay_late_messages_total", "Messages found where none should be")
};
pub(crate) const PENDING: Metric =
    gauge("outbox_relay_pending_messages", "Committed messages that are not settled");
pub(crate) const OLDEST_PENDING: Metric = gauge(
    "outbox_relay_oldest_pending_age_seconds",
    "Age of the pending message with the lowest id, 0 without one",
);
pub(crate) const UNTAKEN: Metric = Metric {
    labels: &[],
    ..gauge("outbox_relay_untaken_topics", "Topics whose messages no target takes")
};
pub(crate) const DEAD: Metric = gauge("outbox_relay_dead_messages", "Messages in dead");

/// Every metric of the relay. Those of the inboxes it maintains are `outbox_inbox`'s.
pub const ALL: [Metric; 31] = [
    CONFIRMED,
    RESENT,
    REFUSALS,
    PARKED,
    STRAGGLERS,
    BURIED,
    ROUTE_OVERFLOW,
    GONE,
    FILTERED,
    MARKS,
    MARKED,
    IN_FLIGHT,
    RETRY,
    PARKED_DESTINATIONS,
    READ_ID,
    OPEN_HOLES,
    OPEN_HOLE_RANGES,
    READING_STOPPED,
    STATE,
    BELL,
    BUILD,
    KEEPER,
    KEEPER_SUCCESS,
    KEEPER_TROUBLES,
    FLOOR,
    DELETED,
    LATE,
    PENDING,
    OLDEST_PENDING,
    UNTAKEN,
    DEAD,
];

/// The words of [`READING_STOPPED`]'s `limit`: the keys of the configuration that set it.
pub(crate) const LIMITS: [&str; 2] = ["holes_max", "retry_rows_max"];

const fn counter(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, labels: &["target"], help }
}

const fn gauge(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, labels: &["target"], help }
}
