//! How a call ends.

use std::borrow::Cow;
use std::fmt::Write;

use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use quorate_api::{Code, Error};

use super::body::ReplyBody;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");

/// A code and a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) code: Code,
    message: Cow<'static, str>,
}

impl Status {
    pub(super) const OK: Status = Status { code: Code::Ok, message: Cow::Borrowed("") };

    pub(super) fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Status {
        Status { code, message: message.into() }
    }

    /// As trailers, or as the only headers.
    pub(super) fn to_headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(3);
        headers.insert(GRPC_STATUS, HeaderValue::from(self.code as u16));
        if !self.message.is_empty() {
            headers.insert(GRPC_MESSAGE, percent_encoded(&self.message));
        }
        headers
    }

    /// A reply that consists of the status only.
    pub(super) fn into_response(self) -> Response<ReplyBody> {
        let mut response = response(ReplyBody::Empty);
        response.headers_mut().extend(self.to_headers());
        response
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Status {
        Status::new(error.code(), error.message())
    }
}

/// A reply whose status comes at the end.
pub(super) fn response(body: ReplyBody) -> Response<ReplyBody> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, GRPC_CONTENT_TYPE);
    response
}

/// A text as a header value: everything but printable ASCII is percent-encoded, and the percent sign.
fn percent_encoded(text: &str) -> HeaderValue {
    let plain = |byte: u8| matches!(byte, 0x20..=0x7e) && byte != b'%';
    let encoded = if text.bytes().all(plain) {
        Cow::Borrowed(text)
    } else {
        let mut encoded = String::with_capacity(text.len() + 16);
        for byte in text.bytes() {
            if plain(byte) {
                encoded.push(char::from(byte));
            } else {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
        Cow::Owned(encoded)
    };
    HeaderValue::from_str(&encoded).expect("printable ASCII is a header value")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_percent_encoded() {
        assert_eq!(percent_encoded("etcdserver: no leader"), "etcdserver: no leader");
        assert_eq!(percent_encoded("50 % of ä\n"), "50 %25 of %C3%A4%0A");
    }
}
