//! A transaction that was begun before everything else and is left idle, on a database that nobody relays yet.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::fault::held;
use crate::support::database::Database;
use crate::support::instance::Instance;
use crate::support::session::Session;

/// Its database, until a cell takes it, and its session.
pub(crate) struct OldTransaction {
    database: Mutex<Option<Database>>,
    holder: Session,
    begun: Instant,
}

impl OldTransaction {
    /// Begins it, with messages in it.
    pub(crate) async fn begin(server: &Instance) -> Self {
        let database = Database::create_on(server.url()).await;
        let holder = database.connect().await;
        held().begin(&holder).await;
        Self { database: Mutex::new(Some(database)), holder, begun: Instant::now() }
    }

    /// Waits until it is so old.
    pub(crate) async fn reach(&self, age: Duration) {
        tokio::time::sleep_until(self.begun + age).await;
    }

    /// For the one cell that there is with it.
    pub(crate) async fn take_database(&self) -> Database {
        self.database.lock().await.take().expect("one cell an arena")
    }

    pub(crate) async fn commit(&self) {
        self.holder.run("COMMIT").await;
    }
}
