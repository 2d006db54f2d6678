//! `Idempotency-Key` for HTTP: a tower layer for axum, hyper and whatever speaks `http`.
//!
//! ```text
//!  auth, rate limit, validation ──► layer ──► handler
//!                                     │ key, scope, fingerprint
//!                                     │ 400 missing or malformed · 409 in flight · 422 another request
//!                                     │ 503 no connection to be had
//!                                     └ stored answer, Idempotent-Replayed: true
//! ```
//!
//! ```
//! use axum::{Extension, Router, routing::post};
//! use outbox_inbox::connection::Connections;
//! use outbox_inbox::http::{IdempotencyLayer, Mode, Tx};
//!
//! #[derive(Clone)]
//! struct Account(String); // put there by the authentication
//!
//! async fn pay(Extension(tx): Extension<Tx>) -> Result<&'static str, &'static str> {
//!     tx.execute("INSERT INTO payments (amount) VALUES (10)", &[]).await.map_err(|_| "no payment")?;
//!     Ok("paid")
//! }
//!
//! fn app(connections: Connections) -> Router {
//!     let layer = IdempotencyLayer::builder(connections, Mode::Transactional)
//!         .route("/payments")
//!         .principal(|parts| Some(parts.extensions.get::<Account>()?.0.clone()))
//!         .build()
//!         .expect("the layer has a route and a principal");
//!     Router::new().route("/payments", post(pay)).layer(layer)
//! }
//! ```
//!
//! What it stores is a scope with the principal's hash, the key, a digest of the request, and the
//! answer: status, listed headers, a body of bounded size. What it logs of a key is a hash.
//!
//! A client that goes away does not stop its handler: it runs on a task that the layer owns, for as
//! long as [`Builder::handler_timeout`] lets it. [`IdempotencyLayer::drain`] waits for those before
//! the process ends.

mod admit;
mod body;
mod builder;
mod fingerprint;
mod handle;
mod json;
mod key;
mod layer;
mod leased;
mod policy;
mod problem;
mod replay;
mod retain;
mod scope;
pub(crate) mod telemetry;
mod transaction;
mod transactional;

pub use body::ReplyBody;
pub use builder::{BuildError, Builder, RESPONSE_BODY_BYTES_LIMIT};
pub use fingerprint::{Fingerprint, Rule};
pub use json::JSON_DEPTH_MAX;
pub use key::{IDEMPOTENCY_KEY, KeyFormat, Syntax};
pub use layer::{Idempotency, IdempotencyLayer};
pub use policy::{
    DEFAULT_CONNECTION_WAIT, DEFAULT_HANDLER_TIMEOUT, DEFAULT_REQUEST_BODY_BYTES_MAX,
    DEFAULT_RESPONSE_BODY_BYTES_MAX, DEFAULT_RETRY_AFTER, Mode,
};
pub use problem::DEFAULT_DOCUMENTATION;
pub use replay::IDEMPOTENT_REPLAYED;
pub use retain::{DEFAULT_STORED_HEADERS, Keep, STORED_HEADERS_BYTES_MAX, Unretained};
pub use scope::scope;
pub use telemetry::{LEASE_LOST, REQUESTS, UNRECORDED};
pub use transaction::Tx;

/// The page, so that its examples are compiled.
#[cfg(doctest)]
#[doc = include_str!("../../docs/idempotency-http.md")]
struct Page;
