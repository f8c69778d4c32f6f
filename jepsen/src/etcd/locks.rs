//! What etcd promises about locks, and what it does not.
//!
//! A lock of etcd's clients is a key under a prefix, attached to a lease. Its owner is the one whose key has the
//! smallest create revision of those there are. So at every revision there is one owner, and
//!
//! * *ownership*: whoever was told at a revision that it owns the lock has the smallest key at that revision
//!   ([`check_ownership`]);
//! * *fencing*: a resource that demands the create revision of the lock's key as a token, and that this key be
//!   there, never accepts a smaller token after a greater one, nor any token after its key has gone
//!   ([`check_fencing`]).
//!
//! What it cannot promise is that two clients never *believe* to be owners at once: a lease may end while its
//! client is paused and unaware. [`overlaps`] finds such pairs. They are a fact of leases, not a fault of the
//! server, and the reason for tokens.
//!
//! Sources: etcd's `client/v3/concurrency/mutex.go`; Kleppmann, "How to do distributed locking", 2016; Jepsen's
//! etcd 3.4.3 report, which calls such locks "fundamentally unsafe".

use std::collections::BTreeMap;

use super::request::Bytes;
use super::watch::Log;
use crate::Violation;

/// A stretch of time in which a client believed to own a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Who.
    pub process: u64,
    /// Its key under the lock's prefix.
    pub key: Bytes,
    /// The create revision of that key: the fencing token.
    pub token: i64,
    /// The revision at which it was told that it owns the lock.
    pub revision: i64,
    /// When it was told so.
    pub acquired: u64,
    /// When it last acted as the owner; the end of time if it never released the lock.
    pub released: u64,
}

/// Whoever was told to be the owner was the owner.
pub fn check_ownership(log: &Log, prefix: &[u8], holds: &[Hold]) -> Result<(), Violation> {
    let mut holds: Vec<(usize, &Hold)> = holds.iter().enumerate().collect();
    holds.sort_by_key(|(_, hold)| hold.revision);
    let mut keys = Keys::new(log, prefix);
    for (index, hold) in holds {
        keys.advance(hold.revision);
        let process = hold.process;
        let owner = keys.alive.iter().min_by_key(|(_, created)| **created);
        let wrong = match owner {
            Some((key, created)) if *key == &hold.key && *created == hold.token => continue,
            Some((key, created)) => format!("{key} of create revision {created} owned it"),
            None => "nobody owned it".to_owned(),
        };
        let sentence = format!(
            "process {process} was told at revision {} that {} of create revision {} owns the lock [hold {index}], \
             but {wrong}",
            hold.revision, hold.key, hold.token
        );
        return Err(Violation { rule: "lock-ownership", sentence, operations: Vec::new() });
    }
    Ok(())
}

/// A write that a resource accepted: its revision, and the token that came with it.
pub type Accepted = (i64, i64);

/// Accepted tokens never decrease, and each belongs to a key that is there.
pub fn check_fencing(log: &Log, prefix: &[u8], accepted: &[Accepted]) -> Result<(), Violation> {
    let mut accepted = accepted.to_vec();
    accepted.sort_unstable();
    let mut keys = Keys::new(log, prefix);
    let mut greatest = 0;
    for (revision, token) in accepted {
        // The guard is evaluated on the state before the write.
        keys.advance(revision - 1);
        let why = if token < greatest {
            format!("after token {greatest} had been accepted")
        } else if !keys.alive.values().any(|created| *created == token) {
            "whose key had gone".to_owned()
        } else {
            greatest = token;
            continue;
        };
        let sentence = format!("the resource accepted token {token} at revision {revision}, {why}");
        return Err(Violation { rule: "lock-fencing", sentence, operations: Vec::new() });
    }
    Ok(())
}

/// Pairs of holds, by their places in the list, that overlap in time: clients that believed to own the lock at
/// once. Equal times do not overlap.
#[must_use]
pub fn overlaps(holds: &[Hold]) -> Vec<(usize, usize)> {
    let mut order: Vec<usize> = (0..holds.len()).collect();
    order.sort_by_key(|index| holds[*index].acquired);
    let mut pairs = Vec::new();
    let mut longest: Option<usize> = None;
    for index in order {
        if let Some(earlier) = longest
            && holds[index].acquired < holds[earlier].released
        {
            pairs.push((earlier, index));
        }
        if longest.is_none_or(|earlier| holds[earlier].released < holds[index].released) {
            longest = Some(index);
        }
    }
    pairs
}

/// The keys under a prefix, revision by revision.
struct Keys<'l> {
    log: &'l Log,
    prefix: &'l [u8],
    next: usize,
    alive: BTreeMap<&'l Bytes, i64>,
}

impl<'l> Keys<'l> {
    fn new(log: &'l Log, prefix: &'l [u8]) -> Self {
        Keys { log, prefix, next: 0, alive: BTreeMap::new() }
    }

    /// Goes on to the state at a revision.
    fn advance(&mut self, revision: i64) {
        while let Some(change) = self.log.changes.get(self.next).filter(|change| change.revision <= revision)
        {
            for event in &change.events {
                if !event.kv.key.as_slice().starts_with(self.prefix) {
                    continue;
                }
                if event.deleted {
                    self.alive.remove(&event.kv.key);
                } else {
                    self.alive.insert(&event.kv.key, event.kv.create_revision);
                }
            }
            self.next += 1;
        }
    }
}
