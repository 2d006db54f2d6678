//! A PostgreSQL that keeps its connections open and answers nothing: a stopped server, a proxy to nowhere.

use crate::support::consumer::QueueKind;
use crate::support::database::Database;
use crate::support::patience::until;
use crate::support::progress::{assert_nobody_blamed, wait_settled};
use crate::support::proxy::{Network, Proxy};
use crate::support::relay::{RelayProcess, RelayStart};
use crate::support::rng::seed;
use crate::support::services::Services;
use crate::support::stage::Stage;
use crate::support::writer::{Plan, Writer};

/// A stage whose relay reaches the database through a proxy, and has little patience.
async fn stage() -> (Stage, Proxy) {
    let stage = Stage::new(Database::create().await).await;
    let relay = stage.database.create_role("proxied").await;
    let session = stage.session().await;
    session.run(&format!("SELECT outbox.grant_relay('{relay}')")).await;
    let (proxy, through) = Proxy::in_front_of(&stage.database.url_as(&relay)).await;
    let stage = stage
        .with_amqp(&Services::amqp(), QueueKind::Classic)
        .await
        .set("database", "url", format!("{through:?}"))
        .set("database", "connect_timeout", "\"1s\"")
        .set("database", "statement_timeout", "\"1s\"")
        .set("lease", "ttl", "\"2s\"")
        .set("lease", "ping_interval", "\"100ms\"")
        .set("lease", "standby_interval", "\"10ms\"");
    (stage, proxy)
}

async fn wait_logged(relay: &RelayProcess, text: &str) {
    until(text, async || relay.log().contains(text).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_i3_a_database_that_falls_silent_is_left_and_found_again() {
    // GIVEN a stream of messages
    let (stage, proxy) = stage().await;
    let session = stage.session().await;
    let relay = RelayProcess::start(&stage.config).await;
    let plan = Plan { connections: 8, ..Plan::hostile(seed(), usize::MAX) };
    let writer = Writer::start(&stage.database, &plan).await;
    stage.wait_received(200).await;
    // WHEN the relay hears nothing more from its database
    proxy.set(Network::Deaf);
    // THEN it gives its session up by itself, and goes on when there is an answer
    wait_logged(&relay, "pipeline lost the database").await;
    proxy.set(Network::Up);
    writer.wait_committed(writer.committed() + 300).await;
    let journal = writer.stop().await;
    stage.wait_received(journal.len()).await;
    wait_settled(&session, 1).await;
    assert_nobody_blamed(&session).await;
    assert!(relay.terminate().await.success());
    stage.assert_exact(&journal).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_of_a_silent_database_ends_when_it_is_asked_to() {
    // GIVEN a relay that waits for the lease of another, with a statement under way that nobody answers
    let (stage, proxy) = stage().await;
    let stage = stage.set("database", "statement_timeout", "\"1h\"").set(
        "database",
        "connect_timeout",
        "\"1h\"",
    );
    let leader = stage.session().await;
    leader.run("SELECT pg_advisory_lock(k1, k2) FROM outbox.lock_key('amqp')").await;
    let mut relay = RelayStart::new(&stage.config).spawn();
    relay.wait_notified("STATUS=amqp: standby").await;
    proxy.set(Network::Deaf);
    let asked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                 AND application_name LIKE 'outbox-relay lease%' AND query LIKE '%pg_try_advisory_lock%'
                 AND state = 'idle' AND state_change < clock_timestamp() - interval '300 ms'";
    until("a standby that hears no answer", async || {
        (leader.count(asked).await == 1).then_some(())
    })
    .await;
    // WHEN it is asked to end THEN it does
    assert!(relay.terminate().await.success());
}
