//! For `check`: whether destinations are there, and whether the user may write to them. No message
//! enters a queue.
//!
//! RabbitMQ looks at a permission when it takes a message, not when it routes it. In a transaction it
//! takes a message and routes it at the commit: so one is published and rolled back.

use lapin::options::{BasicPublishOptions, ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Error, ErrorKind, ExchangeKind};

use super::classify::describe;
use super::connection::{Connection, is_aftermath};
use crate::config::AmqpConfig;
use crate::target::ConnectError;

/// The longest name or routing key that the protocol can carry.
const NAME_BYTES_MAX: usize = 255;

/// A place is tried this often if the broker's refusal is lost.
const TRIES: u32 = 5;

/// An exchange and a routing key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// `""` is the default exchange, whose routing key is a queue's name.
    pub exchange: String,
    /// `None`: it depends on the row.
    pub routing_key: Option<String>,
}

/// What is wrong with a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The exchange, or the queue of the default exchange, is not there, or cannot be seen.
    Missing(String),
    /// The user may not write to the exchange, or not with this routing key.
    Forbidden(String),
    /// It could not be found out.
    Unknown(String),
}

/// Looks at each place, in this order; those that are fine are left out.
///
/// Cancel safety: dropping the future cuts the connection, and nothing was published.
///
/// # Errors
/// There is no connection.
pub async fn probe<'p>(
    config: &AmqpConfig,
    places: &'p [Place],
) -> Result<Vec<(&'p Place, Trouble)>, ConnectError> {
    let connection = Some(Connection::open(config, None).await?);
    let mut probe = Probe { config, connection, seen: None };
    let mut troubles = Vec::new();
    for place in places {
        if let Err(trouble) = probe.look(place).await {
            troubles.push((place, trouble));
        }
    }
    probe.end().await;
    Ok(troubles)
}

/// Asks on the side channel of a connection. The broker ends that with each refusal: then another
/// connection is made.
struct Probe<'c> {
    config: &'c AmqpConfig,
    connection: Option<Connection>,
    /// The exchange that was looked at last, and whether more is to be said of it.
    seen: Option<(String, bool)>,
}

impl Probe<'_> {
    async fn look(&mut self, place: &Place) -> Result<(), Trouble> {
        let key = place.routing_key.as_deref();
        if place.exchange.len() > NAME_BYTES_MAX || key.is_some_and(|k| k.len() > NAME_BYTES_MAX) {
            let reason = format!("{place}: longer than {NAME_BYTES_MAX} bytes");
            return Err(Trouble::Missing(reason));
        }
        match key {
            Some(queue) if place.exchange.is_empty() => self.queue(queue).await?,
            None if place.exchange.is_empty() => {}
            _ => {
                let seen = self.seen.take().filter(|(exchange, _)| *exchange == place.exchange);
                match seen {
                    // What is wrong with it was said for another routing key.
                    Some((exchange, false)) => {
                        self.seen = Some((exchange, false));
                        return Ok(());
                    }
                    Some(seen) => self.seen = Some(seen),
                    None => {
                        let found = self.exchange(&place.exchange).await;
                        self.seen = Some((place.exchange.clone(), found.is_ok()));
                        found?;
                    }
                }
            }
        }
        self.write(place).await
    }

    async fn exchange(&mut self, name: &str) -> Result<(), Trouble> {
        let channel = self.channel().await?;
        let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        // A passive declaration asks for the name alone.
        let kind = ExchangeKind::Direct;
        let asked = channel.exchange_declare(name.into(), kind, options, FieldTable::default());
        let answer = self.answer(asked).await?;
        answer.map_err(|error| {
            let reason = format!("exchange {name:?}: {}", describe(&error));
            self.refused(&error, reason, Trouble::Missing)
        })
    }

    /// One that belongs to another connection is there as well.
    async fn queue(&mut self, name: &str) -> Result<(), Trouble> {
        let channel = self.channel().await?;
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let asked = channel.queue_declare(name.into(), options, FieldTable::default());
        match self.answer(asked).await? {
            Ok(_) => Ok(()),
            Err(error) if soft(&error) == Some(AMQPSoftError::RESOURCELOCKED) => Ok(()),
            Err(error) => {
                let reason = format!("queue {name:?}: {}", describe(&error));
                Err(self.refused(&error, reason, Trouble::Missing))
            }
        }
    }

    async fn write(&mut self, place: &Place) -> Result<(), Trouble> {
        let mut tries = TRIES;
        let error = loop {
            match self.publish(place).await? {
                Ok(()) => return Ok(()),
                // The refusal came between the two requests: a channel that has ended does not say why.
                Err(error) if is_aftermath(&error) && tries > 1 => {
                    tries -= 1;
                }
                Err(error) => break error,
            }
        };
        let said = describe(&error);
        let reason = format!("{place}: {said}");
        let trouble = self.refused(&error, reason, Trouble::Forbidden);
        match said.contains("access to topic") {
            // Some row's key may be allowed where none is not.
            true if place.routing_key.is_none() => Ok(()),
            true => Err(trouble),
            false => {
                // It holds for every routing key: once is enough.
                self.seen = Some((place.exchange.clone(), false));
                Err(trouble)
            }
        }
    }

    /// Publishes an empty message in a transaction, and rolls it back.
    async fn publish(&mut self, place: &Place) -> Result<lapin::Result<()>, Trouble> {
        let channel = self.channel().await?;
        let (exchange, key) = (place.exchange.as_str(), place.routing_key.as_deref());
        let written = async {
            channel.tx_select().await?;
            let (options, none) = (BasicPublishOptions::default(), BasicProperties::default());
            let key = key.unwrap_or_default().into();
            channel.basic_publish(exchange.into(), key, options, b"", none).await?;
            channel.tx_rollback().await
        };
        self.answer(written).await
    }

    async fn channel(&mut self) -> Result<Channel, Trouble> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let opened = Connection::open(self.config, None).await;
                opened.map_err(|error| Trouble::Unknown(error.to_string()))?
            }
        };
        let side = connection.side();
        self.connection = Some(connection);
        Ok(side)
    }

    /// The channel has ended, and its connection is of no more use.
    async fn end(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.farewell().await;
        }
    }

    /// A broker that blocks its publishers answers nothing.
    async fn answer<T>(
        &mut self,
        asked: impl Future<Output = lapin::Result<T>>,
    ) -> Result<lapin::Result<T>, Trouble> {
        let timeout = self.config.connect_timeout;
        match tokio::time::timeout(timeout, asked).await {
            Ok(answer) => {
                if answer.is_err() {
                    self.end().await;
                }
                Ok(answer)
            }
            Err(_) => {
                // Not politely: nothing is written to a broker that blocks its publishers.
                if let Some(connection) = self.connection.take() {
                    connection.close().await;
                }
                Err(Trouble::Unknown(format!("no answer within {timeout:?}")))
            }
        }
    }

    /// Only a refusal of the broker's is about the place.
    fn refused(
        &self,
        error: &Error,
        reason: String,
        trouble: impl Fn(String) -> Trouble,
    ) -> Trouble {
        match soft(error) {
            Some(AMQPSoftError::ACCESSREFUSED) => Trouble::Forbidden(reason),
            Some(_) => trouble(reason),
            None => Trouble::Unknown(reason),
        }
    }
}

fn soft(error: &Error) -> Option<AMQPSoftError> {
    let ErrorKind::ProtocolError(error) = error.kind() else { return None };
    match error.kind() {
        AMQPErrorKind::Soft(soft) => Some(soft.clone()),
        AMQPErrorKind::Hard(_) => None,
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exchange {:?}", self.exchange)?;
        match &self.routing_key {
            Some(key) => write!(f, ", routing key {key:?}"),
            None => Ok(()),
        }
    }
}
