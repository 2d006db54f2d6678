//! A handshake of our own, for a library that says no more than that its handshake failed.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConnection;
use rustls::pki_types::ServerName;

use super::{Trouble, client_config, found_in};
use crate::config::TlsConfig;

/// What is wrong with TLS at `address` (`host:port`), seen with the same files. `None`: nothing
/// was found, or the server could not be asked. Blocks for up to `timeout` a step.
#[must_use]
pub fn probe(tls: &TlsConfig, address: &str, timeout: Duration) -> Option<Trouble> {
    handshake(tls, address, timeout).err().and_then(|error| found_in(&error))
}

fn handshake(tls: &TlsConfig, address: &str, timeout: Duration) -> io::Result<()> {
    let no_host = || io::Error::from(io::ErrorKind::NotFound);
    let (host, _) = address.rsplit_once(':').ok_or_else(no_host)?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host).map_err(io::Error::other)?;
    let config = client_config(tls).map_err(io::Error::other)?;
    let socket = address.to_socket_addrs()?.next().ok_or_else(no_host)?;
    let mut stream = TcpStream::connect_timeout(&socket, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    // With TLS 1.3 a server refuses the client's certificate only after the client is through.
    match connection.complete_io(&mut stream) {
        Err(error) if found_in(&error).is_some() => Err(error),
        _ => Ok(()),
    }
}
