//! Histories in files.
//!
//! | format | looks like | from |
//! |---|---|---|
//! | `edn` | `{:process 0, :type :invoke, :f :read, :value nil}` | Jepsen's `history.edn`, Knossos, Porcupine's key-value logs |
//! | `json` | `{"process":0,"type":"invoke","f":"read","value":null}` | elle-cli |
//! | `log` | `INFO  jepsen.util - 0 :invoke :read nil` | Jepsen's own log |
//! | `lines` | `{"process":0,"call":1,"return":5,"f":"read","output":3}` | ours: see [`lines`] |
//! | `case` | `{"kind":"list-append","options":{…},"history":[…]}` | transactions with options: see [`case`] |
//! | `sessions` | `w 1 5`, `-----`, `r 1 5` or `w(1,5,0,0)` | AWDIT, Plume, PolySI: see [`sessions`] |
//! | `dbcop` | `[[{"events":[{"Write":{"variable":1,"version":5}}],"committed":true}]]` | dbcop |
//! | `robustness` | `{"ClientId":0,"Input":{…},"Call":…}` | etcd's robustness tests: see [`crate::robustness`] |
//! | `etcd` | `{"process":0,"call":1,"return":5,"request":…,"response":…}` | ours: see [`lines`] |
//!
//! The format is recognized by the first line that says something ([`detect`]). Every reader says where it
//! failed and what it expected there, and none panics or recurses without bound, whatever the bytes.

pub mod case;
pub mod edn;
pub mod jepsen;
pub mod json;
pub mod lines;
pub mod log;
mod quick;
mod scan;
pub mod sessions;
mod stream;
mod write;

pub use stream::{ReadError, read_from, read_pieces};
pub use write::{WriteError, write};

use crate::etcd::Records;
use crate::history::History;
use jepsen::{Answer, Ask};

/// What a file holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Recording {
    /// Operations named by Jepsen's `:f`, to be given a meaning by a model.
    Named(History<Ask, Answer>),
    /// etcd's own operations.
    Etcd(Box<Records<'static>>),
    /// Transactions that say themselves how to judge them.
    Case(Box<case::Case>),
    /// Transactions of sessions, without times.
    Sessions(History<Ask, Answer>),
    /// A report of etcd's robustness tests.
    Robustness(Box<crate::robustness::Report>),
}

/// A format that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Jepsen events as EDN.
    Edn,
    /// Jepsen events as JSON.
    Json,
    /// Jepsen's log lines.
    Log,
    /// Operations, one JSON object per line.
    Lines,
    /// etcd operations and watches, one JSON object per line.
    Etcd,
    /// Transactions with the options of their check.
    Case,
    /// Reads and writes of sessions, line by line.
    Sessions,
    /// Reads and writes of sessions as dbcop's JSON.
    Dbcop,
    /// Reports of etcd's robustness tests.
    Robustness,
}

/// Where and why a file could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub struct FormatError {
    /// Counted from one.
    pub line: usize,
    /// In characters, counted from one.
    pub column: usize,
    /// What was expected, and what was there.
    pub message: String,
}

impl FormatError {
    /// An error at the beginning of a line.
    #[must_use]
    pub fn at_line(line: usize, message: impl Into<String>) -> FormatError {
        FormatError { line, column: 1, message: message.into() }
    }
}

/// How lenient to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Values are pairs of a key and the value proper (Jepsen's independent keys).
    pub independent: bool,
    /// A completion without an invocation is an operation that took no time.
    pub lenient: bool,
}

/// Recognizes the format by the content.
#[must_use]
pub fn detect(text: &str) -> Option<Format> {
    let line = text.lines().map(str::trim_start).find(|line| !line.is_empty() && !line.starts_with(';'))?;
    if line.contains("jepsen.util - ") {
        return Some(Format::Log);
    }
    if line.starts_with(['{', '[']) {
        // Far enough for the first names, wherever their lines break.
        let inner = text.trim_start().trim_start_matches(['[', '(', '{', ' ', '\n', '\r', '\t']);
        if inner.starts_with('"') {
            return Some(detect_json(text, line, inner));
        }
    }
    if line.starts_with(['[', '(', '{', '#']) {
        return Some(Format::Edn);
    }
    if sessions::is_line(line) {
        return Some(Format::Sessions);
    }
    // A log may begin with lines of others.
    text.contains("jepsen.util - ").then_some(Format::Log)
}

/// Which JSON it is, by the names of fields: of the first line, or of the beginning of one big value.
fn detect_json(text: &str, line: &str, inner: &str) -> Format {
    let has = |name: &str| line.contains(name);
    if has("\"request\"") || has("\"watch\"") {
        return Format::Etcd;
    }
    if has("\"call\"") {
        return Format::Lines;
    }
    let names = |name: &str| inner.starts_with(name);
    if names("\"events\"") || names("\"committed\"") || names("\"sessions\"") || names("\"data\"") {
        return Format::Dbcop;
    }
    let beginning = inner.get(..inner.len().min(1 << 14)).unwrap_or(inner);
    let robustness =
        ["\"ClientId\"", "\"expectError\"", "\"sequence\"", "\"persistedRequests\"", "\"WithPrefix\""];
    if robustness.iter().any(|name| beginning.contains(name)) {
        return Format::Robustness;
    }
    if text.trim_start().starts_with('{') && text.contains("\"history\"") && !has("\"process\"") {
        return Format::Case;
    }
    Format::Json
}

/// What to say of a file that might be anything.
fn unrecognized(text: &str) -> FormatError {
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    let first = lines.into_iter().find(|(_, line)| !line.is_empty() && !line.starts_with(';'));
    let Some((line, begins)) = first else {
        return FormatError::at_line(1, "expected a history, and nothing is here");
    };
    let shown: String = begins.chars().take(40).collect();
    let why = format!(
        "expected a history, not {shown:?}: operations in EDN such as {{:process 0, :type :invoke, :f :read}}, the same in \
         JSON, lines of JSON, Jepsen's log, or texts of sessions (docs/formats.md has the formats; --format names one of \
         edn, json, log, lines, etcd, case, sessions, dbcop, robustness)"
    );
    FormatError::at_line(line, why)
}

/// Reads a history in any format; `None` recognizes it.
pub fn read(text: &str, format: Option<Format>, options: ReadOptions) -> Result<Recording, FormatError> {
    let Some(format) = format.or_else(|| detect(text)) else {
        return Err(unrecognized(text));
    };
    match format {
        Format::Edn => Ok(Recording::Named(edn::history(text, options)?)),
        Format::Json => Ok(Recording::Named(json::history(text, options)?)),
        Format::Log => Ok(Recording::Named(log::history(text, options)?)),
        Format::Lines => Ok(Recording::Named(lines::read_named(text)?)),
        Format::Etcd => Ok(Recording::Etcd(Box::new(lines::read_etcd(text)?))),
        Format::Case => Ok(Recording::Case(Box::new(case::read(text)?))),
        Format::Sessions => Ok(Recording::Sessions(sessions::read_text(text)?)),
        Format::Robustness => Ok(Recording::Robustness(Box::new(crate::robustness::read(text)?))),
        Format::Dbcop => Ok(Recording::Sessions(sessions::read_dbcop(text)?)),
    }
}
