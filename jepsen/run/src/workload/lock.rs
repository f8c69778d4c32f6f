//! A lock as etcd's clients make it, and a resource that it protects.
//!
//! A client grants itself a lease, makes a key of its own under the lock's prefix, and owns the lock when its key is
//! the oldest there. Now and then an owner does nothing for longer than its lease lives, as a process that pauses
//! does, and goes on believing that it owns the lock. Without `--fenced`, the beliefs are judged as a mutex: no lock
//! service can keep that promise. With `--fenced`, the resource takes writes only with the token of a key that is
//! still there, and that must hold.
//!
//! Source: etcd's `client/v3/concurrency/mutex.go`; the workload `lock` of Jepsen's etcd tests.

use std::time::Duration;

use quorate_jepsen::Value;
use quorate_jepsen::etcd::{Compare, Hold, Keys, Put, Range, Relation, Reply, Request, Target, Txn};
use rand::RngExt as _;
use rand::rngs::StdRng;

use super::Context;
use crate::client::Client;

/// Where the keys of those stand who want the lock.
pub const PREFIX: &str = "lock/";

/// How often a client that waits looks whether it is its turn, and how many times.
const POLL: Duration = Duration::from_millis(25);
const POLLS_MAX: u32 = 200;
const POLLS_PER_RENEWAL: u32 = 20;

/// Acquires the lock, uses the resource, releases the lock.
pub async fn step(client: &Client, random: &mut StdRng, context: &Context) {
    let lease = context.fresh().cast_signed();
    let granted = client.ask(Request::LeaseGrant { id: lease, ttl: context.ttl }).await.reply();
    // Servers grant more than is asked for if it is less than an election takes.
    let Some((Reply::Lease { ttl, .. }, _)) = granted else { return };
    let recorder = client.recorder();
    let acquire = recorder.begin(client.process(), "acquire", None, Value::Nil);
    let key = format!("{PREFIX}{lease:016x}");
    let Some((token, revision)) = acquire_lock(client, &key, lease).await else {
        recorder.end(acquire, false, Value::Nil);
        client.ask(Request::LeaseRevoke { id: lease }).await;
        return;
    };
    recorder.end(acquire, true, Value::Nil);
    let process = client.process();
    let acquired = recorder.now();
    let number = recorder.with(|seen, _| {
        let key = key.as_str().into();
        seen.hold(Hold { process, key, token, revision, acquired, released: u64::MAX })
    });
    let pause = if random.random_bool(0.2) {
        Duration::from_secs(ttl.unsigned_abs()).mul_f64(random.random_range(1.5..3.0))
    } else {
        context.pause.mul_f64(random.random_range(0.5..2.0))
    };
    tokio::time::sleep(pause).await;
    use_resource(client, context, &key, token).await;

    let release = recorder.begin(client.process(), "release", None, Value::Nil);
    recorder.with(|seen, now| seen.release(number, now));
    client.ask(Request::LeaseRevoke { id: lease }).await;
    recorder.end(release, true, Value::Nil);
}

/// Makes the key and waits until it is the oldest: its create revision, and the revision at which it was.
async fn acquire_lock(client: &Client, key: &str, lease: i64) -> Option<(i64, i64)> {
    let made = client.ask(Request::Put(Put { lease, ..Put::new(key, "") })).await.reply();
    let (_, token) = made?;
    for poll in 0..POLLS_MAX {
        // Whoever waits keeps its lease alive; who sleeps as the owner does not.
        if poll % POLLS_PER_RENEWAL == POLLS_PER_RENEWAL - 1 {
            client.ask(Request::LeaseKeepAlive { id: lease }).await;
        }
        let range = Range::of(Keys::between(PREFIX, "lock0"));
        if let Some((Reply::Range { kvs, .. }, revision)) = client.ask(Request::Range(range)).await.reply() {
            let oldest = kvs.iter().min_by_key(|kv| kv.create_revision)?;
            if oldest.create_revision == token {
                return Some((token, revision));
            }
            if !kvs.iter().any(|kv| kv.create_revision == token) {
                return None; // the lease has ended meanwhile
            }
        }
        tokio::time::sleep(POLL).await;
    }
    None
}

/// Writes the token to the resource, guarded by it if fencing is asked for.
async fn use_resource(client: &Client, context: &Context, key: &str, token: i64) {
    let guard = Compare { keys: Keys::one(key), result: Relation::Equal, target: Target::Create(token) };
    let compares = if context.fenced { vec![guard] } else { Vec::new() };
    let success = vec![Request::Put(Put::new("resource", token.to_string().as_str()))];
    let reply = client.ask(Request::Txn(Txn { compares, success, failure: Vec::new() })).await.reply();
    if let Some((Reply::Txn { succeeded: true, .. }, revision)) = reply {
        client.recorder().with(|seen, _| seen.accept((revision, token)));
    }
}
