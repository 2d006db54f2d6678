//! The cases of the IETF draft, in both modes.

use outbox_inbox::http::{Fingerprint, KeyFormat, Mode, Syntax};
use serde_json::json;

use super::server::{ACCOUNT, Reply, Shop};

async fn both() -> [Shop; 2] {
    [Shop::open(Mode::Transactional).await, Shop::open(Mode::leased()).await]
}

fn quoted(key: &str) -> String {
    format!("\"{key}\"")
}

#[tokio::test]
async fn a_request_without_a_usable_key_is_refused_before_anything_is_done() {
    for shop in both().await {
        let long = quoted(&"k".repeat(256));
        for (keys, code, verdict) in [
            (vec![], "idempotency_key_missing", "missing"),
            (vec!["bare"], "idempotency_key_invalid", "invalid"),
            (vec!["\"open"], "idempotency_key_invalid", "invalid"),
            (vec!["\"\""], "idempotency_key_invalid", "invalid"),
            (vec!["\"a\"", "\"a\""], "idempotency_key_invalid", "invalid"),
            (vec!["\"a\", \"b\""], "idempotency_key_invalid", "invalid"),
            (vec![long.as_str()], "idempotency_key_invalid", "invalid"),
        ] {
            // WHEN a request comes with no key, or with these
            let before = shop.counted(verdict);
            let mut headers: Vec<_> = keys.iter().map(|&key| ("idempotency-key", key)).collect();
            headers.push(("x-account", ACCOUNT));
            let reply = shop.send("POST", &headers, &json!({})).await;
            // THEN its author is told what is wrong with it, and it is not worth another attempt
            reply.assert_problem(400, code);
            assert_eq!(reply.header("retry-after"), None);
            assert_eq!(shop.counted(verdict), before + 1);
        }
        assert_eq!((shop.payments().await, shop.keys().await), (0, 0));
    }
}

#[tokio::test]
async fn the_first_is_done_and_every_other_gets_its_answer() {
    for shop in both().await {
        // GIVEN a payment that was made
        let first = shop.pay("k", &json!({"amount": 7})).await;
        assert_eq!((first.status, first.is_replayed()), (201, false));
        assert!(first.header("set-cookie").is_some());
        // WHEN it is asked for again, twice
        for _ in 0..2 {
            let again = shop.pay("k", &json!({"amount": 7})).await;
            // THEN the answer is the same, with its listed headers, and says that it is a repetition
            assert_eq!((again.status, &again.body, again.is_replayed()), (201, &first.body, true));
            for name in ["content-type", "location", "etag"] {
                assert_eq!(again.header(name), first.header(name), "{name}");
            }
            for name in ["set-cookie", "x-internal"] {
                assert_eq!(again.header(name), None, "{name}");
            }
        }
        assert_eq!(shop.payments().await, 1);
        assert_eq!((shop.counted("started"), shop.counted("replay")), (1, 2));
        let stored = "SELECT count(*) FROM outbox.idempotency_key WHERE headers::text ~* 'set-cookie|x-internal|date'";
        assert_eq!(shop.session.count(stored).await, 0);
    }
}

#[tokio::test]
async fn a_key_belongs_to_one_request() {
    for shop in both().await {
        shop.pay("k", &json!({"amount": 7})).await;
        // WHEN the key comes with another amount, target, or content type THEN it is refused
        shop.pay("k", &json!({"amount": 8})).await.assert_problem(422, "idempotency_key_reused");
        let headers = [("idempotency-key", "\"k\""), ("x-account", ACCOUNT)];
        let body = json!({"amount": 7}).to_string();
        let other = shop.send_to("/payments?dry=1", "POST", &headers, body).await;
        other.assert_problem(422, "idempotency_key_reused");
        assert_eq!((shop.payments().await, shop.counted("mismatch")), (1, 2));
    }
}

#[tokio::test]
async fn a_key_belongs_to_whoever_sent_it() {
    for shop in both().await {
        let as_account = async |account: &str, method: &str| -> Reply {
            let headers = [("idempotency-key", "\"k\""), ("x-account", account)];
            shop.send(method, &headers, &json!({})).await
        };
        // GIVEN a payment of Ada's
        let ada = as_account("ada", "POST").await;
        // WHEN Bob uses the same key THEN it is another payment, and Ada's answer is not given away
        let bob = as_account("bob", "POST").await;
        assert_eq!((bob.status, bob.is_replayed()), (201, false));
        assert_ne!(bob.body, ada.body);
        assert_eq!(shop.payments().await, 2);
        // AND nobody is nobody: neither without a name nor with an empty one
        let nobody = shop.send("POST", &[("idempotency-key", "\"k\"")], &json!({})).await;
        nobody.assert_problem(403, "principal_missing");
        as_account("", "POST").await.assert_problem(403, "principal_missing");
        // AND the table knows neither of them by name
        let named = "SELECT count(*) FROM outbox.idempotency_key WHERE scope ~ 'ada|bob'";
        assert_eq!(shop.session.count(named).await, 0);
    }
}

#[tokio::test]
async fn other_methods_pass_and_others_can_be_told() {
    // GIVEN a layer as it is, and one that looks at PUT only
    let shop = Shop::open(Mode::Transactional).await;
    assert_eq!(shop.send("GET", &[], &json!({})).await.status, 200);
    let put = |builder: outbox_inbox::http::Builder| builder.methods([axum::http::Method::PUT]);
    let other = Shop::open_with(Mode::Transactional, put).await;
    other.send("PUT", &[], &json!({})).await.assert_problem(400, "idempotency_key_missing");
}

#[tokio::test]
async fn a_key_may_be_optional() {
    for mode in [Mode::Transactional, Mode::leased()] {
        let shop = Shop::open_with(mode, outbox_inbox::http::Builder::optional).await;
        // WHEN a request comes without a key THEN it is done, twice
        for _ in 0..2 {
            assert!(shop.send("POST", &[], &json!({})).await.status < 300);
        }
        assert_eq!((shop.keys().await, shop.counted("unkeyed")), (0, 2));
        // BUT a key that is there must be one
        let bare = [("idempotency-key", "\"k"), ("x-account", ACCOUNT)];
        shop.send("POST", &bare, &json!({})).await.assert_problem(400, "idempotency_key_invalid");
    }
}

#[tokio::test]
async fn the_notation_of_a_key_can_be_relaxed_and_narrowed() {
    // GIVEN a shop that takes bare keys, and only UUIDs
    let shop = Shop::open_with(Mode::Transactional, |builder| {
        builder.syntax(Syntax::Lenient).key_format(KeyFormat::Uuid)
    })
    .await;
    let with = async |key: &str| {
        shop.send("POST", &[("idempotency-key", key), ("x-account", ACCOUNT)], &json!({})).await
    };
    // WHEN the same UUID comes bare and quoted, in two notations
    assert!(!with("8E03978E-40D5-43E8-BC93-6894A57F9324").await.is_replayed());
    let again = with("\"8e03978e-40d5-43e8-bc93-6894a57f9324\"").await;
    // THEN it is one key
    assert!(again.is_replayed());
    with("order-7").await.assert_problem(400, "idempotency_key_invalid");
}

#[tokio::test]
async fn what_does_not_count_may_change() {
    // GIVEN a shop for which only the amount counts
    let pointers = Fingerprint::Pointers(vec!["/amount".into()]);
    let shop = Shop::open_with(Mode::Transactional, |builder| builder.fingerprint(pointers)).await;
    shop.pay("k", &json!({"amount": 7, "sent_at": 1})).await;
    // WHEN it is repeated with another time of sending THEN it is the same request
    assert!(shop.pay("k", &json!({"amount": 7, "sent_at": 2})).await.is_replayed());
    shop.pay("k", &json!({"amount": 8, "sent_at": 1}))
        .await
        .assert_problem(422, "idempotency_key_reused");
    // AND under another rule the old key is nobody's
    let (database, _) = shop.close().await;
    let shop = Shop::open_on(database, Mode::Transactional, |builder| builder).await;
    let again = shop.pay("k", &json!({"amount": 7, "sent_at": 1})).await;
    again.assert_problem(422, "idempotency_key_reused");
}

#[tokio::test]
async fn a_request_that_is_nested_too_deep_is_refused() {
    // GIVEN a shop for which a value counts that may be nested
    let pointers = Fingerprint::Pointers(vec!["/amount".into()]);
    let shop = Shop::open_with(Mode::Transactional, |builder| builder.fingerprint(pointers)).await;
    let headers = [("idempotency-key", "\"k\""), ("x-account", ACCOUNT)];
    // WHEN it is nested as deep as no stack is, or as deep as 2 MB allow
    for depth in [3_000, 900_000] {
        let body = format!(r#"{{"amount": {}{}}}"#, "[".repeat(depth), "]".repeat(depth));
        let reply = shop.send_to("/payments", "POST", &headers, body).await;
        // THEN the request is refused, and the shop stays open
        reply.assert_problem(400, "request_too_deep");
    }
    assert_eq!(shop.pay("k", &json!({"amount": [[1]]})).await.status, 201);
    assert_eq!((shop.counted("refused"), shop.payments().await), (2, 1));
}

#[tokio::test]
async fn both_of_two_members_of_one_name_are_the_request() {
    let pointers = Fingerprint::Pointers(vec!["/amount".into()]);
    let shop = Shop::open_with(Mode::Transactional, |builder| builder.fingerprint(pointers)).await;
    let headers = [("idempotency-key", "\"k\""), ("x-account", ACCOUNT)];
    let send = async |body: &str| shop.send_to("/payments", "POST", &headers, body.into()).await;
    send(r#"{"amount": 1, "amount": 7}"#).await;
    let other = send(r#"{"amount": 9, "amount": 7}"#).await;
    other.assert_problem(422, "idempotency_key_reused");
    assert!(send(r#"{"amount": 1, "amount": 7, "at": 2}"#).await.is_replayed());
}

#[tokio::test]
async fn another_spelling_of_a_request_is_the_same_request() {
    fn headers(kind: &str) -> [(&str, &str); 3] {
        [("idempotency-key", "\"k\""), ("x-account", ACCOUNT), ("content-type", kind)]
    }
    // A charset, in any shop.
    let shop = Shop::open(Mode::Transactional).await;
    for (kind, replayed) in
        [("application/json; charset=utf-8", false), ("application/json;charset=\"UTF-8\"", true)]
    {
        let reply = shop.send_to("/payments", "POST", &headers(kind), "{}".into()).await;
        assert_eq!((reply.status, reply.is_replayed()), (201, replayed), "{kind}");
    }
    // A form with another boundary, where the fields count.
    let shop =
        Shop::open_with(Mode::Transactional, |builder| builder.fingerprint(Fingerprint::Fields))
            .await;
    for (boundary, replayed) in [("one", false), ("two", true)] {
        let kind = format!("multipart/form-data; boundary={boundary}");
        let body = format!(
            "--{boundary}\r\ncontent-disposition: form-data; name=\"amount\"\r\n\r\n5\r\n--{boundary}--\r\n"
        );
        let reply = shop.send_to("/payments", "POST", &headers(&kind), body).await;
        assert_eq!((reply.status, reply.is_replayed()), (201, replayed), "{boundary}");
    }
    // What a closure says.
    let rule = Fingerprint::by("length/1", |_, body| body.len().to_string().into_bytes());
    let shop = Shop::open_with(Mode::Transactional, |builder| builder.fingerprint(rule)).await;
    assert!(!shop.pay("k", &json!({"at": 1})).await.is_replayed());
    assert!(shop.pay("k", &json!({"at": 2})).await.is_replayed());
    shop.pay("k", &json!({"at": 10})).await.assert_problem(422, "idempotency_key_reused");
}

#[tokio::test]
async fn a_request_that_is_too_large_is_not_read() {
    let shop =
        Shop::open_with(Mode::Transactional, |builder| builder.request_body_bytes_max(10)).await;
    shop.pay("k", &json!({"amount": 1_000_000})).await.assert_problem(413, "request_too_large");
    assert_eq!((shop.payments().await, shop.keys().await), (0, 0));
}

#[tokio::test]
async fn an_answer_that_is_not_kept_is_not_made_twice() {
    let shop = Shop::open(Mode::Transactional).await;
    for (act, bytes) in [("large", 300 * 1024), ("secret", 8)] {
        // GIVEN an answer that is too large to be kept, or too secret
        let first = shop.pay(act, &json!({"do": act})).await;
        assert_eq!((first.status, first.body.len()), (201, bytes));
        // WHEN it is asked for again THEN it is refused, and nothing is done
        let again = shop.pay(act, &json!({"do": act})).await;
        again.assert_problem(409, "result_not_retained");
        // AND what may be said of it is said: how it ended, and where its result is
        assert_eq!(again.json()["original_status"], 201);
        assert_eq!(again.header("location"), Some("/payments/7"));
        assert_eq!((again.header("etag"), again.header("set-cookie")), (None, None));
    }
    assert_eq!(shop.payments().await, 2);
    assert_eq!(
        shop.session.count("SELECT count(*) FROM outbox.idempotency_key WHERE body IS NULL").await,
        2
    );
}

#[tokio::test]
async fn a_key_that_has_expired_is_new() {
    for shop in both().await {
        shop.pay("k", &json!({})).await;
        // WHEN its time is over
        shop.session
            .run("UPDATE outbox.idempotency_key SET expires_at = now() - interval '1 s'")
            .await;
        // THEN the same request is done again: that is what the published time to live says
        let again = shop.pay("k", &json!({})).await;
        assert_eq!((again.status, again.is_replayed()), (201, false));
        assert!(shop.pay("k", &json!({})).await.is_replayed());
        assert_eq!((shop.payments().await, shop.keys().await), (2, 1));
    }
}

#[tokio::test]
async fn problems_point_to_the_documentation_of_the_api() {
    let address = "https://shop.example/docs/idempotency";
    let shop = Shop::open_with(Mode::Transactional, |builder| builder.documentation(address)).await;
    let reply = shop.send("POST", &[("x-account", ACCOUNT)], &json!({})).await;
    assert_eq!(reply.json()["type"], format!("{address}#idempotency_key_missing"));
}

#[tokio::test]
async fn a_hook_sees_what_is_given_again() {
    let (seen, mut answers) = tokio::sync::mpsc::unbounded_channel();
    let shop = Shop::open_with(Mode::Transactional, |builder| {
        builder.on_replay(move |answer| drop(seen.send(answer.clone())))
    })
    .await;
    let first = shop.pay("k", &json!({})).await;
    assert!(answers.try_recv().is_err());
    shop.pay("k", &json!({})).await;
    let answer = answers.recv().await.unwrap();
    assert_eq!((answer.status, answer.body), (201, Some(first.body.to_vec())));
}
