//! The routes of each run stand in the database.

use crate::support::database::Database;
use crate::support::patience::until;
use crate::support::relay::RelayProcess;
use crate::support::services::Services;
use crate::support::stage::Stage;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_records_its_routes_and_that_it_has_acted_on_their_change() {
    // GIVEN a relay
    let stage = Stage::new(Database::create().await).await.with_kafka(&Services::kafka()).await;
    let session = stage.session().await;
    let tried = async |hash: &str| {
        until("the run to record that it has acted on its routes", async || {
            let sql = "SELECT hash, routes::text FROM outbox.route WHERE tried AND hash <> $1";
            let row = session.query_opt(sql, &[&hash]).await.unwrap()?;
            Some((row.get::<_, String>(0), row.get::<_, String>(1)))
        })
        .await
    };

    // WHEN it runs
    let relay = RelayProcess::start(&stage.config).await;
    let (hash, routes) = tried("").await;
    assert!(relay.terminate().await.success());

    // THEN its routes stand in the database
    assert!(routes.contains(r#""topic": "*""#), "{routes}");
    // AND other routes have another hash, and are recorded as acted on by a run of their own
    let topic = &stage.kafka().topic;
    let route = format!("[{{ topic = \"order.*\", kafka_topic = \"{topic}\" }}]");
    let config = stage.config.clone().set("target.kafka", "route", route);
    let relay = RelayProcess::start(&config).await;
    let (other, routes) = tried(&hash).await;
    assert_ne!(other, hash);
    assert!(routes.contains(r#""topic": "order.*""#), "{routes}");
    assert!(relay.terminate().await.success());
}
