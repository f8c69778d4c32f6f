//! Checking while it runs, with bounded memory.
//!
//! Every few seconds the clients pause until nothing is under way, and everything is read. What was answered up to
//! then is a history of its own: it begins with the state that the one before has ended with, and is forgotten when
//! it is found valid. The read at the end makes that state certain: which write of unknown outcome made a revision
//! may be a guess, but no guess outlives its window. Such writes are kept until their value is read, because
//! they may still happen.
//!
//! Only the order of revisions is judged in this way.

use std::collections::BTreeMap;

use quorate_jepsen::Operation;
use quorate_jepsen::Verdict;
use quorate_jepsen::etcd::{
    self, Bytes, EtcdHistory, KeyValue, Keys, Log, Options, Range, Request, Response, Store,
};

use crate::judge::MEMBERS_NEVER_GO_BACK;

/// What is known at the end of the last window.
pub struct Live {
    store: Store,
    keys: BTreeMap<Bytes, KeyValue>,
    open: Vec<Operation<Request, Response>>,
    /// Operations judged so far.
    pub judged: usize,
    /// Windows judged so far.
    pub windows: usize,
    /// Stale reads from before a window, which cannot be judged any more.
    pub skipped: usize,
}

impl Live {
    /// Before the first window.
    pub fn new(initial: &Store) -> Live {
        let range = Request::Range(Range::of(Keys::all()));
        let kvs = match initial.clone().execute(&range).map(|applied| applied.expected.into_reply()) {
            Ok(etcd::Reply::Range { kvs, .. }) => kvs,
            _ => Vec::new(),
        };
        Live {
            store: initial.clone(),
            keys: kvs.into_iter().map(|kv| (kv.key.clone(), kv)).collect(),
            open: Vec::new(),
            judged: 0,
            windows: 0,
            skipped: 0,
        }
    }

    /// Judges what came since the last window.
    pub fn judge(&mut self, window: &EtcdHistory) -> Verdict {
        let is_past = |operation: &Operation<Request, Response>| {
            let revision = operation.output().map_or(0, |response| response.revision);
            matches!(&operation.input, Request::Range(range) if range.serializable)
                && revision > 0
                && revision < self.store.revision()
        };
        let judged = window.operations.operations.iter().filter(|operation| !is_past(operation)).cloned();
        let operations: Vec<_> = self.open.drain(..).chain(judged).collect();
        self.skipped += window.operations.operations.len().saturating_sub(operations.len());
        self.judged += operations.len();
        self.windows += 1;
        let history = EtcdHistory { operations: operations.into_iter().collect(), watches: Vec::new() };
        let options = Options {
            initial: self.store.clone(),
            members_never_go_back: MEMBERS_NEVER_GO_BACK,
            ..Options::default()
        };
        let (verdict, log) = etcd::check_with_log(&history, &options);
        if verdict.is_valid() {
            self.advance(&log);
            let open =
                history.operations.operations.into_iter().filter(|operation| operation.returned.is_none());
            self.open = open
                .filter(|operation| operation.input.may_write() && !self.is_read(&operation.input))
                .collect();
        }
        verdict
    }

    /// Whether a write has surely happened: values are never written twice.
    fn is_read(&self, request: &Request) -> bool {
        match request {
            Request::Put(put) => {
                !put.value.is_empty() && self.keys.get(&put.key).is_some_and(|kv| kv.value == put.value)
            }
            Request::Txn(txn) => txn.success.iter().chain(&txn.failure).any(|request| self.is_read(request)),
            _ => false,
        }
    }

    /// Goes on to the state after a window.
    fn advance(&mut self, log: &Log) {
        for event in log.changes.iter().flat_map(|change| &change.events) {
            if event.deleted {
                self.keys.remove(&event.kv.key);
            } else {
                self.keys.insert(event.kv.key.clone(), event.kv.clone());
            }
        }
        let revision = log.changes.last().map_or(self.store.revision(), |change| change.revision);
        self.store = Store::at(revision, self.keys.values().cloned());
    }
}

#[cfg(test)]
mod tests {
    use quorate_jepsen::etcd::{Put, Reply};

    use super::*;

    fn put(history: &mut EtcdHistory, at: u64, value: &str, revision: Option<i64>) {
        let id = history.operations.invoke(1, at, Request::Put(Put::new("k", value)));
        if let Some(revision) = revision {
            history.operations.ok(id, at + 1, Response::at(revision, Reply::Put { previous: None }));
        }
    }

    fn get(history: &mut EtcdHistory, at: u64, kv: KeyValue, revision: i64) {
        let id = history.operations.invoke(1, at, Request::Range(Range::key("k")));
        let reply = Reply::Range { kvs: vec![kv], more: false, count: 1 };
        history.operations.ok(id, at + 1, Response::at(revision, reply));
    }

    fn kv(value: &str, mod_revision: i64, version: i64) -> KeyValue {
        KeyValue { key: "k".into(), value: value.into(), create_revision: 2, mod_revision, version, lease: 0 }
    }

    #[test]
    fn a_window_begins_with_the_state_and_the_open_writes_of_the_one_before() {
        let mut live = Live::new(&Store::new());
        let mut first = EtcdHistory::default();
        put(&mut first, 10, "1", Some(2));
        put(&mut first, 20, "2", None);
        assert_eq!(live.judge(&first), Verdict::Valid);
        // The write that was lost happens now, and only once.
        let mut second = EtcdHistory::default();
        get(&mut second, 30, kv("1", 2, 1), 2);
        get(&mut second, 40, kv("2", 3, 2), 3);
        assert_eq!(live.judge(&second), Verdict::Valid, "its value is read at the end of the window");
        let mut third = EtcdHistory::default();
        get(&mut third, 50, kv("2", 4, 3), 4);
        assert!(live.judge(&third).is_invalid(), "it cannot happen again");
    }

    #[test]
    fn what_an_earlier_window_has_acknowledged_is_not_forgotten() {
        let mut live = Live::new(&Store::new());
        let mut first = EtcdHistory::default();
        put(&mut first, 10, "1", Some(2));
        put(&mut first, 20, "2", Some(3));
        assert_eq!(live.judge(&first), Verdict::Valid);
        let mut second = EtcdHistory::default();
        get(&mut second, 30, kv("1", 2, 1), 3);
        assert!(live.judge(&second).is_invalid());
    }
}
