//! The models by name, and which one fits operations that nobody named a model for.

use std::str::FromStr;

use crate::format::jepsen::{Answer, Ask};
use crate::history::History;
use crate::txn;
use crate::value::Value;

/// The models that a recording can be judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelName {
    /// Read, write and compare-and-set.
    Register,
    /// Get, put and append on strings.
    KeyValue,
    /// Transactions over several registers.
    MultiRegister,
    /// A lock that anybody may release.
    Mutex,
    /// A lock that only its holder may release.
    OwnerMutex,
    /// A lock that its holder may take twice.
    ReentrantMutex,
    /// A lock whose holders get growing tokens.
    FencedLock,
    /// So many permits.
    Semaphore,
    /// A queue in order.
    FifoQueue,
    /// A queue in any order.
    Queue,
    /// A queue that loses nothing.
    TotalQueue,
    /// A set, linearizable.
    LinearizableSet,
    /// A set by its last read.
    Set,
    /// A set that loses nothing.
    SetFull,
    /// A counter, linearizable.
    LinearizableCounter,
    /// A counter within its bounds.
    Counter,
    /// Accounts whose sum stays.
    Bank,
    /// Ids that differ.
    UniqueIds,
    /// Writes that nobody misses who sees later ones.
    Comments,
    /// Writes that all see in the same order.
    LongFork,
    /// Transactions that append to lists and read them.
    ListAppend,
    /// Transactions that write values, each one once, and read them.
    RwRegister,
    /// etcd.
    Etcd,
}

/// Every model with its names, the one to print first.
const NAMES: &[(ModelName, &[&str])] = &[
    (ModelName::Register, &["register", "cas-register"]),
    (ModelName::KeyValue, &["key-value", "kv"]),
    (ModelName::MultiRegister, &["multi-register"]),
    (ModelName::Mutex, &["mutex"]),
    (ModelName::OwnerMutex, &["owner-mutex", "owner-aware-mutex"]),
    (ModelName::ReentrantMutex, &["reentrant-mutex"]),
    (ModelName::FencedLock, &["fenced-lock", "fenced-mutex"]),
    (ModelName::Semaphore, &["semaphore"]),
    (ModelName::FifoQueue, &["fifo-queue"]),
    (ModelName::Queue, &["queue", "unordered-queue"]),
    (ModelName::TotalQueue, &["total-queue"]),
    (ModelName::LinearizableSet, &["linearizable-set"]),
    (ModelName::Set, &["set"]),
    (ModelName::SetFull, &["set-full"]),
    (ModelName::LinearizableCounter, &["linearizable-counter"]),
    (ModelName::Counter, &["counter"]),
    (ModelName::Bank, &["bank"]),
    (ModelName::UniqueIds, &["unique-ids"]),
    (ModelName::Comments, &["comments"]),
    (ModelName::LongFork, &["long-fork"]),
    (ModelName::ListAppend, &["list-append"]),
    (ModelName::RwRegister, &["rw-register"]),
    (ModelName::Etcd, &["etcd"]),
];

impl ModelName {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(model, _)| *model == self).map_or("", |(_, names)| names[0])
    }

    /// Every name that is understood.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().flat_map(|(_, names)| *names).copied()
    }

    /// All names, as a sentence has them.
    pub(super) fn all() -> String {
        ModelName::names().collect::<Vec<&str>>().join(", ")
    }

    /// The model whose operations these are, if there is one.
    #[must_use]
    pub fn guess(history: &History<Ask, Answer>) -> Option<ModelName> {
        let all = |names: &[&str]| {
            history.operations.iter().all(|operation| names.contains(&operation.input.f.as_str()))
        };
        if let Some(workload) = txn::looks_like(history) {
            return Some(match workload {
                txn::Workload::ListAppend => ModelName::ListAppend,
                // Knossos writes `:read` and `:write`, Elle `:r` and `:w`.
                txn::Workload::Register if txn::has_long_names(history) => ModelName::MultiRegister,
                txn::Workload::Register if all(&["read", "write"]) => ModelName::LongFork,
                txn::Workload::Register => ModelName::RwRegister,
            });
        }
        let answers = |f: &str, fits: fn(&Value) -> bool| {
            let mut answers = history.operations.iter().filter(|operation| operation.input.f == f);
            answers.any(|operation| operation.output().is_some_and(|answer| answer.ok && fits(&answer.value)))
        };
        let is_collection = |value: &Value| matches!(value, Value::List(_) | Value::Set(_));
        let is_number = |value: &Value| matches!(value, Value::Int(_));
        let reads = || {
            let reads = history.operations.iter().filter(|operation| operation.input.f == "read");
            reads.filter(|read| read.output().is_some_and(|answer| answer.ok)).count()
        };
        if all(&["read", "transfer"]) && answers("read", |value| matches!(value, Value::Map(_))) {
            return Some(ModelName::Bank);
        }
        if all(&["read", "write"]) && answers("read", |value| matches!(value, Value::Set(_))) {
            return Some(ModelName::Comments);
        }
        if all(&["read", "write", "cas"]) {
            return Some(ModelName::Register);
        }
        if all(&["get", "put", "append"]) {
            return Some(ModelName::KeyValue);
        }
        if all(&["acquire", "release"]) {
            return Some(if answers("acquire", is_number) {
                ModelName::FencedLock
            } else {
                ModelName::Mutex
            });
        }
        if all(&["add", "read"]) && answers("read", is_number) {
            return Some(ModelName::Counter);
        }
        if all(&["add", "read"]) && answers("read", is_collection) {
            return Some(if reads() > 1 { ModelName::SetFull } else { ModelName::Set });
        }
        if all(&["add", "remove", "contains", "read"]) {
            return Some(ModelName::LinearizableSet);
        }
        if all(&["enqueue", "dequeue"]) {
            return Some(ModelName::Queue);
        }
        if all(&["enqueue", "dequeue", "drain"]) {
            return Some(ModelName::TotalQueue);
        }
        if all(&["generate"]) {
            return Some(ModelName::UniqueIds);
        }
        all(&["txn"]).then_some(ModelName::MultiRegister)
    }
}

impl FromStr for ModelName {
    type Err = String;

    fn from_str(name: &str) -> Result<ModelName, String> {
        let found = NAMES.iter().find(|(_, names)| names.contains(&name));
        let unknown = || format!("no model {name:?}: expected one of {}", ModelName::all());
        found.map(|(model, _)| *model).ok_or_else(unknown)
    }
}
