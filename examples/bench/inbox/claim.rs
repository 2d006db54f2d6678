//! Claims a second.

use super::place::{FRESH, Place, fresh, serial};
use crate::arguments::Arguments;
use crate::figure::Table;
use crate::pgbench::Load;
use crate::rig::Rig;

const COLUMNS: [&str; 3] = ["messages/s", "ms a transaction", "PostgreSQL CPU s/100k"];

/// Messages of a batch.
const BATCH: u64 = 100;
/// Processed before, and claimed again.
const KNOWN: u64 = 100_000;

/// What is claimed: the name, the connections, the messages of a transaction, and pgbench's script.
struct Kind {
    name: String,
    clients: usize,
    messages: u64,
    script: String,
}

pub(super) async fn table(rig: &Rig, arguments: &Arguments) -> Table {
    let mut table = Table::new("Claims", "what is claimed", &COLUMNS);
    for kind in kinds() {
        let mut lines = Vec::new();
        for _ in 0..arguments.runs {
            lines.push(measure(rig, arguments, &kind).await);
        }
        table.push(kind.name, &lines);
    }
    table
}

async fn measure(rig: &Rig, arguments: &Arguments, kind: &Kind) -> [f64; COLUMNS.len()] {
    let place = Place::create(rig).await;
    place.fill(0, KNOWN).await;
    let (url, time) = (&place.database.url, arguments.scale.writing());
    let load = Load { url, script: &kind.script, clients: kind.clients, time, rate: None };
    let before = rig.postgres_process().cpu();
    let transactions = load.rate(rig).await;
    let used = rig.postgres_process().cpu() - before;
    let messages = transactions * kind.messages as f64;
    let claimed = (messages * time.as_secs_f64()) as u64;
    [messages, kind.clients as f64 / transactions * 1e3, used.per_100k(claimed)]
}

fn kinds() -> Vec<Kind> {
    let mut kinds = Vec::new();
    for clients in [1, 8, 32] {
        let claim = |id: String| format!("SELECT outbox.inbox_claim('bench', {id});\n");
        kinds.push(Kind {
            name: format!("fresh, one by one, {clients} connections"),
            clients,
            messages: 1,
            script: format!("{FRESH}{}", claim(fresh())),
        });
        kinds.push(Kind {
            name: format!("duplicates, one by one, {clients} connections"),
            clients,
            messages: 1,
            script: format!("\\set n random(1, {KNOWN})\n{}", claim(serial(0, ":n"))),
        });
    }
    let batch = |ids: String| {
        format!(
            "SELECT count(*) FROM outbox.inbox_claim_batch('bench', ARRAY(SELECT {ids} FROM generate_series(1, {BATCH}) AS i));\n"
        )
    };
    kinds.push(Kind {
        name: format!("fresh, batches of {BATCH}, 4 connections"),
        clients: 4,
        messages: BATCH,
        script: format!(
            "{FRESH}{}",
            batch(format!("overlay({} placing lpad(i::text, 4, '0') from 33)", fresh()))
        ),
    });
    kinds.push(Kind {
        name: format!("duplicates, batches of {BATCH}, 4 connections"),
        clients: 4,
        messages: BATCH,
        script: format!(
            "\\set n random(0, {})\n{}",
            KNOWN - BATCH,
            batch(serial(0, ":n::int + i"))
        ),
    });
    kinds
}
