//! What RabbitMQ tells over its management API, and not over AMQP: how long a queue keeps a message,
//! where a rejected one goes, and what is bound to an exchange.

mod address;
mod exchange;
mod queue;

use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::AUTHORIZATION;
use hyper::{Request, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::ExposeSecret as _;
use serde::de::DeserializeOwned;

pub use self::address::Address;
use self::exchange::{Binding, Exchange};
use self::queue::Queue;
use crate::config::TlsConfig;
use crate::tls;

const TIMEOUT: Duration = Duration::from_secs(10);
/// A queue is some 2 kB of JSON, a binding 200 B.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The management API of a broker.
#[derive(Debug, Clone)]
pub struct Management {
    address: Address,
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
}

/// Where the messages go that a queue's consumer rejects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeadLetters {
    /// There is no such queue.
    NoQueue,
    /// Nowhere: they are dropped.
    Dropped,
    /// To an exchange that leads to no queue: they are dropped.
    Unbound(String),
    /// Into these queues, each with the time that it keeps them; `None`: for ever.
    Kept(Vec<(String, Option<Duration>)>),
}

impl Management {
    /// Asks there; an https:// url is verified by what `tls` trusts (its mode is the url's), by the
    /// system's roots if it names none.
    ///
    /// # Errors
    /// The files of `tls` cannot be used.
    pub fn new(address: Address, tls: &TlsConfig) -> Result<Self, String> {
        let trusted = match address.is_encrypted() {
            true => tls::client_config(tls).map_err(|error| error.to_string())?,
            false => tls::trusting_nobody(),
        };
        let builder = HttpsConnectorBuilder::new().with_tls_config(trusted);
        let connector = match address.is_encrypted() {
            true => builder.https_only().enable_http1().build(),
            false => builder.https_or_http().enable_http1().build(),
        };
        Ok(Self { address, client: Client::builder(TokioExecutor::new()).build(connector) })
    }

    /// Asks where the dead letters of a queue go. Whatever is bound to its dead letter exchange counts, by
    /// whatever routing key.
    ///
    /// Cancel safety: nothing is changed.
    ///
    /// # Errors
    /// Why there is no answer, on one line.
    pub async fn dead_letters(&self, vhost: &str, queue: &str) -> Result<DeadLetters, String> {
        within(async {
            let Some(found) = self.queue(vhost, queue).await? else {
                return Ok(DeadLetters::NoQueue);
            };
            let Some(exchange) = found.dead_letter_exchange() else {
                return Ok(DeadLetters::Dropped);
            };
            let names = match exchange {
                "" => vec![found.dead_letter_routing_key().unwrap_or(queue).to_owned()],
                exchange => self.bound(vhost, exchange).await?,
            };
            let mut kept = Vec::new();
            for name in names {
                if let Some(queue) = self.queue(vhost, &name).await? {
                    kept.push((name, queue.message_ttl()));
                }
            }
            Ok(match kept.is_empty() {
                true => DeadLetters::Unbound(exchange.to_owned()),
                false => DeadLetters::Kept(kept),
            })
        })
        .await
    }

    /// Which of the routing keys lead from an exchange to no queue and no other exchange; `None` stands
    /// for every routing key. Empty if there is no such exchange.
    ///
    /// Cancel safety: nothing is changed.
    ///
    /// # Errors
    /// Why there is no answer, on one line.
    pub async fn unbound<'k>(
        &self,
        vhost: &str,
        exchange: &str,
        routing_keys: &[Option<&'k str>],
    ) -> Result<Vec<Option<&'k str>>, String> {
        within(async {
            let found: Option<Exchange> = self.read(&["exchanges", vhost, exchange]).await?;
            let Some(found) = found else { return Ok(Vec::new()) };
            let bindings = self.bindings(vhost, exchange).await?;
            let leads_nowhere = |key: &&Option<&str>| !found.leads_on(&bindings, **key);
            Ok(routing_keys.iter().filter(leads_nowhere).copied().collect())
        })
        .await
    }

    async fn queue(&self, vhost: &str, name: &str) -> Result<Option<Queue>, String> {
        self.read(&["queues", vhost, name]).await
    }

    /// The queues bound to an exchange; none if there is no such exchange.
    async fn bound(&self, vhost: &str, exchange: &str) -> Result<Vec<String>, String> {
        let bindings = self.bindings(vhost, exchange).await?;
        let mut queues: Vec<_> = bindings.into_iter().filter_map(Binding::into_queue).collect();
        queues.sort();
        queues.dedup();
        Ok(queues)
    }

    async fn bindings(&self, vhost: &str, exchange: &str) -> Result<Vec<Binding>, String> {
        let path = ["exchanges", vhost, exchange, "bindings", "source"];
        Ok(self.read(&path).await?.unwrap_or_default())
    }

    /// `None`: there is no such thing.
    async fn read<T: DeserializeOwned>(&self, path: &[&str]) -> Result<Option<T>, String> {
        let encode = |part: &&str| utf8_percent_encode(part, NON_ALPHANUMERIC).to_string();
        let path = path.iter().map(encode).collect::<Vec<_>>().join("/");
        let request = Request::get(self.address.url(&format!("/api/{path}")))
            .header(AUTHORIZATION, self.address.authorization.expose_secret())
            .body(Empty::<Bytes>::new())
            .map_err(|error| error.to_string())?;
        let answer = self.client.request(request).await.map_err(|error| chain(&error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| chain(error.as_ref()))?.to_bytes();
        match status {
            StatusCode::OK => serde_json::from_slice(&body)
                .map(Some)
                .map_err(|error| format!("an answer that is none of RabbitMQ's: {error}")),
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::UNAUTHORIZED => Err("the user or the password is refused".to_owned()),
            status => Err(format!("it answers {status}")),
        }
    }
}

async fn within<T>(asked: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let answer = tokio::time::timeout(TIMEOUT, asked).await;
    answer.unwrap_or_else(|_| Err(format!("no answer within {TIMEOUT:?}")))
}

/// The client says where it failed, its causes why.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.ends_with(&said) {
            // Writing to a String does not fail.
            let _ = write!(text, ": {said}");
        }
        cause = error.source();
    }
    text
}
