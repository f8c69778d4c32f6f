//! Durability: what is said to be durable is.
//!
//! - An acknowledgement of entries, or a vote, leaves a member only when it is on that member's disk (Raft
//!   figure 2: "updated on stable storage before responding").
//! - An entry is committed only when it is on the disks of a majority, of the voters of that time (Raft §5.3, §6;
//!   thesis §10.2.1 for the leader's own).
//! - A member's durable term and vote, and what was committed and durable there, are still there when it
//!   starts again.
//!
//! These see in the first second of a run what would otherwise take a lost write at the end of thousands.

use quorate_raft::{Index, NodeId, Term};

use super::logs::{Logs, MemberLog, quorum};
use super::{Check, broken};

/// A member acknowledges entries.
pub fn acknowledgement(logs: &Logs, from: NodeId, to: NodeId, term: Term, matched: Index) -> Check {
    let log = logs.log(from);
    if matched.0 <= log.snapshot() {
        return Ok(()); // A snapshot holds nothing but committed entries.
    }
    if !log.is_durable(matched.0) {
        return broken("durable acknowledgements", || {
            format!("n{from} acknowledges entry {matched} in term {term} before it is on its disk")
        });
    }
    // What it acknowledges is the log of the leader it tells, as long as that still leads.
    let leader = logs.log(to);
    let (mine, theirs) = (log.link(matched.0), leader.link(matched.0));
    if leader.leads() == term.0 && mine.map(|link| link.chain) != theirs.map(|link| link.chain) {
        return broken("durable acknowledgements", || {
            format!("n{from} acknowledges entry {matched} to n{to}, which has another there")
        });
    }
    Ok(())
}

/// A member grants its vote.
pub fn vote(logs: &Logs, from: NodeId, to: NodeId, term: Term) -> Check {
    let log = logs.log(from);
    if log.durable_term == term.0 && log.durable_vote == Some(to) {
        return Ok(());
    }
    // It may have moved on to a later term, durably, before the reply left.
    if log.durable_term > term.0 {
        return Ok(());
    }
    broken("durable votes", || {
        format!(
            "n{from} votes for n{to} in term {term}; its disk says term {} and vote {:?}",
            log.durable_term, log.durable_vote
        )
    })
}

/// Entries after `first` are newly known to be committed, to this member first.
pub fn commit(logs: &Logs, node: NodeId, first: u64) -> Check {
    for index in first + 1..=logs.chosen_len() {
        let chosen = logs.chosen(index).expect("just chosen");
        let holds = |node: NodeId| {
            let log = logs.log(node);
            log.is_durable(index) && log.link(index).is_some_and(|link| link.chain == chosen.chain)
        };
        // A configuration that came after the entry may have been in force when it was committed.
        let later = logs.in_force(node, index + 1..=logs.log(node).last());
        let mut possible = std::iter::once(logs.configuration(node, index)).chain(later);
        if !possible.any(|configuration| quorum(configuration, holds)) {
            let voters = &logs.configuration(node, index).voters;
            let holders = voters.iter().filter(|node| holds(**node)).count();
            return broken("durable commits", || {
                format!(
                    "entry {index}@{} is committed and on the disks of {holders} of {} voters only",
                    chosen.term,
                    voters.len()
                )
            });
        }
    }
    Ok(())
}

/// A member has started again; before, its log was this.
pub fn after_restart(logs: &Logs, node: NodeId, before: &MemberLog) -> Check {
    let log = logs.log(node);
    let (had, has) = ((before.durable_term, before.durable_vote), (log.durable_term, log.durable_vote));
    if has.0 < had.0 || (has.0 == had.0 && had.1.is_some() && has.1 != had.1) {
        return broken("durable restarts", || {
            format!("n{node} had term and vote {had:?} on its disk and starts with {has:?}")
        });
    }
    // From the end: if the last such entry is there, so is everything before it.
    let mut index = before.last().min(logs.chosen_len());
    while index > 0 {
        let chosen = logs.chosen(index).expect("not beyond what was chosen");
        let had =
            before.is_durable(index) && before.link(index).is_some_and(|link| link.chain == chosen.chain);
        if had {
            let has = log.link(index).is_some_and(|link| link.chain == chosen.chain);
            return if has {
                Ok(())
            } else {
                broken("durable restarts", || {
                    format!("n{node} had entry {index}@{} on its disk and starts without it", chosen.term)
                })
            };
        }
        index -= 1;
    }
    Ok(())
}
