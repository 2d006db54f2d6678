//! `[database]`: where the outbox lives.

use std::time::Duration;

use super::default::{
    DEFAULT_CONNECT_TIMEOUT, DEFAULT_LOCK_TIMEOUT, DEFAULT_SCHEMA, DEFAULT_STATEMENT_TIMEOUT,
};
use super::raw::RawDatabase;
use super::section::Section;
use super::url::{self, UrlError};
use super::{DatabaseConfig, TlsMode, tls};
use crate::schema::Schema;

const EXAMPLE: &str = "\"postgres://relay@db/app\"";

/// Parameters of a url that have a key of their own, which would contradict them.
const OWN_KEYS: [(&str, &str); 7] = [
    ("password", "database.password_file"),
    ("sslmode", "database.tls.mode"),
    ("sslrootcert", "database.tls.ca_file"),
    ("sslcert", "database.tls.cert_file"),
    ("sslkey", "database.tls.key_file"),
    ("passfile", "database.password_file"),
    ("connect_timeout", "database.connect_timeout"),
];

/// What a parameter that the client library does not know calls for.
const UNKNOWN_HINT: &str = "take the parameter out of the url; known are application_name, options, \
     keepalives, target_session_attrs, load_balance_hosts, channel_binding and tcp_user_timeout";

pub(super) fn check(raw: &RawDatabase, s: &mut Section<'_>) -> DatabaseConfig {
    let (seconds, hour) = (Duration::from_secs(1), Duration::from_secs(3_600));
    let (url, password) =
        s.server_url(&raw.url, EXAMPLE, parse, (&raw.password, &raw.password_file));
    DatabaseConfig {
        url,
        password,
        schema: schema(raw, s),
        tls: tls::check(&raw.tls.0, TlsMode::Disable, &mut s.table("tls")),
        connect_timeout: s.duration(
            "connect_timeout",
            &raw.connect_timeout,
            DEFAULT_CONNECT_TIMEOUT,
            seconds..=hour,
        ),
        lock_timeout: s.duration(
            "lock_timeout",
            &raw.lock_timeout,
            DEFAULT_LOCK_TIMEOUT,
            Duration::from_millis(10)..=hour,
        ),
        statement_timeout: s.duration(
            "statement_timeout",
            &raw.statement_timeout,
            DEFAULT_STATEMENT_TIMEOUT,
            seconds..=hour,
        ),
    }
}

fn parse(text: &str) -> Result<url::ServerUrl, UrlError> {
    let url = url::split(text, &["postgres", "postgresql"], &OWN_KEYS)?;
    let parsed: tokio_postgres::Config =
        url.url.parse().map_err(|error: tokio_postgres::Error| {
            // The cause can repeat a parameter's name. That is a piece of a password where somebody
            // forgot the host, which shows in the absence of an @.
            let cause = std::error::Error::source(&error)
                .filter(|_| url.url.contains('@'))
                .map(|cause| format!(": {cause}"));
            let cause = cause.unwrap_or_default();
            let hint = match cause.contains("unknown option") {
                true => UNKNOWN_HINT.to_owned(),
                false => format!("write it as {EXAMPLE}"),
            };
            UrlError::new(format!("not a connection url{cause}"), hint)
        })?;
    if parsed.get_hosts().is_empty() {
        return Err(UrlError::new("names no host", format!("write it as {EXAMPLE}")));
    }
    if parsed.get_user().is_none() {
        return Err(UrlError::new("names no user", format!("write it as {EXAMPLE}")));
    }
    Ok(url)
}

/// A name that may be written into SQL.
fn schema(raw: &RawDatabase, s: &mut Section<'_>) -> String {
    let Some(name) = s.text("schema", &raw.schema) else { return DEFAULT_SCHEMA.to_owned() };
    if let Err(error) = name.parse::<Schema>() {
        s.refuse("schema", error.to_string(), "name the one that `outbox-relay migrate` created");
    }
    name
}
