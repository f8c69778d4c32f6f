//! What clients do, in the words of etcd's wire format as the checker knows them.
//!
//! A [`Client`] says what it asks next and is told what became of it; it knows nothing of events, tasks or
//! links. The core depth turns its requests into the replica's, the whole depth into encoded protobuf; the
//! history is recorded in the very words used here.
//!
//! One file per workload. Each keeps to keys of its own, but all share one cluster and one row of revisions,
//! and the checker judges them together.

mod kv;
mod lease;
pub mod lock;
mod register;
mod txn;
pub mod watch;

use std::time::Duration;

use quorate_jepsen::etcd::{Bytes, Reply, Request, Response};
use quorate_raft::NodeId;

use crate::options::{Load, Options};
use crate::random::{Random, Stream};

/// What became of a request.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It was answered.
    Answered(Response),
    /// It certainly had no effect, and says nothing about the state: the connection was refused, the member
    /// was overloaded.
    Refused,
    /// Nobody knows: it timed out, or the connection broke. Whoever asked is retired (the process, not the
    /// client).
    Unknown,
}

impl Outcome {
    /// In a word.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Outcome::Answered(Response { result: Ok(_), .. }) => "ok",
            Outcome::Answered(_) => "error",
            Outcome::Refused => "refused",
            Outcome::Unknown => "unknown",
        }
    }
}

/// What all clients of a run know together.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The highest revision in any answer so far.
    pub revision: i64,
    /// How many values were made up so far: no two are the same.
    values: u64,
}

impl Known {
    /// A value that was never written before, of about so many bytes.
    pub fn fresh_value(&mut self, bytes: usize) -> Bytes {
        self.values += 1;
        let mut value = format!("v{}", self.values).into_bytes();
        if value.len() < bytes {
            value.resize(bytes, b'.');
        }
        Bytes::from(value)
    }

    /// Takes note of an answer.
    pub fn learn(&mut self, outcome: &Outcome) {
        if let Outcome::Answered(Response { revision, result: Ok(_), .. }) = outcome {
            self.revision = self.revision.max(*revision);
        }
    }
}

/// One client: asks one thing at a time.
#[derive(Debug)]
pub struct Client {
    /// Its number among the clients.
    pub slot: u64,
    /// The process it is in the history: a new one after each unknown outcome.
    pub process: u64,
    /// The member it talks to.
    pub member: NodeId,
    script: Script,
    clients: u64,
    members: Vec<NodeId>,
    load: Load,
    random: Random,
}

/// The workload that a client runs.
#[derive(Debug)]
enum Script {
    Register(register::Register),
    Kv(kv::Kv),
    Txn(txn::Txns),
    Lease(lease::Leases),
    Lock(lock::Locks),
}

impl Client {
    /// All clients of a run.
    #[must_use]
    pub fn all(options: &Options) -> Vec<Client> {
        (0..options.load.clients).map(|slot| Client::new(options, slot)).collect()
    }

    fn new(options: &Options, slot: u64) -> Client {
        let load = options.load.clone();
        let mut random = Random::numbered(options.seed, Stream::Clients, slot);
        let script = match random.weighted(&load.mix) {
            Some(0) => Script::Register(register::Register::default()),
            Some(1) => Script::Kv(kv::Kv),
            Some(2) => Script::Txn(txn::Txns::default()),
            Some(3) => Script::Lease(lease::Leases::new(slot)),
            _ => Script::Lock(lock::Locks::new(slot)),
        };
        let members = options.member_ids();
        let member = random.pick(&members);
        Client { slot, process: slot, member, script, clients: load.clients, members, load, random }
    }

    /// How long it thinks before its next request.
    pub fn think(&mut self) -> Duration {
        self.random.exponential_duration(self.load.think)
    }

    /// How long it waits for an answer.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.load.patience
    }

    /// What it asks next; and it may turn to another member.
    pub fn next(&mut self, known: &mut Known) -> Request {
        if self.random.chance(self.load.roam) {
            self.member = self.random.pick(&self.members);
        }
        let context = &mut Context { load: &self.load, random: &mut self.random, known };
        match &mut self.script {
            Script::Register(register) => register.next(context),
            Script::Kv(kv) => kv.next(context),
            Script::Txn(txns) => txns.next(context),
            Script::Lease(leases) => leases.next(context),
            Script::Lock(locks) => locks.next(context),
        }
    }

    /// Learns what became of its last request.
    pub fn done(&mut self, request: &Request, outcome: &Outcome) {
        match outcome {
            Outcome::Answered(Response { result: Ok(reply), revision, .. }) => match &mut self.script {
                Script::Register(register) => register.done(request, reply),
                Script::Kv(_) => {}
                Script::Txn(txns) => txns.done(request, reply),
                Script::Lease(leases) => leases.done(request, Some(reply)),
                Script::Lock(locks) => locks.done(request, Some((reply, *revision))),
            },
            Outcome::Answered(_) => self.failed(request),
            Outcome::Refused => self.turn_away(),
            Outcome::Unknown => {
                // A process that does not know what it did is over (the rule of Jepsen's histories).
                self.process += self.clients;
                self.failed(request);
                self.turn_away();
            }
        }
    }

    fn failed(&mut self, request: &Request) {
        match &mut self.script {
            Script::Lease(leases) => leases.done(request, None),
            Script::Lock(locks) => locks.done(request, None),
            Script::Register(_) | Script::Kv(_) | Script::Txn(_) => {}
        }
    }

    fn turn_away(&mut self) {
        self.member = self.random.pick(&self.members);
    }
}

/// What a workload draws from.
struct Context<'a> {
    load: &'a Load,
    random: &'a mut Random,
    known: &'a mut Known,
}

impl Context<'_> {
    /// One of the keys of a workload.
    fn key(&mut self, prefix: &str) -> Bytes {
        let number = self.random.below(self.load.keys);
        numbered(prefix, number)
    }

    /// Two different keys of a workload, or the same twice if it has only one.
    fn two_keys(&mut self, prefix: &str) -> (Bytes, Bytes) {
        let first = self.random.below(self.load.keys);
        let step = if self.load.keys > 1 { 1 + self.random.below(self.load.keys - 1) } else { 0 };
        let second = (first + step) % self.load.keys;
        (numbered(prefix, first), numbered(prefix, second))
    }

    fn value(&mut self) -> Bytes {
        self.known.fresh_value(self.load.value_bytes)
    }

    fn stale(&mut self) -> bool {
        self.random.chance(self.load.serializable)
    }
}

/// A prefix, a slash and two digits or more. Made for every request, so what is usual is not formatted.
fn numbered(prefix: &str, number: u64) -> Bytes {
    let (tens, ones) = (b'0' + (number / 10 % 10) as u8, b'0' + (number % 10) as u8);
    let (prefix, mut key) = (prefix.as_bytes(), [0; 16]);
    let length = prefix.len() + 3;
    if number >= 100 || length > key.len() {
        return Bytes::from(format!("{}/{number:02}", prefix.escape_ascii()).as_str());
    }
    key[..prefix.len()].copy_from_slice(prefix);
    key[prefix.len()..length].copy_from_slice(&[b'/', tens, ones]);
    Bytes::from(&key[..length])
}

/// The value that a read of one key found.
fn value_read(reply: &Reply) -> Option<&Bytes> {
    match reply {
        Reply::Range { kvs, .. } => kvs.first().map(|kv| &kv.value),
        _ => None,
    }
}

/// What is asked, in a word.
#[must_use]
pub fn name(request: &Request) -> &'static str {
    match request {
        Request::Range(range) if range.serializable => "serializable range",
        Request::Range(_) => "range",
        Request::Put(_) => "put",
        Request::Delete(_) => "delete",
        Request::Txn(_) => "txn",
        Request::Compact { .. } => "compact",
        Request::LeaseGrant { .. } => "lease grant",
        Request::LeaseRevoke { .. } => "lease revoke",
        Request::LeaseKeepAlive { .. } => "lease keep-alive",
        Request::LeaseTimeToLive { .. } => "lease time to live",
    }
}
