//! A database of the test's own on a real server, with an inbox.
//!
//! Nothing is dropped: the servers are torn down with everything in them.

use outbox_inbox::schema::{self, DEFAULT_LOCK_TIMEOUT, Schema};
use uuid::Uuid;

use super::services::Services;
use super::session::Session;

/// A database of the test's own.
pub(crate) struct Database {
    /// `postgres://…`, as the superuser of the test server, who owns the inbox.
    pub(crate) url: String,
}

impl Database {
    /// On PostgreSQL 15, migrated, in schema `outbox`.
    pub(crate) async fn create() -> Self {
        Self::create_on(&Services::postgres()).await
    }

    /// On the server at this url, migrated, in schema `outbox`.
    pub(crate) async fn create_on(server_url: &str) -> Self {
        let database = Self::create_empty_on(server_url).await;
        database.migrate(&Schema::default()).await;
        database
    }

    /// On the server at this url, without an inbox.
    pub(crate) async fn create_empty_on(server_url: &str) -> Self {
        let name = format!("test_{}", Uuid::now_v7().simple());
        Session::connect(server_url).await.run(&format!("CREATE DATABASE {name}")).await;
        let (server, _) = server_url.rsplit_once('/').expect("a server's url names a database");
        Self { url: format!("{server}/{name}") }
    }

    /// Installs the inbox.
    pub(crate) async fn migrate(&self, schema: &Schema) -> schema::Report {
        let mut session = self.connect().await;
        match schema::migrate(&mut session, schema, DEFAULT_LOCK_TIMEOUT).await {
            Ok(report) => report,
            Err(error) => panic!("cannot migrate the test's database: {error:?}"),
        }
    }

    /// A connection as the superuser.
    pub(crate) async fn connect(&self) -> Session {
        Session::connect(&self.url).await
    }
}
