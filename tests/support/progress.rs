//! What the outbox's own tables say about a run: the relay's progress, seen from outside.

use std::collections::HashSet;

use uuid::Uuid;

use super::patience::{LOOK_INTERVAL, PATIENCE, until};
use super::session::Session;

/// Waits until every target has settled every row: nothing pending, in retry or held.
pub(crate) async fn wait_settled(session: &Session, targets: usize) {
    // Whoever looks before the relay has made the ledgers would find nothing pending.
    let ledgers = "SELECT count(*) FROM outbox.ledger";
    until("the relay to make its ledgers", async || {
        (session.count(ledgers).await >= targets as i64).then_some(())
    })
    .await;
    // First: with tens of thousands of open holes the view below takes minutes.
    until("every open hole to be closed", async || {
        (session.count("SELECT count(*) FROM outbox.hole WHERE dead_at IS NULL").await == 0)
            .then_some(())
    })
    .await;
    let open = "SELECT concat_ws(' ', count(*), state, 'for', target, 'from id', min(id))
                FROM outbox.message_state WHERE state NOT IN ('sent', 'dead', 'unrouted')
                GROUP BY target, state";
    let mut left: Vec<String> = Vec::new();
    let settled = async {
        loop {
            let rows = session.query(open, &[]).await.expect("message_state can be read");
            left = rows.iter().map(|row| row.get(0)).collect();
            if left.is_empty() {
                return;
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    };
    if tokio::time::timeout(PATIENCE, settled).await.is_err() {
        panic!("not settled after {PATIENCE:?}: {left:?}");
    }
}

/// The messages that are marked as sent to a target.
pub(crate) async fn sent(session: &Session, target: &str) -> HashSet<Uuid> {
    let sql = "SELECT message_id FROM outbox.message_state WHERE target = $1 AND state = 'sent'";
    let rows = session.query(sql, &[&target]).await.expect("message_state can be read");
    rows.iter().map(|row| row.get(0)).collect()
}

/// No refusal was charged to any message, and none was given up.
pub(crate) async fn assert_nobody_blamed(session: &Session) {
    let attempts = "SELECT coalesce(sum(attempts), 0)::bigint FROM outbox.retry";
    assert_eq!(session.count(attempts).await, 0, "attempts in outbox.retry");
    assert_eq!(session.count("SELECT count(*) FROM outbox.dead").await, 0, "rows in outbox.dead");
}
