//! The proxy passes, cuts and holds back, and only that.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::{Network, Proxy};

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
    let address = through.strip_prefix("amqp://user:pass@").unwrap();
    TcpStream::connect(address.strip_suffix("/%2f").unwrap()).await.unwrap()
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
    assert_eq!(*proxy.connections.borrow(), 3);
}

#[tokio::test]
async fn holds_answers_back_while_deaf() {
    let (proxy, through, _server) = echo().await;
    let mut stream = connect(&through).await;
    assert_eq!(says(&mut stream, 1).await.unwrap(), 1);

    proxy.set(Network::Deaf);
    stream.write_all(&[2]).await.unwrap();
    let answer = stream.read_u8();
    tokio::pin!(answer);
    let silent = tokio::select! {
        biased;
        byte = &mut answer => panic!("an answer came: {byte:?}"),
        () = tokio::time::sleep(std::time::Duration::from_millis(100)) => true,
    };
    assert!(silent);

    proxy.set(Network::Up);
    assert_eq!(answer.await.unwrap(), 2);
}
