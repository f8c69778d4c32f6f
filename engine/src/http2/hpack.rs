//! Header compression (RFC 7541): blocks of fields, most of which name an entry of a table.
//!
//! Decoding is complete. Encoding is not needed: replies have few fields, which are written as literals
//! that leave the client's table alone, and so never depend on its size.

use std::collections::VecDeque;

use super::huffman;

/// What the dynamic table holds at most; it is what a client assumes when nothing is said.
const TABLE_BYTES_MAX: usize = 4096;
/// What an entry counts besides its bytes (§4.1).
pub(super) const ENTRY_OVERHEAD_BYTES: usize = 32;

/// A block that cannot be decoded. The connection is lost: the tables of both sides differ from now on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// A connection's decoder.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    table: Table,
    /// Room for what is Huffman-coded: a name and a value.
    name: Vec<u8>,
    value: Vec<u8>,
}

/// A string as it is encoded.
#[derive(Clone, Copy)]
struct Text<'a> {
    bytes: &'a [u8],
    huffman: bool,
}

impl Decoder {
    /// Calls `field` with the name and the value of every field.
    pub(super) fn decode(
        &mut self,
        mut block: &[u8],
        mut field: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), Malformed> {
        let mut may_resize = true;
        while let Some(&first) = block.first() {
            if first & 0xe0 == 0x20 {
                let size = integer(&mut block, 5)?;
                if !may_resize || size > TABLE_BYTES_MAX {
                    return Err(Malformed);
                }
                self.table.resize(size);
                continue;
            }
            may_resize = false;
            if first & 0x80 != 0 {
                let (name, value) = self.table.entry(integer(&mut block, 7)?)?;
                field(name, value);
                continue;
            }
            let indexed = first & 0x40 != 0;
            let index = integer(&mut block, if indexed { 6 } else { 4 })?;
            self.name.clear();
            match index {
                0 => text(&mut block)?.append_to(&mut self.name)?,
                _ => self.name.extend_from_slice(self.table.entry(index)?.0),
            }
            self.value.clear();
            text(&mut block)?.append_to(&mut self.value)?;
            field(&self.name, &self.value);
            if indexed {
                self.table.insert(&self.name, &self.value);
            }
        }
        Ok(())
    }
}

impl Text<'_> {
    fn append_to(self, out: &mut Vec<u8>) -> Result<(), Malformed> {
        if !self.huffman {
            out.extend_from_slice(self.bytes);
            return Ok(());
        }
        if huffman::decode(self.bytes, out) { Ok(()) } else { Err(Malformed) }
    }
}

fn text<'a>(block: &mut &'a [u8]) -> Result<Text<'a>, Malformed> {
    let huffman = *block.first().ok_or(Malformed)? & 0x80 != 0;
    let len = integer(block, 7)?;
    let (bytes, rest) = block.split_at_checked(len).ok_or(Malformed)?;
    *block = rest;
    Ok(Text { bytes, huffman })
}

/// A number that begins in the lowest `prefix` bits of the first byte (§5.1).
fn integer(block: &mut &[u8], prefix: u32) -> Result<usize, Malformed> {
    let (&first, mut rest) = block.split_first().ok_or(Malformed)?;
    let mask = (1_usize << prefix) - 1;
    let mut value = usize::from(first) & mask;
    if value == mask {
        // Nothing that is accepted takes more than three bytes more.
        for shift in [0, 7, 14, 21] {
            let (&byte, after) = rest.split_first().ok_or(Malformed)?;
            rest = after;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                *block = rest;
                return Ok(value);
            }
        }
        return Err(Malformed);
    }
    *block = rest;
    Ok(value)
}

/// The entries that the client has asked to remember, the newest first.
#[derive(Debug)]
struct Table {
    entries: VecDeque<Entry>,
    bytes: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Entry {
    /// The name, then the value.
    bytes: Box<[u8]>,
    name_len: usize,
}

impl Default for Table {
    fn default() -> Table {
        Table { entries: VecDeque::new(), bytes: 0, bytes_max: TABLE_BYTES_MAX }
    }
}

impl Table {
    fn entry(&self, index: usize) -> Result<(&[u8], &[u8]), Malformed> {
        let at = index.checked_sub(1).ok_or(Malformed)?;
        if let Some((name, value)) = STATIC.get(at) {
            return Ok((name.as_bytes(), value.as_bytes()));
        }
        let entry = self.entries.get(at - STATIC.len()).ok_or(Malformed)?;
        Ok(entry.bytes.split_at(entry.name_len))
    }

    fn insert(&mut self, name: &[u8], value: &[u8]) {
        let bytes = name.len() + value.len() + ENTRY_OVERHEAD_BYTES;
        self.evict(self.bytes_max.saturating_sub(bytes));
        // An entry that is larger than the table empties it, and that is no error (§4.4).
        if bytes <= self.bytes_max {
            self.bytes += bytes;
            self.entries.push_front(Entry { bytes: [name, value].concat().into(), name_len: name.len() });
        }
    }

    fn resize(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
        self.evict(bytes_max);
    }

    fn evict(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max {
            let oldest = self.entries.pop_back().expect("an empty table has no bytes");
            self.bytes -= oldest.bytes.len() + ENTRY_OVERHEAD_BYTES;
        }
    }
}

/// `:status: 200`, as it is encoded.
pub(crate) const STATUS_OK: u8 = 0x88;

/// Appends a field as a literal that is not to be remembered.
pub(crate) fn write_field(out: &mut Vec<u8>, name: &str, value: &str) {
    out.push(0);
    for text in [name, value] {
        write_length(out, text.len());
        out.extend_from_slice(text.as_bytes());
    }
}

fn write_length(out: &mut Vec<u8>, len: usize) {
    let Some(mut rest) = len.checked_sub(0x7f) else {
        out.push(len as u8);
        return;
    };
    out.push(0x7f);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// RFC 7541, appendix A.
#[rustfmt::skip]
const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
    (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""),
    ("cache-control", ""), ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""),
    ("content-length", ""), ("content-location", ""), ("content-range", ""), ("content-type", ""),
    ("cookie", ""), ("date", ""), ("etag", ""), ("expect", ""), ("expires", ""), ("from", ""), ("host", ""),
    ("if-match", ""), ("if-modified-since", ""), ("if-none-match", ""), ("if-range", ""),
    ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""), ("location", ""),
    ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""),
    ("via", ""), ("www-authenticate", ""),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: String = text.split_whitespace().collect();
        (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
    }

    fn decode(decoder: &mut Decoder, block: &str) -> Result<Vec<String>, Malformed> {
        let mut fields = Vec::new();
        decoder.decode(&hex(block), |name, value| {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("these are ASCII");
            fields.push(format!("{}: {}", text(name), text(value)));
        })?;
        Ok(fields)
    }

    /// Three requests of one connection: the RFC's appendix C.3 without Huffman codes, C.4 with them.
    #[test]
    fn requests_of_the_rfc() {
        let plain = [
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ];
        let huffman = [
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ];
        for blocks in [plain, huffman] {
            let mut decoder = Decoder::default();
            let first = [":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"];
            assert_eq!(decode(&mut decoder, blocks[0]).expect("valid"), first);
            let second = decode(&mut decoder, blocks[1]).expect("valid");
            assert_eq!(second[..4], first);
            assert_eq!(second[4], "cache-control: no-cache");
            let third = decode(&mut decoder, blocks[2]).expect("valid");
            assert_eq!(third[1..4], [":scheme: https", ":path: /index.html", ":authority: www.example.com"]);
            assert_eq!(third[4], "custom-key: custom-value");
            assert_eq!((decoder.table.entries.len(), decoder.table.bytes), (3, 164));
        }
    }

    /// Appendix C.5: responses with a table of 256 bytes, which has to forget.
    #[test]
    fn a_small_table_forgets_its_oldest_entries() {
        let mut decoder = Decoder::default();
        let resized = format!(
            "3fe101 {}",
            "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 \
            7420 3230 3133 2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 \
            6c65 2e63 6f6d"
        );
        assert_eq!(decode(&mut decoder, &resized).expect("valid").len(), 4);
        assert_eq!((decoder.table.entries.len(), decoder.table.bytes), (4, 222));
        assert_eq!(decode(&mut decoder, "4803 3330 37c1 c0bf").expect("valid")[0], ":status: 307");
        assert_eq!((decoder.table.entries.len(), decoder.table.bytes), (4, 222));
        assert_eq!(decode(&mut decoder, "be").expect("valid"), [":status: 307"]);
    }

    #[test]
    fn what_cannot_be_decoded_is_refused() {
        let table = [
            ("80", "index zero"),
            ("be", "an entry that is not there"),
            ("ff ff ff ff ff 0f", "a number too long"),
            ("82 20", "a new size after a field"),
            ("3f e2 1f", "a size above ours"),
            ("41 05 61", "a value that is cut off"),
            ("40", "a name that is cut off"),
            ("41 81 18", "padding of zeros"),
        ];
        for (block, what) in table {
            assert_eq!(decode(&mut Decoder::default(), block), Err(Malformed), "{what}");
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        for len in [0, 1, 126, 127, 128, 254, 255, 256, 5000] {
            let mut block = Vec::new();
            write_field(&mut block, "name", &"v".repeat(len));
            let mut seen = None;
            let valid = Decoder::default().decode(&block, |name, value| {
                assert_eq!(name, b"name");
                seen = Some(value.len());
            });
            assert_eq!((valid, seen), (Ok(()), Some(len)));
        }
    }
}
