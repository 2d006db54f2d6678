//! The judge: compares what was committed with what was received. Pure.
//!
//! A total-queue checker: every committed message must be received at least once (else it is
//! *lost*), nothing else may be (*phantom*: an unknown id, or a known one with other content), and
//! per key the first deliveries must come in commit order (else *reordered*). Later deliveries are
//! *duplicates*: allowed, but with the same message id and the same content.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::content::Digest;

mod report;

pub(crate) use report::Report;

/// One message that a committed transaction wrote.
#[derive(Debug, Clone)]
pub(crate) struct Committed {
    pub(crate) message_id: Uuid,
    /// The ordering key.
    pub(crate) key: Option<String>,
    /// The message's place among those of its key, in commit order. `None`: no place is promised
    /// (no key, or a row that was written to be late).
    pub(crate) counter: Option<i64>,
    pub(crate) digest: Digest,
    /// When the writer had the reply to its commit, microseconds since the Unix epoch. `None`: the
    /// reply was lost.
    pub(crate) committed_at_us: Option<i64>,
}

impl Committed {
    /// Whether its key is one of those with this prefix.
    pub(crate) fn is_of(&self, key_prefix: &str) -> bool {
        self.key.as_ref().is_some_and(|key| key.starts_with(key_prefix))
    }
}

/// One message as a consumer received it.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    /// `None`: absent or not a UUID.
    pub(crate) message_id: Option<Uuid>,
    /// The row it came from (`x-outbox-id`).
    pub(crate) row_id: Option<i64>,
    pub(crate) digest: Digest,
    /// Why it says it was sent again (`x-outbox-resent`).
    pub(crate) resent: Option<String>,
    /// Which relay published it, if its configuration was tagged.
    pub(crate) relay: Option<String>,
    /// Microseconds since the Unix epoch.
    pub(crate) received_at_us: i64,
}

/// A delivery that no committed message explains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phantom {
    /// No committed transaction wrote this id.
    Unknown(Option<Uuid>),
    /// It was written, with another content.
    Altered(Uuid),
}

/// A first delivery that came after a later one of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inversion {
    pub(crate) key: String,
    pub(crate) counter: i64,
    /// The highest place of that key that had been delivered before.
    pub(crate) after: i64,
}

/// Judges `deliveries`, which are in the order of arrival, at least per key.
pub(crate) fn check(journal: &[Committed], deliveries: &[Delivery]) -> Report {
    let committed: HashMap<Uuid, &Committed> = journal.iter().map(|c| (c.message_id, c)).collect();
    assert_eq!(committed.len(), journal.len(), "a message id stands twice in the journal");

    let mut report = Report { committed: journal.len(), ..Report::default() };
    let mut received = HashSet::new();
    let mut rows: HashMap<i64, (Option<Uuid>, Digest)> = HashMap::new();
    let mut highest: HashMap<&str, i64> = HashMap::new();

    for delivery in deliveries {
        let first_of_row = delivery.row_id.and_then(|row| {
            let this = (delivery.message_id, delivery.digest);
            match rows.entry(row) {
                std::collections::hash_map::Entry::Occupied(first) => Some(*first.get() == this),
                std::collections::hash_map::Entry::Vacant(empty) => {
                    empty.insert(this);
                    None
                }
            }
        });
        let known = delivery.message_id.and_then(|id| committed.get(&id));
        let again = delivery.message_id.is_some_and(|id| received.contains(&id));
        if first_of_row.is_some() || again {
            report.duplicates += 1;
            report.unsaid += usize::from(delivery.resent.is_none());
            let same = known.is_some_and(|known| known.digest == delivery.digest);
            report.identical += usize::from(first_of_row.unwrap_or(same) && same);
        }
        let Some(known) = known else {
            report.phantom.push(Phantom::Unknown(delivery.message_id));
            continue;
        };
        if known.digest != delivery.digest {
            report.phantom.push(Phantom::Altered(known.message_id));
            continue;
        }
        if !received.insert(known.message_id) {
            continue;
        }
        if let Some(at) = known.committed_at_us {
            report.latencies_us.push(delivery.received_at_us - at);
        }
        let (Some(key), Some(counter)) = (&known.key, known.counter) else { continue };
        let highest = highest.entry(key).or_insert(i64::MIN);
        if counter < *highest {
            report.reordered.push(Inversion { key: key.clone(), counter, after: *highest });
        }
        *highest = counter.max(*highest);
    }

    report.received = received.len();
    report.lost =
        journal.iter().map(|c| c.message_id).filter(|id| !received.contains(id)).collect();
    report.latencies_us.sort_unstable();
    report
}

#[cfg(test)]
mod tests;
