//! Who stands for election has a vote, and who has none leads only until that is committed.
//!
//! - A learner, or one that was removed, never campaigns. (One that its own log removes still may, as long as it
//!   does not know that to be committed: thesis §4.2.2.)
//! - A leader that its own committed configuration has removed or demoted steps down (Raft §6, thesis §4.2.2).

use quorate_raft::{NodeId, Role};

use super::logs::Logs;
use super::{Check, broken};
use crate::trace::StatusLine;

/// A member stood there, and stands here.
pub fn on_status(logs: &Logs, before: &StatusLine, now: &StatusLine) -> Check {
    let node = NodeId(now.node);
    let last = logs.log(node).last();
    match now.role {
        Role::Follower => Ok(()),
        Role::PreCandidate | Role::Candidate if before.role == now.role && before.term == now.term => Ok(()),
        Role::PreCandidate | Role::Candidate => {
            let mut possible = std::iter::once(logs.configuration(node, before.commit))
                .chain(logs.in_force(node, before.commit + 1..=last));
            if possible.any(|it| it.is_voter(node)) {
                return Ok(());
            }
            broken("candidacy", || format!("n{node} has no vote and campaigns: [{now}]"))
        }
        Role::Leader => {
            // Of its own term: what was committed before, it cannot know.
            let knows = logs.link(node, now.commit).is_some_and(|link| link.term.0 == now.term);
            let settled = || logs.in_force(node, now.commit + 1..=last).next().is_none();
            if !knows || logs.configuration(node, now.commit).is_voter(node) || !settled() {
                return Ok(());
            }
            broken("candidacy", || {
                format!("n{node} leads on although it is no voter of its committed configuration: [{now}]")
            })
        }
    }
}
