//! Where connections come from: a pool of the application's, or whatever opens one.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio_postgres::Client;

/// One connection, for as long as it is held. Dropping it gives it back.
pub trait Connection: Send + Sync {
    /// The client of it.
    fn client(&self) -> &Client;
}

/// Something that hands out connections.
///
/// ```
/// use outbox_inbox::connection::Connections;
///
/// # async fn connect() -> Result<tokio_postgres::Client, tokio_postgres::Error> { unimplemented!() }
/// let connections = Connections::new(connect);
/// ```
///
/// With the feature `deadpool` it is made `From` a `deadpool_postgres::Pool`.
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
}

#[cfg(feature = "deadpool")]
impl From<deadpool_postgres::Pool> for Connections {
    fn from(pool: deadpool_postgres::Pool) -> Self {
        Self::new(move || {
            let pool = pool.clone();
            async move { pool.get().await }
        })
    }
}
