//! The identity of the message table: the reader's proof that an id is dead rests on it.

use tokio_postgres::{Client, Error};

use super::Finding;
use crate::schema::Schema;
use crate::schema::identity::Stamp;

// Not through pg_sequences, which hides what the role may not read.
const IDENTITY: &str = "
SELECT attidentity::text AS identity, seqcache AS cache, seqincrement AS increment, seqcycle AS cycle
FROM pg_class AS message
JOIN pg_namespace ON pg_namespace.oid = message.relnamespace
JOIN pg_attribute ON attrelid = message.oid AND attname = 'id'
LEFT JOIN pg_depend ON refobjid = message.oid AND refobjsubid = attnum
     AND classid = 'pg_class'::regclass AND refclassid = 'pg_class'::regclass AND deptype = 'i'
LEFT JOIN pg_sequence ON seqrelid = pg_depend.objid
WHERE nspname = $1 AND relname = 'message'";

// The file of the sequence that the ledgers were written for, as a start compares it.
const RESTARTED: &str = "
SELECT string_agg(target, ', ' ORDER BY target) FROM outbox.ledger WHERE identity <> $1";

pub(super) async fn look(client: &Client, schema: &Schema) -> Result<Vec<Finding>, Error> {
    let row = client.query_one(IDENTITY, &[&schema.name()]).await?;
    let alter = |what: &str| schema.sql(&format!("ALTER TABLE outbox.message ALTER id {what}"));
    let mut found = Vec::new();
    let identity: String = row.try_get("identity")?;
    if identity != "a" {
        let remedy = if identity == "d" {
            alter("SET GENERATED ALWAYS")
        } else {
            alter("ADD GENERATED ALWAYS AS IDENTITY, restarted above every id ever drawn")
        };
        found.push(Finding::fail(
            "identity",
            "message.id is not GENERATED ALWAYS: a writer could choose an id that was settled",
            remedy,
        ));
    }
    let (Some(cache), Some(increment), Some(cycle)) = (
        row.try_get::<_, Option<i64>>("cache")?,
        row.try_get::<_, Option<i64>>("increment")?,
        row.try_get::<_, Option<bool>>("cycle")?,
    ) else {
        return Ok(found);
    };
    if cache != 1 {
        found.push(Finding::fail(
            "identity",
            format!(
                "message.id has CACHE {cache}: a session draws ids long before it commits them"
            ),
            alter("SET CACHE 1"),
        ));
    }
    if increment != 1 {
        found.push(Finding::fail(
            "identity",
            format!("message.id has INCREMENT {increment}: every id skipped would be a hole"),
            alter("SET INCREMENT 1"),
        ));
    }
    if cycle {
        found.push(Finding::fail(
            "identity",
            "message.id has CYCLE: ids would be drawn twice",
            alter("SET NO CYCLE"),
        ));
    }
    let stamp = Stamp::read(client, schema).await?;
    let restarted = client.query_one(&schema.sql(RESTARTED), &[&stamp.text()]).await?;
    if let Some(targets) = restarted.try_get::<_, Option<String>>(0)? {
        found.push(Finding::fail(
            "identity",
            format!("it was restarted or altered, or restored, since the ledger of {targets} was written: its pipeline does not lead"),
            "after a restore `outbox-relay identity keep`; else let ids continue above every id that was drawn, then `outbox-relay ledger rebuild`",
        ));
    }
    if found.is_empty() {
        found.push(Finding::ok("identity", "GENERATED ALWAYS, CACHE 1"));
    }
    Ok(found)
}
