//! A TCP proxy whose network can be broken: cut, refused, or silent.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::patience::wait_for;

/// What the network does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    /// Everything passes.
    Up,
    /// Connections are reset, new ones as well.
    Down,
    /// Bytes from the server are held back; connections stay open.
    Deaf,
    /// Bytes from the client are held back; connections stay open.
    Mute,
}

/// A proxy in front of one server.
pub(crate) struct Proxy {
    address: SocketAddr,
    network: watch::Sender<Network>,
    /// `host:port`
    server: watch::Sender<Arc<str>>,
    /// Connections asked for so far, refused ones included.
    connections: watch::Receiver<usize>,
    _acceptor: JoinSet<()>,
}

impl Proxy {
    /// Listens on a free port for clients of `server` (`host:port`).
    pub(crate) async fn start(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let network = watch::Sender::new(Network::Up);
        let (count, connections) = watch::channel(0);
        let mut acceptor = JoinSet::new();
        let server = watch::Sender::new(Arc::from(server));
        acceptor.spawn(accept(listener, server.subscribe(), network.subscribe(), count));
        Self { address, network, server, connections, _acceptor: acceptor }
    }

    /// The same url with the proxy in the place of the server.
    pub(crate) async fn in_front_of(url: &str) -> (Self, String) {
        let server = server_of(url);
        let proxy = Self::start(&url[server.clone()]).await;
        let through = format!("{}{}{}", &url[..server.start], proxy.address, &url[server.end..]);
        (proxy, through)
    }

    /// Connections made from now on lead to the server of `url`; those that stand stay.
    pub(crate) fn move_to(&self, url: &str) {
        self.server.send_replace(Arc::from(&url[server_of(url)]));
    }

    /// Changes the network, for connections that stand as well.
    pub(crate) fn set(&self, network: Network) {
        self.network.send_replace(network);
    }

    /// Waits until the client has asked for `count` more connections.
    pub(crate) async fn wait_connections(&self, count: usize) {
        let mut connections = self.connections.clone();
        let before = *connections.borrow_and_update();
        let more = connections.wait_for(|&connections| connections >= before + count);
        let more = wait_for("the relay to connect again", more).await;
        more.map(|_| ()).expect("the acceptor runs as long as the proxy");
    }
}

/// Where `host:port` stands in a url.
fn server_of(url: &str) -> std::ops::Range<usize> {
    let start = url.rfind('@').or_else(|| url.find("//").map(|at| at + 1)).map_or(0, |at| at + 1);
    let end = url[start..].find('/').map_or(url.len(), |at| start + at);
    start..end
}

async fn accept(
    listener: TcpListener,
    server: watch::Receiver<Arc<str>>,
    network: watch::Receiver<Network>,
    count: watch::Sender<usize>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                count.send_modify(|count| *count += 1);
                let server = server.borrow().clone();
                connections.spawn(serve(client, server, network.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Dropping both ends closes them: that is what a cut looks like.
async fn serve(client: TcpStream, server: Arc<str>, mut network: watch::Receiver<Network>) {
    if *network.borrow() == Network::Down {
        return;
    }
    let Ok(server) = TcpStream::connect(&*server).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (mute, deaf) = (network.clone(), network.clone());
    tokio::select! {
        _ = copy(from_client, to_server, mute, Network::Mute) => {}
        _ = copy(from_server, to_client, deaf, Network::Deaf) => {}
        _ = network.wait_for(|&network| network == Network::Down) => {}
    }
}

async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut network: watch::Receiver<Network>,
    held: Network,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let len = from.read(&mut buffer).await?;
        if len == 0 {
            return Ok(());
        }
        // A closed channel is a proxy that is gone: the read above ends it.
        let _ = network.wait_for(|&network| network != held).await;
        to.write_all(&buffer[..len]).await?;
    }
}

#[cfg(test)]
mod tests;
