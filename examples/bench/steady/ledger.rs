//! Looks at the ledger from outside: how far everything is settled, and when.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::backlog::Backlog;
use crate::support::consumer::now_us;

/// More often, and the looks themselves would be measured.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// One past the last id of the contiguous beginning.
const BELOW: &str = "SELECT upper(range) FROM outbox.ledger, unnest(settled) AS range
    ORDER BY lower(range) LIMIT 1";

/// Looks until it is stopped.
pub(super) struct Watch {
    end: oneshot::Sender<()>,
    task: JoinSet<Vec<(i64, i64)>>,
}

impl Watch {
    pub(super) async fn start(backlog: &Backlog) -> Self {
        let session = backlog.database.connect().await;
        let statement = session.prepare(BELOW).await.expect("the ledger can be read");
        let (end, mut ended) = oneshot::channel();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut looks = Vec::new();
            loop {
                let last = ended.try_recv().is_ok();
                let row = session.query_opt(&statement, &[]).await.expect("the ledger can be read");
                looks.push((now_us(), row.map_or(0, |row| row.get(0))));
                if last {
                    return looks;
                }
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        });
        Self { end, task }
    }

    /// When (microseconds since the epoch) everything below which id was settled.
    pub(super) async fn stop(mut self) -> Vec<(i64, i64)> {
        // One that has failed says so below.
        let _ = self.end.send(());
        self.task.join_next().await.expect("there is one task").expect("it ends by itself")
    }
}
