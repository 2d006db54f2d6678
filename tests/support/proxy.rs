//! A TCP proxy whose network can be broken, in every way that a network breaks: reset, refused,
//! silent in one direction or both, half open, or cut in the middle of a frame.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::patience::{LOOK_INTERVAL, wait_for};

mod link;

use link::serve;

/// What the network does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    /// Everything passes.
    Up,
    /// Connections are reset, new ones as well.
    Down,
    /// Connections are reset, and nobody listens for new ones.
    Refused,
    /// Bytes from the server are held back; connections stay open.
    Deaf,
    /// Bytes from the client are held back; connections stay open.
    Mute,
    /// Bytes are held back in both directions; new connections are accepted and lead nowhere.
    BlackHole,
    /// The clients of the connections that stand are cut off, and the server is not told: for it
    /// they are open. New ones pass.
    HalfOpen,
    /// Every connection is cut after so many bytes of its client, in the middle of whatever that is.
    CutAfter(usize),
}

/// A proxy in front of one server.
pub(crate) struct Proxy {
    address: SocketAddr,
    network: watch::Sender<Network>,
    /// `host:port`
    server: watch::Sender<Arc<str>>,
    /// Connections asked for so far, reset ones included; refused ones are not seen.
    connections: watch::Receiver<usize>,
    /// Bytes of clients that were held back so far.
    held: watch::Receiver<usize>,
    _acceptor: JoinSet<()>,
}

impl Proxy {
    /// Listens on a free port for clients of `server` (`host:port`).
    pub(crate) async fn start(server: &str) -> Self {
        Self::start_at("127.0.0.1:0", server).await
    }

    /// Listens at `address`, which somebody else has chosen.
    pub(crate) async fn start_at(address: &str, server: &str) -> Self {
        let listener = TcpListener::bind(address).await;
        let listener =
            listener.unwrap_or_else(|error| panic!("cannot listen at {address}: {error}"));
        let address = listener.local_addr().expect("a bound socket has an address");
        let network = watch::Sender::new(Network::Up);
        let (count, connections) = watch::channel(0);
        let mut acceptor = JoinSet::new();
        let server = watch::Sender::new(Arc::from(server));
        let (holding, held) = watch::channel(0);
        acceptor.spawn(accept(listener, server.subscribe(), network.subscribe(), count, holding));
        Self { address, network, server, connections, held, _acceptor: acceptor }
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

    /// How many connections were asked for so far.
    pub(crate) fn connections(&self) -> usize {
        *self.connections.borrow()
    }

    /// Waits until the network has held back something of a client, ever.
    pub(crate) async fn wait_held(&self) {
        let mut held = self.held.clone();
        let some = wait_for("bytes that are held back", held.wait_for(|&bytes| bytes > 0)).await;
        some.map(|_| ()).expect("the acceptor runs as long as the proxy");
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
    mut network: watch::Receiver<Network>,
    count: watch::Sender<usize>,
    holding: watch::Sender<usize>,
) {
    let address = listener.local_addr().expect("a bound socket has an address");
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        let refused = *network.borrow_and_update() == Network::Refused;
        match &listener {
            // Only a closed socket refuses.
            Some(_) if refused => listener = None,
            None if !refused => listener = TcpListener::bind(address).await.ok(),
            _ => {}
        }
        tokio::select! {
            Some(client) = next_client(listener.as_ref()) => {
                count.send_modify(|count| *count += 1);
                let server = server.borrow().clone();
                connections.spawn(connect(client, server, network.clone(), holding.clone()));
            }
            changed = network.changed() => if changed.is_err() { return },
            Some(_) = connections.join_next() => {}
            // The port could not be had again yet.
            () = tokio::time::sleep(LOOK_INTERVAL), if listener.is_none() && !refused => {}
        }
    }
}

async fn next_client(listener: Option<&TcpListener>) -> Option<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.ok().map(|(client, _)| client),
        None => None,
    }
}

async fn connect(
    client: TcpStream,
    server: Arc<str>,
    mut network: watch::Receiver<Network>,
    holding: watch::Sender<usize>,
) {
    let now = *network.borrow_and_update();
    match now {
        Network::Down | Network::Refused => return,
        Network::BlackHole => {
            // Whoever waits in a black hole stays there: its packets were lost.
            let _ = network.wait_for(|&network| network != Network::BlackHole).await;
            return;
        }
        _ => {}
    }
    if let Ok(server) = TcpStream::connect(&*server).await {
        // As the ends have it: else a second small packet waits 40 ms for the first to be acknowledged.
        let _ = client.set_nodelay(true).and(server.set_nodelay(true));
        serve(client, server, network, &holding).await;
    }
}

#[cfg(test)]
mod tests;
