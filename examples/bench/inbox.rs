//! What the receivers' half costs a consumer's database: claims, the transaction of a handler, and the removal of
//! what has expired.

use crate::arguments::Arguments;
use crate::figure::Figures;
use crate::rig::Rig;

mod claim;
mod handler;
mod place;
mod removal;

pub(crate) async fn section(rig: &Rig, arguments: &Arguments) -> Figures {
    let tables = vec![
        claim::table(rig, arguments).await,
        handler::table(rig, arguments).await,
        removal::table(rig, arguments).await,
    ];
    Figures { tables, plots: Vec::new(), notes: notes() }
}

fn notes() -> Vec<String> {
    let text = [
        "By `pgbench`, prepared statements, every claim in a committed transaction of its own (a batch is \
         one transaction); the ids are UUIDv7 of today, made by the client. PostgreSQL's CPU is that of all \
         its processes; pgbench takes its share of the same cores.",
        "A handler's transaction is BEGIN, one INSERT into a table with a key, COMMIT; with the inbox, the \
         claim between BEGIN and INSERT.",
        "Removal: one expired day goes while 400 claims a second are made; the worst percentiles are of the \
         claims that ended between its beginning and one second after its end. DELETE is in batches of 10,000, \
         with the VACUUM that it needs.",
    ];
    text.map(str::to_owned).into()
}
