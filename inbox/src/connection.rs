//! Where connections come from: a pool of the application's, or whatever opens one.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tokio_postgres::Client;

/// One connection, for as long as it is held. Dropping it gives it back.
pub trait Connection: Send + Sync {
    /// The client of it.
    fn client(&self) -> &Client;

    /// Ends it instead of giving it back: a statement of a handler that was given up may still run
    /// on it. As it is provided it is dropped; a pool must be made to forget it.
    fn discard(self: Box<Self>) {
        drop(self);
    }
}

/// A restart of the database, or of the pooler in front of it, is over by then.
const RECORD_WAIT: Duration = Duration::from_secs(15);

/// Between two tries.
const RECORD_PAUSE: Duration = Duration::from_millis(200);

/// How long an empty pool is waited for: others are about to give a connection back, or they hang.
#[cfg(feature = "deadpool")]
pub const DEFAULT_POOL_WAIT: Duration = Duration::from_secs(1);

/// Something that hands out connections.
///
/// ```
/// use outbox_inbox::connection::Connections;
///
/// # async fn connect() -> Result<tokio_postgres::Client, tokio_postgres::Error> { unimplemented!() }
/// let connections = Connections::new(connect);
/// ```
///
/// With the feature `deadpool` it is made `From` a `deadpool_postgres::Pool`; when all connections
/// of that are in use, it waits for [`DEFAULT_POOL_WAIT`] and no longer.
#[derive(Clone)]
pub struct Connections(Arc<Lend>);

type Lend = dyn Fn() -> Pin<Box<Lent>> + Send + Sync;
type Lent = dyn Future<Output = Result<Box<dyn Connection>, ConnectionError>> + Send;

/// There is no connection to be had: the database is away, or the pool is empty for too long.
#[derive(Debug, thiserror::Error)]
#[error("no connection to the database")]
pub struct ConnectionError(#[source] Box<dyn Error + Send + Sync>);

impl Connections {
    /// From a function that connects, or takes a connection out of a pool. How long that may take is
    /// for the function to bound.
    pub fn new<F, C, E>(connect: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<C, E>> + Send + 'static,
        C: Connection + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        Self(Arc::new(move || {
            let connecting = connect();
            Box::pin(async move {
                match connecting.await {
                    Ok(connection) => Ok(Box::new(connection) as Box<dyn Connection>),
                    Err(error) => Err(ConnectionError(error.into())),
                }
            })
        }))
    }

    /// A connection to record what has happened. It is waited for longer, and asked for again: a step
    /// that was made must not go unrecorded because a pool was empty for a moment.
    ///
    /// Cancel safety: as the function's.
    ///
    /// # Errors
    /// What the function said last.
    pub(crate) async fn lend_to_record(&self) -> Result<Box<dyn Connection>, ConnectionError> {
        let deadline = Instant::now() + RECORD_WAIT;
        loop {
            let error = match timeout_at(deadline, self.lend()).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => error,
                Err(_) => ConnectionError(format!("none within {RECORD_WAIT:?}").into()),
            };
            if Instant::now() + RECORD_PAUSE >= deadline {
                return Err(error);
            }
            tokio::time::sleep(RECORD_PAUSE).await;
        }
    }

    /// A connection, or an error after this time.
    ///
    /// Cancel safety: as the function's.
    ///
    /// # Errors
    /// What the function says; that it took too long.
    #[cfg(feature = "http")]
    pub(crate) async fn lend_within(
        &self,
        wait: Duration,
    ) -> Result<Box<dyn Connection>, ConnectionError> {
        let lent = tokio::time::timeout(wait, self.lend()).await;
        lent.unwrap_or_else(|_| Err(ConnectionError(format!("none within {wait:?}").into())))
    }

    /// A connection.
    ///
    /// Cancel safety: as the function's.
    ///
    /// # Errors
    /// What the function says.
    pub async fn lend(&self) -> Result<Box<dyn Connection>, ConnectionError> {
        (self.0)().await
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connections")
    }
}

impl Connection for Client {
    fn client(&self) -> &Client {
        self
    }
}

#[cfg(feature = "deadpool")]
impl Connection for deadpool_postgres::Object {
    fn client(&self) -> &Client {
        self
    }

    fn discard(self: Box<Self>) {
        drop(Self::take(*self));
    }
}

#[cfg(feature = "deadpool")]
impl From<deadpool_postgres::Pool> for Connections {
    fn from(pool: deadpool_postgres::Pool) -> Self {
        Self::new(move || {
            let pool = pool.clone();
            async move {
                let status = pool.status();
                // Only then it waits for others, and not for a new connection.
                let exhausted = status.available == 0 && status.size >= status.max_size;
                if !exhausted {
                    return pool.get().await.map_err(Box::<dyn Error + Send + Sync>::from);
                }
                match tokio::time::timeout(DEFAULT_POOL_WAIT, pool.get()).await {
                    Ok(lent) => lent.map_err(Into::into),
                    Err(_) => Err("all connections of the pool are in use".into()),
                }
            }
        })
    }
}
