//! Connections to PostgreSQL: how they are made, what every session is set to, which server they
//! show.

use std::borrow::Cow;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::str::FromStr;
use std::time::Duration;

use secrecy::ExposeSecret;
use tokio::task::JoinSet;
use tokio_postgres::config::{SslMode, TargetSessionAttrs};
use tokio_postgres::tls::{MakeTlsConnect, NoTlsStream, TlsStream};
use tokio_postgres::{AsyncMessage, Client, Connection, NoTls, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use self::refusal::{is_about_password, refusal};
use crate::config::{DatabaseConfig, TlsMode};
use crate::secret::Secret;
use crate::tls::{self, TlsError};

mod deadline;
mod pooler;
pub mod reaction;
mod refusal;
mod remedy;

pub use deadline::{Deadline, Silent};
pub use pooler::{POOLER_HINT, pooler, refuse_pooler};
pub use reaction::{Reaction, ends_session, reaction};
pub use remedy::{describe, remedy};

/// A session, with the task that drives it. Dropping it closes the connection.
#[derive(Debug)]
pub struct Session {
    client: Client,
    deadline: Deadline,
    /// The task that moves the bytes; it ends when the connection does.
    driver: JoinSet<()>,
}

/// Which of several hosts is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Host {
    /// The first that takes writes: after a failover the standby answers as well.
    Writable,
    /// The first that answers.
    Any,
}

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// Not now: it is down, restarting, out of connections, or the network is.
    #[error("database unavailable: {0}")]
    Unavailable(String),
    /// It will not work until a person has changed something.
    #[error("database: {reason}\nhint: {hint}")]
    Configuration {
        /// What the server (or the TLS library) said.
        reason: String,
        /// What the operator can do.
        hint: Cow<'static, str>,
    },
    /// One statement failed; the session is as good as before.
    #[error("{reason}{}", as_hint(.hint.as_deref()))]
    Statement {
        /// What it calls for: `Again`, `Resources`, `Refused` or `Data`.
        reaction: Reaction,
        /// What the server said.
        reason: String,
        /// What the operator can do, where waiting is not all there is.
        hint: Option<Cow<'static, str>>,
    },
}

impl DatabaseError {
    /// What it calls for.
    #[must_use]
    pub fn reaction(&self) -> Reaction {
        match self {
            Self::Unavailable(_) => Reaction::Reconnect,
            Self::Configuration { .. } => Reaction::Misfit,
            Self::Statement { reaction, .. } => *reaction,
        }
    }
}

fn as_hint(hint: Option<&str>) -> String {
    hint.map_or_else(String::new, |hint| format!("\nhint: {hint}"))
}

/// What identifies one server at one time. All connections of a pipeline must show the same, or it
/// could read from one server and mark on another, behind an address that moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerIdentity {
    system_identifier: i64,
    timeline: String,
    started_at: String,
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

impl Session {
    /// Connects and sets the session up.
    ///
    /// Cancel safety: dropping the future leaves no connection behind.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub async fn connect(config: &DatabaseConfig, name: &str) -> Result<Self, DatabaseError> {
        Self::connect_notified(config, name, |_| {}).await
    }

    /// Like `connect`, and calls `on_notice` with the channel of each notification that comes.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub async fn connect_notified(
        config: &DatabaseConfig,
        name: &str,
        on_notice: impl Fn(&str) + Send + 'static,
    ) -> Result<Self, DatabaseError> {
        let session = Self::open(config, name, Host::Writable, on_notice).await?;
        within(config.connect_timeout, session.set_up(config)).await?;
        Ok(session)
    }

    /// Connects to the first host that answers, be it a standby: for those who look at it.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub async fn connect_any(config: &DatabaseConfig, name: &str) -> Result<Self, DatabaseError> {
        let session = Self::open(config, name, Host::Any, |_| {}).await?;
        within(config.connect_timeout, session.set_up(config)).await?;
        Ok(session)
    }

    async fn open(
        config: &DatabaseConfig,
        name: &str,
        host: Host,
        on_notice: impl Fn(&str) + Send + 'static,
    ) -> Result<Self, DatabaseError> {
        let mut driver = client_config(config, name, host)?;
        // One after the other: hosts that are away leave the last one its time.
        let hosts = u32::try_from(driver.get_hosts().len()).unwrap_or(1).max(1);
        // Boxed, since the handshakes are large and every future that connects would be.
        let connecting = Box::pin(async {
            match log_in(config, &mut driver).await? {
                LoggedIn::Plain(link) => Ok(drive(config, *link, on_notice)),
                LoggedIn::Encrypted(link) => Ok(drive(config, *link, on_notice)),
            }
        });
        // The driver's own time-out covers one address and not the handshake that follows.
        within(config.connect_timeout * hosts, connecting).await
    }

    /// The limit of a statement on this connection.
    #[must_use]
    pub fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// Waits until the connection has ended.
    ///
    /// Cancel safety: yes.
    pub async fn ended(&mut self) {
        self.driver.join_next().await;
    }

    async fn set_up(&self, config: &DatabaseConfig) -> Result<(), DatabaseError> {
        // row_security = off turns a policy that hides rows into an error: hidden rows would be lost.
        // SERIALIZABLE as somebody's default would end reads and marks at random, each with duplicates.
        let settings = format!(
            "SET lock_timeout = {}; SET statement_timeout = {}; \
             SET idle_in_transaction_session_timeout = '30s'; SET row_security = off; \
             SET search_path = pg_catalog; SET client_min_messages = warning; \
             SET timezone = 'UTC'; SET jit = off; SET default_transaction_read_only = off; \
             SET default_transaction_isolation = 'read committed'",
            config.lock_timeout.as_millis(),
            config.statement_timeout.as_millis(),
        );
        Ok(self.client.batch_execute(&settings).await?)
    }

    /// Which server this is. A standby is no server for a relay: nothing can be marked there.
    ///
    /// # Errors
    /// `Unavailable` for a standby or a lost connection.
    pub async fn identity(&self) -> Result<ServerIdentity, DatabaseError> {
        let recovering = self.client.query_one("SELECT pg_is_in_recovery()", &[]);
        let recovering: bool = self.deadline.answer(recovering).await??.try_get(0)?;
        if recovering {
            return Err(DatabaseError::Unavailable("the server is a standby".into()));
        }
        let row = self.deadline.answer(self.client.query_one(IDENTITY, &[])).await??;
        Ok(ServerIdentity {
            system_identifier: row.try_get(0)?,
            timeline: row.try_get(1)?,
            started_at: row.try_get(2)?,
        })
    }
}

/// What belongs to connecting, and is given up together with it.
async fn within<T>(
    limit: Duration,
    part: impl Future<Output = Result<T, DatabaseError>>,
) -> Result<T, DatabaseError> {
    let passed = || DatabaseError::Unavailable("connect_timeout passed".into());
    tokio::time::timeout(limit, part).await.map_err(|_| passed())?
}

// The timeline changes at a promotion, the start time at a restart; both without a new system.
const IDENTITY: &str = "
SELECT system_identifier,
       left(pg_walfile_name(pg_current_wal_insert_lsn()), 8),
       pg_postmaster_start_time()::text
FROM pg_control_system()";

fn client_config(
    config: &DatabaseConfig,
    name: &str,
    host: Host,
) -> Result<tokio_postgres::Config, DatabaseError> {
    let mut client = tokio_postgres::Config::from_str(&config.url).map_err(|error| {
        let reason = error.to_string();
        DatabaseError::Configuration {
            reason,
            hint: "write database.url as postgres://user@host:port/database".into(),
        }
    })?;
    // Without it the driver goes on in plain text where a server, or whoever is in between, declines.
    client.ssl_mode(match config.tls.mode {
        TlsMode::VerifyFull => SslMode::Require,
        TlsMode::Disable if client.get_ssl_mode() == SslMode::Require => {
            return Err(DatabaseError::Configuration {
                reason: "the url says sslmode=require, and TLS is off".into(),
                hint: "--tls or --ca-file; in a configuration mode = \"verify-full\" under [database.tls]"
                    .into(),
            });
        }
        TlsMode::Disable => SslMode::Disable,
    });
    // Where there is a choice only: asked of a single host, a database whose default is read-only (which
    // every session here overrules) would be refused as well.
    if host == Host::Writable && client.get_hosts().len() > 1 {
        client.target_session_attrs(TargetSessionAttrs::ReadWrite);
    } else {
        client.target_session_attrs(TargetSessionAttrs::Any);
    }
    client
        .application_name(name)
        .connect_timeout(config.connect_timeout)
        // Without these a server that vanished is noticed after two hours.
        .keepalives(true)
        .keepalives_idle(Duration::from_secs(5))
        .keepalives_interval(Duration::from_secs(2))
        .keepalives_retries(3)
        .tcp_user_timeout(Duration::from_secs(10));
    Ok(client)
}

/// A client and its connection, which nothing drives yet.
type Link<T> = Box<(Client, Connection<Socket, T>)>;

enum LoggedIn {
    Plain(Link<NoTlsStream>),
    Encrypted(Link<<MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>),
}

/// Connects with the password as it is now: its file is read for each connection, and where the
/// server refuses what stands there, the password that it accepted before is tried.
async fn log_in(
    config: &DatabaseConfig,
    driver: &mut tokio_postgres::Config,
) -> Result<LoggedIn, DatabaseError> {
    let passwords = config.password.as_ref().map_or_else(Vec::new, Secret::candidates);
    let mut passwords = passwords.into_iter().peekable();
    loop {
        let password = passwords.next();
        if let Some(password) = &password {
            driver.password(password.expose_secret());
        }
        let connected = match config.tls.mode {
            TlsMode::Disable => {
                driver.connect(NoTls).await.map(|link| LoggedIn::Plain(Box::new(link)))
            }
            TlsMode::VerifyFull => {
                let tls = MakeRustlsConnect::new(tls::client_config(&config.tls)?);
                driver.connect(tls).await.map(|link| LoggedIn::Encrypted(Box::new(link)))
            }
        };
        match (connected, &config.password, password) {
            (Ok(link), Some(secret), Some(password)) => {
                secret.accepted(&password);
                return Ok(link);
            }
            (Ok(link), ..) => return Ok(link),
            (Err(error), ..) if is_about_password(&error) && passwords.peek().is_some() => {}
            (Err(error), ..) => return Err(refusal(config, &error)),
        }
    }
}

fn drive<T>(
    config: &DatabaseConfig,
    (client, mut connection): (Client, Connection<Socket, T>),
    on_notice: impl Fn(&str) + Send + 'static,
) -> Session
where
    T: TlsStream + Unpin + Send + 'static,
{
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        // An error ends the connection, and every query of the client says so.
        while let Some(Ok(message)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notification(notification) = message {
                on_notice(notification.channel());
            }
        }
    });
    Session { client, deadline: Deadline::new(config), driver }
}

impl From<TlsError> for DatabaseError {
    fn from(error: TlsError) -> Self {
        Self::Configuration {
            reason: error.to_string(),
            hint: "check the files under [database.tls]".into(),
        }
    }
}

impl From<tokio_postgres::Error> for DatabaseError {
    fn from(error: tokio_postgres::Error) -> Self {
        let (reason, hint) = (describe(&error), remedy(&error));
        match reaction(&error) {
            Reaction::Permission | Reaction::Misfit => {
                Self::Configuration { reason, hint: hint.unwrap_or_default() }
            }
            _ if ends_session(&error) => {
                Self::Unavailable(format!("{reason}{}", as_hint(hint.as_deref())))
            }
            reaction => Self::Statement { reaction, reason, hint },
        }
    }
}
