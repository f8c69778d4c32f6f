//! What may be so at a moment of a run: lines wait for it (`when`), demand it (`require`) or forbid it (`never`).
//!
//! ```text
//! [not] WHO leads | follows | runs | votes | learns | belongs
//! [not] WHO commits N | applies N | holds N | reaches-term N | snapshots N
//! [not] WHO has KEY [= VALUE] | keeps-lease ID
//! [not] client N idle | watcher N sees REVISION | operator idle
//! WHO: n1 … n7 | any | all
//! ```
//!
//! `any` and `all` are about the members that run; nobody is all of nobody.

use std::fmt;

use quorate_jepsen::etcd::Bytes;
use quorate_raft::NodeId;

use super::requests::{value, value_text};
use super::words::{Read, Words, written};

/// Something that may be so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Whether it must not be so.
    pub not: bool,
    /// What.
    pub fact: Fact,
}

/// Something that is so, or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// About members.
    Members(Who, Standing),
    /// A client waits for nothing.
    ClientIdle(u64),
    /// A watcher has seen everything up to this revision.
    WatcherSees(u64, i64),
    /// The operator waits for nothing.
    OperatorIdle,
}

/// About whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// One of those that run, at least.
    Any,
    /// Everybody who runs.
    All,
    /// This one.
    Node(NodeId),
}

/// How a member stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It leads.
    Leads,
    /// It follows a leader that it knows.
    Follows,
    /// It runs.
    Runs,
    /// It has a vote, as whoever has applied most knows.
    Votes,
    /// It is a member without a vote.
    Learns,
    /// It is a member.
    Belongs,
    /// Its commit index is at least this.
    Commits(u64),
    /// It has applied at least this.
    Applies(u64),
    /// Its log reaches at least this.
    Holds(u64),
    /// Its term is at least this.
    Term(u64),
    /// Its newest snapshot covers at least this.
    Snapshots(u64),
    /// Its store has this key, with this value if one is said.
    Has(Bytes, Option<Bytes>),
    /// Its store knows this lease.
    KeepsLease(i64),
}

/// Reads a condition.
pub fn read(words: &mut Words) -> Read<Condition> {
    let not = words.take("not");
    let fact = if words.take("client") {
        let client = words.number("a client's number")?;
        words.expect("idle").map(|()| Fact::ClientIdle(client))?
    } else if words.take("watcher") {
        let watcher = words.number("a watcher's number")?;
        words.expect("sees")?;
        Fact::WatcherSees(watcher, words.number("a revision")?)
    } else if words.take("operator") {
        words.expect("idle").map(|()| Fact::OperatorIdle)?
    } else {
        let who = if words.take("any") {
            Who::Any
        } else if words.take("all") {
            Who::All
        } else {
            Who::Node(words.node().map_err(|mistake| super::Mistake { what: WHO.to_owned(), ..mistake })?)
        };
        Fact::Members(who, standing(words)?)
    };
    Ok(Condition { not, fact })
}

fn standing(words: &mut Words) -> Read<Standing> {
    let verb = words.word(VERBS)?;
    Ok(match verb.as_str() {
        "leads" => Standing::Leads,
        "follows" => Standing::Follows,
        "runs" => Standing::Runs,
        "votes" => Standing::Votes,
        "learns" => Standing::Learns,
        "belongs" => Standing::Belongs,
        "commits" => Standing::Commits(words.number("an index")?),
        "applies" => Standing::Applies(words.number("an index")?),
        "holds" => Standing::Holds(words.number("an index")?),
        "reaches-term" => Standing::Term(words.number("a term")?),
        "snapshots" => Standing::Snapshots(words.number("an index")?),
        "keeps-lease" => Standing::KeepsLease(words.number("a lease")?),
        "has" => {
            let key = Bytes::from(words.bytes("a key")?);
            Standing::Has(key, if words.take("=") { Some(value(words)?) } else { None })
        }
        other => return Err(words.back().wrong(&format!("expected {VERBS}, found {other:?}"))),
    })
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.not { "not " } else { "" })?;
        match &self.fact {
            Fact::Members(Who::Any, standing) => write!(f, "any {standing}"),
            Fact::Members(Who::All, standing) => write!(f, "all {standing}"),
            Fact::Members(Who::Node(node), standing) => write!(f, "n{node} {standing}"),
            Fact::ClientIdle(client) => write!(f, "client {client} idle"),
            Fact::WatcherSees(watcher, revision) => write!(f, "watcher {watcher} sees {revision}"),
            Fact::OperatorIdle => f.write_str("operator idle"),
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Standing::Leads => f.write_str("leads"),
            Standing::Follows => f.write_str("follows"),
            Standing::Runs => f.write_str("runs"),
            Standing::Votes => f.write_str("votes"),
            Standing::Learns => f.write_str("learns"),
            Standing::Belongs => f.write_str("belongs"),
            Standing::Commits(index) => write!(f, "commits {index}"),
            Standing::Applies(index) => write!(f, "applies {index}"),
            Standing::Holds(index) => write!(f, "holds {index}"),
            Standing::Term(term) => write!(f, "reaches-term {term}"),
            Standing::Snapshots(index) => write!(f, "snapshots {index}"),
            Standing::KeepsLease(lease) => write!(f, "keeps-lease {lease}"),
            Standing::Has(key, None) => write!(f, "has {}", written(key.as_slice())),
            Standing::Has(key, Some(value)) => {
                write!(f, "has {} = {}", written(key.as_slice()), value_text(value))
            }
        }
    }
}

const WHO: &str = "expected whom it is about: a member (n1 to n7), any, all, client, watcher or operator";

const VERBS: &str = "leads, follows, runs, votes, learns, belongs, commits, applies, holds, reaches-term, \
                     snapshots, has or keeps-lease";
