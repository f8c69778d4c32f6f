//! A scanner of JSON for what is common: it walks over the bytes once, copies nothing, and gives up (`None`)
//! at whatever is rare or wrong. Whoever uses it then reads the same text again with a reader that takes all of
//! JSON and knows how to complain.
//!
//! Given up on are: escapes in strings, numbers with fractions or exponents or beyond 64 bits.

/// A place in a text.
pub(super) struct Scanner<'t> {
    text: &'t str,
    bytes: &'t [u8],
    /// The next byte.
    pub at: usize,
}

impl<'t> Scanner<'t> {
    /// Begins at a byte of a text.
    pub fn new(text: &'t str, at: usize) -> Scanner<'t> {
        Scanner { text, bytes: text.as_bytes(), at }
    }

    /// The next byte; a newline at the end of the text, which nothing but the end of a line expects.
    #[inline]
    fn peek(&self) -> u8 {
        self.bytes.get(self.at).copied().unwrap_or(b'\n')
    }

    /// Skips blanks, but no newlines.
    #[inline]
    fn blanks(&mut self) {
        while matches!(self.peek(), b' ' | b'\t' | b'\r') {
            self.at += 1;
        }
    }

    /// The next byte that is no blank.
    pub fn next(&mut self) -> u8 {
        self.blanks();
        self.peek()
    }

    /// Whether this byte comes next, blanks aside. It is skipped.
    #[inline]
    fn takes(&mut self, byte: u8) -> bool {
        self.blanks();
        let is_next = self.peek() == byte;
        self.at += usize::from(is_next);
        is_next
    }

    /// Expects a byte, blanks aside.
    #[inline]
    pub fn expect(&mut self, byte: u8) -> Option<()> {
        self.takes(byte).then_some(())
    }

    /// Expects the end of the line, and goes behind it.
    pub fn end_of_line(&mut self) -> Option<()> {
        self.expect(b'\n')?;
        self.at = self.at.min(self.bytes.len());
        Some(())
    }

    /// Reads an object: `field` is called with every name, in front of its value.
    #[inline]
    pub fn object(&mut self, mut field: impl FnMut(&mut Self, &'t [u8]) -> Option<()>) -> Option<()> {
        self.expect(b'{')?;
        if self.takes(b'}') {
            return Some(());
        }
        loop {
            self.blanks();
            let name = self.string()?;
            self.expect(b':')?;
            field(self, name)?;
            if !self.takes(b',') {
                return self.expect(b'}');
            }
        }
    }

    /// Reads an array: `element` is called in front of every one of them.
    #[inline]
    pub fn array(&mut self, mut element: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.expect(b'[')?;
        if self.takes(b']') {
            return Some(());
        }
        loop {
            element(self)?;
            if !self.takes(b',') {
                return self.expect(b']');
            }
        }
    }

    /// Reads a string.
    #[inline]
    pub fn string(&mut self) -> Option<&'t [u8]> {
        self.expect(b'"')?;
        let start = self.at;
        loop {
            let Some(word) = self.bytes.get(self.at..self.at + 8) else { return self.end_of_string(start) };
            let word = u64::from_le_bytes(word.try_into().expect("eight bytes"));
            let special = is_byte(word, b'"') | is_byte(word, b'\\') | is_below_space(word);
            if special != 0 {
                self.at += special.trailing_zeros() as usize / 8;
                return self.end_of_string(start);
            }
            self.at += 8;
        }
    }

    /// Reads a string, as text.
    pub fn text(&mut self) -> Option<&'t str> {
        let length = self.string()?.len();
        // It ends before the quote.
        self.text.get(self.at - 1 - length..self.at - 1)
    }

    /// Goes on byte by byte.
    fn end_of_string(&mut self, start: usize) -> Option<&'t [u8]> {
        loop {
            match *self.bytes.get(self.at)? {
                b'"' => {
                    self.at += 1;
                    return Some(&self.bytes[start..self.at - 1]);
                }
                b'\\' | 0..b' ' => return None,
                _ => self.at += 1,
            }
        }
    }

    /// Reads a whole number that is not negative.
    #[inline]
    pub fn unsigned(&mut self) -> Option<u64> {
        self.blanks();
        let start = self.at;
        let mut number: u64 = 0;
        while self.peek().is_ascii_digit() {
            number = number.checked_mul(10)?.checked_add(u64::from(self.peek() - b'0'))?;
            self.at += 1;
        }
        let digits = self.at - start;
        // JSON has no leading zeros.
        let is_whole = digits == 1 || (digits > 1 && self.bytes[start] != b'0');
        (is_whole && !matches!(self.peek(), b'.' | b'e' | b'E')).then_some(number)
    }

    /// Reads a whole number.
    #[inline]
    pub fn signed(&mut self) -> Option<i64> {
        if self.takes(b'-') {
            // To JSON, a negative zero is a fraction.
            let is_number = matches!(self.peek(), b'1'..=b'9');
            return i64::try_from(self.unsigned().filter(|_| is_number)?).ok().map(|number| -number);
        }
        i64::try_from(self.unsigned()?).ok()
    }

    /// Reads `true` or `false`.
    #[inline]
    pub fn boolean(&mut self) -> Option<bool> {
        self.blanks();
        let value = self.peek() == b't';
        self.word(if value { b"true" } else { b"false" })?;
        Some(value)
    }

    /// Reads `null`.
    pub fn null(&mut self) -> Option<()> {
        self.blanks();
        self.word(b"null")
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        let is_next = self.bytes[self.at.min(self.bytes.len())..].starts_with(word);
        self.at += word.len();
        is_next.then_some(())
    }
}

const ONES: u64 = u64::MAX / 255;
const TOPS: u64 = ONES << 7;

/// The top bits of the bytes that are `byte`, exact up to and including the first of them.
#[inline]
fn is_byte(word: u64, byte: u8) -> u64 {
    let zero_where_equal = word ^ (ONES * u64::from(byte));
    zero_where_equal.wrapping_sub(ONES) & !zero_where_equal & TOPS
}

/// The top bits of the bytes below a space, exact up to and including the first of them.
#[inline]
fn is_below_space(word: u64) -> u64 {
    word.wrapping_sub(ONES * u64::from(b' ')) & !word & TOPS
}

/// Remembers which fields of an object were met: nobody says anything twice.
#[derive(Default)]
pub(super) struct Once(u32);

impl Once {
    /// Marks field `number`. None if it was met before.
    #[inline]
    pub fn mark(&mut self, number: u32) -> Option<()> {
        let is_new = self.0 >> number & 1 == 0;
        self.0 |= 1 << number;
        is_new.then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_scanned_is_what_serde_reads() {
        let texts =
            ["0", "7", "10", "-3", "01", "1.5", "1e3", "18446744073709551615", "-0", "x", "", "-", "- 1"];
        for text in texts {
            let scanned = Scanner::new(text, 0).signed();
            let read = serde_json::from_str::<i64>(text).ok();
            assert!(scanned.is_none() || scanned == read, "{text}: {scanned:?}, {read:?}");
            let scanned = Scanner::new(text, 0).unsigned();
            let read = serde_json::from_str::<u64>(text).ok();
            assert!(scanned.is_none() || scanned == read, "{text}: {scanned:?}, {read:?}");
        }
        for length in 0..30 {
            let text = format!("\"{}\" ", "é".repeat(length));
            assert_eq!(Scanner::new(&text, 0).string(), Some("é".repeat(length).as_bytes()));
            for wrong in ["\\", "\u{1f}", "\n"] {
                let text = format!("\"{}{wrong}aaaaaaaaaaaa\"", "a".repeat(length));
                assert_eq!(Scanner::new(&text, 0).string(), None, "{text:?}");
            }
            assert_eq!(Scanner::new(&format!("\"{}", "a".repeat(length)), 0).string(), None);
        }
    }
}
