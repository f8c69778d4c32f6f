//! Why something failed, as far as earlier decisions are to blame, and what is learned from it.
//!
//! A reason says of some decisions what they are (*this one puts that key, that one leaves it alone*); as long as all of
//! them stay so, the same fails again, whatever the others are. So it says no more than needed: who reads a key does
//! not care which other key somebody wrote. If nothing explains a revision, the reasons of all that was tried, put
//! together, are a reason, too, about earlier decisions only. The replay goes back to the last of them, and remembers
//! the rest (a *nogood*): whenever the others are so again, what that one was is not tried (conflict-directed
//! backjumping and nogood learning: Prosser 1993, Dechter 1990; clauses of SAT solvers are the same).
//!
//! Decisions are always made in the order of the revisions, so a nogood need only be looked at when its last decision is made.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::Gaps;
use super::choices::{Choice, Decision};
use crate::etcd::candidates::{Cause, Effect, Touch};
use crate::etcd::request::{Keys, Request};
use crate::etcd::timeline::{KeyId, Timeline};

/// What some decisions are, by their numbers. Together they are why something failed.
#[derive(Clone, Debug, Default)]
pub(in crate::etcd) struct Reason(BTreeMap<u32, Which>);

/// What of a decision matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::etcd) enum Which {
    /// All: it is this.
    Is(Choice),
    /// It puts this key and nothing else.
    Puts(KeyId),
    /// It deletes this key and nothing else.
    Deletes(KeyId),
    /// It writes none of these keys, which ascend.
    Avoids(Vec<KeyId>),
}

impl Which {
    /// What says as much as both, which are true of the same decision.
    fn and(&mut self, other: Which) {
        match (&mut *self, other) {
            (Which::Is(_), _) | (Which::Puts(_) | Which::Deletes(_), Which::Avoids(_)) => {}
            (Which::Puts(left), Which::Puts(right)) | (Which::Deletes(left), Which::Deletes(right)) => {
                assert_eq!(*left, right, "what writes one key writes no other");
            }
            (Which::Avoids(left), Which::Avoids(right)) => {
                left.extend(right);
                left.sort_unstable();
                left.dedup();
            }
            (_, other) => *self = other,
        }
    }
}

impl Reason {
    /// Adds what of a decision matters.
    pub fn add(&mut self, decision: u32, which: Which) {
        match self.0.entry(decision) {
            Entry::Vacant(entry) => {
                entry.insert(which);
            }
            Entry::Occupied(mut entry) => entry.get_mut().and(which),
        }
    }

    /// Adds another reason.
    pub fn extend(&mut self, other: Reason) {
        if self.0.is_empty() {
            self.0 = other.0;
        } else {
            other.0.into_iter().for_each(|(decision, which)| self.add(decision, which));
        }
    }

    /// The last decision to blame, if any is; the others stay.
    pub fn pop_last(&mut self) -> Option<(u32, Which)> {
        self.0.pop_last()
    }
}

/// What was learned, by the last decision of each nogood.
#[derive(Default)]
pub(super) struct Learned {
    nogoods: Vec<Vec<Nogood>>,
    /// How much is remembered in all.
    size: usize,
}

struct Nogood {
    last: Which,
    others: Reason,
}

impl Learned {
    /// Remembers that a decision cannot be so while the others are as they are.
    pub fn remember(&mut self, decision: u32, last: Which, others: &Reason) {
        if others.0.len() > LENGTH_MAX || self.size > SIZE_MAX {
            return;
        }
        let at = decision as usize;
        if self.nogoods.len() <= at {
            self.nogoods.resize_with(at + 1, Vec::new);
        }
        self.size += others.0.len() + 1;
        let nogoods = &mut self.nogoods[at];
        if nogoods.len() >= NOGOODS_MAX {
            // The oldest are about what lies farthest back.
            let forgotten = nogoods.drain(..NOGOODS_MAX / 2);
            self.size -= forgotten.map(|nogood| nogood.others.0.len() + 1).sum::<usize>();
        }
        nogoods.push(Nogood { last, others: others.clone() });
    }

    /// The memory that this takes, about.
    pub fn bytes(&self) -> usize {
        self.size * NOGOOD_BYTES
    }
}

impl Gaps<'_> {
    /// What a decision cannot be, and why: what was learned about it and applies now.
    pub(super) fn barred(&self, earlier: &[Decision]) -> Vec<(Which, Reason)> {
        let Some(nogoods) = self.learned.nogoods.get(earlier.len()) else { return Vec::new() };
        let applies = |nogood: &&Nogood| {
            let mut others = nogood.others.0.iter();
            others.all(|(decision, which)| self.is(earlier[*decision as usize].choice(), which))
        };
        let mut barred: Vec<(Which, Reason)> = Vec::new();
        for nogood in nogoods.iter().filter(applies) {
            match barred.iter_mut().find(|(which, _)| *which == nogood.last) {
                // The shorter reason goes back farther.
                Some((_, reason)) if reason.0.len() > nogood.others.0.len() => {
                    *reason = nogood.others.clone()
                }
                Some(_) => {}
                None => barred.push((nogood.last.clone(), nogood.others.clone())),
            }
        }
        barred
    }

    /// Whether a choice is so.
    pub(super) fn is(&self, choice: Choice, which: &Which) -> bool {
        match which {
            Which::Is(same) => choice == *same,
            Which::Puts(key) => self.only(choice, Effect::Put) == Some(*key),
            Which::Deletes(key) => self.only(choice, Effect::Deletion) == Some(*key),
            Which::Avoids(keys) => match self.touch(choice) {
                Touch::One(key) => keys.binary_search(&key).is_err(),
                Touch::Some(written) => written.iter().all(|key| keys.binary_search(key).is_err()),
                Touch::All => false,
            },
        }
    }

    /// The key that a choice writes, if it does nothing else, in this way.
    fn only(&self, choice: Choice, effect: Effect) -> Option<KeyId> {
        match (choice, self.touch(choice)) {
            (Choice::Group(id), Touch::One(key)) => {
                (self.groups[id as usize].effect == effect).then_some(key)
            }
            (Choice::Revocation(_), Touch::One(key)) => (effect == Effect::Deletion).then_some(key),
            _ => None,
        }
    }

    /// Whether it depends on the state what a choice writes, if it writes anything.
    fn is_conditional(&self, choice: Choice) -> bool {
        match choice {
            Choice::Group(id) => self.groups[id as usize].is_conditional,
            Choice::Revocation(_) | Choice::Unmet(_) => false,
        }
    }

    /// The keys that a choice may write.
    pub(super) fn touch(&self, choice: Choice) -> Touch<'_> {
        match choice {
            Choice::Unmet(key) => Touch::One(key),
            Choice::Revocation(lease) => self.leases.touch(lease),
            Choice::Group(id) => self.groups[id as usize].touch(),
        }
    }

    /// What of the decisions decides what any of these keys held at a revision, values, versions and all.
    pub fn bearing_on(
        &self,
        footprint: &[Keys],
        at: i64,
        decisions: &[Decision],
        store: &Timeline<'_>,
    ) -> Reason {
        let mut reason = Reason::default();
        for range in footprint {
            let span = store.span(range);
            if span.len() > SPAN_MAX {
                // Too many keys are taken as all of them.
                return all_of(decisions);
            }
            span.for_each(|key| self.bearing_on_key(key, at, decisions, &mut reason));
        }
        reason
    }

    /// As [`Gaps::bearing_on`], of what a request answers, or does.
    pub fn bearing_on_request(
        &self,
        request: &Request,
        at: i64,
        decisions: &[Decision],
        store: &Timeline<'_>,
    ) -> Reason {
        if let Request::LeaseRevoke { id } = request {
            return self.bearing_on_lease(*id, at, decisions);
        }
        let mut footprint = Vec::new();
        request.footprint(&mut |keys| footprint.push(keys));
        self.bearing_on(&footprint, at, decisions, store)
    }

    /// As [`Gaps::bearing_on`], of what a candidate does.
    pub(super) fn bearing_on_candidate(
        &self,
        cause: Cause,
        at: i64,
        decisions: &[Decision],
        store: &Timeline<'_>,
    ) -> Reason {
        match cause {
            Cause::Expiry(lease) => self.bearing_on_lease(lease, at, decisions),
            Cause::Operation(number) => {
                let request = &self.records.rare()[number as usize].operation.input;
                self.bearing_on_request(request, at, decisions, store)
            }
        }
    }

    /// As [`Gaps::bearing_on`], of what goes with a lease.
    pub(super) fn bearing_on_lease(&self, lease: i64, at: i64, decisions: &[Decision]) -> Reason {
        let mut reason = Reason::default();
        match self.leases.touch(lease) {
            Touch::One(key) => self.bearing_on_key(key, at, decisions, &mut reason),
            Touch::Some(keys) => {
                keys.iter().for_each(|key| self.bearing_on_key(*key, at, decisions, &mut reason));
            }
            Touch::All => return all_of(decisions),
        }
        reason
    }

    /// As [`Gaps::bearing_on`], of one key.
    pub(super) fn bearing_on_key(&self, key: KeyId, at: i64, decisions: &[Decision], reason: &mut Reason) {
        // What is guessed about revisions up to where all of it was seen changes nothing.
        self.since(key, self.facts.seen_before(key, at), decisions, reason, |choice| {
            match self.only(choice, Effect::Deletion) {
                Some(_) => Which::Deletes(key),
                None => Which::Is(choice),
            }
        });
    }

    /// What of the decisions decides whether a key is there, and at which revision it was put.
    pub fn last_write(&self, key: KeyId, at: i64, decisions: &[Decision], store: &Timeline<'_>) -> Reason {
        let written = store.changed_at(key).saturating_sub(1);
        let mut reason = Reason::default();
        let later = decisions.partition_point(|decision| decision.revision <= written);
        let of_several = |decision: &Decision| match self.touch(decision.choice()) {
            Touch::One(_) => false,
            Touch::Some(keys) => keys.binary_search(&key).is_ok(),
            Touch::All => true,
        };
        if decisions[later..].iter().any(of_several) {
            // Which of several keys go with a lease, say, depends on what they were before.
            self.bearing_on_key(key, at, decisions, &mut reason);
            return reason;
        }
        self.since(
            key,
            written.max(self.facts.seen_before(key, at)),
            decisions,
            &mut reason,
            |choice| match (self.only(choice, Effect::Put), self.only(choice, Effect::Deletion)) {
                (Some(_), _) => Which::Puts(key),
                (_, Some(_)) => Which::Deletes(key),
                _ => Which::Is(choice),
            },
        );
        reason
    }

    /// Of the decisions on revisions after one: that they leave a key alone, or how they write it.
    fn since(
        &self,
        key: KeyId,
        after: i64,
        decisions: &[Decision],
        reason: &mut Reason,
        how: impl Fn(Choice) -> Which,
    ) {
        let first = decisions.partition_point(|decision| decision.revision <= after);
        for (index, decision) in (first as u32..).zip(&decisions[first..]) {
            if !decision.may_touch(key) {
                continue;
            }
            let avoids = Which::Avoids(vec![key]);
            let choice = decision.choice();
            if self.is(choice, &avoids) {
                reason.add(index, avoids);
                continue;
            }
            reason.add(index, how(choice));
            if self.is_conditional(choice) {
                // What it writes depends on keys of which this one knows nothing.
                reason.extend(all_of(&decisions[..index as usize]));
            }
        }
    }
}

/// That all decisions are as they are.
fn all_of(decisions: &[Decision]) -> Reason {
    let each = (0_u32..).zip(decisions).map(|(index, decision)| (index, Which::Is(decision.choice())));
    Reason(each.collect())
}

/// With more keys than this, not every one is looked at.
const SPAN_MAX: usize = 256;
/// A nogood of more decisions than this hardly ever applies again.
const LENGTH_MAX: usize = 256;
/// So many are kept of each decision.
const NOGOODS_MAX: usize = 128;
/// And so many parts of them in all.
const SIZE_MAX: usize = 1 << 20;
/// What a part of one takes, about.
const NOGOOD_BYTES: usize = 80;
