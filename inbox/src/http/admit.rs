//! Whether a request is let in, and under which key.

use bytes::Bytes;
use http::request::Parts;

use super::key;
use super::policy::Policy;
use super::problem::Problem;
use super::scope::{key_hash, scope};
use super::telemetry::{correlation_id, trace_id};
use crate::idempotency::KeyRequest;

/// The key of a request, and what it stands for.
#[derive(Debug)]
pub(super) struct Identity {
    scope: String,
    key: String,
    fingerprint: [u8; 32],
    /// For logs.
    pub(super) key_hash: String,
    pub(super) correlation_id: String,
    pub(super) trace_id: String,
}

impl Identity {
    /// As the table takes it.
    pub(super) fn request<'a>(&'a self, policy: &Policy) -> KeyRequest<'a> {
        KeyRequest {
            scope: &self.scope,
            key: &self.key,
            fingerprint: &self.fingerprint,
            ttl: policy.ttl,
        }
    }
}

/// The route of a request: what the policy says, or its path.
pub(super) fn route(policy: &Policy, parts: &Parts) -> String {
    (policy.route)(parts).unwrap_or_else(|| parts.uri.path().to_owned())
}

/// What can be said before the body is read: whose key it is. `None` if there is no key and none is needed.
pub(super) fn key_and_scope(
    policy: &Policy,
    route: &str,
    parts: &Parts,
) -> Result<Option<(String, String)>, Problem> {
    let Some(key) =
        key::parse(&parts.headers, policy.syntax, policy.format).map_err(Problem::KeyInvalid)?
    else {
        return if policy.required { Err(Problem::KeyMissing) } else { Ok(None) };
    };
    let principal = policy.principal.as_ref().and_then(|principal| principal(parts));
    let scope = match principal.as_deref() {
        // An empty name is nobody's: it must not become the scope of all who have none.
        Some(principal) if !principal.is_empty() => scope(&parts.method, route, principal),
        _ if policy.anonymous => scope(&parts.method, route, ""),
        _ => return Err(Problem::PrincipalMissing),
    };
    Ok(Some((key, scope)))
}

/// The identity of a request whose body is read.
pub(super) async fn identity(
    policy: &Policy,
    (key, scope): (String, String),
    parts: &Parts,
    body: &Bytes,
) -> Result<Identity, Problem> {
    Ok(Identity {
        fingerprint: policy.fingerprint.digest(parts, body, policy.decoded_bytes_max).await?,
        key_hash: key_hash(&key),
        correlation_id: correlation_id(&parts.headers).to_owned(),
        trace_id: trace_id(&parts.headers).to_owned(),
        scope,
        key,
    })
}
