//! Messages on the wire: a flag byte (one if compressed), the length in four bytes, the encoding.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use prost::Message;
use quorate_api::Code;

use super::status::Status;

const HEADER_BYTES: usize = 5;

/// A message, framed.
pub(super) fn encode(message: &impl Message) -> Bytes {
    let len = message.encoded_len();
    let mut buffer = Vec::with_capacity(HEADER_BYTES + len);
    buffer.put_u8(0);
    buffer.put_u32(u32::try_from(len).expect("answers stay below four gigabytes"));
    message.encode_raw(&mut buffer);
    Bytes::from(buffer)
}

/// The messages of a request.
pub(super) struct Messages {
    body: Incoming,
    /// What has arrived and not been taken, as long as it is one piece: then it is not copied.
    chunk: Bytes,
    /// What has arrived and not been taken otherwise; `chunk` is empty then.
    joined: BytesMut,
    /// Longest message.
    bytes_max: usize,
}

impl Messages {
    pub(super) fn new(body: Incoming, bytes_max: usize) -> Messages {
        Messages { body, chunk: Bytes::new(), joined: BytesMut::new(), bytes_max }
    }

    /// The only message of a unary call, and its length on the wire.
    pub(super) async fn only<T: Message + Default>(mut self) -> Result<(T, usize), Status> {
        let Some(message) = self.next_bytes().await? else {
            return Err(Status::new(Code::Internal, "grpc: the request has no message"));
        };
        let decoded = (decode(message.clone())?, message.len());
        // A stream that is dropped before its end is reset. Most clients end it with the message.
        while !self.body.is_end_stream() {
            match self.body.frame().await {
                Some(Ok(_)) => {}
                Some(Err(_)) => return Err(Status::new(Code::Canceled, "context canceled")),
                None => break,
            }
        }
        Ok(decoded)
    }

    /// The next message and its length on the wire, or `None` when the client will send no more.
    /// Cancel safe.
    pub(super) async fn next<T: Message + Default>(&mut self) -> Result<Option<(T, usize)>, Status> {
        match self.next_bytes().await? {
            Some(message) => Ok(Some((decode(message.clone())?, message.len()))),
            None => Ok(None),
        }
    }

    async fn next_bytes(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(message) = self.split_message()? {
                return Ok(Some(message));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.push(data);
                    }
                }
                Some(Err(_)) => return Err(Status::new(Code::Canceled, "context canceled")),
                None if self.chunk.is_empty() && self.joined.is_empty() => return Ok(None),
                None => return Err(Status::new(Code::Internal, "unexpected EOF")),
            }
        }
    }

    fn push(&mut self, data: Bytes) {
        if self.joined.is_empty() && self.chunk.is_empty() {
            self.chunk = data;
            return;
        }
        if self.joined.is_empty() {
            let wanted = length(&self.chunk).unwrap_or(0).min(self.bytes_max) + HEADER_BYTES;
            self.joined.reserve(wanted.max(self.chunk.len() + data.len()));
            self.joined.extend_from_slice(&std::mem::take(&mut self.chunk));
        }
        self.joined.extend_from_slice(&data);
    }

    /// Takes a message if it has arrived whole.
    fn split_message(&mut self) -> Result<Option<Bytes>, Status> {
        let arrived: &[u8] = if self.joined.is_empty() { &self.chunk } else { &self.joined };
        let Some(len) = length(arrived) else {
            return Ok(None);
        };
        match arrived[0] {
            0 => {}
            1 => {
                let text = "grpc: Decompressor is not installed for the encoding of the request";
                return Err(Status::new(Code::Unimplemented, text));
            }
            _ => return Err(Status::new(Code::Internal, "grpc: received unexpected payload format")),
        }
        if len > self.bytes_max {
            let text = format!("grpc: received message larger than max ({len} vs. {})", self.bytes_max);
            return Err(Status::new(Code::ResourceExhausted, text));
        }
        if arrived.len() < HEADER_BYTES + len {
            return Ok(None);
        }
        let mut message = if self.joined.is_empty() {
            self.chunk.split_to(HEADER_BYTES + len)
        } else {
            self.joined.split_to(HEADER_BYTES + len).freeze()
        };
        message.advance(HEADER_BYTES);
        Ok(Some(message))
    }
}

/// The length in a message's header, if all of the header is here.
fn length(bytes: &[u8]) -> Option<usize> {
    let (header, _) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let [_, a, b, c, d] = *header;
    Some(u32::from_be_bytes([a, b, c, d]) as usize)
}

fn decode<T: Message + Default>(bytes: Bytes) -> Result<T, Status> {
    T::decode(bytes)
        .map_err(|error| Status::new(Code::Internal, format!("grpc: error unmarshalling request: {error}")))
}
