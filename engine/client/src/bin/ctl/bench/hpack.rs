//! The two halves of HPACK (RFC 7541) that a load generator needs, and no more.
//!
//! *Requests* are a handful of constant fields. The first request on a connection inserts them into the peer's dynamic
//! table; every later one is a few index bytes, which is what real gRPC clients send too, so that the server under
//! test spends on headers what it would spend for them.
//!
//! *Responses* are read only at their end: the trailers say how the call went. We announce a dynamic table of size
//! zero, which makes every header block of the peer independent of the ones before it. So blocks may be skipped, and
//! equal bytes mean equal fields.

use std::sync::LazyLock;

/// The methods the load generator calls; their order is the order of `PATHS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Range,
    Put,
    Txn,
    Watch,
    LeaseGrant,
    LeaseKeepAlive,
}

const PATHS: [&str; 6] = [
    "/etcdserverpb.KV/Range",
    "/etcdserverpb.KV/Put",
    "/etcdserverpb.KV/Txn",
    "/etcdserverpb.Watch/Watch",
    "/etcdserverpb.Lease/LeaseGrant",
    "/etcdserverpb.Lease/LeaseKeepAlive",
];

/// Entries of the static table (RFC 7541, appendix A) that our requests use.
const STATIC_AUTHORITY: u8 = 1;
const STATIC_METHOD_POST: u8 = 3;
const STATIC_PATH: u8 = 4;
const STATIC_SCHEME_HTTP: u8 = 6;
const STATIC_CONTENT_TYPE: u8 = 31;
/// The first index of the dynamic table; the newest entry has it.
const DYNAMIC_FIRST: usize = 62;

/// Writes request header blocks and remembers what the peer's dynamic table holds.
pub struct RequestHeaders {
    authority: String,
    /// Fields in the order of insertion: the last one has index `DYNAMIC_FIRST`.
    inserted: Vec<Field>,
    /// Finished blocks, valid until the next insertion shifts the indices.
    blocks: [Option<Vec<u8>>; PATHS.len()],
    /// False if the peer allows no dynamic table: every block then spells its fields out.
    indexed: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Field {
    Path(Method),
    Authority,
    ContentType,
    Te,
}

impl RequestHeaders {
    /// Headers for requests to `authority`, to a peer whose dynamic table may hold `table_bytes`.
    pub fn new(authority: &str, table_bytes: u32) -> Self {
        // All our fields together, with the 32 bytes of overhead per entry that the RFC counts, stay below this.
        let indexed = table_bytes >= 2048;
        Self { authority: authority.to_owned(), inserted: Vec::new(), blocks: Default::default(), indexed }
    }

    /// The host that requests are addressed to.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Appends the header block of a call of `method`.
    pub fn write(&mut self, method: Method, out: &mut Vec<u8>) {
        if let Some(block) = &self.blocks[method as usize] {
            out.extend_from_slice(block);
            return;
        }
        let inserted_before = self.inserted.len();
        let start = out.len();
        if !self.indexed {
            // A peer that shrank the table must be told that we know (RFC 7541 §4.2).
            out.push(0x20);
        }
        out.push(0x80 | STATIC_METHOD_POST);
        out.push(0x80 | STATIC_SCHEME_HTTP);
        for field in [Field::Path(method), Field::Authority, Field::ContentType, Field::Te] {
            self.write_field(field, out);
        }
        if self.inserted.len() == inserted_before {
            self.blocks[method as usize] = Some(out[start..].to_vec());
        } else {
            self.blocks = Default::default();
        }
    }

    fn write_field(&mut self, field: Field, out: &mut Vec<u8>) {
        if let Some(position) = self.inserted.iter().position(|known| *known == field) {
            let index = DYNAMIC_FIRST + (self.inserted.len() - 1 - position);
            assert!(index < 127, "an index fits the seven bits of its first byte");
            out.push(0x80 | index as u8);
            return;
        }
        // With incremental indexing (0x40), or, without a table, plain literals (0x00 with a 4-bit name index).
        let (kind, name_bits_max) = if self.indexed { (0x40, 63) } else { (0x00, 15) };
        let (name_index, value) = match field {
            Field::Path(method) => (STATIC_PATH, PATHS[method as usize]),
            Field::Authority => (STATIC_AUTHORITY, self.authority.as_str()),
            Field::ContentType => (STATIC_CONTENT_TYPE, "application/grpc"),
            Field::Te => (0, "trailers"),
        };
        if name_index < name_bits_max {
            out.push(kind | name_index);
        } else {
            out.extend([kind | name_bits_max, name_index - name_bits_max]);
        }
        if field == Field::Te {
            write_string("te", out);
        }
        write_string(value, out);
        if self.indexed {
            self.inserted.push(field);
        }
    }
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    let length = text.len();
    if length < 127 {
        out.push(length as u8);
    } else {
        out.push(127);
        let mut rest = length - 127;
        while rest >= 128 {
            out.push((rest % 128) as u8 | 0x80);
            rest /= 128;
        }
        out.push(rest as u8);
    }
    out.extend_from_slice(text.as_bytes());
}

/// How a call ended, as far as its last header block says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trailers {
    pub http_status: Option<String>,
    pub grpc_status: Option<u32>,
    pub grpc_message: String,
}

/// Reads the fields of a header block that tell how a call ended.
pub fn read_trailers(block: &[u8]) -> Result<Trailers, HpackError> {
    let mut reader = Reader { bytes: block };
    let mut trailers = Trailers::default();
    while let Some(&first) = reader.bytes.first() {
        if first & 0x80 != 0 {
            let index = reader.integer(7)?;
            match index {
                // `:status` with its value (RFC 7541, appendix A).
                8..=14 => {
                    let status = ["200", "204", "206", "304", "400", "404", "500"][index - 8];
                    trailers.http_status = Some(status.to_owned());
                }
                1..DYNAMIC_FIRST => {}
                _ => return Err(HpackError("an index outside the static table")),
            }
        } else if first & 0xe0 == 0x20 {
            reader.integer(5)?; // a change of the table's size: ours stays empty
        } else {
            let name_index = reader.integer(if first & 0x40 != 0 { 6 } else { 4 })?;
            let name = match name_index {
                0 => reader.string()?,
                8..=14 => b":status".to_vec(),
                1..DYNAMIC_FIRST => Vec::new(),
                _ => return Err(HpackError("a name outside the static table")),
            };
            let value = String::from_utf8_lossy(&reader.string()?).into_owned();
            match name.as_slice() {
                b":status" => trailers.http_status = Some(value),
                b"grpc-status" => trailers.grpc_status = value.parse().ok(),
                b"grpc-message" => trailers.grpc_message = percent_decoded(&value),
                _ => {}
            }
        }
    }
    Ok(trailers)
}

/// A header block that breaks HPACK's rules, or our announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HpackError(pub &'static str);

struct Reader<'a> {
    bytes: &'a [u8],
}

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8, HpackError> {
        let (&first, rest) = self.bytes.split_first().ok_or(HpackError("a field that ends early"))?;
        self.bytes = rest;
        Ok(first)
    }

    /// RFC 7541 §5.1, with `bits` bits in the first byte.
    fn integer(&mut self, bits: u32) -> Result<usize, HpackError> {
        let mask = (1_usize << bits) - 1;
        let mut value = usize::from(self.byte()?) & mask;
        if value < mask {
            return Ok(value);
        }
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(HpackError("an integer of more than four bytes"))
    }

    /// RFC 7541 §5.2.
    fn string(&mut self) -> Result<Vec<u8>, HpackError> {
        let coded = self.bytes.first().is_some_and(|first| first & 0x80 != 0);
        let length = self.integer(7)?;
        let (text, rest) =
            self.bytes.split_at_checked(length).ok_or(HpackError("a string that ends early"))?;
        self.bytes = rest;
        if coded { huffman_decoded(text) } else { Ok(text.to_vec()) }
    }
}

/// Undoes gRPC's percent-encoding of `grpc-message`.
fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|digits| str::from_utf8(digits).ok());
        match hex.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if bytes[at] == b'%' => {
                decoded.push(byte);
                at += 3;
            }
            _ => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// Code lengths of the bytes 0–255 and of the end mark (RFC 7541, appendix B). The code is canonical: codes of equal
/// length count upwards with the symbol, so that the lengths alone define it.
#[rustfmt::skip]
const CODE_LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];
const CODE_LENGTH_MAX: usize = 30;
const END_MARK: u16 = 256;

/// Symbols in the order of their codes.
static SYMBOLS: LazyLock<Vec<u16>> = LazyLock::new(|| {
    let mut symbols: Vec<u16> = (0..=END_MARK).collect();
    symbols.sort_by_key(|symbol| (CODE_LENGTHS[usize::from(*symbol)], *symbol));
    symbols
});

/// Decodes bit by bit: only the texts of errors come this way.
fn huffman_decoded(coded: &[u8]) -> Result<Vec<u8>, HpackError> {
    let mut symbols_of_length = [0_usize; CODE_LENGTH_MAX + 1];
    for length in CODE_LENGTHS {
        symbols_of_length[usize::from(length)] += 1;
    }
    let mut decoded = Vec::with_capacity(coded.len() * 2);
    // `code` is what was read since the last symbol; `first` the least code of its length, `offset` that code's rank.
    let (mut code, mut first, mut offset, mut length) = (0_usize, 0_usize, 0_usize, 0_usize);
    for bit in coded.iter().flat_map(|byte| (0..8).rev().map(move |shift| usize::from(byte >> shift) & 1)) {
        code = code * 2 + bit;
        first = (first + symbols_of_length[length]) * 2;
        offset += symbols_of_length[length];
        length += 1;
        if length > CODE_LENGTH_MAX {
            return Err(HpackError("a Huffman code without a symbol"));
        }
        if code < first + symbols_of_length[length] {
            let symbol = SYMBOLS[offset + code - first];
            let byte = u8::try_from(symbol).map_err(|_| HpackError("the end mark inside a string"))?;
            decoded.push(byte);
            (code, first, offset, length) = (0, 0, 0, 0);
        }
    }
    // Fewer than eight bits of ones may be left: padding.
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_the_huffman_examples_of_the_rfc() {
        // RFC 7541, C.4.1 and C.6.1.
        let authority = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(huffman_decoded(&authority).as_deref(), Ok(b"www.example.com".as_slice()));
        assert_eq!(huffman_decoded(&[0x64, 0x02]).as_deref(), Ok(b"302".as_slice()));
    }

    #[test]
    fn reads_status_and_message_of_trailers() {
        let mut block = vec![0x20, 0x88, 0x40];
        write_string("grpc-status", &mut block);
        write_string("5", &mut block);
        block.push(0x00);
        write_string("grpc-message", &mut block);
        write_string("no%20such%25", &mut block);
        let trailers = read_trailers(&block).expect("well formed");
        assert_eq!(trailers.http_status.as_deref(), Some("200"));
        assert_eq!(trailers.grpc_status, Some(5));
        assert_eq!(trailers.grpc_message, "no such%");
    }

    #[test]
    fn refuses_what_would_need_a_dynamic_table() {
        assert!(read_trailers(&[0x80 | 62]).is_err());
        assert!(read_trailers(&[0x40]).is_err(), "a literal that ends early");
        assert!(read_trailers(&[0x7f, 0xff, 0xff, 0xff, 0xff, 0x01]).is_err(), "an endless integer");
    }

    #[test]
    fn a_repeated_request_is_a_few_index_bytes() {
        let mut headers = RequestHeaders::new("127.0.0.1:2379", 4096);
        let (mut first, mut second, mut third) = (Vec::new(), Vec::new(), Vec::new());
        headers.write(Method::Put, &mut first);
        headers.write(Method::Put, &mut second);
        assert_eq!(second, [0x83, 0x86, 0x80 | 65, 0x80 | 64, 0x80 | 63, 0x80 | 62]);
        // Another path shifts the older entries by one.
        headers.write(Method::Range, &mut third);
        third.clear();
        headers.write(Method::Put, &mut third);
        assert_eq!(third, [0x83, 0x86, 0x80 | 66, 0x80 | 65, 0x80 | 64, 0x80 | 63]);
        assert!(first.len() > 60);
    }
}
