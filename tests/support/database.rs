//! A database of the test's own, migrated, on a real server.
//!
//! ```ignore
//! let database = Database::create().await;              // PostgreSQL 15, as the superuser
//! let session = database.connect().await;               // derefs to tokio_postgres::Client
//! let writer = database.create_writer().await;          // a role that may only write
//! let session = Session::connect(&database.url_as(&writer)).await;
//! relay.set("database", "url", database.url_as(&database.create_relay().await));
//! ```
//! Nothing is dropped: the servers are torn down with everything in them.

use outbox_relay::schema::{self, Options, Schema};
use tokio_postgres::config::Host;
use uuid::Uuid;

use super::services::Services;
use super::session::Session;

/// Every role that a test creates has it.
const ROLE_PASSWORD: &str = "correct-horse-battery";

/// A database of the test's own.
pub(crate) struct Database {
    /// `postgres://…`, as the superuser of the test server, who owns the outbox.
    pub(crate) url: String,
    /// The database's name, which no other test has.
    pub(crate) name: String,
    server: tokio_postgres::Config,
}

impl Database {
    /// On PostgreSQL 15, migrated, in schema `outbox`.
    pub(crate) async fn create() -> Self {
        Self::create_on(&Services::postgres()).await
    }

    /// On the server at this url (see [`Services`]), migrated, in schema `outbox`.
    pub(crate) async fn create_on(server_url: &str) -> Self {
        let database = Self::create_empty_on(server_url).await;
        database.migrate().await;
        database
    }

    /// Installs the outbox, in schema `outbox`.
    pub(crate) async fn migrate(&self) {
        let mut session = self.connect().await;
        if let Err(error) =
            schema::migrate(&mut session, &Schema::default(), &Options::default()).await
        {
            panic!("cannot migrate the test's database: {error:?}");
        }
    }

    /// On PostgreSQL 15, in this encoding, migrated.
    pub(crate) async fn create_encoded(encoding: &str) -> Self {
        let options = format!("ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0");
        let database = Self::create_empty_with(&Services::postgres(), &options).await;
        database.migrate().await;
        database
    }

    /// On the server at this url, without an outbox.
    pub(crate) async fn create_empty_on(server_url: &str) -> Self {
        Self::create_empty_in(server_url, "pg_default").await
    }

    /// On the server at this url, in this tablespace, without an outbox.
    pub(crate) async fn create_empty_in(server_url: &str, tablespace: &str) -> Self {
        Self::create_empty_with(server_url, &format!("TABLESPACE {tablespace}")).await
    }

    /// On the server at this url, with these options of CREATE DATABASE, without an outbox.
    pub(crate) async fn create_empty_with(server_url: &str, options: &str) -> Self {
        let name = format!("test_{}", Uuid::now_v7().simple());
        let create = format!("CREATE DATABASE {name} {options}");
        Session::connect(server_url).await.run(&create).await;
        let server = match server_url.parse::<tokio_postgres::Config>() {
            Ok(server) => server,
            Err(error) => panic!("{server_url}: {error}"),
        };
        let user = server.get_user().unwrap_or("postgres").to_owned();
        let password = String::from_utf8_lossy(server.get_password().unwrap_or_default());
        let url = url(&server, &user, &password, &name);
        Self { url, name, server }
    }

    /// The same database on a server that has a copy of it, and of its roles.
    pub(crate) fn moved_to(&self, server_url: &str) -> Self {
        let server: tokio_postgres::Config = server_url.parse().expect("a test server's url");
        let user = server.get_user().unwrap_or("postgres").to_owned();
        let password = String::from_utf8_lossy(server.get_password().unwrap_or_default());
        let url = url(&server, &user, &password, &self.name);
        Self { url, name: self.name.clone(), server }
    }

    /// A connection as the superuser.
    pub(crate) async fn connect(&self) -> Session {
        Session::connect(&self.url).await
    }

    /// A new role with a writer's rights and nothing else.
    pub(crate) async fn create_writer(&self) -> String {
        let role = self.create_role("writer").await;
        self.run("SELECT outbox.grant_writer(quote_ident($1)::regrole)", &role).await;
        role
    }

    /// A new role with the relay's rights and nothing else.
    pub(crate) async fn create_relay(&self) -> String {
        self.create_relay_named("relay").await
    }

    /// Like [`create_relay`](Self::create_relay), for one of several: by its role it is known in `pg_stat_activity`.
    pub(crate) async fn create_relay_named(&self, suffix: &str) -> String {
        let role = self.create_role(suffix).await;
        self.run("SELECT outbox.grant_relay(quote_ident($1)::regrole)", &role).await;
        role
    }

    /// A new role that may log in, and nothing else. Roles belong to the whole server, hence the
    /// database's name in front.
    pub(crate) async fn create_role(&self, suffix: &str) -> String {
        let role = format!("{}_{suffix}", self.name);
        let quoted = role.replace('"', "\"\"");
        let text = format!("CREATE ROLE \"{quoted}\" LOGIN PASSWORD '{ROLE_PASSWORD}'");
        self.connect().await.run(&text).await;
        role
    }

    /// `postgres://…` of this database as a role that [`Database`] created.
    pub(crate) fn url_as(&self, role: &str) -> String {
        url(&self.server, role, ROLE_PASSWORD, &self.name)
    }

    async fn run(&self, sql: &str, argument: &str) {
        if let Err(error) = self.connect().await.execute(sql, &[&argument]).await {
            panic!("{sql}: {error:?}");
        }
    }
}

fn url(server: &tokio_postgres::Config, user: &str, password: &str, database: &str) -> String {
    let Some(Host::Tcp(host)) = server.get_hosts().first() else {
        panic!("the test server's url names no TCP host");
    };
    let port = server.get_ports().first().copied().unwrap_or(5432);
    format!("postgres://{user}:{password}@{host}:{port}/{database}")
}
