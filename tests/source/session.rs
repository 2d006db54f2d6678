//! A session on a server whose defaults, or whose neighbours, are not as a relay needs them.

use outbox_relay::config::TlsMode;
use outbox_relay::database::Session;

use super::consumer::config;
use crate::support::database::Database;
use crate::support::services::Services;

async fn setting(session: &Session, name: &str) -> String {
    let row = session.query_one("SELECT current_setting($1)", &[&name]).await;
    row.expect("a setting can be read").get(0)
}

#[tokio::test]
async fn the_isolation_is_pinned_whatever_the_default_is() {
    let database = Database::create().await;
    let alter = format!(
        "ALTER DATABASE {} SET default_transaction_isolation = 'serializable'",
        database.name
    );
    database.connect().await.run(&alter).await;
    let session = Session::connect(&config(database.url.clone()), "test").await.unwrap();
    assert_eq!(setting(&session, "transaction_isolation").await, "read committed");
}

#[tokio::test]
async fn a_server_without_tls_is_never_spoken_to_in_plain_text() {
    let database = Database::create().await;
    let mut config = config(database.url.clone());
    config.tls.mode = TlsMode::VerifyFull;
    let refused = Session::connect(&config, "test").await;
    let refused = refused.expect_err("the test server has no TLS").to_string();
    assert!(refused.contains("server does not support TLS"), "{refused}");
    // AND a url that asks for it is no way around
    config.tls.mode = TlsMode::Disable;
    config.url = format!("{}?sslmode=require", database.url);
    let refused = Session::connect(&config, "test").await.expect_err("TLS is off").to_string();
    assert!(refused.contains("sslmode=require"), "{refused}");
}

#[tokio::test]
async fn the_host_that_takes_writes_is_found_behind_one_that_does_not() {
    // GIVEN two servers with one database and one role, of which the first is read-only as a standby would be
    let first = Database::create_empty_on(&Services::postgres()).await;
    let (name, role) = (&first.name, format!("{}_both", first.name));
    let create = format!("CREATE ROLE {role} LOGIN PASSWORD 'x'");
    let admin = first.connect().await;
    admin.run(&create).await;
    admin.run(&format!("ALTER DATABASE {name} SET default_transaction_read_only = on")).await;
    let admin = crate::support::session::Session::connect(&Services::postgres_18()).await;
    admin.run(&create).await;
    admin.run(&format!("CREATE DATABASE {name}")).await;
    let address = |url: &str| {
        let url: tokio_postgres::Config = url.parse().unwrap();
        let tokio_postgres::config::Host::Tcp(host) = &url.get_hosts()[0] else {
            panic!("the test server's url names no TCP host")
        };
        format!("{host}:{}", url.get_ports()[0])
    };
    let (one, two) = (address(&Services::postgres()), address(&Services::postgres_18()));
    let both = format!("postgres://{role}:x@{one},{two}/{name}");
    // WHEN / THEN
    let session = Session::connect(&config(both.clone()), "test").await.unwrap();
    assert!(setting(&session, "server_version").await.starts_with("18"));
    let looking = Session::connect_any(&config(both), "test").await.unwrap();
    assert!(setting(&looking, "server_version").await.starts_with("15"));
    // AND where there is no choice, a read-only default is overruled
    let only = Session::connect(&config(format!("postgres://{role}:x@{one}/{name}")), "test")
        .await
        .unwrap();
    assert_eq!(setting(&only, "transaction_read_only").await, "off");
}
