//! Rows that wait for other routes: a route asks for what they do not have, or none takes them.
//!
//! No broker can mend that, so nothing is probed. When the routes change, the start of the next life
//! makes the rows due. So that one wrong route does not fill `retry`, each route (and "no route") has
//! a limit; what comes beyond it is dead. The rows are counted here, and again by the database now
//! and then, since an operator may have given some up.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Flow;
use super::item::Item;
use crate::ledger::{Due, Mark};
use crate::route::wait;

/// Topics without a route that are kept apart. A topic is text that any writer may choose.
const TOPICS_MAX: usize = 1_000;

/// How soon the rows are counted again: of a route whose limit is reached, and of the others.
const COUNT_INTERVAL_FULL: Duration = Duration::from_secs(10);
const COUNT_INTERVAL: Duration = Duration::from_secs(60);

/// The rows of one target that wait for other routes.
#[derive(Debug)]
pub(super) struct Waiting {
    names: HashMap<Arc<str>, u64>,
    /// The sums of the names, by `wait::group`.
    groups: HashMap<String, u64>,
    /// Names of topics among them.
    topics: usize,
    /// `waiting_rows_max`.
    rows_max: u64,
    counted_at: Option<Instant>,
    /// The mark under way counts.
    counting: bool,
}

impl Waiting {
    pub(super) fn new(rows_max: u64) -> Self {
        Self {
            names: HashMap::new(),
            groups: HashMap::new(),
            topics: 0,
            rows_max,
            counted_at: None,
            counting: false,
        }
    }

    /// Rows wait under the name since an earlier life; the first mark counts them.
    pub(super) fn load(&mut self, name: Arc<str>) {
        self.topics += usize::from(wait::is_unrouted(&name));
        self.names.insert(name, 0);
    }

    /// Names under which rows wait.
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// One more row waits: under which name, or `None` if too many do already.
    fn add(&mut self, name: String) -> Option<Arc<str>> {
        let group = wait::group(&name)?;
        if self.groups.get(group).copied().unwrap_or(0) >= self.rows_max {
            return None;
        }
        let name = match self.names.get_key_value(name.as_str()) {
            Some((name, _)) => Arc::clone(name),
            None if wait::is_unrouted(&name) && self.topics >= TOPICS_MAX => {
                wait::OTHER_TOPICS.into()
            }
            None => name.into(),
        };
        self.set(&name, self.names.get(&name).copied().unwrap_or(0) + 1);
        Some(name)
    }

    /// Sets how many rows wait under the name.
    fn set(&mut self, name: &Arc<str>, rows: u64) {
        let Some(group) = wait::group(name) else { return };
        let is_topic = wait::is_unrouted(name);
        let before = if rows > 0 {
            let before = self.names.insert(Arc::clone(name), rows);
            if before.is_none() {
                tracing::warn!(destination = &**name, "rows wait until the routes change");
                self.topics += usize::from(is_topic);
            }
            before
        } else {
            let before = self.names.remove(name);
            self.topics -= usize::from(before.is_some() && is_topic);
            before
        };
        let sum = self.groups.entry(group.to_owned()).or_default();
        *sum = (*sum + rows).saturating_sub(before.unwrap_or(0));
    }

    /// Whether a mark has to be made to count.
    pub(super) fn wants_count(&mut self, now: Instant) -> bool {
        let full = self.groups.values().any(|&rows| rows >= self.rows_max);
        let interval = if full { COUNT_INTERVAL_FULL } else { COUNT_INTERVAL };
        let due = self.counted_at.is_none_or(|at| now >= at + interval);
        self.counting = due && !self.names.is_empty();
        self.counting
    }

    /// Asks the next mark to count, if it is time.
    pub(super) fn complete(&mut self, mark: &mut Mark, now: Instant) {
        if std::mem::take(&mut self.counting) {
            mark.counts = self.names.keys().map(|name| (Arc::clone(name), 0)).collect();
            self.counted_at = Some(now);
        }
    }

    /// The mark was committed, and has counted. What was set aside meanwhile is not in its numbers:
    /// the limit is not that exact.
    pub(super) fn marked(&mut self, mark: &Mark) {
        mark.counts.iter().for_each(|(name, rows)| self.set(name, *rows));
    }
}

impl Flow {
    /// The row's route asks for what it does not have. Without a name (the row has it after all) it
    /// is the refusal of a route that leads nowhere, and buried.
    pub(super) fn wait_for_route(&mut self, item: &Item, reason: String) {
        let route = self.routes.get(item.route);
        let absent = route.and_then(|route| Some((route, route.absent(&item.message)?)));
        let Some((route, absent)) = absent else {
            return self.bury(item, item.attempts(), reason);
        };
        let name = wait::lacking(item.route, route, &absent);
        let hint = format!(
            "{reason}; hint: give it a default, {{{{ {} | \"…\" }}}}, or change the route",
            absent.variable()
        );
        self.insert_refused(item);
        self.wait(item, name, hint);
    }

    /// No route takes the row, and the target lets such rows wait.
    pub(super) fn wait_unrouted(&mut self, item: &Item) {
        let topic = item.message.topic();
        let kind =
            item.message.kind().map_or("without a type".to_owned(), |k| format!("type {k:?}"));
        let reason = format!("no route takes topic {topic:?}, {kind}; hint: add a route for it");
        if self.may_be_behind_it(item) {
            self.insert_refused(item);
        }
        self.wait(item, wait::unrouted(topic), reason);
    }

    fn wait(&mut self, item: &Item, name: String, reason: String) {
        match self.waiting.add(name) {
            Some(name) => {
                let row = self.parked_row(item, name, Due::Never, Some(reason));
                self.set_aside(item, row);
            }
            None => {
                self.counters.overflowed += 1;
                let limit = self.policy.waiting_rows_max;
                let reason = format!("{reason} (waiting_rows_max = {limit} rows wait already)");
                self.bury(item, item.attempts(), reason);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_and_no_route_have_a_limit_each() {
        let mut waiting = Waiting::new(2);
        let mut add = |name: &str| waiting.add(name.to_owned()).is_some();
        assert!(add("route 1 (topic \"*\"): headers.a is absent"));
        assert!(add("route 1 (topic \"*\"): headers.b is absent"));
        assert!(!add("route 1 (topic \"*\"): headers.a is absent"));
        assert!(add("route 10 (topic \"*\"): headers.a is absent"));
        assert!(add(&wait::unrouted("a")));
        assert!(add(&wait::unrouted("b")));
        assert!(!add(&wait::unrouted("c")));
        assert_eq!(waiting.len(), 5);
    }

    #[test]
    fn what_an_operator_gave_up_makes_room() {
        let mut waiting = Waiting::new(2);
        let name = waiting.add(wait::unrouted("a")).unwrap();
        waiting.add(wait::unrouted("a")).unwrap();
        assert_eq!(waiting.add(wait::unrouted("a")), None);
        // WHEN the next mark counts
        let now = Instant::now();
        assert!(waiting.wants_count(now));
        let mut mark = Mark::default();
        waiting.complete(&mut mark, now);
        assert_eq!(mark.counts, [(Arc::clone(&name), 0)]);
        assert!(!waiting.wants_count(now), "not at once again");
        waiting.marked(&mark);
        // THEN none waits, and further ones may
        assert_eq!(waiting.len(), 0);
        assert!(waiting.add(wait::unrouted("a")).is_some());
    }

    #[test]
    fn topics_beyond_a_thousand_wait_under_one_name() {
        let mut waiting = Waiting::new(1_000_000);
        for n in 0..TOPICS_MAX {
            let name = wait::unrouted(&n.to_string());
            assert_eq!(waiting.add(name.clone()).as_deref(), Some(name.as_str()));
        }
        let other = || wait::unrouted("other");
        assert_eq!(waiting.add(other()).as_deref(), Some(wait::OTHER_TOPICS));
        assert_eq!(waiting.add(other()).as_deref(), Some(wait::OTHER_TOPICS));
        assert!(waiting.len() <= TOPICS_MAX + 1);
        assert_eq!(waiting.groups["no route"], TOPICS_MAX as u64 + 2);
    }
}
