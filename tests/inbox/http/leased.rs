//! Leases: kept answers, lost leases, work that is taken up again.

use std::time::Duration;

use outbox_inbox::http::{LEASE_LOST, Mode};
use outbox_inbox::idempotency::ResumeAt;
use serde_json::json;

use super::server::Shop;
use crate::support::meter::counted;
use crate::support::patience::until;

/// The lease of a process that is no more.
const END_LEASES: &str = "UPDATE outbox.idempotency_key SET lease_until = clock_timestamp() - interval '1 s' WHERE status IS NULL";

fn resumable() -> Mode {
    Mode::Leased {
        lease: Duration::from_secs(60),
        resume_at: ResumeAt::Points(vec!["charge".into()]),
    }
}

#[tokio::test]
async fn a_failure_is_not_the_last_word() {
    // GIVEN shops that take lost work up, and that do not
    for mode in [Mode::leased(), resumable()] {
        for act in ["fail after charge", "panic after charge"] {
            let shop = Shop::open(mode.clone()).await;
            // WHEN a handler has charged, and answers 502 or panics
            let first = shop.pay("k", &json!({"do": act})).await;
            assert!(first.status >= 500, "{first:?}");
            // THEN the next request under the key goes on behind the charge
            let second = shop.pay("k", &json!({"do": act})).await;
            assert_eq!((second.status, second.is_replayed()), (201, false), "{act}");
            assert_eq!((shop.counted("resumed"), shop.payments().await), (1, 1));
            assert_eq!(shop.stage.charges.lock().unwrap().len(), 1, "{act}");
            // AND its answer is the one that is kept
            let third = shop.pay("k", &json!({"do": act})).await;
            assert_eq!((third.is_replayed(), &third.body), (true, &second.body));
        }
    }
}

#[tokio::test]
async fn a_failure_before_the_first_step_is_done_anew() {
    let shop = Shop::open(Mode::leased()).await;
    for act in ["fail", "panic"] {
        for _ in 0..2 {
            let reply = shop.pay(act, &json!({"do": act})).await;
            assert_eq!((reply.status, reply.is_replayed()), (500, false), "{act}");
        }
        // The key stays that request's: a step of it may have been made and not recorded.
        let other = shop.pay(act, &json!({"do": "pay"})).await;
        other.assert_problem(422, "idempotency_key_reused");
    }
    assert_eq!(shop.counted("resumed"), 2);
    // Nothing was recorded, so no operator has to look at it.
    let lost = "SELECT expired_leases FROM outbox.idempotency_state";
    assert_eq!(shop.session.count(lost).await, 0);
    // BUT a handler that says so has its failure kept: what it did outside was no step
    for replayed in [false, true] {
        let reply = shop.pay("k", &json!({"do": "keep failed"})).await;
        assert_eq!((reply.status, reply.is_replayed()), (500, replayed));
    }
}

#[tokio::test]
async fn a_handler_under_a_lease_that_hangs_is_given_up_and_gone_on_with() {
    let limit = Duration::from_secs(2);
    let shop = Shop::open_with(Mode::leased(), |builder| builder.handler_timeout(limit)).await;
    let body = json!({"do": "hang after charge"});
    // WHEN a handler has charged, and hangs THEN its client is asked to come again
    let first = shop.pay("k", &body).await;
    first.assert_problem(503, "handler_timeout");
    assert!(first.header("retry-after").is_some());
    // AND the next one goes on behind the charge
    assert_eq!(shop.pay("k", &body).await.status, 201);
    assert_eq!(shop.stage.charges.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_lease_is_renewed_while_its_handler_works() {
    let mode = Mode::Leased { lease: Duration::from_secs(2), resume_at: ResumeAt::Anywhere };
    let shop = Shop::open(mode).await;
    let body = json!({"do": "wait after charge"});
    let slow = shop.send_and_keep("k", &body).await;
    shop.stage.wait_entered().await;
    // WHEN the lease that the charge was recorded under has ended
    let ends = "SELECT lease_until::text FROM outbox.idempotency_key";
    let ends: String = shop.session.query_one(ends, &[]).await.unwrap().get(0);
    until("the lease to have ended", async || {
        let over =
            format!("SELECT count(*) FROM (SELECT 1) AS one WHERE clock_timestamp() > '{ends}'");
        (shop.session.count(&over).await == 1).then_some(())
    })
    .await;
    // THEN the handler still has it, and no other attempt takes it over
    let other = shop.pay("k", &body).await;
    other.assert_problem(409, "request_in_flight");
    // AND the client learns what is left of it
    let left: u64 = other.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=2).contains(&left), "{left}");
    shop.stage.gate.add_permits(1);
    shop.layer.drain().await;
    assert!(shop.pay("k", &body).await.is_replayed());
    assert_eq!(shop.stage.charges.lock().unwrap().len(), 1);
    drop(slow);
}

#[tokio::test]
async fn a_request_in_flight_says_what_is_left_of_its_lease() {
    let shop = Shop::open(resumable()).await;
    let body = json!({"do": "wait"});
    let slow = shop.send_and_keep("k", &body).await;
    shop.stage.wait_entered().await;
    shop.session
        .run("UPDATE outbox.idempotency_key SET lease_until = clock_timestamp() + interval '1 h'")
        .await;
    let other = shop.pay("k", &body).await;
    other.assert_problem(409, "request_in_flight");
    let left: u64 = other.header("retry-after").unwrap().parse().unwrap();
    assert!(left > 60 && left <= 3_600, "{left}");
    shop.stage.gate.add_permits(1);
    shop.layer.drain().await;
    drop(slow);
}

#[tokio::test]
async fn who_did_nothing_gives_the_key_back() {
    let shop = Shop::open(Mode::leased()).await;
    assert_eq!(shop.pay("k", &json!({"do": "nothing"})).await.status, 200);
    assert_eq!(shop.keys().await, 0);
    // BUT not after it has charged: then the next one goes on from there
    for _ in 0..2 {
        let reply = shop.pay("k", &json!({"do": "nothing after charge"})).await;
        assert_eq!((reply.status, reply.is_replayed()), (200, false));
        assert_eq!(shop.keys().await, 1);
    }
    assert_eq!(shop.stage.charges.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn lost_work_is_not_repeated_blindly() {
    // GIVEN a shop that declares no phases, and a process of it that was lost after its charge
    let shop = Shop::open(Mode::leased()).await;
    let body = json!({"do": "wait after charge"});
    let lost = shop.send_and_keep("k", &body).await;
    shop.stage.wait_entered().await;
    shop.session.run(END_LEASES).await;
    // WHEN it is asked for again THEN the outcome is unknown, and asking again does not help
    let reply = shop.pay("k", &body).await;
    reply.assert_problem(409, "outcome_unknown");
    assert_eq!((reply.header("retry-after"), shop.counted("unknown")), (None, 1));
    // AND if the lost one was only slow, its answer is the outcome
    shop.stage.gate.add_permits(1);
    shop.layer.drain().await;
    assert!(shop.pay("k", &body).await.is_replayed());
    assert_eq!(shop.stage.charges.lock().unwrap().len(), 1);
    assert_eq!(shop.payments().await, 1);
    drop(lost);
}

#[tokio::test]
async fn lost_work_is_taken_up_at_its_recovery_point() {
    // GIVEN a process that was lost after its charge
    let shop = Shop::open(resumable()).await;
    let body = json!({"do": "wait after charge"});
    let lost = shop.send_and_keep("k", &body).await;
    shop.stage.wait_entered().await;
    shop.session.run(END_LEASES).await;
    // WHEN it is asked for again
    shop.stage.gate.add_permits(0);
    let (second, ()) = tokio::join!(shop.pay("k", &body), async {
        shop.stage.wait_entered().await;
        shop.stage.gate.add_permits(2);
    });
    // THEN it goes on behind the charge
    assert_eq!((second.status, second.is_replayed(), shop.counted("resumed")), (201, false, 1));
    assert_eq!(shop.stage.charges.lock().unwrap().len(), 1);
    drop(lost);
    shop.layer.drain().await;
    // AND the lost one, which was only slow, has not overwritten the answer
    let again = shop.pay("k", &body).await;
    assert_eq!((&again.body, again.is_replayed()), (&second.body, true));
    assert_eq!(counted(LEASE_LOST, &[("route", &shop.route)]), 1);
}

#[tokio::test]
async fn who_was_overtaken_gives_no_answer() {
    // GIVEN a handler that waits before its charge, and loses its lease
    let shop = Shop::open(resumable()).await;
    let body = json!({"do": "wait"});
    let (slow, ()) = tokio::join!(shop.pay("k", &body), async {
        shop.stage.wait_entered().await;
        shop.session.run(END_LEASES).await;
        // WHEN another attempt begins
        let overtaking = shop.send_and_keep("k", &body).await;
        shop.stage.wait_entered().await;
        // and the slow one goes on first: semaphores are fair
        shop.stage.gate.add_permits(1);
        drop(overtaking);
    });
    // THEN the slow one can neither record its charge nor answer
    slow.assert_problem(409, "lease_lost");
    assert_eq!(slow.header("retry-after"), Some("1"));
    shop.stage.gate.add_permits(1);
    shop.layer.drain().await;
    // AND both charged with one key: to the provider it was one
    let charges = shop.stage.charges.lock().unwrap().clone();
    assert_eq!((charges.len(), charges[0]), (2, charges[1]));
    assert!(shop.pay("k", &body).await.is_replayed());
    assert_eq!(shop.payments().await, 1);
}

#[tokio::test]
async fn a_recovery_point_that_nobody_knows_is_not_taken_up() {
    // GIVEN work that was lost at a point of an older version
    let shop = Shop::open(resumable()).await;
    let body = json!({"do": "wait after charge"});
    let lost = shop.send_and_keep("k", &body).await;
    shop.stage.wait_entered().await;
    shop.session.run("UPDATE outbox.idempotency_key SET recovery_point = 'old'").await;
    shop.session.run(END_LEASES).await;
    // WHEN it is asked for again THEN it is left to a person
    shop.pay("k", &body).await.assert_problem(409, "outcome_unknown");
    shop.stage.gate.add_permits(1);
    shop.layer.drain().await;
    drop(lost);
}
