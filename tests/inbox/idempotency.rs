//! The SQL of idempotency keys, as any language calls it.

use std::fs;
use std::path::Path;

use outbox_inbox::idempotency::{
    Answer, Begin, Claim, KeyError, KeyRequest, KeyTable, LeaseError, ResumeAt,
};
use outbox_inbox::idempotency::{DEFAULT_LEASE, DEFAULT_TTL};
use outbox_inbox::schema::Schema;
use tokio::task::JoinSet;
use tokio_postgres::error::SqlState;

use crate::support::database::Database;
use crate::support::services::Services;
use crate::support::session::Session;

const CLIENTS: usize = 16;

fn table() -> KeyTable {
    KeyTable::new(&Schema::default())
}

fn request(key: &str) -> KeyRequest<'_> {
    KeyRequest { scope: "POST /payments 7", key, fingerprint: b"f", ttl: DEFAULT_TTL }
}

async fn begin(session: &Session, key: &str, resume_at: &ResumeAt) -> Begin {
    table().begin(&**session, request(key), DEFAULT_LEASE, resume_at).await.unwrap()
}

fn answer() -> Answer {
    Answer {
        status: 201,
        headers: vec![("location".into(), "/7".into())],
        body: Some(b"paid".to_vec()),
    }
}

async fn end_leases(session: &Session) {
    session.run("UPDATE outbox.idempotency_key SET lease_until = now() - interval '1 s'").await;
}

#[tokio::test]
async fn a_lease_has_an_end() {
    let database = Database::create().await;
    let session = database.connect().await;
    // WHEN a lease is asked for without an end THEN there is none: NULL would be taken over at once,
    // infinity never (and interval has it from PostgreSQL 17 on, so the row is tried as well)
    for text in [
        "SELECT outbox.idempotency_begin('s', 'k', '\\x01', lease => NULL)",
        "INSERT INTO outbox.idempotency_key (scope, key, fingerprint, expires_at) VALUES ('s', 'k', '\\x01', now())",
        "INSERT INTO outbox.idempotency_key (scope, key, fingerprint, expires_at, lease_token, lease_until)
         VALUES ('s', 'k', '\\x01', now(), gen_random_uuid(), NULL)",
        "INSERT INTO outbox.idempotency_key (scope, key, fingerprint, expires_at, lease_token, lease_until)
         VALUES ('s', 'k', '\\x01', now(), gen_random_uuid(), 'infinity')",
        "INSERT INTO outbox.idempotency_key (scope, key, fingerprint, expires_at, status, lease_token, lease_until)
         VALUES ('s', 'k', '\\x01', now(), 200, gen_random_uuid(), now())",
    ] {
        let error = session.batch_execute(text).await.expect_err(text);
        assert_eq!(error.code(), Some(&SqlState::CHECK_VIOLATION), "{text}: {error:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_come_at_once_one_begins() {
    for server in [Services::postgres(), Services::postgres_18()] {
        let database = Database::create_on(&server).await;
        let session = database.connect().await;
        for round in 0..20 {
            // GIVEN a new key, a lost lease, or an expired answer, by turns
            if round % 3 == 1 {
                begin(&session, &format!("k{round}"), &ResumeAt::Nowhere).await;
                end_leases(&session).await;
            }
            if round % 3 == 2 {
                let Begin::Started(lease) =
                    begin(&session, &format!("k{round}"), &ResumeAt::Nowhere).await
                else {
                    panic!("it is new");
                };
                table().finish(&*session, &lease, &answer()).await.unwrap();
                session
                    .run("UPDATE outbox.idempotency_key SET expires_at = now() - interval '1 s'")
                    .await;
            }
            // WHEN many come at once
            let mut clients = JoinSet::new();
            for _ in 0..CLIENTS {
                let client = database.connect().await;
                let key = format!("k{round}");
                clients.spawn(async move { begin(&client, &key, &ResumeAt::Anywhere).await });
            }
            let verdicts = clients.join_all().await;
            // THEN one begins, and the others see it
            let begun = |verdict: &&Begin| matches!(verdict, Begin::Started(_) | Begin::Resumed(_));
            assert_eq!(verdicts.iter().filter(begun).count(), 1, "{verdicts:?}");
            let others =
                verdicts.iter().filter(|verdict| matches!(verdict, Begin::InProgress { .. }));
            assert_eq!(others.count(), CLIENTS - 1, "{verdicts:?}");
        }
    }
}

#[tokio::test]
async fn an_old_token_can_do_nothing() {
    let database = Database::create().await;
    let session = database.connect().await;
    // GIVEN somebody who lost the lease to a successor
    let Begin::Started(old) = begin(&session, "k", &ResumeAt::Anywhere).await else {
        panic!("it is new")
    };
    end_leases(&session).await;
    let Begin::Resumed(new) = begin(&session, "k", &ResumeAt::Anywhere).await else {
        panic!("it was lost")
    };
    assert_eq!((new.attempt, new.recovery_point.as_str()), (2, "started"));
    // WHEN it comes back THEN it can do nothing
    let keys = table();
    assert!(matches!(keys.checkpoint(&*session, &old, "late", None).await, Err(LeaseError::Lost)));
    assert!(matches!(keys.finish(&*session, &old, &answer()).await, Err(LeaseError::Lost)));
    assert!(matches!(keys.release(&*session, &old).await, Err(LeaseError::Lost)));
    // AND the successor cannot pretend that nothing was done
    assert!(matches!(keys.release(&*session, &new).await, Err(LeaseError::Lost)));
    keys.finish(&*session, &new, &answer()).await.unwrap();
    assert_eq!(begin(&session, "k", &ResumeAt::Anywhere).await, Begin::Replay(answer()));
    assert!(matches!(keys.finish(&*session, &new, &answer()).await, Err(LeaseError::Lost)));
}

#[tokio::test]
async fn a_key_without_a_scope_or_a_fingerprint_is_refused() {
    let database = Database::create().await;
    let session = database.connect().await;
    // GIVEN a key that was answered, which a NULL would differ from in nothing
    let Begin::Started(lease) = begin(&session, "k", &ResumeAt::Nowhere).await else {
        panic!("it is new")
    };
    table().finish(&*session, &lease, &answer()).await.unwrap();
    // WHEN it is asked for with a part that is missing, or that no row could hold
    let long = format!("repeat('x', {})", 401);
    for (function, scope, key, fingerprint, state) in [
        ("claim", "NULL", "'k'", "'\\x66'", SqlState::NULL_VALUE_NOT_ALLOWED),
        ("claim", "'POST /payments 7'", "NULL", "'\\x66'", SqlState::NULL_VALUE_NOT_ALLOWED),
        ("claim", "'POST /payments 7'", "'k'", "NULL", SqlState::NULL_VALUE_NOT_ALLOWED),
        ("begin", "'POST /payments 7'", "'k'", "NULL", SqlState::NULL_VALUE_NOT_ALLOWED),
        ("begin", "NULL", "'k'", "'\\x66'", SqlState::NULL_VALUE_NOT_ALLOWED),
        ("claim", "''", "'k'", "'\\x66'", SqlState::INVALID_PARAMETER_VALUE),
        ("claim", &long, "'k'", "'\\x66'", SqlState::INVALID_PARAMETER_VALUE),
        ("claim", "'s'", "repeat('x', 256)", "'\\x66'", SqlState::INVALID_PARAMETER_VALUE),
        ("claim", "'s'", "'k'", "''", SqlState::INVALID_PARAMETER_VALUE),
        ("begin", "'s'", "''", "'\\x66'", SqlState::INVALID_PARAMETER_VALUE),
    ] {
        let text = format!(
            "SELECT verdict FROM outbox.idempotency_{function}({scope}, {key}, {fingerprint})"
        );
        // THEN it is refused before anything is done for it
        let error = session.batch_execute(&text).await.expect_err(&text);
        assert_eq!(error.code(), Some(&state), "{text}");
    }
}

#[tokio::test]
async fn a_suspended_key_is_resumed_by_the_next_attempt() {
    let database = Database::create().await;
    let session = database.connect().await;
    let keys = table();
    // GIVEN an attempt that recorded a phase and ended without an answer
    let Begin::Started(first) = begin(&session, "k", &ResumeAt::Nowhere).await else {
        panic!("it is new")
    };
    keys.checkpoint(&*session, &first, "charged", None).await.unwrap();
    keys.suspend(&*session, &first).await.unwrap();
    // THEN its token is void
    assert!(matches!(keys.renew(&*session, &first).await, Err(LeaseError::Lost)));
    assert!(matches!(keys.finish(&*session, &first, &answer()).await, Err(LeaseError::Lost)));
    // AND the next one goes on there, also one that takes up nothing that was lost
    let Begin::Resumed(second) = begin(&session, "k", &ResumeAt::Nowhere).await else {
        panic!("it was suspended")
    };
    assert_eq!((second.attempt, second.recovery_point.as_str()), (2, "charged"));
    // AND when that is lost, it is lost
    end_leases(&session).await;
    assert_eq!(begin(&session, "k", &ResumeAt::Nowhere).await, Begin::Unknown);
}

#[tokio::test]
async fn a_lease_is_renewed_by_its_owner_alone() {
    let database = Database::create().await;
    let session = database.connect().await;
    let keys = table();
    let Begin::Started(old) = begin(&session, "k", &ResumeAt::Nowhere).await else {
        panic!("it is new")
    };
    end_leases(&session).await;
    keys.renew(&*session, &old).await.unwrap();
    let found = begin(&session, "k", &ResumeAt::Anywhere).await;
    assert!(matches!(found, Begin::InProgress { lease_left: Some(_) }), "{found:?}");
    end_leases(&session).await;
    begin(&session, "k", &ResumeAt::Anywhere).await;
    assert!(matches!(keys.renew(&*session, &old).await, Err(LeaseError::Lost)));
}

#[tokio::test]
async fn an_answer_is_stored_in_the_transaction_of_its_claim() {
    let database = Database::create().await;
    let mut session = database.connect().await;
    let keys = table();
    // WHEN an answer is stored without a claim, or after the claim's transaction THEN it is refused
    let store = async |session: &Session| keys.store(&**session, request("k"), &answer()).await;
    assert!(matches!(store(&session).await, Err(KeyError::Refused { .. })));
    assert_eq!(keys.claim(&*session, request("k")).await.unwrap(), Claim::Started);
    assert!(matches!(store(&session).await, Err(KeyError::Refused { .. })));
    // AND one of another key as well
    let transaction = session.transaction().await.unwrap();
    keys.claim(&transaction, request("k")).await.unwrap();
    assert!(matches!(
        keys.store(&transaction, request("other"), &answer()).await,
        Err(KeyError::Refused { .. })
    ));
    transaction.rollback().await.unwrap();
    // AND in the claim's transaction it is there with it
    let transaction = session.transaction().await.unwrap();
    keys.claim(&transaction, request("k")).await.unwrap();
    keys.store(&transaction, request("k"), &answer()).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(keys.claim(&*session, request("k")).await.unwrap(), Claim::Replay(answer()));
}

#[tokio::test]
async fn a_lease_and_a_claim_on_one_key_exclude_each_other() {
    let database = Database::create().await;
    let (mut session, other) = (database.connect().await, database.connect().await);
    let keys = table();
    // GIVEN a claim, and a lease that comes between, as while a route changes its mode
    let transaction = session.transaction().await.unwrap();
    keys.claim(&transaction, request("k")).await.unwrap();
    let Begin::Started(lease) = begin(&other, "k", &ResumeAt::Nowhere).await else {
        panic!("it is new")
    };
    // WHEN the claim's answer is stored THEN its transaction must end
    let stored = keys.store(&transaction, request("k"), &answer()).await;
    assert!(matches!(stored, Err(KeyError::Conflict { .. })), "{stored:?}");
    transaction.rollback().await.unwrap();
    let found = keys.claim(&*session, request("k")).await.unwrap();
    let Claim::InProgress { lease_left: Some(left) } = found else { panic!("{found:?}") };
    assert!(left <= DEFAULT_LEASE);
    end_leases(&session).await;
    assert_eq!(keys.claim(&*session, request("k")).await.unwrap(), Claim::Unknown);
    keys.finish(&*other, &lease, &answer()).await.unwrap();
}

#[tokio::test]
async fn what_has_expired_is_removed_unless_somebody_is_at_it() {
    let database = Database::create().await;
    let session = database.connect().await;
    // GIVEN three expired keys, one of them with a lease that lasts, and one that has not expired
    for key in ["a", "b", "leased"] {
        begin(&session, key, &ResumeAt::Nowhere).await;
    }
    session.run("UPDATE outbox.idempotency_key SET expires_at = now() - interval '1 s'").await;
    session.run("UPDATE outbox.idempotency_key SET lease_until = now() - interval '1 s' WHERE key <> 'leased'").await;
    begin(&session, "young", &ResumeAt::Nowhere).await;
    // WHEN they are removed one at a time THEN two go, and no more
    let mut removed = Vec::new();
    for _ in 0..3 {
        removed.push(table().expire(&*session, 1).await.unwrap());
    }
    assert_eq!(removed, [1, 1, 0]);
    let state = "SELECT in_progress FROM outbox.idempotency_state";
    assert_eq!(session.count(state).await, 2);
}

#[tokio::test]
async fn an_error_does_not_quote_the_row() {
    let database = Database::create().await;
    let session = database.connect().await;
    let Begin::Started(lease) = begin(&session, "k", &ResumeAt::Nowhere).await else {
        panic!("it is new")
    };
    // WHEN the server refuses a row with a secret in it THEN the secret is in no error
    let odd = Answer { status: 999, headers: Vec::new(), body: Some(b"secret".to_vec()) };
    let error = table().finish(&*session, &lease, &odd).await.unwrap_err();
    let text = format!("{error:?} {error}");
    assert!(
        text.contains("23514") && !text.contains("secret") && !text.contains("736563726574"),
        "{text}"
    );
}

#[tokio::test]
async fn a_handler_needs_no_more_than_its_grant() {
    let database = Database::create().await;
    let session = database.connect().await;
    let role = format!("{}_handler", database.url.rsplit_once('/').unwrap().1);
    session.run(&format!("CREATE ROLE {role}; SELECT outbox.grant_idempotency('{role}')")).await;
    session.run(&format!("SET ROLE {role}")).await;
    let keys = table();
    let Begin::Started(lease) = begin(&session, "k", &ResumeAt::Nowhere).await else {
        panic!("it is new")
    };
    keys.checkpoint(&*session, &lease, "p", None).await.unwrap();
    keys.finish(&*session, &lease, &answer()).await.unwrap();
    session.run("BEGIN").await;
    keys.claim(&*session, request("c")).await.unwrap();
    keys.store(&*session, request("c"), &answer()).await.unwrap();
    session.run("COMMIT").await;
    let Begin::Started(lease) = begin(&session, "r", &ResumeAt::Nowhere).await else {
        panic!("it is new")
    };
    keys.renew(&*session, &lease).await.unwrap();
    keys.release(&*session, &lease).await.unwrap();
    let Begin::Started(lease) = begin(&session, "s", &ResumeAt::Nowhere).await else {
        panic!("it is new")
    };
    keys.suspend(&*session, &lease).await.unwrap();
    // AND by itself it can neither forget a key nor read an answer
    for forbidden in [
        "DELETE FROM outbox.idempotency_key",
        "UPDATE outbox.idempotency_key SET expires_at = now()",
        "INSERT INTO outbox.idempotency_key (scope, key, fingerprint, expires_at, status)
         VALUES ('s', 'forged', '\\x01', now(), 200)",
        "SELECT body FROM outbox.idempotency_key",
        "SELECT outbox.idempotency_forget('s', 'k', 'why not')",
        "SELECT outbox.idempotency_expire(1)",
    ] {
        let error = session.batch_execute(forbidden).await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{forbidden}");
    }
}

#[tokio::test]
async fn the_sql_and_json_of_the_page_work_as_they_stand() {
    // GIVEN the page, and the table that it takes for granted
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/idempotency-http.md");
    let page = fs::read_to_string(page).unwrap();
    let database = Database::create().await;
    let session = database.connect().await;
    session.run("CREATE TABLE payments (amount int)").await;
    // WHEN each block is executed
    let mut executed = Vec::new();
    for block in page.split("```").skip(1).step_by(2) {
        let (language, text) = block.split_once('\n').unwrap();
        match language {
            "sql" => session.run(text).await,
            "json" => drop(serde_json::from_str::<serde_json::Value>(text).unwrap()),
            // Compiled as a doctest.
            "rust" => {}
            other => panic!("nobody executes blocks in {other}"),
        }
        executed.push(language);
    }
    // THEN none was missed, and what they say has happened
    assert_eq!(executed, ["rust", "rust", "sql", "sql", "sql", "json"]);
    let done = "SELECT count(*) FROM outbox.idempotency_key WHERE status = 201";
    assert_eq!(
        (session.count("SELECT count(*) FROM payments").await, session.count(done).await),
        (1, 2)
    );
}
