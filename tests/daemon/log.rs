//! What the daemon prints holds no payload and no secret, also when everything goes wrong.

use crate::support::consumer::QueueKind;
use crate::support::database::Database;
use crate::support::patience::until;
use crate::support::proxy::{Network, Proxy};
use crate::support::relay::{RelayProcess, raw_command};
use crate::support::services::Services;
use crate::support::stage::Stage;

const PAYLOAD: &str = "top-secret-payload";
const HEADER: &str = "top-secret-header";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_payload_and_no_secret_is_printed() {
    // GIVEN passwords in the urls, and the most talkative level
    let stage = Stage::new(Database::create().await).await;
    let stage = stage.with_amqp(&Services::amqp(), QueueKind::Classic).await;
    let (proxy, through) = Proxy::in_front_of(&Services::amqp()).await;
    let owner_url = format!("{:?}", stage.database.url);
    let stage = stage
        .set("database", "url", owner_url)
        .set("target.amqp", "url", format!("{through:?}"))
        .set("source", "row_bytes_max", "\"1KiB\"")
        .set("log", "level", "\"outbox_relay=trace,info\"");
    let session = stage.session().await;
    let passwords: Vec<String> = [&through, &stage.database.url, &stage.config.text()]
        .iter()
        .flat_map(|text| passwords(text))
        .collect();
    assert!(passwords.len() >= 3);
    let insert = |times: usize| {
        format!(
            "INSERT INTO outbox.message (topic, key, headers, payload) VALUES
             ('order.placed', 'k', '{{\"note\": \"{HEADER}\"}}', repeat('{PAYLOAD}', {times})::bytea)"
        )
    };

    // WHEN messages are sent, are refused for good, and the broker and the database go away
    let relay = RelayProcess::start(&stage.config).await;
    session.run(&insert(1)).await;
    session.run(&insert(100)).await;
    stage.wait_received(1).await;
    until("the large one to be buried", async || {
        (session.count("SELECT count(*) FROM outbox.dead").await == 1).then_some(())
    })
    .await;
    proxy.set(Network::Down);
    session.run(&insert(1)).await;
    proxy.wait_connections(2).await;
    proxy.set(Network::Up);
    stage.wait_received(2).await;
    let terminate = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                     WHERE datname = current_database() AND pid <> pg_backend_pid()";
    assert!(session.count(terminate).await > 0);
    until("a new message after the loss", async || {
        let connected = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                         AND pid <> pg_backend_pid()";
        (session.count(connected).await > 0).then_some(())
    })
    .await;
    session.run(&insert(1)).await;
    stage.wait_received(3).await;

    // THEN the log says much, and none of that
    let mut relay = relay;
    relay.signal("TERM").await;
    relay.wait_exit().await;
    let log = relay.log();
    assert!(log.lines().count() > 5, "{log}");
    for secret in passwords.iter().map(String::as_str).chain([PAYLOAD, HEADER]) {
        assert!(!log.contains(secret), "{secret} in the log:\n{log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_password_is_not_printed() {
    // GIVEN a wrong password
    let stage = Stage::new(Database::create().await).await;
    let stage = stage.with_amqp(&Services::amqp(), QueueKind::Classic).await;
    let url = Services::amqp();
    let right = passwords(&url).remove(0);
    let stage = stage.set("target.amqp", "url", format!("{:?}", url.replace(&right, "wr0ng-one")));

    // WHEN the daemon starts with it
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("relay.toml");
    std::fs::write(&file, stage.config.text()).expect("the configuration can be written");
    let output = raw_command(&["run", "--config", &file.to_string_lossy()]).await;

    // THEN it ends as wrongly configured, and says why without the password
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(78), "{text}");
    assert!(!text.contains("wr0ng-one"), "{text}");
    assert!(text.contains("hint:"), "{text}");
}

/// What stands between the user and the host of every url in the text.
fn passwords(text: &str) -> Vec<String> {
    text.split("://")
        .skip(1)
        .filter_map(|rest| {
            let (user, _) = rest.split_once('@')?;
            Some(user.split_once(':')?.1.to_owned())
        })
        .collect()
}
