//! A pooler that hands out a server session per transaction: the lock, the settings and the prepared
//! statements of a session would be somebody else's, and another would hold what this one took.

use tokio_postgres::{Client, Error, SimpleQueryMessage};

use super::{DatabaseError, Host, Session};
use crate::config::DatabaseConfig;

/// Statements on each connection; a pooler that has idle server sessions changes at the second.
const STATEMENTS: usize = 5;

/// What to do about a pooler.
pub const POOLER_HINT: &str =
    "let `url` under [database] lead to PostgreSQL itself, or to a pool in session mode";

/// Opens two connections and looks whether they are two server sessions that stay the same; what
/// shows a pooler if not.
///
/// The connections are not set up: behind a pooler that would change sessions of the application.
///
/// # Errors
/// See [`DatabaseError`].
pub async fn pooler(
    config: &DatabaseConfig,
    name: &str,
) -> Result<Option<&'static str>, DatabaseError> {
    let one = Session::open(config, name, Host::Any, |_| {}).await?;
    let other = Session::open(config, name, Host::Any, |_| {}).await?;
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for _ in 0..STATEMENTS {
        first.push(one.deadline().answer(pid(&one)).await??);
        second.push(other.deadline().answer(pid(&other)).await??);
    }
    Ok(judge(&first, &second))
}

/// Refuses to work behind such a pooler.
///
/// # Errors
/// `Configuration` behind one; else see [`DatabaseError`].
pub async fn refuse_pooler(config: &DatabaseConfig, name: &str) -> Result<(), DatabaseError> {
    match pooler(config, name).await? {
        None => Ok(()),
        Some(detail) => {
            Err(DatabaseError::Configuration { reason: detail.into(), hint: POOLER_HINT.into() })
        }
    }
}

/// By the simple protocol: a prepared statement may itself fail behind a pooler.
async fn pid(client: &Client) -> Result<String, Error> {
    let messages = client.simple_query("SELECT pg_backend_pid()").await?;
    let pid = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    Ok(pid.unwrap_or_default())
}

fn judge(one: &[String], other: &[String]) -> Option<&'static str> {
    let changes = |pids: &[String]| pids.iter().any(|pid| *pid != pids[0]);
    let shared = one.iter().any(|pid| other.contains(pid));
    match (shared, changes(one) || changes(other)) {
        (true, _) => Some("a pooler in transaction mode: two open connections are one session"),
        (false, true) => {
            Some("a pooler in transaction mode: the session of an open connection changes")
        }
        (false, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(one: [&str; 3], other: [&str; 3]) -> bool {
        judge(&one.map(str::to_owned), &other.map(str::to_owned)).is_some()
    }

    #[test]
    fn two_sessions_that_stay_are_no_pooler() {
        assert!(!found(["7"; 3], ["8"; 3]));
    }

    #[test]
    fn a_shared_or_a_changing_session_is_one() {
        assert!(found(["7"; 3], ["7"; 3]));
        assert!(found(["7", "9", "7"], ["8"; 3]));
        assert!(found(["7"; 3], ["8", "8", "7"]));
    }
}
