//! What PostgreSQL said, on one line, and what can be done about it.
//!
//! Nothing of a row reaches a line but its id: the detail of most errors shows the whole row.

use std::borrow::Cow;

use tokio_postgres::error::{DbError, SqlState};

use super::reaction::{Reaction, reaction};

/// The longest piece of an error's context or detail that is shown.
const SHOWN_CHARS_MAX: usize = 200;

/// One line: tokio-postgres says only "db error" and keeps what the server said as the cause. Names
/// the constraint and the trigger, if one of them refused the statement.
#[must_use]
pub fn describe(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => {
            let culprit = culprit(said).map_or_else(String::new, |culprit| format!(" [{culprit}]"));
            format!("{}{culprit} (SQLSTATE {})", said.message(), said.code().code())
        }
        None => {
            let mut text = error.to_string();
            let mut cause = std::error::Error::source(error);
            while let Some(error) = cause {
                text.push_str(": ");
                text.push_str(&error.to_string());
                cause = error.source();
            }
            text
        }
    }
}

/// Who refused the statement: the constraint with its table, or the function of a trigger.
fn culprit(said: &DbError) -> Option<String> {
    if let Some(constraint) = said.constraint() {
        let table = match (said.schema(), said.table()) {
            (Some(schema), Some(table)) => format!(" of table {schema}.{table}"),
            (None, Some(table)) => format!(" of table {table}"),
            _ => String::new(),
        };
        // A foreign key's detail names the key of the row that is referred to, and nothing else.
        let row = match said.detail().filter(|_| *said.code() == SqlState::FOREIGN_KEY_VIOLATION) {
            Some(detail) => format!(": {}", shown(detail)),
            None => String::new(),
        };
        return Some(format!("constraint {constraint}{table}{row}"));
    }
    function(said).map(shown)
}

/// The line of the context that names a function, in whatever language the server speaks.
fn function(said: &DbError) -> Option<&str> {
    let context = said.where_()?;
    context.lines().find(|line| line.contains("PL/")).or_else(|| context.lines().next())
}

fn shown(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

/// What an operator can do about an error of the server; `None` where waiting is all there is.
#[must_use]
pub fn remedy(error: &tokio_postgres::Error) -> Option<Cow<'static, str>> {
    let said = error.as_db_error()?;
    let code = said.code();
    match reaction(error) {
        Reaction::Reconnect | Reaction::Again => None,
        Reaction::Resources => Some(resources(code).into()),
        Reaction::Refused => Some(refused(said)),
        Reaction::Permission => Some(permission(said)),
        Reaction::Data => Some(data(code).into()),
        Reaction::Misfit if *code == SqlState::INVALID_CATALOG_NAME => {
            Some("check the database name at the end of database.url".into())
        }
        Reaction::Misfit => {
            Some("run `outbox-relay migrate` with this version of the relay".into())
        }
    }
}

fn resources(code: &SqlState) -> &'static str {
    match *code {
        SqlState::DISK_FULL => "free space on the disk of the database server",
        SqlState::OUT_OF_MEMORY => "the database server needs memory, or fewer sessions",
        SqlState::TOO_MANY_CONNECTIONS => {
            "raise max_connections or the role's CONNECTION LIMIT, or end idle sessions: \
             a relay needs 4 sessions and 2 for each target"
        }
        SqlState::CONFIGURATION_LIMIT_EXCEEDED => {
            "raise the limit of the database server that the error names"
        }
        _ => "look at the log and the disks of the database server",
    }
}

fn refused(said: &DbError) -> Cow<'static, str> {
    match (said.constraint(), said.table()) {
        (Some(constraint), Some(table)) if *said.code() == SqlState::FOREIGN_KEY_VIOLATION => {
            format!(
                "no table may refer to the outbox by a foreign key, since its rows are deleted: \
                 ALTER TABLE {table} DROP CONSTRAINT {constraint}, and keep message_id there instead"
            )
            .into()
        }
        (Some(constraint), Some(table)) => {
            format!("drop what was added to the outbox: ALTER TABLE {table} DROP CONSTRAINT {constraint}")
                .into()
        }
        _ => "drop or mend the trigger or rule that was added to the outbox; \
              `outbox-relay check` names those it finds"
            .into(),
    }
}

fn data(code: &SqlState) -> &'static str {
    match *code {
        SqlState::CHARACTER_NOT_IN_REPERTOIRE | SqlState::UNTRANSLATABLE_CHARACTER => {
            "the database should have the encoding UTF8 (SHOW server_encoding)"
        }
        SqlState::DATA_CORRUPTED | SqlState::INDEX_CORRUPTED | SqlState::INTERNAL_ERROR => {
            "look at the log of the database server; `pg_amcheck` finds damaged tables and indexes"
        }
        _ => "look at the row that the error names",
    }
}

/// The rows that a policy hides would be lost: with `row_security = off` the statement fails instead.
const POLICY_HINT: &str = "the relay must see every row: give its role BYPASSRLS, or disable row-level security on the tables of the outbox";
const GRANT_HINT: &str = "run `outbox-relay migrate --grant-relay ROLE` as the owner; `outbox-relay check` names each missing grant";
const LOGIN_HINT: &str = "check the user in database.url, its password, and pg_hba.conf";
const CONNECT_HINT: &str = "GRANT CONNECT ON DATABASE … TO the role in database.url";
const OWNER_HINT: &str = "run the command as the owner of the outbox, or as a superuser";

/// `routine` is the server's function that raised it: the same in every language of its messages.
fn permission(said: &DbError) -> Cow<'static, str> {
    permission_hint(said.code(), said.routine().unwrap_or_default(), said.message())
}

fn permission_hint(code: &SqlState, routine: &str, message: &str) -> Cow<'static, str> {
    if *code != SqlState::INSUFFICIENT_PRIVILEGE {
        return if code.code().starts_with("28") { LOGIN_HINT } else { GRANT_HINT }.into();
    }
    match routine {
        "check_enable_rls" | "ExecWithCheckOptions" => return POLICY_HINT.into(),
        "CheckMyDatabase" => return CONNECT_HINT.into(),
        "aclcheck_error_type" => return OWNER_HINT.into(),
        _ => {}
    }
    // The name of a function of the server stands in the message, in whatever language that is.
    let is_name = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '_';
    match message.split(|char| !is_name(char)).find(|word| word.starts_with("pg_")) {
        Some(function) => format!(
            "as a superuser, GRANT EXECUTE ON FUNCTION pg_catalog.{function} TO the role in \
             database.url (with its argument types, if there are several)"
        )
        .into(),
        None => GRANT_HINT.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_permission_has_a_remedy_of_its_own() {
        for (code, routine, message, hint) in [
            (
                "42501",
                "check_enable_rls",
                "query would be affected by row-level security",
                "BYPASSRLS",
            ),
            ("42501", "aclcheck_error", "permission denied for table ledger", "--grant-relay"),
            (
                "42501",
                "aclcheck_error",
                "keine Berechtigung für Funktion pg_control_system",
                "GRANT EXECUTE ON FUNCTION pg_catalog.pg_control_system",
            ),
            ("42501", "CheckMyDatabase", "permission denied for database", "GRANT CONNECT"),
            ("28P01", "auth_failed", "password authentication failed", "password"),
            ("28000", "ClientAuthentication", "no pg_hba.conf entry", "pg_hba.conf"),
            ("0P000", "", "", "--grant-relay"),
        ] {
            let text = permission_hint(&SqlState::from_code(code), routine, message);
            assert!(text.contains(hint), "{code} {routine}: {text}");
        }
    }

    #[test]
    fn a_long_piece_of_a_context_is_cut_between_characters() {
        let text = shown(&"ü".repeat(300));
        assert_eq!(text.chars().count(), SHOWN_CHARS_MAX + 1);
        assert_eq!(shown("a\n  b"), "a b");
    }
}
