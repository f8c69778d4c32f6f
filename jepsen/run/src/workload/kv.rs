//! Requests on keys, as they come.

use quorate_jepsen::etcd::{Compare, Delete, Keys, Put, Range, Relation, Reply, Request, Target, Txn};
use rand::RngExt as _;
use rand::rngs::StdRng;

use super::Context;
use crate::client::Client;

fn key(random: &mut StdRng, context: &Context) -> String {
    format!("kv/{}", random.random_range(0..context.keys))
}

fn all() -> Keys {
    Keys::between("kv/", "kv0")
}

/// The revision of the last change of a key, as a client that has just read it knows it.
async fn last_change(client: &Client, key: &str) -> i64 {
    match client.ask(Request::Range(Range::key(key))).await.reply() {
        Some((Reply::Range { kvs, .. }, _)) => kvs.first().map_or(0, |kv| kv.mod_revision),
        _ => 0,
    }
}

fn guard(key: &str, mod_revision: i64) -> Compare {
    Compare { keys: Keys::one(key), result: Relation::Equal, target: Target::Mod(mod_revision) }
}

/// A request of a random kind.
pub async fn step(client: &Client, random: &mut StdRng, context: &Context) {
    let key = key(random, context);
    let value = context.fresh_value();
    let request = match random.random_range(0..100) {
        0..38 => Request::Range(Range::key(key.as_str())),
        38..42 => Request::Range(Range { serializable: true, ..Range::key(key.as_str()) }),
        42..46 => Request::Range(Range { limit: random.random_range(0..5), ..Range::of(all()) }),
        46..72 => Request::Put(Put { prev_kv: random.random(), ..Put::new(key.as_str(), value.as_str()) }),
        72..82 => Request::Delete(Delete { keys: Keys::one(key.as_str()), prev_kv: random.random() }),
        82..83 => Request::Delete(Delete { keys: all(), prev_kv: true }),
        _ => {
            let seen = last_change(client, &key).await;
            Request::Txn(Txn {
                compares: vec![guard(&key, seen)],
                success: vec![Request::Put(Put::new(key.as_str(), value.as_str()))],
                failure: vec![Request::Range(Range::key(key.as_str()))],
            })
        }
    };
    client.ask(request).await;
}

/// Adds an element, or reads all.
pub async fn step_set(client: &Client, random: &mut StdRng, context: &Context) {
    let request = if random.random_bool(0.8) {
        let element = format!("kv/{:08}", context.fresh());
        Request::Put(Put::new(element.as_str(), ""))
    } else {
        Request::Range(Range::of(all()))
    };
    client.ask(request).await;
}

/// Compares some keys, then writes, deletes and reads others.
pub async fn step_txn(client: &Client, random: &mut StdRng, context: &Context) {
    let mut compares = Vec::new();
    for _ in 0..random.random_range(0..3) {
        let key = key(random, context);
        compares.push(match random.random_range(0..3) {
            0 => guard(&key, last_change(client, &key).await),
            1 => Compare {
                keys: Keys::one(key.as_str()),
                result: Relation::Greater,
                target: Target::Version(0),
            },
            _ => {
                Compare { keys: Keys::one(key.as_str()), result: Relation::Less, target: Target::Version(3) }
            }
        });
    }
    let (mut success, failure) = (branch(random, context), branch(random, context));
    if success.is_empty() && failure.is_empty() {
        // etcd answers a transaction without operations from the member's own state, as if it were serializable.
        success.push(Request::Range(Range::key(key(random, context).as_str())));
    }
    let txn = Txn { compares, success, failure };
    client.ask(Request::Txn(txn)).await;
}

/// A few requests, none of which writes a key that another writes: etcd refuses that.
fn branch(random: &mut StdRng, context: &Context) -> Vec<Request> {
    let mut written = Vec::new();
    let mut requests = Vec::new();
    for _ in 0..random.random_range(0..4) {
        let key = key(random, context);
        if written.contains(&key) || random.random_bool(0.4) {
            requests.push(Request::Range(Range::key(key.as_str())));
            continue;
        }
        requests.push(if random.random_bool(0.8) {
            let value = context.fresh_value();
            Request::Put(Put::new(key.as_str(), value.as_str()))
        } else {
            Request::Delete(Delete { keys: Keys::one(key.as_str()), prev_kv: true })
        });
        written.push(key);
    }
    requests
}
