//! Judging a history of etcd while it goes on, in bounded memory.
//!
//! Operations come in the order of their calls. What had been shown before the latest call bounds, from below, the revisions of
//! everything that is still to come: the *stable* revision. So the history up to there is complete, and is judged as any other,
//! beginning with the state that the last part ended with; then it is let go. What is kept:
//!
//! * operations above the stable revision, or above the last one at which the state is certain (`guesses`);
//! * writes of unknown outcome, which may still happen;
//! * the present keys, and the latest changes, for stale reads and slow watches ([`Bounds::past_bytes`]);
//! * of leases, compactions and members what later rules compare with (`leases`, `floors`).
//!
//! The verdict is that of [`check`](super::check), or unknown with the bound that was hit: what came later than what it had to
//! be compared with was still kept, or more writes of unknown outcome than [`Bounds::open`]. It is never a guess.

mod floors;
mod guesses;
mod leases;
mod part;
mod past;

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::order::{EtcdOperation, Options, explain_part, oldest_read};
use super::outcome::Error;
use super::placing::{Role, role};
use super::records::Records;
use super::request::{Bytes, Request};
use super::store::Store;
use super::watch::{self, Change, Log, WatchRequest, WatchResponse, WatchStream};
use crate::online::{Bounds, Numbered};
use crate::{Verdict, Violation};
use floors::Floors;
use guesses::{Sights, Slot};
use leases::Leases;
use part::{belongs, between, claimed, compacted, deadline, is_impossible, placed, read_of_everything};
use past::Past;

/// Where writes are put that may still happen and are too many to be kept.
pub trait Aside {
    /// Puts some away.
    fn put(&mut self, writes: Vec<EtcdOperation>) -> Result<(), String>;

    /// All that were put away.
    fn recall(&mut self) -> Result<Vec<EtcdOperation>, String>;
}

/// Judges a history as it comes.
///
/// ```
/// use quorate_jepsen::etcd::{Options, Put, Reply, Request, Response, online::Online};
/// use quorate_jepsen::{Operation, Returned, online::Bounds};
///
/// let mut online = Online::new(Options::default(), Bounds::default());
/// for (at, revision) in [(10, 2), (20, 3), (30, 3)] {
///     let output = Response::at(revision, Reply::Put { previous: None });
///     let input = Request::Put(Put::new("k", "v"));
///     online.push(Operation { process: 1, call: at, input, returned: Some(Returned { at: at + 5, output }) });
/// }
/// assert!(online.finish().is_invalid(), "two writes made revision 3");
/// ```
pub struct Online {
    options: Options,
    bounds: Bounds,
    past: Past,
    /// What was not let go, by index.
    window: Vec<Held>,
    /// Writes from before that may still happen, by index.
    open: Vec<Held>,
    slots: Vec<Slot>,
    /// Leases of which an explanation says that they ended.
    ended: BTreeSet<i64>,
    leases: Leases,
    floors: Floors,
    streams: Vec<(usize, WatchStream)>,
    /// Up to where somebody who is judged may have compacted, and who has shown the greatest compaction.
    compacted: i64,
    compaction: Option<Held>,
    aside: Option<Box<dyn Aside + Send>>,
    /// How many writes were put aside.
    put_aside: usize,
    /// Whether an explanation has used one of these.
    is_aside_used: bool,
    pushed: usize,
    watched: usize,
    last_call: u64,
    next_check: usize,
    doubts: Vec<String>,
    /// Changes that nobody has taken yet, if somebody will.
    changes: Option<Vec<Change>>,
    verdict: Option<Verdict>,
    peak: usize,
}

/// An operation and its place in the history.
#[derive(Clone, Debug)]
struct Held {
    index: usize,
    operation: EtcdOperation,
}

impl Online {
    /// Before the first operation.
    #[must_use]
    pub fn new(options: Options, bounds: Bounds) -> Online {
        Online {
            past: Past::new(options.initial.clone(), bounds.past_bytes),
            options,
            next_check: bounds.part,
            bounds,
            window: Vec::new(),
            open: Vec::new(),
            slots: Vec::new(),
            ended: BTreeSet::new(),
            leases: Leases::default(),
            floors: Floors::default(),
            streams: Vec::new(),
            compacted: -1,
            compaction: None,
            aside: None,
            put_aside: 0,
            is_aside_used: false,
            pushed: 0,
            watched: 0,
            last_call: 0,
            doubts: Vec::new(),
            changes: None,
            verdict: None,
            peak: 0,
        }
    }

    /// Lets writes that may still happen be put aside when they are more than [`Bounds::open`].
    #[must_use]
    pub fn with_aside(self, aside: Box<dyn Aside + Send>) -> Online {
        Online { aside: Some(aside), ..self }
    }

    /// Keeps the order of changes for [`Online::take_changes`].
    #[must_use]
    pub fn with_changes(self) -> Online {
        Online { changes: Some(Vec::new()), ..self }
    }

    /// The next operation, in the order of their calls. It is whole: what has not returned yet will not be told of.
    pub fn push(&mut self, operation: EtcdOperation) {
        if self.verdict.is_some() {
            return;
        }
        let index = self.pushed;
        self.pushed += 1;
        if operation.call < self.last_call {
            let why = format!(
                "operation {index} was called before the one that came before it: histories are judged as they come only in \
                 the order of the calls"
            );
            return self.end(Verdict::Unknown(why));
        }
        self.last_call = operation.call;
        let placed = operation.output().and_then(|response| {
            let reply = response.result.as_ref().ok()?;
            role(&operation.input, reply).ok().flatten()
        });
        let (window, members) = (&self.window, self.options.members_never_go_back);
        let added = self.floors.add((index, &operation), placed, members, |index| find(window, index));
        if let Err(violation) = added {
            return self.end(Verdict::Invalid(violation));
        }
        if let Request::LeaseGrant { id, .. } = operation.input {
            self.ended.remove(&id);
        }
        self.leases.add(index, &operation);
        self.window.push(Held { index, operation });
        self.peak = self.peak.max(self.held());
        if self.window.len() >= self.next_check {
            self.settle(self.last_call);
        }
    }

    /// What a watch received. Before any operation is told of that was called after that.
    pub fn push_watch(&mut self, stream: WatchStream) {
        if self.verdict.is_some() {
            return;
        }
        let index = self.watched;
        self.watched += 1;
        if let Err(violation) = watch::check_shape(index, &stream) {
            return self.end(Verdict::Invalid(violation));
        }
        let now = self.floors.now();
        for response in &stream.responses {
            if response.at < now && response.reach() > self.past.base() {
                self.doubt(
                    "a watch was told of after operations that were called later: write what comes first first".to_owned(),
                );
                break;
            }
            self.floors.add_watch(response.at, response.reach());
        }
        self.streams.push((index, stream));
    }

    /// Judges what can be judged, given that whatever comes is called at `now` or later, and no watch shows anything
    /// before.
    pub fn settle(&mut self, now: u64) {
        if self.verdict.is_some() {
            return;
        }
        self.floors.advance(now);
        let upto = self.floors.floor().0;
        self.judge(upto, now);
        let live = self.past.store().present().count();
        // A part is judged from the present keys on, so parts are as long as these are many.
        let more = self.bounds.part.max(self.window.len() / 2);
        self.next_check = (self.window.len() + more).max(live.min(self.bounds.operations / 2));
        if self.verdict.is_none() && self.window.len() > self.bounds.operations {
            let why = format!(
                "{} operations are held, because the state after revision {} is not certain: nobody has read every key that a \
                 write of unknown outcome may have touched",
                self.window.len(),
                self.past.base()
            );
            self.begin_anew(why);
        }
    }

    /// The verdict on everything, when nothing comes any more.
    #[must_use]
    pub fn finish(mut self) -> Verdict {
        self.conclude()
    }

    /// As [`Online::finish`], for those who want to ask more.
    pub fn conclude(&mut self) -> Verdict {
        if self.verdict.is_none() {
            self.floors.advance(u64::MAX);
            self.judge(i64::MAX, u64::MAX);
        }
        match (&self.verdict, self.doubts.first()) {
            (Some(verdict), _) => verdict.clone(),
            (None, None) => Verdict::Valid,
            (None, Some(first)) => {
                let more = self.doubts.len() - 1;
                let more = if more == 0 { String::new() } else { format!(" (and {more} more)") };
                Verdict::Unknown(format!("{first}{more}"))
            }
        }
    }

    /// The verdict so far: `None` while nothing is wrong.
    #[must_use]
    pub fn verdict(&self) -> Option<&Verdict> {
        self.verdict.as_ref()
    }

    /// How many operations are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.window.len() + self.open.len() + self.leases.held() + self.floors.held() + self.streams.len()
    }

    /// How many were held at most.
    #[must_use]
    pub fn peak(&self) -> usize {
        self.peak
    }

    /// How many operations have come, and how many are judged.
    #[must_use]
    pub fn progress(&self) -> (usize, usize) {
        (self.pushed, self.pushed - self.window.len())
    }

    /// How many writes may still happen.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// The revision up to which everything is judged.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.past.base()
    }

    /// The changes that were judged since the last time, in their order.
    pub fn take_changes(&mut self) -> Vec<Change> {
        self.changes.as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn end(&mut self, verdict: Verdict) {
        self.verdict.get_or_insert(verdict);
    }

    fn doubt(&mut self, why: String) {
        if self.doubts.len() < DOUBTS_MAX {
            self.doubts.push(why);
        }
    }

    /// Judges everything up to a revision.
    fn judge(&mut self, upto: i64, now: u64) {
        self.judge_stale(upto);
        self.judge_leases(now);
        if self.verdict.is_some() {
            return;
        }
        let mut explained = self.explain(upto, now, true);
        if matches!(explained, Err(Verdict::Invalid(_))) && self.reads_guesses(upto, now) {
            // What was guessed of the past may have been otherwise.
            let rest = self.explain(upto, now, false);
            if rest.is_ok() {
                self.doubt("reads of old revisions are of states that were not certain".to_owned());
                explained = rest;
            }
        }
        match explained {
            Ok(log) => self.let_go(&log, upto, now),
            Err(Verdict::Invalid(violation)) => self.refuted(violation, upto, now),
            Err(Verdict::Unknown(why)) => {
                // Either more becomes known, or the part grows beyond its bound.
                if now == u64::MAX { self.end(Verdict::Unknown(why)) } else { self.begin_anew(why) }
            }
            Err(Verdict::Valid) => unreachable!("a valid part comes with its log"),
        }
    }

    fn judge_leases(&mut self, now: u64) {
        let mut in_use: BTreeSet<i64> = self.past.store().present().map(|kv| kv.lease).collect();
        for held in self.open.iter().chain(&self.window) {
            leases::named(&held.operation.input, held.operation.output(), &mut |id| {
                in_use.insert(id);
            });
        }
        if let Err(violation) = self.leases.judge(now, &self.options, &in_use, self.bounds.leases) {
            self.end(Verdict::Invalid(violation));
        }
        let unjudged = std::mem::take(&mut self.leases.unjudged);
        if unjudged > 0 {
            self.doubt(format!("{unjudged} operations name leases that were forgotten"));
        }
    }

    /// Judges serializable reads of states that are past.
    fn judge_stale(&mut self, upto: i64) {
        let base = self.past.base();
        let mut window = std::mem::take(&mut self.window);
        let mut skipped = 0;
        window.retain(|held| {
            let Some((response, Role::Stale)) = placed(&held.operation) else { return true };
            if response.revision == 0 || response.revision > base.min(upto) {
                return true;
            }
            match self.past.judge_stale(held.index, &held.operation, response) {
                None => skipped += 1,
                Some(Ok(())) => {}
                Some(Err(violation)) => {
                    self.verdict = self.verdict.take().or(Some(Verdict::Invalid(violation)))
                }
            }
            self.floors.retire(held.index, held.operation.clone());
            false
        });
        self.window = window;
        if skipped > 0 {
            self.doubt(format!("{skipped} stale reads are of states that were forgotten, or not certain"));
        }
    }

    /// Whether somebody read an old revision of which more than one state is possible.
    fn reads_guesses(&self, upto: i64, now: u64) -> bool {
        let part = self.window.iter().filter(|held| belongs(&held.operation, upto, now));
        let mut olds = part.filter_map(|held| oldest_read(&held.operation.input));
        olds.any(|at| at < self.past.base() && self.past.is_guessed(at, at))
    }

    /// Explains the part up to a revision.
    fn explain(&mut self, upto: i64, now: u64, guessed: bool) -> Result<Log, Verdict> {
        let base = self.past.base();
        let mut part: Vec<(usize, Cow<'_, EtcdOperation>)> = Vec::new();
        part.extend(self.open.iter().map(|held| (held.index, Cow::Borrowed(&held.operation))));
        part.extend(self.compaction.iter().map(|held| (held.index, Cow::Borrowed(&held.operation))));
        let leased = self.leases_in_use();
        let mut oldest = base;
        let mut forgotten = 0;
        for held in &self.window {
            if !belongs(&held.operation, upto, now) {
                if matches!(held.operation.input, Request::Compact { .. }) {
                    // It may have been done by now.
                    let unknown = EtcdOperation { returned: None, ..held.operation.clone() };
                    part.push((held.index, Cow::Owned(unknown)));
                }
                continue;
            }
            if let Some(at) = oldest_read(&held.operation.input).filter(|at| *at < base) {
                if !guessed && self.past.is_guessed(at, at) {
                    continue;
                }
                if at < self.past.horizon() {
                    forgotten += 1;
                    continue;
                }
                oldest = oldest.min(at);
            }
            part.push((held.index, Cow::Borrowed(&held.operation)));
        }
        // Of those that are in the part already, that says more.
        part.extend(self.leases.grants(&leased).into_iter().map(|(index, grant)| (index, Cow::Owned(grant))));
        part.sort_by_key(|(index, _)| *index);
        part.dedup_by_key(|(index, _)| *index);
        let mut records = Records::default();
        let mut origin = Vec::with_capacity(part.len());
        for (index, operation) in part {
            origin.push(index);
            records.add(operation);
        }
        for (_, stream) in &self.streams {
            records.push_watch(between(stream, base, upto, now));
        }
        // What was shown before, for those who compare with that.
        let (_, since) = self.floors.floor();
        let (revision, at) = (base, since.min(now));
        if base > self.options.initial.revision() {
            let shown = WatchResponse { at, revision, created: true, ..WatchResponse::default() };
            let request = WatchRequest { start_revision: base + 1, ..WatchRequest::default() };
            records.push_watch(WatchStream { request, responses: vec![shown], process: 0 });
        }
        let mut initial = self.past.initial(oldest);
        initial.compact(self.compacted.max(self.options.initial.compacted()));
        let options = Options { initial, ..self.options.clone() };
        let explained = explain_part(&records, &options, None);
        drop(records);
        if forgotten > 0 {
            self.doubt(format!("{forgotten} reads are of revisions that were forgotten"));
        }
        explained.map_err(|verdict| verdict.renumbered(|index| origin[index]))
    }

    /// The leases whose end may change something.
    fn leases_in_use(&self) -> BTreeSet<i64> {
        let mut ids: BTreeSet<i64> = self.past.store().present().map(|kv| kv.lease).collect();
        for held in self.open.iter().chain(&self.window) {
            if held.operation.input.may_write() {
                leases::named(&held.operation.input, held.operation.output(), &mut |id| {
                    ids.insert(id);
                });
            }
        }
        // Any will do for those who only ask whether there ever was one.
        ids.extend(self.leases.any());
        ids
    }

    /// No explanation was found with what is kept.
    fn refuted(&mut self, violation: Violation, upto: i64, now: u64) {
        let recalled = match self.aside.as_mut().filter(|_| self.put_aside > 0).map(|aside| aside.recall()) {
            None if self.put_aside > 0 => {
                return self.end(Verdict::Unknown(format!(
                    "{} writes of unknown outcome were forgotten, and one of them may explain this: {}",
                    self.put_aside, violation.sentence
                )));
            }
            None => return self.end(Verdict::Invalid(violation)),
            Some(Err(error)) => return self.end(Verdict::Unknown(error)),
            Some(Ok(recalled)) => recalled,
        };
        // Perhaps a request happened that nobody expected to happen any more.
        let kept = self.open.clone();
        let mut open: Vec<Held> = Vec::new();
        for (number, operation) in recalled.into_iter().enumerate() {
            open.push(Held { index: RECALLED_FROM + number, operation });
        }
        open.extend(kept.iter().cloned());
        self.open = open;
        match self.explain(upto, now, true) {
            Ok(log) => {
                self.let_go(&log, upto, now);
                self.open.retain(|held| held.index < RECALLED_FROM);
                if self.is_aside_used {
                    self.doubt("a write happened late that may have been used before".to_owned());
                }
            }
            Err(Verdict::Invalid(violation)) => self.end(Verdict::Invalid(violation)),
            Err(verdict) => self.end(verdict),
        }
    }

    /// Goes on from the last time that everything was read, and leaves open what was before.
    fn begin_anew(&mut self, why: String) {
        let upto = self.floors.floor().0;
        let Some((revision, kvs)) = read_of_everything(&self.window, upto) else {
            if self.window.len() > self.bounds.operations {
                self.end(Verdict::Unknown(why));
            }
            return;
        };
        let store = Store::at(revision, kvs.iter().cloned());
        self.past = Past::new(store, self.bounds.past_bytes);
        self.doubt(why);
        self.slots.clear();
        self.streams.retain(|(_, stream)| watch::last_revision(stream) > revision);
        self.retire(revision, self.floors.now(), &BTreeSet::new());
    }

    /// Lets go what is certain of a part that is explained.
    fn let_go(&mut self, log: &Log, upto: i64, now: u64) {
        let done = now == u64::MAX;
        let base = self.past.base();
        let last = log.changes.last().map_or(base, |change| change.revision);
        let part: Vec<&Held> =
            self.window.iter().filter(|held| belongs(&held.operation, upto, now)).collect();
        let unknown: Vec<&Held> = (self.open.iter().chain(self.window.iter()))
            .filter(|held| held.operation.returned.is_none() && held.operation.input.may_write())
            .collect();
        let answered =
            part.iter().map(|held| &held.operation).filter(|operation| operation.returned.is_some());
        let truncated: Vec<WatchStream> =
            self.streams.iter().map(|(_, stream)| between(stream, base, upto, now)).collect();
        let sights = Sights::new(answered, truncated.iter());
        let claimed = claimed(&part, log);
        let mut guesses: Vec<(i64, guesses::Guess)> = Vec::new();
        let mut present: BTreeSet<Bytes> = self.past.store().present().map(|kv| kv.key.clone()).collect();
        for change in &log.changes {
            if !claimed.contains(&change.revision) {
                let deadline = deadline(&self.window, &truncated, change.revision);
                let met = (deadline, &present);
                guesses.push((change.revision, guesses::explain(change, &unknown, &sights, met)));
            }
            for event in &change.events {
                if event.deleted {
                    present.remove(&event.kv.key);
                } else {
                    present.insert(event.kv.key.clone());
                }
            }
        }
        let until =
            if done { last } else { self.certain_until(&guesses, &unknown, &sights, (log, upto.min(last))) };
        drop(sights);
        let changes: Vec<Change> =
            log.changes.iter().take_while(|change| change.revision <= until).cloned().collect();
        let first =
            guesses.iter().find(|(_, guess)| !guess.is_settled).map_or(until, |(revision, _)| *revision);
        let used = self.use_up(guesses.into_iter().filter(|(revision, _)| *revision <= until));
        if until > base {
            self.past.extend(&changes, log.compacted);
            self.past.note_guesses(first, until);
            if let Some(taken) = &mut self.changes {
                taken.extend(changes);
            }
        }
        self.judge_streams(until, done);
        if until > base || !used.is_empty() {
            self.retire(until, now, &used);
        }
        self.put_open_aside();
        if !guesses::can_be_filled(&self.slots) {
            self.doubt(
                "a write of unknown outcome happened that one explanation of an earlier part had used; there may be another \
                 explanation"
                    .to_owned(),
            );
            self.slots.clear();
        }
    }

    /// Up to where the state is certain.
    fn certain_until(
        &self,
        guesses: &[(i64, guesses::Guess)],
        unknown: &[&Held],
        sights: &Sights<'_>,
        (log, upto): (&Log, i64),
    ) -> i64 {
        let open: Vec<i64> =
            guesses.iter().filter(|(_, guess)| !guess.is_settled).map(|(revision, _)| *revision).collect();
        let events = log.changes.iter().flat_map(|change| &change.events);
        let versions = events.map(|event| &event.kv).chain(self.past.store().present());
        let leased: BTreeSet<Bytes> = versions.filter(|kv| kv.lease != 0).map(|kv| kv.key.clone()).collect();
        let Some(first) = open.first() else { return upto };
        // What is not settled stays for a while: much is told by what happens next.
        let mut revisions: Vec<i64> = self
            .window
            .iter()
            .filter_map(|held| placed(&held.operation).map(|(response, _)| response.revision))
            .collect();
        revisions.sort_unstable();
        let Some(latest) = revisions.len().checked_sub(self.bounds.lag + 1) else { return first - 1 };
        let upto = upto.min(revisions[latest]).max(first - 1);
        let known = |until: i64| {
            let last = open.iter().copied().rfind(|revision| *revision <= until);
            last.is_none_or(|last| guesses::is_known(unknown, &leased, sights, (last, until)))
        };
        if known(upto) {
            return upto;
        }
        let full = sights.last_full(upto).filter(|at| known(*at));
        full.unwrap_or(first - 1).max(first - 1)
    }

    /// Notes which writes of unknown outcome explain revisions that are let go. Gives those that are gone.
    fn use_up(&mut self, guesses: impl Iterator<Item = (i64, guesses::Guess)>) -> BTreeSet<usize> {
        let mut gone = BTreeSet::new();
        for (_, guess) in guesses {
            gone.extend(guess.surely);
            self.slots.extend(guess.slot);
            if let Some(lease) = guess.lease.filter(|lease| !self.ended.insert(*lease)) {
                self.doubt(format!("lease {lease} ended twice, or there is another explanation"));
            }
        }
        for slot in &mut self.slots {
            slot.retain(|write| !gone.contains(write));
        }
        gone
    }

    /// Judges what watches received up to a revision.
    fn judge_streams(&mut self, until: i64, done: bool) {
        let mut waiting = Vec::new();
        for (index, stream) in std::mem::take(&mut self.streams) {
            if watch::last_revision(&stream) > until && !done {
                waiting.push((index, stream));
                continue;
            }
            match self.past.judge_watch(index, &stream) {
                None => {
                    self.doubt(format!("watch {index} is of changes that were forgotten, or not certain"))
                }
                Some(Ok(())) => {}
                Some(Err(violation)) => self.end(Verdict::Invalid(violation)),
            }
        }
        self.streams = waiting;
    }

    /// Lets go of what is judged.
    fn retire(&mut self, until: i64, now: u64, used: &BTreeSet<usize>) {
        self.open.retain(|held| !used.contains(&held.index));
        let mut window = Vec::new();
        for held in std::mem::take(&mut self.window) {
            let operation = &held.operation;
            let is_done = match placed(operation) {
                Some((response, _)) => response.revision <= until,
                None => operation.returned.is_none() || operation.return_time() < now,
            };
            if used.contains(&held.index) {
                continue;
            } else if !is_done {
                window.push(held);
            } else if operation.returned.is_none() && operation.input.may_write() {
                self.open.push(held);
            } else {
                self.keep_compaction(&held);
                self.floors.retire(held.index, held.operation);
            }
        }
        self.window = window;
        self.floors.forget();
        self.open.sort_by_key(|held| held.index);
        self.drop_impossible();
    }

    /// Keeps what an operation says of compaction, if it says most.
    fn keep_compaction(&mut self, held: &Held) {
        let result = held.operation.output().map(|response| &response.result);
        if let (Request::Compact { revision }, None | Some(Ok(_))) = (&held.operation.input, result) {
            self.compacted = self.compacted.max(*revision);
        }
        let shown = match (&held.operation.input, result) {
            (Request::Compact { .. }, Some(Ok(_) | Err(Error::Compacted)))
            | (Request::Range(_), Some(Err(Error::Compacted))) => compacted(&held.operation),
            _ => return,
        };
        if self.compaction.as_ref().is_none_or(|held| compacted(&held.operation) < shown) {
            self.compaction = Some(held.clone());
        }
    }

    /// Drops writes that can do nothing any more.
    fn drop_impossible(&mut self) {
        let store = self.past.store();
        let (kept, gone): (Vec<Held>, Vec<Held>) = std::mem::take(&mut self.open).into_iter().partition(
            |held| !matches!(&held.operation.input, Request::Txn(txn) if is_impossible(txn, store)),
        );
        self.open = kept;
        for held in gone {
            self.fill(held.index);
        }
    }

    /// A write that will not happen again has happened, if some slot needs one.
    fn fill(&mut self, write: usize) -> bool {
        let fits = |slot: &&Slot| slot.contains(&write);
        let smallest = self.slots.iter().filter(fits).map(Vec::len).min();
        let place = self.slots.iter().position(|slot| Some(slot.len()) == smallest && slot.contains(&write));
        if let Some(place) = place {
            self.slots.swap_remove(place);
        }
        self.slots.iter_mut().for_each(|slot| slot.retain(|other| *other != write));
        place.is_some()
    }

    /// Keeps the latest writes that may still happen, and puts the others aside.
    fn put_open_aside(&mut self) {
        let Some(excess) = self.open.len().checked_sub(self.bounds.open).filter(|excess| *excess > 0) else {
            return;
        };
        let out: Vec<Held> = self.open.drain(..excess).collect();
        self.put_aside += out.len();
        for held in &out {
            self.is_aside_used |= self.fill(held.index);
        }
        if let Some(aside) = &mut self.aside
            && let Err(error) = aside.put(out.into_iter().map(|held| held.operation).collect())
        {
            self.end(Verdict::Unknown(error));
        }
    }
}

/// An operation of the window.
fn find(window: &[Held], index: usize) -> Option<&EtcdOperation> {
    let at = window.binary_search_by_key(&index, |held| held.index).ok()?;
    Some(&window[at].operation)
}

/// Recalled writes are numbered from here on.
const RECALLED_FROM: usize = usize::MAX / 2;
/// How many doubts are kept.
const DOUBTS_MAX: usize = 1000;
