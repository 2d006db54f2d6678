//! The doorbell's listening half: how an idle reader sleeps without missing a commit.
//!
//! A writer tries a shared advisory lock that lasts until its rows are visible, and notifies only if
//! that fails. Held exclusively, the lock therefore means: whoever commits from now on rings, and
//! whoever did not ring is visible already. So a reader may sleep when a read that *began* while the
//! bell was armed has shown nothing, and the bell is armed still.
//!
//! One bell serves all pipelines of a process. It is a hint and never data: while its connection is
//! lost, or the trigger is not installed, readers poll.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{Client, Statement};
use tokio_util::sync::CancellationToken;

use crate::cause::Cause;
use crate::config::DatabaseConfig;
use crate::database::{DatabaseError, Session};
use crate::schema::{Schema, doorbell_installed};

/// In pg_stat_activity.
const SESSION_NAME: &str = "outbox-relay bell";

/// While arming fails (a writer is in its transaction, another process holds the lock) readers poll
/// anyway, so it is tried ever more rarely.
const ARM_PAUSE_MAX: Duration = Duration::from_millis(250);
/// How soon a dead connection, or a trigger that came or went, is noticed.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// A server that does not answer a ping by then is as good as gone.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
const RECONNECT_PAUSE_MIN: Duration = Duration::from_millis(50);
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(5);

/// What readers see of the bell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct State {
    /// Counts armings; `None`: a commit may not ring.
    armed: Option<u64>,
    /// Commits that rang, for this process or another one.
    rings: u64,
}

/// The bell of one process and database: run once, beside the pipelines.
#[derive(Debug)]
pub struct Bell {
    database: DatabaseConfig,
    schema: Schema,
    state: watch::Sender<State>,
    idle: Arc<Notify>,
}

/// A reader's end of the bell.
#[derive(Debug, Clone)]
pub struct BellHandle {
    state: watch::Receiver<State>,
    idle: Arc<Notify>,
}

/// Proof that a read began while the bell was armed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Armed(u64);

impl Bell {
    /// A bell that hangs nowhere yet, and the handle to clone for each reader.
    #[must_use]
    pub fn new(database: DatabaseConfig, schema: Schema) -> (Self, BellHandle) {
        let (state, receiver) = watch::channel(State::default());
        let idle = Arc::new(Notify::new());
        let handle = BellHandle { state: receiver, idle: Arc::clone(&idle) };
        (Self { database, schema, state, idle }, handle)
    }

    /// Serves the readers until it is cancelled, and comes back from every loss of its connection.
    ///
    /// Cancel safety: dropped at any point it leaves the readers polling; the server frees the lock
    /// with the session.
    pub async fn run(self, cancel: CancellationToken) {
        let serve = async {
            let mut pause = RECONNECT_PAUSE_MIN;
            let mut told = None;
            loop {
                let since = Instant::now();
                let Err(error) = self.session().await;
                self.disarmed();
                let error = Cause::of(&error).to_string();
                // A right that is missing is missing at every try: that is news once.
                if since.elapsed() > RECONNECT_PAUSE_MAX || told.as_ref() != Some(&error) {
                    tracing::warn!(error, "no doorbell: polling until it is back");
                    told = Some(error);
                }
                if since.elapsed() > RECONNECT_PAUSE_MAX {
                    pause = RECONNECT_PAUSE_MIN;
                }
                sleep(pause).await;
                pause = (pause * 2).min(RECONNECT_PAUSE_MAX);
            }
        };
        tokio::select! {
            () = cancel.cancelled() => {}
            () = serve => {}
        }
        self.disarmed();
    }

    /// One session, from its beginning to its loss.
    async fn session(&self) -> Result<std::convert::Infallible, SessionError> {
        let (rung, closed) = (Arc::new(Notify::new()), CancellationToken::new());
        // Dropped by the task that drives the connection, when the connection ends.
        let (ring, guard) = (Arc::clone(&rung), closed.clone().drop_guard());
        let on_notice = move |_: &str| {
            let _alive = &guard;
            ring.notify_one();
        };
        let session = Session::connect_notified(&self.database, SESSION_NAME, on_notice).await?;
        tokio::select! {
            () = closed.cancelled() => Err(SessionError::Closed),
            error = self.serve(&session, &rung) => error,
        }
    }

    async fn serve(
        &self,
        client: &Client,
        rung: &Notify,
    ) -> Result<std::convert::Infallible, SessionError> {
        let schema = &self.schema;
        let lock = answer(Lock::prepare(schema, client)).await?;
        let mut installed = answer(doorbell_installed(client, schema)).await?;
        let (mut armed, mut armings) = (false, 0);
        let mut arm_pause = Duration::ZERO;
        loop {
            tokio::select! {
                biased;
                () = rung.notified() => {
                    // The readers first: no commit waits for the unlocking. While it is under way another
                    // one rings in vain, and nobody sleeps before the bell was armed anew behind it.
                    self.state.send_modify(|state| *state = State { armed: None, rings: state.rings + 1 });
                    if armed {
                        answer(lock.release(client)).await?;
                        armed = false;
                    }
                }
                () = async { sleep(arm_pause).await; self.idle.notified().await }, if installed && !armed => {
                    armed = answer(lock.try_take(client)).await?;
                    arm_pause = if armed {
                        armings += 1;
                        self.state.send_modify(|state| state.armed = Some(armings));
                        Duration::ZERO
                    } else {
                        (arm_pause * 2).clamp(Duration::from_millis(1), ARM_PAUSE_MAX)
                    };
                }
                () = sleep(PING_INTERVAL) => {
                    installed = answer(doorbell_installed(client, schema)).await?;
                    if armed && !installed {
                        answer(lock.release(client)).await?;
                        armed = false;
                        self.disarmed();
                    }
                }
            }
        }
    }

    /// Wakes every sleeper: it may not be rung any more.
    fn disarmed(&self) {
        self.state.send_if_modified(|state| state.armed.take().is_some());
    }
}

impl BellHandle {
    /// Begins a watch: whether the bell is armed now. Called before the read that may be the last one.
    pub(super) fn watch(&mut self) -> Option<Armed> {
        self.state.borrow_and_update().armed.map(Armed)
    }

    /// Whether a commit would ring now.
    #[must_use]
    pub fn is_armed(&self) -> bool {
        self.state.borrow().armed.is_some()
    }

    /// Commits that rang so far.
    pub(super) fn rings(&self) -> u64 {
        self.state.borrow().rings
    }

    /// Whether the bell has been armed ever since.
    pub(super) fn still(&self, armed: Armed) -> bool {
        self.state.borrow().armed == Some(armed.0)
    }

    /// This reader is idle: arm the bell. The next change says whether it worked.
    pub(super) fn idle(&self) {
        self.idle.notify_one();
    }

    /// Waits until something has changed since [`watch`](Self::watch): armed, rung or lost.
    ///
    /// Cancel safety: a change stays until the next `watch`.
    pub(super) async fn changed(&mut self) {
        match self.state.changed().await {
            Ok(()) => self.state.mark_changed(),
            // Without a bell there is nothing to wait for.
            Err(_) => std::future::pending().await,
        }
    }
}

/// Why a session of the bell ended.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error("{0}")]
    Database(#[from] DatabaseError),
    #[error("the connection was closed")]
    Closed,
    #[error("the server does not answer")]
    Silent,
}

/// A statement of the bell is answered at once or not at all.
async fn answer<T>(
    statement: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, SessionError> {
    match timeout(ANSWER_TIMEOUT, statement).await {
        Ok(answer) => Ok(answer.map_err(DatabaseError::from)?),
        Err(_) => Err(SessionError::Silent),
    }
}

/// The bell's advisory lock, for this session.
struct Lock {
    k1: i32,
    k2: i32,
    take: Statement,
    release: Statement,
}

impl Lock {
    /// Listens first: what rings from now on is heard.
    async fn prepare(schema: &Schema, client: &Client) -> Result<Self, tokio_postgres::Error> {
        client.batch_execute(&format!("LISTEN \"{}\"", schema.bell_channel())).await?;
        let keys = schema.sql("SELECT k1, k2 FROM outbox.lock_key('@bell')");
        let row = client.query_one(&keys, &[]).await?;
        Ok(Self {
            k1: row.try_get(0)?,
            k2: row.try_get(1)?,
            take: client.prepare("SELECT pg_try_advisory_lock($1, $2)").await?,
            release: client.prepare("SELECT pg_advisory_unlock($1, $2)").await?,
        })
    }

    async fn try_take(&self, client: &Client) -> Result<bool, tokio_postgres::Error> {
        client.query_one(&self.take, &[&self.k1, &self.k2]).await?.try_get(0)
    }

    async fn release(&self, client: &Client) -> Result<(), tokio_postgres::Error> {
        client.query_one(&self.release, &[&self.k1, &self.k2]).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bell() -> (Bell, BellHandle) {
        let database = DatabaseConfig {
            url: String::new(),
            password: None,
            schema: String::new(),
            tls: crate::config::TlsConfig::default(),
            connect_timeout: Duration::ZERO,
            lock_timeout: Duration::ZERO,
            statement_timeout: Duration::ZERO,
        };
        Bell::new(database, Schema::default())
    }

    #[tokio::test]
    async fn only_a_read_that_began_behind_an_armed_bell_may_be_the_last() {
        let (bell, mut handle) = bell();
        // A read begins, the bell is armed (for another reader) while it is under way.
        assert_eq!(handle.watch(), None);
        bell.state.send_modify(|state| state.armed = Some(1));
        handle.changed().await;
        // The next one begins behind it, and a commit rings while it is under way.
        let armed = handle.watch().expect("it is armed");
        assert!(handle.still(armed));
        bell.state.send_modify(|state| *state = State { armed: None, rings: 1 });
        assert!(!handle.still(armed));
        // Armed again, it is another arming: what rang between the two has not been read.
        bell.state.send_modify(|state| state.armed = Some(2));
        assert!(!handle.still(armed));
        handle.changed().await;
    }

    #[tokio::test]
    async fn a_bell_that_ends_leaves_nobody_asleep() {
        let (bell, mut handle) = bell();
        bell.state.send_modify(|state| state.armed = Some(1));
        let armed = handle.watch().expect("it is armed");
        let cancel = CancellationToken::new();
        cancel.cancel();
        bell.run(cancel).await;
        assert!(!handle.still(armed));
        handle.changed().await;
    }
}
