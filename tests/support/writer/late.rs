//! Rows whose ids were drawn long before they are inserted, as only the table's owner can: by then
//! the relay may have given those ids up, and retention may have passed them.

use super::order::Order;
use super::transaction::{RECORD, record};
use crate::support::rng::Rng;
use crate::support::session::Session;

/// Ids that were drawn from the outbox's sequence and not used yet.
#[derive(Debug)]
pub(crate) struct EarlyIds(Vec<i64>);

impl EarlyIds {
    /// Draws `count` ids, in a transaction that inserts nothing.
    pub(crate) async fn draw(session: &Session, count: usize) -> Self {
        let rows = session
            .query(
                "SELECT nextval(pg_get_serial_sequence('outbox.message', 'id')::regclass)
                 FROM generate_series(1, $1)",
                &[&(count as i32)],
            )
            .await
            .expect("the owner may draw ids");
        Self(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Uses `count` of them. No order is promised for these rows: they are late.
    pub(crate) async fn insert(&mut self, session: &mut Session, rng: &mut Rng, count: usize) {
        let count = count.min(self.0.len());
        let ids: Vec<i64> = self.0.drain(..count).collect();
        let keys = [None, Some("late"), Some("key-1")];
        let statement = session.prepare(RECORD).await.expect("the journal's table is there");
        session.run("BEGIN").await;
        for id in ids {
            let key = keys[rng.below(3) as usize];
            let order = Order::new(rng, key, None, true);
            let Order { message_id, topic, kind, key, headers, payload, .. } = &order;
            session
                .execute(INSERT, &[&id, message_id, topic, kind, key, headers, payload])
                .await
                .expect("the owner may insert an id of its own");
            record(session, &statement, &[order]).await.expect("the journal can be written");
        }
        session.run("COMMIT").await;
    }
}

const INSERT: &str = "\
INSERT INTO outbox.message (id, message_id, topic, type, key, headers, payload)
OVERRIDING SYSTEM VALUE VALUES ($1, $2, $3, $4, $5, $6, $7)";
