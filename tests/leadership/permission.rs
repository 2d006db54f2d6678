//! A user who may not hold the fence is told so before anything is published.

use crate::support::consumer::QueueKind;
use crate::support::database::Database;
use crate::support::instance::{Instance, Kind};
use crate::support::relay::{RelayProcess, RelayStart, command};
use crate::support::stage::Stage;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fence_needs_a_permission_or_is_switched_off() {
    // GIVEN a user who may publish and configure nothing
    let broker = Instance::start(Kind::RabbitMq).await;
    let stage = Stage::new(Database::create().await).await;
    let stage = stage.with_amqp(broker.url(), QueueKind::Classic).await;
    broker.rabbitmqctl(&["add_user", "publisher", "pw"]).await;
    broker.rabbitmqctl(&["set_permissions", "publisher", "^$", ".*", "^$"]).await;
    let (_, address) = broker.url().split_once('@').expect("a url with a user");
    let stage = stage.set("target.amqp", "url", format!("\"amqp://publisher:pw@{address}\""));

    // WHEN the relay starts, and is checked THEN both say what is missing
    let mut relay = RelayStart::new(&stage.config).spawn();
    assert_eq!(relay.wait_exit().await.code(), Some(78));
    let output = command(&stage.config, &["check"]).await;
    assert_eq!(output.status.code(), Some(78));
    for text in [relay.log(), String::from_utf8_lossy(&output.stdout).into_owned()] {
        assert!(text.contains(r"`^outbox-relay\.fence\.`"), "{text}");
        assert!(text.contains("fence = \"none\""), "{text}");
    }

    // WHEN it is granted, or the fence switched off THEN it works; and a check disturbs no leader
    let open = stage.config.clone().set("target.amqp", "fence", "\"none\"");
    assert!(command(&open, &["check"]).await.status.success());
    assert!(RelayProcess::start(&open).await.terminate().await.success());
    let pattern = r"^outbox-relay\.fence\.";
    broker.rabbitmqctl(&["set_permissions", "publisher", pattern, ".*", "^$"]).await;
    let output = command(&stage.config, &["check"]).await;
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("fence allowed"), "{text}");
    let leader = RelayProcess::start(&stage.config).await;
    let output = command(&stage.config, &["check"]).await;
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("fence allowed, and held"), "{text}");
    assert!(leader.terminate().await.success());
}
