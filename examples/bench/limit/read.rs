//! Reading the table through one connection, as fast as it goes.

use std::time::Instant;

use futures_util::TryStreamExt;

use super::COLUMNS;
use crate::backlog::Backlog;
use crate::rig::Rig;
use crate::usage::Process;

/// How it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// One COPY of everything.
    Copy,
    /// By keyset, as the relay reads, with nothing done to the rows.
    Select,
}

/// Rows of one read; the relay's default.
const BATCH_ROWS: u64 = 2_000;

impl Way {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Copy => "COPY … TO STDOUT",
            Self::Select => "SELECT … WHERE id > … LIMIT 2000, binary",
        }
    }
}

pub(super) async fn measure(rig: &Rig, backlog: &Backlog, way: Way) -> [f64; COLUMNS.len()] {
    let session = backlog.database.connect().await;
    let (me, server) = (Process(std::process::id()), rig.postgres_process());
    let (own, theirs, begun) = (me.cpu(), server.cpu(), Instant::now());
    match way {
        Way::Copy => {
            let text = "COPY (SELECT id, created_at, message_id, topic, type, key, headers, payload
                        FROM outbox.message ORDER BY id) TO STDOUT (FORMAT binary)";
            let mut stream = Box::pin(session.copy_out(text).await.expect("the table can be read"));
            while stream.try_next().await.expect("the copy goes on").is_some() {}
        }
        Way::Select => {
            let text = format!(
                "SELECT id, created_at, message_id, topic, type, key, headers::text, payload
                 FROM outbox.message WHERE id > $1 ORDER BY id LIMIT {BATCH_ROWS}"
            );
            let statement = session.prepare(&text).await.expect("the table can be read");
            let mut last = 0_i64;
            loop {
                let rows =
                    session.query(&statement, &[&last]).await.expect("the table can be read");
                match rows.last() {
                    Some(row) => last = row.get(0),
                    None => break,
                }
            }
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    [
        backlog.rows as f64 / seconds,
        (me.cpu() - own).per_100k(backlog.rows),
        (server.cpu() - theirs).per_100k(backlog.rows),
    ]
}
