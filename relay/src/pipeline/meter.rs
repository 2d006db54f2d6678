//! What a pipeline shows to Prometheus. The handles are made once a life, and what was counted goes there in
//! sums: a message costs nothing here.

use std::time::{SystemTime, UNIX_EPOCH};

use metrics::{Counter, Gauge};
use tokio::sync::watch;

use crate::flow::{Counters, Flow};
use crate::source::SourceStatus;
use crate::telemetry::metric::{self, Metric};

/// One of the flow's counts.
type Count = fn(&Counters) -> u64;

/// Shows one life of a pipeline.
pub(super) struct Meter {
    counters: Vec<(Count, Counter)>,
    marks: Counter,
    marked: Gauge,
    in_flight: Gauge,
    retry: Gauge,
    parked_destinations: Gauge,
    holes_max: Gauge,
    retry_rows_max: Gauge,
    read_id: Gauge,
    open_holes: Gauge,
    open_hole_ranges: Gauge,
    source: watch::Receiver<SourceStatus>,
    /// What was counted before.
    shown: Counters,
}

impl Meter {
    pub(super) fn new(target: &str, source: watch::Receiver<SourceStatus>) -> Self {
        let counter =
            |metric: Metric| metrics::counter!(metric.name, "target" => target.to_owned());
        let gauge = |metric: Metric| metrics::gauge!(metric.name, "target" => target.to_owned());
        let limit = |limit: &'static str| {
            let name = metric::READING_STOPPED.name;
            metrics::gauge!(name, "target" => target.to_owned(), "limit" => limit)
        };
        let [holes_max, retry_rows_max] = metric::LIMITS.map(limit);
        Self {
            counters: vec![
                (|c| c.confirmed, counter(metric::CONFIRMED)),
                (|c| c.resent, counter(metric::RESENT)),
                (|c| c.refused, counter(metric::REFUSALS)),
                (|c| c.parked, counter(metric::PARKED)),
                (|c| c.stragglers, counter(metric::STRAGGLERS)),
                (|c| c.buried, counter(metric::BURIED)),
                (|c| c.overflowed, counter(metric::ROUTE_OVERFLOW)),
                (|c| c.gone, counter(metric::GONE)),
                (|c| c.filtered, counter(metric::FILTERED)),
            ],
            marks: counter(metric::MARKS),
            marked: gauge(metric::MARKED),
            in_flight: gauge(metric::IN_FLIGHT),
            retry: gauge(metric::RETRY),
            parked_destinations: gauge(metric::PARKED_DESTINATIONS),
            holes_max,
            retry_rows_max,
            read_id: gauge(metric::READ_ID),
            open_holes: gauge(metric::OPEN_HOLES),
            open_hole_ranges: gauge(metric::OPEN_HOLE_RANGES),
            source,
            shown: Counters::default(),
        }
    }

    /// Shows what has changed; `retry_rows` and whether they are too many, as the feed knows.
    pub(super) fn show(&mut self, flow: &Flow, (retry_rows, is_full): (u64, bool)) {
        let counters = flow.counters();
        if counters != self.shown {
            for (of, counter) in &self.counters {
                counter.increment(of(&counters) - of(&self.shown));
            }
            self.shown = counters;
        }
        self.in_flight.set(flow.in_flight() as f64);
        self.parked_destinations.set(flow.parked_destinations() as f64);
        self.retry.set(retry_rows as f64);
        self.retry_rows_max.set(f64::from(u8::from(is_full)));
        if self.source.has_changed().unwrap_or(false) {
            let source = self.source.borrow_and_update();
            self.read_id.set(source.hi as f64);
            self.open_holes.set(source.hole_ids as f64);
            self.open_hole_ranges.set(source.hole_ranges as f64);
            self.holes_max.set(f64::from(u8::from(source.stalled)));
        }
    }

    /// A mark is committed.
    pub(super) fn marked(&self) {
        self.marks.increment(1);
        self.marked.set(now());
    }
}

/// Another relay may lead by now, and show its own.
impl Drop for Meter {
    fn drop(&mut self) {
        let gauges = [
            &self.in_flight,
            &self.retry,
            &self.parked_destinations,
            &self.holes_max,
            &self.retry_rows_max,
            &self.read_id,
            &self.open_holes,
            &self.open_hole_ranges,
        ];
        gauges.iter().for_each(|gauge| gauge.set(0.0));
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
