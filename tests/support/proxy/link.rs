//! One connection through the proxy.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;

use super::Network;

const BUFFER_BYTES: usize = 64 * 1024;

const HOLDS_REQUESTS: [Network; 2] = [Network::BlackHole, Network::Mute];

/// Passes bytes until an end is closed or the network cuts it. Dropping both ends closes them: that
/// is what a cut looks like.
pub(super) async fn serve(
    mut client: TcpStream,
    mut server: TcpStream,
    network: watch::Receiver<Network>,
    holding: &watch::Sender<usize>,
) {
    let born = network.borrow().to_owned();
    let mut watched = network.clone();
    let orphaned = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        tokio::select! {
            _ = copy_requests(from_client, to_server, network.clone(), holding) => false,
            _ = copy_answers(from_server, to_client, network) => false,
            // Who is born in a half-open network is new, and passes.
            changed = watched.wait_for(|&now| cuts(now) || (now == Network::HalfOpen && now != born)) =>
                changed.is_ok_and(|now| *now == Network::HalfOpen),
        }
    };
    if orphaned {
        drop(client);
        // The server keeps its end until it gives up by itself, or the network is cut for it too.
        let mut rest = [0; 1024];
        let silent = async { while server.read(&mut rest).await.is_ok_and(|len| len > 0) {} };
        tokio::select! {
            () = silent => {}
            _ = watched.wait_for(|&now| cuts(now)) => {}
        }
    }
}

fn cuts(network: Network) -> bool {
    matches!(network, Network::Down | Network::Refused)
}

async fn copy_requests(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut network: watch::Receiver<Network>,
    holding: &watch::Sender<usize>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut passed = 0;
    loop {
        let mut len = from.read(&mut buffer).await?;
        if HOLDS_REQUESTS.contains(&*network.borrow()) {
            holding.send_modify(|bytes| *bytes += len);
        }
        pass_unless(&mut network, &HOLDS_REQUESTS).await;
        let now = *network.borrow_and_update();
        let mut last = len == 0;
        if let Network::CutAfter(limit) = now {
            len = len.min(limit.saturating_sub(passed));
            passed += len;
            last |= passed >= limit;
        }
        to.write_all(&buffer[..len]).await?;
        if last {
            return Ok(());
        }
    }
}

async fn copy_answers(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut network: watch::Receiver<Network>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let len = from.read(&mut buffer).await?;
        if len == 0 {
            return Ok(());
        }
        pass_unless(&mut network, &[Network::BlackHole, Network::Deaf]).await;
        to.write_all(&buffer[..len]).await?;
    }
}

async fn pass_unless(network: &mut watch::Receiver<Network>, silent: &[Network]) {
    // What was held back does not slip through as the connection is cut. A closed channel is a proxy
    // that is gone: the next read ends the connection.
    let _ = network.wait_for(|&now| !silent.contains(&now) && !cuts(now)).await;
}
