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
//! are to blame, so that the replay goes back to one that can help (conflict-directed backjumping: Prosser
//! 1993).

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::candidates::{self, Candidate, Cause, Effect, Group, GroupId, UNUSED};
use super::facts::Facts;
use super::order::{Options, seen_versions};
use super::outcome::{KeyValue, Response};
use super::placing::{Order, Role};
use super::records::{Atom, Records};
use super::request::{Bytes, Keys, Request};
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
    /// Groups of plain puts and deletions, and all others; those kept for one revision are in neither.
    plain: Vec<GroupId>,
    special: Vec<GroupId>,
    /// The groups that are kept for one revision, by that.
    kept: FastMap<i64, GroupId>,
    /// Groups that put a value that somebody saw.
    by_value: FastMap<(KeyId, Atom), GroupId>,
    facts: Facts,
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

/// What is seen of an unclaimed revision.
enum Sight<'h> {
    Put(Cow<'h, KeyValue>),
    Deletion(&'h Bytes),
}

/// An explanation chosen for a revision that nobody claims.
pub(super) struct Decision {
    pub revision: i64,
    /// Where in the order it was needed.
    pub at: usize,
    options: Vec<Choice>,
    /// How many options have been tried.
    tried: usize,
    /// The candidate that was chosen, and the segment that it spent.
    chosen: Option<(u32, Option<(KeyId, i64)>)>,
    /// The earlier decisions that kept other options from working.
    pub blamed: BTreeSet<u32>,
}

impl Decision {
    /// How many explanations there are.
    pub fn options(&self) -> usize {
        self.options.len()
    }
}

/// One way to explain a revision.
#[derive(Clone, Copy)]
enum Choice {
    /// A revocation that returned it, of this lease.
    Revocation(i64),
    /// A candidate of this group.
    Group(GroupId),
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
        gaps.candidates = candidates::collect(records.rare(), store, options);
        gaps.collect_revocations(order);
        let explanations = gaps.candidates.len() + gaps.revocations.len();
        if unclaimed > explanations as u64 {
            return Err(gaps.too_many(order, unclaimed).into());
        }
        // From here on there are at most as many revisions as operations.
        gaps.collect_previous();
        gaps.number(order);
        gaps.collect_evidence(order);
        let mut written = vec![false; store.key_count()];
        gaps.candidates
            .iter()
            .filter_map(|candidate| candidate.key)
            .for_each(|id| written[id as usize] = true);
        gaps.facts = Facts::new(records, order, store, written);
        gaps.collect_groups(store);
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
            match (records.rare_of(record), records.seen(record)) {
                (Some(operation), _) => {
                    let Some(Response { result: Ok(reply), .. }) = operation.output() else { continue };
                    if shows_values(&operation.input) {
                        seen_versions(reply, &mut |kv| {
                            self.add_evidence(kv.mod_revision, || Sight::Put(Cow::Borrowed(kv)));
                        });
                    }
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
        self.groups = candidates::group(&self.candidates, self.records.rare(), (&self.facts, store), &wanted);
        for (id, group) in self.groups.iter().enumerate() {
            if let (Effect::Put, Some(key), Some(Request::Put(put))) =
                (group.effect, group.key, self.request(group))
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
        let groups = 0..self.groups.len() as GroupId;
        (self.plain, self.special) = groups.partition(|id| self.groups[*id as usize].is_plain);
        for (revision, number) in numbers {
            if self.gaps[number].evidence.is_empty() || self.revocations.contains_key(&revision) {
                continue;
            }
            let options = self.options(revision, store);
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

    fn request(&self, group: &Group) -> Option<&'h Request> {
        let records: &'h Records<'h> = self.records;
        match self.candidates[group.members[0] as usize].cause {
            Cause::Operation(number) => Some(&records.rare()[number as usize].operation.input),
            Cause::Expiry(_) => None,
        }
    }

    /// All ways to explain a revision, as far as the history alone tells, the most urgent first.
    fn options(&self, revision: i64, store: &Timeline<'h>) -> Vec<Choice> {
        let gap = self.gap(revision);
        let evidence = gap.map_or(&[][..], |gap| &gap.evidence);
        let mut urgent: Vec<(u8, i64, GroupId)> = Vec::new();
        let mut consider = |id: GroupId| {
            let group = &self.groups[id as usize];
            let in_time = gap.is_none_or(|gap| (group.members[0] as usize) < gap.in_time);
            let allowed = group.until >= revision && group.reserved.is_none_or(|only| only == revision);
            if in_time
                && allowed
                && self.agrees_with(group, evidence)
                && let Some((urgency, due)) = self.urgency(group, revision)
            {
                urgent.push((urgency, due, id));
            }
        };
        // Of plain puts, only those of a value that was seen can have made what was seen.
        let seen = evidence.iter().find_map(|sight| match sight {
            Sight::Put(kv) => Some(value_at(store, kv).and_then(|place| self.by_value.get(&place))),
            Sight::Deletion(_) => None,
        });
        match (self.kept.get(&revision), seen) {
            (Some(only), _) => consider(*only),
            (None, Some(group)) => group.into_iter().chain(&self.special).for_each(|id| consider(*id)),
            (None, None) => self.plain.iter().chain(&self.special).for_each(|id| consider(*id)),
        }
        urgent.sort_unstable();
        let revocations = self.revocations.get(&revision).map_or(&[][..], Vec::as_slice);
        let revocations = revocations.iter().map(|id| Choice::Revocation(*id));
        revocations.chain(urgent.into_iter().map(|(_, _, id)| Choice::Group(id))).collect()
    }

    fn agrees_with(&self, group: &Group, evidence: &[Sight<'h>]) -> bool {
        evidence.is_empty()
            || match self.request(group) {
                Some(request) => evidence.iter().all(|sight| could_make(request, sight)),
                None => evidence.iter().all(|sight| matches!(sight, Sight::Deletion(_))),
            }
    }

    /// How soon a group is needed, and when at last; none if it cannot have made the revision.
    fn urgency(&self, group: &Group, revision: i64) -> Option<(u8, i64)> {
        let Some(key) = group.key else { return Some((3, i64::MAX)) };
        let Some(segment) = self.facts.segment(key, revision) else {
            return Some((if group.effect == Effect::Deletion { 4 } else { 2 }, i64::MAX));
        };
        if segment.is_quiet() {
            return None;
        }
        let urgency = match (group.effect, segment.puts) {
            (Effect::Deletion, _) if !segment.may_delete => return None,
            (Effect::Deletion, _) if segment.must_delete => 1,
            (Effect::Deletion, _) => 5,
            (Effect::Put, Some(0)) => return None,
            (_, Some(_)) => 0,
            (_, None) => 3,
        };
        Some((urgency, segment.last))
    }

    /// What may explain the next revision.
    pub fn decide(&self, at: usize, store: &Timeline<'h>) -> Decision {
        let revision = store.revision() + 1;
        let options = self.options(revision, store);
        Decision { revision, at, options, tried: 0, chosen: None, blamed: BTreeSet::new() }
    }

    /// Applies the next option of the last decision that works. False if there is none left.
    pub fn choose(
        &mut self,
        decisions: &mut [Decision],
        store: &mut Timeline<'h>,
        steps_left: &mut u64,
    ) -> bool {
        let (last, earlier) = decisions.split_last_mut().expect("there is a decision to make");
        let revision = last.revision;
        while let Some(choice) = last.options.get(last.tried).copied() {
            last.tried += 1;
            *steps_left = steps_left.saturating_sub(1);
            let blamed = match choice {
                Choice::Revocation(lease) => {
                    if store.expire(lease, 0) && self.agrees(revision, store) {
                        return true;
                    }
                    self.bearing_on(&[Keys::all()], revision - 1, earlier, store)
                }
                Choice::Group(group) => match self.try_group(group, last, earlier, store) {
                    Ok(()) => return true,
                    Err(blamed) => blamed,
                },
            };
            last.blamed.extend(blamed);
        }
        false
    }

    /// Applies a candidate of a group. If none works: the decisions to blame.
    fn try_group(
        &mut self,
        id: GroupId,
        decision: &mut Decision,
        earlier: &[Decision],
        store: &mut Timeline<'h>,
    ) -> Result<(), Vec<u32>> {
        let revision = decision.revision;
        let in_time = self.gap(revision).map_or(self.candidates.len(), |gap| gap.in_time);
        let group = &self.groups[id as usize];
        let members = group.members.iter().take_while(|member| (**member as usize) < in_time);
        let free = members.clone().find(|member| self.candidates[**member as usize].used_by == UNUSED);
        let Some(number) = free.copied() else {
            return Err(members.map(|member| self.candidates[*member as usize].used_by).collect());
        };
        let segment =
            group.key.and_then(|key| self.facts.segment(key, revision).map(|segment| (key, segment)));
        let limited = segment.filter(|_| group.effect == Effect::Put);
        let limited = limited.and_then(|(key, segment)| Some(((key, segment.last), segment.puts?)));
        if let Some((place, puts)) = limited
            && let Some(spent) = self.spent.get(&place).filter(|spent| spent.len() >= puts as usize)
        {
            return Err(spent.clone());
        }
        let candidate = &self.candidates[number as usize];
        let rare = self.records.rare();
        let changed = match candidate.cause {
            Cause::Operation(number) => store.apply(&rare[number as usize].operation.input, candidate.call),
            Cause::Expiry(lease) => store.expire(lease, candidate.call),
        };
        if !changed || !self.agrees(revision, store) {
            let footprint = candidates::footprint(&self.candidates[number as usize], rare);
            return Err(self.bearing_on(&footprint, revision - 1, earlier, store));
        }
        self.candidates[number as usize].used_by = earlier.len() as u32;
        let place = limited.map(|(place, _)| place);
        if let Some(place) = place {
            self.spent.entry(place).or_default().push(earlier.len() as u32);
        }
        decision.chosen = Some((number, place));
        Ok(())
    }

    /// Frees what a decision had chosen.
    pub fn release(&mut self, decision: &mut Decision) {
        let Some((number, place)) = decision.chosen.take() else { return };
        self.candidates[number as usize].used_by = UNUSED;
        if let Some(place) = place {
            self.spent.get_mut(&place).expect("it was spent").pop();
        }
    }

    /// The decisions that, made otherwise, could change what any of these keys held at a revision.
    pub fn bearing_on(
        &self,
        footprint: &[Keys],
        at: i64,
        decisions: &[Decision],
        store: &Timeline<'h>,
    ) -> Vec<u32> {
        // By key: when all of it was seen. What is guessed about revisions up to there changes nothing. Too
        // many keys are taken as all of them.
        let mut keys: Vec<(Option<KeyId>, i64)> = Vec::new();
        for range in footprint {
            let span = store.span(range);
            if span.len() > SPAN_MAX {
                keys.push((None, i64::MIN));
                continue;
            }
            let known = |id| self.facts.seen_before(id, at);
            keys.extend(span.map(|id| (Some(id), known(id))));
        }
        let touches = |choice: &Choice, key: Option<KeyId>| match choice {
            Choice::Revocation(_) => true,
            Choice::Group(group) => {
                let of_group = self.groups[*group as usize].key;
                of_group.is_none() || key.is_none() || key == of_group
            }
        };
        let bears = |decision: &Decision| {
            keys.iter().any(|(key, known)| {
                decision.revision > *known && decision.options.iter().any(|choice| touches(choice, *key))
            })
        };
        // Decisions are in the order of their revisions: only the last ones can bear on what was just seen.
        let oldest = keys.iter().map(|(_, known)| *known).min().unwrap_or(i64::MAX);
        let first = decisions.partition_point(|decision| decision.revision <= oldest);
        let later = (first as u32..).zip(&decisions[first..]);
        later.filter(|(_, decision)| bears(decision)).map(|(index, _)| index).collect()
    }

    /// Whether the revision just made agrees with everything seen of it. If not, it is taken back.
    fn agrees(&self, revision: i64, store: &mut Timeline<'h>) -> bool {
        debug_assert_eq!(store.revision(), revision, "gaps are explained in order");
        let evidence = self.gap(revision).map_or(&[][..], |gap| &gap.evidence);
        let seen = evidence.iter().all(|sight| match sight {
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
        let witness = (0..self.records.len()).find(|index| {
            self.records.revision(*index) >= revision
                && deadline.is_none_or(|deadline| self.records.all()[*index].end == deadline)
        });
        let candidates = self.gap(revision).map_or(self.candidates.len(), |gap| gap.in_time);
        let shown = match self.gap(revision).and_then(|gap| gap.evidence.first()) {
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

/// The numbers of the key and the value of a version, if both may have been written.
fn value_at(store: &Timeline<'_>, kv: &KeyValue) -> Option<(KeyId, Atom)> {
    Some((store.id(kv.key.as_slice())?, store.atom(kv.value.as_slice())?))
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

/// Stands for the number of a gap where there is none.
const CLAIMED: u32 = u32::MAX;
/// With more keys than this, not every one is looked at.
const SPAN_MAX: usize = 256;
