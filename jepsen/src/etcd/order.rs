//! Judging etcd histories by the order that their revisions give.
//!
//! Every response to a linearizable request carries the revision of the store when it was answered. A request
//! that changed a key *made* its revision; any other *observed* the state at its revision. So the order is
//! known: by revision, and within one revision its maker first, then its observers. A history is strictly
//! serializable if and only if
//!
//! * each revision has one maker (`one-writer`);
//! * the order agrees with real time: whoever was called after a response with revision *m* had returned
//!   makes a revision above *m*, or observes one at or above it (`real-time`, see
//!   [`realtime`](super::realtime));
//! * replaying the order gives every response as recorded (`replay`);
//! * each revision that nobody claims is explained by an operation with unknown outcome, each used at most
//!   once (`unexplained-revision`, see [`gaps`](super::gaps)).
//!
//! Only the last needs a search, and only over the unclaimed revisions; reads usually leave one choice.
//! What carries no revision (leases, compactions, refusals) is judged by its time alone, so that an
//! accusation is always right, while a history that misuses several leases with the same id at once may pass.
//!
//! Sources: etcd's `tests/robustness/model` for the idea of replaying; Gibbons & Korach 1997 for the fact
//! that a given write order makes checking easy.

use super::EtcdHistory;
use super::gaps::{Decision, Gaps, Reason};
use super::intervals;
use super::leases;
use super::outcome::{Reply, Response};
use super::placing::{Order, Placed, Role};
use super::realtime::{self, Revisions};
use super::records::Records;
use super::request::{Keys, Request};
use super::store::Store;
use super::timeline::Timeline;
use super::watch::{self, Log};
use crate::{Operation, Verdict, Violation};

/// What the check may assume.
#[derive(Clone, Debug)]
pub struct Options {
    /// The state before the history began: an empty store, unless set.
    pub initial: Store,
    /// How many units of the history's time make a second. A lease may then end by itself no earlier than its
    /// time to live after it was granted; `None`: at any time after its grant.
    pub ticks_per_second: Option<u64>,
    /// Whether the serializable reads that one member answers may never go back, restarts included.
    pub members_never_go_back: bool,
    /// Give up after so many steps beyond one per operation: the search for explanations of unclaimed
    /// revisions may have to replay parts of the history again and again.
    pub steps_max: u64,
    /// Give up when the check would need more memory than this, about, its history included.
    pub bytes_max: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            initial: Store::new(),
            ticks_per_second: None,
            members_never_go_back: true,
            steps_max: 10_000_000,
            bytes_max: u64::MAX,
        }
    }
}

/// Judges a history of etcd operations and watch streams.
///
/// Needs responses with revisions: if one lacks it, the verdict is unknown.
#[must_use]
pub fn check(history: &EtcdHistory, options: &Options) -> Verdict {
    check_records(&Records::of(history), options, None)
}

/// As [`check`], and gives the order of changes that explains the history if it is valid.
#[must_use]
pub fn check_with_log(history: &EtcdHistory, options: &Options) -> (Verdict, Log) {
    match judge(&Records::of(history), options, None, Scope::Whole { with_log: true }) {
        Ok(log) => (Verdict::Valid, log),
        Err(verdict) => (verdict, Log::default()),
    }
}

/// As [`check`], of records. `stop` is asked every thousand operations or so: true ends the check.
#[must_use]
pub fn check_records(records: &Records<'_>, options: &Options, stop: Stop<'_>) -> Verdict {
    match judge(records, options, stop, Scope::Whole { with_log: !records.watches().is_empty() }) {
        Ok(_) => Verdict::Valid,
        Err(verdict) => verdict,
    }
}

/// The order of changes that explains a part of a history, between two revisions. What outlives such a part, leases and
/// watch streams, is judged by whoever has the whole ([`online`](super::online)).
pub(super) fn explain_part(records: &Records<'_>, options: &Options, stop: Stop<'_>) -> Result<Log, Verdict> {
    judge(records, options, stop, Scope::Part)
}

/// How much of a history there is to judge.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// All of it.
    Whole {
        /// Whether the order of changes is wanted.
        with_log: bool,
    },
    /// Some revisions.
    Part,
}

/// Whether to give up, if anybody may say so.
pub type Stop<'a> = Option<&'a (dyn Fn() -> bool + Sync)>;

fn judge(records: &Records<'_>, options: &Options, stop: Stop<'_>, scope: Scope) -> Result<Log, Verdict> {
    let bytes =
        (records.bytes() + records.len() * OPERATION_BYTES + records.rare().len() * RARE_BYTES) as u64;
    if bytes > options.bytes_max {
        return Err(Verdict::Unknown(format!(
            "judging {} operations takes about {} MB of memory, more than the {} MB that the check may use",
            records.len(),
            bytes >> 20,
            options.bytes_max >> 20
        )));
    }
    let order = Order::new(records, options.initial.revision())?;
    realtime::check(records, &order, options)?;
    // What carries no revision is rare; without it nobody needs these.
    let revisions = (order.has_past || order.has_missing_keys).then(|| Revisions::new(records));
    if order.has_leases && scope != Scope::Part {
        leases::check(records.rare(), options)?;
    }
    if let Some(revisions) = &revisions {
        intervals::check_compactions(records.rare(), revisions, options)?;
    }
    let watches = if scope == Scope::Part { &[] } else { records.watches() };
    watches.iter().enumerate().try_for_each(|(index, stream)| watch::check_shape(index, stream))?;

    let store = Timeline::new(&options.initial, records);
    let gaps = Gaps::new(records, &order, &store, options)?;
    let mut replay = Replay {
        records,
        order: &order,
        gaps,
        store,
        decisions: Vec::new(),
        steps_left: options.steps_max.saturating_add(order.placed.len() as u64),
        stop,
        unasked: 0,
        search_bytes: options.bytes_max - bytes,
        deepest: None,
    };
    replay.run()?;
    if let Some(revisions) = revisions.filter(|_| order.has_missing_keys) {
        intervals::check_missing_keys(records.rare(), &revisions, &replay.store)?;
    }
    let with_log = scope != (Scope::Whole { with_log: false });
    let log = if with_log { replay.log() } else { Log::default() };
    for (index, stream) in watches.iter().enumerate() {
        watch::check_content(index, stream, &log)?;
    }
    Ok(log)
}

/// Rules are checked one after the other; the first broken one ends the check.
impl From<Violation> for Verdict {
    fn from(violation: Violation) -> Self {
        Verdict::Invalid(violation)
    }
}

/// An etcd operation as clients see it.
pub(super) type EtcdOperation = Operation<Request, Response>;

/// The replay of the order.
struct Replay<'h> {
    records: &'h Records<'h>,
    order: &'h Order,
    gaps: Gaps<'h>,
    store: Timeline<'h>,
    decisions: Vec<Decision>,
    steps_left: u64,
    stop: Stop<'h>,
    /// Steps since `stop` was asked.
    unasked: u64,
    /// How much memory the search for explanations may use.
    search_bytes: u64,
    /// The conflict that was met at the greatest revision: the best reason to give.
    deepest: Option<(i64, Violation)>,
}

/// Why the replay cannot go on.
enum Conflict {
    /// A response differs from the replay, or a revision has no explanation left, and this is why.
    Blamed(Reason),
    /// Somebody wants no more of it.
    Stopped,
    /// It would take more memory than it may.
    NoMemory,
}

impl<'h> Replay<'h> {
    fn run(&mut self) -> Result<(), Verdict> {
        let mut at = 0;
        while let Err(conflict) = self.forward(&mut at) {
            at = self.retreat(conflict)?;
        }
        Ok(())
    }

    /// Replays from `at` to the end.
    fn forward(&mut self, at: &mut usize) -> Result<(), Conflict> {
        while let Some(placed) = self.order.placed.get(*at) {
            let before = placed.revision - i64::from(placed.role == Role::Maker);
            while self.store.revision() < before {
                self.explain(*at)?;
            }
            self.count(1)?;
            self.step(*placed)?;
            *at += 1;
        }
        while self.store.revision() < self.order.last {
            self.explain(*at)?;
        }
        Ok(())
    }

    /// Counts steps, and asks now and then whether to go on.
    fn count(&mut self, steps: u64) -> Result<(), Conflict> {
        self.steps_left = self.steps_left.saturating_sub(steps);
        self.unasked += steps;
        if self.unasked < STEPS_UNASKED {
            return Ok(());
        }
        self.unasked = 0;
        if self.stop.is_some_and(|stop| stop()) { Err(Conflict::Stopped) } else { Ok(()) }
    }

    /// Replays one operation and compares its response.
    fn step(&mut self, placed: Placed) -> Result<(), Conflict> {
        let record = &self.records.all()[placed.operation as usize];
        let makes = placed.role == Role::Maker;
        let right = match self.records.rare_of(record) {
            None => self.store.replay_plain(record, self.records.seen(record)),
            Some(operation) => return self.step_rare(placed, operation),
        };
        if !right {
            let operation = self.records.operation(placed.operation as usize).into_owned();
            let by_revision = self.store.differing_revision(record, self.records.seen(record));
            self.note_difference(placed, &operation);
            let (decisions, store) = (&self.decisions, &self.store);
            return Err(Conflict::Blamed(match by_revision {
                Some(key) => self.gaps.last_write(key, store.revision(), decisions, store),
                None => self.gaps.bearing_on_request(&operation.input, store.revision(), decisions, store),
            }));
        }
        if makes { self.check_watched(placed) } else { Ok(()) }
    }

    fn step_rare(&mut self, placed: Placed, operation: &EtcdOperation) -> Result<(), Conflict> {
        if let Request::LeaseRevoke { id } = operation.input {
            return self.step_revoke(placed, id);
        }
        let Some(Response { result: Ok(reply), .. }) = operation.output() else {
            unreachable!("only answered operations are placed")
        };
        let makes = placed.role == Role::Maker;
        if self.store.replay(&operation.input, reply, makes, operation.call) {
            return if makes { self.check_watched(placed) } else { Ok(()) };
        }
        self.note_difference(placed, operation);
        let answer = (&operation.input, reply);
        Err(Conflict::Blamed(self.gaps.blame_answer(answer, makes, &self.decisions, &self.store)))
    }

    /// Notes that an answer is not that of the replay.
    fn note_difference(&mut self, placed: Placed, operation: &EtcdOperation) {
        let footprint = footprint(&operation.input);
        let why = |store: &Timeline<'_>| {
            let mut excerpt = store.excerpt(&footprint, oldest_read(&operation.input).is_some());
            let expected = excerpt.execute(&operation.input).map(|applied| applied.expected.into_reply());
            let expected = expected.map_or_else(|error| format!("error: {error}"), |reply| reply.to_string());
            format!("the answer at that revision is {expected}")
        };
        self.note_mismatch(placed, why);
    }

    /// Whether watches saw the revision just made as it is. Without a guess before it, that is left to those
    /// who judge the watches, who know better what to say.
    fn check_watched(&mut self, placed: Placed) -> Result<(), Conflict> {
        if let Some(shown) = self.gaps.previous_differs(placed.revision, &self.store) {
            return Err(self.mismatch(placed, |_| format!("a watch showed {shown} as the version before it")));
        }
        if !self.decisions.is_empty() && !self.gaps.is_watched_so(placed.revision, &self.store) {
            return Err(
                self.mismatch(placed, |_| "a watch showed other versions at that revision".to_owned())
            );
        }
        Ok(())
    }

    /// A revocation leaves no key attached, whether it made its revision or found nothing to delete.
    fn step_revoke(&mut self, placed: Placed, id: i64) -> Result<(), Conflict> {
        let Some(key) = self.store.attached(id).cloned() else { return Ok(()) };
        Err(self.mismatch(placed, |_| format!("at that revision {key} is still attached to it")))
    }

    /// The conflict if a revision, or what was answered at it, is not as it was seen.
    fn mismatch(&mut self, placed: Placed, why: impl FnOnce(&Timeline<'_>) -> String) -> Conflict {
        self.note_mismatch(placed, why);
        let records: &'h Records<'h> = self.records;
        let operation = &*records.operation(placed.operation as usize);
        let at = oldest_read(&operation.input).unwrap_or(i64::MAX).min(self.store.revision());
        Conflict::Blamed(self.gaps.bearing_on_request(&operation.input, at, &self.decisions, &self.store))
    }

    fn note_mismatch(&mut self, placed: Placed, why: impl FnOnce(&Timeline<'_>) -> String) {
        if self.deepest.as_ref().is_some_and(|(revision, _)| *revision >= placed.revision) {
            return;
        }
        let index = placed.operation as usize;
        let records: &'h Records<'h> = self.records;
        let operation = &*records.operation(index);
        let guesses = self.decisions.len();
        let sentence = format!(
            "{operation} [#{index}], but {}{}",
            why(&self.store),
            if guesses == 0 {
                String::new()
            } else {
                format!(" (with {guesses} unclaimed revisions explained as well as possible)")
            }
        );
        let mut operations = vec![index];
        operations.extend(self.writers_seen(operation));
        operations.dedup();
        let rule = if placed.role == Role::Stale { "stale-prefix" } else { "replay" };
        self.deepest = Some((placed.revision, Violation { rule, sentence, operations }));
    }

    /// The operations that wrote what a mismatching operation saw and what it should have seen.
    fn writers_seen(&self, operation: &EtcdOperation) -> Vec<usize> {
        let mut revisions = Vec::new();
        if let Some(Response { result: Ok(reply), .. }) = operation.output() {
            seen_versions(reply, &mut |kv| revisions.push(kv.mod_revision));
        }
        operation.input.footprint(&mut |keys| {
            if let Some(version) = keys.is_single().then(|| self.store.current(keys.key.as_slice())).flatten()
            {
                revisions.push(version.revision);
            }
        });
        revisions.sort_unstable();
        revisions.dedup();
        revisions.truncate(WRITERS_MAX);
        let maker = |revision: i64| self.order.maker(revision);
        revisions.into_iter().filter_map(maker).map(|placed| placed.operation as usize).collect()
    }

    /// Explains the next revision, which nobody claims.
    fn explain(&mut self, at: usize) -> Result<(), Conflict> {
        let decision = self.gaps.decide(at, &self.decisions, &self.store);
        // Looking for options is work, too.
        let looked = 1 + decision.options() as u64;
        self.decisions.push(decision);
        self.unasked += looked;
        if self.gaps.search_bytes(&self.decisions) > self.search_bytes {
            return Err(Conflict::NoMemory);
        }
        self.choose(true)
    }

    /// Chooses the next option of the last decision, or gives it up.
    fn choose(&mut self, first: bool) -> Result<(), Conflict> {
        if self.gaps.choose(&mut self.decisions, &mut self.store, &mut self.steps_left) {
            return Ok(());
        }
        let decision = self.decisions.pop().expect("it was just tried");
        let revision = decision.revision;
        if first && self.deepest.as_ref().is_none_or(|(deepest, _)| *deepest < revision) {
            self.deepest = Some((revision, self.gaps.unexplained(revision)));
        }
        Err(Conflict::Blamed(decision.blamed))
    }

    /// Goes back to the latest decision that is to blame for the conflict and chooses again. Gives where to
    /// replay from.
    fn retreat(&mut self, conflict: Conflict) -> Result<usize, Verdict> {
        let mut blamed = match conflict {
            Conflict::Blamed(reason) => reason,
            Conflict::Stopped => return Err(self.gave_up("the check was stopped")),
            Conflict::NoMemory => return Err(self.gave_up(NO_MEMORY)),
        };
        loop {
            let Some((culprit, which)) = blamed.pop_last() else { return Err(self.refuted()) };
            let kept = culprit as usize + 1;
            let (revision, at) = (self.decisions[kept - 1].revision, self.decisions[kept - 1].at);
            while self.store.revision() >= revision {
                self.store.undo();
            }
            // In reverse: what was spent last is freed first.
            for decision in self.decisions[kept - 1..].iter_mut().rev() {
                self.gaps.release(decision);
            }
            self.decisions.truncate(kept);
            // Whatever is tried here instead, the others stay to blame.
            self.gaps.learn(&mut self.decisions, which, blamed);
            if self.count(1).is_err() {
                return Err(self.gave_up("the check was stopped"));
            }
            if self.steps_left == 0 {
                let why = format!("no explanation found for revision {revision} within the budget of steps");
                return Err(Verdict::Unknown(why));
            }
            match self.choose(false) {
                Ok(()) => return Ok(at),
                Err(Conflict::Blamed(others)) => blamed = others,
                Err(Conflict::Stopped) => return Err(self.gave_up("the check was stopped")),
                Err(Conflict::NoMemory) => return Err(self.gave_up(NO_MEMORY)),
            }
        }
    }

    /// What is known when it ends before its time.
    fn gave_up(&self, why: &str) -> Verdict {
        let (revision, last) = (self.store.revision(), self.order.last);
        let deepest = self.deepest.as_ref().map_or(revision, |(deepest, _)| *deepest.max(&revision));
        Verdict::Unknown(format!("{why}, with revisions up to {deepest} of {last} explained"))
    }

    fn refuted(&mut self) -> Verdict {
        let (_, violation) = self.deepest.take().expect("a conflict was met before giving up");
        Verdict::Invalid(violation)
    }

    fn log(&self) -> Log {
        let compacted =
            self.records.rare().iter().any(|rare| matches!(rare.operation.input, Request::Compact { .. }));
        Log { changes: self.store.log(), compacted }
    }
}

/// The keys that a request is about.
fn footprint(request: &Request) -> Vec<Keys> {
    let mut footprint = Vec::new();
    request.footprint(&mut |keys| footprint.push(keys));
    footprint
}

/// The oldest revision that a request names to read at.
pub(super) fn oldest_read(request: &Request) -> Option<i64> {
    match request {
        Request::Range(range) => Some(range.revision).filter(|revision| *revision > 0),
        Request::Txn(txn) => txn.success.iter().chain(&txn.failure).filter_map(oldest_read).min(),
        _ => None,
    }
}

/// Calls `visit` with every version that a reply shows.
pub(super) fn seen_versions<'r>(reply: &'r Reply, visit: &mut impl FnMut(&'r super::KeyValue)) {
    match reply {
        Reply::Range { kvs, .. } | Reply::Delete { previous: kvs, .. } => kvs.iter().for_each(visit),
        Reply::Put { previous } => previous.iter().for_each(visit),
        Reply::Txn { replies, .. } => replies.iter().for_each(|reply| seen_versions(reply, visit)),
        Reply::Done | Reply::Lease { .. } => {}
    }
}

/// Why a check ends that may not use more memory.
const NO_MEMORY: &str = "the search for what made unclaimed revisions has used up its memory";
/// What the check needs for each operation, and each that is not plain, besides its record.
const OPERATION_BYTES: usize = 96;
const RARE_BYTES: usize = 320;
/// Steps between two questions whether to stop.
const STEPS_UNASKED: u64 = 1024;
/// How many writers a violation names.
const WRITERS_MAX: usize = 4;
