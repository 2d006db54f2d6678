//! `outbox.publish`: what each overload stores.

use uuid::Uuid;

use crate::support::database::Database;
use crate::support::services::Services;
use crate::support::session::Session;

/// The payload that a call stores.
async fn payload_of(session: &Session, call: &str) -> Option<Vec<u8>> {
    let id: Uuid = match session.query_one(&format!("SELECT {call}"), &[]).await {
        Ok(row) => row.get(0),
        Err(error) => panic!("{call}: {error:?}"),
    };
    let text = "SELECT payload FROM outbox.message WHERE message_id = $1";
    session.query_one(text, &[&id]).await.expect("the returned id is stored").get(0)
}

#[tokio::test]
async fn the_payload_is_stored_by_its_type() {
    for server in [Services::postgres(), Services::postgres_18()] {
        let session = Database::create_on(&server).await.connect().await;
        for (call, payload) in [
            (r"outbox.publish('t', 'k', '\x00ff'::bytea)", Some(&b"\x00\xff"[..])),
            ("outbox.publish('t', 'k', 'größe'::text)", Some("größe".as_bytes())),
            ("outbox.publish('t', 'k', 'größe'::varchar)", Some("größe".as_bytes())),
            // jsonb has one text form, whatever was written.
            (r#"outbox.publish('t', 'k', '{"b":1,  "a":2}'::jsonb)"#, Some(br#"{"a": 2, "b": 1}"#)),
            ("outbox.publish('t', 'k', jsonb_build_object('a', 1))", Some(br#"{"a": 1}"#)),
            // A literal without a type is text: sent as written.
            (r#"outbox.publish('t', 'k', '{"b":1,  "a":2}')"#, Some(br#"{"b":1,  "a":2}"#)),
            (r"outbox.publish('t', 'k', '\x00ff')", Some(br"\x00ff")),
            ("outbox.publish('t', 'k', '')", Some(b"")),
            ("outbox.publish('t', 'k', NULL)", None),
            ("outbox.publish('t', 'k', NULL::jsonb)", None),
            ("outbox.publish('t', 'k', NULL::bytea)", None),
            ("outbox.publish(topic => 't', key => 'k', payload => 'x', type => 'y')", Some(b"x")),
        ] {
            assert_eq!(payload_of(&session, call).await.as_deref(), payload, "{call}");
        }
    }
}

#[tokio::test]
async fn a_parameter_of_a_driver_without_a_type_is_text() {
    let session = Database::create().await.connect().await;
    let statement = session.prepare("SELECT outbox.publish('t', 'k', $1)").await.unwrap();
    assert_eq!(statement.params(), [tokio_postgres::types::Type::TEXT]);
}

#[tokio::test]
async fn everything_else_is_stored_as_given() {
    let session = Database::create().await.connect().await;
    session
        .run(
            r#"SELECT outbox.publish('order.placed', 'order-7', 'x'::bytea, '{"tenant": "a"}', 'placed');
               SELECT outbox.publish('bare', NULL, 'x')"#,
        )
        .await;
    let rows = session
        .query("SELECT topic, key, headers::text, type FROM outbox.message ORDER BY id", &[])
        .await
        .unwrap();
    type Row<'a> = (&'a str, Option<&'a str>, Option<&'a str>, Option<&'a str>);
    let stored: Vec<Row<'_>> =
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect();
    assert_eq!(
        stored,
        [
            ("order.placed", Some("order-7"), Some(r#"{"tenant": "a"}"#), Some("placed")),
            ("bare", None, None, None),
        ]
    );
}

#[tokio::test]
async fn a_rolled_back_call_leaves_nothing() {
    let session = Database::create().await.connect().await;
    session.run("BEGIN; SELECT outbox.publish('t', 'k', 'x'); ROLLBACK").await;
    assert_eq!(session.count("SELECT count(*) FROM outbox.message").await, 0);
}
