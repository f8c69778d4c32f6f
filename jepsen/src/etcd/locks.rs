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

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::request::Bytes;
use super::watch::{Change, Log};
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
        keys.check_owner(index, hold)?;
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
        keys.check_token((revision, token), &mut greatest)?;
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

/// The promises of a lock while it is used, see [`Online`](super::online::Online): what was told and accepted is judged when
/// the changes up to there are known.
pub struct OnlineLock {
    keys: Keys<'static>,
    /// Changes that are known and not yet gone through.
    changes: Vec<Change>,
    /// Up to where changes were known the last time. Whoever was told something by then has said so by now.
    until: i64,
    claims: Vec<(usize, Hold)>,
    claimed: usize,
    accepted: Vec<Accepted>,
    greatest: i64,
    /// What was told of too late to be judged.
    late: usize,
}

impl OnlineLock {
    /// Before anybody holds the lock.
    #[must_use]
    pub fn new(prefix: &[u8], revision: i64) -> OnlineLock {
        let keys =
            Keys { prefix: Cow::Owned(prefix.to_vec()), alive: BTreeMap::new(), ..Keys::new(&NO_LOG, &[]) };
        OnlineLock {
            keys,
            changes: Vec::new(),
            until: revision,
            claims: Vec::new(),
            claimed: 0,
            accepted: Vec::new(),
            greatest: 0,
            late: 0,
        }
    }

    /// Somebody was told that it owns the lock.
    pub fn claim(&mut self, hold: Hold) {
        self.claims.push((self.claimed, hold));
        self.claimed += 1;
    }

    /// The resource accepted a write.
    pub fn accept(&mut self, accepted: Accepted) {
        self.accepted.push(accepted);
    }

    /// The changes up to `revision` are these. Judges what was told up to where they were known the last time.
    pub fn settle(&mut self, changes: Vec<Change>, revision: i64) -> Result<(), Violation> {
        let until = std::mem::replace(&mut self.until, revision);
        self.changes.extend(changes);
        self.judge(until)
    }

    /// Judges the rest. Gives how much was told of too late to be judged.
    pub fn finish(&mut self) -> Result<usize, Violation> {
        self.judge(i64::MAX).map(|()| self.late)
    }

    fn judge(&mut self, until: i64) -> Result<(), Violation> {
        let mut due: Vec<(i64, Due)> = Vec::new();
        self.claims.retain(|(index, hold)| {
            if hold.revision <= until {
                due.push((hold.revision, Due::Claim(*index, hold.clone())));
            }
            hold.revision > until
        });
        self.accepted.retain(|(revision, token)| {
            if *revision <= until {
                // The guard is evaluated on the state before the write.
                due.push((revision - 1, Due::Token((*revision, *token))));
            }
            *revision > until
        });
        due.sort_by_key(|(revision, _)| *revision);
        let changes = std::mem::take(&mut self.changes);
        let (now, later): (Vec<Change>, Vec<Change>) =
            changes.into_iter().partition(|change| change.revision <= until);
        self.changes = later;
        let mut now = now.into_iter().peekable();
        for (revision, due) in due {
            if revision < self.keys.revision {
                self.late += 1;
                continue;
            }
            while let Some(change) = now.next_if(|change| change.revision <= revision) {
                self.keys.apply(&change);
            }
            match due {
                Due::Claim(index, hold) => self.keys.check_owner(index, &hold)?,
                Due::Token(accepted) => self.keys.check_token(accepted, &mut self.greatest)?,
            }
        }
        now.for_each(|change| self.keys.apply(&change));
        Ok(())
    }
}

/// What is to be judged at a revision.
enum Due {
    Claim(usize, Hold),
    Token(Accepted),
}

/// No changes.
static NO_LOG: Log = Log { changes: Vec::new(), compacted: false };

/// The keys under a prefix, revision by revision.
struct Keys<'l> {
    log: &'l Log,
    prefix: Cow<'l, [u8]>,
    next: usize,
    alive: BTreeMap<Bytes, i64>,
    /// Of the last change.
    revision: i64,
}

impl<'l> Keys<'l> {
    fn new(log: &'l Log, prefix: &'l [u8]) -> Self {
        Keys { log, prefix: Cow::Borrowed(prefix), next: 0, alive: BTreeMap::new(), revision: 0 }
    }

    /// Goes on to the state at a revision.
    fn advance(&mut self, revision: i64) {
        let log = self.log;
        while let Some(change) = log.changes.get(self.next).filter(|change| change.revision <= revision) {
            self.apply(change);
            self.next += 1;
        }
    }

    fn apply(&mut self, change: &Change) {
        self.revision = change.revision;
        for event in change.events.iter().filter(|event| event.kv.key.as_slice().starts_with(&self.prefix)) {
            if event.deleted {
                self.alive.remove(&event.kv.key);
            } else {
                self.alive.insert(event.kv.key.clone(), event.kv.create_revision);
            }
        }
    }

    /// Whoever was told to own the lock does, in the present state.
    fn check_owner(&self, index: usize, hold: &Hold) -> Result<(), Violation> {
        let process = hold.process;
        let owner = self.alive.iter().min_by_key(|(_, created)| **created);
        let wrong = match owner {
            Some((key, created)) if *key == hold.key && *created == hold.token => return Ok(()),
            Some((key, created)) => format!("{key} of create revision {created} owned it"),
            None => "nobody owned it".to_owned(),
        };
        let sentence = format!(
            "process {process} was told at revision {} that {} of create revision {} owns the lock [hold {index}], \
             but {wrong}",
            hold.revision, hold.key, hold.token
        );
        Err(Violation { rule: "lock-ownership", sentence, operations: Vec::new() })
    }

    /// A token that was accepted is not behind another, and its key is there.
    fn check_token(&self, (revision, token): Accepted, greatest: &mut i64) -> Result<(), Violation> {
        let why = if token < *greatest {
            format!("after token {greatest} had been accepted")
        } else if !self.alive.values().any(|created| *created == token) {
            "whose key had gone".to_owned()
        } else {
            *greatest = token;
            return Ok(());
        };
        let sentence = format!("the resource accepted token {token} at revision {revision}, {why}");
        Err(Violation { rule: "lock-fencing", sentence, operations: Vec::new() })
    }
}
