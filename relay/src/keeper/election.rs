//! Which relay is the keeper: the session that holds the advisory lock `@keeper`.

use tokio_postgres::{Client, Error};

use crate::schema::Schema;

const TRY: &str = "SELECT pg_try_advisory_lock(k1, k2) FROM outbox.lock_key('@keeper')";

/// Tries to become the keeper. The lock lasts as long as the session; everything the keeper does
/// runs on that session, so what it commits it commits while it is elected.
///
/// To be called until it succeeds, and then no more: a session can hold the lock several times.
///
/// # Errors
/// The database's.
pub async fn stand(client: &Client, schema: &Schema) -> Result<bool, Error> {
    client.query_one(&schema.sql(TRY), &[]).await?.try_get(0)
}
