//! What the answer does to the effects, in the transactional mode.

use outbox_inbox::http::Mode;
use serde_json::json;

use super::server::Shop;

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
async fn a_handler_must_not_end_the_transaction() {
    let shop = Shop::open(Mode::Transactional).await;
    // WHEN a handler commits by itself THEN that is noticed: no answer is stored for it
    shop.pay("k", &json!({"do": "commit"})).await.assert_problem(500, "handler_failed");
    assert_eq!(shop.keys().await, 0);
}

#[tokio::test]
async fn a_handler_must_not_keep_the_transaction() {
    let shop = Shop::open(Mode::Transactional).await;
    // WHEN a handler keeps its transaction beyond the answer
    shop.pay("k", &json!({"do": "keep"})).await.assert_problem(500, "handler_failed");
    assert_eq!((shop.payments().await, shop.keys().await, shop.claims().await), (0, 0, 0));
    // THEN it cannot write with it any more
    let kept = shop.stage.kept.lock().unwrap().take().unwrap();
    assert!(kept.execute("INSERT INTO payments (amount) VALUES (1)", &[]).await.is_err());
    drop(kept);
    assert_eq!((shop.payments().await, shop.pay("k", &json!({})).await.status), (0, 201));
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
