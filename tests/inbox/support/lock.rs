//! Waiting until a backend waits.

use crate::support::patience::until;
use crate::support::session::Session;

/// The process number of a session's backend.
pub(crate) async fn backend(session: &Session) -> i32 {
    session.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0)
}

/// Returns once the backend waits for somebody's lock.
pub(crate) async fn wait_blocked(observer: &Session, backend: i32) {
    until("the backend to wait for a lock", async || {
        let text = "SELECT cardinality(pg_blocking_pids($1)) > 0";
        observer.query_one(text, &[&backend]).await.unwrap().get::<_, bool>(0).then_some(())
    })
    .await;
}
