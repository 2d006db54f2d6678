//! `[inbox.NAME]`: a consumer's inbox that this process maintains.

use std::time::Duration;

use super::default::{
    DEFAULT_INBOX_AHEAD, DEFAULT_INBOX_DETACH_TIMEOUT, DEFAULT_INBOX_INTERVAL,
    DEFAULT_INBOX_RETENTION,
};
use super::raw::RawInbox;
use super::section::Section;
use super::{InboxConfig, database};

const DAY: Duration = Duration::from_secs(86_400);
const YEARS_10: Duration = Duration::from_secs(86_400 * 3_650);

pub(super) fn check(name: &str, raw: &RawInbox, s: &mut Section<'_>) -> InboxConfig {
    InboxConfig {
        name: name.to_owned(),
        database: database::check(&raw.database.0, &mut s.table("database")),
        retention: s.duration("retention", &raw.retention, DEFAULT_INBOX_RETENTION, DAY..=YEARS_10),
        ahead: s.duration("ahead", &raw.ahead, DEFAULT_INBOX_AHEAD, DAY..=DAY * 366),
        interval: s.duration(
            "interval",
            &raw.interval,
            DEFAULT_INBOX_INTERVAL,
            Duration::from_secs(1)..=DAY,
        ),
        detach_timeout: s.duration(
            "detach_timeout",
            &raw.detach_timeout,
            DEFAULT_INBOX_DETACH_TIMEOUT,
            Duration::from_millis(10)..=DAY,
        ),
    }
}
