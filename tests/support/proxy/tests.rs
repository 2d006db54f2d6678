//! The proxy passes, cuts and holds back, and only that.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::{Network, Proxy};
use crate::support::patience::until;

/// A server that sends back every byte; the url of a proxy in front of it.
async fn echo() -> (Proxy, String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("amqp://user:pass@{}/%2f", listener.local_addr().unwrap());
    let mut server = JoinSet::new();
    server.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            connections.spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    let (proxy, through) = Proxy::in_front_of(&url).await;
    (proxy, through, server)
}

async fn connect(through: &str) -> TcpStream {
    TcpStream::connect(address(through)).await.unwrap()
}

fn address(through: &str) -> &str {
    through.strip_prefix("amqp://user:pass@").unwrap().strip_suffix("/%2f").unwrap()
}

async fn says(stream: &mut TcpStream, byte: u8) -> std::io::Result<u8> {
    stream.write_all(&[byte]).await?;
    stream.read_u8().await
}

#[tokio::test]
async fn passes_while_up_and_cuts_when_down() {
    let (proxy, through, _server) = echo().await;
    let mut stream = connect(&through).await;
    assert_eq!(says(&mut stream, 1).await.unwrap(), 1);

    proxy.set(Network::Down);
    while says(&mut stream, 2).await.is_ok() {}
    assert!(says(&mut connect(&through).await, 3).await.is_err());

    proxy.set(Network::Up);
    assert_eq!(says(&mut connect(&through).await, 4).await.unwrap(), 4);
    assert_eq!(proxy.connections(), 3);
}

#[tokio::test]
async fn holds_answers_back_while_deaf() {
    is_silent_and_then_passes(Network::Deaf).await;
}

#[tokio::test]
async fn holds_everything_back_in_a_black_hole() {
    is_silent_and_then_passes(Network::BlackHole).await;
}

async fn is_silent_and_then_passes(network: Network) {
    let (proxy, through, _server) = echo().await;
    let mut stream = connect(&through).await;
    assert_eq!(says(&mut stream, 1).await.unwrap(), 1);

    proxy.set(network);
    stream.write_all(&[2]).await.unwrap();
    let answer = stream.read_u8();
    tokio::pin!(answer);
    let silent = tokio::select! {
        biased;
        byte = &mut answer => panic!("an answer came: {byte:?}"),
        () = tokio::time::sleep(Duration::from_millis(100)) => true,
    };
    assert!(silent);

    proxy.set(Network::Up);
    assert_eq!(answer.await.unwrap(), 2);
}

#[tokio::test]
async fn a_connection_begun_in_a_black_hole_leads_nowhere() {
    let (proxy, through, _server) = echo().await;
    proxy.set(Network::BlackHole);
    let mut stream = connect(&through).await;
    stream.write_all(&[1]).await.unwrap();
    until("the proxy to have it", async || (proxy.connections() == 1).then_some(())).await;
    proxy.set(Network::Up);
    assert!(stream.read_u8().await.is_err());
}

#[tokio::test]
async fn refuses_and_listens_again_at_the_same_address() {
    let (proxy, through, _server) = echo().await;
    let mut stream = connect(&through).await;
    assert_eq!(says(&mut stream, 1).await.unwrap(), 1);

    proxy.set(Network::Refused);
    assert!(stream.read_u8().await.is_err());
    let refused = async || {
        let error = TcpStream::connect(address(&through)).await.err()?;
        (error.kind() == std::io::ErrorKind::ConnectionRefused).then_some(())
    };
    until("a connection to be refused", refused).await;

    proxy.set(Network::Up);
    let again = async || TcpStream::connect(address(&through)).await.ok();
    let mut stream = until("the proxy to listen again", again).await;
    assert_eq!(says(&mut stream, 2).await.unwrap(), 2);
}

#[tokio::test]
async fn cuts_after_so_many_bytes_of_each_client() {
    let (proxy, through, _server) = echo().await;
    proxy.set(Network::CutAfter(3));
    for _ in 0..2 {
        let mut stream = connect(&through).await;
        stream.write_all(&[1, 2, 3, 4, 5]).await.unwrap();
        let mut echoed = Vec::new();
        // However it ends: what came is what counts.
        let _ = stream.read_to_end(&mut echoed).await;
        assert!(echoed.len() <= 3 && [1, 2, 3].starts_with(&echoed), "{echoed:?}");
    }
    proxy.set(Network::Up);
    assert_eq!(says(&mut connect(&through).await, 9).await.unwrap(), 9);
}

#[tokio::test]
async fn a_half_open_connection_is_open_for_the_server_alone() {
    // GIVEN a server that says when a connection of its own ends
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap().to_string();
    let proxy = Proxy::start(&server).await;
    let mut client = TcpStream::connect(proxy.address).await.unwrap();
    client.write_all(&[1]).await.unwrap();
    let (mut old, _) = listener.accept().await.unwrap();
    assert_eq!(old.read_u8().await.unwrap(), 1);

    // WHEN the network breaks in the middle
    proxy.set(Network::HalfOpen);

    // THEN the client is cut off, the server is not, and a new client passes
    assert!(client.read_u8().await.is_err());
    let mut client = TcpStream::connect(proxy.address).await.unwrap();
    client.write_all(&[2]).await.unwrap();
    let (mut new, _) = listener.accept().await.unwrap();
    assert_eq!(new.read_u8().await.unwrap(), 2);
    let ended = old.read_u8();
    tokio::pin!(ended);
    tokio::select! {
        biased;
        ended = &mut ended => panic!("the server was told: {ended:?}"),
        () = tokio::time::sleep(Duration::from_millis(100)) => {}
    }
    proxy.set(Network::Down);
    assert!(ended.await.is_err());
}
