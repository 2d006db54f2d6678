//! What is lost in the middle: backends, the database, a lease.

use outbox_inbox::http::{Mode, UNRECORDED};
use serde_json::json;

use super::server::Shop;
use crate::support::meter::counted;
use crate::support::patience::until;

#[tokio::test]
async fn a_killed_backend_takes_the_claim_with_it() {
    let shop = Shop::open(Mode::Transactional).await;
    // WHEN the backend of a handler is killed after it has paid
    let first = shop.pay("k", &json!({"do": "kill"})).await;
    // THEN the client is told, nothing is left, and the repetition is done
    assert_eq!((first.status, shop.payments().await, shop.keys().await), (500, 0, 0));
    // The pool may have another connection of the same fate: the layer asks the database, not the pool.
    let again = shop.pay("k2", &json!({})).await;
    assert_eq!((again.status, again.is_replayed()), (201, false));
    assert_eq!(shop.payments().await, 1);
}

#[tokio::test]
async fn a_backend_that_is_killed_from_outside_frees_the_key() {
    let shop = Shop::open(Mode::Transactional).await;
    // GIVEN a handler that has paid and waits
    let body = json!({"do": "wait"});
    let (first, ()) = tokio::join!(shop.pay("k", &body), async {
        shop.stage.wait_entered().await;
        // WHEN its backend is killed
        shop.session
            .run(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'
                  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            )
            .await;
        until("the claim to be gone", async || (shop.claims().await == 0).then_some(())).await;
        shop.stage.gate.add_permits(2);
    });
    // THEN the handler's success is not believed
    first.assert_problem(503, "temporarily_unavailable");
    assert_eq!((shop.payments().await, shop.keys().await), (0, 0));
    // AND the same request is done anew
    let again = shop.pay("k", &body).await;
    assert_eq!((again.status, again.is_replayed(), shop.payments().await), (201, false, 1));
}

#[tokio::test]
async fn without_the_database_nothing_is_done() {
    for mode in [Mode::Transactional, Mode::leased()] {
        // GIVEN a shop without an inbox
        let shop = Shop::open(mode).await;
        shop.session.run("ALTER SCHEMA outbox RENAME TO elsewhere").await;
        // WHEN a request comes THEN it is not done unprotected
        let reply = shop.pay("k", &json!({})).await;
        reply.assert_problem(503, "temporarily_unavailable");
        assert_eq!(reply.header("retry-after"), Some("1"));
        assert_eq!((shop.payments().await, shop.counted("unavailable")), (0, 1));
        // AND when it is back, it is
        shop.session.run("ALTER SCHEMA elsewhere RENAME TO outbox").await;
        assert_eq!(shop.pay("k", &json!({})).await.status, 201);
    }
}

/// The backend of a payment that was asked for so ends in its COMMIT.
const DIE_IN_COMMIT: &str = "
CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_terminate_backend(pg_backend_pid());
    -- The signal is looked for between statements.
    PERFORM pg_sleep(60);
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER die AFTER INSERT ON payments DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION die()";

#[tokio::test]
async fn a_connection_that_is_lost_in_the_commit_is_not_called_a_failure() {
    let shop = Shop::open(Mode::Transactional).await;
    shop.session.run(DIE_IN_COMMIT).await;
    // WHEN the connection is lost in the COMMIT THEN nobody claims to know the outcome
    let first = shop.pay("k", &json!({})).await;
    first.assert_problem(503, "commit_unknown");
    assert_eq!(first.header("retry-after"), Some("1"));
    // AND the same request finds out: here, that it was rolled back
    shop.session.run("DROP TRIGGER die ON payments").await;
    // (The pool may not have noticed yet that a connection is gone: that is another 503.)
    let again = until("the database to be back", async || {
        let again = shop.pay("k", &json!({})).await;
        (again.status != 503).then_some(again)
    });
    let again = again.await;
    assert_eq!((again.status, again.is_replayed(), shop.payments().await), (201, false, 1));
}

#[tokio::test]
async fn an_answer_that_cannot_be_recorded_is_given_and_counted() {
    let shop = Shop::open(Mode::leased()).await;
    let body = json!({"do": "wait after charge"});
    // WHEN the inbox is away after the handler has done its work
    let (first, ()) = tokio::join!(shop.pay("k", &body), async {
        shop.stage.wait_entered().await;
        shop.session.run("ALTER SCHEMA outbox RENAME TO elsewhere").await;
        shop.stage.gate.add_permits(1);
    });
    // THEN its client is told what has happened
    assert_eq!((first.status, shop.payments().await), (201, 1));
    assert_eq!(counted(UNRECORDED, &[("route", &shop.route)]), 1);
    // AND nobody does it again
    shop.session.run("ALTER SCHEMA elsewhere RENAME TO outbox").await;
    shop.pay("k", &body).await.assert_problem(409, "request_in_flight");
}
