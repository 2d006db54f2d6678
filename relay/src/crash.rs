//! Named crash points at every effect boundary, for tests that kill the process exactly there.
//!
//! Only in builds with debug assertions, and only when `OUTBOX_RELAY_CRASH_POINT` names the point:
//! `after_send` aborts at its first pass, `after_send:3` at its third.

/// Aborts the process if `OUTBOX_RELAY_CRASH_ROW` names this row: a message that ends whoever sends it.
#[inline]
pub(crate) fn sending(row: i64) {
    if cfg!(debug_assertions) {
        armed::row(row);
    }
}

/// Before a message is handed to the target.
pub(crate) const BEFORE_SEND: &str = "before_send";
/// After messages were handed to the client library, which may have written some of them.
pub(crate) const AFTER_SEND: &str = "after_send";
/// After a confirm came, before it is marked.
pub(crate) const AFTER_CONFIRM: &str = "after_confirm";
/// After a mark was committed.
pub(crate) const AFTER_MARK: &str = "after_mark";
/// After the row of a recorded hole arrived, before it is sent.
pub(crate) const HOLE_ARRIVED: &str = "hole_arrived";

/// Aborts the process if this is the pass that was asked for.
#[inline]
pub(crate) fn point(name: &str) {
    if cfg!(debug_assertions) {
        armed::pass(name);
    }
}

mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static ARMED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static PASSES: AtomicU64 = AtomicU64::new(0);

    static ROW: OnceLock<Option<i64>> = OnceLock::new();

    pub(super) fn row(row: i64) {
        let armed = ROW.get_or_init(|| std::env::var("OUTBOX_RELAY_CRASH_ROW").ok()?.parse().ok());
        if *armed == Some(row) {
            std::process::abort();
        }
    }

    pub(super) fn pass(name: &str) {
        let armed = ARMED.get_or_init(|| {
            let text = std::env::var("OUTBOX_RELAY_CRASH_POINT").ok()?;
            let (name, pass) = text.split_once(':').unwrap_or((&text, "1"));
            Some((name.to_owned(), pass.parse().ok()?))
        });
        if let Some((armed, pass)) = armed
            && armed == name
            && PASSES.fetch_add(1, Ordering::Relaxed) + 1 == *pass
        {
            std::process::abort();
        }
    }
}
