//! What a scenario says must become of a request: `-> ok`, `-> value v2`, `-> not ok`.

use std::fmt;

use quorate_jepsen::etcd::{Bytes, Reply, Response};

use super::requests::{value, value_text};
use super::words::{Read, Words};
use crate::workload::Outcome;

/// What must become of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Whether it must not become so.
    pub not: bool,
    /// What.
    pub what: Became,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Became {
    /// The outcome of this name: ok, error, refused, unknown.
    Named(&'static str),
    /// A read found exactly one key, with this value.
    Value(Bytes),
    /// A read found nothing.
    Nothing,
    /// A read found so many keys.
    Count(i64),
    /// A transaction took this branch: true is `then`.
    Branch(bool),
    /// A lease lives.
    Alive,
    /// A lease is gone.
    Gone,
}

impl Expected {
    /// Whether an outcome is what was expected.
    #[must_use]
    pub fn fits(&self, outcome: &Outcome) -> bool {
        self.what.fits(outcome) != self.not
    }
}

impl Became {
    fn fits(&self, outcome: &Outcome) -> bool {
        if let Became::Named(name) = self {
            return outcome.name() == *name;
        }
        let Outcome::Answered(Response { result, .. }) = outcome else { return false };
        match (self, result) {
            (Became::Value(wanted), Ok(Reply::Range { kvs, .. })) => {
                matches!(&kvs[..], [kv] if kv.value == *wanted)
            }
            (Became::Nothing, Ok(Reply::Range { kvs, count, .. })) => kvs.is_empty() && *count == 0,
            (Became::Count(wanted), Ok(Reply::Range { count, .. })) => count == wanted,
            (Became::Branch(wanted), Ok(Reply::Txn { succeeded, .. })) => succeeded == wanted,
            (Became::Alive, Ok(Reply::Lease { ttl, .. })) => *ttl > 0,
            // Whoever asks for a lease that is gone is told so in one way or the other.
            (Became::Gone, Ok(Reply::Lease { ttl, .. })) => *ttl <= 0,
            (Became::Gone, Err(_)) => true,
            _ => false,
        }
    }
}

/// Reads what is expected, after the arrow.
pub fn read(words: &mut Words) -> Read<Expected> {
    let not = words.take("not");
    let word = words.word(WANTED)?;
    let what = match word.as_str() {
        "value" => Became::Value(value(words)?),
        "nothing" => Became::Nothing,
        "count" => Became::Count(words.number("a number of keys")?),
        "then" => Became::Branch(true),
        "else" => Became::Branch(false),
        "alive" => Became::Alive,
        "gone" => Became::Gone,
        name => match OUTCOMES.into_iter().find(|outcome| *outcome == name) {
            Some(outcome) => Became::Named(outcome),
            None => return Err(words.back().wrong(&format!("expected {WANTED}, found {name:?}"))),
        },
    };
    Ok(Expected { not, what })
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.not { "not " } else { "" })?;
        match &self.what {
            Became::Named(name) => f.write_str(name),
            Became::Value(value) => write!(f, "value {}", value_text(value)),
            Became::Nothing => f.write_str("nothing"),
            Became::Count(count) => write!(f, "count {count}"),
            Became::Branch(true) => f.write_str("then"),
            Became::Branch(false) => f.write_str("else"),
            Became::Alive => f.write_str("alive"),
            Became::Gone => f.write_str("gone"),
        }
    }
}

const OUTCOMES: [&str; 4] = ["ok", "error", "refused", "unknown"];

const WANTED: &str =
    "[not] ok, error, refused, unknown, value VALUE, nothing, count N, then, else, alive or gone";
