//! The smallest relay there is: a cursor, a publisher that waits for its confirms, a mark. Its steps
//! are called one by one, so that they can be called in a wrong order.

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde_json::Value;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::support::consumer::AmqpDestination;
use crate::support::content::headers_of;
use crate::support::database::Database;
use crate::support::session::Session;

pub(super) struct WrongRelay {
    session: Session,
    _connection: Connection,
    channel: Channel,
    exchange: String,
    /// What is sent again says so, in the first window of a successor.
    resent: bool,
}

impl WrongRelay {
    pub(super) async fn start(database: &Database, destination: &AmqpDestination) -> Self {
        let session = database.connect().await;
        session.run(CURSOR).await;
        let properties = ConnectionProperties::default();
        let connection = Connection::connect(&destination.url, properties).await;
        let connection = connection.expect("RabbitMQ is there");
        let channel = connection.create_channel().await.expect("a channel can be had");
        let confirms = channel.confirm_select(ConfirmSelectOptions::default()).await;
        confirms.expect("RabbitMQ confirms");
        let exchange = destination.exchange.clone();
        Self { session, _connection: connection, channel, exchange, resent: false }
    }

    pub(super) async fn successor(database: &Database, destination: &AmqpDestination) -> Self {
        Self { resent: true, ..Self::start(database, destination).await }
    }

    /// The next rows above the cursor.
    pub(super) async fn read(&mut self, rows_max: usize) -> Vec<Row> {
        let sql = format!("{SELECT} LIMIT {rows_max}");
        self.session.query(&sql, &[]).await.expect("the outbox can be read")
    }

    /// Sends rows and waits for their confirms.
    pub(super) async fn publish(&mut self, rows: &[Row]) {
        for row in rows {
            let sent = self.channel.basic_publish(
                short(&self.exchange),
                short(row.get(2)),
                BasicPublishOptions::default(),
                row.get::<_, Option<&[u8]>>(6).unwrap_or_default(),
                self.properties(row),
            );
            let confirm = sent.await.expect("RabbitMQ takes a message");
            confirm.await.expect("RabbitMQ confirms a message");
        }
        self.resent = false;
    }

    /// Sets the cursor behind rows.
    pub(super) async fn mark(&mut self, rows: &[Row]) {
        let Some(last) = rows.last().map(|row| row.get::<_, i64>(0)) else { return };
        let update = "UPDATE cursor SET last = $1";
        self.session.execute(update, &[&last]).await.expect("the cursor can be written");
    }

    /// As it should be, until nothing is left.
    pub(super) async fn work_off(&mut self, rows_max: usize) {
        loop {
            let rows = self.read(rows_max).await;
            if rows.is_empty() {
                return;
            }
            self.publish(&rows).await;
            self.mark(&rows).await;
        }
    }

    /// The wire format.
    fn properties(&self, row: &Row) -> BasicProperties {
        let mut table = FieldTable::default();
        let mut put = |name: &str, value: Option<String>| {
            let value = value.map_or(AMQPValue::Void, |text| AMQPValue::LongString(text.into()));
            table.insert(short(name), value);
        };
        put("x-outbox-id", Some(row.get::<_, i64>(0).to_string()));
        put("x-outbox-topic", Some(row.get(2)));
        if let Some(key) = row.get(3) {
            put("x-outbox-key", Some(key));
        }
        if self.resent {
            put("x-outbox-resent", Some("takeover".into()));
        }
        let headers = row.get::<_, Option<Value>>(5).as_ref().map(headers_of).unwrap_or_default();
        let mut properties = BasicProperties::default().with_delivery_mode(2);
        for (name, value) in headers {
            match (name.as_str(), value) {
                ("content-type", Some(text)) => {
                    properties = properties.with_content_type(short(&text));
                }
                (name, value) => put(name, value),
            }
        }
        if let Some(kind) = row.get::<_, Option<&str>>(4) {
            properties = properties.with_type(short(kind));
        }
        let id = row.get::<_, Uuid>(1).to_string();
        properties.with_message_id(short(&id)).with_headers(table)
    }
}

fn short(text: &str) -> ShortString {
    ShortString::try_new(text).expect("names in tests are short")
}

const CURSOR: &str = "\
CREATE TABLE IF NOT EXISTS cursor (last bigint NOT NULL);
INSERT INTO cursor SELECT 0 WHERE NOT EXISTS (SELECT FROM cursor)";

const SELECT: &str = "\
SELECT id, message_id, topic, key, type, headers, payload FROM outbox.message
WHERE id > (SELECT last FROM cursor) ORDER BY id";
