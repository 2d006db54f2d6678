//! What was added to the tables of the outbox: it runs with every statement of the relay, and can
//! refuse one. And what the database refuses the keeper now.

use tokio_postgres::{Client, Error, Row};

use super::Finding;
use crate::keeper::trouble;
use crate::schema::Schema;

const FOREIGN_KEYS: &str = "
SELECT conname::text AS name, conrelid::regclass::text AS source, confrelid::regclass::text AS target
FROM pg_constraint
JOIN pg_class ON pg_class.oid = confrelid
JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE contype = 'f' AND nspname = $1
ORDER BY conname";

// The outbox's own triggers call functions of its schema. Of `message` the relay only deletes rows (8);
// into the others it writes.
const TRIGGERS: &str = "
SELECT tgname::text AS name, quote_ident(tgname) AS quoted, tgrelid::regclass::text AS table
FROM pg_trigger
JOIN pg_class ON pg_class.oid = tgrelid
JOIN pg_namespace ON pg_namespace.oid = relnamespace
JOIN pg_proc ON pg_proc.oid = tgfoid
WHERE nspname = $1 AND NOT tgisinternal AND tgenabled <> 'D' AND pronamespace <> relnamespace
  AND (relname <> 'message' OR tgtype & 8 = 8)
ORDER BY tgrelid::regclass::text, tgname";

const RULES: &str = "
SELECT rulename::text AS name, quote_ident(rulename) AS quoted, ev_class::regclass::text AS table
FROM pg_rewrite
JOIN pg_class ON pg_class.oid = ev_class
JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname = $1 AND rulename <> '_RETURN'
ORDER BY ev_class::regclass::text, rulename";

const SUBJECT: &str = "additions";

pub(super) async fn look(client: &Client, schema: &Schema) -> Result<Vec<Finding>, Error> {
    let name = schema.name();
    let mut found = Vec::new();
    for row in client.query(FOREIGN_KEYS, &[&name]).await? {
        let text = |column: &str| row.try_get::<_, String>(column);
        let (name, source, target) = (text("name")?, text("source")?, text("target")?);
        found.push(Finding::warn(
            SUBJECT,
            format!("foreign key {name} of {source} refers to {target}: rows it refers to are not deleted"),
            format!("ALTER TABLE {source} DROP CONSTRAINT {name}; keep message_id there instead"),
        ));
    }
    for (kind, statement) in [("trigger", TRIGGERS), ("rule", RULES)] {
        for row in client.query(statement, &[&name]).await? {
            found.push(addition(kind, &row)?);
        }
    }
    if found.is_empty() {
        found.push(Finding::ok(SUBJECT, "no foreign key, trigger or rule of others"));
    }
    Ok(found)
}

fn addition(kind: &str, row: &Row) -> Result<Finding, Error> {
    let text = |column: &str| row.try_get::<_, String>(column);
    let (name, quoted, table) = (text("name")?, text("quoted")?, text("table")?);
    Ok(Finding::warn(
        SUBJECT,
        format!(
            "{kind} {name} on {table} runs in the relay's own statements, and may refuse or drop them"
        ),
        format!("DROP {} {quoted} ON {table}, unless it cannot fail", kind.to_uppercase()),
    ))
}

/// What the keeper has written down.
pub(super) async fn troubles(client: &Client, schema: &Schema) -> Result<Vec<Finding>, Error> {
    let troubles = trouble::read(client, schema).await?;
    if troubles.is_empty() {
        return Ok(vec![Finding::ok("keeper", "does all of its work, as far as is written down")]);
    }
    let finding = |trouble: trouble::Trouble| {
        Finding::warn(
            "keeper",
            format!("{}: {}", trouble.part, trouble.reason),
            trouble.hint.unwrap_or_else(|| "look at the log of the keeper".to_owned()),
        )
    };
    Ok(troubles.into_iter().map(finding).collect())
}
