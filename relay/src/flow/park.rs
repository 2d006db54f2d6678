//! Destinations that the broker does not have, or does not open to this user.
//!
//! What goes to a parked destination is set aside without being sent, and without an attempt: it is
//! not the message's fault, and an exchange that is missing would end the channel each time. One of
//! the rows, the probe, tries again now and then; once it is confirmed, all are released.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::backoff::{Backoff, Jitter};
use crate::ledger::{Due, Mark};
use crate::route::{Place, wait};

/// Destinations that are remembered. A routing key that contains the ordering key can name millions:
/// beyond this each row waits by its own clock.
const DESTINATIONS_MAX: usize = 10_000;

/// How often it is looked whether each destination is tried by somebody.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct Park {
    /// Refusals in a row.
    failures: u32,
    /// A row is on its way there.
    probing: bool,
    /// Since when none is, as far as `watch` has looked.
    idle_since: Option<Instant>,
}

/// The parked destinations of one target.
#[derive(Debug, Default)]
pub(super) struct Parked {
    destinations: HashMap<Arc<str>, Park>,
    /// They work again: what waits for them is due.
    releases: Vec<Arc<str>>,
    /// Their probe is gone: another row must try.
    probes: Vec<Arc<str>>,
    watched_at: Option<Instant>,
}

impl Parked {
    /// A destination for which rows wait since an earlier life. One of them is made due.
    pub(super) fn load(&mut self, name: Arc<str>) {
        self.probes.push(Arc::clone(&name));
        self.destinations.insert(name, Park::default());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.destinations.is_empty()
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.destinations.contains_key(name)
    }

    /// The parked destination that the place is, or lies in.
    pub(super) fn find(&self, place: &Place) -> Option<Arc<str>> {
        let found = self.destinations.get_key_value(place.whole.as_str());
        found
            .or_else(|| self.destinations.get_key_value(place.full.as_str()))
            .map(|(name, _)| Arc::clone(name))
    }

    /// Whether a row may try the destination now; if so it is the probe.
    pub(super) fn try_probe(&mut self, name: &str) -> bool {
        self.destinations
            .get_mut(name)
            .is_some_and(|park| !std::mem::replace(&mut park.probing, true))
    }

    /// The destination refused a message: when that one is due again. `probe` says that it was sent
    /// to find out.
    pub(super) fn refused(
        &mut self,
        name: &Arc<str>,
        probe: bool,
        backoff: Backoff,
        jitter: &mut Jitter,
    ) -> Due {
        let full = self.destinations.len() >= DESTINATIONS_MAX;
        match self.destinations.get_mut(name) {
            // In flight with the first one that was refused.
            Some(_) if !probe => return Due::Never,
            Some(park) => {
                park.failures = park.failures.saturating_add(1);
                park.probing = false;
                return Due::In(backoff.delay(park.failures, jitter));
            }
            None => {}
        }
        if full {
            return Due::In(backoff.delay(u32::MAX, jitter));
        }
        tracing::warn!(destination = &**name, "parked: its messages wait, others flow");
        self.destinations.insert(Arc::clone(name), Park { failures: 1, ..Park::default() });
        Due::In(backoff.delay(1, jitter))
    }

    /// A message arrived there, or was refused for its own sake.
    pub(super) fn works(&mut self, name: &Arc<str>) {
        if self.destinations.remove(name).is_some() {
            tracing::info!(destination = &**name, "no longer parked: its messages are sent");
        }
        self.releases.push(Arc::clone(name));
    }

    /// The probe will not come back (it was buried, say), and nothing is known of the destination.
    pub(super) fn probe_lost(&mut self, name: &Arc<str>) {
        if let Some(park) = self.destinations.get_mut(name) {
            park.probing = false;
            self.probes.push(Arc::clone(name));
        }
    }

    /// Whether a mark has something to do for a destination.
    pub(super) fn has_work(&self) -> bool {
        !self.releases.is_empty() || !self.probes.is_empty()
    }

    /// Looks for destinations that nobody tries: the row that was to do it waits behind an earlier one
    /// of its key, say. Another is asked for.
    pub(super) fn watch(&mut self, now: Instant, patience: Duration) {
        if self.destinations.is_empty()
            || self.watched_at.is_some_and(|at| now < at + WATCH_INTERVAL)
        {
            return;
        }
        self.watched_at = Some(now);
        for (name, park) in &mut self.destinations {
            let idle_since = *park.idle_since.get_or_insert(now);
            if park.probing {
                park.idle_since = None;
            } else if now >= idle_since + patience {
                park.idle_since = None;
                self.probes.push(Arc::clone(name));
            }
        }
    }

    /// Adds what the next mark must do. Rows that were set aside for a destination that works by now
    /// are due: no release would see them any more.
    pub(super) fn complete(&mut self, mark: &mut Mark) {
        for row in mark.set_aside.iter_mut().filter(|row| row.due == Due::Never) {
            let waits = |name: &Arc<str>| self.contains(name) || wait::group(name).is_some();
            if row.destination.as_ref().is_some_and(|name| !waits(name)) {
                row.due = Due::In(Duration::ZERO);
            }
        }
        mark.releases.append(&mut self.releases);
        mark.probes.append(&mut self.probes);
    }

    /// The mark was committed; `releases` and `probes` are now those that found more, or nothing.
    pub(super) fn marked(&mut self, mark: &Mark) {
        let more = mark.releases.iter().filter(|name| !self.destinations.contains_key(*name));
        self.releases.extend(more.cloned());
        for name in &mark.probes {
            // Nobody waits there any more.
            self.works(name);
        }
    }

    /// Parked destinations.
    pub(super) fn len(&self) -> usize {
        self.destinations.len()
    }
}
