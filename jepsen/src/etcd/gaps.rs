//! Revisions that nobody claims, and the operations with unknown outcome that may have made them.
//!
//! A candidate for revision *g* was called before anybody had returned with a revision of *g* or above (and
//! so, what is the same, before nobody who had returned earlier saw *g*). Three filters, cheapest first,
//! leave few candidates:
//!
//! * *evidence*: a version with `mod_revision` *g* that any response or watch event shows must be what the
//!   candidate writes;
//! * *look-ahead*: the next sight of the key that the candidate writes must not be of an older version;
//! * trying it: compares must lead to a change, and all watch streams that cover *g* must agree.
//!
//! The first two depend on the history alone, never on earlier choices. That is what lets the replay skip
//! decisions which have nothing to do with a conflict.

use std::collections::HashMap;

use super::EtcdHistory;
use super::order::{Decision, EtcdOperation, Options, Placed, Role, seen_versions};
use super::outcome::{KeyValue, Reply, Response};
use super::request::{Bytes, Keys, Request};
use super::store::Store;
use super::watch::{Event, Window};
use crate::{Verdict, Violation};

/// The unclaimed revisions of a history and what may explain them.
pub(super) struct Gaps<'h> {
    operations: &'h [EtcdOperation],
    /// By call.
    candidates: Vec<Candidate>,
    /// Revocations that returned a revision and may have made it.
    revocations: HashMap<i64, Vec<i64>>,
    /// Returns of operations by the revision they returned, least return from here on.
    deadlines: Vec<(i64, u64)>,
    /// What responses and events show of unclaimed revisions.
    evidence: HashMap<i64, Vec<Sight<'h>>>,
    /// When keys were seen, by revision: the mod revision, or `None` if absent.
    sights: HashMap<&'h [u8], Vec<(i64, Option<i64>)>>,
    windows: Vec<Window<'h>>,
    /// The versions before, which watch events show, by the revision of the event.
    previous: HashMap<i64, Vec<&'h KeyValue>>,
}

/// An operation that may have taken effect.
struct Candidate {
    call: u64,
    cause: Cause,
    used: bool,
}

#[derive(Clone, Copy)]
enum Cause {
    /// An operation of unknown outcome.
    Operation(u32),
    /// The end of a lease's time to live.
    Expiry(i64),
}

/// What is known of an unclaimed revision.
enum Sight<'h> {
    Put(&'h KeyValue),
    Deletion(&'h Bytes),
}

impl<'h> Gaps<'h> {
    pub fn new(
        history: &'h EtcdHistory,
        placed: &[Placed],
        initial: &Store,
        last: i64,
        options: &Options,
    ) -> Result<Gaps<'h>, Verdict> {
        let operations = &history.operations.operations;
        let mut gaps = Gaps {
            operations,
            candidates: Vec::new(),
            revocations: HashMap::new(),
            deadlines: Vec::new(),
            evidence: HashMap::new(),
            sights: HashMap::new(),
            windows: history.watches.iter().filter_map(Window::of).collect(),
            previous: HashMap::new(),
        };
        let unclaimed = unclaimed_count(placed, initial.revision(), last);
        if unclaimed == 0 {
            return Ok(gaps);
        }
        gaps.collect_candidates(options);
        gaps.collect_revocations(placed);
        gaps.collect_deadlines(history, placed);
        let explanations = gaps.candidates.len() + gaps.revocations.len();
        if unclaimed > explanations as u64 {
            return Err(gaps.too_many(placed, initial.revision(), unclaimed).into());
        }
        gaps.collect_evidence(history, placed, initial.revision());
        gaps.collect_sights(placed);
        Ok(gaps)
    }

    fn collect_candidates(&mut self, options: &Options) {
        for (index, operation) in self.operations.iter().enumerate() {
            let (call, cause) = match (&operation.input, operation.output()) {
                (Request::LeaseGrant { id, ttl }, output) => {
                    let (id, ttl) = match output {
                        Some(Response { result: Ok(Reply::Lease { id, ttl }), .. }) => (*id, *ttl),
                        Some(_) => continue,
                        None => (*id, *ttl),
                    };
                    let ticks = options.ticks_per_second.unwrap_or(0);
                    let life = u64::try_from(ttl).unwrap_or(0).saturating_mul(ticks);
                    (operation.call.saturating_add(life), Cause::Expiry(id))
                }
                (request, None) if request.may_write() => (operation.call, Cause::Operation(index as u32)),
                _ => continue,
            };
            self.candidates.push(Candidate { call, cause, used: false });
        }
        // How long leases from before the history still live is not known.
        let expiry = |id| Candidate { call: 0, cause: Cause::Expiry(id), used: false };
        self.candidates.extend(options.initial.leases().map(expiry));
        self.candidates.sort_by_key(|candidate| candidate.call);
    }

    fn collect_revocations(&mut self, placed: &[Placed]) {
        for placed in placed {
            if let Request::LeaseRevoke { id } = self.operations[placed.operation as usize].input {
                self.revocations.entry(placed.revision).or_default().push(id);
            }
        }
    }

    fn collect_deadlines(&mut self, history: &EtcdHistory, placed: &[Placed]) {
        let returns = placed.iter().map(|placed| {
            let operation = &self.operations[placed.operation as usize];
            (placed.revision, operation.return_time())
        });
        self.deadlines = returns.collect();
        for stream in &history.watches {
            self.deadlines.extend(stream.responses.iter().map(|response| (response.reach(), response.at)));
        }
        self.deadlines.sort_unstable();
        let mut least = u64::MAX;
        for (_, at) in self.deadlines.iter_mut().rev() {
            least = least.min(*at);
            *at = least;
        }
    }

    fn collect_evidence(&mut self, history: &'h EtcdHistory, placed: &[Placed], initial: i64) {
        let claimed = |revision: i64| {
            let at = placed.partition_point(|placed| placed.revision < revision);
            revision <= initial
                || placed.get(at).is_some_and(|first| first.revision == revision && first.role == Role::Maker)
        };
        let operations = self.operations;
        let evidence = &mut self.evidence;
        for placed in placed {
            let operation = &operations[placed.operation as usize];
            let Some(Response { result: Ok(reply), .. }) = operation.output() else { continue };
            if !shows_values(&operation.input) {
                continue;
            }
            seen_versions(reply, &mut |kv| {
                if !claimed(kv.mod_revision) {
                    evidence.entry(kv.mod_revision).or_default().push(Sight::Put(kv));
                }
            });
        }
        for event in history.watches.iter().flat_map(|stream| &stream.responses).flat_map(|r| &r.events) {
            if let Some(kv) = &event.previous {
                self.previous.entry(event.kv.mod_revision).or_default().push(kv);
                if !claimed(kv.mod_revision) {
                    evidence.entry(kv.mod_revision).or_default().push(Sight::Put(kv));
                }
            }
            if !claimed(event.kv.mod_revision) {
                let sight =
                    if event.deleted { Sight::Deletion(&event.kv.key) } else { Sight::Put(&event.kv) };
                evidence.entry(event.kv.mod_revision).or_default().push(sight);
            }
        }
        evidence.values_mut().for_each(|sights| sights.dedup_by(|left, right| left.same(right)));
    }

    /// Collects when the keys that candidates write were seen.
    fn collect_sights(&mut self, placed: &[Placed]) {
        let mut sights: HashMap<&[u8], Vec<(i64, Option<i64>)>> = HashMap::new();
        for candidate in &self.candidates {
            if let Some(key) = self.single_key(candidate) {
                sights.entry(key).or_default();
            }
        }
        for placed in placed {
            let operation = &self.operations[placed.operation as usize];
            let (Request::Range(range), Some(Response { result: Ok(Reply::Range { kvs, .. }), .. })) =
                (&operation.input, operation.output())
            else {
                continue;
            };
            let revision = if range.revision > 0 { range.revision } else { placed.revision };
            if range.keys.is_single()
                && kvs.is_empty()
                && !range.count_only
                && !range.has_filter()
                && let Some(seen) = sights.get_mut(range.keys.key.as_slice())
            {
                seen.push((revision, None));
            }
            for kv in kvs {
                if let Some(seen) = sights.get_mut(kv.key.as_slice()) {
                    seen.push((revision, Some(kv.mod_revision)));
                }
            }
        }
        sights.values_mut().for_each(|seen| seen.sort_unstable());
        self.sights = sights;
    }

    /// The one key that a candidate writes, if it writes one.
    fn single_key(&self, candidate: &Candidate) -> Option<&'h [u8]> {
        let Cause::Operation(index) = candidate.cause else { return None };
        let operations: &'h [EtcdOperation] = self.operations;
        match &operations[index as usize].input {
            Request::Put(put) => Some(put.key.as_slice()),
            Request::Delete(delete) if delete.keys.is_single() => Some(delete.keys.key.as_slice()),
            _ => None,
        }
    }

    /// How many candidates, counted from the earliest called, were called in time for a revision.
    fn in_time(&self, revision: i64) -> usize {
        let at = self.deadlines.partition_point(|(seen, _)| *seen < revision);
        let deadline = self.deadlines.get(at).map_or(u64::MAX, |(_, at)| *at);
        self.candidates.partition_point(|candidate| candidate.call <= deadline)
    }

    fn revocations_at(&self, revision: i64) -> &[i64] {
        self.revocations.get(&revision).map_or(&[], Vec::as_slice)
    }

    /// Whether a candidate could explain a revision, whatever explains the others.
    fn is_viable(&self, candidate: &Candidate, revision: i64) -> bool {
        let evidence = self.evidence.get(&revision).map_or(&[][..], Vec::as_slice);
        let Cause::Operation(index) = candidate.cause else {
            return evidence.iter().all(|sight| matches!(sight, Sight::Deletion(_)));
        };
        let request = &self.operations[index as usize].input;
        if !evidence.iter().all(|sight| could_make(request, sight)) {
            return false;
        }
        let Some(seen) = self.single_key(candidate).and_then(|key| self.sights.get(key)) else { return true };
        let next = seen.partition_point(|(at, _)| *at < revision);
        // Seen unchanged since before this revision: then it was not written at it.
        !matches!(seen.get(next), Some((_, Some(modified))) if *modified < revision)
    }

    /// Whether any candidate could explain a revision, whatever explains the others.
    pub fn is_explicable(&self, revision: i64) -> bool {
        let candidates = &self.candidates[..self.in_time(revision)];
        !self.revocations_at(revision).is_empty()
            || candidates.iter().any(|candidate| self.is_viable(candidate, revision))
    }

    /// Whether another choice, or this one, can change what any of these keys hold.
    pub fn bears_on(&self, decision: &Decision, footprint: &[Keys]) -> bool {
        if !self.revocations_at(decision.revision).is_empty() {
            return true;
        }
        let touches = |candidate: &Candidate| {
            let Cause::Operation(index) = candidate.cause else { return true };
            let mut touches = false;
            self.operations[index as usize]
                .input
                .footprint(&mut |keys| touches |= footprint.iter().any(|other| other.overlaps(&keys)));
            touches
        };
        self.candidates[..self.in_time(decision.revision)]
            .iter()
            .any(|candidate| touches(candidate) && self.is_viable(candidate, decision.revision))
    }

    /// Applies the next candidate that can explain the decision's revision: revocations that returned it,
    /// then unknown operations, the latest called first. Gives the keys it changed and when it was called.
    pub fn choose(
        &mut self,
        decision: &mut Decision,
        store: &mut Store,
        steps_left: &mut u64,
    ) -> Option<(Vec<Bytes>, u64)> {
        let revision = decision.revision;
        let revocations = self.revocations_at(revision).len();
        let in_time = self.in_time(revision);
        while decision.tried < revocations + in_time {
            let number = decision.tried;
            decision.tried += 1;
            if number < revocations {
                let id = self.revocations_at(revision)[number];
                if let Some(changed) = self.attempt(&Request::LeaseRevoke { id }, revision, store) {
                    return Some((changed, 0));
                }
                continue;
            }
            let index = in_time - 1 - (number - revocations);
            let candidate = &self.candidates[index];
            if candidate.used || !self.is_viable(candidate, revision) {
                continue;
            }
            *steps_left = steps_left.saturating_sub(1);
            let request = match candidate.cause {
                Cause::Operation(index) => &self.operations[index as usize].input,
                Cause::Expiry(id) => &Request::LeaseRevoke { id },
            };
            if let Some(changed) = self.attempt(request, revision, store) {
                self.candidates[index].used = true;
                decision.chosen = Some(index);
                return Some((changed, self.candidates[index].call));
            }
        }
        None
    }

    /// Frees what a decision had chosen.
    pub fn release(&mut self, decision: &mut Decision) {
        if let Some(chosen) = decision.chosen.take() {
            self.candidates[chosen].used = false;
        }
    }

    /// Applies a request if it makes the revision and agrees with everything seen of it.
    fn attempt(&self, request: &Request, revision: i64, store: &mut Store) -> Option<Vec<Bytes>> {
        let changed = store.execute(request).ok()?.changed;
        if changed.is_empty() {
            return None;
        }
        debug_assert_eq!(store.revision(), revision, "gaps are explained in order");
        let evidence = self.evidence.get(&revision).map_or(&[][..], Vec::as_slice);
        let agrees = evidence.iter().all(|sight| match sight {
            Sight::Put(kv) => store.current(kv.key.as_slice()) == Some(*kv),
            Sight::Deletion(key) => changed.contains(key) && store.current(key.as_slice()).is_none(),
        });
        let covered = || {
            let events: Vec<Event> = changed.iter().map(|key| Event::at(store, key, revision)).collect();
            self.windows.iter().all(|window| window.agrees(revision, &events))
        };
        if agrees
            && self.previous_differs(revision, store).is_none()
            && (self.windows.is_empty() || covered())
        {
            return Some(changed);
        }
        store.undo(&changed);
        None
    }

    /// A key of which some watch showed another version before `revision` than the one in the store.
    pub fn previous_differs(&self, revision: i64, store: &Store) -> Option<&'h KeyValue> {
        let shown = self.previous.get(&revision)?;
        shown
            .iter()
            .copied()
            .find(|kv| store.version_at(kv.key.as_slice(), revision.saturating_sub(1)) != Some(*kv))
    }

    /// The violation if a revision has no explanation.
    pub fn unexplained(&self, revision: i64) -> Violation {
        let at = self.deadlines.partition_point(|(seen, _)| *seen < revision);
        let deadline = self.deadlines.get(at).map_or(u64::MAX, |(_, at)| *at);
        let witness = self.operations.iter().position(|operation| {
            operation.return_time() == deadline
                && operation.output().is_some_and(|response| response.revision >= revision)
        });
        let candidates = self.in_time(revision);
        let shown = match self.evidence.get(&revision).and_then(|sights| sights.first()) {
            Some(Sight::Put(kv)) => format!(", which shows as {kv},"),
            Some(Sight::Deletion(key)) => format!(", which shows as a deletion of {key},"),
            None => String::new(),
        };
        let sentence = format!(
            "revision {revision}{shown} was made by none of the answered operations, and none of the {candidates} \
             operations of unknown outcome that were called before it was seen can have made it"
        );
        Violation { rule: "unexplained-revision", sentence, operations: witness.into_iter().collect() }
    }

    /// The violation if there are fewer explanations than unclaimed revisions.
    fn too_many(&self, placed: &[Placed], initial: i64, unclaimed: u64) -> Violation {
        let makers = placed.iter().filter(|placed| placed.role == Role::Maker);
        let mut next = initial + 1;
        for maker in makers {
            if maker.revision > next {
                break;
            }
            next = maker.revision.saturating_add(1);
        }
        let mut violation = self.unexplained(next);
        let explanations = self.candidates.len();
        violation.sentence = format!(
            "{unclaimed} revisions, the first of them {next}, were made by none of the answered operations, and \
             only {explanations} operations have an unknown outcome"
        );
        violation
    }
}

impl Sight<'_> {
    fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Sight::Put(left), Sight::Put(right)) => left == right,
            (Sight::Deletion(left), Sight::Deletion(right)) => left == right,
            _ => false,
        }
    }
}

/// Whether the versions in the reply to a request are as they were written.
fn shows_values(request: &Request) -> bool {
    match request {
        Request::Range(range) => !range.keys_only,
        Request::Txn(txn) => txn.success.iter().chain(&txn.failure).all(shows_values),
        _ => true,
    }
}

/// Whether a request can have caused a sight, in whichever branch.
fn could_make(request: &Request, sight: &Sight<'_>) -> bool {
    match (request, sight) {
        (Request::Put(put), Sight::Put(kv)) => {
            put.key == kv.key && (put.ignore_value || put.value == kv.value)
        }
        (Request::Delete(delete), Sight::Deletion(key)) => delete.keys.contains(key.as_slice()),
        (Request::LeaseRevoke { .. }, Sight::Deletion(_)) => true,
        (Request::Txn(txn), _) => {
            txn.success.iter().chain(&txn.failure).any(|request| could_make(request, sight))
        }
        _ => false,
    }
}

/// How many revisions up to `last` no answered operation made.
fn unclaimed_count(placed: &[Placed], initial: i64, last: i64) -> u64 {
    let makers = placed.iter().filter(|placed| placed.role == Role::Maker).count() as u64;
    last.saturating_sub(initial).unsigned_abs().saturating_sub(makers)
}
