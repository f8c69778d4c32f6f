//! Revisions that nobody claims, and the operations with unknown outcome that may have made them.
//!
//! A candidate for revision *g* was called before anybody had returned with a revision of *g* or above (and
//! so, what is the same, before nobody who had returned earlier saw *g*). Filters that depend on the history
//! alone leave few:
//!
//! * *evidence*: a version with `mod_revision` *g* that any response or watch event shows must be what the
//!   candidate writes; a candidate that is the only one to explain some revision explains no other;
//! * *facts*: two sights of a key tell how often it was put in between (see [`facts`](super::facts)).
//!
//! The rest is tried, and must lead to a change with which all watches that cover *g* agree. The order is
//! that of a scheduler: what some key needs soonest goes first. Every failure names the earlier guesses that
//! are to blame, so that the replay goes back to one that can help, and what was learned from it is not tried again.
//! That is `choices`, `blame` and `reasons`; here is what is known before.

mod blame;
mod choices;
mod evidence;
mod reasons;

use std::borrow::Cow;

use blame::Failure;
use choices::Choice;
pub(super) use choices::Decision;
use evidence::{Sight, shown_versions, value_at};
use reasons::Learned;
pub(super) use reasons::Reason;

use super::candidates::{self, Candidate, Effect, Group, GroupId, Leases, Written};
use super::facts::{Facts, guards};
use super::order::Options;
use super::outcome::{KeyValue, Reply, Response};
use super::placing::{Order, Role};
use super::records::{Atom, Kind, Records};
use super::request::{Put, Request};
use super::timeline::{KeyId, Timeline};
use super::watch::Window;
use crate::hash::FastMap;
use crate::{Verdict, Violation};

/// The unclaimed revisions of a history and what may explain them.
pub(super) struct Gaps<'h> {
    records: &'h Records<'h>,
    /// By call.
    candidates: Vec<Candidate>,
    groups: Vec<Group>,
    /// Groups of plain puts and deletions, and all others, by key; those kept for one revision are in neither.
    plain: Vec<GroupId>,
    special: Vec<GroupId>,
    /// The groups that are kept for one revision, by that.
    kept: FastMap<i64, GroupId>,
    /// Groups that put a value that somebody saw.
    by_value: FastMap<(KeyId, Atom), GroupId>,
    facts: Facts,
    leases: Leases,
    /// By key: whether some put keeps its value or its lease.
    keeps: Vec<bool>,
    learned: Learned,
    /// Revocations that returned a revision and may have made it.
    revocations: FastMap<i64, Vec<i64>>,
    /// What is known of each unclaimed revision.
    gaps: Vec<Gap<'h>>,
    /// By revision, from `first` on: the number of its gap, or [`CLAIMED`].
    numbers: Vec<u32>,
    first: i64,
    /// The decisions that put a key in a segment of it, by key and end of the segment.
    spent: FastMap<(KeyId, i64), Vec<u32>>,
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

impl<'h> Gaps<'h> {
    pub fn new(
        records: &'h Records<'h>,
        order: &Order,
        store: &Timeline<'h>,
        options: &Options,
    ) -> Result<Gaps<'h>, Verdict> {
        let initial = store.revision();
        let mut gaps = Gaps {
            records,
            candidates: Vec::new(),
            groups: Vec::new(),
            plain: Vec::new(),
            special: Vec::new(),
            kept: FastMap::default(),
            by_value: FastMap::default(),
            facts: Facts::default(),
            leases: Leases::default(),
            keeps: Vec::new(),
            learned: Learned::default(),
            revocations: FastMap::default(),
            gaps: Vec::new(),
            numbers: Vec::new(),
            first: initial.saturating_add(1),
            spent: FastMap::default(),
            windows: records.watches().iter().filter_map(Window::of).collect(),
            previous: FastMap::default(),
        };
        let revisions = u64::try_from(order.last.saturating_sub(initial)).unwrap_or(0);
        let unclaimed = revisions.saturating_sub(order.makers);
        if unclaimed == 0 {
            return Ok(gaps);
        }
        gaps.leases = Leases::of(records.rare(), store, options);
        gaps.candidates = candidates::collect(records.rare(), (&gaps.leases, store), options);
        gaps.collect_revocations(order);
        let explanations = gaps.candidates.len() + gaps.revocations.len();
        if unclaimed > explanations as u64 {
            return Err(gaps.too_many(order, unclaimed).into());
        }
        // From here on there are at most as many revisions as operations.
        gaps.collect_previous();
        gaps.number(order);
        gaps.collect_evidence(order);
        let written = Written::new(&gaps.candidates, records.rare(), (&gaps.leases, store));
        gaps.facts = Facts::new(records, order, store, written);
        gaps.collect_groups(store);
        gaps.keeps = vec![false; store.key_count()];
        for rare in records.rare() {
            keeping_puts(&rare.operation.input, &mut |put| {
                let key = store.id(put.key.as_slice()).expect("the keys of all puts are numbered");
                gaps.keeps[key as usize] = true;
            });
        }
        Ok(gaps)
    }

    fn collect_previous(&mut self) {
        for event in
            self.records.watches().iter().flat_map(|stream| &stream.responses).flat_map(|r| &r.events)
        {
            if let Some(kv) = &event.previous {
                self.previous.entry(event.kv.mod_revision).or_default().push(kv);
            }
        }
    }

    fn collect_revocations(&mut self, order: &Order) {
        if !order.has_leases {
            return;
        }
        for placed in &order.placed {
            let record = &self.records.all()[placed.operation as usize];
            if let Some(Request::LeaseRevoke { id }) =
                self.records.rare_of(record).map(|operation| &operation.input)
            {
                let id = *id;
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
            deadlines[at] = deadlines[at].min(self.records.all()[placed.operation as usize].end);
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

    fn add_evidence(&mut self, revision: i64, sight: impl FnOnce() -> Sight<'h>) {
        if let Some(number) = self.gap_number(revision) {
            let sight = sight();
            let evidence = &mut self.gaps[number].evidence;
            if !evidence.last().is_some_and(|last| last.same(&sight)) {
                evidence.push(sight);
            }
        }
    }

    fn collect_evidence(&mut self, order: &Order) {
        let records: &'h Records<'h> = self.records;
        for placed in &order.placed {
            let record = &records.all()[placed.operation as usize];
            if record.kind == Kind::Guarded && record.changes() {
                let key = || Sight::PutOf(records.atoms().get(record.key));
                self.add_evidence(i64::from(record.expected), key);
            }
            match (records.rare_of(record), records.seen(record)) {
                (Some(operation), _) => {
                    let Some(Response { result: Ok(reply), .. }) = operation.output() else { continue };
                    if let (Request::Txn(txn), Reply::Txn { succeeded, .. }) = (&operation.input, reply) {
                        for (key, expected) in guards(txn, *succeeded) {
                            self.add_evidence(expected, || Sight::PutOf(key));
                        }
                    }
                    shown_versions(&operation.input, reply, &mut |kv, with_value| {
                        self.add_evidence(kv.mod_revision, || {
                            if with_value { Sight::Put(Cow::Borrowed(kv)) } else { Sight::Bare(kv) }
                        });
                    });
                }
                (None, Some(seen)) => {
                    let shown = || records.shown(record).expect("it shows a version");
                    self.add_evidence(i64::from(seen.modified), || Sight::Put(Cow::Owned(shown())));
                }
                (None, None) => {}
            }
        }
        for event in records.watches().iter().flat_map(|stream| &stream.responses).flat_map(|r| &r.events) {
            if let Some(kv) = &event.previous {
                self.add_evidence(kv.mod_revision, || Sight::Put(Cow::Borrowed(kv)));
            }
            self.add_evidence(event.kv.mod_revision, || {
                if event.deleted {
                    Sight::Deletion(&event.kv.key)
                } else {
                    Sight::Put(Cow::Borrowed(&event.kv))
                }
            });
        }
    }

    /// Groups the candidates, and keeps those that are the only explanation of a revision for that.
    fn collect_groups(&mut self, store: &Timeline<'h>) {
        let mut wanted: FastMap<(KeyId, Atom), u32> = FastMap::default();
        for sight in self.gaps.iter().flat_map(|gap| &gap.evidence) {
            if let Sight::Put(kv) = sight
                && let Some(place) = value_at(store, kv)
            {
                *wanted.entry(place).or_default() += 1;
            }
        }
        self.groups =
            candidates::group(&self.candidates, self.records, (&self.facts, &self.leases, store), &wanted);
        for (id, group) in self.groups.iter().enumerate() {
            if let (Effect::Put, Some(key), Some(Request::Put(put))) =
                (group.effect, group.key, &group.request)
                && group.is_plain
                && let Some(value) = store.atom(put.value.as_slice())
                && wanted.contains_key(&(key, value))
            {
                self.by_value.insert((key, value), id as GroupId);
            }
        }
        let numbers: Vec<(i64, usize)> = (self.first..)
            .zip(&self.numbers)
            .filter(|(_, number)| **number != CLAIMED)
            .map(|(revision, number)| (revision, *number as usize))
            .collect();
        let mut groups: Vec<GroupId> = (0..self.groups.len() as GroupId).collect();
        groups.sort_by_key(|id| self.groups[*id as usize].key);
        (self.plain, self.special) = groups.iter().partition(|id| self.groups[**id as usize].is_plain);
        for (revision, number) in numbers {
            if self.gaps[number].evidence.is_empty() || self.revocations.contains_key(&revision) {
                continue;
            }
            let options = self.options(revision, store, false);
            if let [Choice::Group(only)] = options[..]
                && let [_] = self.groups[only as usize].members[..]
            {
                self.groups[only as usize].reserved = Some(revision);
            }
        }
        let groups = &self.groups;
        self.plain.retain(|id| groups[*id as usize].reserved.is_none());
        self.special.retain(|id| groups[*id as usize].reserved.is_none());
        let kept = (0..).zip(groups).filter_map(|(id, group)| Some((group.reserved?, id)));
        self.kept = kept.collect();
    }

    /// Whether the revision just made agrees with everything seen of it. If not, it is taken back.
    fn agrees(&self, revision: i64, store: &mut Timeline<'h>) -> Result<(), Failure> {
        debug_assert_eq!(store.revision(), revision, "gaps are explained in order");
        let evidence = self.gap(revision).map_or(&[][..], |gap| &gap.evidence);
        let is_seen = |sight: &&Sight<'h>| match sight {
            Sight::Put(kv) => store.is_present(kv, false),
            Sight::Bare(kv) => store.is_present(kv, true),
            Sight::PutOf(key) => store.current(key).is_some_and(|version| version.revision == revision),
            Sight::Deletion(key) => store.just_deleted(key.as_slice()),
        };
        let failure = if let Some(sight) = evidence.iter().find(|sight| !is_seen(sight)) {
            Failure::Sight(sight.key().to_vec())
        } else if let Some(previous) = self.previous_differs(revision, store) {
            Failure::Previous(previous.clone())
        } else if !self.is_watched_so(revision, store) {
            Failure::Watched
        } else {
            return Ok(());
        };
        store.undo();
        Err(failure)
    }

    /// Whether facts allow what the revision just made does to several keys. If not, it is taken back.
    fn fits(&self, revision: i64, store: &mut Timeline<'h>) -> Result<(), Failure> {
        let is_allowed = |key: KeyId, is_there: bool| {
            !self.facts.is_untouched(key, revision)
                && self.facts.segment(key, revision).is_none_or(|segment| match is_there {
                    true => segment.puts != Some(0),
                    false => segment.may_delete,
                })
        };
        let wrong = store.latest_changes().find(|(key, is_there)| !is_allowed(*key, *is_there));
        let Some((key, _)) = wrong else { return Ok(()) };
        store.undo();
        Err(Failure::Unlike(key))
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
        let witness = (0..self.records.len()).find(|index| {
            self.records.revision(*index) >= revision
                && deadline.is_none_or(|deadline| self.records.all()[*index].end == deadline)
        });
        let candidates = self.gap(revision).map_or(self.candidates.len(), |gap| gap.in_time);
        let shown = match self.gap(revision).and_then(|gap| gap.evidence.first()) {
            Some(Sight::Put(kv)) => format!(", which shows as {kv},"),
            Some(Sight::Bare(kv)) => format!(", which shows as a put of {},", kv.key),
            Some(Sight::PutOf(key)) => {
                format!(", which a guard knows as a put of \"{}\",", key.escape_ascii())
            }
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

/// Calls `visit` with every put of a request that keeps the value or the lease of its key.
fn keeping_puts(request: &Request, visit: &mut impl FnMut(&Put)) {
    match request {
        Request::Put(put) if put.ignore_value || put.ignore_lease => visit(put),
        Request::Txn(txn) => {
            txn.success.iter().chain(&txn.failure).for_each(|request| keeping_puts(request, visit));
        }
        _ => {}
    }
}

/// Stands for the number of a gap where there is none.
const CLAIMED: u32 = u32::MAX;
