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
//! What is to blame for what is found in `blame`.

use std::rc::Rc;

use super::Gaps;
use super::choices::{Choice, Decision};
use crate::etcd::candidates::{Effect, Touch};
use crate::etcd::timeline::KeyId;

/// What some decisions are, by their numbers. Together they are why something failed.
#[derive(Clone, Debug, Default)]
pub(in crate::etcd) struct Reason {
    parts: Vec<(u32, Which)>,
    /// So many parts are sorted, each said once.
    tidy: usize,
}

/// What of a decision matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::etcd) enum Which {
    /// All: it is this.
    Is(Choice),
    /// It puts this key and nothing else.
    Puts(KeyId),
    /// It deletes this key and nothing else.
    Deletes(KeyId),
    /// It does not write this key.
    Avoids(KeyId),
}

impl Which {
    /// Whether it says all that another one says, if both are true of the same decision.
    fn says(self, other: Which) -> bool {
        match (self, other) {
            (Which::Is(_), _) | (Which::Puts(_) | Which::Deletes(_), Which::Avoids(_)) => true,
            _ => self == other,
        }
    }
}

impl Reason {
    /// Adds what of a decision matters.
    pub fn add(&mut self, decision: u32, which: Which) {
        self.parts.push((decision, which));
        self.bound();
    }

    /// Adds another reason.
    pub fn extend(&mut self, other: &Reason) {
        self.parts.extend_from_slice(&other.parts);
        self.bound();
    }

    /// Many reasons say the same: from time to time it is said once.
    fn bound(&mut self) {
        if self.parts.len() > 2 * self.tidy + UNTIDY_MAX {
            self.tidy();
        }
    }

    fn tidy(&mut self) {
        if self.tidy == self.parts.len() {
            return;
        }
        self.parts.sort_unstable();
        // The choice itself sorts first, what is avoided last.
        self.parts.dedup_by(|later, kept| later.0 == kept.0 && kept.1.says(later.1));
        self.tidy = self.parts.len();
    }

    /// The last decision to blame, if any is, and all that matters of it; the others stay.
    pub fn pop_last(&mut self) -> Option<(u32, Rc<[Which]>)> {
        self.tidy();
        let (decision, _) = *self.parts.last()?;
        let start = self.parts.partition_point(|(earlier, _)| *earlier < decision);
        let which = self.parts.drain(start..).map(|(_, which)| which).collect();
        self.tidy = start;
        Some((decision, which))
    }
}

/// What was learned, by the last decision of each nogood.
#[derive(Default)]
pub(super) struct Learned {
    nogoods: Vec<Vec<Nogood>>,
    /// How much is remembered in all.
    size: usize,
}

/// What one decision cannot be, while others are so.
#[derive(Clone)]
pub(super) struct Nogood {
    pub last: Rc<[Which]>,
    pub others: Rc<Reason>,
}

impl Nogood {
    fn size(&self) -> usize {
        self.last.len() + self.others.parts.len() + 1
    }
}

impl Learned {
    /// Remembers that a decision cannot be so while the others are as they are.
    pub fn remember(&mut self, decision: u32, nogood: &Nogood) {
        if nogood.size() > LENGTH_MAX || self.size > SIZE_MAX {
            return;
        }
        let at = decision as usize;
        if self.nogoods.len() <= at {
            self.nogoods.resize_with(at + 1, Vec::new);
        }
        self.size += nogood.size();
        let nogoods = &mut self.nogoods[at];
        if nogoods.len() >= NOGOODS_MAX {
            // The oldest are about what lies farthest back.
            let forgotten = nogoods.drain(..NOGOODS_MAX / 2);
            self.size -= forgotten.map(|nogood| nogood.size()).sum::<usize>();
        }
        nogoods.push(nogood.clone());
    }

    /// The memory that this takes, about.
    pub fn bytes(&self) -> usize {
        self.size * size_of::<(u32, Which)>()
    }
}

impl Gaps<'_> {
    /// What a decision cannot be, and why: what was learned about it and applies now.
    pub(super) fn barred(&self, earlier: &[Decision]) -> Vec<Nogood> {
        let Some(nogoods) = self.learned.nogoods.get(earlier.len()) else { return Vec::new() };
        let applies = |nogood: &&Nogood| {
            // What changed last is most likely not so any more.
            let mut others = nogood.others.parts.iter().rev();
            others.all(|(decision, which)| self.is(earlier[*decision as usize].choice(), *which))
        };
        nogoods.iter().filter(applies).cloned().collect()
    }

    /// Whether a choice is all of that.
    pub(super) fn is_all(&self, choice: Choice, which: &[Which]) -> bool {
        which.iter().all(|which| self.is(choice, *which))
    }

    /// Whether a choice is so.
    pub(super) fn is(&self, choice: Choice, which: Which) -> bool {
        match which {
            Which::Is(same) => choice == same,
            Which::Puts(key) => self.only(choice, Effect::Put) == Some(key),
            Which::Deletes(key) => self.only(choice, Effect::Deletion) == Some(key),
            Which::Avoids(key) => match self.touch(choice) {
                Touch::One(written) => written != key,
                Touch::Some(written) => written.binary_search(&key).is_err(),
                Touch::All => false,
            },
        }
    }

    /// The key that a choice writes, if it does nothing else, in this way.
    pub(super) fn only(&self, choice: Choice, effect: Effect) -> Option<KeyId> {
        match (choice, self.touch(choice)) {
            (Choice::Group(id), Touch::One(key)) => {
                (self.groups[id as usize].effect == effect).then_some(key)
            }
            (Choice::Revocation(_), Touch::One(key)) => (effect == Effect::Deletion).then_some(key),
            _ => None,
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
}

/// So many parts more than twice as many as are needed are kept before they are sorted.
const UNTIDY_MAX: usize = 256;
/// A nogood of more parts than this hardly ever applies again.
const LENGTH_MAX: usize = 256;
/// So many are kept of each decision.
const NOGOODS_MAX: usize = 128;
/// And so many parts of them in all.
const SIZE_MAX: usize = 1 << 20;
