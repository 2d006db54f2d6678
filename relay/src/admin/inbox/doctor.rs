//! Is an inbox as its consumers need it? Read-only.

use std::time::Duration;

use outbox_inbox::maintenance::{Stats, stats};
use outbox_inbox::schema::{installed_version, newest_version};
use tokio_postgres::{Client, Error};

use crate::admin::check::{Finding, Level};
use crate::schema::Schema;

/// Fewer partitions ahead, and somebody has to look: the weekend is two days long.
pub const AHEAD_DAYS_WARN: i64 = 3;
/// The maintenance runs once an hour; twice may fail.
const MAINTAINED_WARN: Duration = Duration::from_secs(3 * 3_600);
/// Rows that are looked at for ids that are somebody's data.
const SAMPLE_ROWS: i64 = 10_000;

/// Something that may bring a message again, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Whose.
    pub name: String,
    /// So long after it was first sent; `None`: for ever.
    pub duration: Option<Duration>,
}

/// Everything that is to be said of an inbox.
///
/// # Errors
/// The database's.
pub async fn doctor(
    client: &Client,
    schema: &Schema,
    windows: &[Window],
) -> Result<Vec<Finding>, Error> {
    let mut findings = vec![installed(installed_version(client, schema).await?)];
    if findings[0].level >= Level::Fail {
        return Ok(findings);
    }
    let stats = stats(client, schema).await?;
    let now = "SELECT extract(epoch FROM now())::float8";
    let now: f64 = client.query_one(now, &[]).await?.try_get(0)?;
    findings.extend([partitions(&stats), maintained(&stats, now), parked(&stats)]);
    findings.push(default_partition(client, schema).await?);
    findings.push(names(client, schema).await?);
    let kept = Duration::from_secs_f64((now - stats.horizon).max(0.0));
    findings.extend(windows.iter().map(|window| retention(kept, window)));
    Ok(findings)
}

fn installed(version: Option<i32>) -> Finding {
    let remedy = "outbox-relay inbox init";
    match version {
        None => Finding::fail("schema", "there is no inbox", remedy),
        Some(version) if version < newest_version() => {
            Finding::fail("schema", format!("version {version} is old"), remedy)
        }
        Some(version) if version > newest_version() => Finding::warn(
            "schema",
            format!(
                "version {version} is newer than this program, which knows {}: what it says below may be incomplete",
                newest_version()
            ),
            "an outbox-relay of the version that ran `inbox init`",
        ),
        Some(version) => Finding::ok("schema", format!("version {version}")),
    }
}

fn partitions(stats: &Stats) -> Finding {
    let days = stats.partitions_ahead;
    let remedy = "outbox-relay inbox maintain, and find out why it does not run";
    match days {
        ..0 => Finding::fail("partitions", "none for today: nothing is taken", remedy),
        0..AHEAD_DAYS_WARN => Finding::warn("partitions", format!("{days} days ahead"), remedy),
        _ => Finding::ok("partitions", format!("{days} days ahead")),
    }
}

fn maintained(stats: &Stats, now: f64) -> Finding {
    let remedy = "[inbox.NAME] in the relay's configuration, a timer for `outbox-relay inbox maintain`, or pg_cron for outbox.inbox_maintain()";
    let Some(at) = stats.maintained_at else {
        return Finding::warn("maintenance", "it has never run", remedy);
    };
    let hours = ((now - at) / 3_600.0).max(0.0);
    if now - at > MAINTAINED_WARN.as_secs_f64() {
        return Finding::warn("maintenance", format!("last ran {hours:.1} hours ago"), remedy);
    }
    Finding::ok("maintenance", format!("ran {hours:.1} hours ago"))
}

fn parked(stats: &Stats) -> Finding {
    let parked = stats.parked;
    match parked {
        0 => Finding::ok("parked", "nothing waits for a person"),
        _ => Finding::warn(
            "parked",
            format!("{parked} messages wait for a person"),
            "outbox-relay inbox failures list",
        ),
    }
}

async fn default_partition(client: &Client, schema: &Schema) -> Result<Finding, Error> {
    let text = "SELECT partdefid <> 0 FROM pg_partitioned_table WHERE partrelid = 'outbox.inbox'::regclass";
    let found: bool = client.query_one(&schema.sql(text), &[]).await?.try_get(0)?;
    Ok(if found {
        Finding::fail(
            "default partition",
            "there is one: it takes ids of any day, and nothing can be detached concurrently",
            "detach it, after its rows have gone",
        )
    } else {
        Finding::ok("default partition", "none, as it should be")
    })
}

/// Ids that look like people's data. Only those without a day: a UUID is nobody's.
async fn names(client: &Client, schema: &Schema) -> Result<Finding, Error> {
    let text = r"
SELECT count(*) FILTER (WHERE message_id ~ '[^@[:space:]|]+@[^@[:space:]|]+\.[a-z]{2,}'),
    count(*) FILTER (WHERE message_id ~ '(^|[^0-9a-f-])(\+[0-9]{8,15}|00[0-9]{8,13})($|[^0-9a-f-])')
FROM (SELECT message_id FROM outbox.inbox_undated LIMIT $1) AS sample";
    let row = client.query_one(&schema.sql(text), &[&SAMPLE_ROWS]).await?;
    let (mails, phones): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    Ok(match (mails, phones) {
        (0, 0) => Finding::ok("ids", "none looks like an e-mail address or a phone number"),
        _ => Finding::warn(
            "ids",
            format!("{mails} look like e-mail addresses, {phones} like phone numbers"),
            "give messages UUIDs, or hash the id at the producer; until then LogKeys::Hash",
        ),
    })
}

fn retention(kept: Duration, window: &Window) -> Finding {
    let days = |duration: Duration| format!("{:.1} days", duration.as_secs_f64() / 86_400.0);
    let Window { name, duration } = window;
    match duration {
        Some(duration) if *duration <= kept => Finding::ok(
            name,
            format!("{}, and the inbox remembers {}", days(*duration), days(kept)),
        ),
        _ => Finding::fail(
            name,
            format!(
                "may bring a message again {}, and the inbox remembers {}: such a message is refused as stale, or done twice if its id has no day",
                duration.map_or("at any time".to_owned(), |d| format!("after {}", days(d))),
                days(kept)
            ),
            "a longer retention of the inbox, or a shorter one there",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn a_schema_of_another_version_is_never_called_right() {
        let newest = newest_version();
        let level = |version| installed(version).level;
        assert_eq!(level(None), Level::Fail);
        assert_eq!(level(Some(newest - 1)), Level::Fail);
        assert_eq!(level(Some(newest)), Level::Ok);
        assert_eq!(level(Some(newest + 1)), Level::Warn);
    }

    #[test]
    fn what_outlives_the_inbox_is_found() {
        let level =
            |duration| retention(DAY * 14, &Window { name: "kafka".to_owned(), duration }).level;
        assert_eq!(level(Some(DAY * 7)), Level::Ok);
        assert_eq!(level(Some(DAY * 30)), Level::Fail);
        assert_eq!(level(None), Level::Fail);
    }
}
