//! Leases: kept answers, lost leases, work that is taken up again.

use std::time::Duration;

use outbox_inbox::http::{LEASE_LOST, Mode};
use outbox_inbox::idempotency::ResumeAt;
use serde_json::json;

use super::server::Shop;
use crate::support::meter::counted;

/// The lease of a process that is no more.
const END_LEASES: &str = "UPDATE outbox.idempotency_key SET lease_until = clock_timestamp() - interval '1 s' WHERE status IS NULL";

fn resumable() -> Mode {
    Mode::Leased {
        lease: Duration::from_secs(60),
        resume_at: ResumeAt::Points(vec!["charge".into()]),
    }
}

#[tokio::test]
async fn once_begun_every_answer_is_kept() {
    let shop = Shop::open(Mode::leased()).await;
    for (act, status) in [("fail", 500), ("panic", 500)] {
        // WHEN a handler fails THEN its failure is the answer from now on: what it did outside is done
        assert_eq!(shop.pay(act, &json!({"do": act})).await.status, status, "{act}");
        let again = shop.pay(act, &json!({"do": act})).await;
        assert_eq!((again.status, again.is_replayed()), (status, true), "{act}");
    }
}

#[tokio::test]
async fn who_did_nothing_gives_the_key_back() {
    let shop = Shop::open(Mode::leased()).await;
    assert_eq!(shop.pay("k", &json!({"do": "nothing"})).await.status, 200);
    assert_eq!(shop.keys().await, 0);
    // BUT not after it has charged: then its answer is kept
    shop.pay("k", &json!({"do": "nothing after charge"})).await;
    assert_eq!(shop.keys().await, 1);
    assert!(shop.pay("k", &json!({"do": "nothing after charge"})).await.is_replayed());
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
