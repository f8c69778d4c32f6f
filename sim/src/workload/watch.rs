//! Watchers: clients that are told of changes, lose their connection, and go on elsewhere where they were.
//!
//! A watcher resumes after the last revision it knows itself to have seen completely: the last event, or the
//! last progress notification. What it receives on the way is judged by the checker, stream by stream.

use quorate_jepsen::etcd::{Keys, WatchRequest, WatchResponse};
use quorate_raft::NodeId;

use crate::options::Options;
use crate::random::{Random, Stream};

use super::{Known, numbered};

/// One watcher.
#[derive(Debug)]
pub struct Watcher {
    /// The member it watches at.
    pub member: NodeId,
    /// What it watches, of the workloads' keys.
    keys: Keys,
    /// Whether it wants to know the versions before.
    prev_kv: bool,
    /// The revision it goes on from; zero for whatever comes next.
    next: i64,
    /// How many events it takes at a time: few, if it is slow.
    pub credit: u32,
    members: Vec<NodeId>,
    /// Whether it wanders from member to member and asks for things by itself.
    restless: bool,
    random: Random,
}

/// What a watcher does about a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reaction {
    /// It asks how far it is.
    pub progress: bool,
    /// It closes the stream and opens another.
    pub close: bool,
    /// The stream is over.
    pub over: bool,
}

impl Watcher {
    /// All watchers of a run.
    #[must_use]
    pub fn all(options: &Options) -> Vec<Watcher> {
        (0..options.load.watchers).map(|slot| Watcher::new(options, slot)).collect()
    }

    fn new(options: &Options, slot: u64) -> Watcher {
        let mut random = Random::numbered(options.seed, Stream::Workload, slot);
        let prefix = random.pick(&["k", "t", "l", "r"]);
        let keys = match random.below(4) {
            0 => Keys::all(),
            1 => Keys::one(numbered(prefix, random.clone().below(options.load.keys))),
            _ => Keys::between(prefix, format!("{prefix}0").as_str()),
        };
        let members = options.member_ids();
        Watcher {
            member: random.pick(&members),
            keys,
            prev_kv: random.chance(500_000),
            next: 0,
            credit: random.pick(&[1, 3, 100, 1_000]),
            members,
            restless: true,
            random,
        }
    }

    /// A watcher that does what it is told and nothing else.
    #[must_use]
    pub fn scripted(member: NodeId, keys: Keys, from: i64, prev_kv: bool, credit: u32) -> Watcher {
        let random = Random::numbered(0, Stream::Workload, 0);
        Watcher { member, keys, prev_kv, next: from, credit, members: vec![member], restless: false, random }
    }

    /// Goes on at this member when its stream ends.
    pub fn moves(&mut self, member: NodeId) {
        self.members = vec![member];
    }

    /// Whether it has been told of everything up to a revision.
    #[must_use]
    pub fn sees(&self, revision: i64) -> bool {
        self.next > revision
    }

    /// Opens a stream, at this member or another.
    pub fn open(&mut self, known: &Known) -> WatchRequest {
        if self.restless && self.next == 0 && self.random.chance(500_000) {
            // From the past, near or far, from now, or from a little in the future.
            let past = self.random.pick(&[20, 20, 20, 3_000]);
            self.next = (known.revision + 3 - self.random.below(past) as i64).max(1);
        }
        WatchRequest {
            keys: self.keys.clone(),
            start_revision: self.next,
            prev_kv: self.prev_kv,
            ..WatchRequest::default()
        }
    }

    /// Takes a response.
    pub fn receive(&mut self, response: &WatchResponse) -> Reaction {
        if response.canceled {
            self.next = response.compact_revision.max(self.next);
            return Reaction { over: true, ..Reaction::default() };
        }
        if let Some(last) = response.events.last() {
            self.next = self.next.max(last.kv.mod_revision + 1);
        } else if response.created {
            if self.next == 0 {
                self.next = response.revision + 1;
            }
        } else {
            self.next = self.next.max(response.revision + 1);
        }
        if !self.restless {
            return Reaction::default();
        }
        Reaction { progress: self.random.chance(50_000), close: self.random.chance(10_000), over: false }
    }

    /// The connection broke, or was closed: the next stream may be at another member.
    pub fn lost(&mut self) {
        self.member = self.random.pick(&self.members);
    }
}
