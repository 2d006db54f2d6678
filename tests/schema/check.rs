//! Every CHECK: what it refuses, by its name, and that its limit itself is accepted.

use super::refusal;
use crate::support::database::Database;
use crate::support::services::Services;
use crate::support::session::Session;

/// Runs each statement and expects the violation of the constraint beside it.
async fn assert_violations(session: &Session, cases: &[(&str, &str)]) {
    for (statement, constraint) in cases {
        let refused = refusal(session.batch_execute(statement).await);
        assert_eq!(refused.constraint(), Some(*constraint), "{statement}: {refused}");
    }
}

async fn assert_accepted(session: &Session, statements: &[&str]) {
    for statement in statements {
        if let Err(error) = session.batch_execute(statement).await {
            panic!("{statement}: {error:?}");
        }
    }
}

#[tokio::test]
async fn a_message_fits_what_a_broker_takes() {
    for server in [Services::postgres(), Services::postgres_18()] {
        let session = Database::create_on(&server).await.connect().await;
        assert_violations(
            &session,
            &[
                ("INSERT INTO outbox.message (topic) VALUES ('')", "topic_is_1_to_255_bytes"),
                (
                    "INSERT INTO outbox.message (topic) VALUES (repeat('é', 128))",
                    "topic_is_1_to_255_bytes",
                ),
                (
                    "INSERT INTO outbox.message (topic, type) VALUES ('t', repeat('é', 128))",
                    "type_is_at_most_255_bytes",
                ),
                (
                    "INSERT INTO outbox.message (topic, key) VALUES ('t', repeat('é', 1025))",
                    "key_is_at_most_2048_bytes",
                ),
                (
                    "INSERT INTO outbox.message (id, topic) OVERRIDING SYSTEM VALUE VALUES (0, 't')",
                    "id_is_1_to_2_pow_62",
                ),
                (
                    "INSERT INTO outbox.message (id, topic) OVERRIDING SYSTEM VALUE
                     VALUES (4611686018427387905, 't')",
                    "id_is_1_to_2_pow_62",
                ),
                (
                    "INSERT INTO outbox.message (topic, message_id) VALUES ('t', gen_random_uuid())",
                    "message_id_is_a_version_7_uuid",
                ),
                (
                    // Version 7, but the variant of Microsoft's old GUIDs.
                    "INSERT INTO outbox.message (topic, message_id)
                     VALUES ('t', '01890a5d-ac96-774b-ccce-b302099a8057')",
                    "message_id_is_a_version_7_uuid",
                ),
            ],
        )
        .await;
        assert_accepted(
            &session,
            &[
                "INSERT INTO outbox.message (topic, type, key)
                 VALUES (repeat('t', 255), repeat('y', 255), repeat('é', 1024))",
                "INSERT INTO outbox.message (topic, type, key) VALUES ('t', '', '')",
                "INSERT INTO outbox.message (id, topic) OVERRIDING SYSTEM VALUE
                 VALUES (4611686018427387904, 't')",
                "INSERT INTO outbox.message (topic, message_id)
                 VALUES ('t', '01890a5d-ac96-774b-bcce-b302099a8057')",
                // An index entry of outbox.retry must hold the longest key that does not compress.
                "INSERT INTO outbox.retry (target, id, key, holds, attempts, class)
                 SELECT repeat('t', 63), 1, string_agg(md5(n::text), ''), true, 0, 'parked'
                 FROM generate_series(1, 64) AS n",
            ],
        )
        .await;
    }
}

#[tokio::test]
async fn headers_are_an_object_of_names_that_are_not_the_relays() {
    const NAMES: &str = "header_names_are_1_to_255_bytes_and_not_id_type_x_outbox";
    for server in [Services::postgres(), Services::postgres_18()] {
        let session = Database::create_on(&server).await.connect().await;
        let insert = "INSERT INTO outbox.message (topic, headers) VALUES ('t', $1::text::jsonb)";

        for (headers, constraint) in [
            ("[]", "headers_is_an_object"),
            ("\"text\"", "headers_is_an_object"),
            ("1", "headers_is_an_object"),
            // SQL NULL means no headers, JSON null is a mistake.
            ("null", "headers_is_an_object"),
            (r#"{"id": "x"}"#, NAMES),
            (r#"{"ID": "x"}"#, NAMES),
            (r#"{"Type": "x"}"#, NAMES),
            (r#"{"tenant": "a", "x-outbox-key": "x"}"#, NAMES),
            (r#"{"X-Outbox-Anything": "x"}"#, NAMES),
            (r#"{"x-outbox-": "x"}"#, NAMES),
            (r#"{"": "x"}"#, NAMES),
            (&format!("{{\"{}\": 1}}", "é".repeat(128)), NAMES),
            (&format!("{{\"a\": \"{}\"}}", "x".repeat(16_384)), "headers_is_at_most_16384_bytes"),
        ] {
            let refused = refusal(session.execute(insert, &[&headers]).await);
            assert_eq!(refused.constraint(), Some(constraint), "{headers}");
        }

        for headers in [
            "{}",
            r#"{"identity": 1, "x-type": null, "ids": [1], "x-outboxed": {"id": "nested"}}"#,
            // Only ASCII is folded: the Turkish dotless i is another letter.
            r#"{"ıd": 1, "größe": "ü", "type ": true}"#,
            &format!("{{\"{}\": 1}}", "x".repeat(255)),
            &format!("{{\"a\": \"{}\"}}", "x".repeat(16_384 - 9)),
        ] {
            if let Err(error) = session.execute(insert, &[&headers]).await {
                panic!("{headers}: {error:?}");
            }
        }
    }
}

#[tokio::test]
async fn the_relays_tables_hold_only_states_that_exist() {
    let session = Database::create().await.connect().await;
    assert_violations(
        &session,
        &[
            ("INSERT INTO outbox.ledger (target) VALUES ('')", "target_is_an_identifier"),
            ("INSERT INTO outbox.ledger (target) VALUES ('Orders')", "target_is_an_identifier"),
            ("INSERT INTO outbox.ledger (target) VALUES ('@bell')", "target_is_an_identifier"),
            ("INSERT INTO outbox.ledger (target) VALUES (E'a\\nb')", "target_is_an_identifier"),
            (
                "INSERT INTO outbox.ledger (target) VALUES (repeat('a', 64))",
                "target_is_an_identifier",
            ),
            (
                "INSERT INTO outbox.ledger (target, settled) VALUES ('a', '{[0,5)}')",
                "settled_holds_message_ids",
            ),
            (
                "INSERT INTO outbox.ledger (target, settled) VALUES ('a', '{[5,)}')",
                "settled_holds_message_ids",
            ),
            ("INSERT INTO outbox.hole (target, ranges) VALUES ('a', '{}')", "ranges_is_not_empty"),
            (
                "INSERT INTO outbox.hole (target, ranges) VALUES ('a', '{(,5)}')",
                "ranges_holds_message_ids",
            ),
            (
                "INSERT INTO outbox.retry (target, id, holds, attempts, class)
                 VALUES ('a', 1, true, -1, 'refused')",
                "attempts_is_not_negative",
            ),
            (
                "INSERT INTO outbox.retry (target, id, holds, attempts, class)
                 VALUES ('a', 1, true, 0, 'unknown')",
                "class_is_known",
            ),
            ("UPDATE outbox.meta SET floor = 0", "meta_floor_check"),
            ("UPDATE outbox.meta SET floor = 4611686018427387906", "meta_floor_check"),
            ("INSERT INTO outbox.meta (singleton) VALUES (false)", "meta_singleton_check"),
            ("INSERT INTO outbox.meta DEFAULT VALUES", "meta_pkey"),
            (
                "INSERT INTO outbox.decision (rows, command_id, command, filter, ids, decided_by)
                 VALUES (1, outbox.uuidv7(), 'prune', '{}', '{[1,2)}', '')",
                "decided_by_is_a_name",
            ),
        ],
    )
    .await;
    assert_accepted(
        &session,
        &[
            "INSERT INTO outbox.ledger (target, settled)
             VALUES (repeat('a', 63), '{[1,4611686018427387905)}')",
            "UPDATE outbox.meta SET floor = 4611686018427387905",
        ],
    )
    .await;
    let by: String = session
        .query_one(
            "INSERT INTO outbox.decision (rows, command_id, command, filter, ids)
             VALUES (1, outbox.uuidv7(), 'prune', '{}', '{[1,2)}') RETURNING decided_by",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    assert_eq!(by, "postgres");
}
