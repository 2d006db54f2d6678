//! A pooler that hands out a server session per transaction: locks, settings and temporary objects of
//! a session would be somebody else's.

use tokio_postgres::{Client, Error, SimpleQueryMessage};

use super::Finding;

/// Statements on each connection; a pooler that has idle server sessions changes at the second.
const STATEMENTS: usize = 5;

/// Looks whether two open connections are two server sessions, and stay the same.
///
/// # Errors
/// None: what cannot be looked at is a finding.
pub async fn pooler(one: &Client, other: &Client) -> Finding {
    match pids(one, other).await {
        Ok((one, other)) => judge(&one, &other),
        Err(error) => super::unknown("pooler", &error),
    }
}

async fn pids(one: &Client, other: &Client) -> Result<(Vec<String>, Vec<String>), Error> {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for _ in 0..STATEMENTS {
        first.push(pid(one).await?);
        second.push(pid(other).await?);
    }
    Ok((first, second))
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

fn judge(one: &[String], other: &[String]) -> Finding {
    let changes = |pids: &[String]| pids.iter().any(|pid| *pid != pids[0]);
    let shared = one.iter().any(|pid| other.contains(pid));
    let detail = match (shared, changes(one) || changes(other)) {
        (true, _) => "two open connections are one server session",
        (false, true) => "the server session of an open connection changes",
        (false, false) => return Finding::ok("pooler", "none in the way"),
    };
    Finding::fail(
        "pooler",
        format!("{detail}: a pooler in transaction mode"),
        "let `url` under [database] lead to PostgreSQL itself, or to a pool in session mode",
    )
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    fn level(one: [&str; 3], other: [&str; 3]) -> Level {
        judge(&one.map(str::to_owned), &other.map(str::to_owned)).level
    }

    #[test]
    fn two_sessions_that_stay_are_no_pooler() {
        assert_eq!(level(["7"; 3], ["8"; 3]), Level::Ok);
    }

    #[test]
    fn a_shared_or_a_changing_session_is_one() {
        assert_eq!(level(["7"; 3], ["7"; 3]), Level::Fail);
        assert_eq!(level(["7", "9", "7"], ["8"; 3]), Level::Fail);
        assert_eq!(level(["7"; 3], ["8", "8", "7"]), Level::Fail);
    }
}
