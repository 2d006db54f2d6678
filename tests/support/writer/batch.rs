//! A batch: messages of one topic in one transaction, for tests that need to know what is there
//! rather than how it came about.

use std::collections::HashMap;

use super::order::Order;
use super::transaction::{INSERT, RECORD, TAKE_PLACES, insert, record};
use super::{KEY_PREFIX, journal, key, prepare};
use crate::support::checker::Committed;
use crate::support::rng::Rng;
use crate::support::session::Session;

/// What a batch holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Batch {
    pub(crate) topic: &'static str,
    pub(crate) rows: usize,
    pub(crate) key_prefix: &'static str,
    /// Keys that take turns.
    pub(crate) keys: usize,
    /// Instead of an order of about 300 bytes.
    pub(crate) payload_bytes: Option<usize>,
}

impl Batch {
    pub(crate) fn orders(rows: usize) -> Self {
        Self { topic: "order.placed", rows, key_prefix: KEY_PREFIX, keys: 20, payload_bytes: None }
    }

    /// Commits it.
    pub(crate) async fn write(&self, session: &Session) {
        self.begin(session).await;
        session.run("COMMIT").await;
    }

    /// Writes it in a transaction that stays open: the caller ends it.
    pub(crate) async fn begin(&self, session: &Session) {
        let mut rng = Rng::new(self.rows as u64);
        prepare(session, self.key_prefix, self.keys).await;
        let take_places = statement(session, TAKE_PLACES).await;
        session.run("BEGIN").await;
        let mut places = Vec::new();
        for number in 0..self.keys {
            let key = key(self.key_prefix, number as u64);
            let share = (self.rows + self.keys - 1 - number) / self.keys;
            let row = session.query_one(&take_places, &[&key, &(share as i64)]).await;
            let last: i64 = row.expect("a key has its row").get(0);
            places.push((key, last - share as i64));
        }
        let mut orders: Vec<Order> = (0..self.rows)
            .map(|n| {
                let (key, place) = &mut places[n % self.keys];
                *place += 1;
                let mut order = Order::new(&mut rng, Some(key), Some(*place), false);
                order.topic = self.topic;
                if let Some(bytes) = self.payload_bytes {
                    order.payload = Some(rng.bytes(bytes));
                }
                order
            })
            .collect();
        let (insert_rows, record_rows) =
            (statement(session, INSERT).await, statement(session, RECORD).await);
        // A large statement is held in memory three times on its way.
        while !orders.is_empty() {
            let part: Vec<Order> = orders.drain(..orders.len().min(self.part_rows())).collect();
            insert(session, &insert_rows, &part).await.expect("a batch can be written");
            record(session, &record_rows, &part).await.expect("the journal can be written");
        }
    }

    fn part_rows(&self) -> usize {
        self.payload_bytes.map_or(1000, |bytes| (4 << 20) / bytes.max(1) + 1)
    }
}

/// Everything that was committed so far, without the times.
pub(crate) async fn committed(session: &Session) -> Vec<Committed> {
    journal(session, &HashMap::new()).await
}

async fn statement(session: &Session, sql: &str) -> tokio_postgres::Statement {
    session.prepare(sql).await.expect("the tables are there")
}
