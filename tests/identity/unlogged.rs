//! Tables that a crash of the server would empty.

use super::text;
use crate::support::consumer::QueueKind;
use crate::support::database::Database;
use crate::support::relay::{RelayProcess, command};
use crate::support::services::Services;
use crate::support::stage::Stage;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unlogged_table_is_named_by_check_and_at_the_start() {
    for table in ["message", "ledger"] {
        // GIVEN
        let stage = Stage::new(Database::create().await).await;
        let stage = stage.with_amqp(&Services::amqp(), QueueKind::Classic).await;
        stage.session().await.run(&format!("ALTER TABLE outbox.{table} SET UNLOGGED")).await;

        // WHEN, THEN
        let said = text(&command(&stage.config, &["check"]).await.stdout);
        assert!(said.contains(&format!("{table} is UNLOGGED")), "{said}");
        assert!(said.contains(&format!("ALTER TABLE outbox.{table} SET LOGGED")), "{said}");
        let relay = RelayProcess::start(&stage.config).await;
        relay.wait_logged("tables of the outbox are UNLOGGED").await;
        assert!(relay.terminate().await.success());
    }
}
