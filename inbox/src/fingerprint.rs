//! What must be equal in two deliveries of one message: payload, key, topic, type.

use sha2::{Digest, Sha256};

/// 128 bits: two messages under one id are a mistake, never an attack on this hash.
pub(crate) const FINGERPRINT_BYTES: usize = 16;

/// Changes with what is compared, so that another rule is never taken for another message.
const RULE: &[u8] = b"outbox-inbox fingerprint 1";

/// The first 16 bytes of the SHA-256 over the rule's name and four fields, each as one byte (0 absent,
/// 1 present) and, if present, its length (8 bytes, big-endian) and its bytes.
pub(crate) fn fingerprint(
    topic: Option<&[u8]>,
    kind: Option<&[u8]>,
    key: Option<&[u8]>,
    payload: Option<&[u8]>,
) -> [u8; FINGERPRINT_BYTES] {
    let mut hash = Sha256::new_with_prefix(RULE);
    for field in [topic, kind, key, payload] {
        match field {
            None => hash.update([0]),
            Some(bytes) => {
                hash.update([1]);
                hash.update((bytes.len() as u64).to_be_bytes());
                hash.update(bytes);
            }
        }
    }
    let mut short = [0; FINGERPRINT_BYTES];
    short.copy_from_slice(&hash.finalize()[..FINGERPRINT_BYTES]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_counts_and_none_runs_into_the_next() {
        let of =
            |fields: [Option<&[u8]>; 4]| fingerprint(fields[0], fields[1], fields[2], fields[3]);
        let (a, b, ab) = (Some(&b"a"[..]), Some(&b"b"[..]), Some(&b"ab"[..]));
        let all = [
            of([a, b, a, b]),
            of([b, b, a, b]),
            of([a, a, a, b]),
            of([a, b, b, b]),
            of([a, b, a, a]),
            of([a, b, a, None]),
            of([a, b, a, Some(b"")]),
            of([ab, Some(b""), a, b]),
            of([Some(b""), ab, a, b]),
        ];
        for (n, one) in all.iter().enumerate() {
            assert!(!all[n + 1..].contains(one), "{n}");
        }
        assert_eq!(of([a, b, a, b]), all[0]);
    }
}
