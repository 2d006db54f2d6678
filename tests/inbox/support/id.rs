//! Message ids of chosen days.

use std::time::{SystemTime, UNIX_EPOCH};

use uuid::{NoContext, Timestamp, Uuid};

/// A new id of so many days from today on, in UTC.
pub(crate) fn of_day(days: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let seconds = now.checked_add_signed(days * 86_400).unwrap();
    Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, 0)).to_string()
}

/// A new id of today.
pub(crate) fn new() -> String {
    Uuid::now_v7().to_string()
}
