//! A row without a type.

use crate::support::database::Database;
use crate::support::relay::RelayProcess;
use crate::support::stage::Stage;

/// GIVEN the route of the annotated example (`type = "*"`) at both brokers WHEN the statement of the
/// README publishes a message without a type THEN it arrives, like one with a type.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_type_of_star_takes_a_row_without_a_type() {
    let stage = Stage::both(Database::create().await).await;
    let exchange = stage.amqp().exchange.clone();
    let topic = stage.kafka().topic.clone();
    let amqp = format!(
        "[{{ topic = \"*\", type = \"*\", exchange = \"{exchange}\", routing_key = \"{{{{ topic }}}}\" }}]"
    );
    let kafka = format!("[{{ topic = \"*\", type = \"*\", kafka_topic = \"{topic}\" }}]");
    let stage = stage.set("target.amqp", "route", amqp).set("target.kafka", "route", kafka);
    let relay = RelayProcess::start(&stage.config).await;

    let session = stage.session().await;
    session
        .run(
            "SELECT outbox.publish('order.placed', 'order-7', '{\"total\": 9}');
             SELECT outbox.publish('order.placed', 'order-7', '{\"total\": 9}', type => 'OrderPlaced')",
        )
        .await;
    stage.wait_received(2).await;
    stage.wait_settled().await;
    assert!(relay.terminate().await.success());
}
