//! What the headers of a request say, as far as anybody here wants to know.
//!
//! Rules for what is well-formed are those of RFC 9113 §8.2 and §8.3, but for one: `:authority` may be
//! anything, as for grpc-go. Some of etcd's own clients put a URL there.

use std::time::Duration;

use super::hpack::ENTRY_OVERHEAD_BYTES;

/// Most bytes of headers in a request.
pub(crate) const HEADER_LIST_BYTES_MAX: usize = 16 * 1024;

/// The headers of a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) method: Vec<u8>,
    /// With the query.
    pub(crate) path: Vec<u8>,
    /// Whether the content type is gRPC's.
    pub(crate) is_grpc: bool,
    /// `grpc-timeout`.
    pub(crate) timeout: Option<Duration>,
    pub(crate) has_leader: Option<Vec<u8>>,
    pub(crate) client_api_version: Option<Vec<u8>>,
}

/// Puts a head together, field by field.
#[derive(Debug, Default)]
pub(super) struct Collector {
    head: Head,
    bytes: usize,
    scheme: bool,
    authority: bool,
    /// Whether fields that are not pseudo-headers have begun.
    regular: bool,
    malformed: bool,
}

impl Collector {
    pub(super) fn field(&mut self, name: &[u8], value: &[u8]) {
        self.bytes = self.bytes.saturating_add(name.len() + value.len() + ENTRY_OVERHEAD_BYTES);
        if self.bytes > HEADER_LIST_BYTES_MAX {
            return;
        }
        if name.first() == Some(&b':') {
            self.malformed |= self.regular || !self.pseudo(name, value);
            return;
        }
        self.regular = true;
        match name {
            b"content-type" => self.head.is_grpc = value.starts_with(b"application/grpc"),
            b"grpc-timeout" => match timeout(value) {
                Some(timeout) => self.head.timeout = Some(timeout),
                None => self.malformed = true,
            },
            b"hasleader" => self.head.has_leader = Some(value.to_vec()),
            b"client-api-version" => self.head.client_api_version = Some(value.to_vec()),
            b"te" => self.malformed |= value != b"trailers",
            b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade" => {
                self.malformed = true;
            }
            _ => self.malformed |= name.is_empty() || name.iter().any(u8::is_ascii_uppercase),
        }
    }

    /// False if it is unknown, or there twice.
    fn pseudo(&mut self, name: &[u8], value: &[u8]) -> bool {
        let text = match name {
            b":method" => &mut self.head.method,
            b":path" => &mut self.head.path,
            b":scheme" => return !std::mem::replace(&mut self.scheme, true),
            b":authority" => return !std::mem::replace(&mut self.authority, true),
            _ => return false,
        };
        let first = text.is_empty();
        text.extend_from_slice(value);
        first && !value.is_empty()
    }

    pub(super) fn is_too_large(&self) -> bool {
        self.bytes > HEADER_LIST_BYTES_MAX
    }

    /// The head, if it is that of a well-formed request.
    pub(super) fn finish(self) -> Option<Head> {
        let complete = self.scheme && !self.head.method.is_empty() && !self.head.path.is_empty();
        (complete && !self.malformed).then_some(self.head)
    }
}

/// At most eight digits and a unit (gRPC's PROTOCOL-HTTP2, "Timeout").
fn timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0, |number, digit| 10 * number + u64::from(digit - b'0'));
    match unit {
        b'H' => Some(Duration::from_secs(3600 * number)),
        b'M' => Some(Duration::from_secs(60 * number)),
        b'S' => Some(Duration::from_secs(number)),
        b'm' => Some(Duration::from_millis(number)),
        b'u' => Some(Duration::from_micros(number)),
        b'n' => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(fields: &[(&str, &str)]) -> Option<Head> {
        let mut collector = Collector::default();
        fields.iter().for_each(|(name, value)| collector.field(name.as_bytes(), value.as_bytes()));
        collector.finish()
    }

    const REQUEST: [(&str, &str); 3] = [(":method", "POST"), (":scheme", "http"), (":path", "/a/b")];

    #[test]
    fn requests_are_read() {
        let rest = [
            (":authority", "http://127.0.0.1:2379"),
            ("content-type", "application/grpc+proto"),
            ("grpc-timeout", "1500m"),
            ("hasleader", "true"),
        ];
        let head = collect(&[&REQUEST[..], &rest].concat()).expect("well-formed");
        assert_eq!((&head.method[..], &head.path[..]), (&b"POST"[..], &b"/a/b"[..]));
        assert!(head.is_grpc);
        assert_eq!(head.timeout, Some(Duration::from_millis(1500)));
        assert_eq!(head.has_leader.as_deref(), Some(&b"true"[..]));
    }

    #[test]
    fn malformed_requests_are_not() {
        assert!(collect(&REQUEST).is_some());
        assert_eq!(collect(&REQUEST[..2]), None, "no path");
        for field in [
            (":path", "/again"),
            (":status", "200"),
            ("Upper", "case"),
            ("connection", "close"),
            ("te", "gzip"),
            ("grpc-timeout", "123456789S"),
            ("grpc-timeout", "S"),
            ("grpc-timeout", "1x"),
        ] {
            assert_eq!(collect(&[&REQUEST[..], &[field]].concat()), None, "{field:?}");
        }
        let late = [REQUEST[0], REQUEST[1], ("a", "b"), REQUEST[2]];
        assert_eq!(collect(&late), None, "a pseudo-header after others");
    }
}
