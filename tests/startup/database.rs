//! PostgreSQL lets the relay not in: what passes is waited for, the rest names its remedy.

use std::time::Duration;

use outbox_relay::config::{DatabaseConfig, TlsConfig};
use outbox_relay::database::{DatabaseError, Session};

use crate::daemon::http::{listening, wait_ready_text, wait_status};
use crate::support::database::Database;
use crate::support::relay::RelayStart;
use crate::support::stage::Stage;
use crate::support::writer::{Batch, committed};

fn config(url: String) -> DatabaseConfig {
    DatabaseConfig {
        url,
        password: None,
        schema: "outbox".to_owned(),
        tls: TlsConfig::default(),
        connect_timeout: Duration::from_secs(30),
        lock_timeout: Duration::from_secs(1),
        statement_timeout: Duration::from_secs(60),
    }
}

async fn refused(url: String) -> DatabaseError {
    Session::connect(&config(url), "test").await.expect_err("it is refused")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_limit_is_waited_for_and_every_mistake_names_its_remedy() {
    let database = Database::create().await;
    let role = database.create_role("startup").await;
    let (url, name) = (database.url_as(&role), &database.name);
    // The changes are made from elsewhere: one of them closes the database itself.
    let elsewhere = crate::support::services::Services::postgres();
    let session = crate::support::session::Session::connect(&elsewhere).await;

    for (change, back, code) in [
        (
            format!("ALTER ROLE {role} CONNECTION LIMIT 0"),
            format!("ALTER ROLE {role} CONNECTION LIMIT -1"),
            "53300",
        ),
        (
            format!("ALTER DATABASE {name} CONNECTION LIMIT 0"),
            format!("ALTER DATABASE {name} CONNECTION LIMIT -1"),
            "53300",
        ),
    ] {
        session.run(&change).await;
        let error = refused(url.clone()).await;
        let DatabaseError::Unavailable(text) = &error else { panic!("{change}: {error}") };
        assert!(text.contains(code) && text.contains("\nhint: "), "{change}: {text}");
        session.run(&back).await;
    }

    let nothing = "SELECT 1".to_owned();
    for (change, back, url, code, hint) in [
        (
            format!("ALTER ROLE {role} NOLOGIN"),
            format!("ALTER ROLE {role} LOGIN"),
            url.clone(),
            "28000",
            "ALTER ROLE … LOGIN",
        ),
        (
            format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"),
            format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true"),
            url.clone(),
            "55000",
            "ALLOW_CONNECTIONS",
        ),
        (
            format!("REVOKE CONNECT ON DATABASE {name} FROM public"),
            format!("GRANT CONNECT ON DATABASE {name} TO public"),
            url.clone(),
            "42501",
            "GRANT CONNECT",
        ),
        (
            format!("ALTER ROLE {role} PASSWORD 'another'"),
            nothing.clone(),
            url.clone(),
            "28P01",
            "its password",
        ),
        (
            nothing.clone(),
            nothing.clone(),
            format!("{}_not", database.url),
            "3D000",
            "the database name",
        ),
        (
            nothing.clone(),
            nothing.clone(),
            format!("{}?options=-c%20no_such%3D1", database.url),
            "42704",
            "the parameters",
        ),
    ] {
        session.run(&change).await;
        let error = refused(url).await;
        let DatabaseError::Configuration { reason, hint: remedy } = &error else {
            panic!("{change}: {error}")
        };
        assert!(reason.contains(code) && remedy.contains(hint), "{change}: {error}");
        session.run(&back).await;
    }
    // No password at all.
    let (before, rest) = url.split_once("://").expect("a url");
    let (user, address) = rest.split_once('@').expect("a user");
    let user = user.split(':').next().expect("a name");
    let error = refused(format!("{before}://{user}@{address}")).await.to_string();
    assert!(error.contains("password_file"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_at_its_limit_at_the_start_is_waited_for() {
    // GIVEN a role that may not connect now
    let stage = listening(Stage::both(Database::create().await).await);
    let session = stage.session().await;
    let role = format!("{}_relay", stage.database.name);
    session.run(&format!("ALTER ROLE {role} CONNECTION LIMIT 0")).await;
    Batch::orders(10).write(&session).await;

    // WHEN the relay starts THEN it waits, and says for what
    let relay = RelayStart::new(&stage.config).ready().await;
    let text = wait_ready_text(&relay, "amqp: waiting for the database: ").await;
    assert!(text.contains("53300") && text.contains("hint: "), "{text}");

    // AND it goes on by itself
    session.run(&format!("ALTER ROLE {role} CONNECTION LIMIT -1")).await;
    wait_status(&relay, 200).await;
    stage.wait_received(10).await;
    stage.wait_settled().await;
    assert!(relay.terminate().await.success());
    stage.assert_exact(&committed(&session).await).await;
}
