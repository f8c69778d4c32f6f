//! The history while it happens.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use quorate_jepsen::etcd::{
    Compare, Delete, Error, EtcdHistory, KeyValue, Keys, Put, Range, Relation, Reply, Request, Response,
    Target, Txn, WatchStream,
};
use quorate_tests::Stopwatch;

/// What clients do.
#[derive(Clone, Debug)]
pub enum Operation {
    Get {
        key: String,
    },
    Put {
        key: String,
        value: String,
    },
    Delete {
        key: String,
    },
    /// Puts the key if it was last changed at this revision (never, if zero), else gets it.
    Swap {
        key: String,
        mod_revision: i64,
        value: String,
    },
}

/// How an operation ended.
#[derive(Debug)]
pub enum Outcome {
    /// It was answered at this revision.
    Answered { revision: i64, reply: Reply },
    /// It certainly had no effect.
    Refused,
    /// Nobody knows.
    Unknown,
}

impl Operation {
    fn request(&self) -> Request {
        match self {
            Operation::Get { key } => Request::Range(Range::key(key.as_str())),
            Operation::Put { key, value } => Request::Put(Put::new(key.as_str(), value.as_str())),
            Operation::Delete { key } => {
                Request::Delete(Delete { keys: Keys::one(key.as_str()), ..Delete::default() })
            }
            Operation::Swap { key, mod_revision, value } => Request::Txn(Txn {
                compares: vec![Compare {
                    keys: Keys::one(key.as_str()),
                    result: Relation::Equal,
                    target: Target::Mod(*mod_revision),
                }],
                success: vec![Request::Put(Put::new(key.as_str(), value.as_str()))],
                failure: vec![Request::Range(Range::key(key.as_str()))],
            }),
        }
    }
}

/// Collects what all clients see.
pub struct Recorder {
    history: Mutex<EtcdHistory>,
    stopwatch: Stopwatch,
    answered: AtomicU64,
}

impl Recorder {
    pub fn new() -> Self {
        Self { history: Mutex::default(), stopwatch: Stopwatch::start(), answered: AtomicU64::new(0) }
    }

    /// How many operations have been answered.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::SeqCst)
    }

    /// Nanoseconds on the clock of the history.
    pub fn now(&self) -> u64 {
        self.stopwatch.nanoseconds()
    }

    /// Records an operation from its call to its end. Returns the revision of the key that it read, if it did.
    pub async fn record(
        &self,
        process: u64,
        operation: &Operation,
        performed: impl Future<Output = Outcome>,
    ) -> Option<i64> {
        let id = self.with(|history, now| history.operations.invoke(process, now, operation.request()));
        let outcome = performed.await;
        let seen = match &outcome {
            Outcome::Answered { reply: Reply::Range { kvs, .. }, .. } => {
                kvs.first().map(|kv| kv.mod_revision)
            }
            _ => None,
        };
        match outcome {
            Outcome::Answered { revision, reply } => {
                self.with(|history, now| history.operations.ok(id, now, Response::at(revision, reply)));
                self.answered.fetch_add(1, Ordering::SeqCst);
            }
            Outcome::Refused => {
                self.with(|history, now| history.operations.ok(id, now, Response::refused(Error::Refused)));
            }
            Outcome::Unknown => {}
        }
        seen
    }

    pub fn add_watches(&self, streams: Vec<WatchStream>) {
        self.with(|history, _| history.watches.extend(streams));
    }

    pub fn history(&self) -> EtcdHistory {
        self.with(|history, _| history.clone())
    }

    /// The time is read under the lock, so that the order of the history is that of its times.
    fn with<T>(&self, change: impl FnOnce(&mut EtcdHistory, u64) -> T) -> T {
        let mut history = self.history.lock().expect("no recorder panics");
        let now = self.now();
        change(&mut history, now)
    }
}

/// A version of a key, in the checker's terms.
pub fn key_value(
    key: &[u8],
    value: &[u8],
    (create_revision, mod_revision, version, lease): (i64, i64, i64, i64),
) -> KeyValue {
    KeyValue { key: key.into(), value: value.into(), create_revision, mod_revision, version, lease }
}

/// The reply to a get.
pub fn range_reply(kvs: Vec<KeyValue>, more: bool, count: i64) -> Reply {
    Reply::Range { kvs, more, count }
}
