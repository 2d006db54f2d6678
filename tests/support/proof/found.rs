//! What there is, when nobody works any more.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::request::{BY_BOTH, BY_KAFKA};
use super::rig::Rig;
use crate::support::session::Session;

/// What was asked for.
#[derive(Default)]
pub(crate) struct Wanted {
    /// Id and amount of what can be paid.
    pub(crate) good: HashMap<Uuid, i64>,
    pub(crate) poison: HashSet<Uuid>,
    /// Of the poison, what comes by RabbitMQ.
    pub(crate) dead_letters: usize,
    /// Of the good ones, those that come by both brokers.
    pub(crate) by_both: HashSet<Uuid>,
}

/// What came of it. Two of them are equal if nothing has changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) payments: usize,
    /// Distinct ids among them.
    pub(crate) paid: usize,
    /// Asked for, and not paid.
    pub(crate) lost: usize,
    /// Payments beyond the first of an id.
    pub(crate) doubled: usize,
    /// Payments that nobody asked for.
    pub(crate) invented: usize,
    pub(crate) sum: i64,
    pub(crate) charges: usize,
    /// Distinct payments among them.
    pub(crate) charged: usize,
    pub(crate) charged_sum: i64,
    /// Payments with a charge that the provider knows for them.
    pub(crate) matched: usize,
    pub(crate) follow_ups: usize,
    pub(crate) parked_poison: usize,
    pub(crate) parked_others: usize,
}

impl Wanted {
    pub(crate) async fn read(rig: &Rig) -> Self {
        let session = rig.requests.connect().await;
        let rows = session.query("SELECT payment_id, amount, good, topic FROM request", &[]).await;
        let rows = rows.expect("the requests can be read");
        let mut wanted = Self::default();
        for row in rows {
            let (id, topic) = (row.get(0), row.get::<_, &str>(3));
            if !row.get::<_, bool>(2) {
                wanted.poison.insert(id);
                wanted.dead_letters += usize::from(topic != BY_KAFKA);
                continue;
            }
            wanted.good.insert(id, row.get(1));
            if topic == BY_BOTH {
                wanted.by_both.insert(id);
            }
        }
        wanted
    }

    /// Deliveries of the good ones, if each is published once.
    pub(crate) fn deliveries(&self) -> usize {
        self.good.len() + self.by_both.len()
    }

    pub(crate) fn sum(&self) -> i64 {
        self.good.values().sum()
    }
}

impl Found {
    pub(crate) async fn read(rig: &Rig, wanted: &Wanted) -> Self {
        let session = rig.payments.connect().await;
        let charges = rig.provider.charges();
        let rows = session.query("SELECT payment_id, amount, charge FROM payments", &[]).await;
        let rows = rows.expect("the payments can be read");
        let mut found = Self { payments: rows.len(), ..Self::default() };
        let mut paid = HashSet::new();
        for row in &rows {
            let (id, amount, charge) = (row.get(0), row.get::<_, i64>(1), row.get::<_, &str>(2));
            found.doubled += usize::from(!paid.insert(id));
            found.invented += usize::from(wanted.good.get(&id) != Some(&amount));
            found.sum += amount;
            let its = charges.get(charge).is_some_and(|c| (c.reference, c.amount) == (id, amount));
            found.matched += usize::from(its);
        }
        found.paid = paid.len();
        found.lost = wanted.good.keys().filter(|&id| !paid.contains(id)).count();
        found.charges = charges.len();
        found.charged = charges.values().map(|c| c.reference).collect::<HashSet<_>>().len();
        found.charged_sum = charges.values().map(|c| c.amount).sum();
        let follow_ups = "SELECT count(*) FROM outbox.message WHERE type = 'PaymentMade'";
        found.follow_ups = session.count(follow_ups).await as usize;
        let parked = parked(&session).await;
        found.parked_poison = parked.iter().filter(|&id| wanted.poison.contains(id)).count();
        found.parked_others = parked.len() - found.parked_poison;
        found
    }
}

/// By their ids: nothing here has an id that is no UUID.
async fn parked(session: &Session) -> Vec<Uuid> {
    let text = "SELECT message_id::uuid FROM outbox.inbox_failure WHERE parked_at IS NOT NULL";
    let rows = session.query(text, &[]).await.expect("every parked message has a UUID");
    rows.iter().map(|row| row.get(0)).collect()
}
