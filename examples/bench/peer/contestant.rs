//! Who does the job, and the outbox that each of them wants.

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use super::debezium::{self, Tuning};
use super::poller::Mark;
use super::running::Running;
use crate::arguments::Arguments;
use crate::backlog::{Backlog, settle, wal_bytes};
use crate::drain::USUAL_PAYLOAD;
use crate::meter::Meter;
use crate::relay;
use crate::rig::Rig;
use crate::support::database::Database;
use crate::support::relay::RelayProcess;

/// Somebody who brings rows to Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contestant {
    Ours,
    Debezium(Tuning),
    Poller(Mark),
}

impl Contestant {
    /// Ours first: the others are compared with it.
    pub(super) const ALL: [Self; 5] = [
        Self::Ours,
        Self::Debezium(Tuning::Defaults),
        Self::Debezium(Tuning::Tuned),
        Self::Poller(Mark::Update),
        Self::Poller(Mark::Delete),
    ];

    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Ours => "outbox-relay",
            Self::Debezium(Tuning::Defaults) => "Debezium, defaults",
            Self::Debezium(Tuning::Tuned) => "Debezium, tuned",
            Self::Poller(Mark::Update) => "SKIP LOCKED poller, UPDATE sent_at",
            Self::Poller(Mark::Delete) => "SKIP LOCKED poller, DELETE",
        }
    }

    /// One row: its key and its payload; returns a bigint.
    pub(super) fn insert(self) -> &'static str {
        match self {
            Self::Ours => {
                "INSERT INTO outbox.message (topic, key, type, payload)
                 VALUES ('order.placed', $1, 'OrderPlaced', $2) RETURNING id"
            }
            Self::Debezium(_) => {
                "INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload)
                 VALUES (gen_random_uuid(), 'order.placed', $1::text, 'OrderPlaced',
                         convert_from($2::bytea, 'UTF8')) RETURNING 0::bigint"
            }
            Self::Poller(_) => {
                "INSERT INTO outbox (topic, key, payload)
                 VALUES ('order.placed', $1, $2) RETURNING id"
            }
        }
    }

    /// The table, with what its relay wants beside it.
    fn schema(self) -> &'static str {
        match self {
            Self::Ours => "",
            Self::Debezium(_) => debezium::SCHEMA,
            Self::Poller(Mark::Update) => {
                "CREATE TABLE outbox (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                    message_id uuid NOT NULL DEFAULT gen_random_uuid(), topic text NOT NULL, key text,
                    payload bytea, created_at timestamptz NOT NULL DEFAULT now(), sent_at timestamptz);
                 CREATE INDEX ON outbox (id) WHERE sent_at IS NULL"
            }
            Self::Poller(Mark::Delete) => {
                "CREATE TABLE outbox (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                    message_id uuid NOT NULL DEFAULT gen_random_uuid(), topic text NOT NULL, key text,
                    payload bytea, created_at timestamptz NOT NULL DEFAULT now())"
            }
        }
    }

    /// One batch of a load: rows $1 to $2.
    fn batch(self) -> String {
        let payload = format!(
            "rpad('{{\"order\":' || i || ',\"by\":\"' || md5(i::text), {}, md5(i::text)) || '\"}}'",
            USUAL_PAYLOAD - 2
        );
        let rows = "FROM generate_series($1::bigint, $2::bigint) AS i";
        match self {
            Self::Ours => format!(
                "INSERT INTO outbox.message (topic, key, type, payload) SELECT 'order.placed',
                 'customer-' || i % 1000, 'OrderPlaced', convert_to({payload}, 'UTF8') {rows}"
            ),
            Self::Debezium(_) => format!(
                "INSERT INTO outbox SELECT gen_random_uuid(), 'order.placed',
                 'customer-' || i % 1000, 'OrderPlaced', {payload} {rows}"
            ),
            Self::Poller(_) => format!(
                "INSERT INTO outbox (topic, key, payload) SELECT 'order.placed',
                 'customer-' || i % 1000, convert_to({payload}, 'UTF8') {rows}"
            ),
        }
    }
}

/// Rows of one transaction of a load.
const TRANSACTION_ROWS: u64 = 1_000;
/// Between two looks at a table.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// A contestant with a database and a topic of its own.
pub(super) struct Entry {
    pub(super) contestant: Contestant,
    pub(super) database: Database,
    pub(super) meter: Meter,
    /// As the role that the relay uses.
    relay_url: String,
    /// What a process keeps on disk between two starts.
    folder: TempDir,
}

impl Entry {
    pub(super) async fn enter(rig: &Rig, contestant: Contestant) -> Self {
        let Backlog { database, relay_url, .. } = Backlog::empty(rig, USUAL_PAYLOAD).await;
        database.connect().await.run(contestant.schema()).await;
        if let Contestant::Debezium(_) = contestant {
            // From here on everything is decoded for it.
            database.connect().await.run(debezium::SLOT).await;
        }
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let meter = Meter::kafka(rig).await;
        Self { contestant, database, meter, relay_url, folder }
    }

    /// Writes a backlog.
    pub(super) async fn load(&self, rows: u64) {
        let session = self.database.connect().await;
        session.run("SET synchronous_commit = off").await;
        let batch = session.prepare(&self.contestant.batch()).await.expect("the table is there");
        for first in (1..=rows).step_by(TRANSACTION_ROWS as usize) {
            let last = (first + TRANSACTION_ROWS - 1).min(rows);
            let written = session.execute(&batch, &[&(first as i64), &(last as i64)]).await;
            written.expect("rows can be written");
        }
        settle(&session).await;
    }

    /// Starts the contestant's process.
    pub(super) async fn start(&self, arguments: &Arguments) -> Running {
        let Meter::Kafka { topic, .. } = &self.meter else { unreachable!("it was made for Kafka") };
        let folder: &Path = self.folder.path();
        match self.contestant {
            Contestant::Ours => {
                let config = relay::config(&self.relay_url, &[&self.meter], arguments);
                Running::Relay(RelayProcess::start(&config).await)
            }
            Contestant::Debezium(tuning) => {
                Running::Child(debezium::start(folder, &self.database.url, topic, tuning))
            }
            Contestant::Poller(mark) => {
                Running::Child(super::poller::start(&self.database.url, topic, mark))
            }
        }
    }

    /// Waits until it has noted all rows as sent, where that can be seen.
    pub(super) async fn wait_marked(&self, rows: u64) {
        let left = match self.contestant {
            Contestant::Ours => format!(
                "SELECT count(*) FROM (SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM outbox.ledger
                 WHERE settled @> int8range(1, {rows}, '[]'))) AS unsettled"
            ),
            // The slot is told at the next flush of the offsets, a minute from now.
            Contestant::Debezium(_) => return,
            Contestant::Poller(Mark::Update) => {
                "SELECT count(*) FROM outbox WHERE sent_at IS NULL".to_owned()
            }
            Contestant::Poller(Mark::Delete) => "SELECT count(*) FROM outbox".to_owned(),
        };
        let session = self.database.connect().await;
        while session.count(&left).await > 0 {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    pub(super) async fn wal_bytes(&self) -> f64 {
        wal_bytes(&self.database.connect().await).await
    }

    /// Leaves nothing that would hold WAL or disk.
    pub(super) async fn leave(self) {
        if let Contestant::Debezium(_) = self.contestant {
            debezium::drop_slot(&self.database).await;
        }
        self.meter.delete().await;
    }
}
