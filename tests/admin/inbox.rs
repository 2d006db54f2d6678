//! `outbox-relay inbox …`: whole commands against a consumer's own database, and the daemon's part.

mod keys;
mod rabbitmq;

use serde_json::Value;
use uuid::Uuid;

use crate::support::consumer::KafkaDestination;
use crate::support::database::Database;
use crate::support::patience::until;
use crate::support::relay::{RelayConfig, RelayProcess, quoted, raw_command};
use crate::support::services::Services;
use crate::support::session::Session;
use crate::support::stage::Stage;

/// A database with an inbox, and a consumer's table.
struct Consumer {
    database: Database,
    session: Session,
}

impl Consumer {
    async fn new() -> Self {
        let database = Database::create_empty_on(&Services::postgres()).await;
        let session = database.connect().await;
        session.run("CREATE TABLE public.payment (message_id text, amount int)").await;
        let consumer = Self { database, session };
        let (code, text) = consumer.say(&["init"]).await;
        assert!(code == 0 && text.contains("inbox in schema outbox is up to date"), "{text}");
        consumer
    }

    /// Exit code and everything that a person sees.
    async fn say(&self, arguments: &[&str]) -> (i32, String) {
        let url = ["--url", &self.database.url];
        let output = raw_command(&[&["inbox"], arguments, &url].concat()).await;
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        (output.status.code().expect("it ended by itself"), text)
    }

    async fn json(&self, arguments: &[&str]) -> Value {
        let (code, text) = self.say(&[arguments, &["--json"]].concat()).await;
        assert_eq!(code, 0, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    async fn claim(&self, id: &str) -> String {
        let text = "SELECT outbox.inbox_claim('billing', $1)";
        self.session.query_one(text, &[&id]).await.unwrap().get(0)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_looked_up_checked_and_forgotten() {
    let consumer = Consumer::new().await;
    let id = Uuid::now_v7().to_string();
    assert_eq!(consumer.claim(&id).await, "fresh");
    // The id is found however it is written.
    let (_, text) = consumer.say(&["lookup", &id.to_uppercase()]).await;
    assert!(text.contains("billing") && text.contains("processed"), "{text}");
    let checked = consumer.json(&["check", "--consumer", "billing", &id, "new"]).await;
    assert_eq!(
        (&checked[0]["verdict"], &checked[1]["verdict"]),
        (&"duplicate".into(), &"fresh".into())
    );
    let forget = ["forget", &id, "--consumer", "billing", "--reason", "a bug", "--by", "ann"];
    let (code, text) = consumer.say(&forget).await;
    assert_eq!(code, 0, "{text}");
    assert_eq!(consumer.claim(&id).await, "fresh");
    let (_, text) = consumer.say(&["lookup", &id]).await;
    assert!(text.contains("forget") && text.contains("ann") && text.contains("a bug"), "{text}");
    // There is nothing left to decide.
    let other = Uuid::now_v7().to_string();
    let (code, text) =
        consumer.say(&["forget", &other, "--consumer", "billing", "--reason", "x"]).await;
    assert!(code == 1 && text.contains("has not processed"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parked_messages_are_listed_shown_replayed_and_discarded() {
    let consumer = Consumer::new().await;
    consumer
        .session
        .run(
            "SELECT outbox.inbox_fail('billing', 'a', 'transient', 'no provider', 0, '{}', 'body');
              SELECT outbox.inbox_fail('billing', 'b', 'transient', 'x', 5)",
        )
        .await;
    let listed = consumer.json(&["failures", "list"]).await;
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(listed[0]["message_id"], "a");
    let (_, text) = consumer.say(&["failures", "list", "--all"]).await;
    assert!(
        text.contains("parked") && text.contains("retrying") && !text.contains("body"),
        "{text}"
    );
    let show = ["failures", "show", "a", "--consumer", "billing", "--payload"];
    assert_eq!(consumer.say(&show).await, (0, "body".into()));
    let decide = async |what: &str, id: &str| {
        consumer.say(&["failures", what, id, "--consumer", "billing", "--reason", "why"]).await.0
    };
    assert_eq!(decide("replay", "b").await, 1);
    assert_eq!(decide("replay", "a").await, 0);
    assert_eq!(consumer.json(&["failures", "list"]).await[0]["replaying"], true);
    assert_eq!(decide("discard", "a").await, 0);
    assert_eq!(decide("discard", "a").await, 1);
    let audit = "SELECT count(*) FROM outbox.inbox_audit";
    assert_eq!(consumer.session.count(audit).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_finds_what_outlives_the_inbox() {
    let consumer = Consumer::new().await;
    let (code, text) = consumer.say(&["doctor"]).await;
    assert!(code == 0 && text.contains("it has never run"), "{text}");
    assert_eq!(consumer.say(&["maintain"]).await.0, 0);
    let (code, text) = consumer.say(&["doctor", "--kafka-retention", "7d"]).await;
    assert!(code == 0 && !text.contains("warn"), "{text}");
    // A schema of a later version is not called right.
    let newer =
        "INSERT INTO outbox.inbox_migration (version, name, checksum) VALUES (99, 'x', 'x')";
    consumer.session.run(newer).await;
    let (code, text) = consumer.say(&["doctor"]).await;
    assert!(code == 0 && text.contains("version 99 is newer than this program"), "{text}");
    consumer.session.run("DELETE FROM outbox.inbox_migration WHERE version = 99").await;
    // Retention, and an id that is somebody's address: said, and not shown.
    consumer.claim("/crm|ann@example.com").await;
    let (code, text) = consumer.say(&["doctor", "--dead-letter-ttl", "30d"]).await;
    assert!(code == 78 && text.contains("dead letters"), "{text}");
    assert!(text.contains("1 look like e-mail addresses") && !text.contains("ann@"), "{text}");
    consumer
        .session
        .run("CREATE TABLE outbox.inbox_default PARTITION OF outbox.inbox DEFAULT")
        .await;
    let (code, text) = consumer.say(&["doctor"]).await;
    assert!(code == 78 && text.contains("default partition"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_asks_kafka_how_long_it_keeps_a_topic() {
    // GIVEN an inbox that remembers 14 days, and topics that keep their records for less, more, and ever
    let consumer = Consumer::new().await;
    let config = Stage::both(Database::create().await).await;
    let config = config.set("inbox.billing.database", "url", quoted(&consumer.database.url)).config;
    let mut topics = Vec::new();
    for settings in [
        ("retention.ms", "604800000"),
        ("retention.ms", "2592000000"),
        ("cleanup.policy", "compact"),
    ] {
        let name = format!("doctor-{}", Uuid::now_v7());
        KafkaDestination::create_with(&Services::kafka(), &name, 1, 1, &[settings]).await;
        topics.push(name);
    }
    // WHEN the doctor is told what the consumer reads
    let ask = async |topic: &str| {
        let arguments = ["inbox", "doctor", "--kafka-topic", topic];
        let output = crate::support::relay::command(&config, &arguments).await;
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().find(|line| line.contains(topic)).unwrap().to_owned();
        (output.status.code().unwrap(), line)
    };
    // THEN
    for (topic, code, words) in [
        (&topics[0], 0, "7.0 days, and the inbox remembers"),
        (&topics[1], 78, "again after 30.0 days"),
        (&topics[2], 78, "again at any time"),
    ] {
        let (found, line) = ask(topic).await;
        assert!(found == code && line.contains(words), "{found} {line}");
    }
    let (code, line) = ask("no-such-topic").await;
    assert!(code == 78 && line.contains("no-such-topic"), "{code} {line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_effect_that_happened_twice_is_found() {
    let consumer = Consumer::new().await;
    for id in ["a", "b"] {
        consumer.claim(id).await;
    }
    consumer.session.run("INSERT INTO public.payment VALUES ('a', 1), ('b', 1), ('c', 1)").await;
    let sql = "SELECT message_id, count(*) FROM payment GROUP BY message_id;";
    let verify = ["verify", "--consumer", "billing", "--sql", sql];
    let (code, text) = consumer.say(&verify).await;
    assert!(code == 0 && text.contains("not claimed in the inbox  1"), "{text}");
    consumer.session.run("INSERT INTO public.payment VALUES ('a', 1)").await;
    let (code, text) = consumer.say(&verify).await;
    assert!(code == 1 && text.contains("more than once: a"), "{text}");
    // A question changes nothing.
    let (code, _) = consumer
        .say(&[
            "verify",
            "--consumer",
            "billing",
            "--sql",
            "DELETE FROM payment RETURNING message_id, 1",
        ])
        .await;
    assert_ne!(code, 0);
    assert_eq!(consumer.session.count("SELECT count(*) FROM public.payment").await, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_printed_schema_and_the_contract_need_no_database() {
    let output = raw_command(&["inbox", "ddl", "--schema", "orders_box"]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    let database = Database::create_empty_on(&Services::postgres_18()).await;
    let session = database.connect().await;
    session.run(&text).await;
    let claim = "SELECT orders_box.inbox_claim('billing', 'a')";
    assert_eq!(session.query_one(claim, &[]).await.unwrap().get::<_, &str>(0), "fresh");
    let output = raw_command(&["inbox", "contract", "--consumer", "billing"]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("| Remembered for | 14days") && text.contains("`billing`"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_daemon_maintains_the_inboxes_of_its_configuration() {
    // GIVEN a consumer's inbox whose partitions are about to run out
    let consumer = Consumer::new().await;
    let stage = Stage::both(Database::create().await).await;
    let config = stage
        .set("inbox.billing.database", "url", quoted(&consumer.database.url))
        .set("inbox.billing", "ahead", quoted("12d"))
        .config;
    // WHEN a relay runs
    let _relay = RelayProcess::start(&config).await;
    // THEN they are there
    until("the inbox to be maintained", async || {
        let text = "SELECT count(*) FROM outbox.inbox_horizon WHERE maintained_at IS NOT NULL";
        (consumer.session.count(text).await == 1).then_some(())
    })
    .await;
    let stats = consumer.json(&["stats"]).await;
    assert_eq!(stats["partitions_ahead"], 12);
    // A command finds the inbox by its name, or because it is the only one.
    let output = crate::support::relay::command(&config, &["inbox", "stats", "--json"]).await;
    assert!(output.status.success(), "{output:?}");
    let other = RelayConfig::new("postgres://a@127.0.0.1:1/a");
    let output = crate::support::relay::command(&other, &["inbox", "stats"]).await;
    assert!(!output.status.success());
}
