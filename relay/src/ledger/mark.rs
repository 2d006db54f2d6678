//! Writes marks: each is one statement on the session that holds the lock, by the row's ctid.

use futures_util::future::try_join_all;
use tokio_postgres::{Row, Statement};
use uuid::Uuid;

use super::aside::{self, COUNT as COUNT_RETRY, COUNTED_ROWS};
use super::{Buried, Due, Mark};
use crate::database::{DatabaseError, Reaction, Session};
use crate::lease::Lease;
use crate::range::RangeSet;
use crate::schema::Schema;

/// Ranges in one row of `hole`: a multirange of that length is about 20 kB.
const HOLE_RANGES_MAX: usize = 1_000;

/// Statements of a pen.
const STATEMENTS: u32 = 14;

/// The pen of one pipeline: its statements, and where its ledger row lies.
#[derive(Debug)]
pub struct Marker {
    target: String,
    epoch: Uuid,
    ctid: String,
    statements: Statements,
    /// The ledger has the mark under way; what follows it is still to be done.
    settled: bool,
}

/// What a pen writes with: prepared before there is anything to write, since a leader that goes is missed
/// until its successor can.
#[derive(Debug)]
pub struct Statements {
    plain: Statement,
    full: Statement,
    /// With what becomes of `outbox.unrouted`: in nearly no mark.
    routing: Statement,
    find: Statement,
    promote: Statement,
    release: Statement,
    probe: Statement,
    count: Statement,
    count_retry: Statement,
    start: Statement,
    end: Statement,
    tried: Statement,
    note: Statement,
    copy: Statement,
}

/// Why a mark was not written.
#[derive(Debug, thiserror::Error)]
pub enum MarkError {
    /// The connection, and with it the lease.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// Somebody rewrote the ledger (or removed it): what the pipeline knows is void.
    #[error("the ledger of this target was rebuilt or removed meanwhile")]
    Rewritten,
}

impl From<tokio_postgres::Error> for MarkError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error.into())
    }
}

impl Statements {
    /// Prepares them, all at once.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub async fn prepare(session: &Session, schema: &Schema) -> Result<Self, DatabaseError> {
        let full = FULL.replace("{plain}", PLAIN);
        let routing = full.replace("{routing}", ROUTING);
        let full = full.replace("{routing}", "");
        let texts = [
            PLAIN,
            &full,
            &routing,
            FIND,
            PROMOTE,
            &release(),
            PROBE,
            COUNT,
            COUNT_RETRY,
            START,
            END,
            TRIED,
            NOTE,
            COPY,
        ];
        let texts = texts.map(|text| schema.sql(text));
        let prepared = try_join_all(texts.iter().map(|text| session.prepare(text)));
        let prepared = session.deadline().answers(STATEMENTS, prepared).await??;
        let [
            plain,
            full,
            routing,
            find,
            promote,
            release,
            probe,
            count,
            count_retry,
            start,
            end,
            tried,
            note,
            copy,
        ] = prepared.try_into().expect("each text is one statement");
        Ok(Self {
            plain,
            full,
            routing,
            find,
            promote,
            release,
            probe,
            count,
            count_retry,
            start,
            end,
            tried,
            note,
            copy,
        })
    }
}

impl Marker {
    /// For the ledger row of `target` that lies at `ctid`.
    #[must_use]
    pub fn new(statements: Statements, target: &str, epoch: Uuid, ctid: String) -> Self {
        Self { target: target.to_owned(), epoch, ctid, statements, settled: false }
    }

    /// Commits the mark. What is left of its `releases` has more to release, its `probes` say how many
    /// rows they have found, and what it was asked to count is counted.
    ///
    /// Where a statement fails and the session goes on, the same mark can be written again: what is
    /// committed is not written twice.
    ///
    /// Cancel safety: not cancel-safe. A dropped future may or may not have committed it; the
    /// pipeline then starts anew from what the database has.
    ///
    /// # Errors
    /// See [`MarkError`].
    pub async fn write(&mut self, lease: &Lease, mark: &mut Mark) -> Result<(), MarkError> {
        if !self.settled {
            if let Some(broker) = &mark.broker {
                // Before what was settled there.
                let (kind, place) = (broker.kind.as_str(), &broker.place);
                let row = lease
                    .query_opt(&self.statements.note, &[&self.target, &self.epoch, &kind, place])
                    .await?;
                self.ctid = row.ok_or(MarkError::Rewritten)?.try_get(0)?;
                mark.broker = None;
            }
            self.settle(lease, mark).await?;
            self.settled = true;
        }
        if !mark.keys.is_empty() {
            // Its own statement: the heads are known only once the mark is committed.
            lease.query_opt(&self.statements.promote, &[&self.target, &mark.keys]).await?;
        }
        if let Some(id) = mark.started {
            let row =
                lease.query_opt(&self.statements.start, &[&self.target, &self.epoch, &id]).await?;
            self.ctid = row.ok_or(MarkError::Rewritten)?.try_get(0)?;
        }
        if mark.ended
            && let Some(row) = self.end(lease).await?
        {
            self.ctid = row.try_get(0)?;
        }
        if mark.routes_tried {
            lease.query_opt(&self.statements.tried, &[&self.target]).await?;
        }
        self.unpark(lease, mark).await?;
        self.count(lease, mark).await?;
        self.settled = false;
        Ok(())
    }

    async fn settle(&mut self, lease: &Lease, mark: &mut Mark) -> Result<(), MarkError> {
        let written = match self.try_write(lease, mark).await {
            Err(MarkError::Database(error))
                if error.reaction() == Reaction::Data && self.bury_bare(lease, mark).await? =>
            {
                self.try_write(lease, mark).await?
            }
            written => written?,
        };
        if written {
            return Ok(());
        }
        // The row moved without us: a VACUUM FULL, a restore. The epoch says whether it is ours.
        let row = lease.query_opt(&self.statements.find, &[&self.target]).await?;
        let row = row.ok_or(MarkError::Rewritten)?;
        if row.try_get::<_, Uuid>(1)? != self.epoch {
            return Err(MarkError::Rewritten);
        }
        self.ctid = row.try_get(0)?;
        if self.try_write(lease, mark).await? { Ok(()) } else { Err(MarkError::Rewritten) }
    }

    /// A damaged value cannot be copied into `dead`: finds the burials that it keeps from being
    /// written. They go there without key, headers and payload. Whether there are any.
    async fn bury_bare(&self, lease: &Lease, mark: &mut Mark) -> Result<bool, MarkError> {
        let mut any = false;
        for row in mark.buried.iter_mut().filter(|row| !row.bare) {
            match lease.query_opt(&self.statements.copy, &[&row.id, &self.target]).await {
                Err(error) if error.reaction() == Reaction::Data => {
                    row.bare = true;
                    row.reason.push_str("; dead has neither its key nor its headers and payload");
                    any = true;
                }
                answer => drop(answer?),
            }
        }
        Ok(any)
    }

    /// Writes that no message ended this life: those that were ended early are not counted any more.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub async fn end(&self, lease: &Lease) -> Result<Option<Row>, DatabaseError> {
        lease.query_opt(&self.statements.end, &[&self.target, &self.epoch]).await
    }

    async fn unpark(&self, lease: &Lease, mark: &mut Mark) -> Result<(), MarkError> {
        let (mut releases, mut probes) = (Vec::new(), Vec::new());
        for name in &mark.releases {
            let row = lease.query_opt(&self.statements.release, &[&self.target, &&**name]).await?;
            let released = row.map(|row| row.try_get::<_, i64>(0)).transpose()?;
            if released.is_some_and(|rows| rows >= RELEASED_ROWS_MAX) {
                releases.push(name.clone());
            }
        }
        for probe in &mark.probes {
            let rows = i64::from(probe.rows);
            let mut probe = probe.clone();
            for after in [probe.after, 0] {
                let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
                    [&self.target, &&*probe.destination, &rows, &after];
                let row = lease.query_opt(&self.statements.probe, &parameters).await?;
                let found = row
                    .map(|row| Ok::<_, tokio_postgres::Error>((row.try_get(0)?, row.try_get(1)?)));
                let (found, last): (i64, Option<i64>) = found.transpose()?.unwrap_or((0, None));
                probe.found = u32::try_from(found).unwrap_or(u32::MAX);
                probe.after = last.unwrap_or(0);
                if found > 0 || after == 0 {
                    break;
                }
            }
            probes.push(probe);
        }
        // Only now: should one of them fail, all of them are done again.
        (mark.releases, mark.probes) = (releases, probes);
        Ok(())
    }

    async fn count(&self, lease: &Lease, mark: &mut Mark) -> Result<(), MarkError> {
        for (name, rows) in &mut mark.counts {
            let row = lease.query_opt(&self.statements.count, &[&self.target, &&**name]).await?;
            *rows = row.expect("an aggregate has one row").try_get::<_, i64>(0)?.unsigned_abs();
        }
        if mark.count_retry {
            let count = &self.statements.count_retry;
            let rows = aside::count(count, lease, &self.target, COUNTED_ROWS).await?;
            mark.retry_rows = Some(rows);
        }
        Ok(())
    }

    async fn try_write(&mut self, lease: &Lease, mark: &Mark) -> Result<bool, MarkError> {
        let settled = mark.settled.to_string();
        let row = if mark.is_plain() {
            let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
                [&settled, &self.ctid, &self.target, &self.epoch];
            lease.query_opt(&self.statements.plain, &parameters).await?
        } else {
            self.write_full(lease, mark, &settled).await?
        };
        let Some(row) = row else { return Ok(false) };
        self.ctid = row.try_get(0)?;
        Ok(true)
    }

    async fn write_full(
        &self,
        lease: &Lease,
        mark: &Mark,
        settled: &str,
    ) -> Result<Option<Row>, MarkError> {
        let aside = &mark.set_aside;
        let ids = column(aside, |row| row.id);
        let keys = column(aside, |row| row.key.as_deref());
        let holds = column(aside, |row| row.holds);
        let attempts = column(aside, |row| i32::try_from(row.attempts).unwrap_or(i32::MAX));
        let due = column(aside, |row| due_secs(row.due));
        let classes = column(aside, |row| row.class.as_str());
        let reasons = column(aside, |row| row.reason.as_deref());
        let destinations = column(aside, |row| row.destination.as_deref());
        let sent = column(aside, |row| row.sent);
        let dead = &mark.buried;
        let dead_ids = column(dead, |row: &Buried| row.id);
        let dead_attempts = column(dead, |row| i32::try_from(row.attempts).unwrap_or(i32::MAX));
        let dead_reasons = column(dead, |row| row.reason.as_str());
        let bare = column(dead, |row: &Buried| row.bare);
        // A burial that holds its key keeps its row in `retry`.
        let buried = dead.iter().filter(|row| !row.holds).map(|row| row.id);
        let leaving: Vec<i64> = mark.resolved.iter().copied().chain(buried).collect();
        let opened = hole_rows(&mark.opened);
        let died = hole_rows(&mark.dead);
        let closed = mark.closed.to_string();
        let noted = &mark.unrouted;
        let topics = column(noted, |row| row.topic.as_deref());
        let types = column(noted, |row| row.kind.as_deref());
        let first_ids = column(noted, |row| row.first_id);
        let open_from = column(noted, |row| row.open_from);
        let late = column(noted, |row| row.late.to_string());
        let mut parameters: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> = vec![
            &settled,
            &self.ctid,
            &self.target,
            &self.epoch,
            &closed,
            &opened,
            &died,
            &ids,
            &keys,
            &holds,
            &attempts,
            &due,
            &classes,
            &reasons,
            &mark.resolved,
            &dead_ids,
            &dead_attempts,
            &dead_reasons,
            &leaving,
            &destinations,
            &sent,
            &bare,
        ];
        let mut statement = &self.statements.full;
        if mark.is_about_routes() {
            statement = &self.statements.routing;
            parameters.extend::<[&(dyn tokio_postgres::types::ToSql + Sync); 6]>([
                &topics,
                &types,
                &first_ids,
                &open_from,
                &late,
                &mark.sent_after_all,
            ]);
        }
        Ok(lease.query_opt(statement, &parameters).await?)
    }
}

fn column<'a, R, T>(rows: &'a [R], of: impl Fn(&'a R) -> T) -> Vec<T> {
    rows.iter().map(of).collect()
}

/// Seconds from now; NULL and infinity are what the columns say.
fn due_secs(due: Due) -> Option<f64> {
    match due {
        Due::Head => None,
        Due::In(wait) => Some(wait.as_secs_f64()),
        Due::Never => Some(f64::INFINITY),
    }
}

/// The set as texts of at most `HOLE_RANGES_MAX` ranges each.
fn hole_rows(set: &RangeSet) -> Vec<String> {
    let ranges: Vec<_> = set.iter().collect();
    ranges
        .chunks(HOLE_RANGES_MAX)
        .map(|part| part.iter().cloned().collect::<RangeSet>().to_string())
        .collect()
}

// A Tid Scan, 17–22 µs however long a snapshot pins dead versions; by primary key it grew from 61
// to 626 µs over 40,000 updates. A HOT update: no index has a changed column.
const PLAIN: &str = "
UPDATE outbox.ledger
SET settled = settled + $1::text::int8multirange, marked_at = clock_timestamp(),
        crashes = CASE WHEN started_id IS NULL AND began_at < clock_timestamp() - interval '10 s' THEN 0 ELSE crashes END
WHERE ctid = $2::text::tid AND target = $3 AND epoch = $4
RETURNING ctid::text";

// By key: only while a careful life looks for the message that ends the process.
const START: &str = "
UPDATE outbox.ledger SET started_id = $3
WHERE target = $1 AND epoch = $2
RETURNING ctid::text";

const END: &str = "
UPDATE outbox.ledger SET crashes = 0, started_id = NULL, suspect_id = NULL, suspected = 0
WHERE target = $1 AND epoch = $2 AND (crashes > 0 OR started_id IS NOT NULL OR suspected > 0)
RETURNING ctid::text";

const TRIED: &str = "UPDATE outbox.route SET tried = true WHERE target = $1 AND NOT tried";
const NOTE: &str = "
UPDATE outbox.ledger SET broker_kind = $3, broker_place = $4
WHERE target = $1 AND epoch = $2
RETURNING ctid::text";

// Reads what a burial copies, on the server: whether that can be read at all.
const COPY: &str = "
SELECT md5(payload), md5(headers::text), md5(key)
FROM (
    SELECT payload, headers, key FROM outbox.message WHERE id = $1
    UNION ALL
    SELECT payload, headers, key FROM outbox.dead WHERE target = $2 AND id = $1
    LIMIT 1
) AS m";

const FIND: &str = "SELECT ctid::text, epoch FROM outbox.ledger WHERE target = $1";

// Every part depends on `marked`, so nothing is written unless the ledger row was ours. Two
// statements, even pipelined, would be two transactions.
const FULL: &str = "
WITH marked AS (
    {plain}
), closed AS (
    DELETE FROM outbox.hole USING marked
    WHERE target = $3 AND dead_at IS NULL AND ranges <@ $5::text::int8multirange
), split AS (
    UPDATE outbox.hole SET ranges = ranges - $5::text::int8multirange FROM marked
    WHERE target = $3 AND dead_at IS NULL AND ranges && $5::text::int8multirange
      AND NOT ranges <@ $5::text::int8multirange
), opened AS (
    INSERT INTO outbox.hole (target, ranges)
    SELECT $3, part::int8multirange FROM marked, unnest($6::text[]) AS part
), died AS (
    INSERT INTO outbox.hole (target, ranges, dead_at)
    SELECT $3, part::int8multirange, clock_timestamp() FROM marked, unnest($7::text[]) AS part
), set_aside AS (
    INSERT INTO outbox.retry (target, id, key, holds, attempts, next_at, class, reason, destination, sent)
    SELECT $3, a.id, a.key, a.holds, a.attempts,
           CASE WHEN a.due = 'infinity' THEN timestamptz 'infinity'
                ELSE clock_timestamp() + make_interval(secs => a.due) END,
           a.class, a.reason, a.destination, a.sent
    FROM marked, unnest($8::bigint[], $9::text[], $10::boolean[], $11::int[], $12::float8[],
                        $13::text[], $14::text[], $20::text[], $21::boolean[])
         AS a(id, key, holds, attempts, due, class, reason, destination, sent)
    ON CONFLICT (target, id) DO UPDATE
    SET attempts = excluded.attempts, next_at = excluded.next_at, class = excluded.class,
        reason = excluded.reason, destination = excluded.destination,
        sent = retry.sent OR excluded.sent
    RETURNING 1
), resolved AS (
    DELETE FROM outbox.retry USING marked
    WHERE target = $3 AND id = ANY ($19::bigint[])
), delivered AS (
    -- A requeued message keeps its dead copy until it is delivered: it may be the last there is.
    -- The copy of another message stays: ids are drawn again after the identity went back.
    DELETE FROM outbox.dead USING marked
    WHERE target = $3 AND id = ANY ($15::bigint[]) AND NOT EXISTS (
        SELECT FROM outbox.message AS m WHERE m.id = dead.id AND m.message_id <> dead.message_id
    )
), dying AS (
    SELECT m.id, m.message_id, m.topic, m.type, m.created_at, b.attempts, b.reason,
           CASE WHEN NOT b.bare THEN m.key END AS key,
           CASE WHEN NOT b.bare THEN m.headers END AS headers,
           CASE WHEN NOT b.bare THEN m.payload END AS payload
    FROM marked,
         unnest($16::bigint[], $17::int[], $18::text[], $22::boolean[])
             AS b(id, attempts, reason, bare),
         LATERAL (
             SELECT id, message_id, topic, key, type, headers, payload, created_at
             FROM outbox.message WHERE id = b.id
             UNION ALL
             SELECT id, message_id, topic, key, type, headers, payload, created_at
             FROM outbox.dead WHERE target = $3 AND id = b.id
             LIMIT 1
         ) AS m
), replaced AS (
    -- Nobody decided that the message which had the id before is not sent: its content is kept.
    INSERT INTO outbox.displaced (target, id, message_id, displaced_by, copy, payload)
    SELECT $3, dead.id, dead.message_id, dying.message_id, to_jsonb(r), dead.payload
    FROM dying
    JOIN outbox.dead ON dead.target = $3 AND dead.id = dying.id AND dead.message_id <> dying.message_id,
         LATERAL (SELECT dead.topic, dead.type, dead.key, dead.headers, dead.created_at, dead.died_at,
                         dead.attempts, dead.class, dead.reason) AS r
), buried AS (
    INSERT INTO outbox.dead (target, id, message_id, topic, key, type, headers, payload,
                             created_at, attempts, class, reason)
    SELECT $3, id, message_id, topic, key, type, headers, payload, created_at, attempts, 'refused', reason
    FROM dying
    ON CONFLICT (target, id) DO UPDATE
    SET message_id = excluded.message_id, topic = excluded.topic, key = excluded.key,
        type = excluded.type, headers = excluded.headers, payload = excluded.payload,
        created_at = excluded.created_at, attempts = excluded.attempts, class = excluded.class,
        reason = excluded.reason, died_at = now()
    RETURNING 1
){routing}
-- A trigger may drop a row that is settled here: then it would stand nowhere. The cast ends the
-- statement.
SELECT ctid FROM marked
WHERE (CASE WHEN (SELECT count(*) FROM set_aside) < cardinality($8::bigint[])
              OR (SELECT count(*) FROM buried) < (SELECT count(*) FROM dying)
            THEN 'a trigger on outbox.retry or outbox.dead drops rows' ELSE '0' END)::int = 0";

// An end of 2^62 + 1 is none. What is taken out is never of a row that is noted: a topic that the routes
// take is not noted under them.
const ROUTING: &str = ", noted AS (
    INSERT INTO outbox.unrouted AS unrouted (target, hash, topic, type, first_id, ids, taken)
    SELECT $3, route.hash, n.topic, n.type, n.first_id,
           n.late::int8multirange + CASE WHEN n.open_from IS NULL THEN '{}'
               ELSE int8multirange(int8range(n.open_from, 4611686018427387905)) END,
           CASE WHEN n.topic IS NULL THEN route.taken END
    FROM marked, outbox.route,
         unnest($23::text[], $24::text[], $25::bigint[], $26::bigint[], $27::text[])
         AS n(topic, type, first_id, open_from, late)
    WHERE route.target = $3
    ON CONFLICT (target, hash, coalesce(topic, ''), coalesce(type, ''), (type IS NULL)) DO UPDATE
    SET ids = unrouted.ids + excluded.ids,
        first_id = least(unrouted.first_id, excluded.first_id),
        seen_id = greatest(unrouted.seen_id, excluded.first_id),
        closed_at = CASE WHEN upper(excluded.ids) = 4611686018427387905 THEN NULL
                         ELSE unrouted.closed_at END
), covered AS (
    SELECT unrouted_id, range_agg(int8range(m.id, m.id + 1)) AS ids
    FROM marked, outbox.message AS m
    JOIN outbox.unrouted AS u ON u.target = $3 AND u.ids @> m.id AND (
        u.topic = m.topic AND u.type IS NOT DISTINCT FROM m.type
        OR u.topic IS NULL AND NOT EXISTS (
            SELECT FROM jsonb_to_recordset(u.taken) AS taken(topic text, type text)
            WHERE m.topic LIKE taken.topic AND (taken.type IS NULL OR m.type LIKE taken.type)
        )
    )
    WHERE m.id = ANY ($28::bigint[])
    GROUP BY unrouted_id
), sent_after_all AS (
    UPDATE outbox.unrouted AS u SET ids = u.ids - covered.ids
    FROM covered WHERE u.unrouted_id = covered.unrouted_id
)";

// The head of each key is due, unless it waits for a time of its own: retry_by_key gives the head.
const PROMOTE: &str = "
UPDATE outbox.retry SET next_at = clock_timestamp()
FROM unnest($2::text[]) AS held(key),
     LATERAL (
         SELECT h.id FROM outbox.retry AS h
         WHERE h.target = $1 AND h.key = held.key AND h.holds
         ORDER BY h.id LIMIT 1
     ) AS head
WHERE retry.target = $1 AND retry.id = head.id AND retry.next_at IS NULL";

/// Rows that one mark releases: a parked destination may have gathered millions.
const RELEASED_ROWS_MAX: i64 = 1_000;

// The lowest first: they have waited longest. FOR UPDATE is not needed, only this session changes them.
const RELEASE: &str = "
WITH released AS (
    UPDATE outbox.retry SET next_at = clock_timestamp()
    WHERE target = $1 AND id = ANY (ARRAY(
        SELECT id FROM outbox.retry
        WHERE target = $1 AND destination = $2 AND next_at = 'infinity'
        ORDER BY id LIMIT {limit}
    ))
    RETURNING 1
)
SELECT count(*) FROM released";

fn release() -> String {
    RELEASE.replace("{limit}", &RELEASED_ROWS_MAX.to_string())
}

// A row that waits behind an earlier one of its key cannot try anything.
const PROBE: &str = "
WITH probing AS (
    UPDATE outbox.retry SET next_at = clock_timestamp()
    WHERE target = $1 AND id = ANY (ARRAY(
        SELECT r.id FROM outbox.retry AS r
        WHERE r.target = $1 AND r.destination = $2 AND r.next_at = 'infinity'
          AND r.id > $4
          AND NOT (r.holds AND EXISTS (
              SELECT FROM outbox.retry AS e
              WHERE e.target = $1 AND e.holds AND e.key = r.key AND e.id < r.id
          ))
        ORDER BY r.id LIMIT $3
    ))
    RETURNING id
)
SELECT count(*), max(id) FROM probing";

// Of one route; bounded, since a lease has a second at least.
const COUNT: &str = "
SELECT count(*) FROM (
    SELECT FROM outbox.retry
    WHERE target = $1 AND destination = $2 AND next_at = 'infinity' LIMIT 1000000
) AS waiting";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_written_in_rows_of_bounded_length() {
        let set: RangeSet = (0..2_500).map(|n| n * 2 + 1..n * 2 + 2).collect();
        let rows = hole_rows(&set);
        assert_eq!(rows.len(), 3);
        let mut all = RangeSet::new();
        for row in &rows {
            let part: RangeSet = row.parse().unwrap();
            assert!(part.ranges_len() <= HOLE_RANGES_MAX);
            all.union(&part);
        }
        assert_eq!(all, set);
    }
}
