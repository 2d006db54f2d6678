//! A copy of the database, and a database that was moved: neither leads before a person has decided.

use serde_json::Value;

use super::{dump, restore, text};
use crate::support::consumer::QueueKind;
use crate::support::database::Database;
use crate::support::patience::until;
use crate::support::relay::{RelayConfig, RelayProcess, RelayStart, command, quoted, raw_command};
use crate::support::services::Services;
use crate::support::session::Session;
use crate::support::stage::Stage;

const INSERT: &str = "INSERT INTO outbox.message (topic) VALUES ('t')";

/// An outbox that has sent one message to RabbitMQ.
async fn production() -> Stage {
    let stage = Stage::new(Database::create().await).await;
    let stage = stage.with_amqp(&Services::amqp(), QueueKind::Classic).await;
    stage.session().await.run(INSERT).await;
    let relay = RelayProcess::start(&stage.config).await;
    stage.wait_settled().await;
    assert!(relay.terminate().await.success());
    stage
}

/// What CREATE DATABASE … TEMPLATE makes of it, and the configuration that leads there.
async fn template_copy(stage: &Stage) -> (Database, RelayConfig) {
    let server = Session::connect(&Services::postgres()).await;
    let name = format!("{}_copy", stage.database.name);
    let create = format!("CREATE DATABASE {name} TEMPLATE {}", stage.database.name);
    // Sessions of the test may not have ended yet.
    until("the database to be copied", async || server.batch_execute(&create).await.ok()).await;
    let copy = stage.database.named(&name);
    let url = copy.url_as(&format!("{}_relay", stage.database.name));
    let config = stage.config.clone().set("database", "url", quoted(&url));
    (copy, config)
}

/// THEN it does not lead, and both remedies are named.
async fn assert_refused(config: &RelayConfig) -> RelayProcess {
    let relay = RelayStart::new(config).spawn();
    relay.wait_logged("pipeline stopped").await;
    let log = relay.log();
    for remedy in ["outbox-relay identity renew", "outbox-relay identity keep"] {
        assert!(log.contains(remedy), "{log}");
    }
    relay
}

async fn identity(database: &Database, arguments: &[&str]) -> (bool, String) {
    let arguments = [&["identity"], arguments, &["--url", &database.url]].concat();
    let output = raw_command(&arguments).await;
    (output.status.success(), text(&output.stdout) + &text(&output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_does_not_keep_its_original_out() {
    // GIVEN a copy whose relay is up first
    let stage = production().await;
    let (copy, config) = template_copy(&stage).await;
    let staging = assert_refused(&config).await;
    let checked = command(&config, &["check", "--json"]).await;
    let findings: Vec<Value> = serde_json::from_slice(&checked.stdout).expect("check prints JSON");
    let place = findings.iter().find(|finding| finding["subject"] == "place").unwrap();
    assert_eq!(place["level"], "fail", "{place}");
    assert!(place["detail"].as_str().unwrap().contains("the OID of the database"), "{place}");
    assert!(text(&command(&config, &["status"]).await.stdout).contains("identity renew"));

    // WHEN production starts THEN it leads
    stage.session().await.run(INSERT).await;
    let relay = RelayProcess::start(&stage.config).await;
    stage.wait_received(2).await;
    stage.wait_settled().await;

    // WHEN the copy gets an id of its own THEN its relay must be stopped first
    let (done, said) = identity(&copy, &["renew", "--yes"]).await;
    assert!(!done && said.contains("stop the relays of this database first"), "{said}");
    assert!(staging.terminate().await.success());
    let (done, said) = identity(&copy, &["renew"]).await;
    assert!(!done && said.contains("nothing was changed"), "{said}");
    let (done, said) = identity(&copy, &["renew", "--yes", "--by", "ada"]).await;
    assert!(done && said.contains("doorbell installed anew"), "{said}");
    let session = copy.connect().await;
    let audit = "SELECT count(*) FROM outbox.decision
                 WHERE command = 'identity renew' AND decided_by = 'ada' AND target IS NULL
                   AND filter->>'outbox_id' = (SELECT outbox_id::text FROM outbox.meta)";
    assert_eq!(session.count(audit).await, 1);

    // THEN both lead beside each other, and a commit wakes the copy's relay, which never polls
    let config = config.set("source", "idle_read_interval", quoted("10m"));
    let staging = RelayProcess::start(&config).await;
    let armed = "SELECT count(*) FROM pg_locks l, outbox.lock_key('@bell') k
                 WHERE l.locktype = 'advisory' AND l.mode = 'ExclusiveLock' AND l.granted
                 AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                 AND (l.classid, l.objid) = (k.k1::bigint::bit(32)::bigint::oid, k.k2::bigint::bit(32)::bigint::oid)";
    until("the copy's bell", async || (session.count(armed).await == 1).then_some(())).await;
    session.run(INSERT).await;
    stage.wait_received(3).await;
    assert_eq!((staging.leading(), relay.leading()), (1, 1));
    assert!(staging.terminate().await.success() && relay.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_dump_goes_on_when_it_is_kept() {
    // GIVEN a dump, restored elsewhere, with one message that is sent and one that is not
    let stage = production().await;
    stage.session().await.run(INSERT).await;
    let moved = restore(&dump(&stage.database, &[]).await).await;
    let url = moved.url_as(&format!("{}_relay", stage.database.name));
    let config = stage.config.clone().set("database", "url", quoted(&url));
    let relay = assert_refused(&config).await;
    let migrated = raw_command(&["migrate", "--url", &moved.url]).await;
    assert!(text(&migrated.stdout).contains("identity keep"), "{migrated:?}");

    // WHEN
    let (done, said) = identity(&moved, &["keep", "--yes"]).await;
    assert!(done, "{said}");

    // THEN the relay goes on without a restart, and sends what was not sent
    stage.wait_received(2).await;
    assert!(relay.terminate().await.success());
    let session = moved.connect().await;
    assert_eq!(
        session.count("SELECT count(*) FROM outbox.message_state WHERE state = 'sent'").await,
        2
    );
    let deliveries = stage.consumers[0].1.deliveries().len();
    assert_eq!(deliveries, 2, "the first was not sent again");
    assert!(RelayProcess::start(&config).await.terminate().await.success());
}

/// Rows that are written before the decision, and after it, under ids that the ledger knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_that_left_the_sequence_behind_loses_nothing() {
    for command in ["keep", "renew"] {
        // GIVEN ledgers that know 30 ids, and a dump without messages: without the sequence's value
        let stage = production().await;
        let session = stage.session().await;
        for _ in 1..30 {
            session.run(INSERT).await;
        }
        let relay = RelayProcess::start(&stage.config).await;
        stage.wait_received(30).await;
        stage.wait_settled().await;
        assert!(relay.terminate().await.success());
        let data = dump(&stage.database, &["--exclude-table-data=outbox.message*"]).await;
        let database = restore(&data).await;
        let restored = database.connect().await;
        let topic = |n: i32| format!("INSERT INTO outbox.message (topic) VALUES ('new {n}')");
        for n in 1..=10 {
            restored.run(&topic(n)).await;
        }

        // WHEN a person has decided, and an application writes before the relay starts
        let (done, said) = identity(&database, &[command]).await;
        assert!(!done && said.contains("would be pending again"), "{said}");
        let (done, said) = identity(&database, &[command, "--yes"]).await;
        assert!(done && said.contains("10 rows were written after the last mark"), "{said}");
        assert!(said.contains("is advanced to 30"), "{said}");
        for n in 11..=40 {
            restored.run(&topic(n)).await;
        }
        let url = database.url_as(&format!("{}_relay", stage.database.name));
        let config = stage.config.clone().set("database", "url", quoted(&url));
        let relay = RelayProcess::start(&config).await;

        // THEN
        stage.wait_received(70).await;
        assert!(relay.terminate().await.success());
        let ids = "SELECT count(*) FROM outbox.message WHERE id > 30";
        assert_eq!(restored.count(ids).await, 30);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pg_upgrade_is_refused_until_it_is_kept() {
    // GIVEN what pg_upgrade changes: the system identifier, and before PostgreSQL 15 the database
    let stage = production().await;
    let session = stage.session().await;
    let upgrade =
        "UPDATE outbox.meta SET place = regexp_replace(place, '^[0-9]+', '7000000000000000001')";
    session.run(upgrade).await;

    // WHEN
    let relay = assert_refused(&stage.config).await;

    // THEN
    assert!(
        relay.log().contains("the system identifier of the cluster changed"),
        "{}",
        relay.log()
    );
    let (done, said) = identity(&stage.database, &["keep", "--yes"]).await;
    assert!(done, "{said}");
    session.run(INSERT).await;
    stage.wait_received(2).await;
    assert!(relay.terminate().await.success());
}

#[tokio::test]
async fn a_rewritten_table_is_no_copy() {
    let session = Database::create().await.connect().await;
    let place = "SELECT (place = outbox.place())::int::bigint FROM outbox.meta";
    for rewrite in [
        "VACUUM FULL outbox.message",
        "CLUSTER outbox.message USING message_pkey",
        "ALTER TABLE outbox.message SET TABLESPACE pg_default",
        "REINDEX TABLE outbox.message",
    ] {
        session.run(rewrite).await;
        assert_eq!(session.count(place).await, 1, "{rewrite}");
    }
}

#[tokio::test]
async fn only_the_owner_decides_about_the_identity() {
    let database = Database::create().await;
    let role = database.create_relay().await;
    for command in ["renew", "keep"] {
        let output =
            raw_command(&["identity", command, "--yes", "--url", &database.url_as(&role)]).await;
        let said = text(&output.stderr);
        assert!(!output.status.success() && said.contains("is decided by its owner"), "{said}");
    }
}
