//! Protobuf's wire format by hand: the fields of the few messages that are sent and received by the million.
//!
//! Requests are written straight into a reused buffer, and of responses only the fields that are looked at are read,
//! without building a message. Everything else uses the types of `quorate-proto`; a test holds both against each other.

/// Appends a length-delimited field; protobuf omits empty ones.
pub fn write_bytes(tag: u32, bytes: &[u8], out: &mut Vec<u8>) {
    if !bytes.is_empty() {
        write_varint(u64::from(tag << 3 | 2), out);
        write_varint(bytes.len() as u64, out);
        out.extend_from_slice(bytes);
    }
}

/// Appends an integer, enum or boolean field; protobuf omits zero.
pub fn write_integer(tag: u32, value: i64, out: &mut Vec<u8>) {
    if value != 0 {
        write_varint(u64::from(tag << 3), out);
        write_varint(value as u64, out);
    }
}

/// Appends a nested message, written by `content`. Unlike plain fields it is there even when it is empty.
pub fn write_message(tag: u32, out: &mut Vec<u8>, content: impl FnOnce(&mut Vec<u8>)) {
    write_varint(u64::from(tag << 3 | 2), out);
    let start = out.len();
    content(out);
    let length = out.len() - start;
    // The length stands before the content, and how many bytes it takes is known only now.
    let mut prefix = Vec::with_capacity(4);
    write_varint(length as u64, &mut prefix);
    out.splice(start..start, prefix);
}

fn write_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    Integer(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message in the order of the wire; ends at the first byte that is not well formed.
pub fn fields(message: &[u8]) -> Fields<'_> {
    Fields { rest: message }
}

/// The first field with this tag, as an integer; absent means zero.
pub fn integer(message: &[u8], tag: u32) -> i64 {
    fields(message).find(|field| field.0 == tag).map_or(0, |(_, value)| match value {
        Value::Integer(value) => value as i64,
        Value::Bytes(_) => 0,
    })
}

/// The first field with this tag, as bytes; absent means empty.
pub fn bytes(message: &[u8], tag: u32) -> &[u8] {
    fields(message).find(|field| field.0 == tag).map_or(&[], |(_, value)| match value {
        Value::Integer(_) => &[],
        Value::Bytes(bytes) => bytes,
    })
}

pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u32, Value<'a>);

    fn next(&mut self) -> Option<(u32, Value<'a>)> {
        let key = self.varint()?;
        let tag = u32::try_from(key >> 3).ok()?;
        match key & 7 {
            0 => Some((tag, Value::Integer(self.varint()?))),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                let (bytes, rest) = self.rest.split_at_checked(length)?;
                self.rest = rest;
                Some((tag, Value::Bytes(bytes)))
            }
            _ => None, // etcd's messages have neither fixed-width fields nor groups
        }
    }
}

impl Fields<'_> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut message = Vec::new();
        write_bytes(1, b"key", &mut message);
        write_integer(3, -1, &mut message);
        write_integer(4, 0, &mut message);
        write_message(64, &mut message, |inner| write_bytes(2, &[7; 200], inner));
        assert_eq!(bytes(&message, 1), b"key");
        assert_eq!(integer(&message, 3), -1);
        assert_eq!(integer(&message, 4), 0);
        assert_eq!(bytes(bytes(&message, 64), 2), [7; 200]);
        assert_eq!(fields(&message).count(), 3);
    }

    #[test]
    fn damaged_messages_end_early() {
        assert_eq!(fields(&[0x0a, 200, 1]).count(), 0);
        assert_eq!(fields(&[0xff; 20]).count(), 0);
        assert_eq!(fields(&[0x0d, 0, 0, 0, 0]).count(), 0);
    }
}
