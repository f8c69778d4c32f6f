//! Checking while it runs, with bounded memory.
//!
//! Every few seconds the clients pause until nothing is under way, and everything is read. What was answered up to
//! then is a history of its own: it begins with the state that the one before has ended with, and is forgotten when
//! it is found valid. The read at the end makes that state certain: which write of unknown outcome made a revision
//! may be a guess, but no guess outlives its window. Such writes are kept until their value is read or their condition
//! can never hold again, because they may still happen.
//!
//! Memory is bounded: one window, the present keys, and the writes of the last minute that may still happen, [`OPEN_MAX`] at
//! most. Older ones are put aside in a file and recalled should a window make no sense without them. A window with more
//! of unknown outcome than can be tried is not decided: the next one begins with what was read at its end, and the verdict
//! on the run is unknown and says why. Whatever has been judged is on the disk.
//!
//! Only the order of revisions is judged in this way. Of the workload `wr` it says all: each transaction writes, or only
//! reads again, at one revision under the condition that none of its keys has changed since it read them, so it happened
//! at that revision, and the order of revisions that explains every answer is an order of the transactions in real time.
//! The others need what this forgets: lists that grow (`append`), streams and leases that outlive a window.

use std::collections::BTreeMap;
use std::path::PathBuf;

use quorate_jepsen::etcd::{
    self, Bytes, Compare, EtcdHistory, KeyValue, Keys, Log, Options, Range, Relation, Reply, Request,
    Response, Store, Target, Txn,
};
use quorate_jepsen::format::{Format, ReadOptions, Recording};
use quorate_jepsen::{Operation, Verdict};

use crate::folder;
use crate::judge::MEMBERS_NEVER_GO_BACK;
use crate::record::TICKS_PER_SECOND;

/// What is known at the end of the last window.
pub struct Live {
    store: Store,
    keys: BTreeMap<Bytes, KeyValue>,
    open: Vec<Operation<Request, Response>>,
    /// How many of them are kept.
    open_max: usize,
    /// How many of them have been put aside, and where they are.
    aside: usize,
    file: PathBuf,
    /// Windows that could not be decided, and why the last of them could not.
    undecided: usize,
    why: String,
    /// Operations judged so far.
    pub judged: usize,
    /// Windows judged so far.
    pub windows: usize,
    /// Stale reads from before a window, which cannot be judged any more.
    pub skipped: usize,
}

impl Live {
    /// Before the first window. The file is for what is put aside.
    pub fn new(initial: &Store, file: PathBuf) -> Live {
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
            aside: 0,
            file,
            undecided: 0,
            why: String::new(),
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
        let (mut verdict, mut log) = etcd::check_with_log(&history, &options);
        if verdict.is_invalid() && self.aside > 0 {
            // Perhaps a request happened that nobody expected to happen any more.
            match self.recall() {
                Ok(recalled) => {
                    let all = recalled.into_iter().chain(history.operations.operations.iter().cloned());
                    let all = EtcdHistory { operations: all.collect(), watches: Vec::new() };
                    (verdict, log) = etcd::check_with_log(&all, &options);
                }
                Err(error) => {
                    verdict = Verdict::Unknown(format!("{}: {error}", self.file.display()));
                }
            }
        }
        match verdict {
            Verdict::Valid => {
                self.advance(&log);
                self.keep_open(history);
                Verdict::Valid
            }
            Verdict::Invalid(violation) => Verdict::Invalid(violation),
            Verdict::Unknown(why) => self.undecided(why, history),
        }
    }

    /// Leaves a window undecided, and begins the next one with what was read at its end, if everything was.
    fn undecided(&mut self, why: String, history: EtcdHistory) -> Verdict {
        let Some((revision, kvs)) = read_of_everything(&history) else { return Verdict::Unknown(why) };
        self.keys = kvs.iter().map(|kv| (kv.key.clone(), kv.clone())).collect();
        self.store = Store::at(revision, kvs.iter().cloned());
        (self.undecided, self.why) = (self.undecided + 1, why);
        self.keep_open(history);
        Verdict::Valid
    }

    /// The verdict on all windows.
    pub fn outcome(&self) -> Verdict {
        if self.undecided == 0 {
            return Verdict::Valid;
        }
        Verdict::Unknown(format!(
            "{} of {} windows could not be decided: {}",
            self.undecided, self.windows, self.why
        ))
    }

    /// Keeps the writes of a window that may still happen, the latest at hand and the others in the file.
    fn keep_open(&mut self, history: EtcdHistory) {
        let now = history.operations.operations.iter().map(|operation| operation.call).max().unwrap_or(0);
        let mut open: Vec<_> = history.operations.operations;
        open.retain(|operation| {
            operation.returned.is_none() && operation.input.may_write() && !self.is_settled(&operation.input)
        });
        let old = open.iter().filter(|operation| operation.call + OPEN_TICKS < now).count();
        let excess = old.max(open.len().saturating_sub(self.open_max));
        // In the order of their calls: whatever was kept before stands in front.
        let aside: Vec<_> = open.drain(..excess).collect();
        self.open = open;
        self.aside += aside.len();
        let aside = EtcdHistory { operations: aside.into_iter().collect(), watches: Vec::new() };
        if let Err(error) = folder::append(&self.file, &aside) {
            self.why = format!("{}: {error}", self.file.display());
            self.undecided += 1;
        }
    }

    /// Reads what was put aside.
    fn recall(&self) -> Result<Vec<Operation<Request, Response>>, String> {
        let text = std::fs::read_to_string(&self.file).map_err(|error| error.to_string())?;
        match quorate_jepsen::format::read(&text, Some(Format::Etcd), ReadOptions::default()) {
            Ok(Recording::Etcd(history)) => Ok(history.history().operations.operations),
            Ok(_) => Err("it holds something else".to_owned()),
            Err(error) => Err(error.to_string()),
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

/// The last answer that shows all keys.
fn read_of_everything(history: &EtcdHistory) -> Option<(i64, &[KeyValue])> {
    history.operations.operations.iter().rev().find_map(|operation| {
        let response = operation.output()?;
        match (&operation.input, &response.result) {
            (Request::Range(range), Ok(Reply::Range { kvs, more: false, .. }))
                if *range == Range::of(Keys::all()) =>
            {
                Some((response.revision, kvs.as_slice()))
            }
            _ => None,
        }
    })
}

/// How many writes of unknown outcome are kept at hand, and for how long: a minute.
const OPEN_MAX: usize = 1024;
const OPEN_TICKS: u64 = 60 * TICKS_PER_SECOND;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use quorate_jepsen::etcd::Put;

    use super::*;

    fn live() -> Live {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("quorate-test-aside-{}-{number}", std::process::id());
        Live::new(&Store::new(), std::env::temp_dir().join(name))
    }

    impl Drop for Live {
        fn drop(&mut self) {
            // There is none unless something was put aside.
            let _ = std::fs::remove_file(&self.file);
        }
    }

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
        let mut live = live();
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
    fn a_write_that_was_put_aside_is_remembered_when_it_happens_at_last() {
        for (value, valid) in [("lost 0", true), ("lost 1", true), ("never written", false)] {
            let mut live = live();
            live.open_max = 1;
            let mut first = EtcdHistory::default();
            put(&mut first, 10, "1", Some(2));
            put(&mut first, 20, "lost 0", None);
            put(&mut first, 30, "lost 1", None);
            assert_eq!(live.judge(&first), Verdict::Valid);
            assert_eq!((live.open(), live.aside), (1, 1));
            let mut second = EtcdHistory::default();
            get(&mut second, 40, kv(value, 3, 2), 3);
            let verdict = live.judge(&second);
            assert_eq!(verdict.is_valid(), valid, "{value}: {verdict:?}");
            assert_eq!(verdict.is_invalid(), !valid, "{value}: {verdict:?}");
        }
    }

    #[test]
    fn after_a_window_that_is_not_decided_the_next_begins_with_what_was_read() {
        let mut live = live();
        let mut first = EtcdHistory::default();
        let id = first.operations.invoke(9, 10, Request::Range(Range::of(Keys::all())));
        let reply = Reply::Range { kvs: vec![kv("1", 5, 2)], more: false, count: 1 };
        first.operations.ok(id, 11, Response::at(5, reply));
        assert_eq!(live.undecided("too much".to_owned(), first), Verdict::Valid, "it goes on");
        assert!(matches!(live.outcome(), Verdict::Unknown(_)), "but is not decided");
        let mut second = EtcdHistory::default();
        put(&mut second, 20, "2", Some(6));
        get(&mut second, 30, kv("2", 6, 3), 6);
        assert_eq!(live.judge(&second), Verdict::Valid);
        let mut third = EtcdHistory::default();
        get(&mut third, 40, kv("1", 5, 2), 6);
        assert!(live.judge(&third).is_invalid());
    }

    #[test]
    fn a_transaction_whose_condition_has_passed_is_not_kept() {
        let mut live = live();
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
        let mut live = live();
        let mut first = EtcdHistory::default();
        put(&mut first, 10, "1", Some(2));
        put(&mut first, 20, "2", Some(3));
        assert_eq!(live.judge(&first), Verdict::Valid);
        let mut second = EtcdHistory::default();
        get(&mut second, 30, kv("1", 2, 1), 3);
        assert!(live.judge(&second).is_invalid());
    }
}
