//! One connection to PostgreSQL of a test's own, with the task that drives it.

use std::ops::{Deref, DerefMut};

use tokio::task::JoinSet;
use tokio_postgres::{Client, Config, NoTls};

/// `application_name` of every session of a test.
pub(crate) const APPLICATION_NAME: &str = "test";

/// A client whose connection ends with it.
pub(crate) struct Session {
    client: Client,
    /// Owns the driving task: dropped, it closes the socket.
    _driver: JoinSet<()>,
}

impl Session {
    /// Connects; an error is for tests that take the server away.
    pub(crate) async fn try_connect(url: &str) -> Result<Self, tokio_postgres::Error> {
        // By this name tests tell their own backends from the relay's.
        let mut config: Config = url.parse()?;
        config.application_name(APPLICATION_NAME);
        let (client, connection) = config.connect(NoTls).await?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // The client's own calls report what ended the connection.
            let _ = connection.await;
        });
        Ok(Self { client, _driver: driver })
    }

    /// Connects to a server that must be there.
    ///
    /// # Panics
    /// If it is not.
    pub(crate) async fn connect(url: &str) -> Self {
        match Self::try_connect(url).await {
            Ok(session) => session,
            Err(error) => panic!("cannot connect to the test's database: {error}"),
        }
    }

    /// One number from a query without parameters.
    pub(crate) async fn count(&self, sql: &str) -> i64 {
        match self.client.query_one(sql, &[]).await {
            Ok(row) => row.get(0),
            Err(error) => panic!("{sql}: {error:?}"),
        }
    }

    /// Statements without a result.
    pub(crate) async fn run(&self, sql: &str) {
        if let Err(error) = self.client.batch_execute(sql).await {
            panic!("{sql}: {error:?}");
        }
    }
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}
