//! What a claim adds to the transaction of a handler.

use super::place::{FRESH, Place, fresh};
use crate::arguments::Arguments;
use crate::figure::Table;
use crate::pgbench::Load;
use crate::rig::Rig;

const COLUMNS: [&str; 3] = ["tx/s without", "tx/s with", "with, % of without"];

pub(super) async fn table(rig: &Rig, arguments: &Arguments) -> Table {
    let mut table =
        Table::new("A handler's transaction, with and without the inbox", "connections", &COLUMNS);
    for clients in [1, 8, 32] {
        let mut lines = Vec::new();
        // In turns: what else happens on the machine happens to both.
        for _ in 0..arguments.runs {
            let without = measure(rig, arguments, clients, false).await;
            let with = measure(rig, arguments, clients, true).await;
            lines.push([without, with, with / without * 100.0]);
        }
        table.push(clients.to_string(), &lines);
    }
    table
}

async fn measure(rig: &Rig, arguments: &Arguments, clients: usize, inbox: bool) -> f64 {
    let place = Place::create(rig).await;
    let payment = "CREATE TABLE payment (payment_id text PRIMARY KEY, amount bigint NOT NULL)";
    place.session.run(payment).await;
    let id = fresh();
    let claim = format!("SELECT outbox.inbox_claim('bench', {id});\n");
    let claim = if inbox { claim.as_str() } else { "" };
    let script =
        format!("{FRESH}BEGIN;\n{claim}INSERT INTO payment VALUES ({id}, 100);\nCOMMIT;\n");
    let (url, time) = (&place.database.url, arguments.scale.writing());
    Load { url, script: &script, clients, time, rate: None }.rate(rig).await
}
