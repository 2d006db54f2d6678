//! Destinations in trouble: missing, forbidden, full.
//!
//! What goes to a parked destination is set aside without being sent, and without an attempt: it is
//! not the message's fault. Now and then one of its rows, the probe, is made due and tries again; once
//! it is confirmed, all are released.
//!
//! Ten thousand parked destinations must not be a storm of probes, so there is a budget for all of a
//! target ([`PROBES_PER_SECOND`]). What is probed first: half of the budget goes to destinations that
//! were never tried and then to those that most rows wait for, half to those that have waited longest.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::backoff::{Backoff, Jitter};
use crate::ledger::{Due, Mark, Probe};
use crate::route::{Place, wait};
use crate::target::Trouble;

/// Destinations that are remembered. A routing key that contains the ordering key can name millions:
/// beyond this each row waits by its own clock, and they are tried one after the other.
const DESTINATIONS_MAX: usize = 30_000;

/// Probes a second of one target. One that is confirmed costs nothing.
pub(super) const PROBES_PER_SECOND: u32 = 20;

/// Probes at once after a quiet time.
pub(super) const PROBES_AT_ONCE: u32 = 40;

/// How often it is looked which destinations are due: a scan of all of them.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// How soon a probe is tried again whose key was in flight.
const KEY_PAUSE: Duration = Duration::from_millis(100);

/// A queue that refuses gets twice as many rows after each success; from here on all of them.
const SLOW_ROWS_MAX: u32 = 1_000;

/// Destinations that are named in the log within a minute; the others are counted.
const NAMED_A_MINUTE: u32 = 20;

const MINUTE: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Park {
    trouble: Option<Trouble>,
    /// When it was parked, in order.
    number: u64,
    /// Refusals in a row.
    failures: u32,
    /// The pause before the next probe, until the clock is known.
    pause: Option<Duration>,
    /// When the next probe is due. Without it: a probe is on its way, or none goes by itself.
    next_at: Option<Instant>,
    /// Rows that were made due as probes and have not come yet.
    asked: u32,
    asked_at: Option<Instant>,
    /// Probes in flight.
    outstanding: u32,
    /// Probes that may be in flight.
    allowance: u32,
    /// Rows that were set aside for it since it was last tried.
    waiting: u32,
    /// The id of the last probe.
    last_probe: i64,
}

impl Park {
    fn new(trouble: Option<Trouble>, number: u64) -> Self {
        Self {
            trouble,
            number,
            failures: 0,
            pause: Some(Duration::ZERO),
            next_at: None,
            asked: 0,
            asked_at: None,
            outstanding: 0,
            allowance: 1,
            waiting: 1,
            last_probe: 0,
        }
    }

    fn room(&self) -> u32 {
        self.allowance.saturating_sub(self.outstanding + self.asked)
    }

    fn is_untried(&self) -> bool {
        self.trouble.is_some_and(|trouble| !trouble.is_tried())
    }

    /// Turns what was said since the last look into a time.
    fn look(&mut self, now: Instant, patience: Duration) {
        if let Some(pause) = self.pause.take() {
            self.next_at = Some(now + pause);
        }
        if self.asked > 0 && self.asked_at.is_none_or(|at| now >= at + patience) {
            // They wait behind earlier rows of their keys, say.
            self.asked = 0;
            self.next_at = Some(now);
        }
        if self.next_at.is_none()
            && self.asked + self.outstanding == 0
            && self.trouble != Some(Trouble::Delays)
        {
            self.next_at = Some(now + patience);
        }
    }
}

/// How often each kind of trouble is tried.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pauses {
    /// A probe that is refused leaves nothing behind.
    pub(super) probe: Backoff,
    /// Each probe may be a copy for somebody.
    pub(super) copy: Backoff,
}

impl Pauses {
    fn of(self, trouble: Trouble, failures: u32, jitter: &mut Jitter) -> Option<Duration> {
        match trouble {
            Trouble::Delays => None,
            Trouble::Unlooked | Trouble::Untried => Some(Duration::ZERO),
            Trouble::Refuses | Trouble::Silent => Some(self.copy.delay(failures, jitter)),
            _ => Some(self.probe.delay(failures, jitter)),
        }
    }
}

/// The parked destinations of one target.
#[derive(Debug, Default)]
pub(super) struct Parked {
    destinations: HashMap<Arc<str>, Park>,
    /// They work again: what waits for them is due.
    releases: Vec<Arc<str>>,
    /// Rows that the next mark makes due.
    probes: Vec<Probe>,
    /// Destinations parked so far.
    parked: u64,
    /// Probes that may go now, in thousandths.
    budget: Option<u64>,
    looked_at: Option<Instant>,
    wake_at: Option<Instant>,
    /// Rows beyond the last destination that is remembered, and how many are still to fall due.
    overflowing: u32,
    named: u32,
    unnamed: u32,
    named_since: Option<Instant>,
}

impl Parked {
    /// A destination for which rows wait since an earlier life. It is tried, within the budget.
    pub(super) fn load(&mut self, name: Arc<str>) {
        self.insert(name, None);
    }

    fn insert(&mut self, name: Arc<str>, trouble: Option<Trouble>) -> &mut Park {
        self.parked += 1;
        self.wake_at = None;
        let park = Park::new(trouble, self.parked);
        self.destinations.entry(name).insert_entry(park).into_mut()
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

    /// A row was set aside for it without being sent.
    pub(super) fn waits(&mut self, name: &str) {
        if let Some(park) = self.destinations.get_mut(name) {
            park.waiting = park.waiting.saturating_add(1);
        }
    }

    /// Whether a row that waits for the destination may try it now; if so it is a probe.
    pub(super) fn try_probe(&mut self, name: &str) -> bool {
        let Some(park) = self.destinations.get_mut(name) else { return false };
        park.asked = park.asked.saturating_sub(1);
        let may = park.outstanding < park.allowance;
        park.outstanding += u32::from(may);
        may
    }

    /// A row that should try the destination cannot yet: one of its key is in flight.
    pub(super) fn postpone(&mut self, name: &str) {
        if let Some(park) = self.destinations.get_mut(name) {
            park.asked = park.asked.saturating_sub(1);
            park.pause = Some(KEY_PAUSE);
            self.wake_at = None;
        }
    }

    /// The destination refused a message: when that one is due again. `probe` says that it was sent
    /// to find out.
    pub(super) fn refused(
        &mut self,
        name: &Arc<str>,
        probe: bool,
        trouble: Trouble,
        pauses: Pauses,
        jitter: &mut Jitter,
    ) -> Due {
        if let Some(park) = self.destinations.get_mut(name) {
            if !probe {
                // In flight with the first one that was refused.
                park.waiting = park.waiting.saturating_add(1);
                return Due::Never;
            }
            // Others come first now, until more rows want to go there.
            park.waiting = 0;
            park.outstanding = park.outstanding.saturating_sub(1);
            (park.trouble, park.allowance) = (Some(trouble), 1);
            // Of several probes in flight the first tells how long to wait.
            if park.pause.is_none() && park.next_at.is_none() {
                park.failures = park.failures.saturating_add(1);
                park.pause = pauses.of(trouble, park.failures, jitter);
                self.wake_at = None;
            }
            return Due::Never;
        }
        if self.destinations.len() >= DESTINATIONS_MAX {
            self.overflowing = self.overflowing.saturating_add(1);
            let turn = Duration::from_secs(1) / PROBES_PER_SECOND * self.overflowing;
            let pause = pauses.of(trouble, u32::MAX, jitter).unwrap_or(pauses.copy.max);
            return Due::In(pause.max(turn));
        }
        let pause = pauses.of(trouble, 1, jitter);
        let park = self.insert(Arc::clone(name), Some(trouble));
        (park.failures, park.pause) = (u32::from(trouble.is_tried()), pause);
        if trouble.is_tried() {
            self.say(|| {
                tracing::warn!(destination = &**name, "parked: its messages wait, others flow")
            });
        }
        Due::Never
    }

    /// A probe was confirmed.
    pub(super) fn delivered(&mut self, name: &Arc<str>) {
        self.budget = self.budget.map(|budget| (budget + 1_000).min(full_budget()));
        self.wake_at = None;
        match self.destinations.get_mut(name) {
            // It has room for one. If all came now, those that it refuses again would be copies in
            // the queues beside it.
            Some(park) if park.trouble == Some(Trouble::Refuses) => {
                park.outstanding = park.outstanding.saturating_sub(1);
                park.allowance += 1;
                park.failures = 0;
                if park.allowance > SLOW_ROWS_MAX {
                    self.works(name);
                } else if park.next_at.is_none() {
                    park.pause = Some(Duration::ZERO);
                }
            }
            _ => self.works(name),
        }
    }

    /// A message arrived there, or was refused for its own sake.
    pub(super) fn works(&mut self, name: &Arc<str>) {
        if let Some(park) = self.destinations.remove(name)
            && !park.is_untried()
        {
            self.say(|| {
                tracing::info!(destination = &**name, "no longer parked: its messages are sent");
            });
        }
        self.releases.push(Arc::clone(name));
    }

    /// The probe will not come back (it was buried, say), and nothing is known of the destination.
    pub(super) fn probe_lost(&mut self, name: &Arc<str>) {
        if let Some(park) = self.destinations.get_mut(name) {
            park.outstanding = park.outstanding.saturating_sub(1);
            park.pause = Some(Duration::ZERO);
            self.wake_at = None;
        }
    }

    /// Whether a mark has something to do for a destination.
    pub(super) fn has_work(&self) -> bool {
        !self.releases.is_empty() || !self.probes.is_empty()
    }

    /// When a look would find something to probe, as far as is known.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let looked_at = self.looked_at.filter(|_| !self.is_empty())?;
        Some(self.wake_at.unwrap_or(looked_at).max(looked_at + LOOK_INTERVAL))
    }

    /// Looks for destinations that are due, and asks for a row of each, within the budget.
    pub(super) fn watch(&mut self, now: Instant, patience: Duration) {
        // Nothing but time can have changed anything, and it is not yet time.
        let early = self.wake_at.is_some_and(|at| now < at);
        if early || self.looked_at.is_some_and(|at| now < at + LOOK_INTERVAL) {
            return;
        }
        let elapsed = self.looked_at.map_or(Duration::ZERO, |at| now - at);
        let earned = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let earned = earned.saturating_mul(PROBES_PER_SECOND.into());
        let budget = self.budget.unwrap_or(full_budget()).saturating_add(earned).min(full_budget());
        self.looked_at = Some(now);
        self.overflowing =
            self.overflowing.saturating_sub(u32::try_from(earned / 1_000).unwrap_or(u32::MAX));
        self.count_unnamed(now);
        let (mut due, mut next): (Vec<Candidate>, Option<Instant>) = (vec![], None);
        for (name, park) in &mut self.destinations {
            park.look(now, patience);
            let later = match park.next_at {
                Some(at) if at <= now && park.room() > 0 => {
                    due.push(Candidate::of(name, park, at));
                    continue;
                }
                Some(at) => Some(at.max(now + LOOK_INTERVAL)),
                None => park.asked_at.filter(|_| park.asked > 0).map(|at| at + patience),
            };
            next = [next, later].into_iter().flatten().min();
        }
        let most = usize::try_from(budget / 1_000).unwrap_or(usize::MAX);
        let left = due.len().saturating_sub(most);
        for candidate in choose(due, most) {
            let Some(park) = self.destinations.get_mut(&candidate.name) else { continue };
            let rows = park.room();
            park.asked += rows;
            (park.asked_at, park.next_at) = (Some(now), None);
            let after = park.last_probe;
            self.probes.push(Probe { destination: candidate.name, rows, found: 0, after });
        }
        let spent = 1_000 * self.probes.len() as u64;
        self.budget = Some(budget.saturating_sub(spent));
        let token = Duration::from_secs(1) / PROBES_PER_SECOND;
        self.wake_at = match left {
            // Nothing but time, or an event, brings another.
            0 => Some(next.unwrap_or(now + MINUTE)),
            _ => Some(now + token),
        };
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

    /// The mark was committed; its `releases` are now those that found more, and its `probes` say how
    /// many rows each has found.
    pub(super) fn marked(&mut self, mark: &Mark) {
        let more = mark.releases.iter().filter(|name| !self.destinations.contains_key(*name));
        self.releases.extend(more.cloned());
        for probe in &mark.probes {
            let Some(park) = self.destinations.get_mut(&probe.destination) else { continue };
            park.asked = park.asked.saturating_sub(probe.rows - probe.found.min(probe.rows));
            park.last_probe = probe.after;
            self.wake_at = None;
            if probe.found == 0 && park.outstanding == 0 {
                // Nobody waits there any more.
                self.works(&probe.destination);
            }
        }
    }

    /// Parked destinations.
    pub(super) fn len(&self) -> usize {
        self.destinations.len()
    }

    fn say(&mut self, line: impl FnOnce()) {
        if self.named < NAMED_A_MINUTE {
            self.named += 1;
            line();
        } else {
            self.unnamed += 1;
        }
    }

    fn count_unnamed(&mut self, now: Instant) {
        if now < *self.named_since.get_or_insert(now) + MINUTE {
            return;
        }
        if self.unnamed > 0 {
            let (changes, destinations) = (self.unnamed, self.destinations.len());
            tracing::warn!(changes, destinations, "more destinations were parked or work again");
        }
        (self.named, self.unnamed, self.named_since) = (0, 0, Some(now));
    }
}

fn full_budget() -> u64 {
    u64::from(PROBES_AT_ONCE) * 1_000
}

/// A destination that is due.
#[derive(Debug, Clone)]
struct Candidate {
    name: Arc<str>,
    untried: bool,
    waiting: u32,
    next_at: Instant,
    number: u64,
}

impl Candidate {
    fn of(name: &Arc<str>, park: &Park, next_at: Instant) -> Self {
        let (untried, waiting, number) = (park.is_untried(), park.waiting, park.number);
        Self { name: Arc::clone(name), untried, waiting, next_at, number }
    }
}

/// At most `most` of them.
fn choose(mut due: Vec<Candidate>, most: usize) -> Vec<Candidate> {
    let wanted = |c: &Candidate| (!c.untried, u32::MAX - c.waiting, c.number);
    let waited = |c: &Candidate| (c.next_at, c.number);
    if due.len() > most {
        // The first half by demand, and of the others those that have waited longest.
        let half = most.div_ceil(2);
        due.sort_unstable_by_key(wanted);
        due[half..].sort_unstable_by_key(waited);
        due.truncate(most);
    } else {
        due.sort_unstable_by_key(waited);
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    struct Scene {
        parked: Parked,
        now: Instant,
        jitter: Jitter,
    }

    impl Scene {
        fn new() -> Self {
            let now = Instant::now() + 1_000 * SECOND;
            let mut scene = Self { parked: Parked::default(), now, jitter: Jitter::new(1) };
            scene.look();
            scene
        }

        fn refuse(&mut self, name: &str, probe: bool, trouble: Trouble) -> Due {
            let backoff = Backoff { min: SECOND, max: 5 * SECOND };
            let pauses = Pauses { probe: backoff, copy: Backoff { max: 60 * SECOND, ..backoff } };
            self.parked.refused(&name.into(), probe, trouble, pauses, &mut self.jitter)
        }

        /// The rows that a mark would make due, per destination; it finds all of them.
        fn look(&mut self) -> Vec<(String, u32)> {
            self.now += LOOK_INTERVAL;
            self.parked.watch(self.now, 60 * SECOND);
            let mut mark = Mark::default();
            self.parked.complete(&mut mark);
            mark.probes.iter_mut().for_each(|probe| probe.found = probe.rows);
            self.parked.marked(&mark);
            mark.probes.iter().map(|probe| (probe.destination.to_string(), probe.rows)).collect()
        }

        fn look_for(&mut self, duration: Duration) -> Vec<(String, u32)> {
            let until = self.now + duration;
            let mut probes = vec![];
            while self.now < until {
                for (name, rows) in self.look() {
                    assert!(self.parked.try_probe(&name));
                    self.refuse(&name, true, Trouble::Missing);
                    probes.push((name, rows));
                }
            }
            probes
        }
    }

    #[test]
    fn ten_thousand_parked_destinations_are_no_storm() {
        let mut scene = Scene::new();
        for n in 0..DESTINATIONS_MAX {
            assert_eq!(scene.refuse(&n.to_string(), false, Trouble::Missing), Due::Never);
        }
        let probes = scene.look_for(20 * SECOND);
        let most = PROBES_AT_ONCE + 20 * PROBES_PER_SECOND;
        assert!(probes.len() <= most as usize + 1, "{}", probes.len());
        assert!(probes.len() > 15 * PROBES_PER_SECOND as usize, "{}", probes.len());
        let mut names: Vec<_> = probes.iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        names.dedup();
        assert!(names.len() > probes.len() / 2, "each in its turn: {}", names.len());
    }

    #[test]
    fn few_destinations_are_probed_by_their_own_clock() {
        let mut scene = Scene::new();
        scene.refuse("a", false, Trouble::Missing);
        assert_eq!(scene.look(), []);
        let probes = scene.look_for(60 * SECOND);
        assert!((12..=30).contains(&probes.len()), "{}", probes.len());
    }

    #[test]
    fn what_was_never_tried_and_is_wanted_most_goes_first() {
        let mut scene = Scene::new();
        for n in 0..1_000 {
            scene.refuse(&format!("missing {n}"), false, Trouble::Unlooked);
        }
        scene.refuse("good", false, Trouble::Unlooked);
        scene.parked.waits("good");
        let first: Vec<_> = scene.look().into_iter().map(|(name, _)| name).collect();
        assert_eq!(first.len(), PROBES_AT_ONCE as usize);
        assert_eq!(first[0], "good");
        scene.parked.try_probe("good");
        scene.parked.delivered(&"good".into());
        assert!(!scene.parked.contains("good"));
    }

    #[test]
    fn a_queue_that_refuses_gets_its_rows_slowly() {
        let mut scene = Scene::new();
        scene.refuse("full", false, Trouble::Refuses);
        scene.now += 2 * SECOND;
        let mut sizes = vec![];
        for _ in 0..4 {
            scene.look();
            let (_, rows) = scene.look().pop().unwrap_or(("full".into(), sizes.len() as u32));
            sizes.push(rows);
            let started = (0..rows.max(1)).filter(|_| scene.parked.try_probe("full")).count();
            assert!(started >= 1);
            (0..started).for_each(|_| scene.parked.delivered(&"full".into()));
        }
        assert!(scene.parked.contains("full"), "four rounds are not enough: {sizes:?}");
        // One of a round is refused: one at a time again.
        scene.look();
        assert!(scene.parked.try_probe("full"));
        scene.refuse("full", true, Trouble::Refuses);
        assert!(scene.look().is_empty(), "it pauses");
        scene.now += 60 * SECOND;
        let again = scene.look();
        assert_eq!(again, [("full".to_owned(), 1)]);
    }

    #[test]
    fn an_exchange_that_delays_is_not_tried_by_itself() {
        let mut scene = Scene::new();
        assert_eq!(scene.refuse("later", false, Trouble::Delays), Due::Never);
        assert_eq!(scene.look_for(120 * SECOND), []);
        // A person releases its rows: one is tried.
        assert!(scene.parked.try_probe("later"));
        assert!(!scene.parked.try_probe("later"));
    }

    #[test]
    fn i8_more_destinations_than_are_remembered_are_tried_one_after_the_other() {
        let mut scene = Scene::new();
        for n in 0..DESTINATIONS_MAX {
            scene.refuse(&n.to_string(), false, Trouble::Missing);
        }
        let mut last = Duration::ZERO;
        for n in 0..10_000_u32 {
            let Due::In(pause) = scene.refuse(&format!("more {n}"), false, Trouble::Missing) else {
                panic!("it is not remembered")
            };
            last = pause;
        }
        assert_eq!(scene.parked.len(), DESTINATIONS_MAX);
        assert_eq!(last, SECOND / PROBES_PER_SECOND * 10_000);
        scene.now += 600 * SECOND;
        scene.look();
        assert_eq!(scene.parked.overflowing, 0);
    }
}
