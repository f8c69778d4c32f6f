//! One gRPC call as a client: what `quorate local` needs to ask its members for others.
//!
//! A connection for each call, one message each way, within one frame each. That is all; programs that do more have
//! `quorate-client`.

use std::io;
use std::time::Duration;

use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::frame::{self, HEADER_BYTES, Header, PAYLOAD_BYTES_MAX, PREFACE, flag, kind};
use super::hpack::{Decoder, write_field};

/// Calls a method of a server at `host:port`.
///
/// # Errors
/// When the server cannot be reached or takes too long, and what it says if it refuses.
pub(crate) async fn ask<R: Message + Default>(
    address: &str,
    path: &str,
    request: &impl Message,
) -> io::Result<R> {
    let calling = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(&encode(address, path, request)).await?;
        let mut response = Response::default();
        while !response.complete {
            let mut head = [0; HEADER_BYTES];
            stream.read_exact(&mut head).await?;
            let header = Header::parse(&head).ok_or_else(|| io::Error::other("no frame"))?;
            if header.len > PAYLOAD_BYTES_MAX {
                return Err(io::Error::other("a frame that is too long"));
            }
            let mut payload = vec![0; header.len];
            stream.read_exact(&mut payload).await?;
            response.take(header, &payload)?;
        }
        response.finish()
    };
    timeout(CALL_TIMEOUT, calling).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Everything that the client says.
fn encode(address: &str, path: &str, request: &impl Message) -> Vec<u8> {
    let mut out = PREFACE.to_vec();
    frame::write_settings(&mut out, &[]);
    let mut fields = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", address),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ] {
        write_field(&mut fields, name, value);
    }
    frame::write(&mut out, kind::HEADERS, flag::END_HEADERS, STREAM, &fields);
    let message = request.encode_to_vec();
    let mut data = vec![0];
    data.extend_from_slice(&u32::try_from(message.len()).expect("a few URLs").to_be_bytes());
    data.extend_from_slice(&message);
    frame::write(&mut out, kind::DATA, flag::END_STREAM, STREAM, &data);
    out
}

/// What has come back so far.
#[derive(Default)]
struct Response {
    decoder: Decoder,
    data: Vec<u8>,
    status: Vec<u8>,
    message: Vec<u8>,
    complete: bool,
}

impl Response {
    fn take(&mut self, header: Header, payload: &[u8]) -> io::Result<()> {
        match header.kind {
            kind::HEADERS => {
                let (status, message) = (&mut self.status, &mut self.message);
                let decoded = self.decoder.decode(payload, |name, value| match name {
                    b"grpc-status" => *status = value.to_vec(),
                    b"grpc-message" => *message = value.to_vec(),
                    _ => {}
                });
                decoded.map_err(|_| io::Error::other("headers that cannot be read"))?;
            }
            kind::DATA => self.data.extend_from_slice(payload),
            kind::RST_STREAM | kind::GOAWAY => return Err(io::Error::other("the server has ended the call")),
            _ => return Ok(()),
        }
        self.complete = header.has(flag::END_STREAM);
        Ok(())
    }

    fn finish<R: Message + Default>(self) -> io::Result<R> {
        if self.status != b"0" {
            return Err(io::Error::other(String::from_utf8_lossy(&self.message).into_owned()));
        }
        let message = self.data.get(PREFIX_BYTES..).unwrap_or_default();
        R::decode(message).map_err(io::Error::other)
    }
}

/// A client's first stream.
const STREAM: u32 = 1;
/// A flag for compression and a length precede every message.
const PREFIX_BYTES: usize = 5;
/// A change of the membership may wait for an election.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
