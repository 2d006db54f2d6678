//! One message in one transaction of tokio-postgres.

use std::time::Duration;

use outbox_inbox::{
    Cause, HandlerError, Inbox, InboxError, Message, OnStale, Outcome, Park, Parts,
};
use tokio::task::JoinSet;
use tokio_postgres::Transaction;

use crate::support::database::Database;
use crate::support::id;
use crate::support::lock::{backend, wait_blocked};
use crate::support::session::Session;

/// No unique key: only the inbox protects it.
pub(crate) const PAYMENTS: &str = "CREATE TABLE payment (id text NOT NULL, amount int NOT NULL)";

pub(crate) async fn payments(session: &Session) -> i64 {
    session.count("SELECT count(*) FROM payment").await
}

async fn stage() -> (Database, Session, Inbox) {
    let database = Database::create().await;
    let session = database.connect().await;
    session.run(PAYMENTS).await;
    (database, session, inbox())
}

fn inbox() -> Inbox {
    Inbox::builder("billing").attempts_max(3).build().unwrap()
}

pub(crate) fn message<'a>(id: &'a str, payload: &'a [u8]) -> Message<'a> {
    Message::read(Parts {
        message_id: Some(id),
        payload: Some(payload),
        destination: "payments",
        ..Parts::default()
    })
}

async fn pay(transaction: &Transaction<'_>) -> Result<(), HandlerError> {
    transaction.execute("INSERT INTO payment VALUES ('p', 10)", &[]).await?;
    Ok(())
}

async fn fail(transaction: &Transaction<'_>) -> Result<(), HandlerError> {
    pay(transaction).await?;
    Err(HandlerError::transient("the provider is away"))
}

#[tokio::test]
async fn a_message_has_its_effect_once() {
    let (_database, mut session, inbox) = stage().await;
    let id = id::new();
    // GIVEN a processed message
    let first = inbox.process(&mut session, &message(&id, b"x"), pay).await.unwrap();
    assert_eq!(first, Outcome::Done { value: (), attempt: 1 });
    // WHEN it comes again THEN the handler does not run
    let again = inbox.process(&mut session, &message(&id, b"x"), async |_| panic!("it ran")).await;
    let again: Outcome<()> = again.unwrap();
    assert_eq!(again, Outcome::DuplicateIgnored { cause: Cause::Unknown });
    assert_eq!(payments(&session).await, 1);
}

#[tokio::test]
async fn a_message_at_many_consumers_at_once_has_its_effect_once() {
    // GIVEN 8 instances that get the same 20 messages at once
    let (database, session, _) = stage().await;
    let ids: Vec<String> = (0..20).map(|_| id::new()).collect();
    let mut instances = JoinSet::new();
    for _ in 0..8 {
        let (url, ids) = (database.url.clone(), ids.clone());
        // That this compiles is a test too: the future is Send.
        instances.spawn(async move {
            let (mut session, inbox) = (Session::connect(&url).await, inbox());
            for id in &ids {
                let payload = id.clone().into_bytes();
                let message = message(id, &payload);
                let outcome = inbox
                    .process(&mut session, &message, async |transaction| {
                        let id = message.id().unwrap().as_str();
                        transaction.execute("INSERT INTO payment VALUES ($1, 10)", &[&id]).await?;
                        Ok(())
                    })
                    .await;
                outcome.unwrap();
            }
        });
    }
    instances.join_all().await;
    // THEN each has its effect once
    assert_eq!(payments(&session).await, 20);
    assert_eq!(session.count("SELECT count(DISTINCT id) FROM payment").await, 20);
}

#[tokio::test]
async fn a_failed_attempt_leaves_its_count_and_nothing_else() {
    let (_database, mut session, inbox) = stage().await;
    let id = id::new();
    // WHEN a handler fails, and the next attempt succeeds
    let first = inbox.process(&mut session, &message(&id, b"x"), fail).await.unwrap();
    let Outcome::Retry { attempt: 1, after } = first else { panic!("{first:?}") };
    assert!(after <= Duration::from_secs(1));
    let second = inbox.process(&mut session, &message(&id, b"x"), pay).await.unwrap();
    // THEN that one knows its number, and takes the failure away
    assert_eq!(second, Outcome::Done { value: (), attempt: 2 });
    assert_eq!(payments(&session).await, 1);
    assert_eq!(session.count("SELECT count(*) FROM outbox.inbox_failure").await, 0);
}

#[tokio::test]
async fn a_message_that_fails_as_often_as_it_may_is_parked_and_can_be_replayed() {
    let (_database, mut session, inbox) = stage().await;
    let id = id::new();
    for attempt in 1..=2 {
        let outcome = inbox.process(&mut session, &message(&id, b"pay"), fail).await.unwrap();
        assert!(matches!(outcome, Outcome::Retry { attempt: n, .. } if n == attempt));
    }
    let third = inbox.process(&mut session, &message(&id, b"pay"), fail).await.unwrap();
    assert_eq!(third, Outcome::Parked { why: Park::Attempts, attempts: 3 });
    assert_eq!(payments(&session).await, 0);
    // WHEN nobody has decided THEN nothing is taken from the table
    let none = inbox.process_replay(&mut session, async |_, _| Ok(())).await.unwrap();
    assert_eq!(none, None);
    // WHEN a person lets it through
    let replay = "SELECT outbox.inbox_replay('billing', $1, 'the provider is back')";
    assert!(session.query_one(replay, &[&id]).await.unwrap().get::<_, bool>(0));
    let replayed = inbox.process_replay(&mut session, async |transaction, message| {
        assert_eq!(message.payload(), Some(&b"pay"[..]));
        pay(transaction).await
    });
    // THEN it is processed from the table, once
    assert!(matches!(replayed.await.unwrap(), Some(Outcome::Done { .. })));
    assert_eq!(inbox.process_replay(&mut session, async |_, _| Ok(())).await.unwrap(), None);
    let late = inbox.process(&mut session, &message(&id, b"pay"), pay).await.unwrap();
    assert_eq!(late, Outcome::DuplicateIgnored { cause: Cause::Unknown });
    assert_eq!(payments(&session).await, 1);
}

#[tokio::test]
async fn a_replay_of_what_came_another_way_ends() {
    let (_database, mut session, inbox) = stage().await;
    let id = id::new();
    // GIVEN a replay that was asked for, of a message that is processed meanwhile without its failure
    let park = "SELECT outbox.inbox_fail('billing', $1, 'transient', '', 0, $2, 'x')";
    inbox.process(&mut session, &message(&id, b"x"), pay).await.unwrap();
    let kept = serde_json::json!({"destination": "payments", "headers": []});
    session.execute(park, &[&id, &kept]).await.unwrap();
    let replay = "SELECT outbox.inbox_replay('billing', $1, 'why')";
    session.execute(replay, &[&id]).await.unwrap();
    // WHEN it is taken THEN it is a duplicate, and not taken for ever
    let first = inbox.process_replay(&mut session, async |tx, _| pay(tx).await).await.unwrap();
    assert!(matches!(first, Some(Outcome::DuplicateIgnored { .. })), "{first:?}");
    let none = inbox.process_replay(&mut session, async |tx, _| pay(tx).await).await.unwrap();
    assert_eq!(none, None);
}

#[tokio::test]
async fn a_replay_that_parks_again_or_was_kept_by_another_program_holds_no_other_up() {
    let (_database, mut session, inbox) = stage().await;
    let (known, odd) = (id::new(), id::new());
    inbox.process(&mut session, &message(&known, b"x"), pay).await.unwrap();
    // GIVEN replays of a message whose id is another one's by now, and of some whose headers the
    // crate cannot read
    let deep = "[".repeat(300) + &"]".repeat(300);
    for (id, headers) in [(&*known, "{}"), (&*odd, "[1]"), ("deep", &*deep), ("last", "{}")] {
        let park =
            "SELECT outbox.inbox_fail('billing', $1, 'x', '', 0, $2::text::jsonb, 'another')";
        session.execute(park, &[&id, &headers]).await.unwrap();
        session.execute("SELECT outbox.inbox_replay('billing', $1, 'why')", &[&id]).await.unwrap();
    }
    // WHEN they are taken THEN each is, once
    let mut outcomes = Vec::new();
    while let Some(outcome) =
        inbox.process_replay(&mut session, async |tx, _| pay(tx).await).await.unwrap()
    {
        outcomes.push(outcome);
        assert!(outcomes.len() <= 4, "{outcomes:?}");
    }
    let done = |outcome: &&Outcome<()>| matches!(outcome, Outcome::Done { .. });
    assert_eq!((outcomes.len(), outcomes.iter().filter(done).count()), (4, 3), "{outcomes:?}");
    assert!(
        outcomes.contains(&Outcome::Parked { why: Park::Mismatch, attempts: 1 }),
        "{outcomes:?}"
    );
    assert_eq!(payments(&session).await, 4);
}

#[tokio::test]
async fn what_no_attempt_can_change_is_parked_at_once() {
    let (_database, mut session, inbox) = stage().await;
    session
        .run("CREATE UNIQUE INDEX payment_key ON payment (id); INSERT INTO payment VALUES ('p', 1)")
        .await;
    // A handler that says so, data that the database refuses, an effect that is there already.
    let says =
        async |_: &Transaction<'_>| Err::<(), _>(HandlerError::permanent("no such currency"));
    let refused = async |tx: &Transaction<'_>| {
        tx.execute("INSERT INTO payment VALUES (NULL, 1)", &[]).await?;
        Ok(())
    };
    let (a, b, c) = (id::new(), id::new(), id::new());
    let outcomes = [
        inbox.process(&mut session, &message(&a, b"x"), says).await.unwrap(),
        inbox.process(&mut session, &message(&b, b"x"), refused).await.unwrap(),
        inbox.process(&mut session, &message(&c, b"x"), pay).await.unwrap(),
    ];
    let parked = |why| Outcome::Parked { why, attempts: 1 };
    assert_eq!(outcomes, [Park::Permanent, Park::Permanent, Park::AlreadyExists].map(parked));
}

#[tokio::test]
async fn what_cannot_be_claimed_is_parked_and_never_processed() {
    let (_database, mut session, inbox) = stage().await;
    let (old, far, known) = (id::of_day(-20), id::of_day(60), id::new());
    inbox.process(&mut session, &message(&known, b"x"), pay).await.unwrap();
    for (id, payload, why) in [
        ("", "x", Park::MissingId),
        (&old, "x", Park::Stale),
        (&far, "x", Park::Future),
        (&known, "another", Park::Mismatch),
    ] {
        let message = message(id, payload.as_bytes());
        let outcome = inbox.process(&mut session, &message, pay).await.unwrap();
        assert_eq!(outcome, Outcome::Parked { why, attempts: 1 });
    }
    assert_eq!(payments(&session).await, 1);
    let kept = "SELECT count(*) FROM outbox.inbox_failure WHERE parked_at IS NOT NULL AND payload IS NOT NULL";
    assert_eq!(session.count(kept).await, 4);
    // Where everything old was surely processed, it may be let go.
    let lenient = Inbox::builder("billing").on_stale(OnStale::Ignore).build().unwrap();
    let outcome = lenient.process(&mut session, &message(&old, b"x"), pay).await.unwrap();
    assert_eq!(outcome, Outcome::StaleIgnored);
}

#[tokio::test]
async fn maintenance_that_stopped_stops_the_consumer_and_parks_nothing() {
    let (_database, mut session, inbox) = stage().await;
    // GIVEN an inbox whose partitions have run out
    let today = "SELECT 'outbox.inbox_' || to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')";
    let today: String = session.query_one(today, &[]).await.unwrap().get(0);
    session.run(&format!("DROP TABLE {today}")).await;
    // THEN a message of today goes back
    let error = inbox.process(&mut session, &message(&id::new(), b"x"), pay).await.unwrap_err();
    assert!(matches!(error, InboxError::NoPartition(_)), "{error:?}");
    assert_eq!(session.count("SELECT count(*) FROM outbox.inbox_failure").await, 0);
    assert_eq!(payments(&session).await, 0);
}

#[tokio::test]
async fn a_message_that_another_instance_is_at_goes_back_without_an_attempt() {
    let (database, mut session, _) = stage().await;
    let inbox = Inbox::builder("billing").claim_wait(Duration::from_millis(100)).build().unwrap();
    let (other, id) = (database.connect().await, id::new());
    other.run("BEGIN").await;
    other.execute("SELECT outbox.inbox_claim('billing', $1)", &[&id]).await.unwrap();
    let error = inbox.process(&mut session, &message(&id, b"x"), pay).await.unwrap_err();
    assert!(matches!(error, InboxError::Busy(_)), "{error:?}");
    other.run("ROLLBACK").await;
    let done = inbox.process(&mut session, &message(&id, b"x"), pay).await.unwrap();
    assert_eq!(done, Outcome::Done { value: (), attempt: 1 });
}

#[tokio::test]
async fn a_backend_that_is_killed_is_nobodys_attempt() {
    let (database, mut session, inbox) = stage().await;
    let (killer, id) = (database.connect().await, id::new());
    let pid = backend(&session).await;
    let error = inbox
        .process(&mut session, &message(&id, b"x"), async |transaction| {
            pay(transaction).await?;
            killer.execute("SELECT pg_terminate_backend($1, 10000)", &[&pid]).await?;
            Ok(())
        })
        .await
        .unwrap_err();
    // The handler was done: in COMMIT nobody can know.
    assert!(
        matches!(error, InboxError::CommitUnknown(_) | InboxError::Unavailable(_)),
        "{error:?}"
    );
    let mut session = database.connect().await;
    assert_eq!(payments(&session).await, 0);
    let done = inbox.process(&mut session, &message(&id, b"x"), pay).await.unwrap();
    assert_eq!(done, Outcome::Done { value: (), attempt: 1 });
}

#[tokio::test]
async fn a_handler_that_is_dropped_leaves_nothing() {
    let (database, mut session, inbox) = stage().await;
    let id = id::new();
    // GIVEN a consumer that shuts down in the middle of a handler
    let delivery = message(&id, b"x");
    let dropped = inbox.process(&mut session, &delivery, async |transaction| {
        pay(transaction).await?;
        transaction.execute("SELECT pg_notify('handled', '')", &[]).await?;
        std::future::pending::<Result<(), HandlerError>>().await
    });
    let started = async {
        let observer = database.connect().await;
        let text = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND query LIKE '%handled%' AND datname = current_database()";
        crate::support::patience::until("the handler", async || {
            (observer.count(text).await == 1).then_some(())
        })
        .await;
    };
    tokio::select! {
        _ = dropped => panic!("it ended"),
        () = started => {}
    }
    // THEN the message is fresh on the same connection
    let done = inbox.process(&mut session, &message(&id, b"x"), pay).await.unwrap();
    assert_eq!(done, Outcome::Done { value: (), attempt: 1 });
    assert_eq!(payments(&session).await, 1);
}

#[tokio::test]
async fn a_handler_that_hangs_has_failed() {
    let (_database, mut session, _) = stage().await;
    let inbox =
        Inbox::builder("billing").handler_timeout(Duration::from_millis(50)).build().unwrap();
    let outcome: Outcome<()> = inbox
        .process(&mut session, &message(&id::new(), b"x"), async |_| std::future::pending().await)
        .await
        .unwrap();
    assert!(matches!(outcome, Outcome::Retry { attempt: 1, .. }));
    let class = "SELECT count(*) FROM outbox.inbox_failure WHERE class = 'timeout'";
    assert_eq!(session.count(class).await, 1);
}

#[tokio::test]
async fn a_refused_commit_is_a_failed_attempt() {
    let (_database, mut session, inbox) = stage().await;
    session
        .run("ALTER TABLE payment ADD CONSTRAINT once UNIQUE (id) DEFERRABLE INITIALLY DEFERRED; INSERT INTO payment VALUES ('p', 1)")
        .await;
    let outcome = inbox.process(&mut session, &message(&id::new(), b"x"), pay).await.unwrap();
    assert_eq!(outcome, Outcome::Parked { why: Park::AlreadyExists, attempts: 1 });
}

#[tokio::test]
async fn an_error_keeps_no_values() {
    let (_database, mut session, inbox) = stage().await;
    session.run("CREATE UNIQUE INDEX payment_key ON payment (id); INSERT INTO payment VALUES ('secret', 1)").await;
    inbox
        .process(&mut session, &message(&id::new(), b"x"), async |transaction| {
            transaction.execute("INSERT INTO payment VALUES ('secret', 1)", &[]).await?;
            Ok(())
        })
        .await
        .unwrap();
    let error: String =
        session.query_one("SELECT error FROM outbox.inbox_failure", &[]).await.unwrap().get(0);
    assert!(error.contains("payment_key") && !error.contains("secret"), "{error}");
}

#[tokio::test]
async fn a_handler_that_ends_the_transaction_and_fails_is_parked() {
    let (_database, mut session, inbox) = stage().await;
    // WHEN a handler commits by itself what it has, and fails then
    let ends = async |transaction: &Transaction<'_>| {
        pay(transaction).await?;
        transaction.batch_execute("COMMIT").await?;
        Err::<(), _>(HandlerError::transient("the rest was not done"))
    };
    let id = id::new();
    let outcome = inbox.process(&mut session, &message(&id, b"x"), ends).await.unwrap();
    // THEN the outcome does not say that it will be tried again, since it would be a duplicate
    assert_eq!(outcome, Outcome::Parked { why: Park::Permanent, attempts: 1 });
    let error: String =
        session.query_one("SELECT error FROM outbox.inbox_failure", &[]).await.unwrap().get(0);
    assert!(error.contains("ended the inbox's transaction"), "{error}");
    // AND a handler whose statement failed has not ended it
    let fails = async |transaction: &Transaction<'_>| {
        pay(transaction).await?;
        let _ = transaction.batch_execute("SELECT 1/0").await;
        Err::<(), _>(HandlerError::transient("x"))
    };
    let outcome = inbox.process(&mut session, &message(&id::new(), b"x"), fails).await.unwrap();
    assert!(matches!(outcome, Outcome::Retry { attempt: 1, .. }), "{outcome:?}");
    assert_eq!(payments(&session).await, 1);
}

#[tokio::test]
async fn a_statement_does_not_outlive_its_handler() {
    let (_database, mut session, _) = stage().await;
    let limit = Duration::from_millis(200);
    let inbox = Inbox::builder("billing").handler_timeout(limit).build().unwrap();
    // WHEN a handler waits for a statement that never ends
    let hangs = async |transaction: &Transaction<'_>| {
        transaction.execute("SELECT pg_sleep(3600)", &[]).await?;
        Ok(())
    };
    let id = id::new();
    let message_of_it = message(&id, b"x");
    let processing = inbox.process(&mut session, &message_of_it, hangs);
    let ended = crate::support::patience::wait_for("the attempt to end", processing).await;
    // THEN the attempt ends, and has failed, by whichever limit comes first: the handler's or the
    // statement's
    assert!(matches!(ended, Ok(Outcome::Retry { attempt: 1, .. })), "{ended:?}");
    // AND the limit is the transaction's only, and no longer one than the role's own
    let shown = "SELECT current_setting('statement_timeout')";
    assert_eq!(session.query_one(shown, &[]).await.unwrap().get::<_, &str>(0), "0");
    session.run("SET statement_timeout = '50ms'").await;
    let reads = async |transaction: &Transaction<'_>| {
        Ok(transaction.query_one(shown, &[]).await?.get::<_, String>(0))
    };
    let outcome = inbox.process(&mut session, &message(&id::new(), b"x"), reads).await.unwrap();
    assert_eq!(outcome, Outcome::Done { value: "50ms".into(), attempt: 1 });
    // AND a statement that is ended by that one is a failed attempt too: it would come back without
    // an end
    let slow = async |transaction: &Transaction<'_>| {
        transaction.execute("SELECT pg_sleep(3600)", &[]).await?;
        Ok(())
    };
    let patient = Inbox::builder("billing").build().unwrap();
    let outcome = patient.process(&mut session, &message(&id::new(), b"x"), slow).await.unwrap();
    assert!(matches!(outcome, Outcome::Retry { attempt: 1, .. }), "{outcome:?}");
}

#[tokio::test]
async fn an_id_ahead_of_every_partition_is_parked_by_the_clock_of_the_database() {
    let (_database, mut session, inbox) = stage().await;
    let (far, near) = (id::of_day(365 * 30), id::of_day(3));
    let messages = [&far, &near].map(|id| message(id, b"x"));
    let outcomes = inbox.process_batch(&mut session, &messages, async |tx, _| pay(tx).await).await;
    let outcomes: Vec<_> = outcomes.into_iter().map(Result::unwrap).collect();
    let parked = Outcome::Parked { why: Park::Future, attempts: 1 };
    assert_eq!(outcomes, [parked, Outcome::Done { value: (), attempt: 1 }]);
}

#[tokio::test]
async fn a_batch_is_one_transaction() {
    let (_database, mut session, inbox) = stage().await;
    let (a, b, old) = (id::new(), id::new(), id::of_day(-20));
    inbox.process(&mut session, &message(&b, b"x"), pay).await.unwrap();
    // WHEN a batch holds a fresh message twice, a processed one, a stale one and one without an id
    let messages = [&a, &b, &a, &old, ""].map(|id| message(id, b"x"));
    let mut transactions = std::collections::HashSet::new();
    let outcomes = inbox
        .process_batch(&mut session, &messages, async |transaction, _| {
            pay(transaction).await?;
            let xid = transaction.query_one("SELECT txid_current()", &[]).await?;
            transactions.insert(xid.get::<_, i64>(0));
            Ok(())
        })
        .await;
    // THEN each is what it would be alone
    let outcomes: Vec<_> = outcomes.into_iter().map(Result::unwrap).collect();
    let duplicate = Outcome::DuplicateIgnored { cause: Cause::Unknown };
    let parked = |why| Outcome::Parked { why, attempts: 1 };
    assert_eq!(
        outcomes,
        [
            Outcome::Done { value: (), attempt: 1 },
            duplicate.clone(),
            duplicate,
            parked(Park::Stale),
            parked(Park::MissingId)
        ]
    );
    assert_eq!((payments(&session).await, transactions.len()), (2, 1));
}

#[tokio::test]
async fn one_bad_message_fails_alone() {
    let (_database, mut session, inbox) = stage().await;
    let ids: Vec<String> = (0..5).map(|_| id::new()).collect();
    let messages: Vec<_> = ids.iter().map(|id| message(id, id.as_bytes())).collect();
    // GIVEN a batch with one message whose handler fails
    let outcomes = inbox
        .process_batch(&mut session, &messages, async |transaction, message| {
            pay(transaction).await?;
            match message.id().is_some_and(|id| id.as_str() == ids[2]) {
                true => Err(HandlerError::transient("bad")),
                false => Ok(()),
            }
        })
        .await;
    // THEN the others are done, each once
    for (n, outcome) in outcomes.into_iter().map(Result::unwrap).enumerate() {
        match n {
            2 => assert!(matches!(outcome, Outcome::Retry { attempt: 1, .. })),
            _ => assert_eq!(outcome, Outcome::Done { value: (), attempt: 1 }),
        }
    }
    assert_eq!(payments(&session).await, 4);
}

#[tokio::test]
async fn a_waiting_instance_learns_that_the_message_is_done() {
    let (database, mut session, inbox) = stage().await;
    let (other, observer, id) = (database.connect().await, database.connect().await, id::new());
    other.run("BEGIN").await;
    other.execute("SELECT outbox.inbox_claim('billing', $1)", &[&id]).await.unwrap();
    let pid = backend(&session).await;
    let ending = async {
        wait_blocked(&observer, pid).await;
        other.run("COMMIT").await;
    };
    let delivery = message(&id, b"x");
    let (outcome, ()) = tokio::join!(inbox.process(&mut session, &delivery, pay), ending);
    assert_eq!(outcome.unwrap(), Outcome::DuplicateIgnored { cause: Cause::Unknown });
    assert_eq!(payments(&session).await, 0);
}
