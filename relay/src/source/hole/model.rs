//! The tracker of holes against a model of PostgreSQL's transactions: no id that can still commit is
//! ever given up, every id that cannot is, and every committed id is delivered exactly once.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const BACKENDS: usize = 4;

#[derive(Debug, Clone)]
enum Op {
    /// An INSERT has its lock and has drawn nothing: a BEFORE trigger sleeps, a default is slow.
    Lock(usize),
    Draw(usize, i64),
    Savepoint(usize),
    RollbackTo(usize),
    Prepare(usize),
    /// Visible (or gone), but its locks are still there.
    End(usize, bool),
    Unlock(usize),
    /// One of the two halves of a lock read, in either order; others act between them.
    LockReadBegin(bool),
    LockReadEnd,
    Read(usize),
    /// The relay restarts: what the ledger remembers becomes a new tracker.
    Restart,
}

impl Op {
    /// Out of 32 random bits: a strategy of alternatives costs a hundred times as much to draw from.
    fn decode(bits: u32) -> Self {
        let (backend, n) = ((bits >> 8) as usize % BACKENDS, (bits >> 16) as usize);
        match bits % 32 {
            0..2 => Self::Lock(backend),
            2..8 => Self::Draw(backend, 1 + n as i64 % 3),
            8 => Self::Savepoint(backend),
            9 => Self::RollbackTo(backend),
            10..12 => Self::Prepare(backend),
            12..15 => Self::End(backend, n % 10 < 7),
            15..19 => Self::Unlock(backend),
            19..22 => Self::LockReadBegin(n % 2 == 0),
            22..25 => Self::LockReadEnd,
            25..31 => Self::Read(if n % 4 == 0 { 1 + n / 4 % 3 } else { 1_000 }),
            _ => Self::Restart,
        }
    }
}

#[derive(Debug, Default)]
struct Backend {
    /// Counts transactions: the virtualtransaction is `backend/local`.
    local: u32,
    locked: bool,
    drawn: Vec<i64>,
    /// Where the savepoint lies in `drawn`, and whether the lock was there already.
    savepoint: Option<(usize, bool)>,
    prepared: bool,
    /// It has left the array of running transactions, and still shows its locks.
    ending: bool,
}

#[derive(Debug, Default)]
struct Database {
    last_value: i64,
    visible: BTreeSet<i64>,
    lost: BTreeSet<i64>,
    backends: [Backend; BACKENDS],
}

impl Database {
    fn act(&mut self, op: &Op) {
        match *op {
            Op::Lock(b) => {
                let backend = &mut self.backends[b];
                backend.locked |= !backend.ending && !backend.prepared;
            }
            Op::Draw(b, n) => {
                let backend = &mut self.backends[b];
                if !backend.ending && !backend.prepared {
                    backend.locked = true;
                    backend.drawn.extend(self.last_value + 1..=self.last_value + n);
                    self.last_value += n;
                }
            }
            Op::Savepoint(b) => {
                let backend = &mut self.backends[b];
                if !backend.ending && !backend.prepared && backend.savepoint.is_none() {
                    backend.savepoint = Some((backend.drawn.len(), backend.locked));
                }
            }
            Op::RollbackTo(b) => {
                let backend = &mut self.backends[b];
                if !backend.ending
                    && !backend.prepared
                    && let Some((at, locked)) = backend.savepoint.take()
                {
                    self.lost.extend(backend.drawn.drain(at..));
                    backend.locked = locked;
                }
            }
            Op::Prepare(b) => {
                let backend = &mut self.backends[b];
                backend.prepared |= backend.locked && !backend.ending;
            }
            Op::End(b, commit) => {
                let backend = &mut self.backends[b];
                if !backend.ending {
                    let ids = std::mem::take(&mut backend.drawn);
                    if commit {
                        self.visible.extend(ids)
                    } else {
                        self.lost.extend(ids)
                    }
                    backend.ending = true;
                }
            }
            Op::Unlock(b) => {
                let backend = &mut self.backends[b];
                if backend.ending {
                    *backend = Backend { local: backend.local + 1, ..Backend::default() };
                }
            }
            _ => {}
        }
    }

    fn holders(&self) -> Vec<Holder> {
        self.backends
            .iter()
            .enumerate()
            .filter(|(_, backend)| backend.locked)
            .map(|(b, backend)| Holder {
                // PostgreSQL clears the local number before it lets the locks go.
                transaction: format!("{b}/{}", if backend.ending { 0 } else { backend.local + 1 }),
                prepared: backend.prepared,
            })
            .collect()
    }
}

#[derive(Debug, Default)]
struct Relay {
    holes: Holes,
    delivered: BTreeSet<i64>,
    dead: BTreeSet<i64>,
    /// The half of a lock read that has been taken.
    half: Option<(Option<Vec<Holder>>, Option<i64>)>,
}

impl Relay {
    fn act(&mut self, op: &Op, database: &Database) -> Result<(), TestCaseError> {
        match *op {
            Op::LockReadBegin(locks_first) if self.half.is_none() => {
                self.half = Some(if locks_first {
                    (Some(database.holders()), None)
                } else {
                    (None, Some(database.last_value))
                });
            }
            Op::LockReadEnd => {
                if let Some((holders, last_value)) = self.half.take() {
                    let holders = holders.unwrap_or_else(|| database.holders());
                    self.holes.locks(&holders, last_value.unwrap_or(database.last_value));
                    prop_assert!(self.holes.waiting.len() <= holders.len() + 1);
                }
            }
            Op::Read(limit) if self.half.is_none() => self.read(limit, database)?,
            Op::Restart if self.half.is_none() => {
                let hi = self.holes.hi();
                let open = (1..=hi)
                    .filter(|id| !self.delivered.contains(id) && !self.dead.contains(id))
                    .map(|id| id..id + 1)
                    .collect();
                self.holes = Holes::new(hi, open);
            }
            _ => {}
        }
        Ok(())
    }

    fn read(&mut self, limit: usize, database: &Database) -> Result<(), TestCaseError> {
        let hi = self.holes.hi();
        let ids: Vec<i64> = database
            .visible
            .iter()
            .copied()
            .filter(|&id| id > hi || self.holes.open().contains(id))
            .take(limit)
            .collect();
        let progress = self.holes.read(&ids, ids.len() == limit);
        for id in ids {
            prop_assert!(self.delivered.insert(id), "{id} was delivered twice");
        }
        for id in progress.dead.into_iter().flatten() {
            prop_assert!(database.lost.contains(&id), "{id} was given up and can still commit");
            prop_assert!(self.dead.insert(id), "{id} died twice");
        }
        for id in progress.opened.into_iter().flatten() {
            prop_assert!(!self.delivered.contains(&id) && id < self.holes.hi());
            prop_assert!(self.holes.open().contains(id));
        }
        let mut parts = self.holes.fresh.clone();
        parts.union(&self.holes.cleared);
        self.holes.waiting.values().for_each(|holes| parts.union(holes));
        prop_assert_eq!(&parts, self.holes.open());
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn i1_no_id_that_can_commit_is_given_up_and_every_other_is(
        ops in prop::collection::vec(any::<u32>(), 0..150),
        commits in prop::array::uniform4(any::<bool>()),
    ) {
        let (mut database, mut relay) = (Database::default(), Relay::default());
        for op in ops.into_iter().map(Op::decode) {
            database.act(&op);
            relay.act(&op, &database)?;
        }
        relay.act(&Op::LockReadEnd, &database)?;
        // The holes above the last committed id show themselves when a later one commits.
        database.act(&Op::Unlock(0));
        database.act(&Op::End(0, commits[0]));
        database.act(&Op::Unlock(0));
        database.act(&Op::Draw(0, 1));
        for (b, &commit) in commits.iter().enumerate() {
            database.act(&Op::End(b, b == 0 || commit));
            database.act(&Op::Unlock(b));
        }
        for _ in 0..2 {
            relay.act(&Op::Read(usize::MAX), &database)?;
            relay.act(&Op::LockReadBegin(true), &database)?;
            relay.act(&Op::LockReadEnd, &database)?;
        }
        relay.act(&Op::Read(usize::MAX), &database)?;
        prop_assert_eq!(&relay.delivered, &database.visible);
        prop_assert_eq!(&relay.dead, &database.lost);
        prop_assert!(relay.holes.open().is_empty());
    }
}

fn ids(ranges: impl IntoIterator<Item = IdRange>) -> Vec<i64> {
    ranges.into_iter().flatten().collect()
}

fn holder(transaction: &str) -> Holder {
    Holder { transaction: transaction.to_owned(), prepared: false }
}

#[test]
fn a_hundred_thousand_holes_of_one_transaction_are_one_entry() {
    // GIVEN a transaction that drew every other id, and short ones that come and go
    let mut holes = Holes::default();
    for n in 0..1_000i64 {
        let ids: Vec<i64> = (0..100).map(|k| (n * 100 + k) * 2 + 2).collect();
        holes.read(&ids, false);
        holes.locks(&[holder("1/1"), holder(&format!("2/{n}"))], i64::MAX);
    }
    // THEN what waits for the same transactions stands together
    assert_eq!(holes.open().ranges_len(), 100_000);
    assert!(holes.waiting.len() <= 2, "{}", holes.waiting.len());
    assert_eq!(holes.oldest_holder(), Some("1/1"));
    // WHEN it commits, everything arrives
    holes.locks(&[], i64::MAX);
    let ids: Vec<i64> = (0..100_000).map(|n| n * 2 + 1).collect();
    assert_eq!(holes.read(&ids, false), Progress::default());
    assert!(holes.open().is_empty());
}

#[test]
fn an_orphaned_prepared_transaction_blocks_only_what_it_may_have_drawn() {
    // GIVEN a prepared transaction that drew id 1, seen prepared, then `last_value` = 3
    let prepared = Holder { prepared: true, ..holder("7/1") };
    let mut holes = Holes::default();
    holes.read(&[2, 3], false);
    holes.locks(std::slice::from_ref(&prepared), 3);
    holes.locks(std::slice::from_ref(&prepared), 3);
    // WHEN later ids are rolled back
    assert_eq!(ids(holes.read(&[5], false).opened), [4]);
    holes.locks(&[prepared], 5);
    // THEN they are given up, and its own is not
    assert_eq!(ids(holes.read(&[], false).dead), [4]);
    assert_eq!(ids(holes.open().iter()), [1]);
}

#[test]
fn a_last_value_from_before_it_was_seen_prepared_says_nothing() {
    // GIVEN a lock read whose `last_value` was read first, then id 1 was drawn and prepared
    let prepared = Holder { prepared: true, ..holder("7/1") };
    let mut holes = Holes::default();
    holes.locks(std::slice::from_ref(&prepared), 0);
    // WHEN the hole shows itself
    assert_eq!(ids(holes.read(&[2], false).opened), [1]);
    holes.locks(&[prepared], 2);
    // THEN it stays open
    assert_eq!(holes.read(&[], false), Progress::default());
}

#[test]
fn what_was_never_drawn_is_never_given_up() {
    let mut holes = Holes::default();
    holes.read(&[10], false);
    holes.locks(&[], 4);
    assert_eq!(ids(holes.read(&[], false).dead), [1, 2, 3, 4]);
}
