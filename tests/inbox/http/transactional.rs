//! What the answer does to the effects, in the transactional mode.

use std::time::Duration;

use outbox_inbox::http::Mode;
use serde_json::json;

use super::server::Shop;
use crate::support::database::Database;
use crate::support::patience::until;

/// Sends it twice; says what came, whether the second was a repetition, and how many payments and keys there are.
async fn twice(shop: &Shop, act: &str) -> (u16, bool, i64, i64) {
    let first = shop.pay("k", &json!({"do": act})).await;
    assert!(!first.is_replayed());
    let second = shop.pay("k", &json!({"do": act})).await;
    assert_eq!(first.status, second.status, "{act}");
    (second.status, second.is_replayed(), shop.payments().await, shop.keys().await)
}

#[tokio::test]
async fn a_failure_of_the_server_leaves_nothing_behind() {
    for (act, status) in [("fail", 502), ("busy", 429), ("panic", 500)] {
        let shop = Shop::open(Mode::Transactional).await;
        // WHEN a handler has paid, and fails THEN it is rolled back, and the repetition is the first again
        assert_eq!(twice(&shop, act).await, (status, false, 0, 0), "{act}");
        assert_eq!((shop.counted("started"), shop.claims().await), (2, 0), "{act}");
    }
}

#[tokio::test]
async fn a_refusal_is_repeated_and_its_effects_are_not_kept() {
    let shop = Shop::open(Mode::Transactional).await;
    assert_eq!(twice(&shop, "decline").await, (402, true, 0, 1));
    // … also when one of its statements had failed
    let shop = Shop::open(Mode::Transactional).await;
    assert_eq!(twice(&shop, "conflict").await, (409, true, 0, 1));
}

#[tokio::test]
async fn the_handler_has_the_last_word() {
    let shop = Shop::open(Mode::Transactional).await;
    assert_eq!(twice(&shop, "keep declined").await, (402, true, 1, 1));
    let shop = Shop::open(Mode::Transactional).await;
    assert_eq!(twice(&shop, "nothing").await, (201, false, 0, 0));
}

#[tokio::test]
async fn success_is_not_claimed_for_what_was_not_committed() {
    // GIVEN handlers that answer 201 although a statement of theirs failed, or the commit will
    for act in ["swallow", "defer"] {
        let shop = Shop::open(Mode::Transactional).await;
        // WHEN they do THEN the client is told that nothing was done, and nothing was
        shop.pay("k", &json!({"do": act})).await.assert_problem(500, "handler_failed");
        assert_eq!(
            (shop.payments().await, shop.keys().await, shop.claims().await),
            (0, 0, 0),
            "{act}"
        );
    }
}

#[tokio::test]
async fn a_handler_that_ends_the_transaction_is_not_called_undone() {
    for act in
        ["commit", "commit and begin", "commit and fail", "commit and decline", "commit and panic"]
    {
        let shop = Shop::open(Mode::Transactional).await;
        // WHEN a handler commits by itself, whatever it answers then
        let first = shop.pay("k", &json!({"do": act})).await;
        // THEN the answer does not say that nothing was done
        first.assert_problem(500, "transaction_ended");
        assert_eq!(first.header("retry-after"), None);
        assert_eq!(shop.payments().await, 1, "{act}");
        // AND the same request does not do it once more
        let again = shop.pay("k", &json!({"do": act})).await;
        assert_eq!(
            (again.status, again.is_replayed(), &again.body),
            (500, true, &first.body),
            "{act}"
        );
        assert_eq!((shop.payments().await, shop.claims().await), (1, 0), "{act}");
    }
}

#[tokio::test]
async fn a_handler_that_hangs_is_given_up() {
    let limit = Duration::from_millis(500);
    for act in ["hang", "hang in a statement", "trickle"] {
        // GIVEN a pool with one connection
        let database = Database::create().await;
        let shop = Shop::open_pooled(database, 1, Mode::Transactional, |builder| {
            builder.handler_timeout(limit)
        })
        .await;
        // WHEN a handler, or its answer, does not end THEN it is rolled back, and its client told
        // to come again
        let reply = shop.pay("k", &json!({"do": act})).await;
        // (A statement that is ended first makes the handler go on: then its transaction has
        // failed.)
        assert!(matches!(reply.status, 500 | 503), "{act}: {reply:?}");
        if act != "hang in a statement" {
            reply.assert_problem(503, "handler_timeout");
            assert!(reply.header("retry-after").is_some());
        }
        // AND the connection is free again
        let again = until("the pool to have a connection", async || {
            let again = shop.pay("k2", &json!({"do": "pay"})).await;
            (again.status != 503).then_some(again)
        });
        assert_eq!(again.await.status, 201, "{act}");
        assert_eq!(shop.payments().await, 1, "{act}");
    }
}

#[tokio::test]
async fn an_empty_pool_is_a_refusal_and_no_queue() {
    // GIVEN a pool whose connections are all held by handlers that wait
    let database = Database::create().await;
    let shop = Shop::open_pooled(database, 2, Mode::Transactional, |builder| builder).await;
    let body = json!({"do": "wait"});
    let mut waiting = Vec::new();
    for key in ["a", "b"] {
        waiting.push(shop.send_and_keep(key, &body).await);
        shop.stage.wait_entered().await;
    }
    // WHEN another request comes THEN it is refused while they wait
    let refused = shop.pay("c", &json!({})).await;
    refused.assert_problem(503, "temporarily_unavailable");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(shop.counted("unavailable"), 1);
    // AND when they are done, it is done
    shop.stage.gate.add_permits(2);
    drop(waiting);
    let done = until("a connection to be free", async || {
        let again = shop.pay("c", &json!({})).await;
        (again.status != 503).then_some(again)
    });
    assert_eq!(done.await.status, 201);
}

#[tokio::test]
async fn an_answer_without_an_end_is_passed_on_and_not_kept() {
    let shop = Shop::open(Mode::Transactional).await;
    // WHEN a handler answers with a stream of events
    let (status, first) = shop.pay_and_read_first("k", &json!({"do": "stream"})).await;
    // THEN its client gets them as they come, and the effect is committed
    assert_eq!((status, &first[..]), (200, &b"data: 1\n\n"[..]));
    assert_eq!((shop.payments().await, shop.claims().await), (1, 0));
    shop.pay("k", &json!({"do": "stream"})).await.assert_problem(409, "result_not_retained");
    assert_eq!(shop.payments().await, 1);
}

#[tokio::test]
async fn a_handler_must_not_keep_the_transaction() {
    for (act, status) in
        [("keep", 500), ("keep and fail", 500), ("keep and panic", 500), ("keep and hang", 503)]
    {
        let limit = Duration::from_millis(if status == 503 { 500 } else { 30_000 });
        let shop =
            Shop::open_with(Mode::Transactional, |builder| builder.handler_timeout(limit)).await;
        // WHEN a handler keeps its transaction beyond its end
        let reply = shop.pay("k", &json!({"do": act})).await;
        assert_eq!(reply.status, status, "{act}: {reply:?}");
        assert_eq!((shop.payments().await, shop.keys().await, shop.claims().await), (0, 0, 0));
        // THEN it cannot write with it any more
        let kept = shop.stage.kept.lock().unwrap().take().unwrap();
        let late = kept.execute("INSERT INTO payments (amount) VALUES (1)", &[]).await;
        assert!(late.is_err(), "{act}");
        drop(kept);
        let again = until("a handler that is in time", async || {
            let again = shop.pay("k2", &json!({})).await;
            (again.status != 503).then_some(again)
        });
        assert_eq!((again.await.status, shop.payments().await), (201, 1), "{act}");
    }
}

#[tokio::test]
async fn a_connection_goes_back_to_the_pool_without_a_transaction() {
    let shop = Shop::open(Mode::Transactional).await;
    for act in ["pay", "fail", "decline", "panic", "swallow", "nothing"] {
        shop.pay(act, &json!({"do": act})).await;
        shop.pay(act, &json!({"do": act})).await;
    }
    let open = "SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    assert_eq!(shop.session.count(open).await, 0);
}
