//! EDN, as far as histories use it: a reader of our own that knows where it is.
//!
//! Read: nil, booleans, numbers, strings, characters, keywords, symbols, lists, vectors, sets, maps, tagged
//! values (the tag is dropped), discards (`#_`), comments; commas are blanks. Nested at most [`DEPTH_MAX`]
//! deep.

use std::borrow::Cow;
use std::io::{self, Write};

use super::jepsen::{Answer, Ask, Event, EventKind, Pairs, event, plain_text};
use super::{FormatError, ReadOptions};
use crate::history::{History, Operation};
use crate::value::Value;

/// Values may be nested this deep.
pub const DEPTH_MAX: usize = 100;

/// Reads a history: one vector or list of maps, or maps one after the other.
pub fn history(text: &str, options: ReadOptions) -> Result<History<Ask, Answer>, FormatError> {
    let mut reader = Reader::new(text);
    let mut pairs = Pairs::new(options);
    reader.skip()?;
    let close = match reader.peek() {
        Some(b'[') => Some(b']'),
        Some(b'(') => Some(b')'),
        _ => None,
    };
    if close.is_some() {
        reader.at += 1;
    }
    loop {
        reader.skip()?;
        match (reader.peek(), close) {
            (None, None) => return pairs.finish(),
            (None, Some(close)) => {
                return Err(reader.error(&format!("expected '{}'", char::from(close))));
            }
            (Some(byte), Some(close)) if byte == close => {
                reader.at += 1;
                reader.skip()?;
                return match reader.peek() {
                    None => pairs.finish(),
                    Some(_) => Err(reader.error("expected the end of the file")),
                };
            }
            _ => {}
        }
        let start = reader.at;
        let line = reader.line(start);
        if let Some(event) = reader.usual_event(line) {
            pairs.push(event)?;
            continue;
        }
        // From the beginning, this time with words for what is wrong.
        (reader.at, reader.depth) = (start, 0);
        let value = reader.value()?;
        let event = event(&value, line).map_err(|message| FormatError {
            line,
            column: reader.column(start),
            message,
        })?;
        pairs.push(event)?;
    }
}

/// Reads one value.
pub fn read(text: &str) -> Result<Value, FormatError> {
    let mut reader = Reader::new(text);
    let value = reader.value()?;
    reader.skip()?;
    match reader.peek() {
        None => Ok(value),
        Some(_) => Err(reader.error("expected the end of the value")),
    }
}

/// Writes a history as Jepsen's events, one per line.
pub fn write(history: &History<Ask, Answer>, mut to: impl Write) -> io::Result<()> {
    // Calls before returns at equal times: the intervals are closed.
    let mut ends: Vec<(u64, bool, &Operation<Ask, Answer>)> = Vec::new();
    for operation in &history.operations {
        ends.push((operation.call, false, operation));
        ends.extend(operation.returned.as_ref().map(|returned| (returned.at, true, operation)));
    }
    ends.sort_by_key(|(at, is_return, _)| (*at, *is_return));
    for (at, is_return, operation) in ends {
        let (kind, value) = match operation.output().filter(|_| is_return) {
            Some(answer) if answer.ok => ("ok", &answer.value),
            Some(answer) => ("fail", &answer.value),
            None => ("invoke", &operation.input.value),
        };
        let key = operation.input.key.as_deref().map(Value::text);
        let key = key.map_or_else(String::new, |key| format!(", :key {key}"));
        let (process, f) = (operation.process, &operation.input.f);
        writeln!(to, "{{:time {at}, :process {process}, :type :{kind}, :f :{f}{key}, :value {value}}}")?;
    }
    Ok(())
}

struct Reader<'t> {
    text: &'t str,
    bytes: &'t [u8],
    at: usize,
    /// A place whose line is known, so that positions are found without starting over.
    mark: (usize, usize),
    /// How many values are open.
    depth: usize,
}

impl<'t> Reader<'t> {
    fn new(text: &'t str) -> Self {
        Reader { text, bytes: text.as_bytes(), at: 0, mark: (0, 1), depth: 0 }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// The line of a byte. Cheap if asked for places in their order.
    fn line(&mut self, at: usize) -> usize {
        let (from, line) = if self.mark.0 <= at { self.mark } else { (0, 1) };
        let lines = self.bytes[from..at].iter().filter(|byte| **byte == b'\n').count();
        self.mark = (at, line + lines);
        line + lines
    }

    /// The column of a byte, in characters.
    fn column(&self, at: usize) -> usize {
        let start = self.bytes[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        self.bytes[start..at].iter().filter(|byte| **byte & 0xc0 != 0x80).count() + 1
    }

    /// An error at the present place: what was expected, and what is there.
    fn error(&mut self, expected: &str) -> FormatError {
        let at = self.at.min(self.bytes.len());
        let (line, column) = (self.line(at), self.column(at));
        let found = match self.text.get(self.at..).and_then(|rest| rest.chars().next()) {
            Some(character) => format!("found {character:?}"),
            None => "the text ends".to_owned(),
        };
        FormatError { line, column, message: format!("{expected}, {found}") }
    }

    /// Skips blanks, comments and discarded values.
    #[inline]
    fn skip(&mut self) -> Result<(), FormatError> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r' | b',' | 0x0c) = self.peek() {
            self.at += 1;
        }
        match self.peek() {
            Some(b';' | b'#') => self.skip_more(),
            _ => Ok(()),
        }
    }

    #[cold]
    fn skip_more(&mut self) -> Result<(), FormatError> {
        loop {
            match self.peek() {
                Some(b' ' | b'\t' | b'\n' | b'\r' | b',' | 0x0c) => self.at += 1,
                Some(b';') => {
                    let end = self.bytes[self.at..].iter().position(|byte| *byte == b'\n');
                    self.at = end.map_or(self.bytes.len(), |end| self.at + end);
                }
                Some(b'#') if self.bytes.get(self.at + 1) == Some(&b'_') => {
                    self.at += 2;
                    self.discard()?;
                }
                _ => return Ok(()),
            }
        }
    }

    /// Reads the value after `#_` and forgets it. Discards in a row (`#_ #_ a b`) discard as many values.
    fn discard(&mut self) -> Result<(), FormatError> {
        let mut count = 1;
        while count > 0 {
            match self.peek() {
                Some(b' ' | b'\t' | b'\n' | b'\r' | b',') => self.at += 1,
                Some(b'#') if self.bytes.get(self.at + 1) == Some(&b'_') => {
                    self.at += 2;
                    count += 1;
                }
                Some(b';') => {
                    let end = self.bytes[self.at..].iter().position(|byte| *byte == b'\n');
                    self.at = end.map_or(self.bytes.len(), |end| self.at + end);
                }
                _ => {
                    self.here()?;
                    count -= 1;
                }
            }
        }
        Ok(())
    }

    fn value(&mut self) -> Result<Value, FormatError> {
        self.skip()?;
        self.here()
    }

    /// Reads the value that begins here.
    fn here(&mut self) -> Result<Value, FormatError> {
        match self.plain() {
            Some(value) => Ok(value),
            None => self.nested(),
        }
    }

    /// Reads what most values are: a short whole number, or nil.
    #[inline]
    fn plain(&mut self) -> Option<Value> {
        let rest = &self.bytes[self.at..];
        if let [b'n', b'i', b'l', after @ ..] = rest {
            let is_all = after.first().is_none_or(|byte| ENDS[usize::from(*byte)]);
            self.at += if is_all { 3 } else { 0 };
            return is_all.then_some(Value::Nil);
        }
        let mut number = 0;
        let mut length = 0;
        while let Some(digit) = rest.get(length).filter(|byte| byte.is_ascii_digit()) {
            number = number * 10 + i64::from(digit - b'0');
            length += 1;
            // Eighteen digits always fit.
            if length == 19 {
                return None;
            }
        }
        let is_all = length > 0 && rest.get(length).is_none_or(|byte| ENDS[usize::from(*byte)]);
        self.at += if is_all { length } else { 0 };
        is_all.then_some(Value::Int(number))
    }

    fn nested(&mut self) -> Result<Value, FormatError> {
        if self.depth > DEPTH_MAX {
            return Err(self.error("expected values nested less deep"));
        }
        self.depth += 1;
        let value = self.any();
        self.depth -= 1;
        value
    }

    fn any(&mut self) -> Result<Value, FormatError> {
        match self.peek() {
            None => Err(self.error("expected a value")),
            Some(b'"') => self.string(),
            Some(b'[') => Ok(Value::List(self.until(b']')?)),
            Some(b'(') => Ok(Value::List(self.until(b')')?)),
            Some(b'{') => self.map(),
            Some(b'\\') => Ok(self.character()),
            Some(b'#') => self.tagged(),
            Some(b')' | b']' | b'}') => Err(self.error("expected a value")),
            Some(_) => self.atom(),
        }
    }

    /// Reads a map that is an event as usual, without making a value of the map. None if it is not: then it has
    /// to be read as any other value.
    fn usual_event(&mut self, line: usize) -> Option<Event<'t>> {
        if self.peek()? == b'#' {
            self.at += 1;
            let tag = self.token();
            if tag.is_empty() || tag.starts_with(['_', '#']) {
                return None;
            }
        }
        if self.peek()? != b'{' {
            return None;
        }
        self.at += 1;
        self.depth = 1;
        let (mut kind, mut process, mut f, mut key, mut about) = (None, None, None, None, None);
        loop {
            self.skip().ok()?;
            match self.peek()? {
                b'}' => break,
                b':' => {}
                _ => return None,
            }
            let name = self.token();
            if name.len() < 2 {
                return None;
            }
            self.skip().ok()?;
            let is_new = match name {
                ":type" => {
                    let is_kind = match self.token() {
                        ":invoke" => EventKind::Invoke,
                        ":ok" => EventKind::Ok,
                        ":fail" => EventKind::Fail,
                        ":info" => EventKind::Info,
                        _ => return None,
                    };
                    kind.replace(is_kind).is_none()
                }
                ":process" => process.replace(self.here().ok()?).is_none(),
                ":f" => f.replace(self.name()?).is_none(),
                ":key" => key.replace(self.here().ok()?).is_none(),
                ":value" => about.replace(self.here().ok()?).is_none(),
                _ => self.here().is_ok(),
            };
            if !is_new {
                return None;
            }
        }
        self.at += 1;
        self.depth = 0;
        let process = if let Some(Value::Int(process)) = process { Some(process) } else { None };
        let (f, value) = (f.unwrap_or_default(), about.unwrap_or_default());
        Some(Event { process, kind: kind?, f, key, value, line })
    }

    /// A name without its colon, or anything else as EDN.
    fn name(&mut self) -> Option<Cow<'t, str>> {
        if self.peek() == Some(b':') {
            return self.token().strip_prefix(':').filter(|name| !name.is_empty()).map(Cow::Borrowed);
        }
        self.here().ok().map(|value| Cow::Owned(plain_text(&value)))
    }

    fn until(&mut self, close: u8) -> Result<Vec<Value>, FormatError> {
        self.at += 1;
        let mut values = Vec::new();
        loop {
            self.skip()?;
            match self.peek() {
                Some(byte) if byte == close => {
                    self.at += 1;
                    return Ok(values);
                }
                None => return Err(self.error(&format!("expected '{}'", char::from(close)))),
                Some(_) => values.push(self.value()?),
            }
        }
    }

    fn map(&mut self) -> Result<Value, FormatError> {
        let start = self.at;
        let values = self.until(b'}')?;
        if values.len() % 2 != 0 {
            self.at = start;
            return Err(self.error("expected a value for every key of this map"));
        }
        let mut entries = Vec::with_capacity(values.len() / 2);
        let mut values = values.into_iter();
        while let (Some(key), Some(value)) = (values.next(), values.next()) {
            entries.push((key, value));
        }
        Ok(Value::Map(entries))
    }

    /// `#{…}`, or a tag and the value it tags.
    fn tagged(&mut self) -> Result<Value, FormatError> {
        self.at += 1;
        match self.peek() {
            Some(b'{') => {
                let mut values = self.until(b'}')?;
                values.sort();
                values.dedup();
                Ok(Value::Set(values))
            }
            // Numbers that EDN has no notation for.
            Some(b'#') => {
                self.at += 1;
                Ok(Value::Symbol(self.token().into()))
            }
            _ if self.token().is_empty() => Err(self.error("expected a tag")),
            _ => self.value(),
        }
    }

    fn string(&mut self) -> Result<Value, FormatError> {
        self.at += 1;
        let mut text = String::new();
        loop {
            let rest = &self.text[self.at..];
            let Some(length) = rest.find(['"', '\\']) else {
                self.at = self.bytes.len();
                return Err(self.error("expected '\"'"));
            };
            text.push_str(&rest[..length]);
            self.at += length + 1;
            if rest.as_bytes()[length] == b'"' {
                return Ok(Value::Text(text.into()));
            }
            text.push(self.escape()?);
        }
    }

    fn escape(&mut self) -> Result<char, FormatError> {
        let character = match self.peek() {
            Some(b'n') => '\n',
            Some(b't') => '\t',
            Some(b'r') => '\r',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'u') => {
                let digits = self.text.get(self.at + 1..self.at + 5).filter(|digits| is_hex(digits));
                let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
                let Some(code) = code else { return Err(self.error("expected four hex digits")) };
                self.at += 4;
                char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            _ => return Err(self.error("expected an escaped character")),
        };
        self.at += 1;
        Ok(character)
    }

    fn character(&mut self) -> Value {
        self.at += 1;
        let rest = &self.text[self.at..];
        let first = rest.chars().next().map_or(0, char::len_utf8);
        // A name such as `newline` goes on after its first character.
        self.at += first;
        let name_end = self.at + self.token_length();
        let name = &self.text[self.at - first..name_end];
        self.at = name_end;
        match name {
            "newline" => Value::text("\n"),
            "space" => Value::text(" "),
            "tab" => Value::text("\t"),
            "return" => Value::text("\r"),
            name => Value::text(name),
        }
    }

    fn token_length(&self) -> usize {
        let rest = &self.bytes[self.at..];
        rest.iter().position(|byte| ENDS[usize::from(*byte)]).unwrap_or(rest.len())
    }

    fn token(&mut self) -> &'t str {
        let end = self.at + self.token_length();
        let token = &self.text[self.at..end];
        self.at = end;
        token
    }

    fn atom(&mut self) -> Result<Value, FormatError> {
        let start = self.at;
        let token = self.token();
        let first = token.as_bytes().first().copied().unwrap_or(b' ');
        let second = token.as_bytes().get(1).copied().unwrap_or(b' ');
        Ok(match token {
            "nil" => Value::Nil,
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            _ if first == b':' && token.len() > 1 => Value::Keyword(token[1..].into()),
            _ if first.is_ascii_digit() || (matches!(first, b'+' | b'-') && second.is_ascii_digit()) => {
                // Clojure writes big integers with an N behind.
                let digits = token.strip_suffix('N').unwrap_or(token);
                match digits.parse::<i64>() {
                    Ok(number) => Value::Int(number),
                    Err(_) => Value::Number(token.into()),
                }
            }
            "" | ":" => {
                self.at = start;
                return Err(self.error("expected a value"));
            }
            _ => Value::Symbol(token.into()),
        })
    }
}

/// By byte: whether it ends a token.
const ENDS: [bool; 256] = {
    let mut ends = [false; 256];
    let bytes = b" \t\n\r,\x0c;\"\\()[]{}";
    let mut at = 0;
    while at < bytes.len() {
        ends[bytes[at] as usize] = true;
        at += 1;
    }
    ends
};

fn is_hex(digits: &str) -> bool {
    digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_as_they_were_written() {
        for text in ["nil", "[1 -2 :a/b \"x\\n\\\"\" sym]", "{:a #{1 2}, \"b\" [true false]}", "1.5", "[]"] {
            let value = read(text).expect("well formed");
            assert_eq!(read(&value.to_string()).expect("written by ourselves"), value, "{text}");
        }
    }

    #[test]
    fn tags_discards_comments_and_commas_are_skipped() {
        let value =
            read("#jepsen.history.Op{:a 1, #_ #_ :b 2 :c #inst \"2020\" ; the end\n}").expect("well formed");
        assert_eq!(value.to_string(), "{:a 1, :c \"2020\"}");
    }

    #[test]
    fn errors_name_the_place_and_what_was_expected() {
        let error = read("[1\n 2 {:a}]").expect_err("odd map");
        assert_eq!(error.to_string(), "2:4: expected a value for every key of this map, found '{'");
        let error = read("[1 2").expect_err("open vector");
        assert_eq!(error.to_string(), "1:5: expected ']', the text ends");
    }

    #[test]
    fn usual_events_are_what_any_value_would_be() {
        let texts = [
            "{:process 0, :type :invoke, :f :write, :key \"k\", :value [1 nil]}",
            "#jepsen.history.Op{:index 3 :time 12 :type :ok :process :nemesis :f \"read\" :value {:a #{1}} :error [:x]}",
        ];
        let pieces =
            ["", " ", "{", "}", ":", "\"", ":f :a ", "#", "#_", ";\n", "1", "nil ", ":type :ok ", "\\"];
        let mut usual = 0;
        for text in texts {
            for place in 0..=text.len() {
                for removed in [0, 1, 6] {
                    for piece in pieces {
                        let rest = &text[(place + removed).min(text.len())..];
                        let text = format!("{}{piece}{rest}", &text[..place]);
                        let mut quick = Reader::new(&text);
                        let Some(found) = quick.usual_event(1) else { continue };
                        let mut slow = Reader::new(&text);
                        let expected = slow.value().map(|value| event(&value, 1));
                        assert_eq!((expected, slow.at), (Ok(Ok(found)), quick.at), "{text}");
                        usual += 1;
                    }
                }
            }
        }
        assert!(usual > 1000, "many damages are harmless: {usual}");
    }

    #[test]
    fn nesting_is_bounded() {
        for open in ["[", "{", "(", "#{", "#a ", "#_ [", "{:a "] {
            assert!(read(&open.repeat(100_000)).is_err());
        }
    }
}
