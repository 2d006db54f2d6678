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
use crate::connection::Connections;
use crate::idempotency::{Answer, DEFAULT_LEASE, DEFAULT_TTL, KeyTable, ResumeAt};
use crate::schema::Schema;

/// As axum's own limit: what a handler would refuse need not be read.
pub const DEFAULT_REQUEST_BODY_BYTES_MAX: usize = 2 * 1024 * 1024;

/// An answer to a command is small; what is larger belongs under a URL of its own.
pub const DEFAULT_RESPONSE_BODY_BYTES_MAX: usize = 256 * 1024;

/// The shortest that the header can say, and longer than an ordinary request takes.
pub const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(1);

/// How a key is held while the handler works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// By the transaction of the effects, which the handler gets as the extension [`Tx`](super::Tx): they
    /// and the key commit together. It costs one connection for each request that runs.
    Transactional,
    /// By a lease, for effects outside the database; the handler gets the extension
    /// [`Steps`](crate::idempotency::Steps).
    Leased {
        /// Longer than the handler ever takes: what takes longer is overtaken.
        lease: Duration,
        /// From which recovery points lost work is taken up. From nowhere: a repetition is told that
        /// the outcome is unknown, until the key expires.
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
            ttl: DEFAULT_TTL,
            retry_after: DEFAULT_RETRY_AFTER,
            stored_headers: DEFAULT_STORED_HEADERS.to_vec(),
            request_body_bytes_max: DEFAULT_REQUEST_BODY_BYTES_MAX,
            response_body_bytes_max: DEFAULT_RESPONSE_BODY_BYTES_MAX,
            documentation: DEFAULT_DOCUMENTATION.to_owned(),
            on_replay: None,
        }
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy").field("mode", &self.mode).finish_non_exhaustive()
    }
}
