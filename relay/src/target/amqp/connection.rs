//! One connection to RabbitMQ with its main channel in confirm mode, on a socket that can be cut.
//!
//! lapin closes a connection politely, after what it still has to write. A relay that has lost its
//! lease must not write another byte, so the socket is ours: cutting it resets the connection, and
//! whatever stood in lapin's or the kernel's buffers is gone.

use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::tcp::{AsyncTcpStream, RustlsConnector};
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Channel, ConnectionProperties, ConnectionStatus, Error, ErrorKind};
use secrecy::ExposeSecret;
use tokio::task::JoinSet;

use super::classify::describe;
use super::opener::Opener;
use super::publication::Publication;
use super::publish::{Confirm, Publish};
use super::refused::{is_about_password, not_fenced, refusal};
use crate::config::AmqpConfig;
use crate::message::Message;
use crate::secret::Secret;
use crate::target::ConnectError;
use crate::target::fence::FenceName;
use crate::tls;

/// Shown in RabbitMQ's list of connections.
const CONNECTION_NAME: &str = "outbox-relay";

/// How often a leader looks whether it still has its fence.
const FENCE_INTERVAL: Duration = Duration::from_millis(500);

/// A broker that answers nothing is not waited for: nothing depends on a polite end.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// Looks after the fence.
struct Watch {
    fence: FenceName,
    /// Ends when the fence is gone.
    gone: Pin<Box<dyn Future<Output = Error> + Send>>,
}

/// An open connection. Dropping it cuts it.
pub(super) struct Connection {
    socket: SocketGuard,
    channel: Arc<Channel>,
    status: ConnectionStatus,
    opener: Opener,
    /// What the broker says about the connection and each channel.
    notices: Pin<Box<dyn Stream<Item = lapin::Event> + Send>>,
    /// Waits for lapin's thread, which ends when the connection does, for whatever reason.
    thread: JoinSet<lapin::Result<()>>,
    frame_bytes_max: usize,
    /// For questions whose answer may end a channel, as about the fence.
    watcher: Channel,
    /// The side channel, until it is taken. It is opened with the others, so that a limit of channels
    /// is found while connecting, and not each time it is needed.
    side: Option<Channel>,
    /// With a fence.
    watch: Option<Watch>,
}

impl Connection {
    /// Connects, opens a channel and puts it in confirm mode; with a fence, holds it from then on.
    ///
    /// # Errors
    /// See `Target::connect`.
    ///
    /// Cancel safety: a dropped future cuts what it has opened.
    pub(super) async fn open(
        config: &AmqpConfig,
        fence: Option<&FenceName>,
    ) -> Result<Self, ConnectError> {
        let uri = uri(config)?;
        let broker = format!("{}:{}", uri.authority.host, uri.authority.port);
        let tls = match uri.scheme {
            AMQPScheme::AMQP => None,
            AMQPScheme::AMQPS => {
                let tls = tls::client_config(&config.tls).map_err(|error| {
                    configuration(error.to_string(), "check the files under `tls` of the target")
                })?;
                Some(RustlsConnector::from(tls))
            }
        };
        let opening = async {
            let mut connection = Self::log_in(config, uri, tls, &broker).await?;
            connection.take(fence).await?;
            Ok(connection)
        };
        tokio::time::timeout(config.connect_timeout, opening).await.unwrap_or_else(|_| {
            let timeout = config.connect_timeout;
            Err(ConnectError::Outage(format!("{broker}: no connection within {timeout:?}")))
        })
    }

    /// Connects with the password as it is now: its file is read for each connection, and where the
    /// broker refuses what stands there, the password that it accepted before is tried.
    async fn log_in(
        config: &AmqpConfig,
        mut uri: AMQPUri,
        tls: Option<RustlsConnector>,
        broker: &str,
    ) -> Result<Self, ConnectError> {
        let passwords = config.password.as_ref().map_or_else(Vec::new, Secret::candidates);
        let mut passwords = passwords.into_iter().peekable();
        loop {
            let password = passwords.next();
            if let Some(password) = &password {
                uri.authority.userinfo.password = password.expose_secret().to_owned();
            }
            match (Self::open_uri(uri.clone(), tls.clone()).await, &config.password, password) {
                (Ok(connection), Some(secret), Some(password)) => {
                    secret.accepted(&password);
                    return Ok(connection);
                }
                (Ok(connection), ..) => return Ok(connection),
                (Err(error), ..) if is_about_password(&error) && passwords.peek().is_some() => {}
                (Err(error), ..) => return Err(refusal(config, broker, &error)),
            }
        }
    }

    /// Declares the fence: a queue that belongs to this connection alone and goes with it, the last
    /// thing that the broker does for it. Whoever holds it knows that nothing of a predecessor
    /// enters any more.
    ///
    /// # Errors
    /// See `Target::connect`.
    pub(super) async fn take(&mut self, fence: Option<&FenceName>) -> Result<(), ConnectError> {
        let Some(fence) = fence else { return Ok(()) };
        let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let mut arguments = FieldTable::default();
        // A virtual host may have another type as its default, and only this one can be exclusive.
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("classic".into()));
        // `FenceName` is short enough not to panic.
        let declared = self.channel.queue_declare(fence.as_str().into(), options, arguments).await;
        declared.map_err(|error| not_fenced(fence, &error))?;
        let gone = Box::pin(watch(self.watcher.clone(), fence.clone()));
        self.watch = Some(Watch { fence: fence.clone(), gone });
        Ok(())
    }

    /// Deletes the fence, whatever becomes of the connection: whoever waits for it may have it from now on. Whether
    /// the broker said so. Only for a connection on which nothing is unconfirmed.
    pub(super) async fn let_go(&mut self, fence: Option<&FenceName>) -> bool {
        let Some(fence) = fence else { return true };
        let deleted =
            self.channel.queue_delete(fence.as_str().into(), QueueDeleteOptions::default());
        matches!(tokio::time::timeout(FAREWELL_TIMEOUT, deleted).await, Ok(Ok(_)))
    }

    async fn open_uri(uri: AMQPUri, tls: Option<RustlsConnector>) -> lapin::Result<Self> {
        let host = uri.authority.host.clone();
        let authority = (host.as_str(), uri.authority.port);
        let addresses: Vec<_> = tokio::net::lookup_host(authority).await?.collect();
        let socket = SocketGuard(Arc::default());
        let shared = Arc::clone(&socket.0);
        let connection = lapin::Connection::connector(
            uri,
            lapin::runtime::default_runtime()?,
            async move |_, runtime| {
                let stream = AsyncTcpStream::connect(&runtime, addresses.clone()).await?;
                let AsyncTcpStream::Plain(tcp) = &stream else {
                    return Err(io::Error::from(io::ErrorKind::Unsupported).into());
                };
                shared.register(tcp.get_ref())?;
                match &tls {
                    None => Ok(stream),
                    Some(tls) => Ok(stream.into_rustls(tls, &host).await?),
                }
            },
            ConnectionProperties::default().with_connection_name(CONNECTION_NAME.into()),
        )
        .await?;
        let (channel, watcher, side) = tokio::try_join!(
            connection.create_channel(),
            connection.create_channel(),
            connection.create_channel()
        )?;
        tokio::try_join!(
            channel.confirm_select(ConfirmSelectOptions::default()),
            side.confirm_select(ConfirmSelectOptions::default())
        )?;
        let status = connection.status().clone();
        let notices = Box::pin(connection.events_listener());
        let frame_bytes_max = connection.configuration().frame_max() as usize;
        let mut thread = JoinSet::new();
        let opener = Opener::keep(connection, &mut thread);
        let (channel, watch) = (Arc::new(channel), None);
        Ok(Self {
            socket,
            channel,
            status,
            opener,
            notices,
            thread,
            frame_bytes_max,
            watcher,
            side: Some(side),
            watch,
        })
    }

    /// The side channel that was opened with the connection; once.
    pub(super) fn take_side(&mut self) -> Option<Channel> {
        self.side.take()
    }

    /// Opens further channels.
    pub(super) fn opener(&self) -> Opener {
        self.opener.clone()
    }

    /// A channel without confirms, beside the one that publishes.
    pub(super) fn side(&self) -> Channel {
        self.watcher.clone()
    }

    /// The longest frame that both sides agreed on.
    pub(super) fn frame_bytes_max(&self) -> usize {
        self.frame_bytes_max
    }

    /// The virtual host that it leads to.
    pub(super) fn virtual_host(&self) -> String {
        self.status.vhost().to_string()
    }

    /// Whether the broker asked for silence (`connection.blocked`): lapin writes nothing meanwhile.
    pub(super) fn is_blocked(&self) -> bool {
        self.status.blocked()
    }

    /// Publishes behind everything published before: the frames are handed over before this
    /// returns. What it returns is to be kept and polled for the confirm.
    pub(super) fn publish(&self, publication: Publication, message: Message) -> Publish {
        let channel = Arc::clone(&self.channel);
        Publish::begin(async move {
            let Publication { exchange, routing_key, properties, mandatory } = publication;
            let options = BasicPublishOptions { mandatory, immediate: false };
            let payload = message.payload().unwrap_or_default();
            let confirm =
                channel.basic_publish(exchange, routing_key, options, payload, properties).await?;
            Ok(Box::pin(confirm) as Confirm)
        })
    }

    /// Ready once the main channel or the connection is gone, even if nothing was outstanding. The end
    /// of another channel is no loss; its error comes here as well.
    pub(super) fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        while let Poll::Ready(Some(notice)) = self.notices.as_mut().poll_next(cx) {
            if let lapin::Event::Error(error) = notice {
                // The loss of the fence may be told here first: no message is to blame for it.
                let lost = self.watch.as_ref().and_then(|watch| fence_lost(&watch.fence, &error));
                if lost.is_some() || !(self.channel.status().connected() && self.status.connected())
                {
                    return Poll::Ready(lost.unwrap_or(error));
                }
            }
        }
        if let Some(watch) = &mut self.watch
            && let Poll::Ready(error) = watch.gone.as_mut().poll(cx)
        {
            return Poll::Ready(error);
        }
        match self.thread.poll_join_next(cx) {
            Poll::Ready(Some(Ok(Err(error)))) => Poll::Ready(error),
            Poll::Ready(_) => Poll::Ready(io::Error::from(io::ErrorKind::ConnectionAborted).into()),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Closes the connection as the protocol has it, so that the broker logs no warning, and cuts it
    /// if that takes long. Only for a connection on which nothing is unconfirmed: it writes.
    ///
    /// Cancel safety: a dropped future cuts the connection.
    pub(super) async fn farewell(self) {
        let Self { socket, channel, opener, watcher, side, watch, mut thread, .. } = self;
        // The last handles: lapin closes the channels and the connection, and its thread ends.
        drop((channel, opener, watcher, side, watch));
        let ended = async { while thread.join_next().await.is_some() {} };
        if tokio::time::timeout(FAREWELL_TIMEOUT, ended).await.is_err() {
            socket.0.cut();
            while thread.join_next().await.is_some() {}
        }
    }

    /// Cuts the connection: from now on nothing is written, and what was not yet on the wire is
    /// discarded. Waits until lapin's thread has let go of the socket.
    ///
    /// Cancel safety: the socket is cut before the first await.
    pub(super) async fn close(self) {
        let Self { socket, channel, opener, watcher, side, watch, mut thread, .. } = self;
        socket.0.cut();
        drop((channel, opener, watcher, side, watch));
        while thread.join_next().await.is_some() {}
    }

    /// The first half of `close`, at once.
    pub(super) fn cut(&self) {
        self.socket.0.cut();
    }
}

/// Asks for the fence again and again, which is also what keeps a policy with `expires` from deleting
/// it as unused. Ends when the broker says that it is gone. Needs no permission.
async fn watch(watcher: Channel, fence: FenceName) -> Error {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    loop {
        tokio::time::sleep(FENCE_INTERVAL).await;
        let name = fence.as_str().into();
        let Err(error) = watcher.queue_declare(name, options, FieldTable::default()).await else {
            continue;
        };
        if let Some(lost) = fence_lost(&fence, &error) {
            return lost;
        }
        // The connection has ended, and it is told why.
        std::future::pending::<()>().await;
    }
}

/// What to say if the broker says that the fence is gone; `None` if it says something else.
fn fence_lost(fence: &FenceName, error: &Error) -> Option<Error> {
    let said = describe(error);
    let is_protocol = matches!(error.kind(), ErrorKind::ProtocolError(_));
    (is_protocol && said.contains(fence.as_str())).then(|| {
        let reason = format!(
            "the fence was deleted, by a policy with `expires` of less than a second or by hand: {said}"
        );
        io::Error::other(reason).into()
    })
}

/// An error that only says that channel or connection is no more; the cause was told elsewhere.
pub(super) fn is_aftermath(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::InvalidChannelState(..)
            | ErrorKind::InvalidConnectionState(_)
            | ErrorKind::InvalidChannel(_)
            | ErrorKind::FutureCompleted
    )
}

fn uri(config: &AmqpConfig) -> Result<AMQPUri, ConnectError> {
    let mut uri: AMQPUri = config.url.parse().map_err(|error| {
        let hint = "the target's `url` is amqp://USER@HOST:PORT/VHOST";
        configuration(error, hint)
    })?;
    // The library takes an IPv6 address for no host, and no host for localhost.
    if let Some(address) = ipv6_host(&config.url) {
        uri.authority.host = address.to_owned();
    }
    // At least a second: 0 would switch heartbeats off.
    let seconds = config.heartbeat.as_secs().clamp(1, u16::MAX.into());
    uri.query.heartbeat = u16::try_from(seconds).ok();
    Ok(uri)
}

/// The IPv6 address that stands as the host of a url, without its brackets.
fn ipv6_host(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    Some(host.strip_prefix('[')?.split_once(']')?.0)
}

fn configuration(reason: String, hint: &str) -> ConnectError {
    ConnectError::Configuration { reason, hint: hint.to_owned() }
}

/// A second handle on the connection's socket.
#[derive(Default)]
struct Socket(Mutex<SocketState>);

#[derive(Default)]
enum SocketState {
    /// Not connected yet.
    #[default]
    Waiting,
    Open(std::net::TcpStream),
    /// lapin must not get another one.
    Cut,
}

impl Socket {
    /// Takes a handle on a new socket.
    ///
    /// # Errors
    /// This connection was cut, or had a socket before: it is never made a second time.
    fn register(&self, tcp: &tokio::net::TcpStream) -> io::Result<()> {
        // A closed socket is reset: what the kernel has not sent yet is never sent. Set from the
        // start, so that it holds for a killed process as well.
        tcp.set_zero_linger()?;
        let handle = tcp.as_fd().try_clone_to_owned()?;
        let mut state = self.state();
        match *state {
            SocketState::Waiting => *state = SocketState::Open(handle.into()),
            SocketState::Open(_) | SocketState::Cut => {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        }
        Ok(())
    }

    fn cut(&self) {
        if let SocketState::Open(socket) = std::mem::replace(&mut *self.state(), SocketState::Cut) {
            // Wakes lapin's thread, which closes the last handle. An error means: closed already.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    fn state(&self) -> MutexGuard<'_, SocketState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever drops the connection, or the attempt to make one, cuts it.
struct SocketGuard(Arc<Socket>);

impl Drop for SocketGuard {
    fn drop(&mut self) {
        self.0.cut();
    }
}

#[cfg(test)]
mod tests {
    use super::ipv6_host;

    #[test]
    fn an_ipv6_address_is_a_host() {
        for (url, host) in [
            ("amqps://relay@[2001:db8::1]:5673/%2f", Some("2001:db8::1")),
            ("amqp://[::1]/%2f", Some("::1")),
            ("amqp://[::1]?heartbeat=1", Some("::1")),
            ("amqp://relay@mq/%2f[::1]", None),
            ("amqp://127.0.0.1:5672", None),
        ] {
            assert_eq!(ipv6_host(url), host, "{url}");
        }
    }
}
