//! The doorbell: it wakes a sleeping relay, costs nobody else a NOTIFY, and stays out of the way
//! of prepared transactions.

use outbox_relay::schema::{Doorbell, Options, Schema, doorbell_installed, migrate};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::FromSqlOwned;
use tokio_postgres::{AsyncMessage, Client, NoTls};

use super::refusal;
use crate::support::database::Database;
use crate::support::services::Services;
use crate::support::session::Session;

const INSERT: &str = "INSERT INTO outbox.message (topic) VALUES ('t')";

/// The relay's side of the bell: a session that listens.
struct Bell {
    client: Client,
    rung: UnboundedReceiver<String>,
    _driver: JoinSet<()>,
}

impl Bell {
    async fn listening(database: &Database, schema: &Schema) -> Self {
        let connected = tokio_postgres::connect(&database.url, NoTls).await;
        let (client, mut connection) = connected.expect("the test's database is there");
        let (sender, rung) = unbounded_channel();
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            let mut messages =
                futures_util::stream::poll_fn(move |context| connection.poll_message(context));
            while let Some(Ok(message)) = futures_util::StreamExt::next(&mut messages).await {
                if let AsyncMessage::Notification(notification) = message {
                    let _ = sender.send(notification.channel().to_owned());
                }
            }
        });
        let bell = Self { client, rung, _driver: driver };
        bell.run(&format!("LISTEN \"{}\"", schema.bell_channel())).await;
        bell
    }

    /// What an idle relay does before it sleeps. False: a writer is in flight.
    async fn arm(&self, schema: &Schema) -> bool {
        let text = "SELECT pg_try_advisory_lock(k1, k2) FROM outbox.lock_key('@bell')";
        self.ask(&schema.sql(text)).await
    }

    async fn disarm(&self, schema: &Schema) {
        let text = "SELECT pg_advisory_unlock(k1, k2) FROM outbox.lock_key('@bell')";
        assert!(self.ask::<bool>(&schema.sql(text)).await);
    }

    async fn run(&self, sql: &str) {
        self.client.batch_execute(sql).await.expect("a listening session may do this");
    }

    async fn ask<T: FromSqlOwned>(&self, sql: &str) -> T {
        self.client.query_one(sql, &[]).await.expect("a listening session may ask this").get(0)
    }

    /// Everything that was notified up to now: a notification of our own marks the end, since one
    /// session gets them in the order of their commits.
    async fn rings(&mut self) -> usize {
        self.run("LISTEN the_end; NOTIFY the_end").await;
        let mut rings = 0;
        while self.rung.recv().await.expect("the session lives") != "the_end" {
            rings += 1;
        }
        rings
    }
}

#[tokio::test]
async fn a_commit_rings_only_while_the_relay_sleeps() {
    for server in [Services::postgres(), Services::postgres_18()] {
        // GIVEN
        let database = Database::create_on(&server).await;
        let writer = Session::connect(&database.url_as(&database.create_writer().await)).await;
        let schema = Schema::default();
        let mut bell = Bell::listening(&database, &schema).await;

        // WHEN nobody sleeps, THEN nobody is notified
        writer.run(INSERT).await;
        assert_eq!(bell.rings().await, 0);

        // WHEN the relay sleeps, THEN each transaction rings once, however it writes
        assert!(bell.arm(&schema).await);
        writer.run(&format!("BEGIN; {INSERT}; {INSERT}; COMMIT")).await;
        assert_eq!(bell.rings().await, 1);
        writer.run("SELECT outbox.publish('t', 'k', 'x')").await;
        assert_eq!(bell.rings().await, 1);
        let copy = database.connect().await;
        let sink = copy.copy_in("COPY outbox.message (topic) FROM STDIN").await.unwrap();
        let mut sink = std::pin::pin!(sink);
        futures_util::SinkExt::send(&mut sink, bytes::Bytes::from("t\nt\n")).await.unwrap();
        sink.finish().await.unwrap();
        assert_eq!(bell.rings().await, 1);

        // WHEN it is rolled back, THEN not
        writer.run(&format!("BEGIN; {INSERT}; ROLLBACK")).await;
        assert_eq!(bell.rings().await, 0);

        // WHEN the relay is awake again, THEN not
        bell.disarm(&schema).await;
        writer.run(INSERT).await;
        assert_eq!(bell.rings().await, 0);
    }
}

#[tokio::test]
async fn the_bell_cannot_be_armed_while_a_writer_that_did_not_ring_is_in_flight() {
    // GIVEN
    let database = Database::create().await;
    let schema = Schema::default();
    let mut bell = Bell::listening(&database, &schema).await;
    let writer = database.connect().await;

    // WHEN a row is inserted and not yet committed, THEN the relay stays awake
    writer.run(&format!("BEGIN; {INSERT}")).await;
    assert!(!bell.arm(&schema).await);

    // WHEN it is committed, THEN the relay can sleep, and what it reads once more has the row
    writer.run("COMMIT").await;
    assert!(bell.arm(&schema).await);
    assert_eq!(bell.ask::<i64>("SELECT count(*) FROM outbox.message").await, 1);
    assert_eq!(bell.rings().await, 0);
}

#[tokio::test]
async fn two_outboxes_of_one_database_have_a_bell_each() {
    // GIVEN
    let database = Database::create().await;
    let other: Schema = "mail_box".parse().unwrap();
    let mut session = database.connect().await;
    migrate(&mut session, &other, &Options::default()).await.unwrap();
    let mut bell = Bell::listening(&database, &other).await;
    assert!(bell.arm(&other).await);

    // WHEN, THEN
    session.run(INSERT).await;
    assert_eq!(bell.rings().await, 0);
    session.run(&other.sql(INSERT)).await;
    assert_eq!(bell.rings().await, 1);
}

#[tokio::test]
async fn with_prepared_transactions_the_bell_is_left_out() {
    // GIVEN
    let schema = Schema::default();
    let database = Database::create_on(&Services::postgres_two_phase()).await;
    let mut session = database.connect().await;
    assert!(!doorbell_installed(&*session, &schema).await.unwrap());
    let report = migrate(&mut session, &schema, &Options::default()).await.unwrap();
    assert!(!report.doorbell.installed);
    assert!(report.doorbell.reason.unwrap().starts_with("max_prepared_transactions > 0"));
    let mut bell = Bell::listening(&database, &schema).await;
    assert!(bell.arm(&schema).await);

    // WHEN
    let prepare = format!("BEGIN; {INSERT}; PREPARE TRANSACTION '{}'", database.name);
    session.run(&prepare).await;
    session.run(&format!("COMMIT PREPARED '{}'", database.name)).await;

    // THEN
    assert_eq!(session.count("SELECT count(*) FROM outbox.message").await, 1);
    assert_eq!(bell.rings().await, 0);

    // AND the reason it is left out: a transaction that rang cannot be prepared
    let forced = Options { doorbell: Some(Doorbell::On), ..Options::default() };
    assert!(migrate(&mut session, &schema, &forced).await.unwrap().doorbell.installed);
    let refused = refusal(session.batch_execute(&prepare).await);
    assert_eq!(refused.code(), &SqlState::FEATURE_NOT_SUPPORTED);
    assert!(refused.message().contains("NOTIFY"), "{refused}");
}

#[tokio::test]
async fn every_migrate_puts_the_bell_as_it_says() {
    // GIVEN
    let schema = Schema::default();
    let mut session = Database::create().await.connect().await;

    for (mode, installed, changed) in [
        (Doorbell::Auto, true, false),
        (Doorbell::Off, false, true),
        (Doorbell::Off, false, false),
        (Doorbell::On, true, true),
        (Doorbell::On, true, false),
    ] {
        // WHEN
        let options = Options { doorbell: Some(mode), ..Options::default() };
        let report = migrate(&mut session, &schema, &options).await.unwrap();

        // THEN
        assert_eq!((report.doorbell.installed, report.doorbell.changed), (installed, changed));
        assert_eq!(doorbell_installed(&*session, &schema).await.unwrap(), installed);
    }

    // AND a run that is asked nothing does what the last was asked
    for (mode, installed) in [(Doorbell::Off, false), (Doorbell::On, true), (Doorbell::Auto, true)]
    {
        let options = Options { doorbell: Some(mode), ..Options::default() };
        migrate(&mut session, &schema, &options).await.unwrap();
        let report = migrate(&mut session, &schema, &Options::default()).await.unwrap();
        assert_eq!((report.doorbell.installed, report.doorbell.changed), (installed, false));
    }

    // AND a key that the trigger was not made with (a changed identity) is put right
    let body = "SELECT prosrc FROM pg_proc WHERE oid = 'outbox.ring()'::regprocedure";
    let before: String = session.query_one(body, &[]).await.unwrap().get(0);
    session.run("UPDATE outbox.meta SET outbox_id = gen_random_uuid()").await;
    migrate(&mut session, &schema, &Options::default()).await.unwrap();
    let after: String = session.query_one(body, &[]).await.unwrap().get(0);
    assert_ne!(before, after);

    let refused = refusal(session.batch_execute("SELECT outbox.install_doorbell('loud')").await);
    assert_eq!(refused.message(), "unknown doorbell mode 'loud'");
}
