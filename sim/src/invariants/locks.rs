//! What etcd's locks promise, seen from their clients' answers and the order of changes.
//!
//! - *Ownership*: whoever was told at a revision that its key is the oldest, had the oldest key at that revision.
//! - *Hand-over*: the lock goes from one to the next in the order of their keys' create revisions.
//! - *Fencing*: a resource that demands the key's create revision as a token, and that the key be there, never takes a
//!   smaller token after a greater one.
//! - *Overlap*: two clients may believe to own the lock at once only if the lease of the first had run out. Clocks that
//!   run wrong may make it run out earlier, so this is demanded only where they are right.
//!
//! The first and the third are judged by the checker (`quorate_jepsen::etcd`); here the clients' beliefs are read from
//! the history of the workload. Sources: etcd's `client/v3/concurrency/mutex.go`; Kleppmann, "How to do distributed
//! locking", 2016; Jepsen's etcd 3.4.3 report.

use std::collections::{BTreeMap, BTreeSet};

use quorate_jepsen::etcd::{
    self, Accepted, Bytes, EtcdHistory, Hold, Log, Reply, Request, Response, Target, Txn,
};
use quorate_jepsen::{Operation, Returned};

use super::{Check, Violation, broken};
use crate::workload::lock::{PREFIX, RESOURCE};

/// All that is known of one lock.
#[derive(Debug, Default)]
struct Lock {
    holds: Vec<Hold>,
    accepted: Vec<Accepted>,
}

/// Judges the locks of a history whose order of changes is known.
pub fn judge(history: &EtcdHistory, log: &Log, true_clocks: bool) -> Check {
    let operations = &history.operations.operations;
    let leases = Leases::of(operations);
    for (name, lock) in locks(operations) {
        let told = |result: Result<(), quorate_jepsen::Violation>| {
            result.map_err(|violation| Violation { invariant: violation.rule, detail: violation.sentence })
        };
        told(etcd::check_ownership(log, name.as_bytes(), &lock.holds))?;
        told(etcd::check_fencing(log, name.as_bytes(), &lock.accepted))?;
        hand_over(&name, &lock.holds)?;
        if true_clocks {
            overlap(&name, &lock.holds, &leases)?;
        }
    }
    Ok(())
}

/// How many times clients were told that they own a lock.
#[must_use]
pub fn holds(history: &EtcdHistory) -> usize {
    locks(&history.operations.operations).values().map(|lock| lock.holds.len()).sum()
}

fn hand_over(name: &str, holds: &[Hold]) -> Check {
    let mut holds: Vec<&Hold> = holds.iter().collect();
    holds.sort_by_key(|hold| hold.revision);
    match holds.windows(2).find(|pair| pair[1].token < pair[0].token) {
        None => Ok(()),
        Some(pair) => broken("lock hand-over", || {
            format!(
                "{name} went from token {} (revision {}) to the older token {} (revision {})",
                pair[0].token, pair[0].revision, pair[1].token, pair[1].revision
            )
        }),
    }
}

/// Two holds, the one with the older key first.
fn in_order<'a>(one: &'a Hold, other: &'a Hold) -> (&'a Hold, &'a Hold) {
    if one.token <= other.token { (one, other) } else { (other, one) }
}

fn overlap(name: &str, holds: &[Hold], leases: &Leases) -> Check {
    for (first, second) in etcd::overlaps(holds) {
        // Who was told later may have owned it earlier: its lease is the one that had to run out.
        let (first, second) = in_order(&holds[first], &holds[second]);
        let Some(ends) = leases.ends(&first.key, second.acquired) else { continue };
        if first.token != second.token && second.acquired < ends {
            return broken("lock overlap", || {
                format!(
                    "process {} was told at {} ns that it owns {name} (token {}), when process {} owned it (token \
                     {}) and its lease had until {ends} ns",
                    second.process, second.acquired, second.token, first.process, first.token
                )
            });
        }
    }
    Ok(())
}

type Call = Operation<Request, Response>;

/// Until when a lease lives for sure: what it was granted or renewed for, counted from when that was asked.
#[derive(Debug, Default)]
struct Leases {
    renewals: BTreeMap<i64, Vec<(u64, u64)>>,
    ended: BTreeSet<i64>,
}

impl Leases {
    fn of(operations: &[Call]) -> Leases {
        let mut leases = Leases::default();
        for operation in operations {
            match (&operation.input, reply(operation)) {
                (
                    Request::LeaseGrant { id, .. } | Request::LeaseKeepAlive { id },
                    Some((Reply::Lease { ttl, .. }, returned)),
                ) if *ttl > 0 => {
                    let ends = operation.call + ttl.unsigned_abs() * 1_000_000_000;
                    leases.renewals.entry(*id).or_default().push((returned.at, ends));
                }
                // Whoever ends its lease itself lets go of the lock before the answer.
                (Request::LeaseRevoke { id }, _) => drop(leases.ended.insert(*id)),
                _ => {}
            }
        }
        leases
    }

    /// Until when the lease of a key lives, by all that was answered before then; `None` if its own client ended it.
    fn ends(&self, key: &Bytes, then: u64) -> Option<u64> {
        let lease = lease_of(key)?;
        if self.ended.contains(&lease) {
            return None;
        }
        let renewals = self.renewals.get(&lease)?;
        renewals.iter().filter(|(at, _)| *at <= then).map(|(_, ends)| *ends).max()
    }
}

fn lease_of(key: &Bytes) -> Option<i64> {
    let text = std::str::from_utf8(key.as_slice()).ok()?;
    i64::from_str_radix(text.rsplit('/').next()?, 16).ok()
}

fn reply(operation: &Call) -> Option<(&Reply, &Returned<Response>)> {
    let returned = operation.returned.as_ref()?;
    returned.output.result.as_ref().ok().map(|reply| (reply, returned))
}

/// What each client believed of each lock, by the locks' names.
fn locks(operations: &[Call]) -> BTreeMap<String, Lock> {
    let mut locks: BTreeMap<String, Lock> = BTreeMap::new();
    // The key and token of each process, and where its hold is in the list, if it has one.
    let mut wanted: BTreeMap<u64, (Bytes, i64, Option<usize>)> = BTreeMap::new();
    let mut order: Vec<&Call> = operations.iter().collect();
    order.sort_by_key(|operation| operation.call);
    for operation in order {
        if let Some((key, _, Some(hold))) = wanted.get(&operation.process)
            && let Some(lock) = name_of(key).and_then(|name| locks.get_mut(&name))
        {
            // So far at least it believed.
            lock.holds[*hold].released = operation.call;
        }
        if let Some(key) = wants(&operation.input) {
            wanted.remove(&operation.process);
            if let Some((token, _)) = made(operation) {
                wanted.insert(operation.process, (key, token, None));
            }
        }
        if lets_go(operation) {
            wanted.remove(&operation.process);
        }
        let Some((key, token, held)) = wanted.get_mut(&operation.process) else { continue };
        let (Some(name), Some((_, returned))) = (name_of(key), reply(operation)) else { continue };
        let lock = locks.entry(name).or_default();
        if accepted(operation, key, *token) {
            lock.accepted.push((returned.output.revision, *token));
        }
        if held.is_none() && oldest(operation, key) == Some(*token) {
            *held = Some(lock.holds.len());
            lock.holds.push(Hold {
                process: operation.process,
                key: key.clone(),
                token: *token,
                revision: returned.output.revision,
                acquired: returned.at,
                released: returned.at,
            });
        }
    }
    locks
}

/// `lock/0/` of `lock/0/7`.
fn name_of(key: &Bytes) -> Option<String> {
    let text = std::str::from_utf8(key.as_slice()).ok()?;
    let end = text.rfind('/')?;
    text.starts_with(PREFIX).then(|| text[..=end].to_owned())
}

/// The key that a request makes to get a lock.
fn wants(request: &Request) -> Option<Bytes> {
    let Request::Txn(Txn { compares, success, .. }) = request else { return None };
    match (&compares[..], &success[..]) {
        ([compare], [Request::Put(put), Request::Range(_)]) if compare.target == Target::Create(0) => {
            name_of(&put.key).map(|_| put.key.clone())
        }
        _ => None,
    }
}

/// The token that came of it.
fn made(operation: &Call) -> Option<(i64, u64)> {
    let (Reply::Txn { succeeded, replies }, returned) = reply(operation)? else { return None };
    let token = match replies.first()? {
        Reply::Range { kvs, .. } if !succeeded => kvs.first()?.create_revision,
        _ => returned.output.revision,
    };
    Some((token, returned.at))
}

/// Whether its client gives up the lock with this, whatever comes of it.
fn lets_go(operation: &Call) -> bool {
    match &operation.input {
        Request::LeaseRevoke { .. } => true,
        Request::Delete(delete) => name_of(&delete.keys.key).is_some(),
        _ => false,
    }
}

/// The smallest create revision that a client was shown under its lock's name.
fn oldest(operation: &Call, key: &Bytes) -> Option<i64> {
    let kvs = match (&operation.input, reply(operation)?.0) {
        (Request::Range(range), Reply::Range { kvs, .. }) if range.keys.contains(key.as_slice()) => kvs,
        (Request::Txn(_), Reply::Txn { replies, .. }) => match replies.get(1)? {
            Reply::Range { kvs, .. } => kvs,
            _ => return None,
        },
        _ => return None,
    };
    kvs.iter().map(|kv| kv.create_revision).min()
}

/// Whether the resource took a write with this token.
fn accepted(operation: &Call, key: &Bytes, token: i64) -> bool {
    let Request::Txn(Txn { compares, success, .. }) = &operation.input else { return false };
    let guarded =
        compares.iter().any(|compare| compare.keys.key == *key && compare.target == Target::Create(token));
    let writes = success.iter().any(
        |request| matches!(request, Request::Put(put) if put.key.as_slice().starts_with(RESOURCE.as_bytes())),
    );
    guarded && writes && matches!(reply(operation), Some((Reply::Txn { succeeded: true, .. }, _)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn hold(process: u64, key: &str, token: i64, revision: i64, times: (u64, u64)) -> Hold {
        Hold { process, key: key.into(), token, revision, acquired: times.0, released: times.1 }
    }

    fn said(check: Check) -> String {
        check.expect_err("it is broken").to_string()
    }

    #[test]
    fn a_lock_is_handed_on_in_the_order_of_the_keys() {
        let holds = [hold(1, "lock/0/1", 5, 5, (0, 9)), hold(2, "lock/0/2", 7, 9, (10, 20))];
        assert_eq!(hand_over("lock/0/", &holds), Ok(()));
        let holds = [hold(1, "lock/0/1", 5, 9, (0, 9)), hold(2, "lock/0/2", 7, 8, (10, 20))];
        assert!(
            said(hand_over("lock/0/", &holds)).contains("from token 7 (revision 8) to the older token 5")
        );
    }

    #[test]
    fn two_owners_at_once_are_excused_by_a_lease_that_ran_out_and_by_nothing_else() {
        let mut leases = Leases::default();
        leases.renewals.insert(1, vec![(0, 2 * SECOND)]);
        let holds = |second: u64| {
            [hold(1, "lock/0/1", 5, 5, (0, 9 * SECOND)), hold(2, "lock/0/2", 7, 9, (second, 9 * SECOND))]
        };
        assert_eq!(overlap("lock/0/", &holds(3 * SECOND), &leases), Ok(()));
        assert!(said(overlap("lock/0/", &holds(SECOND), &leases)).contains("process 2 was told"));
        leases.ended.insert(1);
        assert_eq!(overlap("lock/0/", &holds(SECOND), &leases), Ok(()), "it has ended its lease itself");
    }

    #[test]
    fn whose_key_is_older_owned_first_even_if_it_was_told_last() {
        let mut leases = Leases::default();
        leases.renewals.insert(1, vec![(0, 2 * SECOND)]);
        leases.renewals.insert(2, vec![(0, 9 * SECOND)]);
        let holds = |second: u64| {
            let late = hold(1, "lock/0/1", 5, 5, (4 * SECOND, 9 * SECOND));
            [late, hold(2, "lock/0/2", 7, 9, (second, 9 * SECOND))]
        };
        assert_eq!(overlap("lock/0/", &holds(3 * SECOND), &leases), Ok(()));
        assert!(said(overlap("lock/0/", &holds(SECOND), &leases)).contains("process 2 was told"));
    }

    #[test]
    fn clients_of_a_run_own_locks_and_write_with_their_tokens() {
        let mut options = crate::options::Options::draw(3);
        options.make_calm();
        options.storm = std::time::Duration::from_secs(8);
        options.load.mix = std::array::from_fn(|place| u32::from(crate::options::WORKLOADS[place] == "lock"));
        let plan = crate::core::Plan::Drawn(&options);
        let finished = crate::core::execute(&plan, crate::core::Watch::default());
        assert_eq!(finished.violation, None);
        let locks = locks(&finished.history.operations.operations);
        let (holds, accepted) = locks.values().fold((0, 0), |(holds, accepted), lock| {
            (holds + lock.holds.len(), accepted + lock.accepted.len())
        });
        assert!(holds > 5 && accepted > 5, "{holds} times owned, {accepted} writes: that shows nothing");
        // Were the resource to take an older token last, it would be noticed.
        let (name, lock) = locks.iter().max_by_key(|(_, lock)| lock.accepted.len()).expect("there is one");
        let (_, log) = etcd::check_with_log(&finished.history, &etcd::Options::default());
        let mut wrong = lock.accepted.clone();
        let oldest = wrong[0].1;
        let last = wrong.last().expect("there are some").0;
        wrong.push((last + 1, oldest));
        assert!(etcd::check_fencing(&log, name.as_bytes(), &wrong).is_err());
    }
}
