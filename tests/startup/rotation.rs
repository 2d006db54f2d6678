//! Passwords that are rotated while the relay runs: their files are read at every connection.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::daemon::http::{listening, wait_ready_text, wait_status};
use crate::support::consumer::QueueKind;
use crate::support::database::Database;
use crate::support::instance::{Instance, Kind};
use crate::support::patience::until;
use crate::support::relay::{RelayProcess, quoted};
use crate::support::session::Session;
use crate::support::stage::Stage;
use crate::support::writer::{Batch, committed};

/// A password file; what it holds changes.
pub(super) struct PasswordFile {
    folder: TempDir,
}

impl PasswordFile {
    pub(super) fn new(password: &str) -> Self {
        let file = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        file.write(password);
        file
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("secret-file")
    }

    pub(super) fn quoted(&self) -> String {
        quoted(&self.path().to_string_lossy())
    }

    /// As a tool that rotates writes it: whole, by renaming.
    pub(super) fn write(&self, password: &str) {
        let new: &Path = &self.folder.path().join("new");
        std::fs::write(new, format!("{password}\n")).expect("it can be written");
        std::fs::rename(new, self.path()).expect("it can be renamed");
    }
}

/// A url without its password, and the password.
fn without_password(url: &str) -> (String, String) {
    let (scheme, rest) = url.split_once("://").expect("a url");
    let (user, address) = rest.split_once('@').expect("a user");
    let (user, password) = user.split_once(':').expect("a password");
    (format!("{scheme}://{user}@{address}"), password.to_owned())
}

/// The number of different sessions of a role, by their names.
async fn sessions(session: &Session, role: &str) -> i64 {
    let count = format!(
        "SELECT count(DISTINCT application_name) FROM pg_stat_activity WHERE usename = '{role}'"
    );
    session.count(&count).await
}

async fn terminate_all(session: &Session, role: &str) {
    let text =
        format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'");
    session.run(&text).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_password_of_the_database_is_read_by_every_session() {
    // GIVEN a relay whose password stands in a file: two sessions for each of two targets, the bell,
    // the keeper and the membership
    let stage = listening(Stage::both(Database::create().await).await);
    let role = format!("{}_relay", stage.database.name);
    let (url, password) = without_password(&stage.database.url_as(&role));
    let file = PasswordFile::new(&password);
    let stage =
        stage.set("database", "url", quoted(&url)).set("database", "password_file", file.quoted());
    let session = stage.session().await;
    let relay = RelayProcess::start(&stage.config).await;
    let all = async || {
        let some = async || (sessions(&session, &role).await == 7).then_some(());
        until("every session of the relay", some).await;
    };
    all().await;
    Batch::orders(10).write(&session).await;
    stage.wait_received(10).await;

    // WHEN the file is written before the server knows the new password
    file.write("second");
    terminate_all(&session, &role).await;
    // THEN the one before it does, and the log says so
    Batch::orders(10).write(&session).await;
    stage.wait_received(20).await;
    all().await;
    assert!(relay.log().contains("accepts the password before it"), "{}", relay.log());

    // WHEN the server follows
    session.run(&format!("ALTER ROLE {role} PASSWORD 'second'")).await;
    terminate_all(&session, &role).await;
    Batch::orders(10).write(&session).await;
    stage.wait_received(30).await;
    all().await;

    // WHEN the server is first, and the file is empty for a while THEN the file is named
    session.run(&format!("ALTER ROLE {role} PASSWORD 'third'")).await;
    terminate_all(&session, &role).await;
    Batch::orders(10).write(&session).await;
    let text = wait_ready_text(&relay, "amqp: stopped: ").await;
    assert!(text.contains("28P01") && text.contains("secret-file"), "{text}");
    file.write("");
    relay.wait_logged("the password file cannot be used").await;
    file.write("third");
    stage.wait_received(40).await;
    wait_status(&relay, 200).await;
    all().await;
    stage.wait_settled().await;
    assert!(relay.terminate().await.success());
    stage.assert_exact(&committed(&session).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_password_of_rabbitmq_is_read_at_the_next_connection() {
    // GIVEN a relay whose user has its password in a file
    let broker = Instance::start(Kind::RabbitMq).await;
    broker.rabbitmqctl(&["add_user", "rotated", "first"]).await;
    broker.rabbitmqctl(&["set_permissions", "rotated", ".*", ".*", ".*"]).await;
    let file = PasswordFile::new("first");
    let stage = Stage::new(Database::create().await).await;
    let stage = stage.with_amqp(broker.url(), QueueKind::Classic).await;
    let (_, address) = broker.url().split_once('@').expect("a user");
    let stage = listening(stage)
        .set("target.amqp", "url", quoted(&format!("amqp://rotated@{address}")))
        .set("target.amqp", "password_file", file.quoted());
    let session = stage.session().await;
    let relay = RelayProcess::start(&stage.config).await;
    Batch::orders(10).write(&session).await;
    stage.wait_received(10).await;
    let close = ["close_all_user_connections", "rotated", "rotated"];

    // WHEN the file is first THEN the password before it does
    file.write("second");
    broker.rabbitmqctl(&close).await;
    Batch::orders(10).write(&session).await;
    stage.wait_received(20).await;

    // WHEN the broker is first THEN the target waits, names the file, and goes on with the new one
    broker.rabbitmqctl(&["change_password", "rotated", "third"]).await;
    broker.rabbitmqctl(&close).await;
    Batch::orders(10).write(&session).await;
    let text = wait_ready_text(&relay, "403 ACCESS_REFUSED").await;
    assert!(
        text.contains("amqp: waiting for the broker") && text.contains("secret-file"),
        "{text}"
    );
    file.write("third");
    stage.wait_received(30).await;
    wait_status(&relay, 200).await;
    stage.wait_settled().await;
    assert!(relay.terminate().await.success());
    stage.assert_exact(&committed(&session).await).await;
}
