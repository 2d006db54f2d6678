//! An outbox with ledgers written by hand: the states a pipeline would leave, one call each.

use std::time::Duration;

use outbox_relay::config::RetentionConfig;
use outbox_relay::keeper::kept;
use outbox_relay::keeper::retention::{self, Round};
use outbox_relay::keeper::sweep::{self, Position};
use outbox_relay::schema::Schema;
use tokio_postgres::Client;

use crate::support::database::Database;
use crate::support::patience::until;
use crate::support::session::Session;

/// A database of its own, with the session of its owner.
pub(crate) struct Outbox {
    pub(crate) database: Database,
    pub(crate) session: Session,
    pub(crate) schema: Schema,
}

impl Outbox {
    pub(crate) async fn create() -> Self {
        let database = Database::create().await;
        let session = database.connect().await;
        Self { database, session, schema: Schema::default() }
    }

    /// Another session of the owner.
    pub(crate) async fn another(&self) -> Session {
        self.database.connect().await
    }

    pub(crate) async fn run(&self, sql: &str) {
        self.session.run(sql).await;
    }

    pub(crate) async fn count(&self, sql: &str) -> i64 {
        self.session.count(sql).await
    }

    /// Commits so many messages, each with a key of its own.
    pub(crate) async fn insert(&self, rows: i64) {
        self.run(&format!(
            "INSERT INTO outbox.message (topic, key, payload)
             SELECT 'order.placed', 'key-' || n, 'x' FROM generate_series(1, {rows}) AS n"
        ))
        .await;
    }

    /// Draws ids that nobody will ever commit.
    pub(crate) async fn roll_back(&self, rows: i64) {
        self.run(&format!(
            "BEGIN; INSERT INTO outbox.message (topic) SELECT 'x' FROM generate_series(1, {rows}); ROLLBACK"
        ))
        .await;
    }

    /// What a mark does to the ledger; makes it if need be. `ranges` as in `{[1,4)}`.
    pub(crate) async fn settle(&self, target: &str, ranges: &str) {
        settle(&self.session, target, ranges).await;
    }

    pub(crate) async fn open_hole(&self, target: &str, ranges: &str) {
        self.run(&format!(
            "INSERT INTO outbox.hole (target, ranges) VALUES ('{target}', '{ranges}')"
        ))
        .await;
    }

    pub(crate) async fn dead_range(&self, target: &str, ranges: &str) {
        self.run(&format!(
            "INSERT INTO outbox.hole (target, ranges, dead_at) VALUES ('{target}', '{ranges}', now())"
        ))
        .await;
    }

    pub(crate) async fn retry(&self, target: &str, id: i64) {
        self.run(&format!(
            "INSERT INTO outbox.retry (target, id, key, holds, attempts, next_at, class)
             VALUES ('{target}', {id}, 'key-{id}', true, 1, now(), 'refused')"
        ))
        .await;
    }

    /// Copies a message to `dead`, as the mark does that gives it up.
    pub(crate) async fn bury(&self, target: &str, id: i64, reason: &str) {
        self.run(&format!(
            "INSERT INTO outbox.dead (target, id, message_id, topic, type, key, headers, payload,
                                      created_at, attempts, class, reason)
             SELECT '{target}', id, message_id, topic, type, key, headers, payload, created_at,
                    3, 'refused', '{reason}'
             FROM outbox.message WHERE id = {id}"
        ))
        .await;
    }

    /// The watermark that says: everything below `id` was settled so long ago (negative: ahead).
    pub(crate) async fn settled_ago(&self, target: &str, id: i64, hours: i64) {
        self.run(&format!(
            "INSERT INTO outbox.watermark VALUES ('{target}', {id}, now() - interval '{hours} h')"
        ))
        .await;
    }

    /// Ids from a table that has them, ascending.
    pub(crate) async fn ids(&self, from: &str) -> Vec<i64> {
        let rows =
            self.session.query(&format!("SELECT id FROM {from} ORDER BY id"), &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    pub(crate) async fn messages(&self) -> Vec<i64> {
        self.ids("outbox.message").await
    }

    /// The ids that are late for a target.
    pub(crate) async fn late(&self, target: &str) -> Vec<i64> {
        self.ids(&format!(
            "outbox.retry WHERE target = '{target}' AND class = 'late' AND NOT holds AND next_at <= now()"
        ))
        .await
    }

    pub(crate) async fn floor(&self) -> i64 {
        self.count("SELECT floor FROM outbox.meta").await
    }

    pub(crate) async fn late_rows(&self) -> i64 {
        self.count("SELECT late_rows FROM outbox.meta").await
    }

    /// One round of retention with nothing but the settling to wait for.
    pub(crate) async fn retain(&mut self) -> Round {
        self.retain_with(&keep_nothing()).await
    }

    pub(crate) async fn retain_with(&mut self, config: &RetentionConfig) -> Round {
        retain(&mut self.session, config).await
    }

    /// A whole pass of the sweep: how many late rows it made.
    pub(crate) async fn sweep(&mut self) -> u64 {
        let (mut late, mut position) = (0, Some(Position::default()));
        while let Some(at) = position {
            let piece = sweep::piece(&mut self.session, &self.schema, at).await.unwrap();
            late += piece.late;
            position = piece.next;
        }
        late
    }

    /// Deletes what is kept and no longer needed.
    pub(crate) async fn release(&mut self) -> u64 {
        kept::piece(&mut self.session, &self.schema, 0, 1_000, &[]).await.unwrap().deleted
    }

    /// Waits until a session waits for a lock.
    pub(crate) async fn blocked(&self, pid: i32) {
        until("a session that waits for a lock", async || {
            let text =
                "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event_type = 'Lock'";
            let row = self.session.query_one(text, &[&pid]).await.unwrap();
            (row.get::<_, i64>(0) == 1).then_some(())
        })
        .await;
    }
}

pub(crate) async fn settle(client: &Client, target: &str, ranges: &str) {
    let text = format!(
        "INSERT INTO outbox.ledger (target, settled) VALUES ('{target}', '{ranges}')
         ON CONFLICT (target) DO UPDATE SET settled = ledger.settled + excluded.settled, marked_at = now()"
    );
    client.batch_execute(&text).await.unwrap();
}

pub(crate) async fn retain(client: &mut Client, config: &RetentionConfig) -> Round {
    retention::round(client, &Schema::default(), config, 1_000_000, &[]).await.unwrap()
}

pub(crate) async fn pid(client: &Client) -> i32 {
    client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0)
}

/// Deletes as soon as all targets have settled.
pub(crate) fn keep_nothing() -> RetentionConfig {
    RetentionConfig {
        keep: Duration::ZERO,
        keep_rows_max: u64::MAX,
        interval: Duration::from_millis(20),
        delete_rows_max: 10_000,
        dead: None,
    }
}

/// Keeps settled rows for so many hours.
pub(crate) fn keep_hours(hours: u64) -> RetentionConfig {
    RetentionConfig { keep: Duration::from_secs(hours * 3_600), ..keep_nothing() }
}
