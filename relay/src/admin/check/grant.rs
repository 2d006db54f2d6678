//! The rights of the relay's role: what schema/0008_grant.sql gives. Each missing one is a statement, unless so many
//! are missing that one command is the answer.

use tokio_postgres::{Client, Error};

use super::Finding;
use crate::schema::Schema;

/// More missing rights than this are one line: they were never given, not taken away one by one.
const LINES_MAX: usize = 5;

/// Table, and the rights on it.
const TABLES: [(&str, &[&str]); 14] = [
    ("message", &["SELECT", "DELETE"]),
    ("ledger", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("hole", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("retry", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("dead", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("kept", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("watermark", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("route", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("trouble", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("unrouted", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("decision", &["SELECT", "INSERT"]),
    ("displaced", &["SELECT", "INSERT"]),
    ("migration", &["SELECT"]),
    ("meta", &["SELECT"]),
];

/// Columns that the relay updates, of tables that it does not update otherwise.
const COLUMNS: [(&str, &str); 4] = [
    ("meta", "floor"),
    ("meta", "late_rows"),
    ("meta", "place"),
    // `target rename` renames what is kept of the target as well.
    ("displaced", "target"),
];

/// Functions, with the types of their arguments.
const FUNCTIONS: [(&str, &str); 3] = [("lock_key", "text"), ("place", ""), ("uuidv7", "")];

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
    WHERE nspname = $1 AND relname = $2 AND attname = $3
), false)";

const FUNCTION: &str = "
SELECT coalesce((
    SELECT has_function_privilege(pg_proc.oid, 'EXECUTE')
    FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace
    WHERE nspname = $1 AND proname = $2 AND oidvectortypes(proargtypes) = $3
), false)";

/// A right that a role lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingRight {
    /// For people: `SELECT on message`.
    pub what: String,
    /// The statement that gives it.
    pub statement: String,
}

/// What the session's role has of all rights.
struct Rights {
    role: String,
    looked_at: usize,
    missing: Vec<MissingRight>,
}

pub(super) async fn look(client: &Client, schema: &Schema) -> Result<Vec<Finding>, Error> {
    let Rights { role, looked_at, missing } = rights(client, schema).await?;
    if missing.is_empty() {
        return Ok(vec![Finding::ok("grants", format!("{role} has what the relay needs"))]);
    }
    if missing.len() > LINES_MAX {
        let named: Vec<_> = missing.iter().take(3).map(|right| right.what.as_str()).collect();
        let detail = match missing.len() == looked_at {
            true => format!("{role} has no right on the outbox"),
            false => format!(
                "{role} lacks {} of the {looked_at} rights that the relay needs: {}, …",
                missing.len(),
                named.join(", ")
            ),
        };
        return Ok(vec![Finding::fail("grants", detail, remedy(schema, &role))]);
    }
    let finding = |right: MissingRight| {
        Finding::fail("grants", format!("{role} lacks {}", right.what), right.statement)
    };
    Ok(missing.into_iter().map(finding).collect())
}

/// Every right that the session's role lacks.
///
/// # Errors
/// The database's.
pub async fn missing_rights(client: &Client, schema: &Schema) -> Result<Vec<MissingRight>, Error> {
    Ok(rights(client, schema).await?.missing)
}

async fn rights(client: &Client, schema: &Schema) -> Result<Rights, Error> {
    let name = schema.name();
    let row = client.query_one(SCHEMA, &[&name]).await?;
    let (role, quoted): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    let mut rights = Rights { role, looked_at: 0, missing: Vec::new() };
    let mut looked_at = |has: bool, what: String, on: &str| {
        rights.looked_at += 1;
        if !has {
            let statement = format!("GRANT {} TO {quoted}", schema.sql(on));
            rights.missing.push(MissingRight { what, statement });
        }
    };
    looked_at(row.try_get(2)?, "USAGE on the schema".to_owned(), "USAGE ON SCHEMA outbox");
    let relations = TABLES
        .iter()
        .flat_map(|(table, rights)| rights.iter().map(move |right| (*table, *right)))
        .chain([("message_state", "SELECT"), ("message_id_seq", "SELECT")]);
    for (table, right) in relations {
        let has = client.query_one(RELATION, &[&name, &table, &right]).await?.try_get(0)?;
        let kind = if table.ends_with("_seq") { "SEQUENCE " } else { "" };
        let on = format!("{right} ON {kind}outbox.{table}");
        looked_at(has, format!("{right} on {table}"), &on);
    }
    for (table, column) in COLUMNS {
        let has = client.query_one(COLUMN, &[&name, &table, &column]).await?.try_get(0)?;
        let on = format!("UPDATE ({column}) ON outbox.{table}");
        looked_at(has, format!("UPDATE of {column} on {table}"), &on);
    }
    for (function, arguments) in FUNCTIONS {
        let has = client.query_one(FUNCTION, &[&name, &function, &arguments]).await?.try_get(0)?;
        let on = format!("EXECUTE ON FUNCTION outbox.{function}({arguments})");
        looked_at(has, format!("EXECUTE on {function}"), &on);
    }
    Ok(rights)
}

/// The command that gives all rights at once.
fn remedy(schema: &Schema, role: &str) -> String {
    let of_schema = match *schema == Schema::default() {
        true => String::new(),
        false => format!(" --schema {}", schema.name()),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.@".contains(c);
    let role = match role.chars().all(plain) {
        true => role.to_owned(),
        false => format!("'{}'", role.replace('\'', "'\\''")),
    };
    format!(
        "as the outbox's owner (--url postgres://OWNER@HOST/DATABASE): \
         outbox-relay migrate{of_schema} --grant-relay {role}"
    )
}
