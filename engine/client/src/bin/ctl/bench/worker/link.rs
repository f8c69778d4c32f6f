//! A connection with its socket.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::super::http2::Connection;
use crate::failure::Failure;

/// How long a first connection may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection with its socket.
pub struct Link {
    pub authority: String,
    pub address: SocketAddr,
    pub socket: Option<TcpStream>,
    pub connection: Connection,
    pub retry_at: u64,
    /// Slots whose calls cannot be started yet: the link is down, or the server limits its streams.
    pub waiting: Vec<u32>,
}

impl Link {
    /// Connects to the first address of a name that answers.
    pub fn open(authority: &str) -> Result<Self, Failure> {
        let cannot = |reason: String| Failure::connection(format!("cannot connect to {authority}: {reason}"));
        let addresses = authority.to_socket_addrs().map_err(|error| cannot(error.to_string()))?;
        let mut reason = "the name has no address".to_owned();
        for address in addresses {
            match connect(address, CONNECT_TIMEOUT) {
                Ok(socket) => {
                    return Ok(Self {
                        authority: authority.to_owned(),
                        address,
                        socket: Some(socket),
                        connection: Connection::new(authority),
                        retry_at: 0,
                        waiting: Vec::new(),
                    });
                }
                Err(error) => reason = error.to_string(),
            }
        }
        Err(cannot(reason))
    }
}

/// Connects a socket that never waits.
pub fn connect(address: SocketAddr, timeout: Duration) -> std::io::Result<TcpStream> {
    let socket = TcpStream::connect_timeout(&address, timeout)?;
    socket.set_nodelay(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
