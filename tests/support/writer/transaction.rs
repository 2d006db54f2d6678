//! One transaction of the application.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::Type;
use tokio_postgres::{Error, Statement};
use uuid::Uuid;

use super::mix::Mix;
use super::order::Order;
use super::{KEY_PREFIX, key};
use crate::support::patience::until;
use crate::support::rng::Rng;
use crate::support::session::Session;

/// Rows of a statement that takes several.
const ROWS_MAX: u64 = 8;
/// Keys of a big transaction, each with up to [`ROWS_MAX`] rows.
const BIG_KEYS: u64 = 25;

/// A connection with its statements.
pub(super) struct Connection {
    session: Session,
    number: usize,
    keys: usize,
    /// For the names of prepared transactions.
    prepared: usize,
    take_places: Statement,
    insert: Statement,
    publish: Statement,
    record: Statement,
}

impl Connection {
    pub(super) async fn open(url: &str, number: usize, keys: usize) -> Result<Self, Error> {
        let session = Session::try_connect(url).await?;
        let take_places = session.prepare(TAKE_PLACES).await?;
        let insert = session.prepare(INSERT).await?;
        let publish = session.prepare(PUBLISH).await?;
        let record = session.prepare(RECORD).await?;
        Ok(Self { session, number, keys, prepared: 0, take_places, insert, publish, record })
    }

    /// Runs one transaction; what it committed, by message id.
    pub(super) async fn transaction(
        &mut self,
        rng: &mut Rng,
        mix: &Mix,
    ) -> Result<Vec<Uuid>, Error> {
        self.session.batch_execute("BEGIN").await?;
        if rng.chance(mix.early_xid) {
            self.session.batch_execute("SELECT pg_current_xact_id()").await?;
            sleep(rng, mix).await;
        }
        let mut written = Vec::new();
        for key in self.pick_keys(rng, mix) {
            let savepoint = rng.chance(mix.savepoint);
            if savepoint {
                self.session.batch_execute("SAVEPOINT before").await?;
            }
            let orders = self.write(rng, mix, key.as_deref()).await?;
            if savepoint && rng.chance(500) {
                self.session.batch_execute("ROLLBACK TO before").await?;
            } else {
                written.extend(orders);
            }
            if rng.chance(mix.sleep) {
                sleep(rng, mix).await;
            }
        }
        let keep = !rng.chance(mix.rollback);
        self.end(rng, mix, keep).await?;
        Ok(if keep { written } else { Vec::new() })
    }

    /// Ascending, so that no two transactions wait for each other in a circle.
    fn pick_keys(&self, rng: &mut Rng, mix: &Mix) -> BTreeSet<Option<String>> {
        let count = if rng.chance(mix.big) { BIG_KEYS } else { 1 };
        (0..count)
            .map(|_| {
                let number = rng.below(self.keys as u64);
                (!rng.chance(mix.null_key)).then(|| key(KEY_PREFIX, number))
            })
            .collect()
    }

    /// Writes some messages of one key, and to `business` that it did.
    async fn write(&self, rng: &mut Rng, mix: &Mix, key: Option<&str>) -> Result<Vec<Uuid>, Error> {
        let copy = rng.chance(mix.copy);
        let several = copy || rng.chance(mix.multi_row);
        let rows = if several { rng.below(ROWS_MAX) + 1 } else { 1 };
        let mut last = None;
        if key.is_some() {
            let row = self.session.query_one(&self.take_places, &[&key, &(rows as i64)]).await?;
            last = Some(row.get::<_, i64>(0));
        }
        let mut orders: Vec<Order> = (1..=rows as i64)
            .map(|n| {
                let place = last.map(|last| last - rows as i64 + n);
                let odd = rng.chance(mix.odd_content);
                Order::new(rng, key, place, odd)
            })
            .collect();
        if copy {
            self.copy(&orders).await?;
        } else if let [order] = orders.as_mut_slice()
            && rng.chance(mix.publish)
        {
            let Order { topic, key, payload, headers, kind, .. } = &*order;
            let row = self
                .session
                .query_one(&self.publish, &[&topic, &key, &payload, &headers, &kind])
                .await?;
            order.message_id = row.get(0);
        } else {
            insert(&self.session, &self.insert, &orders).await?;
        }
        record(&self.session, &self.record, &orders).await?;
        Ok(orders.into_iter().map(|order| order.message_id).collect())
    }

    async fn copy(&self, orders: &[Order]) -> Result<(), Error> {
        let types = [Type::UUID, Type::TEXT, Type::TEXT, Type::TEXT, Type::JSONB, Type::BYTEA];
        let sink = self.session.copy_in(COPY).await?;
        let mut rows = std::pin::pin!(BinaryCopyInWriter::new(sink, &types));
        for o in orders {
            rows.as_mut()
                .write(&[&o.message_id, &o.topic, &o.kind, &o.key, &o.headers, &o.payload])
                .await?;
        }
        rows.finish().await.map(|_| ())
    }

    async fn end(&mut self, rng: &mut Rng, mix: &Mix, keep: bool) -> Result<(), Error> {
        let verb = if keep { "COMMIT" } else { "ROLLBACK" };
        if !rng.chance(mix.two_phase) {
            return self.session.batch_execute(verb).await;
        }
        self.prepared += 1;
        let pid = std::process::id();
        let name = format!("{pid}-{}-{}-{:x}", self.number, self.prepared, rng.next());
        self.session.batch_execute(&format!("PREPARE TRANSACTION '{name}'")).await?;
        if rng.chance(300) {
            sleep(rng, mix).await;
        }
        self.session.batch_execute(&format!("{verb} PREPARED '{name}'")).await
    }
}

/// Inserts with the message ids and in the order that the orders have.
pub(super) async fn insert(
    session: &Session,
    statement: &Statement,
    orders: &[Order],
) -> Result<(), Error> {
    let ids: Vec<Uuid> = orders.iter().map(|o| o.message_id).collect();
    let topics: Vec<&str> = orders.iter().map(|o| o.topic).collect();
    let kinds: Vec<Option<&str>> = orders.iter().map(|o| o.kind).collect();
    let keys: Vec<Option<&str>> = orders.iter().map(|o| o.key.as_deref()).collect();
    let headers: Vec<Option<&Value>> = orders.iter().map(|o| o.headers.as_ref()).collect();
    let payloads: Vec<Option<&[u8]>> = orders.iter().map(|o| o.payload.as_deref()).collect();
    session.execute(statement, &[&ids, &topics, &kinds, &keys, &headers, &payloads]).await?;
    Ok(())
}

/// Records the orders in `business`, in the transaction that wrote them.
pub(super) async fn record(
    session: &Session,
    statement: &Statement,
    orders: &[Order],
) -> Result<(), Error> {
    let ids: Vec<Uuid> = orders.iter().map(|o| o.message_id).collect();
    let keys: Vec<Option<&str>> = orders.iter().map(|o| o.key.as_deref()).collect();
    let places: Vec<Option<i64>> = orders.iter().map(|o| o.place).collect();
    let digests: Vec<Vec<u8>> = orders.iter().map(|o| o.content().digest().to_vec()).collect();
    session.execute(statement, &[&ids, &keys, &places, &digests]).await?;
    Ok(())
}

/// Commits what a lost connection left prepared: nobody else would, and `business` would not show it.
pub(super) async fn commit_prepared(session: &Session) {
    let all = "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()";
    until("prepared transactions to be committed", async || {
        let left = session.query(all, &[]).await.expect("pg_prepared_xacts can be read");
        for row in &left {
            let name: String = row.get(0);
            // Somebody else's connection may still be at it.
            let _ = session.batch_execute(&format!("COMMIT PREPARED '{name}'")).await;
        }
        left.is_empty().then_some(())
    })
    .await;
}

async fn sleep(rng: &mut Rng, mix: &Mix) {
    tokio::time::sleep(Duration::from_micros(rng.below(mix.sleep_ms_max * 1000))).await;
}

pub(super) const TAKE_PLACES: &str =
    "UPDATE aggregate SET place = place + $2 WHERE key = $1 RETURNING place";

/// Ids are drawn in the order of the arrays: the sort is below the default of `id`.
pub(super) const INSERT: &str = "\
INSERT INTO outbox.message (message_id, topic, type, key, headers, payload)
SELECT a, b, c, d, e, f
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::jsonb[], $6::bytea[])
    WITH ORDINALITY AS u (a, b, c, d, e, f, n)
ORDER BY n";

const COPY: &str = "\
COPY outbox.message (message_id, topic, type, key, headers, payload) FROM STDIN (FORMAT binary)";

const PUBLISH: &str = "SELECT outbox.publish($1::text, $2::text, $3::bytea, $4::jsonb, $5::text)";

pub(super) const RECORD: &str = "\
INSERT INTO business (message_id, key, place, digest)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::bytea[])";
