//! Requests at the same time.

use std::collections::HashSet;

use futures_util::future::join_all;
use outbox_inbox::http::Mode;
use serde_json::json;

use super::server::Shop;

const CLIENTS: usize = 16;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_first_requests_one_is_done() {
    for mode in [Mode::Transactional, Mode::leased()] {
        let shop = Shop::open(mode).await;
        for round in 0..10 {
            // WHEN many clients send the same first request at once, and again until it is answered
            let key = format!("k{round}");
            let ask = async || {
                loop {
                    let reply = shop.pay(&key, &json!({"round": round})).await;
                    if reply.status == 409 {
                        reply.assert_problem(409, "request_in_flight");
                        assert!(reply.header("retry-after").is_some());
                        continue;
                    }
                    return reply;
                }
            };
            let replies = join_all((0..CLIENTS).map(|_| ask())).await;
            // THEN one was first, and all got its answer
            assert_eq!(replies.iter().filter(|reply| !reply.is_replayed()).count(), 1);
            let bodies: HashSet<_> = replies.iter().map(|reply| &reply.body).collect();
            assert_eq!(bodies.len(), 1);
            assert_eq!(shop.payments().await, round + 1);
        }
        assert_eq!(shop.counted("started"), 10);
    }
}

#[tokio::test]
async fn a_request_in_flight_is_answered_at_once() {
    for mode in [Mode::Transactional, Mode::leased()] {
        let shop = Shop::open(mode).await;
        // GIVEN a request whose handler waits
        let body = json!({"do": "wait"});
        let (first, ()) = tokio::join!(shop.pay("k", &body), async {
            shop.stage.wait_entered().await;
            // WHEN it comes again THEN nobody waits, and it may come later
            let second = shop.pay("k", &body).await;
            second.assert_problem(409, "request_in_flight");
            // (After what is left of a lease, where there is one.)
            let after: u64 = second.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=60).contains(&after), "{after}");
            // AND another key is not in its way
            assert_eq!(shop.pay("other", &json!({})).await.status, 201);
            shop.stage.gate.add_permits(1);
        });
        assert_eq!(first.status, 201);
        assert!(shop.pay("k", &body).await.is_replayed());
        assert_eq!((shop.payments().await, shop.counted("in_progress")), (2, 1));
    }
}

#[tokio::test]
async fn a_client_that_goes_away_does_not_stop_its_handler() {
    for mode in [Mode::Transactional, Mode::leased()] {
        let shop = Shop::open(mode).await;
        // GIVEN a request whose handler waits
        let body = json!({"do": "wait"});
        let client = shop.send_and_keep("k", &body).await;
        shop.stage.wait_entered().await;
        // WHEN its client goes, and then the server
        drop(client);
        shop.stage.wait_abandoned().await;
        let stage = std::sync::Arc::clone(&shop.stage);
        let (database, layer) = shop.close().await;
        stage.gate.add_permits(1);
        layer.drain().await;
        // THEN the payment was made, and another process of the shop gives its answer
        let shop = Shop::open_on(database, Mode::Transactional, |builder| builder).await;
        let again = shop.pay("k", &body).await;
        assert_eq!((again.status, again.is_replayed()), (201, true));
        assert_eq!(shop.payments().await, 1);
    }
}
