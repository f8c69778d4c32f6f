//! How a call ends.

use std::borrow::Cow;
use std::fmt::Write;

use quorate_api::{Code, Error};

use crate::http2;

/// Longest text that is sent, before it is encoded: some quote the request.
const MESSAGE_BYTES_MAX: usize = 4096;

/// A code and a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) code: Code,
    message: Cow<'static, str>,
}

impl Status {
    pub(crate) const OK: Status = Status { code: Code::Ok, message: Cow::Borrowed("") };

    pub(crate) fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Status {
        Status { code, message: message.into() }
    }

    /// Appends the status to a header block: to trailers, or to the only headers.
    pub(crate) fn write(&self, block: &mut Vec<u8>) {
        http2::write_field(block, "grpc-status", &(self.code as u16).to_string());
        if !self.message.is_empty() {
            http2::write_field(block, "grpc-message", &percent_encoded(&self.message));
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Status {
        Status::new(error.code(), error.message())
    }
}

/// A text as a header value: everything but printable ASCII is percent-encoded, and the percent sign.
fn percent_encoded(text: &str) -> Cow<'_, str> {
    let mut end = text.len().min(MESSAGE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = &text[..end];
    let plain = |byte: u8| matches!(byte, 0x20..=0x7e) && byte != b'%';
    if text.bytes().all(plain) {
        return Cow::Borrowed(text);
    }
    let mut encoded = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if plain(byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    Cow::Owned(encoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_percent_encoded() {
        assert_eq!(percent_encoded("etcdserver: no leader"), "etcdserver: no leader");
        assert_eq!(percent_encoded("50 % of ä\n"), "50 %25 of %C3%A4%0A");
        let long = "x".to_owned() + &"ä".repeat(MESSAGE_BYTES_MAX);
        assert_eq!(percent_encoded(&long).len(), 1 + 6 * (MESSAGE_BYTES_MAX / 2 - 1), "no letter is cut");
    }
}
