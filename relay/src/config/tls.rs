//! `[….tls]`: how a connection is protected.

use super::raw::RawTls;
use super::section::Section;
use super::{TlsConfig, TlsMode};
use crate::tls::Kept;

/// Checks a `tls` table. `default` is the mode where none is written; `mode` of the result is what
/// holds.
pub(super) fn check(raw: &RawTls, default: TlsMode, s: &mut Section<'_>) -> TlsConfig {
    let modes = [("disable", TlsMode::Disable), ("verify-full", TlsMode::VerifyFull)];
    let mode = s.choice("mode", &raw.mode, &modes).unwrap_or(default);
    if mode == TlsMode::Disable {
        let files =
            [("ca_file", &raw.ca_file), ("cert_file", &raw.cert_file), ("key_file", &raw.key_file)];
        for (key, _) in files.iter().filter(|(_, value)| value.is_some()) {
            s.refuse_key(
                key,
                "has no effect while tls.mode is \"disable\"",
                "write mode = \"verify-full\", or take this key out",
            );
        }
        return TlsConfig { mode, ..TlsConfig::default() };
    }
    match (&raw.cert_file, &raw.key_file) {
        (Some(_), None) => s.missing("key_file", "\"client.key\""),
        (None, Some(_)) => s.missing("cert_file", "\"client.crt\""),
        _ => {}
    }
    let key_file = s.file("key_file", &raw.key_file);
    if let Some(path) = &key_file {
        s.secret_stands_in("key_file", path.clone());
    }
    TlsConfig {
        mode,
        ca_file: s.file("ca_file", &raw.ca_file),
        cert_file: s.file("cert_file", &raw.cert_file),
        key_file,
        kept: Kept::default(),
    }
}
