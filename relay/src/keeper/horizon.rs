//! How far the floor may move, and what stops it: read in one statement, decided by a pure function.

use std::time::Duration;

use serde::Serialize;
use tokio_postgres::{Error, GenericClient, Row};

use crate::schema::{Schema, identity};

/// Where the outbox and its ledgers stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Horizon {
    /// `meta.floor`: every message below it is deleted or kept.
    pub floor: i64,
    /// The last id the identity drew; 0 before the first.
    pub last_id: i64,
    /// In the order of their names.
    pub ledgers: Vec<LedgerHorizon>,
}

/// Where one ledger stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerHorizon {
    /// Its name.
    pub target: String,
    /// The lowest id from the floor on that is not settled.
    pub gap: i64,
    /// One past the highest id that is settled.
    pub end: i64,
    /// The lowest id of an open hole.
    pub hole: Option<i64>,
    /// Everything below it was settled at least `keep` ago; `None`: nothing is known to be so old.
    pub aged: Option<i64>,
    /// Its newest watermark lies in the future: the clock was set back.
    pub ahead: bool,
}

/// What keeps the floor where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "by")]
pub enum Held {
    /// Nothing: every id that was drawn is settled, and old enough.
    Nothing,
    /// No target has a ledger: nobody has settled anything.
    NoLedger,
    /// The identity went back (restarted, restored): which row an id of the ledger means is uncertain.
    IdentityWentBack {
        /// The last id the identity drew.
        last_id: i64,
        /// The ledger that knows a higher one; `None`: the floor lies above it.
        target: Option<String>,
    },
    /// A target has not settled this id.
    Pending {
        /// The target.
        target: String,
        /// The id.
        id: i64,
    },
    /// A transaction that is still open may commit this id.
    OpenHole {
        /// The target that has passed it.
        target: String,
        /// The id.
        id: i64,
    },
    /// What is settled is younger than `keep`.
    Keep {
        /// The target that settled it last.
        target: String,
    },
    /// As `Keep`, and longer: a watermark lies in the future, since the clock was set back.
    ClockWentBack {
        /// The target whose watermark it is.
        target: String,
    },
    /// One transaction looks up no more than `dead_ranges_max` dead ranges; the next goes on.
    DeadRanges {
        /// The id it stopped at.
        id: i64,
    },
}

/// The answer of [`Horizon::limit`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// The floor never passes this id: everything below it is settled by all targets.
    pub settled: i64,
    /// What is below it is old enough as well; at most `settled`.
    pub aged: i64,
    /// What stands at `aged`.
    pub held: Held,
}

impl Limit {
    /// No further than an id that a person names, and never below the floor.
    pub(super) fn below(mut self, id: Option<i64>, floor: i64) -> Self {
        if let Some(id) = id.map(|id| id.max(floor)) {
            self.settled = self.settled.min(id);
            self.aged = self.aged.min(id);
        }
        self
    }
}

impl Horizon {
    /// How far the floor may move. Never below the floor.
    #[must_use]
    pub fn limit(&self) -> Limit {
        let stay = |held| Limit { settled: self.floor, aged: self.floor, held };
        if self.ledgers.is_empty() {
            return stay(Held::NoLedger);
        }
        // An id of the ledger above the last one drawn will be drawn again, for another message,
        // and would be taken for settled. The pipeline stops and names `ledger rebuild`.
        if let Some(ahead) = self.ledgers.iter().find(|ledger| ledger.end - 1 > self.last_id) {
            let target = Some(ahead.target.clone());
            return stay(Held::IdentityWentBack { last_id: self.last_id, target });
        }
        if self.floor - 1 > self.last_id {
            return stay(Held::IdentityWentBack { last_id: self.last_id, target: None });
        }

        let mut limit =
            Limit { settled: self.last_id + 1, aged: self.last_id + 1, held: Held::Nothing };
        for ledger in &self.ledgers {
            if ledger.gap < limit.settled {
                limit.settled = ledger.gap;
                limit.held = Held::Pending { target: ledger.target.clone(), id: ledger.gap };
            }
            if let Some(id) = ledger.hole.filter(|&id| id < limit.settled) {
                limit.settled = id;
                limit.held = Held::OpenHole { target: ledger.target.clone(), id };
            }
        }
        limit.settled = limit.settled.max(self.floor);
        limit.aged = limit.settled;
        for ledger in &self.ledgers {
            let aged = ledger.aged.unwrap_or(self.floor).max(self.floor);
            if aged < limit.aged {
                let target = ledger.target.clone();
                limit.aged = aged;
                limit.held = match ledger.ahead {
                    true => Held::ClockWentBack { target },
                    false => Held::Keep { target },
                };
            }
        }
        limit
    }
}

// One statement, one snapshot; the sequence is not part of any, and is read after it was taken: it
// can only be higher than what the ledgers of the snapshot contain.
// `gap` is the upper bound of the settled range the floor lies in; unnest is ascending, and stops there.
const READ: &str = "
SELECT meta.floor,
       {last_id} AS last_id,
       ledger.target,
       coalesce((
           SELECT upper(range) FROM unnest(ledger.settled) AS range WHERE range @> meta.floor LIMIT 1
       ), meta.floor) AS gap,
       coalesce(upper(ledger.settled), 1) AS next,
       (SELECT min(lower(ranges)) FROM outbox.hole
         WHERE hole.target = ledger.target AND dead_at IS NULL) AS hole,
       (SELECT max(id) FROM outbox.watermark
         WHERE watermark.target = ledger.target AND at <= now() - make_interval(secs => $1)) AS aged,
       coalesce((SELECT max(at) FROM outbox.watermark
         WHERE watermark.target = ledger.target) > now(), false) AS ahead
FROM outbox.meta LEFT JOIN outbox.ledger ON true
ORDER BY ledger.target";

/// Reads where everything stands. With `keep` zero, whatever is settled is old enough.
///
/// # Errors
/// The database's.
pub async fn read(
    client: &impl GenericClient,
    schema: &Schema,
    keep: Duration,
) -> Result<Horizon, Error> {
    let text = identity::with_last_id(client, schema, READ).await?;
    let rows = client.query(&text, &[&keep.as_secs_f64()]).await?;
    let meta = rows.first().expect("meta has exactly one row");
    Ok(Horizon {
        floor: meta.try_get("floor")?,
        last_id: meta.try_get("last_id")?,
        ledgers: rows
            .iter()
            .filter_map(|row| ledger(row, keep).transpose())
            .collect::<Result<_, _>>()?,
    })
}

fn ledger(row: &Row, keep: Duration) -> Result<Option<LedgerHorizon>, Error> {
    let Some(target) = row.try_get::<_, Option<String>>("target")? else { return Ok(None) };
    let aged = if keep.is_zero() { Some(i64::MAX) } else { row.try_get("aged")? };
    Ok(Some(LedgerHorizon {
        target,
        gap: row.try_get("gap")?,
        end: row.try_get("next")?,
        hole: row.try_get("hole")?,
        aged,
        ahead: row.try_get("ahead")?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(target: &str, gap: i64) -> LedgerHorizon {
        LedgerHorizon {
            target: target.to_owned(),
            gap,
            end: gap,
            hole: None,
            aged: Some(i64::MAX),
            ahead: false,
        }
    }

    fn horizon(ledgers: Vec<LedgerHorizon>) -> Horizon {
        Horizon { floor: 10, last_id: 99, ledgers }
    }

    #[test]
    fn without_a_ledger_nothing_moves() {
        let limit = horizon(vec![]).limit();
        assert_eq!((limit.settled, limit.held), (10, Held::NoLedger));
    }

    #[test]
    fn the_slowest_ledger_decides() {
        let limit = horizon(vec![ledger("a", 100), ledger("b", 50)]).limit();
        assert_eq!((limit.settled, limit.aged), (50, 50));
        assert_eq!(limit.held, Held::Pending { target: "b".to_owned(), id: 50 });
    }

    #[test]
    fn an_open_hole_is_not_passed() {
        let hole = LedgerHorizon { hole: Some(30), ..ledger("a", 100) };
        let limit = horizon(vec![hole, ledger("b", 50)]).limit();
        assert_eq!(limit.settled, 30);
        assert_eq!(limit.held, Held::OpenHole { target: "a".to_owned(), id: 30 });
    }

    #[test]
    fn a_hole_below_the_floor_stops_it_where_it_is() {
        let hole = LedgerHorizon { hole: Some(3), ..ledger("a", 100) };
        assert_eq!(horizon(vec![hole]).limit().settled, 10);
    }

    #[test]
    fn the_youngest_settling_decides_the_age() {
        let young = LedgerHorizon { aged: Some(20), ..ledger("a", 100) };
        let limit = horizon(vec![young, ledger("b", 90)]).limit();
        assert_eq!((limit.settled, limit.aged), (90, 20));
        assert_eq!(limit.held, Held::Keep { target: "a".to_owned() });
    }

    #[test]
    fn no_watermark_means_too_young() {
        let unknown = LedgerHorizon { aged: None, ahead: true, ..ledger("a", 100) };
        let limit = horizon(vec![unknown]).limit();
        assert_eq!((limit.settled, limit.aged), (100, 10));
        assert_eq!(limit.held, Held::ClockWentBack { target: "a".to_owned() });
    }

    #[test]
    fn an_identity_that_went_back_stops_everything() {
        let limit = horizon(vec![ledger("a", 100), ledger("b", 101)]).limit();
        let held = Held::IdentityWentBack { last_id: 99, target: Some("b".to_owned()) };
        assert_eq!((limit.settled, limit.aged, limit.held), (10, 10, held));

        let limit = Horizon { last_id: 8, ..horizon(vec![ledger("a", 1)]) }.limit();
        assert_eq!(limit.held, Held::IdentityWentBack { last_id: 8, target: None });
    }

    #[test]
    fn all_settled_and_old_is_held_by_nothing() {
        let limit = horizon(vec![ledger("a", 100)]).limit();
        assert_eq!((limit.settled, limit.aged, limit.held), (100, 100, Held::Nothing));
    }
}
