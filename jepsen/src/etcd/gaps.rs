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

use super::EtcdHistory;
use super::order::{Decision, EtcdOperation, Options, seen_versions};
use super::outcome::{KeyValue, Reply, Response};
use super::placing::{Order, Role};
use super::request::{Bytes, Keys, Request};
use super::timeline::{KeyId, Timeline};
use super::watch::Window;
use crate::hash::FastMap;
use crate::{Verdict, Violation};

/// The unclaimed revisions of a history and what may explain them.
pub(super) struct Gaps<'h> {
    operations: &'h [EtcdOperation],
    /// By call.
    candidates: Vec<Candidate>,
    /// Revocations that returned a revision and may have made it.
    revocations: FastMap<i64, Vec<i64>>,
    /// What is known of each unclaimed revision.
    gaps: Vec<Gap<'h>>,
    /// By revision, from `first` on: the number of its gap, or [`CLAIMED`].
    numbers: Vec<u32>,
    first: i64,
    /// By key, when it was seen: at which revision, and which version (its mod revision, or `None` if it was
    /// absent). In the order of revisions, and only for keys that candidates write.
    sights: Vec<Vec<(i64, Option<i64>)>>,
    windows: Vec<Window<'h>>,
    /// The versions before, which watch events show, by the revision of the event.
    previous: FastMap<i64, Vec<&'h KeyValue>>,
}

/// What is known of an unclaimed revision.
struct Gap<'h> {
    /// When it, or a later one, was seen first.
    deadline: u64,
    /// How many candidates, counted from the earliest called, were called in time.
    in_time: usize,
    /// What responses and events show of it.
    evidence: Vec<Sight<'h>>,
}

/// An operation that may have taken effect.
struct Candidate {
    call: u64,
    cause: Cause,
    used: bool,
    /// The one key that it writes, if it writes one.
    key: Option<KeyId>,
}

#[derive(Clone, Copy)]
enum Cause {
    /// An operation of unknown outcome.
    Operation(u32),
    /// The end of a lease's time to live.
    Expiry(i64),
}

/// What is seen of an unclaimed revision.
enum Sight<'h> {
    Put(&'h KeyValue),
    Deletion(&'h Bytes),
}

impl<'h> Gaps<'h> {
    pub fn new(
        history: &'h EtcdHistory,
        order: &Order,
        store: &Timeline<'h>,
        options: &Options,
    ) -> Result<Gaps<'h>, Verdict> {
        let initial = store.revision();
        let mut gaps = Gaps {
            operations: &history.operations.operations,
            candidates: Vec::new(),
            revocations: FastMap::default(),
            gaps: Vec::new(),
            numbers: Vec::new(),
            first: initial.saturating_add(1),
            sights: Vec::new(),
            windows: history.watches.iter().filter_map(Window::of).collect(),
            previous: FastMap::default(),
        };
        let revisions = u64::try_from(order.last.saturating_sub(initial)).unwrap_or(0);
        let unclaimed = revisions.saturating_sub(order.makers);
        if unclaimed == 0 {
            return Ok(gaps);
        }
        gaps.collect_candidates(store, options);
        gaps.collect_revocations(order);
        let explanations = gaps.candidates.len() + gaps.revocations.len();
        if unclaimed > explanations as u64 {
            return Err(gaps.too_many(order, unclaimed).into());
        }
        // From here on there are at most as many revisions as operations.
        gaps.collect_previous(history);
        gaps.number(order);
        gaps.collect_evidence(history, order);
        gaps.collect_sights(order, store);
        Ok(gaps)
    }

    fn collect_previous(&mut self, history: &'h EtcdHistory) {
        for event in history.watches.iter().flat_map(|stream| &stream.responses).flat_map(|r| &r.events) {
            if let Some(kv) = &event.previous {
                self.previous.entry(event.kv.mod_revision).or_default().push(kv);
            }
        }
    }

    fn collect_candidates(&mut self, store: &Timeline<'_>, options: &Options) {
        for (index, operation) in self.operations.iter().enumerate() {
            let (call, cause, key) = match (&operation.input, operation.output()) {
                (Request::LeaseGrant { id, ttl }, output) => {
                    let (id, ttl) = match output {
                        Some(Response { result: Ok(Reply::Lease { id, ttl }), .. }) => (*id, *ttl),
                        Some(_) => continue,
                        None => (*id, *ttl),
                    };
                    let ticks = options.ticks_per_second.unwrap_or(0);
                    let life = u64::try_from(ttl).unwrap_or(0).saturating_mul(ticks);
                    (operation.call.saturating_add(life), Cause::Expiry(id), None)
                }
                (request, None) if request.may_write() => {
                    let key = single_key(request).and_then(|key| store.id(key));
                    (operation.call, Cause::Operation(index as u32), key)
                }
                _ => continue,
            };
            self.candidates.push(Candidate { call, cause, used: false, key });
        }
        // How long leases from before the history still live is not known.
        let expiry = |id| Candidate { call: 0, cause: Cause::Expiry(id), used: false, key: None };
        self.candidates.extend(options.initial.leases().map(expiry));
        self.candidates.sort_by_key(|candidate| candidate.call);
    }

    fn collect_revocations(&mut self, order: &Order) {
        if !order.has_leases {
            return;
        }
        for placed in &order.placed {
            if let Request::LeaseRevoke { id } = self.operations[placed.operation as usize].input {
                self.revocations.entry(placed.revision).or_default().push(id);
            }
        }
    }

    /// Numbers the unclaimed revisions and finds when each was seen first.
    fn number(&mut self, order: &Order) {
        let count = usize::try_from(order.last - self.first + 1).expect("counted before");
        let mut deadlines = vec![u64::MAX; count];
        self.numbers = vec![0; count];
        let place = |revision: i64| usize::try_from(revision - self.first).ok();
        for placed in &order.placed {
            let Some(at) = place(placed.revision) else { continue };
            deadlines[at] = deadlines[at].min(placed.end);
            if placed.role == Role::Maker {
                self.numbers[at] = CLAIMED;
            }
        }
        let mut least = u64::MAX;
        for (revision, at) in &order.shown {
            match place(*revision) {
                Some(place) if place < count => deadlines[place] = deadlines[place].min(*at),
                // A refusal may show more than anybody else saw.
                Some(_) => least = least.min(*at),
                None => {}
            }
        }
        for deadline in deadlines.iter_mut().rev() {
            least = least.min(*deadline);
            *deadline = least;
        }
        for (number, deadline) in self.numbers.iter_mut().zip(deadlines) {
            if *number == CLAIMED {
                continue;
            }
            *number = self.gaps.len() as u32;
            let in_time = self.candidates.partition_point(|candidate| candidate.call <= deadline);
            self.gaps.push(Gap { deadline, in_time, evidence: Vec::new() });
        }
    }

    /// The number of an unclaimed revision.
    fn gap_number(&self, revision: i64) -> Option<usize> {
        let at = usize::try_from(revision.checked_sub(self.first)?).ok()?;
        self.numbers.get(at).filter(|number| **number != CLAIMED).map(|number| *number as usize)
    }

    fn gap(&self, revision: i64) -> Option<&Gap<'h>> {
        self.gap_number(revision).map(|number| &self.gaps[number])
    }

    fn add_evidence(&mut self, revision: i64, sight: Sight<'h>) {
        if let Some(number) = self.gap_number(revision) {
            let evidence = &mut self.gaps[number].evidence;
            if !evidence.last().is_some_and(|last| last.same(&sight)) {
                evidence.push(sight);
            }
        }
    }

    fn collect_evidence(&mut self, history: &'h EtcdHistory, order: &Order) {
        let operations = self.operations;
        for placed in &order.placed {
            let operation = &operations[placed.operation as usize];
            let Some(Response { result: Ok(reply), .. }) = operation.output() else { continue };
            if shows_values(&operation.input) {
                seen_versions(reply, &mut |kv| self.add_evidence(kv.mod_revision, Sight::Put(kv)));
            }
        }
        for event in history.watches.iter().flat_map(|stream| &stream.responses).flat_map(|r| &r.events) {
            if let Some(kv) = &event.previous {
                self.add_evidence(kv.mod_revision, Sight::Put(kv));
            }
            let sight = if event.deleted { Sight::Deletion(&event.kv.key) } else { Sight::Put(&event.kv) };
            self.add_evidence(event.kv.mod_revision, sight);
        }
    }

    /// Collects when the keys that candidates write were seen.
    fn collect_sights(&mut self, order: &Order, store: &Timeline<'_>) {
        let mut written = vec![false; store.key_count()];
        self.candidates
            .iter()
            .filter_map(|candidate| candidate.key)
            .for_each(|id| written[id as usize] = true);
        let mut sights = vec![Vec::new(); written.len()];
        let id_of = |key: &Bytes| store.id(key.as_slice()).filter(|id| written[*id as usize]);
        for placed in &order.placed {
            let operation = &self.operations[placed.operation as usize];
            let (Request::Range(range), Some(Response { result: Ok(Reply::Range { kvs, .. }), .. })) =
                (&operation.input, operation.output())
            else {
                continue;
            };
            let revision = if range.revision > 0 { range.revision } else { placed.revision };
            if range.keys.is_single() && kvs.is_empty() && !range.count_only && !range.has_filter() {
                if let Some(id) = id_of(&range.keys.key) {
                    sights[id as usize].push((revision, None));
                }
                continue;
            }
            for kv in kvs {
                if let Some(id) = id_of(&kv.key) {
                    sights[id as usize].push((revision, Some(kv.mod_revision)));
                }
            }
        }
        if order.has_past {
            sights.iter_mut().for_each(|seen| seen.sort_unstable());
        }
        self.sights = sights;
    }

    /// How many candidates, counted from the earliest called, were called in time for a revision.
    fn in_time(&self, revision: i64) -> usize {
        self.gap(revision).map_or(self.candidates.len(), |gap| gap.in_time)
    }

    fn evidence(&self, revision: i64) -> &[Sight<'h>] {
        self.gap(revision).map_or(&[], |gap| &gap.evidence)
    }

    fn revocations_at(&self, revision: i64) -> &[i64] {
        self.revocations.get(&revision).map_or(&[], Vec::as_slice)
    }

    /// Whether a candidate could explain a revision, whatever explains the others.
    fn is_viable(&self, candidate: &Candidate, revision: i64) -> bool {
        let evidence = self.evidence(revision);
        let Cause::Operation(index) = candidate.cause else {
            return evidence.iter().all(|sight| matches!(sight, Sight::Deletion(_)));
        };
        let request = &self.operations[index as usize].input;
        if !evidence.iter().all(|sight| could_make(request, sight)) {
            return false;
        }
        let Some(seen) = candidate.key.map(|key| &self.sights[key as usize]) else { return true };
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
    /// then unknown operations, the latest called first. False if there is none left.
    pub fn choose(
        &mut self,
        decision: &mut Decision,
        store: &mut Timeline<'h>,
        steps_left: &mut u64,
    ) -> bool {
        let revision = decision.revision;
        let revocations = self.revocations_at(revision).len();
        let in_time = self.in_time(revision);
        while decision.tried < revocations + in_time {
            let number = decision.tried;
            decision.tried += 1;
            if number < revocations {
                let id = self.revocations_at(revision)[number];
                if store.expire(id, 0) && self.agrees(revision, store) {
                    return true;
                }
                continue;
            }
            let index = in_time - 1 - (number - revocations);
            let candidate = &self.candidates[index];
            if candidate.used || !self.is_viable(candidate, revision) {
                continue;
            }
            *steps_left = steps_left.saturating_sub(1);
            let changed = match candidate.cause {
                Cause::Operation(operation) => {
                    let operations: &'h [EtcdOperation] = self.operations;
                    store.apply(&operations[operation as usize].input, candidate.call)
                }
                Cause::Expiry(id) => store.expire(id, candidate.call),
            };
            if changed && self.agrees(revision, store) {
                self.candidates[index].used = true;
                decision.chosen = Some(index);
                return true;
            }
        }
        false
    }

    /// Frees what a decision had chosen.
    pub fn release(&mut self, decision: &mut Decision) {
        if let Some(chosen) = decision.chosen.take() {
            self.candidates[chosen].used = false;
        }
    }

    /// Whether the revision just made agrees with everything seen of it. If not, it is taken back.
    fn agrees(&self, revision: i64, store: &mut Timeline<'h>) -> bool {
        debug_assert_eq!(store.revision(), revision, "gaps are explained in order");
        let seen = self.evidence(revision).iter().all(|sight| match sight {
            Sight::Put(kv) => store.is_present(kv),
            Sight::Deletion(key) => store.just_deleted(key.as_slice()),
        });
        let agrees =
            seen && self.previous_differs(revision, store).is_none() && self.is_watched_so(revision, store);
        if !agrees {
            store.undo();
        }
        agrees
    }

    /// Whether all watches that cover the revision just made show it as it is in the store.
    pub fn is_watched_so(&self, revision: i64, store: &Timeline<'_>) -> bool {
        if self.windows.is_empty() {
            return true;
        }
        let events = store.latest_events();
        self.windows.iter().all(|window| window.agrees(revision, &events))
    }

    /// A key of which some watch showed another version before `revision` than the one in the store.
    pub fn previous_differs(&self, revision: i64, store: &Timeline<'_>) -> Option<&'h KeyValue> {
        let shown = self.previous.get(&revision)?;
        let before = |kv: &KeyValue| store.version_at(kv.key.as_slice(), revision.saturating_sub(1));
        shown.iter().copied().find(|kv| before(kv).as_ref() != Some(*kv))
    }

    /// The violation if a revision has no explanation.
    pub fn unexplained(&self, revision: i64) -> Violation {
        let deadline = self.gap(revision).map(|gap| gap.deadline);
        let witness = self.operations.iter().position(|operation| {
            operation.output().is_some_and(|response| response.revision >= revision)
                && deadline.is_none_or(|deadline| operation.return_time() == deadline)
        });
        let candidates = self.in_time(revision);
        let shown = match self.evidence(revision).first() {
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
    fn too_many(&self, order: &Order, unclaimed: u64) -> Violation {
        let makers = order.placed.iter().filter(|placed| placed.role == Role::Maker);
        let mut next = self.first;
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

/// The one key that a request writes, if it writes one.
fn single_key(request: &Request) -> Option<&[u8]> {
    match request {
        Request::Put(put) => Some(put.key.as_slice()),
        Request::Delete(delete) if delete.keys.is_single() => Some(delete.keys.key.as_slice()),
        _ => None,
    }
}

/// Stands for the number of a gap where there is none.
const CLAIMED: u32 = u32::MAX;
