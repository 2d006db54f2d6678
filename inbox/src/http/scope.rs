//! Whose key it is: method, route and principal.

use http::Method;
use sha2::{Digest, Sha256};

use crate::idempotency::SCOPE_BYTES_MAX;

/// The scope of a principal's keys on one route: `POST /payments 1f8c…`.
///
/// The principal stands in it as the first half of its SHA-256: what identifies somebody may be an
/// address, and is none of the table's business. Support finds a customer's keys by this function.
#[must_use]
pub fn scope(method: &Method, route: &str, principal: &str) -> String {
    let whose = hex(&Sha256::digest(principal.as_bytes())[..16]);
    let text = format!("{method} {route} {whose}");
    if text.len() <= SCOPE_BYTES_MAX {
        return text;
    }
    format!("{method} sha256:{} {whose}", hex(&Sha256::digest(route.as_bytes())))
}

/// The key as logs have it: enough to find it again by who has it, useless to who has not.
pub(super) fn key_hash(key: &str) -> String {
    hex(&Sha256::digest(key.as_bytes())[..8])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn method_route_and_principal_make_a_scope() {
        let of = |method, route, principal| scope(&method, route, principal);
        let first = of(Method::POST, "/payments", "ada@example.com");
        assert_eq!(first, "POST /payments b5fc85e55755f9e0d030a10ab4429b6b");
        assert_ne!(first, of(Method::PATCH, "/payments", "ada@example.com"));
        assert_ne!(first, of(Method::POST, "/refunds", "ada@example.com"));
        assert_ne!(first, of(Method::POST, "/payments", "bob@example.com"));
    }

    #[test]
    fn a_long_route_fits_the_column() {
        let long = |end: &str| scope(&Method::POST, &format!("/{}{end}", "x".repeat(500)), "p");
        assert!(long("a").len() <= SCOPE_BYTES_MAX);
        assert_ne!(long("a"), long("b"));
    }
}
