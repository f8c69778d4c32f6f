//! Transactions: several keys at once, compared, written, read back, nested.

use std::collections::BTreeMap;

use quorate_jepsen::etcd::{Bytes, Compare, Delete, Keys, Put, Range, Relation, Reply, Request, Target, Txn};

use super::Context;

/// The prefix of this workload's keys.
const PREFIX: &str = "t";

/// What one client knows of the keys.
#[derive(Debug, Default)]
pub struct Txns {
    /// The mod revision it last saw of each key; zero if it saw none.
    seen: BTreeMap<Bytes, i64>,
}

impl Txns {
    pub(super) fn next(&mut self, context: &mut Context<'_>) -> Request {
        let (one, other) = context.two_keys(PREFIX);
        let txn = match context.random.below(10) {
            0 if context.random.chance(500_000) => past(one, other, context),
            0..=2 => read(&one, &other),
            3..=5 => self.exchange(one, other, context),
            6 => create(one, context),
            7 => replace(one, other, context),
            8 => nested(one, other, context),
            _ => Txn {
                success: vec![Request::Put(Put::new(one.clone(), context.value())), get(&one), get(&other)],
                ..Txn::default()
            },
        };
        Request::Txn(txn)
    }

    pub(super) fn done(&mut self, _request: &Request, reply: &Reply) {
        let Reply::Txn { replies, .. } = reply else { return };
        for reply in replies {
            let Reply::Range { kvs, .. } = reply else { continue };
            for kv in kvs {
                self.seen.insert(kv.key.clone(), kv.mod_revision);
            }
        }
    }

    /// Writes both keys if neither has changed since this client saw them; else reads them.
    fn exchange(&self, one: Bytes, other: Bytes, context: &mut Context<'_>) -> Txn {
        let unchanged = |key: &Bytes| {
            compare(key, Relation::Equal, Target::Mod(self.seen.get(key).copied().unwrap_or(0)))
        };
        let failure = vec![get(&one), get(&other)];
        let mut success = vec![Request::Put(Put::new(one.clone(), context.value()))];
        if other != one {
            let put = Put { prev_kv: true, ..Put::new(other.clone(), context.value()) };
            success.push(Request::Put(put));
        }
        success.extend(failure.iter().cloned());
        Txn { compares: vec![unchanged(&one), unchanged(&other)], success, failure }
    }
}

fn read(one: &Bytes, other: &Bytes) -> Txn {
    Txn { success: vec![get(one), get(other)], ..Txn::default() }
}

/// Reads one key as it was, which may be forgotten by now, or as it will be; and, perhaps, writes another.
fn past(one: Bytes, other: Bytes, context: &mut Context<'_>) -> Txn {
    let ago = context.random.below(context.load.kept + 60) as i64;
    let revision = (context.known.revision + 4 - ago).max(1);
    let mut success = vec![Request::Range(Range { revision, ..Range::key(other) })];
    if context.random.chance(500_000) {
        success.push(Request::Put(Put::new(one, context.value())));
    }
    Txn { success, ..Txn::default() }
}

/// Creates a key that must not exist; else deletes it.
fn create(key: Bytes, context: &mut Context<'_>) -> Txn {
    Txn {
        compares: vec![compare(&key, Relation::Equal, Target::Version(0))],
        success: vec![Request::Put(Put::new(key.clone(), context.value()))],
        failure: vec![Request::Delete(Delete { keys: Keys::one(key), prev_kv: true })],
    }
}

/// Deletes one key and puts another, in one revision.
fn replace(one: Bytes, other: Bytes, context: &mut Context<'_>) -> Txn {
    let mut success = vec![Request::Delete(Delete { keys: Keys::one(one.clone()), prev_kv: false })];
    if other != one {
        success.push(Request::Put(Put::new(other.clone(), context.value())));
    }
    success.push(get(&other));
    Txn {
        compares: vec![compare(&one, Relation::Greater, Target::Version(1))],
        success,
        failure: vec![get(&one)],
    }
}

/// A transaction inside of another, which decides on a key that the outer one has just written.
fn nested(one: Bytes, other: Bytes, context: &mut Context<'_>) -> Txn {
    let inner = Txn {
        compares: vec![compare(&other, Relation::NotEqual, Target::Create(0))],
        success: vec![get(&other)],
        failure: if other == one {
            vec![]
        } else {
            vec![Request::Put(Put::new(other.clone(), context.value())), get(&other)]
        },
    };
    Txn {
        compares: vec![],
        success: vec![Request::Put(Put::new(one.clone(), context.value())), Request::Txn(inner), get(&one)],
        failure: vec![],
    }
}

fn compare(key: &Bytes, result: Relation, target: Target) -> Compare {
    Compare { keys: Keys::one(key.clone()), result, target }
}

fn get(key: &Bytes) -> Request {
    Request::Range(Range::key(key.clone()))
}
