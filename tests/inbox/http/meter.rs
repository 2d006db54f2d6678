//! Counts what the layer counts, for all tests of this binary: each has its own `route` label.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

static COUNTERS: OnceLock<Arc<Counters>> = OnceLock::new();

#[derive(Default)]
struct Counters(Mutex<HashMap<String, Arc<AtomicU64>>>);

struct Meter(Arc<Counters>);

/// Begins to count.
pub(super) fn install() {
    COUNTERS.get_or_init(|| {
        let counters = Arc::new(Counters::default());
        metrics::set_global_recorder(Meter(Arc::clone(&counters)))
            .expect("there is no other recorder");
        counters
    });
}

/// What a counter stands at, its labels by name.
pub(super) fn counted(name: &str, labels: &[(&str, &str)]) -> u64 {
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
        let series = series(key.name(), key.labels().map(|label| (label.key(), label.value())));
        let mut counters = self.0.0.lock().expect("no test panics in here");
        Counter::from_arc(Arc::clone(counters.entry(series).or_default()))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}
