//! What the database refuses a relay that leads, on sessions that are well: it waits, says so, and
//! sends nothing twice for it.

use super::http::{listening, wait_status};
use crate::support::consumer::QueueKind;
use crate::support::database::Database;
use crate::support::relay::{RelayProcess, command};
use crate::support::services::Services;
use crate::support::stage::Stage;
use crate::support::writer::{Batch, committed};

/// Fails every UPDATE of the ledger as a server would that has no disk left.
fn refuse(code: &str) -> String {
    format!(
        "CREATE OR REPLACE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql
         AS $$ BEGIN RAISE EXCEPTION 'no more of that' USING ERRCODE = '{code}'; END $$;
         CREATE TRIGGER refuse BEFORE UPDATE ON outbox.ledger
         FOR EACH ROW EXECUTE FUNCTION public.refuse()"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_whose_marks_are_refused_is_not_ready_and_sends_nothing_twice() {
    // GIVEN a relay that leads and has settled something
    let stage = Stage::new(Database::create().await).await;
    let stage = listening(stage.with_amqp(&Services::amqp(), QueueKind::Classic).await);
    let session = stage.session().await;
    Batch::orders(100).write(&session).await;
    let relay = RelayProcess::start(&stage.config).await;
    stage.wait_settled().await;
    for (code, remedy) in [("53100", "free space"), ("P0001", "drop or mend the trigger")] {
        // WHEN every mark is refused: the disk is full, a trigger raises an error
        session.run(&refuse(code)).await;
        Batch::orders(100).write(&session).await;
        // THEN it is not ready, and says what refuses it and what to do
        let text = wait_status(&relay, 503).await;
        assert!(text.contains(code) && text.contains("public.refuse()"), "{text}");
        assert!(text.contains(remedy), "{text}");
        // WHEN that is over THEN it is ready
        session.run("DROP TRIGGER refuse ON outbox.ledger").await;
        wait_status(&relay, 200).await;
    }
    // AND everything has arrived once
    let journal = committed(&session).await;
    stage.wait_received(journal.len()).await;
    stage.wait_settled().await;
    assert!(relay.terminate().await.success());
    for (name, report) in stage.assert_exact(&journal).await {
        assert_eq!(report.duplicates, 0, "{name}: a refused mark cost a duplicate");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_cannot_begin_for_a_trigger_names_it() {
    // GIVEN a ledger, and a trigger that refuses every change of it
    let stage = Stage::new(Database::create().await).await;
    let stage = listening(stage.with_amqp(&Services::amqp(), QueueKind::Classic).await);
    let session = stage.session().await;
    let relay = RelayProcess::start(&stage.config).await;
    assert!(relay.terminate().await.success());
    session.run(&refuse("P0001")).await;
    // WHEN a relay starts THEN it names the trigger, as does `check`
    let relay = crate::support::relay::RelayStart::new(&stage.config).spawn();
    let text = crate::support::patience::until("the trigger to be named", async || {
        let text = wait_status(&relay, 503).await;
        text.contains("public.refuse()").then_some(text)
    })
    .await;
    assert!(text.contains("amqp: stopped"), "{text}");
    let checked = command(&stage.config, &["check"]).await;
    let checked = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.contains("trigger refuse on outbox.ledger"), "{checked}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_is_held_by_no_relay_is_named() {
    // GIVEN a login without any right, which holds the lock of a target
    let stage = Stage::new(Database::create().await).await;
    let stage = listening(stage.with_amqp(&Services::amqp(), QueueKind::Classic).await);
    let session = stage.session().await;
    let keys = session
        .query_one("SELECT k1, k2 FROM outbox.lock_key('amqp')", &[])
        .await
        .expect("the keys of the lock");
    let login = stage.database.create_role("eve").await;
    let eve = crate::support::session::Session::connect(&stage.database.url_as(&login)).await;
    let (k1, k2): (i32, i32) = (keys.get(0), keys.get(1));
    eve.run(&format!("SET application_name = 'prying'; SELECT pg_advisory_lock({k1}, {k2})")).await;
    // WHEN a relay starts THEN it is not ready and names the session, as do `check` and `status`
    let relay = crate::support::relay::RelayStart::new(&stage.config).spawn();
    let text = crate::support::patience::until("the intruder to be named", async || {
        let text = wait_status(&relay, 503).await;
        text.contains(&login).then_some(text)
    })
    .await;
    assert!(text.contains("prying") && text.contains("pg_terminate_backend"), "{text}");
    for command_name in ["check", "status"] {
        let output = command(&stage.config, &[command_name]).await;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("the lease of target amqp is held by pid"), "{text}");
    }
    // WHEN it is gone THEN the relay leads
    drop(eve);
    wait_status(&relay, 200).await;
}

#[tokio::test]
async fn only_relays_count_as_relays() {
    // GIVEN a relay's role and another login that both hold the lock of a member
    let database = Database::create().await;
    let schema = outbox_relay::schema::Schema::default();
    let session = database.connect().await;
    let (relay, login) = (database.create_relay().await, database.create_role("eve").await);
    let keys = session
        .query_one("SELECT k1, k2 FROM outbox.lock_key('@relay/amqp')", &[])
        .await
        .expect("the keys of the lock");
    let (k1, k2): (i32, i32) = (keys.get(0), keys.get(1));
    let mut members = Vec::new();
    for role in [&relay, &login, &login] {
        let member = crate::support::session::Session::connect(&database.url_as(role)).await;
        member.run(&format!("SELECT pg_advisory_lock_shared({k1}, {k2})")).await;
        members.push(member);
    }
    // WHEN relays are counted THEN the login is none
    let names = ["amqp".to_owned(), "kafka".to_owned()];
    let relays = outbox_relay::membership::count(&members[0], &schema, &names).await.unwrap();
    assert_eq!(relays, [("amqp".to_owned(), 1), ("kafka".to_owned(), 0)].into_iter().collect());
}
