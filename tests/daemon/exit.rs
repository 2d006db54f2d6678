//! Exit codes: 0 done, 1 failed (restart me), 2 wrong usage, 78 wrong configuration (do not).

use crate::support::database::Database;
use crate::support::relay::{RelayConfig, RelayProcess, command, raw_command};
use crate::support::stage::Stage;

/// A configuration that is right in itself, and whose servers are nowhere.
fn nowhere() -> RelayConfig {
    RelayConfig::new("postgres://nobody@127.0.0.1:1/nowhere")
        .set("target.kafka", "kind", "\"kafka\"")
        .set("target.kafka", "brokers", "\"127.0.0.1:1\"")
        .set("target.kafka", "route", "[{ topic = \"*\", kafka_topic = \"t\" }]")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zero_after_sigterm() {
    let stage = Stage::both(Database::create().await).await;
    let relay = RelayProcess::start(&stage.config).await;
    assert_eq!(relay.terminate().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_when_the_database_is_away() {
    let output = command(&nowhere(), &["status", "--json"]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_for_an_unknown_option() {
    let output = raw_command(&["run", "--no-such-option"]).await;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seventy_eight_for_a_wrong_configuration() {
    let config = nowhere().set("target.kafka", "windw_messages_max", 5);
    let output = command(&config, &["run"]).await;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78), "{text}");
    assert!(text.contains("window_messages_max") && text.contains("hint:"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seventy_eight_without_the_schema() {
    let database = Database::create_empty_on(&crate::support::services::Services::postgres()).await;
    let config = RelayConfig::new(&database.url)
        .set("target.kafka", "kind", "\"kafka\"")
        .set("target.kafka", "brokers", "\"127.0.0.1:1\"")
        .set("target.kafka", "route", "[{ topic = \"*\", kafka_topic = \"t\" }]");
    let output = command(&config, &["run"]).await;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78), "{text}");
    assert!(text.contains("outbox-relay migrate"), "{text}");
}
