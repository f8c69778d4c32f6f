//! The Huffman code of header values (RFC 7541 §5.2, appendix B).
//!
//! The code is canonical: codes of one length are consecutive, in the order of their symbols, so that the
//! lengths are all there is to know.

/// The length of each byte's code.
#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5,
    6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23,
    23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20,
    22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22,
    22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26,
    27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25,
    25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

const LENGTH_MAX: usize = 30;

/// The codes, by length.
struct Code {
    /// The first code of each length.
    first: [u32; LENGTH_MAX + 1],
    /// How many there are of each length.
    count: [u32; LENGTH_MAX + 1],
    /// Where the symbols of each length begin in `symbols`.
    offset: [usize; LENGTH_MAX + 1],
    /// All bytes, by the length of their codes.
    symbols: [u8; 256],
}

const CODE: Code = canonical();

const fn canonical() -> Code {
    let (mut first, mut count) = ([0; LENGTH_MAX + 1], [0; LENGTH_MAX + 1]);
    let (mut offset, mut symbols) = ([0; LENGTH_MAX + 1], [0; 256]);
    let (mut length, mut code, mut filled) = (1, 0_u32, 0);
    while length <= LENGTH_MAX {
        code <<= 1;
        first[length] = code;
        offset[length] = filled;
        let mut symbol = 0;
        while symbol < 256 {
            if LENGTHS[symbol] as usize == length {
                symbols[filled] = symbol as u8;
                filled += 1;
                count[length] += 1;
                code += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    Code { first, count, offset, symbols }
}

/// Appends what `encoded` stands for; false if it stands for nothing.
pub(super) fn decode(encoded: &[u8], out: &mut Vec<u8>) -> bool {
    static TABLE: Code = CODE;
    // The next bits, from the top; `have` of them are real.
    let (mut bits, mut have) = (0_u64, 0_usize);
    let mut bytes = encoded.iter();
    loop {
        while have <= 56
            && let Some(byte) = bytes.next()
        {
            bits |= u64::from(*byte) << (56 - have);
            have += 8;
        }
        let found = (5..=LENGTH_MAX.min(have)).find_map(|length| {
            let code = (bits >> (64 - length)) as u32;
            let at = code.checked_sub(TABLE.first[length]).filter(|at| *at < TABLE.count[length])?;
            Some((length, TABLE.symbols[TABLE.offset[length] + at as usize]))
        });
        let Some((length, symbol)) = found else {
            // The rest is padding: fewer than eight bits, all ones.
            return have < 8 && bits.leading_ones() as usize >= have;
        };
        out.push(symbol);
        bits <<= length;
        have -= length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(encoded: &[u8]) -> Option<String> {
        let mut out = Vec::new();
        decode(encoded, &mut out).then(|| String::from_utf8(out).expect("these are ASCII"))
    }

    #[test]
    fn examples_of_the_rfc() {
        let encoded = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(decoded(&encoded).as_deref(), Some("www.example.com"));
        assert_eq!(decoded(&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]).as_deref(), Some("no-cache"));
        assert_eq!(decoded(&[]).as_deref(), Some(""));
    }

    #[test]
    fn every_byte_has_a_code() {
        for (symbol, length) in (0..=u8::MAX).zip(LENGTHS) {
            let at = CODE.symbols[CODE.offset[usize::from(length)]..].iter().position(|s| *s == symbol);
            let code = CODE.first[usize::from(length)] + at.expect("every byte is a symbol") as u32;
            let padded = (u64::from(code) << (64 - length)) | (u64::MAX >> length);
            let mut out = Vec::new();
            assert!(decode(&padded.to_be_bytes()[..usize::from(length).div_ceil(8)], &mut out));
            assert_eq!(out, [symbol]);
        }
    }

    #[test]
    fn padding_is_short_and_of_ones() {
        assert_eq!(decoded(&[0x1f]).as_deref(), Some("a"));
        assert_eq!(decoded(&[0x18]), None, "zeros");
        assert_eq!(decoded(&[0x1f, 0xff]), None, "more than seven bits");
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xff]), None, "the code of the end");
    }
}
