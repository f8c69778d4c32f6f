//! What happened: a running hash over every event, and the last of them in words.
//!
//! The hash is the determinism check: a seed must give the same one on every run, on every machine, in debug
//! and release. The ring of the last events is what a failure report shows. Events are kept as small values
//! and put into words only when somebody looks.

use std::fmt;
use std::io::Write as _;

use quorate_raft::{Index, NodeId, Role};
use quorate_replica::Status;

use crate::time::Time;

/// Something that happened.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// A member received a message.
    Deliver {
        /// The sender.
        from: NodeId,
        /// The receiver.
        to: NodeId,
        /// What it says.
        message: MessageLine,
    },
    /// A member's deadline passed.
    Wake(NodeId),
    /// A member's writes are durable.
    Durable {
        /// The member.
        node: NodeId,
        /// The last write.
        write: u64,
    },
    /// A chunk of a snapshot file is durable.
    SnapshotSaved {
        /// The member.
        node: NodeId,
        /// What the file covers.
        index: Index,
        /// The chunk.
        sequence: u32,
    },
    /// A client's request reached a member.
    Request {
        /// The client process.
        process: u64,
        /// The member.
        node: NodeId,
        /// What is asked.
        what: &'static str,
    },
    /// A client got an answer, or gave up.
    Answer {
        /// The client process.
        process: u64,
        /// What became of the request.
        outcome: &'static str,
        /// The revision in the answer.
        revision: i64,
    },
    /// A watcher was told something.
    Watch {
        /// The watcher.
        watch: u64,
        /// What.
        what: &'static str,
        /// The revision it is about.
        revision: i64,
    },
    /// A fault began or ended.
    Fault(crate::nemesis::FaultLine),
    /// A member started.
    Start {
        /// The member.
        node: NodeId,
        /// For the how-manieth time.
        boot: u64,
    },
    /// A member lost power.
    Crash(NodeId),
    /// A phase of the run began.
    Phase(&'static str),
}

/// A message between members, in a few numbers.
#[derive(Clone, Copy, Debug)]
pub struct MessageLine {
    /// Its kind.
    pub kind: &'static str,
    /// The sender's term, or what else identifies it.
    pub term: u64,
    /// The first number that matters in a message of this kind.
    pub first: u64,
    /// The second one.
    pub second: u64,
}

/// Where a member stood after an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatusLine {
    /// The member.
    pub node: u64,
    /// Its term.
    pub term: u64,
    /// Its role.
    pub role: Role,
    /// Its leader, zero if unknown.
    pub leader: u64,
    /// Its last entry's term.
    pub last_term: u64,
    /// Its last entry's index.
    pub last: u64,
    /// Its last durable entry.
    pub persisted: u64,
    /// Its commit index.
    pub commit: u64,
    /// Its applied index.
    pub applied: u64,
    /// Its store's revision.
    pub revision: i64,
}

impl From<&Status> for StatusLine {
    fn from(status: &Status) -> StatusLine {
        let raft = &status.raft;
        StatusLine {
            node: raft.id.0,
            term: raft.term.0,
            role: raft.role,
            leader: raft.leader.map_or(0, |leader| leader.0),
            last_term: raft.last.term.0,
            last: raft.last.index.0,
            persisted: raft.persisted.0,
            commit: raft.commit.0,
            applied: status.applied.0,
            revision: status.revision.0,
        }
    }
}

impl fmt::Display for StatusLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "n{}@{} {} last={}@{} persisted={} commit={} applied={} revision={}",
            self.node,
            self.term,
            self.role,
            self.last,
            self.last_term,
            self.persisted,
            self.commit,
            self.applied,
            self.revision
        )?;
        if self.leader != 0 && self.leader != self.node {
            write!(f, " leader=n{}", self.leader)
        } else {
            Ok(())
        }
    }
}

/// A line of the trace.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// When.
    pub time: Time,
    /// What.
    pub event: Event,
    /// Where the member concerned stood afterwards.
    pub status: Option<StatusLine>,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let event = self.event.to_string();
        match &self.status {
            Some(status) => write!(f, "{:>13} {event:<52} | {status}", self.time.to_string()),
            None => write!(f, "{:>13} {event}", self.time.to_string()),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Deliver { from, to, message: MessageLine { kind, term, first, second } } => {
                write!(f, "n{from} → n{to} {kind}@{term} {first} {second}")
            }
            Event::Wake(node) => write!(f, "n{node} wakes"),
            Event::Durable { node, write } => write!(f, "n{node} disk: write {write} is durable"),
            Event::SnapshotSaved { node, index, sequence } => {
                write!(f, "n{node} disk: snapshot {index} chunk {sequence} is durable")
            }
            Event::Request { process, node, what } => write!(f, "client {process} asks n{node}: {what}"),
            Event::Answer { process, outcome, revision } => {
                write!(f, "client {process}: {outcome} revision={revision}")
            }
            Event::Watch { watch, what, revision } => write!(f, "watch {watch}: {what} revision={revision}"),
            Event::Fault(fault) => write!(f, "nemesis: {fault}"),
            Event::Start { node, boot } => write!(f, "n{node} starts, boot {boot}"),
            Event::Crash(node) => write!(f, "n{node} crashes"),
            Event::Phase(phase) => write!(f, "--- {phase} ---"),
        }
    }
}

/// A message's way from one member to another.
#[derive(Clone, Copy, Debug)]
pub struct Arrow {
    /// When it was sent.
    pub sent: Time,
    /// When it arrived, or would have; `None` if it was lost on its way.
    pub arrives: Option<Time>,
    /// Whether its receiver got it.
    pub delivered: bool,
    /// The sender.
    pub from: NodeId,
    /// The receiver.
    pub to: NodeId,
    /// What it says.
    pub message: MessageLine,
}

/// The running hash, and the last events.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    events: u64,
    /// The last events: a ring, whose oldest line is at `oldest` once it is full.
    last: Vec<Line>,
    oldest: usize,
    keep: usize,
    print: bool,
    /// All messages' ways, if everything is kept.
    arrows: Option<Vec<Arrow>>,
}

impl Trace {
    /// An empty trace that keeps so many events, and prints each as it happens if asked to.
    #[must_use]
    pub fn new(keep: usize, print: bool) -> Trace {
        let last = Vec::with_capacity(keep.min(1_024));
        Trace { hash: 0x9e37_79b9_7f4a_7c15, events: 0, last, oldest: 0, keep, print, arrows: None }
    }

    /// A trace that keeps everything, for a picture.
    #[must_use]
    pub fn complete(print: bool) -> Trace {
        Trace { arrows: Some(Vec::new()), ..Trace::new(usize::MAX, print) }
    }

    /// Takes note of a message's way, if everything is kept.
    pub fn arrow(&mut self, arrow: impl FnOnce() -> Arrow) {
        if let Some(arrows) = &mut self.arrows {
            arrows.push(arrow());
        }
    }

    /// All messages' ways, if everything is kept.
    #[must_use]
    pub fn arrows(&self) -> &[Arrow] {
        self.arrows.as_deref().unwrap_or_default()
    }

    /// Takes note of an event.
    pub fn record(&mut self, time: Time, event: Event, status: Option<&StatusLine>) {
        self.events += 1;
        self.mix(time.0);
        self.mix_event(&event);
        if let Some(status) = status {
            self.mix(status.term << 2 | status.role as u64);
            self.mix(status.last << 32 | status.commit);
            self.mix(status.applied << 32 | status.revision as u64);
        }
        let line = Line { time, event, status: status.copied() };
        if self.print {
            Trace::print(&line);
        }
        if self.last.len() < self.keep {
            self.last.push(line);
        } else {
            self.last[self.oldest] = line;
            self.oldest = if self.oldest + 1 == self.keep { 0 } else { self.oldest + 1 };
        }
    }

    fn print(line: &Line) {
        // Whoever reads the trace (`head`, say) may have seen enough.
        if writeln!(std::io::stdout(), "{line}").is_err() {
            std::process::exit(0);
        }
    }

    /// The hash of everything so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How many events there were.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The last events.
    pub fn last(&self) -> impl Iterator<Item = &Line> {
        let (newer, older) = self.last.split_at(self.oldest);
        older.iter().chain(newer)
    }

    fn mix_event(&mut self, event: &Event) {
        match *event {
            Event::Deliver { from, to, message } => {
                self.mix(
                    1 | from.0 << 8 | to.0 << 16 | (message.kind.len() as u64) << 24 | message.term << 32,
                );
                self.mix(message.first << 32 ^ message.second);
            }
            Event::Wake(node) => self.mix(2 | node.0 << 8),
            Event::Durable { node, write } => self.mix(3 | node.0 << 8 | write << 16),
            Event::SnapshotSaved { node, index, sequence } => {
                self.mix(4 | node.0 << 8 | index.0 << 32 | u64::from(sequence) << 16);
            }
            Event::Request { process, node, what } => {
                self.mix(5 | node.0 << 8 | process << 24 | (what.len() as u64) << 16);
            }
            Event::Answer { process, outcome, revision } => {
                self.mix(6 | (outcome.len() as u64) << 8 | process << 16);
                self.mix(revision as u64);
            }
            Event::Watch { watch, what, revision } => {
                self.mix(7 | (what.len() as u64) << 8 | watch << 16);
                self.mix(revision as u64);
            }
            Event::Fault(fault) => self.mix(8 | fault.number() << 8),
            Event::Start { node, boot } => self.mix(9 | node.0 << 8 | boot << 16),
            Event::Crash(node) => self.mix(10 | node.0 << 8),
            Event::Phase(phase) => self.mix(11 | (phase.len() as u64) << 8),
        }
    }

    fn mix(&mut self, word: u64) {
        // A multiply and a rotate: what is wanted is that a difference never disappears again, not secrecy.
        self.hash = (self.hash ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(29);
    }
}
