//! The rights of the relay's role: what schema/0008_grant.sql gives, each missing one as a statement.

use tokio_postgres::{Client, Error};

use super::Finding;
use crate::schema::Schema;

/// Table, and the rights on it.
const TABLES: [(&str, &[&str]); 13] = [
    ("message", &["SELECT", "DELETE"]),
    ("ledger", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("hole", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("retry", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("dead", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("kept", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("watermark", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("route", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("unrouted", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("decision", &["SELECT", "INSERT"]),
    ("displaced", &["SELECT", "INSERT"]),
    ("migration", &["SELECT"]),
    ("meta", &["SELECT"]),
];

/// Columns of `meta` that retention writes.
const META_COLUMNS: [&str; 2] = ["floor", "late_rows"];

/// Functions, with the types of their arguments.
const FUNCTIONS: [(&str, &str); 2] = [("lock_key", "text"), ("uuidv7", "")];

// By oid from the catalog: a name would be refused where the right on the schema is missing.
// A privilege on an object that is not there is null, and counts as missing.
const SCHEMA: &str = "
SELECT current_user::text, quote_ident(current_user), has_schema_privilege(oid, 'USAGE')
FROM pg_namespace WHERE nspname = $1";

const RELATION: &str = "
SELECT coalesce((
    SELECT CASE relkind WHEN 'S' THEN has_sequence_privilege(pg_class.oid, $3)
                        ELSE has_table_privilege(pg_class.oid, $3) END
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname = $1 AND relname = $2
), false)";

const COLUMN: &str = "
SELECT coalesce((
    SELECT has_column_privilege(pg_class.oid, attnum, 'UPDATE')
    FROM pg_class
    JOIN pg_namespace ON pg_namespace.oid = relnamespace
    JOIN pg_attribute ON attrelid = pg_class.oid
    WHERE nspname = $1 AND relname = 'meta' AND attname = $2
), false)";

const FUNCTION: &str = "
SELECT coalesce((
    SELECT has_function_privilege(pg_proc.oid, 'EXECUTE')
    FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace
    WHERE nspname = $1 AND proname = $2 AND oidvectortypes(proargtypes) = $3
), false)";

pub(super) async fn look(client: &Client, schema: &Schema) -> Result<Vec<Finding>, Error> {
    let name = schema.name();
    let row = client.query_one(SCHEMA, &[&name]).await?;
    let (role, quoted): (String, String) = (row.get(0), row.get(1));
    let mut missing = Vec::new();
    if !row.get::<_, bool>(2) {
        missing.push(("USAGE on the schema".to_owned(), schema.sql("USAGE ON SCHEMA outbox")));
    }
    let relations = TABLES
        .iter()
        .flat_map(|(table, rights)| rights.iter().map(move |right| (*table, *right)))
        .chain([("message_state", "SELECT"), ("message_id_seq", "SELECT")]);
    for (table, right) in relations {
        if !client.query_one(RELATION, &[&name, &table, &right]).await?.get::<_, bool>(0) {
            let kind = if table.ends_with("_seq") { "SEQUENCE " } else { "" };
            let on = schema.sql(&format!("{right} ON {kind}outbox.{table}"));
            missing.push((format!("{right} on {table}"), on));
        }
    }
    for column in META_COLUMNS {
        if !client.query_one(COLUMN, &[&name, &column]).await?.get::<_, bool>(0) {
            let on = schema.sql(&format!("UPDATE ({column}) ON outbox.meta"));
            missing.push((format!("UPDATE of {column} on meta"), on));
        }
    }
    for (function, arguments) in FUNCTIONS {
        if !client.query_one(FUNCTION, &[&name, &function, &arguments]).await?.get::<_, bool>(0) {
            let on = schema.sql(&format!("EXECUTE ON FUNCTION outbox.{function}({arguments})"));
            missing.push((format!("EXECUTE on {function}"), on));
        }
    }
    if missing.is_empty() {
        return Ok(vec![Finding::ok("grants", format!("{role} has what the relay needs"))]);
    }
    let finding = |(what, on): (String, String)| {
        Finding::fail("grants", format!("{role} lacks {what}"), format!("GRANT {on} TO {quoted}"))
    };
    Ok(missing.into_iter().map(finding).collect())
}
