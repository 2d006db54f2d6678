//! What a layer does.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http::header::HeaderName;
use http::request::Parts;

use super::fingerprint::Fingerprint;
use super::key::{KeyFormat, Syntax};
use super::problem::DEFAULT_DOCUMENTATION;
use super::retain::DEFAULT_STORED_HEADERS;
use crate::connection::{Connection, ConnectionError, Connections};
use crate::idempotency::{Answer, DEFAULT_LEASE, DEFAULT_TTL, KeyTable, ResumeAt};
use crate::schema::Schema;

/// As axum's own limit: what a handler would refuse need not be read.
pub const DEFAULT_REQUEST_BODY_BYTES_MAX: usize = 2 * 1024 * 1024;

/// An answer to a command is small; what is larger belongs under a URL of its own.
pub const DEFAULT_RESPONSE_BODY_BYTES_MAX: usize = 256 * 1024;

/// The shortest that the header can say, and longer than an ordinary request takes.
pub const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(1);

/// Longer than an ordinary request takes, and shorter than the minute after which most proxies give
/// up. Without it a handler that hangs holds its connection for as long as it hangs, and ten of
/// them empty a pool.
pub const DEFAULT_HANDLER_TIMEOUT: Duration = Duration::from_secs(30);

/// Long enough to open a connection. A pool that is empty is not waited for that long: see
/// [`DEFAULT_POOL_WAIT`](crate::connection::DEFAULT_POOL_WAIT).
pub const DEFAULT_CONNECTION_WAIT: Duration = Duration::from_secs(5);

/// How a key is held while the handler works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// By the transaction of the effects, which the handler gets as the extension [`Tx`](super::Tx): they
    /// and the key commit together. It costs one connection for each request that runs.
    Transactional,
    /// By a lease, for effects outside the database; the handler gets the extension
    /// [`Steps`](crate::idempotency::Steps).
    Leased {
        /// So long after its process was lost an attempt may be overtaken. It is renewed while the
        /// handler runs.
        lease: Duration,
        /// From which recovery points lost work is taken up. From nowhere: a repetition is told
        /// that the outcome is unknown, until the key expires. A handler that failed is not lost:
        /// its work is taken up wherever it stopped (see [`Keep`](super::Keep)).
        resume_at: ResumeAt,
    },
}

impl Mode {
    /// A lease of [`DEFAULT_LEASE`], and lost work is never taken up.
    #[must_use]
    pub fn leased() -> Self {
        Self::Leased { lease: DEFAULT_LEASE, resume_at: ResumeAt::Nowhere }
    }
}

type Read = dyn Fn(&Parts) -> Option<String> + Send + Sync;
type OnReplay = dyn Fn(&Answer) + Send + Sync;

/// What a layer does.
pub(super) struct Policy {
    pub(super) connections: Connections,
    pub(super) table: KeyTable,
    pub(super) mode: Mode,
    pub(super) route: Arc<Read>,
    pub(super) principal: Option<Arc<Read>>,
    pub(super) anonymous: bool,
    pub(super) methods: Vec<Method>,
    pub(super) required: bool,
    pub(super) syntax: Syntax,
    pub(super) format: KeyFormat,
    pub(super) fingerprint: Fingerprint,
    pub(super) decoded_bytes_max: Option<usize>,
    pub(super) handler_timeout: Duration,
    pub(super) connection_wait: Duration,
    pub(super) ttl: Duration,
    pub(super) retry_after: Duration,
    pub(super) stored_headers: Vec<HeaderName>,
    pub(super) request_body_bytes_max: usize,
    pub(super) response_body_bytes_max: usize,
    pub(super) documentation: String,
    pub(super) on_replay: Option<Arc<OnReplay>>,
}

impl Policy {
    /// Everything as it is unless the builder is told otherwise.
    pub(super) fn new(connections: Connections, mode: Mode) -> Self {
        Self {
            connections,
            table: KeyTable::new(&Schema::default()),
            mode,
            route: Arc::new(|_| None),
            principal: None,
            anonymous: false,
            methods: vec![Method::POST, Method::PATCH],
            required: true,
            syntax: Syntax::default(),
            format: KeyFormat::default(),
            fingerprint: Fingerprint::default(),
            decoded_bytes_max: None,
            handler_timeout: DEFAULT_HANDLER_TIMEOUT,
            connection_wait: DEFAULT_CONNECTION_WAIT,
            ttl: DEFAULT_TTL,
            retry_after: DEFAULT_RETRY_AFTER,
            stored_headers: DEFAULT_STORED_HEADERS.to_vec(),
            request_body_bytes_max: DEFAULT_REQUEST_BODY_BYTES_MAX,
            response_body_bytes_max: DEFAULT_RESPONSE_BODY_BYTES_MAX,
            documentation: DEFAULT_DOCUMENTATION.to_owned(),
            on_replay: None,
        }
    }

    /// A connection for what a request begins with.
    pub(super) async fn lend(&self) -> Result<Box<dyn Connection>, ConnectionError> {
        self.connections.lend_within(self.connection_wait).await
    }

    /// A connection to record what has happened.
    pub(super) async fn lend_to_finish(&self) -> Result<Box<dyn Connection>, ConnectionError> {
        self.connections.lend_to_record().await
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy").field("mode", &self.mode).finish_non_exhaustive()
    }
}
