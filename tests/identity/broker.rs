//! A target whose name leads to another broker than before.

use super::text;
use crate::support::consumer::QueueKind;
use crate::support::database::Database;
use crate::support::relay::{RelayProcess, RelayStart, command};
use crate::support::services::Services;
use crate::support::stage::Stage;

const INSERT: &str = "INSERT INTO outbox.message (topic) VALUES ('t')";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_knows_where_its_messages_went() {
    // GIVEN
    let stage = Stage::both(Database::create().await).await;
    let session = stage.session().await;
    session.run(INSERT).await;

    // WHEN
    let relay = RelayProcess::start(&stage.config).await;
    stage.wait_settled().await;
    assert!(relay.terminate().await.success());

    // THEN it is the broker's own word for it, and no address
    let known = "SELECT count(*) FROM outbox.ledger
                 WHERE target = 'amqp' AND broker_kind = 'amqp' AND broker_place = '/'
                    OR target = 'kafka' AND broker_kind = 'kafka' AND broker_place ~ '^[A-Za-z0-9_-]{22}$'";
    assert_eq!(session.count(known).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_broker_is_refused_until_the_target_is_moved() {
    let stage = Stage::both(Database::create().await).await;
    let session = stage.session().await;
    session.run(INSERT).await;
    let relay = RelayProcess::start(&stage.config).await;
    stage.wait_settled().await;
    assert!(relay.terminate().await.success());
    for (round, target, change, was, is) in [
        (2, "amqp", "broker_place = 'other'", "virtual host \"other\"", "virtual host \"/\""),
        (3, "kafka", "broker_place = 'other'", "Kafka cluster \"other\"", "the Kafka cluster"),
        (4, "amqp", "broker_kind = 'kafka'", "Kafka cluster \"/\"", "RabbitMQ, virtual host"),
    ] {
        // GIVEN progress that was made elsewhere
        session.run(&format!("UPDATE outbox.ledger SET {change} WHERE target = '{target}'")).await;
        session.run(INSERT).await;

        // WHEN it is run and checked THEN both name both places, and nothing is sent there
        let relay = RelayStart::new(&stage.config).spawn();
        relay.wait_logged("pipeline stopped").await;
        let checked = text(&command(&stage.config, &["check"]).await.stdout);
        for said in [relay.log(), checked] {
            // Quotes are escaped in a log line.
            let said = said.replace('\\', "");
            assert!(said.contains(was) && said.contains(is), "{said}");
            assert!(said.contains(&format!("outbox-relay target move {target}")), "{said}");
        }
        let pending = format!(
            "SELECT count(*) FROM outbox.message_state WHERE target = '{target}' AND state = 'pending'"
        );
        assert_eq!(session.count(&pending).await, 1);
        assert!(relay.terminate().await.success());

        // WHEN it is moved THEN it goes on, and sends only what is pending
        let moved = command(&stage.config, &["target", "move", target, "--yes"]).await;
        assert!(moved.status.success(), "{}", text(&moved.stderr));
        let relay = RelayProcess::start(&stage.config).await;
        stage.wait_settled().await;
        assert!(relay.terminate().await.success());
        for (name, consumer) in &stage.consumers {
            consumer.wait_received(round).await;
            assert_eq!(consumer.deliveries().len(), round, "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renamed_target_goes_on_and_check_says_what_it_would_send_otherwise() {
    // GIVEN a target that has sent everything, under another name in the configuration
    let stage = Stage::new(Database::create().await).await;
    let stage = stage.with_amqp(&Services::amqp(), QueueKind::Classic).await;
    let session = stage.session().await;
    session.run(INSERT).await;
    let relay = RelayProcess::start(&stage.config).await;
    stage.wait_settled().await;
    assert!(relay.terminate().await.success());
    let config = stage.config.clone().without("target.amqp").amqp("rabbit", stage.amqp());

    // WHEN it is checked THEN
    let said = text(&command(&config, &["check"]).await.stdout);
    assert!(said.contains("new: its first run sends 1 rows that stand in the table"), "{said}");
    assert!(said.contains("outbox-relay target rename amqp rabbit"), "{said}");

    // WHEN it is renamed THEN it sends what is new
    let renamed = command(&config, &["target", "rename", "amqp", "rabbit", "--yes"]).await;
    assert!(renamed.status.success(), "{}", text(&renamed.stderr));
    session.run(INSERT).await;
    let relay = RelayProcess::start(&config).await;
    stage.wait_received(2).await;
    stage.wait_settled().await;
    assert!(relay.terminate().await.success());
    assert_eq!(stage.consumers[0].1.deliveries().len(), 2);
}
