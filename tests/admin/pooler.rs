//! A real PgBouncer between the relay and PostgreSQL, in each of its modes.

use std::process::Output;

use crate::support::database::Database;
use crate::support::instance::{Instance, Kind};
use crate::support::relay::{RelayConfig, RelayProcess, command, quoted};
use crate::support::services::Services;
use crate::support::session::Session;
use crate::support::stage::Stage;
use crate::support::writer::{Batch, committed};

/// A pool of the database for a role with a relay's rights; its url.
async fn pool(database: &Database, settings: &[&str]) -> (Instance, String) {
    let role = format!("{}_relay", database.name);
    let url = database.url_as(&role);
    let server = url.strip_suffix(&format!("/{}", database.name)).unwrap();
    let pooler = Instance::start_with(Kind::PgBouncer, &[&[server], settings].concat()).await;
    let url = format!("{}/{}", pooler.url(), database.name);
    (pooler, url)
}

async fn stage() -> Stage {
    Stage::new(Database::create().await).await.with_kafka(&Services::kafka()).await
}

fn line<'a>(output: &'a Output, subject: &str) -> Option<&'a str> {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines().find(|line| line.split_whitespace().nth(1) == Some(subject))
}

/// THEN `check` names the pooler and stops there, and `run` refuses to start.
async fn assert_refused(config: &RelayConfig, detail: &str) {
    let output = command(config, &["check"]).await;
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    let hint = "let `url` under [database] lead to PostgreSQL itself, or to a pool in session mode";
    let found = line(&output, "pooler").unwrap_or_default();
    let expected = format!("a pooler in transaction mode: {detail}; hint: {hint}");
    assert!(found.starts_with("fail") && found.ends_with(&expected), "{output:?}");
    assert_eq!(line(&output, "schema"), None, "{output:?}");

    let output = command(config, &["run"]).await;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78), "{errors}");
    // The keeper of the same process takes turns of its own.
    let last = errors.split("error: ").last().unwrap_or_default();
    assert!(last.starts_with("a pooler in transaction mode: "), "{errors}");
    assert!(last.ends_with(&format!("\nhint: {hint}\n")), "{errors}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transaction_mode_is_refused_where_connections_share_a_session() {
    let stage = stage().await;
    let (_pooler, url) = pool(&stage.database, &["pool_mode=transaction"]).await;
    let config = stage.config.set("database", "url", quoted(&url));
    assert_refused(&config, "two open connections are one session").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transaction_mode_is_refused_where_the_session_of_a_connection_changes() {
    // GIVEN a pooler that takes idle server sessions in turn, and more of them than are asked for
    let stage = stage().await;
    let settings = ["pool_mode=transaction", "server_round_robin=1"];
    let (_pooler, url) = pool(&stage.database, &settings).await;
    let mut clients = Vec::new();
    for _ in 0..15 {
        let client = Session::connect(&url).await;
        client.run("BEGIN").await;
        clients.push(client);
    }
    for client in &clients {
        client.run("COMMIT").await;
    }
    let config = stage.config.set("database", "url", quoted(&url));
    assert_refused(&config, "the session of an open connection changes").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn session_mode_is_none_in_the_way() {
    // GIVEN a pool in session mode
    let stage = stage().await;
    let (_pooler, url) = pool(&stage.database, &["pool_mode=session"]).await;
    let stage = stage.set("database", "url", quoted(&url));

    // THEN nothing is found, and rows are delivered through it
    let output = command(&stage.config, &["check"]).await;
    assert_eq!(line(&output, "pooler"), Some("ok    pooler         none in the way"), "{output:?}");
    let relay = RelayProcess::start(&stage.config).await;
    Batch::orders(10).write(&stage.session().await).await;
    stage.wait_settled().await;
    assert!(relay.terminate().await.success());
    stage.assert_exact(&committed(&stage.session().await).await).await;
}
