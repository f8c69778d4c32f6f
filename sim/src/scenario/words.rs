//! A line of a scenario as words, each with its column, and what is read from single words.

use std::fmt;
use std::time::Duration;

use quorate_raft::NodeId;

use crate::env::network::{LinkSet, MEMBERS_MAX};
use crate::fault_budget::NodeSet;
use crate::nemesis::Target;

/// What is wrong with a scenario, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {what}")]
pub struct Mistake {
    /// The line, from one.
    pub line: usize,
    /// The column, from one.
    pub column: usize,
    /// What is wrong, and what would be right.
    pub what: String,
}

/// A word, and where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Word {
    column: usize,
    text: Vec<u8>,
    /// Whether it stood in quotation marks: then it is a name, never one of the language's own words.
    quoted: bool,
}

/// The words of a line that were not read yet.
#[derive(Clone, Debug)]
pub struct Words {
    line: usize,
    words: Vec<Word>,
    next: usize,
    /// The column after the last word.
    end: usize,
}

/// What reading gives.
pub type Read<T> = Result<T, Mistake>;

impl Words {
    /// Splits a line. A comment is not part of it.
    pub fn of(line: usize, text: &str) -> Read<Words> {
        let bytes = text.as_bytes();
        let mut words = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            match bytes[at] {
                b' ' | b'\t' | b'\r' => at += 1,
                b'#' => break,
                b'"' => {
                    let (word, end) = quoted(bytes, at).map_err(|what| mistake(line, at + 1, what))?;
                    words.push(Word { column: at + 1, text: word, quoted: true });
                    at = end;
                }
                _ => {
                    let length = bytes[at..].iter().position(|byte| b" \t\r".contains(byte));
                    let end = length.map_or(bytes.len(), |length| at + length);
                    words.push(Word { column: at + 1, text: bytes[at..end].to_vec(), quoted: false });
                    at = end;
                }
            }
        }
        Ok(Words { line, words, next: 0, end: bytes.len() + 1 })
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.next == self.words.len()
    }

    /// The line.
    pub fn line(&self) -> usize {
        self.line
    }

    /// The next word as a word of the language; empty if it is none.
    pub fn peek(&self) -> &str {
        let word = self.words.get(self.next).filter(|word| !word.quoted);
        word.and_then(|word| std::str::from_utf8(&word.text).ok()).unwrap_or_default()
    }

    /// Takes the next word if it is this one.
    pub fn take(&mut self, word: &str) -> bool {
        let is = !self.is_empty() && self.peek() == word;
        self.next += usize::from(is);
        is
    }

    /// The next word must be this one.
    pub fn expect(&mut self, word: &str) -> Read<()> {
        if self.take(word) { Ok(()) } else { Err(self.wrong(&format!("expected {word:?}"))) }
    }

    /// The next word, whatever it is; `wanted` says what it should be.
    pub fn word(&mut self, wanted: &str) -> Read<String> {
        let text = self.bytes(wanted)?;
        String::from_utf8(text).map_err(|_| self.back().wrong(&format!("expected {wanted}")))
    }

    /// The next word's bytes: of a key or a value.
    pub fn bytes(&mut self, wanted: &str) -> Read<Vec<u8>> {
        let Some(word) = self.words.get(self.next) else {
            return Err(self.wrong(&format!("expected {wanted}")));
        };
        self.next += 1;
        Ok(word.text.clone())
    }

    /// A number.
    pub fn number<T: std::str::FromStr>(&mut self, wanted: &str) -> Read<T> {
        let text = self.word(wanted)?;
        text.parse().map_err(|_| self.back().wrong(&format!("expected {wanted}, found {text:?}")))
    }

    /// A duration, as `1.5s`, `20ms`, `7us`, `9ns`.
    pub fn duration(&mut self) -> Read<Duration> {
        let wanted = "a duration (such as 1.5s, 20ms, 7us or 9ns)";
        let text = self.word(wanted)?;
        duration(&text).ok_or_else(|| self.back().wrong(&format!("expected {wanted}, found {text:?}")))
    }

    /// A clock's rate, as `0.5`, in millionths.
    pub fn rate(&mut self) -> Read<u64> {
        let wanted = "a rate (such as 0.5, with 6 digits after the point at most)";
        let text = self.word(wanted)?;
        decimal(&text, 6).ok_or_else(|| self.back().wrong(&format!("expected {wanted}, found {text:?}")))
    }

    /// A member, as `n1`.
    pub fn node(&mut self) -> Read<NodeId> {
        let text = self.word("a member (such as n1)")?;
        node(&text).ok_or_else(|| self.back().wrong(&format!("expected a member (n1 to n7), found {text:?}")))
    }

    /// A member, or `leader`.
    pub fn target(&mut self) -> Read<Target> {
        if self.take("leader") { Ok(Target::Leader(NodeId(1))) } else { self.node().map(Target::Node) }
    }

    /// Members, as `n1,n2`.
    pub fn nodes(&mut self) -> Read<Vec<NodeId>> {
        let text = self.word("members (such as n1,n2)")?;
        let nodes: Option<Vec<NodeId>> = text.split(',').map(node).collect();
        nodes.ok_or_else(|| self.back().wrong(&format!("expected members (such as n1,n2), found {text:?}")))
    }

    /// Members as a set.
    pub fn node_set(&mut self) -> Read<NodeSet> {
        self.nodes().map(|nodes| NodeSet::of(&nodes))
    }

    /// Links, as `n1>n2,n2>n1`.
    pub fn links(&mut self) -> Read<LinkSet> {
        let wanted = "links (such as n1>n2,n2>n1, n1>*, *>n1, or none)";
        if self.take("none") {
            return Ok(LinkSet::none());
        }
        let text = self.word(wanted)?;
        let links = text.split(',').try_fold(LinkSet::none(), |links, link| {
            let link = match link.split_once('>')? {
                ("*", to) => LinkSet::to(node(to)?),
                (from, "*") => LinkSet::from(node(from)?),
                (from, to) => LinkSet::none().with(node(from)?, node(to)?),
            };
            Some(links.and(link))
        });
        links.ok_or_else(|| self.back().wrong(&format!("expected {wanted}, found {text:?}")))
    }

    /// Everything that is left, as it stands, its spaces made one each.
    pub fn rest(&mut self) -> String {
        let words = self.words[self.next..].iter().map(|word| String::from_utf8_lossy(&word.text));
        let rest = words.collect::<Vec<_>>().join(" ");
        self.next = self.words.len();
        rest
    }

    /// Nothing may be left.
    pub fn finish(&self) -> Read<()> {
        if self.is_empty() { Ok(()) } else { Err(self.wrong("the line should end here")) }
    }

    /// A mistake at the next word.
    pub fn wrong(&self, what: &str) -> Mistake {
        let column = self.words.get(self.next).map_or(self.end, |word| word.column);
        mistake(self.line, column, what)
    }

    /// As before the last word was taken.
    pub fn back(&mut self) -> &Words {
        self.next -= 1;
        self
    }
}

fn mistake(line: usize, column: usize, what: &str) -> Mistake {
    Mistake { line, column, what: what.to_owned() }
}

/// A word in quotation marks that begin here, and where it ends.
fn quoted(bytes: &[u8], begin: usize) -> Result<(Vec<u8>, usize), &'static str> {
    let mut text = Vec::new();
    let mut at = begin + 1;
    loop {
        match bytes.get(at).ok_or("the quotation marks do not end")? {
            b'"' => return Ok((text, at + 1)),
            b'\\' => {
                let (byte, length) = escaped(&bytes[at + 1..]).ok_or("no such escape")?;
                text.push(byte);
                at += 1 + length;
            }
            byte => {
                text.push(*byte);
                at += 1;
            }
        }
    }
}

fn escaped(bytes: &[u8]) -> Option<(u8, usize)> {
    Some(match bytes.first()? {
        b'n' => (b'\n', 1),
        b't' => (b'\t', 1),
        b'r' => (b'\r', 1),
        b'x' => {
            let digits = std::str::from_utf8(bytes.get(1..3)?).ok()?;
            (u8::from_str_radix(digits, 16).ok()?, 3)
        }
        byte @ (b'"' | b'\\' | b'\'') => (*byte, 1),
        _ => return None,
    })
}

/// A name as it has to be written: in quotation marks unless it is plainly a name.
pub fn written(name: &[u8]) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/_-".contains(byte);
    let keyword = matches!(name, b"all" | b"padded" | b"then" | b"else" | b"and" | b"end");
    if !name.is_empty() && !keyword && name.iter().all(plain) {
        String::from_utf8_lossy(name).into_owned()
    } else {
        format!("\"{}\"", name.escape_ascii())
    }
}

/// A member's name.
pub fn node(text: &str) -> Option<NodeId> {
    let number = text.strip_prefix('n')?.parse().ok()?;
    (1..MEMBERS_MAX as u64).contains(&number).then_some(NodeId(number))
}

fn duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_alphabetic());
    let places = match &text[digits.len()..] {
        "s" => 9,
        "ms" => 6,
        "us" | "µs" => 3,
        "ns" => 0,
        _ => return None,
    };
    decimal(digits, places).map(Duration::from_nanos)
}

/// A decimal number, times ten to this power; `None` if that is not whole.
fn decimal(text: &str, places: usize) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if part.len() > places || !part.bytes().chain(whole.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let scale = |digits: usize| 10u64.checked_pow(u32::try_from(digits).ok()?);
    let part: u64 = if part.is_empty() { 0 } else { part.parse().ok()? };
    let part = part.checked_mul(scale(places - text.split_once('.').map_or(0, |(_, p)| p.len()))?)?;
    whole.parse::<u64>().ok()?.checked_mul(scale(places)?)?.checked_add(part)
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}", self.line)
    }
}
