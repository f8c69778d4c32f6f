//! Messages on the wire: a flag byte (one if compressed), the length in four bytes, the encoding.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body;
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
pub(super) struct Messages<B> {
    body: B,
    /// What has arrived and not been taken, as long as it is one piece: then it is not copied.
    chunk: Bytes,
    /// What has arrived and not been taken otherwise; `chunk` is empty then.
    joined: BytesMut,
    /// Longest message.
    bytes_max: usize,
}

impl<B: Body<Data = Bytes> + Unpin> Messages<B> {
    pub(super) fn new(body: B, bytes_max: usize) -> Messages<B> {
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use hyper::body::Frame;
    use quorate_proto::etcdserverpb::PutRequest;

    use super::*;

    /// A body that arrives in these pieces.
    struct Pieces(Vec<Bytes>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            if self.0.is_empty() {
                return Poll::Ready(None);
            }
            Poll::Ready(Some(Ok(Frame::data(self.0.remove(0)))))
        }
    }

    /// All that a body of these bytes holds, in pieces of `len`, when messages may be `bytes_max` long.
    fn read(bytes: &[u8], len: usize, bytes_max: usize) -> Result<Vec<PutRequest>, Status> {
        let pieces = Pieces(bytes.chunks(len).map(Bytes::copy_from_slice).collect());
        let mut messages = Messages::new(pieces, bytes_max);
        let all = async {
            let mut all = vec![];
            while let Some((message, _)) = messages.next().await? {
                all.push(message);
            }
            Ok(all)
        };
        match pin!(all).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => result,
            Poll::Pending => panic!("all pieces are there"),
        }
    }

    fn put(value: &str) -> PutRequest {
        PutRequest {
            key: Bytes::from("k"),
            value: Bytes::copy_from_slice(value.as_bytes()),
            ..Default::default()
        }
    }

    #[test]
    fn messages_arrive_whole_however_they_are_cut() {
        let sent = [put("first"), PutRequest::default(), put(&"long".repeat(20)), put("")];
        let bytes: Vec<u8> = sent.iter().flat_map(|message| encode(message).to_vec()).collect();
        for len in 1..=bytes.len() {
            assert_eq!(read(&bytes, len, 100).as_deref(), Ok(&sent[..]), "in pieces of {len}");
        }
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let whole = encode(&put("value"));
        let flagged = |flag: u8| [&[flag], &whole[1..]].concat();
        let table = [
            (&whole[..whole.len() - 1], Code::Internal, "unexpected EOF"),
            (&whole[..3], Code::Internal, "unexpected EOF"),
            (&flagged(1), Code::Unimplemented, "grpc: Decompressor is not installed"),
            (&flagged(2), Code::Internal, "grpc: received unexpected payload format"),
            (&[0, 0, 0, 0, 1, 0xff], Code::Internal, "grpc: error unmarshalling request"),
            // Refused by its header, before any of it is kept.
            (&[0, 0xff, 0xff, 0xff, 0xff], Code::ResourceExhausted, "grpc: received message larger than max"),
        ];
        for (bytes, code, text) in table {
            let status = read(bytes, 4, 100).expect_err("refused");
            assert_eq!(status.code, code, "{bytes:?}");
            assert!(format!("{status:?}").contains(text), "{status:?}");
        }
    }
}
