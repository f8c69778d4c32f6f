//! Checking while it runs, with bounded memory.
//!
//! Every few seconds the clients pause until nothing is under way, and everything is read. What was answered up to
//! then is a history of its own: it begins with the state that the one before has ended with, and is forgotten when
//! it is found valid. The read at the end makes that state certain: which write of unknown outcome made a revision
//! may be a guess, but no guess outlives its window. Such writes are kept until their value is read or their condition
//! can never hold again, because they may still happen.
//!
//! Memory is bounded: one window, the present keys, and the latest [`OPEN_MAX`] writes that may still happen. Of one that was
//! forgotten nobody can say any more whether it made a revision that nobody else made: should that come, the
//! verdict is unknown and says why. Whatever has been judged is on the disk.
//!
//! Only the order of revisions is judged in this way.

use std::collections::BTreeMap;

use quorate_jepsen::etcd::{
    self, Bytes, Compare, EtcdHistory, KeyValue, Keys, Log, Options, Range, Relation, Request, Response,
    Store, Target, Txn,
};
use quorate_jepsen::{Operation, Verdict, Violation};

use crate::judge::MEMBERS_NEVER_GO_BACK;

/// What is known at the end of the last window.
pub struct Live {
    store: Store,
    keys: BTreeMap<Bytes, KeyValue>,
    open: Vec<Operation<Request, Response>>,
    /// How many of them are kept.
    open_max: usize,
    /// How many of them have been forgotten.
    forgotten: usize,
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
            open_max: OPEN_MAX,
            forgotten: 0,
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
        let judged: Vec<_> = judged.collect();
        self.skipped += window.operations.operations.len() - judged.len();
        let operations: Vec<_> = self.open.drain(..).chain(judged).collect();
        self.judged += window.operations.operations.len();
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
                .filter(|operation| operation.input.may_write() && !self.is_settled(&operation.input))
                .collect();
            let excess = self.open.len().saturating_sub(self.open_max);
            self.forgotten += excess;
            self.open.drain(..excess);
        }
        match verdict {
            Verdict::Invalid(violation) if self.forgotten > 0 && may_be_forgotten(&violation) => {
                Verdict::Unknown(format!(
                    "{} [{}]; it may be one of {} requests of unknown outcome that had been forgotten by then",
                    violation.sentence, violation.rule, self.forgotten
                ))
            }
            verdict => verdict,
        }
    }

    /// How many writes may still happen.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// Whether a write has surely happened, or surely will not any more.
    fn is_settled(&self, request: &Request) -> bool {
        self.is_read(request) || matches!(request, Request::Txn(txn) if self.is_impossible(txn))
    }

    /// Whether a transaction demands a state that has passed, and does nothing otherwise.
    fn is_impossible(&self, txn: &Txn) -> bool {
        let passed = |compare: &Compare| match (compare.result, &compare.target) {
            // A key never has the revision of an old change again.
            (Relation::Equal, Target::Mod(revision @ 1..)) if compare.keys.range_end.is_empty() => {
                self.keys.get(&compare.keys.key).is_none_or(|kv| kv.mod_revision != *revision)
            }
            _ => false,
        };
        txn.compares.iter().any(passed) && !txn.failure.iter().any(Request::may_write)
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

/// Whether a request that nobody knows of any more explains it.
fn may_be_forgotten(violation: &Violation) -> bool {
    matches!(violation.rule, "unexplained-revision" | "replay")
}

/// How many writes of unknown outcome are kept.
const OPEN_MAX: usize = 4096;

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
    fn a_write_that_had_to_be_forgotten_makes_the_verdict_unknown_and_not_invalid() {
        for (open_max, invalid) in [(1, false), (0, true)] {
            let mut live = Live { open_max: 1, ..Live::new(&Store::new()) };
            let mut first = EtcdHistory::default();
            put(&mut first, 10, "1", Some(2));
            for lost in 0..=open_max {
                put(&mut first, 20 + lost, &format!("lost {lost}"), None);
            }
            assert_eq!(live.judge(&first), Verdict::Valid);
            assert_eq!(live.open(), 1);
            let mut second = EtcdHistory::default();
            // With one more than is kept, the first of them is not known any more.
            let value = if invalid { "never written" } else { "lost 0" };
            get(&mut second, 30, kv(value, 3, 2), 3);
            let verdict = live.judge(&second);
            assert_eq!(verdict.is_invalid(), invalid, "{verdict:?}");
            assert!(!verdict.is_valid(), "{verdict:?}");
        }
    }

    #[test]
    fn a_transaction_whose_condition_has_passed_is_not_kept() {
        let mut live = Live::new(&Store::new());
        let mut first = EtcdHistory::default();
        put(&mut first, 10, "1", Some(2));
        put(&mut first, 12, "2", Some(3));
        for revision in [2, 3] {
            let compare =
                Compare { keys: Keys::one("k"), result: Relation::Equal, target: Target::Mod(revision) };
            let success = vec![Request::Put(Put::new("k", "3"))];
            let txn = Txn { compares: vec![compare], success, failure: Vec::new() };
            first.operations.invoke(7, 15, Request::Txn(txn));
        }
        assert_eq!(live.judge(&first), Verdict::Valid);
        assert_eq!(live.open(), 1);
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
