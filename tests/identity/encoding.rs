//! Databases whose encoding is not UTF-8.

use super::text;
use crate::support::consumer::QueueKind;
use crate::support::content::Content;
use crate::support::database::Database;
use crate::support::relay::{RelayProcess, raw_command};
use crate::support::services::Services;
use crate::support::stage::Stage;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_of_another_encoding_comes_through_in_utf_8() {
    for (encoding, words) in
        [("LATIN1", "caf\u{e9}"), ("EUC_JP", "\u{65e5}\u{672c}"), ("SQL_ASCII", "\u{20ac}")]
    {
        // GIVEN
        let database = Database::create_empty_with(
            &Services::postgres(),
            &format!("ENCODING '{encoding}' TEMPLATE template0 LOCALE 'C'"),
        )
        .await;
        for command in [&["migrate"][..], &["inbox", "init"]] {
            let output = raw_command(&[command, &["--url", &database.url]].concat()).await;
            assert!(output.status.success(), "{encoding}: {}", text(&output.stderr));
        }
        let stage = Stage::new(database).await;
        let stage = stage.with_amqp(&Services::amqp(), QueueKind::Classic).await;
        let session = stage.session().await;

        // WHEN
        let publish = "SELECT outbox.publish('t', $1, $1, jsonb_build_object('h', $1::text))::text";
        session.query_one(publish, &[&words]).await.unwrap();
        let relay = RelayProcess::start(&stage.config).await;

        // THEN what arrives is what this client wrote, as it wrote it
        stage.wait_received(1).await;
        stage.wait_settled().await;
        assert!(relay.terminate().await.success());
        let written = Content {
            topic: "t".to_owned(),
            key: Some(words.to_owned()),
            kind: None,
            payload: Some(words.as_bytes().to_vec()),
            headers: [("h".to_owned(), Some(words.to_owned()))].into(),
        };
        let deliveries = stage.consumers[0].1.deliveries();
        assert_eq!(deliveries.len(), 1, "{encoding}");
        assert_eq!(deliveries[0].digest, written.digest(), "{encoding}");
    }
}
