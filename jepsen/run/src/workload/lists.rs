//! Transactions over lists (append) or registers (wr): read all keys, then write under the condition that none of
//! them has changed. What was read and written is one transaction, and strict serializability is promised.
//!
//! Lists do not grow for ever: after [`APPENDS_MAX`] appends a new one takes the place of each, and when nobody uses the old
//! one any more, it is read a last time and deleted.
//!
//! Source: the workloads `append` and `wr` of Jepsen's etcd tests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use quorate_jepsen::Value;
use quorate_jepsen::etcd::{Compare, Delete, Keys, Put, Range, Relation, Reply, Request, Target, Txn};
use rand::RngExt as _;
use rand::rngs::StdRng;

use super::Context;
use crate::client::{Client, Outcome};

/// One step of a transaction: writes a number, or reads.
struct Step {
    key: u64,
    write: Option<u64>,
}

/// A key with what it held before the transaction: the revision, and the numbers.
type Held = (u64, i64, Vec<i64>);

/// One transaction.
pub async fn step(client: &Client, random: &mut StdRng, context: &Context, append: bool) {
    let steps: Vec<Step> = (0..random.random_range(1..=4))
        .map(|_| {
            let key = random.random_range(0..context.keys);
            let write = random.random_bool(0.5).then(|| context.fresh());
            let key = if append { context.lists.take(key, context.keys, write.is_some()) } else { key };
            Step { key, write }
        })
        .collect();
    perform(client, &steps, append).await;
    if append {
        context.lists.give_back(steps.iter().map(|step| step.key));
        if let Some(key) = context.lists.retired() {
            perform(client, &[Step { key, write: None }], true).await;
            client.ask(Request::Delete(Delete { keys: Keys::one(name(key)), prev_kv: false })).await;
        }
    }
}

/// The lists that are in use, and those that are given up.
#[derive(Default)]
pub struct Lists(Mutex<InUse>);

#[derive(Default)]
struct InUse {
    /// By place: the list there, and how often it was appended to.
    places: BTreeMap<u64, (u64, u64)>,
    /// By list: how many steps under way use it.
    users: BTreeMap<u64, usize>,
    /// Lists that were replaced.
    old: BTreeSet<u64>,
}

impl Lists {
    /// The list at one of so many places, for one step.
    fn take(&self, place: u64, places: u64, append: bool) -> u64 {
        let mut lists = self.0.lock().expect("nobody panics with lists in use");
        let (list, appends) = lists.places.entry(place).or_insert((place, 0));
        let (mut key, mut old) = (*list, None);
        if append && *appends == APPENDS_MAX {
            old = Some(key);
            key += places;
            (*list, *appends) = (key, 0);
        }
        *appends += u64::from(append);
        lists.old.extend(old);
        *lists.users.entry(key).or_default() += 1;
        key
    }

    /// These steps are over.
    fn give_back(&self, keys: impl Iterator<Item = u64>) {
        let mut lists = self.0.lock().expect("nobody panics with lists in use");
        for key in keys {
            let users = lists.users.get_mut(&key).expect("it was taken");
            *users -= 1;
            if *users == 0 {
                lists.users.remove(&key);
            }
        }
    }

    /// A list that was replaced and that nobody uses, once.
    fn retired(&self) -> Option<u64> {
        let mut lists = self.0.lock().expect("nobody panics with lists in use");
        let key = lists.old.iter().copied().find(|key| !lists.users.contains_key(key))?;
        lists.old.remove(&key);
        Some(key)
    }
}

/// How often a list is appended to.
const APPENDS_MAX: u64 = 128;

async fn perform(client: &Client, steps: &[Step], append: bool) {
    let recorder = client.recorder();
    let asked = described(steps, append, None);
    let id = recorder.begin(client.process(), "txn", None, asked.clone());
    let Some(mut held) = read_all(client, steps).await else {
        // Reads alone change nothing, whatever became of them.
        return recorder.end(id, false, asked);
    };
    let compares = held.iter().map(|(key, revision, _)| Compare {
        keys: Keys::one(name(*key)),
        result: Relation::Equal,
        target: Target::Mod(*revision),
    });
    let compares = compares.collect();
    let found = described(steps, append, Some(&mut held));
    let written: Vec<u64> = steps.iter().filter(|step| step.write.is_some()).map(|step| step.key).collect();
    let success = held.iter().filter(|(key, ..)| written.contains(key)).map(|(key, _, numbers)| {
        let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
        Request::Put(Put::new(name(*key), numbers.join(" ").as_str()))
    });
    let mut success: Vec<Request> = success.collect();
    if success.is_empty() {
        // etcd answers a transaction without operations from the member's own state, however old that is.
        success.extend(held.first().map(|(key, ..)| Request::Range(Range::key(name(*key)))));
    }
    let txn = Txn { compares, success, failure: Vec::new() };
    match client.ask(Request::Txn(txn)).await {
        Outcome::Unknown => recorder.leave(id),
        outcome => match outcome.reply() {
            Some((Reply::Txn { succeeded: true, .. }, _)) => recorder.end(id, true, found),
            _ => recorder.end(id, false, asked),
        },
    }
}

fn name(key: u64) -> Vec<u8> {
    format!("list/{key}").into_bytes()
}

/// Reads every key that the steps name, once, as of one revision.
async fn read_all(client: &Client, steps: &[Step]) -> Option<Vec<Held>> {
    let mut keys: Vec<u64> = steps.iter().map(|step| step.key).collect();
    keys.sort_unstable();
    keys.dedup();
    let success = keys.iter().map(|key| Request::Range(Range::key(name(*key)))).collect();
    let txn = Txn { compares: Vec::new(), success, failure: Vec::new() };
    let Some((Reply::Txn { replies, .. }, _)) = client.ask(Request::Txn(txn)).await.reply() else {
        return None;
    };
    let held = keys.into_iter().zip(replies).map(|(key, reply)| {
        let Reply::Range { kvs, .. } = reply else { return (key, 0, Vec::new()) };
        let Some(kv) = kvs.into_iter().next() else { return (key, 0, Vec::new()) };
        let text = String::from_utf8_lossy(kv.value.as_slice()).into_owned();
        (key, kv.mod_revision, text.split_whitespace().filter_map(|number| number.parse().ok()).collect())
    });
    Some(held.collect())
}

/// The transaction in Jepsen's words. With `held`, the steps are done on it, one after the other.
fn described(steps: &[Step], append: bool, mut held: Option<&mut Vec<Held>>) -> Value {
    let mut described = Vec::new();
    for step in steps {
        let numbers = held
            .as_mut()
            .and_then(|held| held.iter_mut().find(|(key, ..)| *key == step.key))
            .map(|(_, _, numbers)| numbers);
        let (word, value) = match (step.write, numbers) {
            (Some(number), numbers) => {
                let number = number.cast_signed();
                if let Some(numbers) = numbers {
                    if !append {
                        numbers.clear();
                    }
                    numbers.push(number);
                }
                (if append { "append" } else { "w" }, Value::Int(number))
            }
            (None, None) => ("r", Value::Nil),
            (None, Some(numbers)) if append => {
                ("r", Value::List(numbers.iter().copied().map(Value::Int).collect()))
            }
            (None, Some(numbers)) => ("r", numbers.last().map_or(Value::Nil, |number| Value::Int(*number))),
        };
        described.push(Value::List(vec![
            Value::Keyword(word.into()),
            Value::Int(step.key.cast_signed()),
            value,
        ]));
    }
    Value::List(described)
}

#[cfg(test)]
mod tests {
    use super::{APPENDS_MAX, Lists};

    #[test]
    fn a_list_is_given_up_after_so_many_appends_and_deleted_when_nobody_uses_it() {
        let lists = Lists::default();
        let keys: Vec<u64> = (0..APPENDS_MAX + 1).map(|_| lists.take(2, 5, true)).collect();
        assert!(keys[..128].iter().all(|key| *key == 2) && keys[128] == 7);
        assert_eq!(lists.take(2, 5, false), 7);
        lists.give_back(keys[1..].iter().copied());
        assert_eq!(lists.retired(), None, "one step still uses it");
        lists.give_back(keys[..1].iter().copied());
        assert_eq!([lists.retired(), lists.retired()], [Some(2), None]);
    }
}
