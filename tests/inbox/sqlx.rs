//! The inbox in transactions of sqlx.

use outbox_inbox::sqlx::process;
use outbox_inbox::{Cause, HandlerError, Inbox, Outcome, Park};
use sqlx::{Connection, PgConnection, PgPool};

use crate::process::{PAYMENTS, message, payments};
use crate::support::database::Database;
use crate::support::id;

async fn pay(connection: &mut PgConnection) -> Result<(), HandlerError> {
    sqlx::query("INSERT INTO payment VALUES ('p', 10)").execute(connection).await?;
    Ok(())
}

#[tokio::test]
async fn sqlx_does_what_tokio_postgres_does() {
    let database = Database::create().await;
    let session = database.connect().await;
    session.run(PAYMENTS).await;
    let inbox = Inbox::builder("billing").attempts_max(2).build().unwrap();
    let mut connection = PgConnection::connect(&database.url).await.unwrap();
    let id = id::new();
    // GIVEN an attempt that fails WHEN the next one succeeds THEN its effect is there once
    let fail = async |connection: &mut PgConnection| {
        pay(connection).await?;
        Err::<(), _>(HandlerError::transient("x"))
    };
    let delivery = message(&id, b"x");
    let failed = process(&inbox, &mut connection, &delivery, fail).await.unwrap();
    assert!(matches!(failed, Outcome::Retry { attempt: 1, .. }));
    let done = process(&inbox, &mut connection, &delivery, pay).await.unwrap();
    assert_eq!(done, Outcome::Done { value: (), attempt: 2 });
    let again = process(&inbox, &mut connection, &delivery, pay).await.unwrap();
    assert_eq!(again, Outcome::DuplicateIgnored { cause: Cause::Unknown });
    assert_eq!(payments(&session).await, 1);
    // An effect that is there, another message under a known id, and one without any.
    session.run("CREATE UNIQUE INDEX payment_key ON payment (id)").await;
    let (other, none) = (crate::support::id::new(), String::new());
    for (id, payload, why) in [
        (&other, "x", Park::AlreadyExists),
        (&id, "another", Park::Mismatch),
        (&none, "x", Park::MissingId),
    ] {
        let delivery = message(id, payload.as_bytes());
        let parked = process(&inbox, &mut connection, &delivery, pay).await.unwrap();
        assert_eq!(parked, Outcome::Parked { why, attempts: 1 });
    }
}

#[tokio::test]
async fn the_two_clients_share_one_inbox() {
    // GIVEN a message that was processed through tokio-postgres
    let database = Database::create().await;
    let mut session = database.connect().await;
    session.run(PAYMENTS).await;
    let (inbox, id) = (Inbox::builder("billing").build().unwrap(), id::new());
    let delivery = message(&id, b"x");
    inbox.process(&mut session, &delivery, async |_| Ok(())).await.unwrap();
    // WHEN sqlx gets it, from a pool and in a task THEN it is a duplicate
    let pool = PgPool::connect(&database.url).await.unwrap();
    let mut task = tokio::task::JoinSet::new();
    task.spawn(async move {
        let mut connection = pool.acquire().await.unwrap();
        let delivery = message(&id, b"x");
        process(&inbox, &mut connection, &delivery, pay).await.unwrap()
    });
    let outcome = task.join_next().await.unwrap().unwrap();
    assert_eq!(outcome, Outcome::DuplicateIgnored { cause: Cause::Unknown });
}
