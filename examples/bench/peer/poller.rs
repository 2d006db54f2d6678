//! The poller that teams write by hand: lock a batch, publish it, wait for every confirm, mark it,
//! commit. Written as well as one page allows, and run as a process of its own.

use std::process::Stdio;
use std::time::Duration;

use futures_util::future::try_join_all;
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use tokio::process::{Child, Command};
use uuid::Uuid;

use crate::support::consumer::KafkaDestination;
use crate::support::session::Session;

/// The command of the bench's own program.
pub(crate) const WORD: &str = "poller";
/// Rows of a transaction.
const BATCH_ROWS: usize = 1_000;
/// What such pollers sleep when they found nothing.
const IDLE_PAUSE: Duration = Duration::from_millis(100);

/// How a row is remembered as sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    Update,
    Delete,
}

impl Mark {
    fn word(self) -> &'static str {
        match self {
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }

    pub(crate) fn from_word(word: &str) -> Option<Self> {
        [Self::Update, Self::Delete].into_iter().find(|mark| mark.word() == word)
    }

    fn select(self) -> String {
        let unsent = match self {
            Self::Update => "WHERE sent_at IS NULL ",
            Self::Delete => "",
        };
        format!(
            "SELECT id, message_id, key, payload FROM outbox {unsent}
             ORDER BY id LIMIT {BATCH_ROWS} FOR UPDATE SKIP LOCKED"
        )
    }

    fn mark(self) -> &'static str {
        match self {
            Self::Update => "UPDATE outbox SET sent_at = now() WHERE id = ANY($1)",
            Self::Delete => "DELETE FROM outbox WHERE id = ANY($1)",
        }
    }
}

/// Starts this very program as the poller.
pub(super) fn start(url: &str, topic: &KafkaDestination, mark: Mark) -> Child {
    let program = std::env::current_exe().expect("a program knows where it is");
    Command::new(program)
        .args([WORD, url, &topic.brokers, &topic.topic, mark.word()])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("the bench's own program can be run")
}

/// Polls for ever.
pub(crate) async fn run(url: &str, brokers: &str, topic: &str, mark: Mark) -> ! {
    let mut session = Session::connect(url).await;
    let select = session.prepare(&mark.select()).await.expect("the outbox is there");
    let done = session.prepare(mark.mark()).await.expect("the outbox is there");
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("linger.ms", "1")
        .create()
        .expect("a producer needs no broker to be made");
    loop {
        let transaction = session.transaction().await.expect("PostgreSQL stays");
        let rows = transaction.query(&select, &[]).await.expect("PostgreSQL stays");
        let mut confirms = Vec::with_capacity(rows.len());
        let mut ids: Vec<i64> = Vec::with_capacity(rows.len());
        for row in &rows {
            ids.push(row.get(0));
            let message_id: Uuid = row.get(1);
            let message_id = message_id.to_string();
            let headers =
                OwnedHeaders::new().insert(Header { key: "id", value: Some(&message_id) });
            let mut record =
                FutureRecord::to(topic).payload(row.get::<_, &[u8]>(3)).headers(headers);
            if let Some(key) = row.get::<_, Option<&str>>(2) {
                record = record.key(key);
            }
            let confirm = producer.send_result(record);
            confirms
                .push(confirm.map_err(|(error, _)| error).expect("librdkafka's queue has room"));
        }
        let confirmed = try_join_all(confirms).await.expect("the producer lives");
        assert!(confirmed.iter().all(Result::is_ok), "Kafka refused a message");
        if !ids.is_empty() {
            transaction.execute(&done, &[&ids]).await.expect("PostgreSQL stays");
        }
        transaction.commit().await.expect("PostgreSQL stays");
        if ids.is_empty() {
            tokio::time::sleep(IDLE_PAUSE).await;
        }
    }
}
