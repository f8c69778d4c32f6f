//! Checking while it runs, with bounded memory.
//!
//! Every few seconds everything is read once, and what is over by then goes to the judges of `quorate-jepsen` that take a
//! history as it comes: [`Online`] judges the order of revisions, with watches and leases, of every workload; [`Lists`] the
//! transactions of `append`; [`OnlineLock`] the promises of a lock. They hold what is not certain yet, the present keys, and
//! the writes that may still happen, and forget the rest, which is on the disk. Nobody waits for them.
//!
//! The read is what makes a state certain: which write of unknown outcome made a revision may be a guess, but what came
//! of it is seen. Writes that may still happen are kept, [`OPEN_MAX`] at most; older ones are put aside in a file and
//! recalled should a part make no sense without them.

use std::path::{Path, PathBuf};

use quorate_jepsen::etcd::online::{Aside, Online};
use quorate_jepsen::etcd::{EtcdHistory, Hold, OnlineLock, Options, Request, Response, overlaps};
use quorate_jepsen::format::{Format, ReadOptions, Recording};
use quorate_jepsen::online::Bounds;
use quorate_jepsen::txn::Lists;
use quorate_jepsen::{Operation, Verdict, Violation};

use crate::folder;
use crate::judge::{Check, beliefs};
use crate::record::Seen;
use crate::workload::{Context, Workload, lock_prefix};

/// The judges of a run.
pub struct Live {
    revisions: Online,
    lists: Option<Lists>,
    lock: Option<Lock>,
    /// Parts judged so far.
    pub parts: usize,
}

/// The judges of a lock.
struct Lock {
    online: OnlineLock,
    fenced: bool,
    verdict: Option<Violation>,
    /// Holds that may overlap with others that are not over yet, and the first two that did.
    holds: Vec<Hold>,
    overlap: Option<(Hold, Hold)>,
    overlaps: usize,
}

impl Live {
    /// Before anything was asked. The file is for what is put aside.
    pub fn new(options: Options, context: &Context, file: PathBuf) -> Live {
        let bounds = Bounds { open: OPEN_MAX, past_bytes: PAST_BYTES, ..Bounds::default() };
        let lock = (context.workload == Workload::Lock).then(|| Lock {
            online: OnlineLock::new(lock_prefix(), options.initial.revision()),
            fenced: context.fenced,
            verdict: None,
            holds: Vec::new(),
            overlap: None,
            overlaps: 0,
        });
        let mut revisions = Online::new(options, bounds).with_aside(Box::new(File { path: file }));
        if lock.is_some() {
            revisions = revisions.with_changes();
        }
        let of_lists = Bounds { part: TRANSACTIONS, ..bounds };
        let lists = (context.workload == Workload::Append).then(|| Lists::new(of_lists));
        Live { revisions, lists, lock, parts: 0 }
    }

    /// Judges what is over. Whatever comes later is called at `now` or later.
    pub fn judge(&mut self, seen: Seen, now: u64) -> bool {
        self.parts += 1;
        let now_named = seen.frontier_named;
        self.push(seen);
        self.revisions.settle(now);
        if let Some(lists) = &mut self.lists {
            lists.settle(now_named);
        }
        let revision = self.revisions.revision();
        if let Some(lock) = &mut self.lock {
            lock.settle(self.revisions.take_changes(), revision);
        }
        !self.is_refuted()
    }

    fn push(&mut self, seen: Seen) {
        // What watches show bounds what is called afterwards.
        seen.etcd.watches.into_iter().for_each(|stream| self.revisions.push_watch(stream));
        seen.etcd.operations.operations.into_iter().for_each(|operation| self.revisions.push(operation));
        if let Some(lists) = &mut self.lists {
            seen.named.operations.into_iter().for_each(|operation| lists.push(operation));
        }
        if let Some(lock) = &mut self.lock {
            seen.claims.into_iter().for_each(|hold| lock.online.claim(hold));
            seen.accepted.into_iter().for_each(|accepted| lock.online.accept(accepted));
            lock.add_holds(seen.holds);
        }
    }

    /// Whether somebody is refuted, or cannot go on.
    fn is_refuted(&self) -> bool {
        self.revisions.verdict().is_some()
            || self.lists.as_ref().is_some_and(|lists| lists.verdict().is_some())
            || self.lock.as_ref().is_some_and(|lock| lock.verdict.is_some() || lock.is_convicted())
    }

    /// The verdicts, when nothing comes any more.
    pub fn conclude(mut self, rest: Seen) -> Vec<Check> {
        self.push(rest);
        let verdict = self.revisions.conclude();
        let (pushed, _) = self.revisions.progress();
        let mut check = Check::of("the order of revisions explains every answer, as they came", verdict);
        if check.verdict.is_valid() {
            check.why = vec![format!(
                "{pushed} operations in {} parts, {} held at most",
                self.parts,
                self.revisions.peak()
            )];
        }
        let mut checks = vec![check];
        if let Some(mut lists) = self.lists {
            let name = "transactions over lists are strictly serializable, as they came";
            let mut check = Check::of(name, lists.conclude());
            if check.verdict.is_valid() {
                let (pushed, _) = lists.progress();
                check.why = vec![format!("{pushed} transactions, {} held at most", lists.peak())];
            }
            checks.push(check);
        }
        if let Some(lock) = self.lock {
            checks.extend(lock.conclude(self.revisions.take_changes(), self.revisions.revision()));
        }
        checks
    }

    /// For the progress line.
    pub fn progress(&self) -> String {
        let (pushed, judged) = self.revisions.progress();
        let open = self.revisions.open();
        format!("{judged} judged, {} held, {open} may still happen", pushed - judged)
    }
}

impl Lock {
    fn settle(&mut self, changes: Vec<quorate_jepsen::etcd::Change>, revision: i64) {
        if self.verdict.is_none() {
            self.verdict = self.online.settle(changes, revision).err();
        }
    }

    /// Adds beliefs that have ended, and forgets those that cannot overlap with what comes.
    fn add_holds(&mut self, holds: Vec<Hold>) {
        let fresh = holds.len();
        self.holds.extend(holds);
        if fresh == 0 {
            return;
        }
        let found = overlaps(&self.holds);
        self.overlaps += found.len();
        if let Some((first, second)) = found.first().filter(|_| self.overlap.is_none()) {
            self.overlap = Some((self.holds[*first].clone(), self.holds[*second].clone()));
        }
        // Of those counted, only the one that reaches farthest may overlap with another.
        let farthest = self.holds.iter().max_by_key(|hold| hold.released).cloned();
        self.holds = farthest.into_iter().collect();
    }

    /// Without tokens, beliefs are what counts.
    fn is_convicted(&self) -> bool {
        !self.fenced && self.overlap.is_some()
    }

    fn conclude(mut self, changes: Vec<quorate_jepsen::etcd::Change>, revision: i64) -> Vec<Check> {
        self.settle(changes, revision);
        let late = match (&self.verdict, self.online.finish()) {
            (None, Ok(late)) => late,
            (None, Err(violation)) => {
                self.verdict = Some(violation);
                0
            }
            (Some(_), _) => 0,
        };
        let verdict = match self.verdict {
            Some(violation) => Verdict::Invalid(violation),
            None if late > 0 => Verdict::Unknown(format!("{late} claims were told of too late to be judged")),
            None => Verdict::Valid,
        };
        let name = if self.fenced {
            "the owner of the lock is the oldest key there is, and no token is accepted after a newer one"
        } else {
            "the owner of the lock is the oldest key there is"
        };
        let mut checks = vec![Check::of(name, verdict)];
        if !self.fenced {
            let name = "no two clients believe to own the lock at once";
            checks.push(match &self.overlap {
                Some((first, second)) => {
                    let sentence = beliefs(first, second, self.overlaps);
                    let violation = Violation { rule: "lock-beliefs", sentence, operations: Vec::new() };
                    Check::of(name, Verdict::Invalid(violation))
                }
                None => Check::of(name, Verdict::Valid),
            });
        }
        checks
    }
}

/// A file for the writes that may still happen and are too many.
struct File {
    path: PathBuf,
}

impl Aside for File {
    fn put(&mut self, writes: Vec<Operation<Request, Response>>) -> Result<(), String> {
        let writes = EtcdHistory { operations: writes.into_iter().collect(), watches: Vec::new() };
        folder::append(&self.path, &writes).map_err(|error| failed(&self.path, &error))
    }

    fn recall(&mut self) -> Result<Vec<Operation<Request, Response>>, String> {
        let text = std::fs::read_to_string(&self.path).map_err(|error| failed(&self.path, &error))?;
        match quorate_jepsen::format::read(&text, Some(Format::Etcd), ReadOptions::default()) {
            Ok(Recording::Etcd(history)) => Ok(history.history().operations.operations),
            Ok(_) => Err(failed(&self.path, &"it holds something else")),
            Err(error) => Err(failed(&self.path, &error)),
        }
    }
}

fn failed(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("{}: {error}", path.display())
}

/// How many writes of unknown outcome are kept at hand.
const OPEN_MAX: usize = 4096;
/// How much is kept of what was, for stale reads and watches of members that lag: that of some minutes.
const PAST_BYTES: usize = 4 << 20;
/// How many transactions make a part, and how long a list is not used before it is forgotten.
const TRANSACTIONS: usize = 1024;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use quorate_jepsen::etcd::{KeyValue, Put, Range, Reply, Store};

    use super::*;

    fn seen(operations: Vec<Operation<Request, Response>>) -> Seen {
        let etcd = EtcdHistory { operations: operations.into_iter().collect(), watches: Vec::new() };
        Seen { etcd, ..Seen::default() }
    }

    fn put(at: u64, value: &str, revision: Option<i64>) -> Operation<Request, Response> {
        let output = revision.map(|revision| Response::at(revision, Reply::Put { previous: None }));
        let returned = output.map(|output| quorate_jepsen::Returned { at: at + 1, output });
        Operation { process: 1, call: at, input: Request::Put(Put::new("k", value)), returned }
    }

    fn get(at: u64, value: &str, mod_revision: i64, version: i64) -> Operation<Request, Response> {
        let kv = KeyValue {
            key: "k".into(),
            value: value.into(),
            create_revision: 2,
            mod_revision,
            version,
            lease: 0,
        };
        let reply = Reply::Range { kvs: vec![kv], more: false, count: 1 };
        let returned =
            Some(quorate_jepsen::Returned { at: at + 1, output: Response::at(mod_revision, reply) });
        Operation { process: 1, call: at, input: Request::Range(Range::key("k")), returned }
    }

    fn live(name: &str, workload: Workload) -> Live {
        let context = Context::new(workload, 1, Duration::ZERO);
        let name = format!("quorate-test-aside-{}-{name}", std::process::id());
        let options = Options { initial: Store::new(), ..Options::default() };
        Live::new(options, &context, std::env::temp_dir().join(name))
    }

    #[test]
    fn a_write_that_was_put_aside_is_remembered_when_it_happens_at_last() {
        for (name, value, valid) in
            [("first", "lost 0", true), ("last", "lost 5000", true), ("none", "never", false)]
        {
            let mut live = live(name, Workload::Kv);
            let mut first = vec![put(10, "1", Some(2))];
            first.extend((0..5001).map(|number| put(20 + number, &format!("lost {number}"), None)));
            first.extend([put(6000, "2", Some(3)), get(6010, "2", 3, 2)]);
            assert!(live.judge(seen(first), 7000));
            assert_eq!(live.revisions.open(), OPEN_MAX, "the others are in the file");
            assert_eq!(live.judge(seen(vec![get(8000, value, 4, 3)]), 9000), valid, "{name}");
            let checks = live.conclude(Seen::default());
            assert_eq!(checks[0].verdict.is_valid(), valid, "{name}: {}", checks[0].verdict);
            let file = std::env::temp_dir().join(format!("quorate-test-aside-{}-{name}", std::process::id()));
            std::fs::remove_file(file).expect("something was put aside");
        }
    }

    #[test]
    fn two_beliefs_at_once_are_told_and_forgotten_otherwise() {
        let hold = |process: u64, acquired: u64, released: u64| Hold {
            process,
            key: "lock/1".into(),
            token: 2,
            revision: 9,
            acquired,
            released,
        };
        let mut live = live("lock", Workload::Lock);
        let lock = live.lock.as_mut().expect("it is one");
        for number in 0..100 {
            lock.add_holds(vec![hold(number, number * 10, number * 10 + 9)]);
            assert!(!lock.is_convicted() && lock.holds.len() == 1);
        }
        lock.add_holds(vec![hold(7, 995, 1005)]);
        assert!(lock.is_convicted());
    }
}
