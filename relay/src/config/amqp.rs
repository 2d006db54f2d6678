//! The keys of a target of `kind = "amqp"`: RabbitMQ.

use std::time::Duration;

use lapin::uri::AMQPUri;

use super::default::{DEFAULT_AMQP_FENCE, DEFAULT_CONNECT_TIMEOUT, DEFAULT_HEARTBEAT};
use super::raw::RawTarget;
use super::section::Section;
use super::url::{self, UrlError};
use super::{AmqpConfig, AmqpFence, TlsMode, tls};

const EXAMPLE: &str = "\"amqps://relay@mq/%2f\"";

const FENCES: [(&str, AmqpFence); 2] =
    [("exclusive_queue", AmqpFence::ExclusiveQueue), ("none", AmqpFence::Off)];

/// Parameters of a url that have a key of their own, which would contradict them.
const OWN_KEYS: [(&str, &str); 2] =
    [("heartbeat", "heartbeat"), ("connection_timeout", "connect_timeout")];

pub(super) fn check(raw: &RawTarget, s: &mut Section<'_>) -> AmqpConfig {
    let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3_600));
    let (url, password) =
        s.server_url(&raw.url, EXAMPLE, parse, (&raw.password, &raw.password_file));
    // Of a url that was refused nothing is known: no key of tls is wrong because of it.
    let scheme_mode = if url.starts_with("amqp:") { TlsMode::Disable } else { TlsMode::VerifyFull };
    let tls = tls::check(&raw.tls.0, scheme_mode, &mut s.table("tls"));
    if tls.mode != scheme_mode && !url.is_empty() {
        let (reason, hint) = match tls.mode {
            TlsMode::VerifyFull => ("contradicts the url, which is amqp://", "write amqps://"),
            TlsMode::Disable => ("contradicts the url, which is amqps://", "write amqp://"),
        };
        s.table("tls").refuse("mode", reason, format!("{hint} in url, or leave tls.mode out"));
    }
    let heartbeat = s.duration(
        "heartbeat",
        &raw.heartbeat,
        DEFAULT_HEARTBEAT,
        second..=Duration::from_secs(600),
    );
    if heartbeat.subsec_nanos() != 0 {
        s.refuse("heartbeat", "must be whole seconds", "the protocol counts heartbeats in seconds");
    }
    AmqpConfig {
        url,
        password,
        tls,
        heartbeat,
        fence: s.choice("fence", &raw.fence, &FENCES).unwrap_or(DEFAULT_AMQP_FENCE),
        connect_timeout: s.duration(
            "connect_timeout",
            &raw.connect_timeout,
            DEFAULT_CONNECT_TIMEOUT,
            second..=hour,
        ),
    }
}

fn parse(text: &str) -> Result<url::ServerUrl, UrlError> {
    let url = url::split(text, &["amqp", "amqps"], &OWN_KEYS)?;
    // The library's own words can repeat the url; it holds no password any more, but a mistake may.
    let parsed: AMQPUri = url
        .url
        .parse()
        .map_err(|_| UrlError::new("not a connection url", format!("write it as {EXAMPLE}")))?;
    if parsed.vhost.is_empty() {
        return Err(UrlError::new(
            "names the virtual host \"\"",
            "the usual virtual host is written %2f: \"amqps://relay@mq/%2f\"",
        ));
    }
    Ok(url)
}
