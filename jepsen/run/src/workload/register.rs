//! A linearizable register per key: read, write, compare-and-set by value.
//!
//! With `--serializable`, reads are answered by a member from its own state: etcd promises no more than some past
//! state then, and the register is not linearizable any more. Every second client only reads then: who also writes soon
//! waits in vain where that shows most, at a member that is cut off.

use quorate_jepsen::Value;
use quorate_jepsen::etcd::{Compare, Keys, Put, Range, Relation, Reply, Request, Target, Txn};
use rand::RngExt as _;
use rand::rngs::StdRng;

use super::Context;
use crate::client::{Client, Outcome};

/// One operation on a random register.
pub async fn step(client: &Client, random: &mut StdRng, context: &Context) {
    let key = format!("register/{}", random.random_range(0..context.keys));
    if context.serializable && client.number() % 2 == 1 {
        return read(client, &key, true).await;
    }
    match random.random_range(0..10) {
        0..5 => read(client, &key, context.serializable).await,
        5..9 => write(client, &key, context.fresh()).await,
        _ => {
            // From the value of a moment ago, so that it succeeds now and then.
            let expected = current(client, &key).await;
            compare_and_set(client, &key, expected, context.fresh()).await;
        }
    }
}

async fn read(client: &Client, key: &str, serializable: bool) {
    let recorder = client.recorder();
    let id = recorder.begin(client.process(), "read", Some(key), Value::Nil);
    let outcome = client.ask(Request::Range(Range { serializable, ..Range::key(key) })).await;
    match outcome {
        Outcome::Refused => recorder.end(id, false, Value::Nil),
        Outcome::Unknown => recorder.leave(id),
        outcome => recorder.end(id, true, outcome.reply().map_or(Value::Nil, |(reply, _)| value_of(&reply))),
    }
}

async fn current(client: &Client, key: &str) -> Value {
    let outcome = client.ask(Request::Range(Range::key(key))).await;
    outcome.reply().map_or(Value::Nil, |(reply, _)| value_of(&reply))
}

/// What a read shows.
fn value_of(reply: &Reply) -> Value {
    let Reply::Range { kvs, .. } = reply else { return Value::Nil };
    let text =
        |kv: &quorate_jepsen::etcd::KeyValue| String::from_utf8_lossy(kv.value.as_slice()).into_owned();
    kvs.first().and_then(|kv| text(kv).parse().ok()).map_or(Value::Nil, Value::Int)
}

async fn write(client: &Client, key: &str, value: u64) {
    let recorder = client.recorder();
    let written = Value::Int(value.cast_signed());
    let id = recorder.begin(client.process(), "write", Some(key), written.clone());
    match client.ask(Request::Put(Put::new(key, value.to_string().as_str()))).await {
        Outcome::Answered(response) if response.result.is_ok() => recorder.end(id, true, written),
        Outcome::Answered(_) | Outcome::Refused => recorder.end(id, false, written),
        Outcome::Unknown => recorder.leave(id),
    }
}

async fn compare_and_set(client: &Client, key: &str, expected: Value, value: u64) {
    let Value::Int(old) = expected else { return };
    let recorder = client.recorder();
    let pair = Value::List(vec![Value::Int(old), Value::Int(value.cast_signed())]);
    let id = recorder.begin(client.process(), "cas", Some(key), pair.clone());
    let compare = Compare {
        keys: Keys::one(key),
        result: Relation::Equal,
        target: Target::Value(old.to_string().as_str().into()),
    };
    let success = vec![Request::Put(Put::new(key, value.to_string().as_str()))];
    match client.ask(Request::Txn(Txn { compares: vec![compare], success, failure: Vec::new() })).await {
        Outcome::Unknown => recorder.leave(id),
        outcome => {
            let swapped = matches!(outcome.reply(), Some((Reply::Txn { succeeded: true, .. }, _)));
            recorder.end(id, swapped, pair);
        }
    }
}
