//! Makes a layer, and refuses one that would protect nobody.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderName;
use http::request::Parts;
use http::{HeaderValue, Method, Uri};

use super::fingerprint::Fingerprint;
use super::key::{KeyFormat, Syntax};
use super::layer::IdempotencyLayer;
use super::policy::{Mode, Policy};
use super::retain::may_be_stored;
use crate::connection::Connections;
use crate::idempotency::{Answer, KeyTable};
use crate::schema::Schema;

/// As the table's CHECK has it.
pub const RESPONSE_BODY_BYTES_LIMIT: usize = 1024 * 1024;

/// Makes a layer.
#[must_use]
pub struct Builder {
    policy: Policy,
    route_given: bool,
}

/// Why a layer cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// Two clients with the same key would get each other's answers.
    #[error(
        "nothing says whose a request is\nhint: give .principal(…), or say .allow_anonymous_scope()"
    )]
    NoPrincipal,
    /// A key belongs to a route, and metrics are labelled with it.
    #[error("nothing says which route a request is on\nhint: give .route(…) or .route_by(…)")]
    NoRoute,
    /// A credential, a cookie, or what belongs to one connection.
    #[error("the header {0} must never be stored")]
    ForbiddenHeader(String),
    /// More than the table takes.
    #[error("a stored body of {0} bytes is too large\nhint: at most 1048576")]
    BodyTooLarge(usize),
    /// No handler ends in no time.
    #[error("the handler's time limit is zero")]
    NoTime,
    /// A key that is forgotten while its lease lasts would be used twice.
    #[error("the lease is zero, or longer than the key is kept")]
    Lease,
    /// It does not begin with a slash.
    #[error("{0:?} is not a JSON pointer\nhint: it begins with /")]
    Pointer(String),
    /// It is not an absolute URL, or has a fragment already.
    #[error("{0:?} cannot be the address of the documentation\nhint: an absolute URL without #")]
    Documentation(String),
}

impl Builder {
    pub(super) fn new(connections: Connections, mode: Mode) -> Self {
        Self { policy: Policy::new(connections, mode), route_given: false }
    }

    /// The route that the layer is put on, such as `/accounts/{id}/payments`.
    pub fn route(self, route: impl Into<String>) -> Self {
        let route = route.into();
        self.route_by(move |_| Some(route.clone()))
    }

    /// The route of each request, for a layer on many; the request's path where there is none. Metrics
    /// have it as a label, so it should be the pattern and not the path: axum's `MatchedPath`.
    pub fn route_by(
        mut self,
        route: impl Fn(&Parts) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.policy.route = Arc::new(route);
        self.route_given = true;
        self
    }

    /// Whose a request is: the account or the client that was authenticated outside of this layer.
    /// It is stored as a hash. Where there is nobody, the request is refused.
    pub fn principal(
        mut self,
        principal: impl Fn(&Parts) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.policy.principal = Some(Arc::new(principal));
        self
    }

    /// All who are nobody share one scope: whoever guesses a key gets the answer to it.
    pub fn allow_anonymous_scope(mut self) -> Self {
        self.policy.anonymous = true;
        self
    }

    /// The methods that the layer looks at; POST and PATCH unless said otherwise.
    pub fn methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.policy.methods = methods.into_iter().collect();
        self
    }

    /// Requests without a key are done, and not protected. In the transactional mode they have their
    /// transaction all the same.
    pub fn optional(mut self) -> Self {
        self.policy.required = false;
        self
    }

    /// How the header may be written; [`Syntax::Strict`] unless said otherwise.
    pub fn syntax(mut self, syntax: Syntax) -> Self {
        self.policy.syntax = syntax;
        self
    }

    /// What a key may look like; anything unless said otherwise.
    pub fn key_format(mut self, format: KeyFormat) -> Self {
        self.policy.format = format;
        self
    }

    /// What makes two requests the same; the whole body unless said otherwise.
    pub fn fingerprint(mut self, fingerprint: Fingerprint) -> Self {
        self.policy.fingerprint = fingerprint;
        self
    }

    /// Undoes the content codings `gzip` and `deflate` before the fingerprint is made, up to so
    /// many bytes: for clients that compress each attempt anew. More bytes are refused with 413.
    /// The handler gets the body as it came. Unless it is called, codings stay as they are.
    pub fn undo_content_coding(mut self, decoded_bytes_max: usize) -> Self {
        self.policy.decoded_bytes_max = Some(decoded_bytes_max);
        self
    }

    /// The longest that a handler runs, the reading of its answer included;
    /// [`DEFAULT_HANDLER_TIMEOUT`](super::DEFAULT_HANDLER_TIMEOUT) unless said otherwise. Then its
    /// future is dropped and the client gets 503 with `Retry-After`: in the transactional mode
    /// everything is rolled back (a statement of the handler's gets this time at most, by
    /// `statement_timeout`), in the leased mode the next request under the key goes on at the
    /// recovery point.
    pub fn handler_timeout(mut self, timeout: Duration) -> Self {
        self.policy.handler_timeout = timeout;
        self
    }

    /// The longest wait for a connection, after which a request is refused with 503 and
    /// `Retry-After`; [`DEFAULT_CONNECTION_WAIT`](super::DEFAULT_CONNECTION_WAIT) unless said
    /// otherwise. A `deadpool` pool with nothing left is waited for no longer than
    /// [`DEFAULT_POOL_WAIT`](crate::connection::DEFAULT_POOL_WAIT).
    pub fn connection_wait(mut self, wait: Duration) -> Self {
        self.policy.connection_wait = wait;
        self
    }

    /// For how long a key and its answer are kept. Publish it: a client must not repeat after that.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.policy.ttl = ttl;
        self
    }

    /// What `Retry-After` says when another attempt is worth it; whole seconds, at least one. While
    /// another attempt has a lease on the key, it says what is left of that.
    pub fn retry_after(mut self, retry_after: Duration) -> Self {
        self.policy.retry_after = retry_after;
        self
    }

    /// One more header that is kept with an answer, beside
    /// [`DEFAULT_STORED_HEADERS`](super::DEFAULT_STORED_HEADERS).
    pub fn store_header(mut self, name: HeaderName) -> Self {
        self.policy.stored_headers.push(name);
        self
    }

    /// The largest request that is read. A larger one is refused with 413.
    pub fn request_body_bytes_max(mut self, bytes: usize) -> Self {
        self.policy.request_body_bytes_max = bytes;
        self
    }

    /// The largest body that is kept, at most [`RESPONSE_BODY_BYTES_LIMIT`]. A larger one is given once.
    pub fn response_body_bytes_max(mut self, bytes: usize) -> Self {
        self.policy.response_body_bytes_max = bytes;
        self
    }

    /// Where a client's author reads about keys: `type` of every problem, with its code behind a `#`.
    pub fn documentation(mut self, url: impl Into<String>) -> Self {
        self.policy.documentation = url.into();
        self
    }

    /// The schema that holds the inbox.
    pub fn schema(mut self, schema: &Schema) -> Self {
        self.policy.table = KeyTable::new(schema);
        self
    }

    /// Called with every answer that is given again, before it is.
    pub fn on_replay(mut self, hook: impl Fn(&Answer) + Send + Sync + 'static) -> Self {
        self.policy.on_replay = Some(Arc::new(hook));
        self
    }

    /// The layer.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub fn build(self) -> Result<IdempotencyLayer, BuildError> {
        let policy = self.policy;
        if policy.principal.is_none() && !policy.anonymous {
            return Err(BuildError::NoPrincipal);
        }
        if !self.route_given {
            return Err(BuildError::NoRoute);
        }
        if let Some(name) = policy.stored_headers.iter().find(|name| !may_be_stored(name)) {
            return Err(BuildError::ForbiddenHeader(name.to_string()));
        }
        if policy.response_body_bytes_max > RESPONSE_BODY_BYTES_LIMIT {
            return Err(BuildError::BodyTooLarge(policy.response_body_bytes_max));
        }
        if policy.handler_timeout.is_zero() {
            return Err(BuildError::NoTime);
        }
        if let Mode::Leased { lease, .. } = policy.mode
            && (lease.is_zero() || lease > policy.ttl)
        {
            return Err(BuildError::Lease);
        }
        if let Fingerprint::Pointers(pointers) = &policy.fingerprint
            && let Some(odd) = pointers.iter().find(|pointer| !pointer.starts_with('/'))
        {
            return Err(BuildError::Pointer(odd.clone()));
        }
        if !is_address(&policy.documentation) {
            return Err(BuildError::Documentation(policy.documentation));
        }
        Ok(IdempotencyLayer::new(policy))
    }
}

/// A code is to go behind it, and the whole into a header.
fn is_address(url: &str) -> bool {
    let absolute = url.parse::<Uri>().is_ok_and(|uri| uri.scheme().is_some());
    absolute && !url.contains(['#', '<', '>']) && HeaderValue::from_str(url).is_ok()
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.policy.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use http::header::SET_COOKIE;

    use super::*;

    fn builder(mode: Mode) -> Builder {
        let nowhere =
            Connections::new(|| async { Err::<tokio_postgres::Client, _>("no database") });
        Builder::new(nowhere, mode).route("/payments").principal(|_| Some("ada".into()))
    }

    fn refusal(builder: Builder) -> BuildError {
        let Err(refusal) = builder.build() else { panic!("it protects nobody") };
        refusal
    }

    #[test]
    fn a_layer_without_principal_or_route_is_refused() {
        let bare = || {
            let nowhere = Connections::new(|| async { Err::<tokio_postgres::Client, _>("none") });
            Builder::new(nowhere, Mode::Transactional)
        };
        assert_eq!(refusal(bare().route("/payments")), BuildError::NoPrincipal);
        assert_eq!(refusal(bare().allow_anonymous_scope()), BuildError::NoRoute);
        assert!(bare().route("/payments").allow_anonymous_scope().build().is_ok());
    }

    #[test]
    fn what_must_not_be_stored_cannot_be_asked_for() {
        let asked = builder(Mode::Transactional).store_header(SET_COOKIE);
        assert_eq!(refusal(asked), BuildError::ForbiddenHeader("set-cookie".into()));
        let large =
            builder(Mode::Transactional).response_body_bytes_max(RESPONSE_BODY_BYTES_LIMIT + 1);
        assert_eq!(refusal(large), BuildError::BodyTooLarge(RESPONSE_BODY_BYTES_LIMIT + 1));
    }

    #[test]
    fn a_handler_has_time() {
        let hasty = builder(Mode::Transactional).handler_timeout(Duration::ZERO);
        assert_eq!(refusal(hasty), BuildError::NoTime);
    }

    #[test]
    fn a_lease_ends_before_its_key() {
        let leased = builder(Mode::leased());
        assert_eq!(refusal(leased.ttl(Duration::from_secs(59))), BuildError::Lease);
        assert!(builder(Mode::leased()).build().is_ok());
    }

    #[test]
    fn pointers_and_addresses_are_checked() {
        let pointers = Fingerprint::Pointers(vec!["amount".into()]);
        let asked = builder(Mode::Transactional).fingerprint(pointers);
        assert_eq!(refusal(asked), BuildError::Pointer("amount".into()));
        for url in ["docs", "https://a/#b", "https://a/>"] {
            let asked = builder(Mode::Transactional).documentation(url);
            assert_eq!(refusal(asked), BuildError::Documentation(url.into()));
        }
    }
}
