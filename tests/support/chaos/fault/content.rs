//! Messages that a broker cannot take: they end in `dead`, and nobody waits for them.

use std::collections::HashSet;

use tokio_postgres::types::Json;
use uuid::Uuid;

use super::super::cell::Cell;
use super::Fault;
use crate::support::content::Content;
use crate::support::patience::until;
use crate::support::session::Session;

/// Bad messages of each kind, between good ones.
const EACH: usize = 3;
/// Good messages between two of them.
const BETWEEN: usize = 30;
/// More than Kafka takes by default (1 MB), less than RabbitMQ does.
const LARGE_BYTES: usize = 1_200_000;
/// More than `row_bytes_max` (8 MiB): neither gets to see it.
const HUGE_BYTES: usize = 9_000_000;

pub(super) const FAULTS: &[Fault] = &[
    Fault::new(
        "message-too-large",
        "messages of 1.2 MB (too large for Kafka) and 9 MB (for both)",
        &[],
        |cell| Box::pin(too_large(cell)),
    )
    .alone(),
    Fault::new(
        "message-illegal",
        "messages with a content type that no AMQP property holds",
        &[],
        |cell| Box::pin(illegal(cell)),
    )
    .alone(),
];

async fn too_large(cell: &Cell<'_>) {
    let session = cell.session().await;
    cell.struck();
    for _ in 0..EACH {
        for (bytes, targets) in [(LARGE_BYTES, &["kafka"][..]), (HUGE_BYTES, &["amqp", "kafka"])] {
            let payload = Some(vec![b'x'; bytes]);
            let content = Content { key: Some("large".into()), payload, ..Content::default() };
            write(cell, &session, content, targets).await;
            cell.go_on(BETWEEN).await;
        }
    }
    buried(cell, &session).await;
}

async fn illegal(cell: &Cell<'_>) {
    let session = cell.session().await;
    cell.struck();
    for _ in 0..2 * EACH {
        let headers = [("content-type".to_owned(), Some("x".repeat(300)))].into();
        let content = Content { key: Some("illegal".into()), headers, ..Content::default() };
        write(cell, &session, content, &["amqp"]).await;
        cell.go_on(BETWEEN).await;
    }
    buried(cell, &session).await;
}

/// Commits a message that these targets cannot take.
async fn write(cell: &Cell<'_>, session: &Session, content: Content, bad: &[&'static str]) {
    let content = Content { topic: "order.placed".into(), ..content };
    let id = Uuid::now_v7();
    let Content { topic, key, payload, headers, .. } = &content;
    let (headers, digest) = (Json(headers), content.digest());
    let record = "INSERT INTO business (message_id, key, digest) VALUES ($1, $2, $3)";
    let insert = "INSERT INTO outbox.message (message_id, topic, key, payload, headers)
                  VALUES ($1, $2, $3, $4, $5)";
    session.run("BEGIN").await;
    let recorded = session.execute(record, &[&id, key, &digest.as_slice()]).await;
    recorded.expect("the journal can be written");
    let inserted = session.execute(insert, &[&id, topic, key, payload, &headers]).await;
    inserted.expect("the owner may write");
    session.run("COMMIT").await;
    for target in bad {
        cell.note().bad.entry(target).or_default().insert(id);
    }
}

/// Waits until each of them stands in `dead`.
async fn buried(cell: &Cell<'_>, session: &Session) {
    let bad = cell.note().bad.clone();
    until("every bad message to be in outbox.dead", async || {
        let rows = session.query("SELECT target, message_id FROM outbox.dead", &[]).await.ok()?;
        let dead: HashSet<(String, Uuid)> = rows.iter().map(|r| (r.get(0), r.get(1))).collect();
        let mut all = bad.iter().flat_map(|(target, ids)| ids.iter().map(move |id| (target, *id)));
        all.all(|(target, id)| dead.contains(&((*target).to_owned(), id))).then_some(())
    })
    .await;
}
