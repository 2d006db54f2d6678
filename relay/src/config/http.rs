//! `[http]`: where the daemon answers probes and Prometheus.

use std::io;
use std::net::SocketAddr;

use super::raw::RawHttp;
use super::section::Section;
use super::{ConfigError, HttpConfig, Problem};

const HINT: &str = "write an address and a port, such as \"127.0.0.1:9464\" or \"[::]:9464\"";

/// `None`: nothing listens.
pub(super) fn check(raw: &RawHttp, s: &mut Section<'_>) -> Option<HttpConfig> {
    let text = s.text("listen", &raw.listen)?;
    match text.parse::<SocketAddr>() {
        Ok(listen) => Some(HttpConfig { listen, place: s.value_place("listen") }),
        // A name may stand for several addresses, and which of them is meant is not told by it.
        Err(_) => {
            s.refuse("listen", "not an address with a port", HINT);
            None
        }
    }
}

impl HttpConfig {
    /// The error of a daemon that cannot listen there.
    #[must_use]
    pub fn refused(&self, error: &io::Error) -> ConfigError {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "something else listens there, another relay perhaps: write a port that is free"
            }
            io::ErrorKind::AddrNotAvailable => "write an address of this machine, or 0.0.0.0",
            io::ErrorKind::PermissionDenied => "write a port above 1023",
            _ => HINT,
        };
        ConfigError::new(vec![Problem {
            place: self.place.clone(),
            key: "http.listen".to_owned(),
            value: Some(format!("\"{}\"", self.listen)),
            reason: format!("cannot listen there: {error}"),
            hint: hint.to_owned(),
        }])
    }
}
