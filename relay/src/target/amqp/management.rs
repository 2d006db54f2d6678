//! What RabbitMQ tells of a queue over its management API, and not over AMQP: how long it keeps a
//! message, and where a rejected one goes.

mod queue;

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;

use self::queue::{Binding, Queue};

const TIMEOUT: Duration = Duration::from_secs(10);
/// A queue is some 2 kB of JSON, a binding 200 B.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
const PORT: u16 = 15_672;

/// The management API of a broker.
#[derive(Debug, Clone)]
pub struct Management {
    host: String,
    port: u16,
    /// `Basic …`
    authorization: SecretString,
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
    /// From `http://USER:PASSWORD@HOST:PORT`.
    ///
    /// # Errors
    /// What is wrong with it; never a part of it.
    pub fn parse(url: &str) -> Result<Self, String> {
        let rest = match url.split_once("://") {
            Some(("http", rest)) => rest.trim_end_matches('/'),
            Some(("https", _)) => {
                return Err("https is not spoken here: go through a tunnel to its host, or say \
                            --dead-letter-ttl"
                    .to_owned());
            }
            _ => return Err("must begin with http://".to_owned()),
        };
        let (user, address) = rest.rsplit_once('@').ok_or("names no user")?;
        let (name, password) = user.split_once(':').unwrap_or((user, ""));
        let address: Uri = address.parse().map_err(|_| "has no host")?;
        let host = address.host().filter(|_| address.path() == "/" || address.path().is_empty());
        let plain = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let basic = BASE64_STANDARD.encode(format!("{}:{}", plain(name), plain(password)));
        Ok(Self {
            // An address of IPv6 stands in brackets.
            host: host
                .ok_or("must be a host and a port, without a path")?
                .trim_matches(['[', ']'])
                .to_owned(),
            port: address.port_u16().unwrap_or(PORT),
            authorization: format!("Basic {basic}").into(),
        })
    }

    /// Asks where the dead letters of a queue go. Whatever is bound to its dead letter exchange counts, by
    /// whatever routing key.
    ///
    /// Cancel safety: nothing is changed.
    ///
    /// # Errors
    /// Why there is no answer, on one line.
    pub async fn dead_letters(&self, vhost: &str, queue: &str) -> Result<DeadLetters, String> {
        let asked = async {
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
        };
        let within = tokio::time::timeout(TIMEOUT, asked).await;
        within.unwrap_or_else(|_| Err(format!("no answer within {TIMEOUT:?}")))
    }

    async fn queue(&self, vhost: &str, name: &str) -> Result<Option<Queue>, String> {
        self.read(&["queues", vhost, name]).await
    }

    /// The queues bound to an exchange; none if there is no such exchange.
    async fn bound(&self, vhost: &str, exchange: &str) -> Result<Vec<String>, String> {
        let path = ["exchanges", vhost, exchange, "bindings", "source"];
        let bindings: Option<Vec<Binding>> = self.read(&path).await?;
        let mut queues: Vec<_> =
            bindings.into_iter().flatten().filter_map(Binding::into_queue).collect();
        queues.sort();
        queues.dedup();
        Ok(queues)
    }

    /// `None`: there is no such thing.
    async fn read<T: DeserializeOwned>(&self, path: &[&str]) -> Result<Option<T>, String> {
        let encode = |part: &&str| utf8_percent_encode(part, NON_ALPHANUMERIC).to_string();
        let path = path.iter().map(encode).collect::<Vec<_>>().join("/");
        let request = Request::get(format!("/api/{path}"))
            .header(HOST, &self.host)
            .header(AUTHORIZATION, self.authorization.expose_secret())
            .body(Empty::<Bytes>::new())
            .map_err(|error| error.to_string())?;
        let (status, body) = self.ask(request).await?;
        match status {
            StatusCode::OK => serde_json::from_slice(&body)
                .map(Some)
                .map_err(|error| format!("an answer that is none of RabbitMQ's: {error}")),
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::UNAUTHORIZED => Err("the user or the password is refused".to_owned()),
            status => Err(format!("it answers {status}")),
        }
    }

    /// A connection a request: there are a handful.
    async fn ask(&self, request: Request<Empty<Bytes>>) -> Result<(StatusCode, Bytes), String> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await;
        let stream = stream.map_err(|error| error.to_string())?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        let answered = async {
            let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
            Ok((status, body.map_err(|error| error.to_string())?.to_bytes()))
        };
        let broken = async {
            match connection.await {
                // The last of the answer may still lie there for who asked.
                Ok(()) => std::future::pending().await,
                Err(error) => error.to_string(),
            }
        };
        tokio::select! {
            biased;
            answer = answered => answer,
            // Only while it is polled does anything move.
            error = broken => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart() {
        let management = Management::parse("http://ann:s%3Acret@mq.internal:8080/").unwrap();
        assert_eq!((&management.host[..], management.port), ("mq.internal", 8080));
        let basic = format!("Basic {}", BASE64_STANDARD.encode("ann:s:cret"));
        assert_eq!(management.authorization.expose_secret(), basic);
        assert!(!format!("{management:?}").contains(&basic));
        assert_eq!(Management::parse("http://ann:x@mq").unwrap().port, PORT);
    }

    #[test]
    fn what_is_wrong_with_an_address_is_said_without_it() {
        for url in ["https://ann:hush@mq", "amqp://ann:hush@mq", "http://mq:1", "http://ann:hush@"]
        {
            let reason = Management::parse(url).unwrap_err();
            assert!(!reason.contains("hush") && !reason.contains("mq"), "{reason}");
        }
        assert!(Management::parse("http://ann:hush@mq/path").is_err());
    }
}
