//! Messages on the wire: a flag byte (one if compressed), the length in four bytes, the encoding.

use bytes::{Buf, BufMut, Bytes, BytesMut};
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

pub(super) fn decode<T: Message + Default>(bytes: Bytes) -> Result<T, Status> {
    T::decode(bytes)
        .map_err(|error| Status::new(Code::Internal, format!("grpc: error unmarshalling request: {error}")))
}

/// The end of the first message, with its header, if that is here: a message that is refused is refused
/// by its header, before any of it is kept.
pub(crate) fn first_len(arrived: &[u8], bytes_max: usize) -> Result<Option<usize>, Status> {
    let Some((&[flag, a, b, c, d], _)) = arrived.split_first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    match flag {
        0 => {}
        1 => {
            let text = "grpc: Decompressor is not installed for the encoding of the request";
            return Err(Status::new(Code::Unimplemented, text));
        }
        _ => return Err(Status::new(Code::Internal, "grpc: received unexpected payload format")),
    }
    let len = u32::from_be_bytes([a, b, c, d]) as usize;
    if len > bytes_max {
        let text = format!("grpc: received message larger than max ({len} vs. {bytes_max})");
        return Err(Status::new(Code::ResourceExhausted, text));
    }
    Ok(Some(HEADER_BYTES + len))
}

/// The only message of a unary call, out of the whole body.
pub(super) fn only(body: Vec<u8>, bytes_max: usize) -> Result<Bytes, Status> {
    if body.is_empty() {
        return Err(Status::new(Code::Internal, "grpc: the request has no message"));
    }
    match first_len(&body, bytes_max)? {
        Some(end) if end <= body.len() => Ok(Bytes::from(body).slice(HEADER_BYTES..end)),
        _ => Err(Status::new(Code::Internal, "unexpected EOF")),
    }
}

/// The messages of a streaming call, as they arrive.
#[derive(Debug)]
pub(super) struct Messages {
    arrived: BytesMut,
    /// Longest message.
    bytes_max: usize,
}

impl Messages {
    pub(super) fn new(bytes_max: usize) -> Messages {
        Messages { arrived: BytesMut::new(), bytes_max }
    }

    pub(super) fn push(&mut self, data: &[u8]) {
        self.arrived.extend_from_slice(data);
    }

    /// Takes a message if it has arrived whole.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, Status> {
        match first_len(&self.arrived, self.bytes_max)? {
            Some(end) if end <= self.arrived.len() => {
                let mut message = self.arrived.split_to(end).freeze();
                message.advance(HEADER_BYTES);
                Ok(Some(message))
            }
            _ => Ok(None),
        }
    }

    /// Whether a message has begun and is not here as a whole.
    pub(super) fn is_torn(&self) -> bool {
        !self.arrived.is_empty()
    }

    /// Whether there is nothing to take before more arrives.
    pub(super) fn wants_more(&self) -> bool {
        matches!(first_len(&self.arrived, self.bytes_max), Ok(end) if end.is_none_or(|end| end > self.arrived.len()))
    }
}

#[cfg(test)]
mod tests {
    use quorate_proto::etcdserverpb::PutRequest;

    use super::*;

    /// All that these bytes hold, in pieces of `len`, when messages may be `bytes_max` long.
    fn read(bytes: &[u8], len: usize, bytes_max: usize) -> Result<Vec<PutRequest>, Status> {
        let mut messages = Messages::new(bytes_max);
        let mut all = vec![];
        for piece in bytes.chunks(len) {
            messages.push(piece);
            while let Some(message) = messages.next()? {
                all.push(decode(message)?);
            }
            assert!(messages.wants_more());
        }
        assert!(!messages.is_torn());
        Ok(all)
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
    fn the_only_message_is_the_first() {
        let whole = encode(&put("value"));
        let message = only(whole.to_vec(), 100).and_then(decode::<PutRequest>);
        assert_eq!(message, Ok(put("value")));
        assert_eq!(only([&whole[..], b"more"].concat(), 100), Ok(whole.slice(HEADER_BYTES..)));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let whole = encode(&put("value"));
        let flagged = |flag: u8| [&[flag], &whole[1..]].concat();
        let table = [
            (&[][..], Code::Internal, "grpc: the request has no message"),
            (&whole[..whole.len() - 1], Code::Internal, "unexpected EOF"),
            (&whole[..3], Code::Internal, "unexpected EOF"),
            (&flagged(1), Code::Unimplemented, "grpc: Decompressor is not installed"),
            (&flagged(2), Code::Internal, "grpc: received unexpected payload format"),
            (&[0, 0, 0, 0, 1, 0xff], Code::Internal, "grpc: error unmarshalling request"),
            (&[0, 0xff, 0xff, 0xff, 0xff], Code::ResourceExhausted, "grpc: received message larger than max"),
        ];
        for (bytes, code, text) in table {
            let status = only(bytes.to_vec(), 100).and_then(decode::<PutRequest>).expect_err("refused");
            assert_eq!(status.code, code, "{bytes:?}");
            assert!(format!("{status:?}").contains(text), "{status:?}");
        }
    }
}
