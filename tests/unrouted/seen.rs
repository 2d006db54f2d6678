//! A topic that no target takes is seen by everybody who looks.

use crate::support::database::Database;
use crate::support::relay::{RelayConfig, RelayProcess, command};
use crate::support::services::Services;
use crate::support::stage::Stage;

async fn said(config: &RelayConfig, arguments: &[&str]) -> String {
    let output = command(config, arguments).await;
    String::from_utf8(output.stdout).unwrap()
}

/// GIVEN a target that takes orders WHEN a misspelt topic is written THEN the keeper warns, once, and
/// `status`, its JSON and `check` name the topic; and nothing is said while the routes of another target
/// are unknown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_no_target_takes_is_named_by_keeper_status_and_check() {
    let stage = Stage::new(Database::create().await).await.with_kafka(&Services::kafka()).await;
    let topic = &stage.kafka().topic;
    let route = format!("[{{ topic = \"order.*\", kafka_topic = \"{topic}\" }}]");
    let config = stage.config.clone().set("target.kafka", "route", route);
    let session = stage.session().await;
    let relay = RelayProcess::start(&config).await;

    session
        .run(
            "SELECT outbox.publish('oder.placed', 'k', 'x', type => 'Placed') FROM generate_series(1, 50);
             SELECT outbox.publish('order.placed', 'k', 'x')",
        )
        .await;
    relay.wait_logged("no target takes the topic").await;
    let name = "no target takes topic \"oder.placed\", type \"Placed\"";
    let status = ["status", "--sample", "0s"];
    assert!(said(&config, &status).await.contains(name));
    assert!(said(&config, &["check"]).await.contains(name));
    let json = said(&config, &[&status[..], &["--json"]].concat()).await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["untaken"][0]["topic"], "oder.placed");
    assert_eq!(json["untaken"][0]["first_id"], 1);
    assert_eq!(relay.log().matches("no target takes the topic").count(), 1);

    // WHEN there is a target whose routes are unknown, THEN it may take the topic
    session.run("INSERT INTO outbox.ledger (target) VALUES ('other')").await;
    assert!(!said(&config, &status).await.contains("no target takes"));
    assert!(!said(&config, &["check"]).await.contains("no target takes"));
    assert!(relay.terminate().await.success());
}
