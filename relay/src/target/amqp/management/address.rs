//! Where the management API is, and as whom it is asked.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::Uri;
use percent_encoding::percent_decode_str;
use secrecy::SecretString;

const HTTP_PORT: u16 = 15_672;
const HTTPS_PORT: u16 = 15_671;

/// `http://USER:PASSWORD@HOST:PORT` or `https://…`, taken apart.
#[derive(Debug, Clone)]
pub struct Address {
    pub(super) encrypted: bool,
    /// An address of IPv6 without its brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// `Basic …`
    pub(super) authorization: SecretString,
}

impl Address {
    /// From a url.
    ///
    /// # Errors
    /// What is wrong with it; never a part of it.
    pub fn parse(url: &str) -> Result<Self, String> {
        let (encrypted, port, rest) = match url.split_once("://") {
            Some(("http", rest)) => (false, HTTP_PORT, rest),
            Some(("https", rest)) => (true, HTTPS_PORT, rest),
            _ => return Err("must begin with https:// or http://".to_owned()),
        };
        let (user, address) = rest.trim_end_matches('/').rsplit_once('@').ok_or("names no user")?;
        let (name, password) = user.split_once(':').unwrap_or((user, ""));
        let address: Uri = address.parse().map_err(|_| "has no host")?;
        let host = address.host().filter(|_| address.path() == "/" || address.path().is_empty());
        let plain = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let basic = BASE64_STANDARD.encode(format!("{}:{}", plain(name), plain(password)));
        let host = host.ok_or("must be a host and a port, without a path")?;
        Ok(Self {
            encrypted,
            host: host.trim_matches(['[', ']']).to_owned(),
            port: address.port_u16().unwrap_or(port),
            authorization: format!("Basic {basic}").into(),
        })
    }

    /// Whether the password is encrypted on its way.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// The host's name or address.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The url of a path, without user and password.
    pub(super) fn url(&self, path: &str) -> String {
        let scheme = if self.encrypted { "https" } else { "http" };
        let Self { host, port, .. } = self;
        match host.contains(':') {
            true => format!("{scheme}://[{host}]:{port}{path}"),
            false => format!("{scheme}://{host}:{port}{path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn an_address_is_taken_apart() {
        let address = Address::parse("http://ann:s%3Acret@mq.internal:8080/").unwrap();
        assert_eq!(address.url("/api"), "http://mq.internal:8080/api");
        let basic = format!("Basic {}", BASE64_STANDARD.encode("ann:s:cret"));
        assert_eq!(address.authorization.expose_secret(), basic);
        assert!(!format!("{address:?}").contains(&basic));
        for (url, expected) in [
            ("http://ann:x@mq", "http://mq:15672/"),
            ("https://ann:x@mq", "https://mq:15671/"),
            ("https://ann:x@mq:443/", "https://mq:443/"),
            ("https://ann:x@[::1]", "https://[::1]:15671/"),
        ] {
            assert_eq!(Address::parse(url).unwrap().url("/"), expected);
        }
    }

    #[test]
    fn what_is_wrong_with_an_address_is_said_without_it() {
        for url in ["mq", "amqp://ann:hush@mq", "http://mq:1", "http://ann:hush@", "https://mq"] {
            let reason = Address::parse(url).unwrap_err();
            assert!(!reason.contains("hush") && !reason.contains("mq"), "{reason}");
        }
        assert!(Address::parse("http://ann:hush@mq/path").is_err());
    }
}
