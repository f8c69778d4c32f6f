//! Which interesting states a run has reached.
//!
//! A million runs that all do the same prove little. So each run notes what happened in it that bugs like to
//! hide behind: a log that lost its end, two leaders at a time, and every pair of something that the protocol
//! does and something that is wrong meanwhile ("a snapshot was installed during a slow disk"). A sweep counts
//! in how many seeds each occurred, and can prefer the options of seeds that reached rare ones. (Antithesis
//! calls them "sometimes" properties; the idea is FoundationDB's `TEST` macros.)

use quorate_raft::{NodeId, Role};

use crate::nemesis::{Fault, FaultLine};
use crate::scenario::fault_names;
use crate::trace::StatusLine;

/// The states that a run has reached, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reached(u128);

/// What is watched while a run goes on.
#[derive(Debug, Default)]
pub struct Coverage {
    reached: Reached,
    /// How many faults of each kind are active.
    active: [u8; KINDS],
}

/// What is interesting by itself.
const ALONE: [&str; 19] = [
    "two members lead at a time",
    "a leader knows less to be committed than another",
    "a log loses its end",
    "a log loses five entries or more at its end",
    "a term is skipped",
    "a member knows more to be committed than is on its disk",
    "a leader dies with entries that are not on its disk",
    "a leader dies with entries that are not committed",
    "a candidate dies",
    "a member starts from a snapshot and has more in its log",
    "all members are down",
    "leadership is moved because an operator wants it",
    "a learner is promoted",
    "a learner is promoted while links are cut",
    "a voter is demoted",
    "the leader demotes itself",
    "a voter is removed",
    "the leader removes itself",
    "a lost disk is replaced, and the new member votes",
];

/// What the protocol does, of interest together with each kind of fault.
const DEEDS: [&str; 6] = [
    "a leader is elected",
    "a leader steps down",
    "a log loses its end",
    "a snapshot is installed",
    "a member starts",
    "many entries are committed at once",
];

/// The kinds of faults: without what operators do, a loss of power that leaves nobody to do anything, and the
/// partition, which is a cut.
const KINDS: usize = 16;

impl Coverage {
    /// A fault begins or ends.
    pub fn on_fault(&mut self, line: &FaultLine) {
        let Some(kind) = kind(&line.fault) else { return };
        let count = &mut self.active[kind];
        *count = if line.began { count.saturating_add(1) } else { count.saturating_sub(1) };
    }

    /// A member stood there, and stands here now, among the others.
    pub fn on_status(
        &mut self,
        before: &StatusLine,
        now: &StatusLine,
        others: impl Iterator<Item = StatusLine>,
    ) {
        let leads = now.role == Role::Leader;
        if leads && before.role != Role::Leader {
            self.deed(0);
            for other in others.filter(|other| other.node != now.node) {
                self.alone_if(0, other.role == Role::Leader);
                self.alone_if(1, other.commit > now.commit);
            }
        }
        if before.role == Role::Leader && !leads {
            self.deed(1);
        }
        if now.last < before.last {
            self.deed(2);
            self.alone_if(2, true);
            self.alone_if(3, before.last - now.last >= 5);
        }
        self.alone_if(4, before.term > 0 && now.term > before.term + 1);
        self.alone_if(5, now.commit > now.persisted);
        if now.commit > before.commit + MANY {
            self.deed(5);
        }
    }

    /// A member is down now.
    pub fn on_crash(&mut self, status: &StatusLine, all_down: bool) {
        self.alone_if(6, status.role == Role::Leader && status.last > status.persisted);
        self.alone_if(7, status.role == Role::Leader && status.last > status.commit);
        self.alone_if(8, status.role == Role::Candidate);
        self.alone_if(10, all_down);
    }

    /// A member starts from this snapshot and so many entries.
    pub fn on_start(&mut self, _node: NodeId, snapshot: u64, entries: usize) {
        self.deed(4);
        self.alone_if(9, snapshot > 0 && entries > 0);
    }

    /// A member has taken the place of its state by a snapshot from the leader.
    pub fn on_installed(&mut self) {
        self.deed(3);
    }

    /// A member that an operator asked to move leadership says that it was moved.
    pub fn on_moved(&mut self) {
        self.alone_if(11, true);
    }

    /// A learner of the table votes from now on.
    pub fn on_promoted(&mut self) {
        self.alone_if(12, true);
        self.alone_if(13, self.active[0] > 0 || self.active[1] > 0);
    }

    /// A voter does not vote any more, by the wish of an operator.
    pub fn on_voter_less(&mut self, removed: bool, led: bool) {
        self.alone_if(if removed { 16 } else { 14 }, true);
        self.alone_if(if removed { 17 } else { 15 }, led);
    }

    /// What has taken the place of a voter's lost disk votes.
    pub fn on_replaced(&mut self) {
        self.alone_if(18, true);
    }

    /// What was reached.
    #[must_use]
    pub fn reached(&self) -> Reached {
        self.reached
    }

    fn alone_if(&mut self, state: usize, so: bool) {
        self.reached.0 |= u128::from(so) << state;
    }

    fn deed(&mut self, deed: usize) {
        for kind in 0..KINDS {
            let at = ALONE.len() + deed * KINDS + kind;
            self.reached.0 |= u128::from(self.active[kind] > 0) << at;
        }
    }
}

impl Reached {
    /// The numbers of the states.
    pub fn states(self) -> impl Iterator<Item = usize> {
        (0..STATES).filter(move |state| self.0 & 1 << state != 0)
    }
}

/// How many states there are.
pub const STATES: usize = ALONE.len() + DEEDS.len() * KINDS;

const _: () = assert!(STATES <= 128, "one bit each");

/// What a state is.
#[must_use]
pub fn name(state: usize) -> String {
    match ALONE.get(state) {
        Some(name) => (*name).to_owned(),
        None => {
            let pair = state - ALONE.len();
            format!("{} during {}", DEEDS[pair / KINDS], fault_names()[pair % KINDS])
        }
    }
}

fn kind(fault: &Fault) -> Option<usize> {
    fault_names()[..KINDS].iter().position(|name| *name == fault.name())
}

/// So many entries at once are more than usual.
const MANY: u64 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_a_name_of_its_own() {
        assert_eq!(fault_names()[KINDS..KINDS + 2], ["power-loss", "partition"]);
        let names: std::collections::BTreeSet<String> = (0..STATES).map(name).collect();
        assert_eq!(names.len(), STATES);
    }
}
