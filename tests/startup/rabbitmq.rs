//! RabbitMQ lets the relay not in: limits are waited for, the rest wants a person, and both end by
//! themselves once they are mended.

use std::time::Duration;

use outbox_relay::config::{AmqpConfig, AmqpFence, TlsConfig};
use outbox_relay::target::amqp::AmqpTarget;
use outbox_relay::target::fence::FenceName;
use outbox_relay::target::{ConnectError, Target};
use uuid::Uuid;

use crate::daemon::http::{listening, wait_ready_text, wait_status};
use crate::support::consumer::QueueKind;
use crate::support::database::Database;
use crate::support::instance::{Instance, Kind};
use crate::support::relay::{RelayStart, quoted};
use crate::support::services::Services;
use crate::support::stage::Stage;
use crate::support::writer::{Batch, committed};

/// A broker with the virtual host `v`, and a user who may do everything there.
async fn broker() -> Instance {
    let broker = Instance::start(Kind::RabbitMq).await;
    broker.rabbitmqctl(&["add_vhost", "v"]).await;
    broker.rabbitmqctl(&["add_user", "u", "pw"]).await;
    broker.rabbitmqctl(&["set_permissions", "-p", "v", "u", ".*", ".*", ".*"]).await;
    broker
}

fn url(broker: &Instance, user: &str, vhost: &str) -> String {
    let (_, address) = broker.url().split_once('@').expect("a url with a user");
    let (address, _) = address.split_once('/').expect("a url with a virtual host");
    format!("amqp://{user}@{address}/{vhost}")
}

/// What a target says that connects with its fence.
async fn refused(broker: &Instance, vhost: &str, password: &str) -> ConnectError {
    let config = AmqpConfig {
        url: url(broker, "u", vhost),
        password: Some(password.to_owned().into()),
        tls: TlsConfig::default(),
        heartbeat: Duration::from_secs(5),
        fence: AmqpFence::ExclusiveQueue,
        connect_timeout: Duration::from_secs(30),
    };
    let fence = FenceName::new(Uuid::now_v7(), "orders");
    let mut target = AmqpTarget::new(config, vec![], 10, fence);
    target.connect().await.expect_err("it is refused")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_limit_is_waited_for_and_every_mistake_names_its_remedy() {
    let broker = broker().await;

    // Limits: somebody else's connection ends, or an operator raises them.
    for (set, remove, said, hint) in [
        (
            ["set_vhost_limits", "-p", "v", r#"{"max-connections": 0}"#].as_slice(),
            ["clear_vhost_limits", "-p", "v"].as_slice(),
            "connection limit (0) is reached",
            "set_vhost_limits",
        ),
        (
            &["set_user_limits", "u", r#"{"max-connections": 0}"#],
            &["clear_user_limits", "u", "max-connections"],
            "connection limit (0) is reached",
            "set_user_limits",
        ),
        (
            &["set_user_limits", "u", r#"{"max-channels": 0}"#],
            &["clear_user_limits", "u", "max-channels"],
            "maximum allowed user limit of (0)",
            "set_user_limits",
        ),
        (
            // All that a connection needs are opened at once: a limit is not found later.
            &["set_user_limits", "u", r#"{"max-channels": 2}"#],
            &["clear_user_limits", "u", "max-channels"],
            "maximum allowed user limit of (2)",
            "set_user_limits",
        ),
        (
            &["set_vhost_limits", "-p", "v", r#"{"max-queues": 0}"#],
            &["clear_vhost_limits", "-p", "v"],
            "queue limit in vhost",
            "max-queues",
        ),
    ] {
        broker.rabbitmqctl(set).await;
        let error = refused(&broker, "v", "pw").await;
        let ConnectError::Outage(text) = &error else { panic!("{set:?}: {error}") };
        let (reason, remedy) = text.split_once("\nhint: ").expect("a limit has a remedy");
        assert!(reason.contains(said), "{set:?}: {reason}");
        assert!(remedy.contains(hint), "{set:?}: {remedy}");
        broker.rabbitmqctl(remove).await;
    }

    // Mistakes.
    broker.rabbitmqctl(&["add_vhost", "closed"]).await;
    broker.rabbitmqctl(&["add_vhost", "nofence"]).await;
    broker.rabbitmqctl(&["set_permissions", "-p", "nofence", "u", "^$", ".*", ".*"]).await;
    for (vhost, password, said, hint) in [
        ("v", "wrong", "403 ACCESS_REFUSED", "the password"),
        ("nowhere", "pw", "530 NOT_ALLOWED", "virtual host"),
        ("closed", "pw", "530 NOT_ALLOWED", "set_permissions"),
        ("nofence", "pw", "403 ACCESS_REFUSED", r"`^outbox-relay\.fence\.`"),
    ] {
        let error = refused(&broker, vhost, password).await;
        let ConnectError::Configuration { reason, hint: remedy } = error else {
            panic!("{vhost} {password}: {error}")
        };
        assert!(reason.contains(said) && remedy.contains(hint), "{reason}\nhint: {remedy}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_of_one_broker_at_the_start_is_an_outage_of_that_target() {
    // GIVEN a virtual host at its limit, and a Kafka that has none
    let broker = broker().await;
    let stage = Stage::new(Database::create().await).await;
    let inside = url(&broker, "u:pw", "v");
    let stage = stage.with_amqp(&inside, QueueKind::Classic).await;
    let stage = listening(stage.with_kafka(&Services::kafka()).await);
    broker.rabbitmqctl(&["set_vhost_limits", "-p", "v", r#"{"max-connections": 1}"#]).await;
    let session = stage.session().await;
    Batch::orders(20).write(&session).await;

    // WHEN a relay starts THEN it is up, the other target goes on, and this one says what it lacks
    let relay = RelayStart::new(&stage.config).ready().await;
    let text = wait_ready_text(&relay, "connection limit (1) is reached; hint: ").await;
    assert!(text.contains("amqp: waiting for the broker: "), "{text}");
    assert!(text.contains("set_vhost_limits"), "{text}");
    let (name, kafka) = &stage.consumers[1];
    assert_eq!(*name, "kafka");
    kafka.wait_received(20).await;

    // AND it goes on when the limit is gone
    broker.rabbitmqctl(&["clear_vhost_limits", "-p", "v"]).await;
    stage.wait_received(20).await;
    wait_status(&relay, 200).await;
    stage.wait_settled().await;
    assert!(relay.terminate().await.success());
    stage.assert_exact(&committed(&session).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_at_the_start_stops_one_target_until_the_file_is_right() {
    // GIVEN a wrong password for one target
    let stage = Stage::both(Database::create().await).await;
    let stage = listening(stage);
    let url = Services::amqp();
    let (scheme, rest) = url.split_once("://").expect("a url");
    let (user, address) = rest.split_once('@').expect("a user");
    let (user, password) = user.split_once(':').expect("a password");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("mq-password");
    std::fs::write(&file, "wrong-password\n").expect("it can be written");
    let stage = stage
        .set("target.amqp", "url", quoted(&format!("{scheme}://{user}@{address}")))
        .set("target.amqp", "password_file", quoted(&file.to_string_lossy()));
    let session = stage.session().await;
    Batch::orders(20).write(&session).await;

    // WHEN a relay starts THEN the other target goes on, and this one names the file
    let relay = RelayStart::new(&stage.config).ready().await;
    let text = wait_ready_text(&relay, "amqp: stopped: ").await;
    assert!(text.contains("403 ACCESS_REFUSED") && text.contains("mq-password"), "{text}");
    assert!(!text.contains("wrong-password"), "{text}");
    stage.consumers[1].1.wait_received(20).await;

    // AND it goes on when the file is right, without a restart
    std::fs::write(&file, password).expect("it can be written");
    stage.wait_received(20).await;
    wait_status(&relay, 200).await;
    stage.wait_settled().await;
    assert!(relay.terminate().await.success());
    stage.assert_exact(&committed(&session).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_of_the_only_broker_ends_nothing() {
    // GIVEN a relay with one target, whose user may open no connection
    let broker = broker().await;
    let stage = Stage::new(Database::create().await).await;
    let stage = stage.with_amqp(&url(&broker, "u:pw", "v"), QueueKind::Classic).await;
    broker.rabbitmqctl(&["set_user_limits", "u", r#"{"max-connections": 1}"#]).await;
    // WHEN it starts THEN it is ready to go on
    let relay = RelayStart::new(&stage.config).ready().await;
    relay.wait_logged("user connection limit (1) is reached").await;
    broker.rabbitmqctl(&["clear_user_limits", "u", "max-connections"]).await;
    Batch::orders(1).write(&stage.session().await).await;
    stage.wait_received(1).await;
    assert!(relay.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_of_which_nothing_can_run_ends_with_78_and_is_never_ready() {
    // GIVEN two targets, each wrong in its own way
    let stage = Stage::both(Database::create().await).await;
    let url = Services::amqp();
    let (before, _) = url.rsplit_once('/').expect("a virtual host");
    let stage = stage.set("target.amqp", "url", quoted(&format!("{before}/no-such-vhost")));
    let config = stage
        .config
        .clone()
        .without("target.kafka")
        .set("target.other", "kind", quoted("amqp"))
        .set("target.other", "url", quoted(&format!("{before}/nor-this")))
        .set("target.other", "route", "[{ topic = \"*\", exchange = \"x\" }]");
    // WHEN it starts THEN
    let mut relay = RelayStart::new(&config).spawn();
    assert_eq!(relay.wait_exit().await.code(), Some(78));
    let log = relay.log();
    assert!(log.contains("no-such-vhost") && log.contains("nor-this"), "{log}");
    assert!(log.contains("\nhint: "), "{log}");
    assert!(!relay.notified().iter().any(|line| line == "READY=1"), "{:?}", relay.notified());
}
