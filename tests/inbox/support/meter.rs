//! Counts what the crate counts, for all tests of this binary: each has a `consumer` or a `route` of its own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};

static COUNTERS: OnceLock<Arc<Counters>> = OnceLock::new();

#[derive(Default)]
struct Counters(Mutex<HashMap<String, Arc<AtomicU64>>>);

struct Meter(Arc<Counters>);

/// Begins to count.
pub(crate) fn install() {
    COUNTERS.get_or_init(|| {
        let counters = Arc::new(Counters::default());
        metrics::set_global_recorder(Meter(Arc::clone(&counters)))
            .expect("there is no other recorder");
        counters
    });
}

/// What a counter stands at, or how often a histogram was recorded to; its labels by name.
pub(crate) fn counted(name: &str, labels: &[(&str, &str)]) -> u64 {
    let counters =
        COUNTERS.get().expect("it was installed").0.lock().expect("no test panics in here");
    counters
        .get(&series(name, labels.iter().copied()))
        .map_or(0, |count| count.load(Ordering::Relaxed))
}

fn series<'a>(name: &str, labels: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut labels: Vec<_> = labels.map(|(name, value)| format!("{name}={value}")).collect();
    labels.sort();
    format!("{name}{{{}}}", labels.join(","))
}

impl Recorder for Meter {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.count(key))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Arc::new(Recorded(self.count(key))))
    }
}

impl Meter {
    fn count(&self, key: &Key) -> Arc<AtomicU64> {
        let series = series(key.name(), key.labels().map(|label| (label.key(), label.value())));
        let mut counters = self.0.0.lock().expect("no test panics in here");
        Arc::clone(counters.entry(series).or_default())
    }
}

/// A histogram that knows only how often.
struct Recorded(Arc<AtomicU64>);

impl HistogramFn for Recorded {
    fn record(&self, _: f64) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
