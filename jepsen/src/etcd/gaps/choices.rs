//! Choosing explanations: what may have made a revision, in which order it is tried, and which earlier choices are
//! to blame if nothing works.

use std::rc::Rc;

use super::Gaps;
use super::blame::Failure;
use super::evidence::{Sight, could_make, value_at};
use super::reasons::{Nogood, Reason, Which};
use crate::etcd::candidates::{Cause, Effect, Group, GroupId, Touch, UNUSED};
use crate::etcd::facts::Segment;
use crate::etcd::request::Request;
use crate::etcd::timeline::{KeyId, Timeline};

/// An explanation chosen for a revision that nobody claims.
pub(in crate::etcd) struct Decision {
    pub revision: i64,
    /// Where in the order it was needed.
    pub at: usize,
    options: Vec<Choice>,
    /// How many options have been tried.
    tried: usize,
    /// The candidate that was chosen, and the segment that it spent.
    chosen: Option<(u32, Option<(KeyId, i64)>)>,
    /// The keys that some option writes, ascending, or whether one may write any.
    keys: Vec<KeyId>,
    any_key: bool,
    /// What was learned not to work, and why.
    barred: Vec<Nogood>,
    /// Why the options tried before do not work.
    pub blamed: Reason,
}

impl Decision {
    /// What was chosen.
    pub(super) fn choice(&self) -> Choice {
        self.options[self.tried - 1]
    }

    /// Whether some option writes a key.
    pub(super) fn may_touch(&self, key: KeyId) -> bool {
        self.any_key || self.keys.binary_search(&key).is_ok()
    }

    /// How many explanations there are.
    pub fn options(&self) -> usize {
        self.options.len()
    }
}

/// One way to explain a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::etcd) enum Choice {
    /// A revocation that returned it, of this lease.
    Revocation(i64),
    /// A candidate of this group.
    Group(GroupId),
    /// Some that write this key would have to find another version of it.
    Unmet(KeyId),
}

/// What is known of the key of a group at a revision.
#[derive(Default)]
struct OfKey {
    key: Option<KeyId>,
    segment: Option<Segment>,
    /// Its present mod revision, zero if it is not there.
    modified: i64,
    /// Whether an answered operation puts it later in the segment.
    is_put_later: bool,
}

impl OfKey {
    /// How soon a group is needed, and when at last; none if it cannot have made the revision.
    fn urgency(&self, group: &Group) -> Option<(u8, i64)> {
        if group.key.is_none() {
            return Some((3, i64::MAX));
        }
        let Some(segment) = &self.segment else {
            return Some((if group.effect == Effect::Deletion { 4 } else { 2 }, i64::MAX));
        };
        if segment.is_quiet() {
            return None;
        }
        let is_there = self.modified != 0;
        // Whether its last state will be as facts want it, if nobody else does anything.
        let is_right = self.is_put_later || is_there == segment.is_found;
        let urgency = match (group.effect, segment.puts) {
            (Effect::Deletion, _) if !segment.may_delete => return None,
            (Effect::Deletion, _) if !is_right => 0,
            (Effect::Deletion, _) if self.is_put_later => 5,
            (Effect::Deletion, _) => 6,
            (Effect::Put, Some(0)) => return None,
            (_, Some(_)) => 0,
            (_, None) if is_there || self.is_put_later => 3,
            (_, None) if !is_right => 0,
            (_, None) => 6,
        };
        Some((urgency, segment.last))
    }
}

impl<'h> Gaps<'h> {
    /// All ways to explain a revision, as far as the history alone tells, or the replay so far, the most urgent
    /// first.
    pub(super) fn options(&self, revision: i64, store: &Timeline<'h>, is_replayed: bool) -> Vec<Choice> {
        let gap = self.gap(revision);
        let evidence = gap.map_or(&[][..], |gap| &gap.evidence);
        let mut urgent: Vec<(u8, i64, GroupId)> = Vec::new();
        let mut unmet: Vec<KeyId> = Vec::new();
        let mut of_key = OfKey::default();
        let mut consider = |id: GroupId| {
            let group = &self.groups[id as usize];
            let in_time = gap.is_none_or(|gap| (group.members[0] as usize) < gap.in_time);
            let allowed = group.until >= revision && group.reserved.is_none_or(|only| only == revision);
            if !in_time || !allowed {
                return;
            }
            if let Some(keys) = &group.keys
                && keys.iter().all(|key| self.is_quiet(*key, revision))
            {
                return;
            }
            if let Some(key) = group.key
                && of_key.key != group.key
            {
                of_key = OfKey {
                    key: group.key,
                    segment: self.facts.segment(key, revision).copied(),
                    modified: store.version_of(key).map_or(0, |(modified, _, _)| modified),
                    is_put_later: false,
                };
                if self.facts.is_untouched(key, revision) {
                    of_key.segment = Some(Segment::QUIET);
                }
                let last = of_key.segment.map(|segment| segment.last);
                let next = self.facts.next_put(key, revision);
                of_key.is_put_later = next.is_some_and(|next| last.is_some_and(|last| next <= last));
            }
            if let Some((urgency, due)) = of_key.urgency(group)
                && self.agrees_with(group, evidence)
            {
                match group.expects {
                    // All that expect something else fail for the same reason.
                    Some(expected) if is_replayed && expected != of_key.modified => {
                        unmet.extend(group.key.filter(|key| unmet.last() != Some(key)));
                    }
                    // Nor is there anything to delete.
                    None if is_replayed && group.effect == Effect::Deletion && of_key.modified == 0 => {
                        unmet.extend(group.key.filter(|key| unmet.last() != Some(key)));
                    }
                    _ => urgent.push((urgency, due, id)),
                }
            }
        };
        // Of plain puts, only those of a value that was seen can have made what was seen.
        let seen = evidence.iter().find_map(|sight| match sight {
            Sight::Put(kv) => Some(value_at(store, kv).and_then(|place| self.by_value.get(&place))),
            Sight::Bare(_) | Sight::PutOf(_) | Sight::Deletion(_) => None,
        });
        let special = || {
            let key = evidence.first().map(|sight| store.id(sight.key()));
            key.map_or(&self.special[..], |key| self.special_of(key)).iter().chain(match key {
                Some(Some(_)) => self.special_of(None),
                _ => &[],
            })
        };
        match (self.kept.get(&revision), seen) {
            (Some(only), _) => consider(*only),
            (None, Some(group)) => group.into_iter().chain(special()).for_each(|id| consider(*id)),
            (None, None) => self.plain.iter().chain(special()).for_each(|id| consider(*id)),
        }
        urgent.sort_unstable();
        let revocations = self.revocations.get(&revision).map_or(&[][..], Vec::as_slice);
        let revocations = revocations.iter().map(|id| Choice::Revocation(*id));
        let groups = urgent.into_iter().map(|(_, _, id)| Choice::Group(id));
        revocations.chain(groups).chain(unmet.into_iter().map(Choice::Unmet)).collect()
    }

    /// The special groups that write one key, or no certain one.
    fn special_of(&self, key: Option<KeyId>) -> &[GroupId] {
        let of = |id: &GroupId| self.groups[*id as usize].key;
        let start = self.special.partition_point(|id| of(id) < key);
        let end = self.special.partition_point(|id| of(id) <= key);
        &self.special[start..end]
    }

    fn agrees_with(&self, group: &Group, evidence: &[Sight<'h>]) -> bool {
        evidence.is_empty()
            || match &group.request {
                Some(request) => evidence.iter().all(|sight| could_make(request, sight)),
                None => evidence.iter().all(|sight| matches!(sight, Sight::Deletion(_))),
            }
    }

    /// Whether nobody wrote a key at a revision.
    fn is_quiet(&self, key: KeyId, revision: i64) -> bool {
        self.facts.is_untouched(key, revision)
            || self.facts.segment(key, revision).is_some_and(Segment::is_quiet)
    }

    /// What may explain the next revision.
    pub fn decide(&self, at: usize, earlier: &[Decision], store: &Timeline<'h>) -> Decision {
        let revision = store.revision() + 1;
        let options = self.options(revision, store, true);
        let (mut keys, mut any_key) = (Vec::new(), false);
        for choice in &options {
            match self.touch(*choice) {
                Touch::One(key) if keys.last() == Some(&key) => {}
                Touch::One(key) => keys.push(key),
                Touch::Some(several) => {
                    // What facts forbid is not chosen.
                    keys.extend(several.iter().filter(|key| !self.is_quiet(**key, revision)));
                }
                Touch::All => any_key = true,
            }
        }
        keys.sort_unstable();
        keys.dedup();
        let barred = self.barred(earlier);
        Decision {
            revision,
            at,
            options,
            tried: 0,
            chosen: None,
            keys,
            any_key,
            barred,
            blamed: Reason::default(),
        }
    }

    /// The memory that the search uses, about.
    pub fn search_bytes(&self, decisions: &[Decision]) -> u64 {
        // The last decision stands for all: counting each of them would take longer than making it.
        let each =
            decisions.last().map_or(0, |last| last.options.len() * size_of::<Choice>() + last.keys.len() * 4);
        (self.learned.bytes() + decisions.len() * (each + size_of::<Decision>())) as u64
    }

    /// Remembers that a decision cannot be so while others are as they are, and goes on from there.
    pub fn learn(&mut self, decisions: &mut [Decision], last: Rc<[Which]>, others: Reason) {
        let (decision, earlier) = decisions.split_last_mut().expect("there is a decision to blame");
        let nogood = Nogood { last, others: Rc::new(others) };
        self.learned.remember(earlier.len() as u32, &nogood);
        decision.blamed.extend(&nogood.others);
        decision.barred.push(nogood);
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
            if let Some(nogood) = last.barred.iter().find(|nogood| self.is_all(choice, &nogood.last)) {
                last.blamed.extend(&nogood.others);
                continue;
            }
            let tried = match choice {
                Choice::Revocation(lease) => self
                    .try_end(lease, 0, revision, store)
                    .map_err(|failure| self.blame_end(lease, &failure, earlier, store)),
                Choice::Unmet(key) => Err(self.last_write(key, revision - 1, earlier, store)),
                Choice::Group(group) => self.try_group(group, last, earlier, store),
            };
            let Err(blamed) = tried else { return true };
            // To find who is to blame takes the longer, the more has been decided.
            *steps_left = steps_left.saturating_sub(earlier.len() as u64 / DECISIONS_PER_STEP);
            last.blamed.extend(&blamed);
        }
        false
    }

    /// Applies a candidate of a group. If none works: why.
    fn try_group(
        &mut self,
        id: GroupId,
        decision: &mut Decision,
        earlier: &[Decision],
        store: &mut Timeline<'h>,
    ) -> Result<(), Reason> {
        let revision = decision.revision;
        let in_time = self.gap(revision).map_or(self.candidates.len(), |gap| gap.in_time);
        let group = &self.groups[id as usize];
        let members = group.members.iter().take_while(|member| (**member as usize) < in_time);
        let free = members.clone().find(|member| self.candidates[**member as usize].used_by == UNUSED);
        let Some(number) = free.copied() else {
            let mut reason = Reason::default();
            let users = members.map(|member| self.candidates[*member as usize].used_by);
            users.for_each(|user| reason.add(user, Which::Is(Choice::Group(id))));
            return Err(reason);
        };
        let place = self.place(group, revision);
        if let Some((place, puts)) = place
            && let Some(spent) = self.spent.get(&place).filter(|spent| spent.len() >= puts as usize)
        {
            let mut reason = Reason::default();
            spent.iter().for_each(|decision| reason.add(*decision, Which::Puts(place.0)));
            return Err(reason);
        }
        let candidate = &self.candidates[number as usize];
        match candidate.cause {
            Cause::Expiry(lease) => self
                .try_end(lease, candidate.call, revision, store)
                .map_err(|failure| self.blame_end(lease, &failure, earlier, store))?,
            Cause::Operation(operation) => {
                let request = &self.records.rare()[operation as usize].operation.input;
                let changed = store.apply(request, candidate.call);
                let tried = match changed {
                    false => Err(Failure::Nothing),
                    true if group.key.is_some() => self.agrees(revision, store),
                    true => self.fits(revision, store).and_then(|()| self.agrees(revision, store)),
                };
                tried.map_err(|failure| match request {
                    Request::LeaseRevoke { id } => self.blame_end(*id, &failure, earlier, store),
                    _ => self.blame_effect(request, &failure, earlier, store),
                })?;
            }
        }
        self.candidates[number as usize].used_by = earlier.len() as u32;
        let place = place.map(|(place, _)| place);
        if let Some(place) = place {
            self.spent.entry(place).or_default().push(earlier.len() as u32);
        }
        decision.chosen = Some((number, place));
        Ok(())
    }

    /// The segment of its key of which a group that makes a revision spends a put, and how many that has.
    fn place(&self, group: &Group, revision: i64) -> Option<((KeyId, i64), u32)> {
        let key = group.key.filter(|_| group.effect == Effect::Put)?;
        let segment = self.facts.segment(key, revision)?;
        Some(((key, segment.last), segment.puts?))
    }

    /// Ends a lease by its time, or by a revocation.
    fn try_end(
        &self,
        lease: i64,
        since: u64,
        revision: i64,
        store: &mut Timeline<'h>,
    ) -> Result<(), Failure> {
        if !store.expire(lease, since) {
            return Err(Failure::Nothing);
        }
        self.fits(revision, store)?;
        self.agrees(revision, store)
    }

    /// Frees what a decision had chosen.
    pub fn release(&mut self, decision: &mut Decision) {
        let Some((number, place)) = decision.chosen.take() else { return };
        self.candidates[number as usize].used_by = UNUSED;
        if let Some(place) = place {
            self.spent.get_mut(&place).expect("it was spent").pop();
        }
    }
}

/// So many earlier decisions are looked through in the time of a step, about.
const DECISIONS_PER_STEP: u64 = 64;
