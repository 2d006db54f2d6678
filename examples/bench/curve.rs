//! How a destination filled: looks at it, and what they say about the rate.

use std::time::{Duration, Instant};

use crate::meter::Meter;

/// Between two looks. They cost the broker a percent of a core, and two seconds of draining are known to
/// one in forty.
const LOOK_INTERVAL: Duration = Duration::from_millis(25);
/// Nothing new for so long is a failure of whoever should have brought it.
const STALL_MAX: Duration = Duration::from_secs(90);

/// Looks at one destination: seconds since the first look, and the messages there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Curve(pub(crate) Vec<(f64, u64)>);

impl Curve {
    /// Looks until `rows` messages are there. `idle` is called at every look that finds none yet.
    ///
    /// # Panics
    /// When nothing comes any more.
    pub(crate) async fn watch(meter: &Meter, rows: u64, mut idle: impl FnMut()) -> Self {
        let begun = Instant::now();
        let mut looks: Vec<(f64, u64)> = Vec::new();
        let mut moved = Instant::now();
        loop {
            let messages = meter.messages().await;
            if messages == 0 {
                idle();
            }
            if looks.last().is_none_or(|&(_, last)| messages != last) {
                moved = Instant::now();
            }
            looks.push((begun.elapsed().as_secs_f64(), messages));
            if messages >= rows {
                return Self(looks);
            }
            assert!(moved.elapsed() < STALL_MAX, "{messages} of {rows} messages, and no more come");
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Seconds from the last look that found nothing to the first that found everything.
    pub(crate) fn seconds(&self) -> f64 {
        let first = self.0.iter().take_while(|&&(_, messages)| messages == 0).last();
        let first = first.map_or(0.0, |&(at, _)| at);
        self.0.last().map_or(f64::NAN, |&(at, _)| at - first)
    }

    /// Messages a second, in that time.
    pub(crate) fn rate(&self, rows: u64) -> f64 {
        rows as f64 / self.seconds()
    }

    /// Messages a second in each of `parts` equal parts of the rows.
    pub(crate) fn parts(&self, rows: u64, parts: u64) -> Vec<f64> {
        let at = |part: u64| self.when(rows * part / parts);
        (0..parts).map(|n| rows as f64 / parts as f64 / (at(n + 1) - at(n))).collect()
    }

    /// When there were so many: between two looks they came evenly.
    fn when(&self, messages: u64) -> f64 {
        let next = self.0.iter().position(|&(_, seen)| seen >= messages.max(1));
        let next = next.unwrap_or(self.0.len().saturating_sub(1));
        let ((from, few), (to, many)) = (self.0[next.saturating_sub(1)], self.0[next]);
        if many == few {
            return to;
        }
        from + (to - from) * (messages as f64 - few as f64) / (many as f64 - few as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_counts_from_the_last_look_at_nothing() {
        let curve = Curve(vec![(0.0, 0), (1.0, 0), (2.0, 50), (3.0, 100)]);
        assert_eq!(curve.seconds(), 2.0);
        assert_eq!(curve.rate(100), 50.0);
    }

    #[test]
    fn parts_of_an_even_curve_are_even() {
        let curve = Curve(vec![(0.0, 0), (1.0, 0), (2.0, 50), (3.0, 100)]);
        assert_eq!(curve.parts(100, 4), vec![50.0; 4]);
    }

    #[test]
    fn a_slow_part_is_seen() {
        let curve = Curve(vec![(0.0, 0), (1.0, 50), (6.0, 100)]);
        assert_eq!(curve.parts(100, 2), vec![50.0, 10.0]);
    }
}
