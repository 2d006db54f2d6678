//! Claims in SQL, as any language makes them.

use outbox_inbox::schema::Schema;
use tokio::task::JoinSet;
use tokio_postgres::error::SqlState;

use crate::support::database::Database;
use crate::support::id;
use crate::support::lock::{backend, wait_blocked};
use crate::support::services::Services;
use crate::support::session::Session;

const CLAIM: &str = "SELECT outbox.inbox_claim('billing', $1)";

async fn claim(session: &Session, id: &str) -> String {
    session.query_one(CLAIM, &[&id]).await.unwrap().get(0)
}

async fn claim_error(session: &Session, id: &str) -> SqlState {
    session.query_one(CLAIM, &[&id]).await.unwrap_err().code().unwrap().clone()
}

async fn claim_as(session: &Session, id: &str, fingerprint: &[u8]) -> String {
    let text = "SELECT outbox.inbox_claim('billing', $1, $2)";
    session.query_one(text, &[&id, &fingerprint]).await.unwrap().get(0)
}

async fn batch(session: &Session, ids: &[&str]) -> Result<Vec<String>, tokio_postgres::Error> {
    let text = "SELECT verdict FROM outbox.inbox_claim_batch('billing', $1) ORDER BY ord";
    Ok(session.query(text, &[&ids]).await?.iter().map(|row| row.get(0)).collect())
}

#[tokio::test]
async fn a_message_is_fresh_once_for_each_consumer_on_every_server() {
    for server in [Services::postgres(), Services::postgres_18()] {
        let session = Database::create_on(&server).await.connect().await;
        for id in [id::new(), "/orders|4711".into(), "sha256:00".into()] {
            // GIVEN a claimed message
            assert_eq!(claim(&session, &id).await, "fresh");
            // WHEN it comes again THEN it is a duplicate, and another handler's own message
            assert_eq!(claim(&session, &id).await, "duplicate");
            let other = "SELECT outbox.inbox_claim('shipping', $1)";
            let other: String = session.query_one(other, &[&id]).await.unwrap().get(0);
            assert_eq!(other, "fresh");
        }
    }
}

#[tokio::test]
async fn another_message_under_a_known_id_is_a_mismatch() {
    let session = Database::create().await.connect().await;
    let id = id::new();
    assert_eq!(claim_as(&session, &id, b"12345678").await, "fresh");
    assert_eq!(claim_as(&session, &id, b"12345678").await, "duplicate");
    assert_eq!(claim_as(&session, &id, b"87654321").await, "mismatch");
    // Whoever does not compare has nothing to say.
    assert_eq!(claim(&session, &id).await, "duplicate");
}

#[tokio::test]
async fn what_the_inbox_no_longer_remembers_is_refused() {
    let session = Database::create().await.connect().await;
    // GIVEN a horizon that stands 14 days back
    assert_eq!(claim(&session, &id::of_day(-14)).await, "fresh");
    // WHEN an older message comes THEN nobody processes it again
    let old = id::of_day(-15);
    assert_eq!(claim(&session, &old).await, "stale");
    let both = batch(&session, &[&old, &id::of_day(-13)]).await.unwrap();
    assert_eq!(both, ["stale", "fresh"]);
}

#[tokio::test]
async fn an_id_whose_day_has_no_partition_fails_closed() {
    let session = Database::create().await.connect().await;
    // GIVEN a maintenance that stopped: there are no partitions for today and tomorrow
    for day in 0..=1 {
        let name = format!(
            "SELECT 'outbox.inbox_' || to_char((now() AT TIME ZONE 'UTC')::date + {day}, 'YYYYMMDD')"
        );
        let name: String = session.query_one(&name, &[]).await.unwrap().get(0);
        session.run(&format!("DROP TABLE {name}")).await;
    }
    // THEN that is an error, and no verdict about the messages
    for near in [id::new(), id::of_day(1)] {
        assert_eq!(claim_error(&session, &near).await, SqlState::CHECK_VIOLATION);
        let error = batch(&session, &["a", &near]).await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::CHECK_VIOLATION));
    }
}

#[tokio::test]
async fn an_id_that_cannot_be_stored_or_placed_is_a_verdict_of_its_message() {
    for server in [Services::postgres(), Services::postgres_18()] {
        let session = Database::create_on(&server).await.connect().await;
        for (bad, reason) in [
            ("", "missing"),
            (&"x".repeat(201), "too_long"),
            // 201 bytes in 101 characters.
            (&format!("{}x", "\u{e4}".repeat(100)), "too_long"),
            (&id::new().to_uppercase(), "upper_case"),
            (&id::of_day(30), "future"),
            (&id::of_day(365 * 30), "future"),
            ("ffffffff-ffff-7fff-bfff-ffffffffffff", "future"),
        ] {
            // WHEN such an id is claimed, whichever way THEN it is unusable, and says why
            assert_eq!(claim(&session, bad).await, "unusable", "{bad:?}");
            let begin = "SELECT verdict, reason, attempt FROM outbox.inbox_begin('billing', $1)";
            let row = session.query_one(begin, &[&bad]).await.unwrap();
            let row: (&str, &str, Option<i32>) = (row.get(0), row.get(1), row.get(2));
            assert_eq!(row, ("unusable", reason, None), "{bad:?}");
            let check = "SELECT outbox.inbox_check('billing', $1)";
            let check: String = session.query_one(check, &[&bad]).await.unwrap().get(0);
            assert_eq!(check, "unusable", "{bad:?}");
            // AND the others of its batch are claimed
            let good = id::new();
            assert_eq!(
                batch(&session, &[bad, &good, bad]).await.unwrap(),
                ["unusable", "fresh", "unusable"]
            );
            // AND it can be parked
            let fail =
                "SELECT attempts, parked FROM outbox.inbox_fail('billing', $1, 'unusable', $2, 0)";
            let row = session.query_one(fail, &[&bad, &reason]).await.unwrap();
            assert_eq!((row.get::<_, i32>(0), row.get::<_, bool>(1)), (1, true), "{bad:?}");
        }
        // A NULL in a batch must never pass for a duplicate.
        let null = "SELECT verdict FROM outbox.inbox_claim_batch('billing', ARRAY['a', NULL]) ORDER BY ord";
        let rows = session.query(null, &[]).await.unwrap();
        let verdicts: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(verdicts, ["fresh", "unusable"]);
    }
}

#[tokio::test]
async fn what_is_at_most_a_week_ahead_has_its_partition() {
    let session = Database::create().await.connect().await;
    for day in [0, 1, 7] {
        assert_eq!(claim(&session, &id::of_day(day)).await, "fresh", "{day}");
    }
}

#[tokio::test]
async fn any_failure_can_be_recorded() {
    let session = Database::create().await.connect().await;
    let fail = "SELECT attempts, parked FROM outbox.inbox_fail('billing', $1, $2, $3, $4)";
    let fail = async |id: Option<&str>, class: Option<&str>, maximum: Option<i32>| {
        let row =
            session.query_one(fail, &[&id, &class, &"x".repeat(9_000), &maximum]).await.unwrap();
        (row.get::<_, i32>(0), row.get::<_, bool>(1))
    };
    // A long id is counted under its digest, which is the one that the crate writes.
    let long = "x".repeat(201);
    assert_eq!(fail(Some(&long), Some("transient"), Some(2)).await, (1, false));
    assert_eq!(fail(Some(&long), Some("transient"), Some(2)).await, (2, true));
    let hashed = outbox_inbox::MessageId::new(&long, None).unwrap();
    let found = "SELECT count(*) FROM outbox.inbox_failure WHERE message_id = $1";
    let row = session.query_one(found, &[&hashed.as_str()]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 1);
    // One without an id is parked at once: no count of it would ever rise.
    for nameless in [None, Some("")] {
        assert_eq!(fail(nameless, Some("missing_id"), Some(8)).await, (1, true));
    }
    // Whatever an exception is called, and however many attempts there are to be.
    assert_eq!(fail(Some("a"), Some(&"\u{e4}".repeat(200)), None).await, (1, true));
    assert_eq!(fail(Some("b"), None, Some(8)).await, (1, false));
    assert_eq!(session.count("SELECT count(*) FROM outbox.inbox_failure").await, 5);
}

#[tokio::test]
async fn a_row_under_another_day_than_the_ids_is_refused() {
    let session = Database::create().await.connect().await;
    let text = "INSERT INTO outbox.inbox (bucket, consumer, message_id) VALUES (current_date, 'billing', $1)";
    let error = session.execute(text, &[&id::of_day(-2)]).await.unwrap_err();
    assert_eq!(error.as_db_error().unwrap().constraint(), Some("inbox_bucket_of_id"));
}

#[tokio::test]
async fn a_claim_waits_for_another_one_and_learns_its_fate() {
    let database = Database::create().await;
    let observer = database.connect().await;
    for (end, expected) in [("COMMIT", "duplicate"), ("ROLLBACK", "fresh")] {
        // GIVEN a transaction that has claimed a message
        let (first, second, id) = (database.connect().await, database.connect().await, id::new());
        first.run("BEGIN").await;
        assert_eq!(claim(&first, &id).await, "fresh");
        // WHEN another one claims it meanwhile, and the first one ends
        let pid = backend(&second).await;
        let waiting = async {
            wait_blocked(&observer, pid).await;
            first.run(end).await;
        };
        let (verdict, ()) = tokio::join!(claim(&second, &id), waiting);
        // THEN that decides
        assert_eq!(verdict, expected, "{end}");
    }
}

#[tokio::test]
async fn a_killed_handlers_message_is_fresh() {
    let database = Database::create().await;
    let (first, second, id) = (database.connect().await, database.connect().await, id::new());
    let observer = database.connect().await;
    // GIVEN a handler whose transaction is open
    first.run("BEGIN").await;
    claim(&first, &id).await;
    let (handler, waiter) = (backend(&first).await, backend(&second).await);
    // WHEN its backend is killed while another claim waits for it
    let killing = async {
        wait_blocked(&observer, waiter).await;
        observer.execute("SELECT pg_terminate_backend($1)", &[&handler]).await.unwrap();
    };
    let (verdict, ()) = tokio::join!(claim(&second, &id), killing);
    // THEN the message is the other one's
    assert_eq!(verdict, "fresh");
}

#[tokio::test]
async fn one_of_many_claims_at_once_is_fresh() {
    // GIVEN 16 consumers that get the same 100 messages in orders of their own
    let database = Database::create().await;
    let ids: Vec<String> = (0..100).map(|_| id::new()).collect();
    let mut consumers = JoinSet::new();
    for number in 0..16 {
        let (url, mut ids) = (database.url.clone(), ids.clone());
        consumers.spawn(async move {
            let session = Session::connect(&url).await;
            ids.rotate_left(number * 6);
            let mut fresh = 0;
            for id in &ids {
                fresh += usize::from(claim(&session, id).await == "fresh");
            }
            fresh
        });
    }
    // THEN each is fresh for exactly one of them
    assert_eq!(consumers.join_all().await.iter().sum::<usize>(), ids.len());
}

#[tokio::test]
async fn batches_in_any_order_never_wait_in_a_circle() {
    // GIVEN 8 consumers whose batches hold the same ids in opposite orders
    let database = Database::create().await;
    let mut consumers = JoinSet::new();
    let rounds: Vec<Vec<String>> = (0..10).map(|_| (0..200).map(|_| id::new()).collect()).collect();
    for number in 0..8 {
        let (url, rounds) = (database.url.clone(), rounds.clone());
        consumers.spawn(async move {
            let session = Session::connect(&url).await;
            let mut fresh = 0;
            for ids in &rounds {
                let mut ids: Vec<&str> = ids.iter().map(String::as_str).collect();
                if number % 2 == 0 {
                    ids.reverse();
                }
                // WHEN they claim them at once THEN no batch fails
                let verdicts = batch(&session, &ids).await.unwrap();
                fresh += verdicts.iter().filter(|verdict| *verdict == "fresh").count();
            }
            fresh
        });
    }
    assert_eq!(consumers.join_all().await.iter().sum::<usize>(), 2_000);
}

/// The control of the test above: without one order there is a circle.
#[tokio::test]
async fn claims_in_opposite_orders_do_wait_in_a_circle() {
    let database = Database::create().await;
    let (first, second) = (database.connect().await, database.connect().await);
    let observer = database.connect().await;
    let (a, b) = (id::new(), id::new());
    for (session, id) in [(&first, &a), (&second, &b)] {
        session.run("BEGIN").await;
        claim(session, id).await;
    }
    let pid = backend(&first).await;
    let circle = async {
        wait_blocked(&observer, pid).await;
        second.query_one(CLAIM, &[&a]).await
    };
    let straight = async { first.query_one(CLAIM, &[&b]).await };
    let (one, other) = tokio::join!(straight, circle);
    let deadlock = |result: &Result<_, tokio_postgres::Error>| {
        result.as_ref().err().and_then(|e| e.code()) == Some(&SqlState::T_R_DEADLOCK_DETECTED)
    };
    assert!(deadlock(&one) != deadlock(&other), "exactly one is given up");
}

#[tokio::test]
async fn an_id_twice_in_a_batch_is_fresh_at_its_first_place() {
    let session = Database::create().await.connect().await;
    assert_eq!(batch(&session, &["b", "a", "b"]).await.unwrap(), ["fresh", "fresh", "duplicate"]);
    let text = "SELECT verdict FROM outbox.inbox_claim_batch('billing', $1, $2) ORDER BY ord";
    let prints: Vec<Option<&[u8]>> =
        vec![Some(b"12345678"), Some(b"87654321"), None, Some(b"12345678")];
    let rows = session.query(text, &[&vec!["c", "c", "c", "a"], &prints]).await.unwrap();
    let verdicts: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(verdicts, ["fresh", "mismatch", "duplicate", "duplicate"]);
}

#[tokio::test]
async fn a_check_claims_nothing() {
    let session = Database::create().await.connect().await;
    let text = "SELECT outbox.inbox_check('billing', $1)";
    let check = async |id: &str| session.query_one(text, &[&id]).await.unwrap().get::<_, String>(0);
    let id = id::new();
    assert_eq!(check(&id).await, "fresh");
    assert_eq!(claim(&session, &id).await, "fresh");
    assert_eq!(check(&id).await, "duplicate");
    assert_eq!(check(&id::of_day(-20)).await, "stale");
}

#[tokio::test]
async fn what_is_forgotten_is_fresh_again_and_on_record() {
    let session = Database::create().await.connect().await;
    let id = id::new();
    claim(&session, &id).await;
    let forget = "SELECT outbox.inbox_forget('billing', $1, 'the handler had a bug')";
    assert!(session.query_one(forget, &[&id]).await.unwrap().get::<_, bool>(0));
    assert!(!session.query_one(forget, &[&id]).await.unwrap().get::<_, bool>(0));
    assert_eq!(claim(&session, &id).await, "fresh");
    let audit =
        "SELECT count(*) FROM outbox.inbox_audit WHERE action = 'forget' AND actor = session_user";
    assert_eq!(session.count(audit).await, 1);
    // Not without a reason.
    let silent = "SELECT outbox.inbox_forget('billing', $1, '')";
    assert!(session.query_one(silent, &[&id]).await.is_err());
}

#[tokio::test]
async fn a_consumers_role_claims_and_cannot_forget() {
    // GIVEN a role with a consumer's rights, in a schema of another name
    let database = Database::create_empty_on(&Services::postgres()).await;
    let schema: Schema = "orders_box".parse().unwrap();
    database.migrate(&schema).await;
    let session = database.connect().await;
    let role = format!("consumer_{}", uuid::Uuid::now_v7().simple());
    session.run(&format!("CREATE ROLE {role}; SELECT orders_box.grant_inbox('{role}')")).await;
    session.run(&format!("SET ROLE {role}")).await;
    // THEN it does what a consumer does, and decides nothing
    let begin = "SELECT verdict FROM orders_box.inbox_begin('billing', 'a')";
    assert_eq!(session.query_one(begin, &[]).await.unwrap().get::<_, &str>(0), "fresh");
    session.run("SELECT orders_box.inbox_fail('billing', 'b', 'transient', 'x', 3)").await;
    session
        .run("SELECT orders_box.inbox_fail('billing', 'c', 'transient', 'x', 0, '{}', '')")
        .await;
    // … also to the failures: those of what is processed go, and no others
    let settled = "SELECT count(*) FROM orders_box.inbox_settle('billing', '{a,b,c,A}')";
    assert_eq!(session.count(settled).await, 0);
    assert_eq!(session.count("SELECT count(*) FROM orders_box.inbox_failure").await, 2);
    for forbidden in [
        "DELETE FROM orders_box.inbox_failure",
        "UPDATE orders_box.inbox_failure SET replay_at = now()",
        "UPDATE orders_box.inbox_failure SET attempts = 0",
        "INSERT INTO orders_box.inbox_failure (consumer, message_id, attempts, class) VALUES ('b', 'x', 0, 'x')",
        "DELETE FROM orders_box.idempotency_key",
        "DELETE FROM orders_box.inbox",
        "SELECT orders_box.inbox_discard('billing', 'b', 'why not')",
        "SELECT orders_box.inbox_replay('billing', 'c', 'why not')",
        "SELECT orders_box.inbox_forget('billing', 'a', 'why not')",
        "SELECT orders_box.inbox_raise_horizon(1)",
        "UPDATE orders_box.inbox SET processed_at = now()",
    ] {
        let error = session.batch_execute(forbidden).await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{forbidden}");
    }
}
