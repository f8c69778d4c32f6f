//! Every schedule of two and three members, up to what each test says: each message arrives at any time, in any
//! order, or never; writes finish late; members time out and crash at any moment.
//!
//! The safety properties are checked at each step, by the cluster itself. `examples/exhaustive.rs` goes further.

use quorate_raft::testing::{Budget, Explorer};
use quorate_raft::{Change, Command, NodeId};

#[derive(Clone, Debug, PartialEq)]
struct Nothing;

impl Command for Nothing {
    fn size(&self) -> usize {
        0
    }
}

/// Nothing but election timeouts, and as many steps as there are.
const TIMEOUTS: Budget =
    Budget { steps: 100, timeouts: 2, heartbeats: 0, crashes: 0, duplicates: 0, commands: 0, changes: 0 };

/// Explores, and insists that something was committed in some schedule: otherwise the search proves little.
fn explore(
    voters: u64,
    spare: u64,
    pre_vote: bool,
    changes: Vec<Vec<Change>>,
    budget: Budget,
    commit: u64,
) -> usize {
    let mut explorer = Explorer::new(Nothing, changes);
    explorer.explore(voters, spare, pre_vote, budget);
    assert!(explorer.commit >= commit, "some schedules commit {commit}, not only {}", explorer.commit);
    explorer.states()
}

#[test]
fn two_voters_elect_and_commit_a_command() {
    let states = explore(2, 0, true, vec![], Budget { commands: 1, ..TIMEOUTS }, 2);
    assert!(states > 2_000, "{states}");
}

#[test]
fn two_voters_crash_once_at_any_moment() {
    let budget = Budget { timeouts: 2, crashes: 1, ..TIMEOUTS };
    let states = explore(2, 0, false, vec![], budget, 2);
    assert!(states > 1_000, "{states}");
}

#[test]
fn two_voters_get_messages_twice() {
    let budget = Budget { steps: 14, timeouts: 1, duplicates: 1, heartbeats: 1, commands: 1, ..TIMEOUTS };
    let states = explore(2, 0, false, vec![], budget, 2);
    assert!(states > 1_000, "{states}");
}

#[test]
fn three_voters_with_one_candidate_commit_a_command() {
    let budget = Budget { steps: 15, timeouts: 1, commands: 1, ..TIMEOUTS };
    let states = explore(3, 0, false, vec![], budget, 2);
    assert!(states > 2_000, "{states}");
}

#[test]
fn three_voters_with_two_candidates() {
    let states = explore(3, 0, false, vec![], Budget { steps: 11, ..TIMEOUTS }, 0);
    assert!(states > 2_000, "{states}");
}

#[test]
fn two_voters_change_the_membership_once() {
    let (new, old) = (NodeId(3), NodeId(1));
    let changes = vec![
        vec![Change::AddVoter(new)],
        vec![Change::Remove(old)],
        vec![Change::AddVoter(new), Change::Remove(old)],
    ];
    let budget = Budget { timeouts: 1, changes: 1, ..TIMEOUTS };
    let states = explore(2, 1, false, changes, budget, 3);
    assert!(states > 1_000, "{states}");
}
