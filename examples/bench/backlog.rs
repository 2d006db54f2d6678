//! An outbox full of rows that nobody has read yet.

use std::time::Duration;

use crate::rig::Rig;
use crate::support::database::Database;
use crate::support::session::Session;

/// Rows of one transaction: what an application's batch job writes.
const TRANSACTION_ROWS: u64 = 1_000;
/// Payloads that differ: enough that nothing can compress one row by another.
const VARIANTS: u64 = 100;
/// Ordering keys of the rows.
pub(crate) const KEYS: u64 = 1_000;

/// Between two looks at the ledger.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// A database of its own with rows in its outbox.
pub(crate) struct Backlog {
    pub(crate) database: Database,
    /// As the role that the relay uses.
    pub(crate) relay_url: String,
    pub(crate) rows: u64,
    pub(crate) payload_bytes: usize,
}

impl Backlog {
    /// Writes `rows` rows; afterwards PostgreSQL has nothing left to do with them.
    pub(crate) async fn load(rig: &Rig, rows: u64, payload_bytes: usize) -> Self {
        let mut backlog = Self::empty(rig, payload_bytes).await;
        backlog.write(rows).await;
        backlog
    }

    /// Without rows.
    pub(crate) async fn empty(rig: &Rig, payload_bytes: usize) -> Self {
        let database = Database::create_on(rig.postgres.url()).await;
        let relay_url = database.url_as(&database.create_relay().await);
        let session = database.connect().await;
        session.run(&variants(payload_bytes)).await;
        session.run(LOAD).await;
        Self { database, relay_url, rows: 0, payload_bytes }
    }

    /// Adds rows.
    pub(crate) async fn write(&mut self, rows: u64) {
        let session = self.database.connect().await;
        session.run("SET synchronous_commit = off").await;
        session.run(&format!("CALL bench.load({rows}, {TRANSACTION_ROWS}, {VARIANTS})")).await;
        self.rows += rows;
        settle(&session).await;
    }

    /// Back to nothing settled by anybody: the next relay finds all rows pending.
    pub(crate) async fn forget(&self) {
        let session = self.database.connect().await;
        session
            .run("DELETE FROM outbox.retry; DELETE FROM outbox.hole; DELETE FROM outbox.ledger")
            .await;
        settle(&session).await;
    }

    /// Waits until so many targets have settled all rows.
    pub(crate) async fn wait_settled(&self, targets: usize) {
        self.wait(self.rows as i64, targets).await;
    }

    /// Waits until one target has settled everything up to this id.
    pub(crate) async fn wait_settled_up_to(&self, id: i64) {
        self.wait(id, 1).await;
    }

    async fn wait(&self, id: i64, targets: usize) {
        let settled =
            format!("SELECT count(*) FROM outbox.ledger WHERE settled @> int8range(1, {id}, '[]')");
        let session = self.database.connect().await;
        while session.count(&settled).await < targets as i64 {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}

/// The position of the WAL, bytes.
pub(crate) async fn wal_bytes(session: &Session) -> f64 {
    session.count("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint").await as f64
}

/// No vacuum and no checkpoint that is left from writing runs into what is measured next.
pub(crate) async fn settle(session: &Session) {
    session.run("VACUUM ANALYZE").await;
    session.run("CHECKPOINT").await;
}

/// Texts that make payloads of this size; hexadecimal digits, which PostgreSQL finds too little in to
/// compress.
fn variants(payload_bytes: usize) -> String {
    format!(
        "CREATE SCHEMA bench;
        CREATE TABLE bench.variant AS
        SELECT n, (SELECT left(string_agg(md5(n || '/' || k), ''), greatest({payload_bytes} - 30, 1))
                   FROM generate_series(0, {payload_bytes} / 32) AS k) AS text
        FROM generate_series(0, {VARIANTS} - 1) AS n;
        ALTER TABLE bench.variant ADD PRIMARY KEY (n)"
    )
}

/// 30 bytes are around the text, whatever the number of the row.
const LOAD: &str = r#"
CREATE PROCEDURE bench.load(rows bigint, transaction_rows bigint, variants bigint) LANGUAGE plpgsql AS $$
DECLARE
    done bigint := 0;
BEGIN
    WHILE done < rows LOOP
        INSERT INTO outbox.message (topic, key, type, payload)
        SELECT 'order.placed', 'customer-' || i % 1000, 'OrderPlaced',
               convert_to('{"order":' || lpad(i::text, 12) || ',"by":"' || v.text || '"}', 'UTF8')
        FROM generate_series(done + 1, least(done + transaction_rows, rows)) AS i
        JOIN bench.variant AS v ON v.n = i % variants
        ORDER BY i;
        COMMIT;
        done := done + transaction_rows;
    END LOOP;
END $$"#;
