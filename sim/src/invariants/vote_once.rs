//! A member votes for at most one candidate in a term, whatever happens to it in between (Raft figure 2:
//! `votedFor` is persistent state). Seen on the wire, before the vote can do harm.

use std::collections::BTreeMap;

use quorate_raft::{NodeId, Term};

use super::{Check, broken};

/// For whom each member voted in its latest term.
#[derive(Debug, Default)]
pub struct VoteOnce {
    votes: BTreeMap<(NodeId, u64), NodeId>,
}

impl VoteOnce {
    /// For whom a member was seen to vote in a term.
    pub fn vote(&self, voter: NodeId, term: u64) -> Option<NodeId> {
        self.votes.get(&(voter, term)).copied()
    }

    /// A member grants its vote.
    pub fn on_vote(&mut self, voter: NodeId, candidate: NodeId, term: Term) -> Check {
        let voted = *self.votes.entry((voter, term.0)).or_insert(candidate);
        if voted == candidate {
            return Ok(());
        }
        broken("one vote", || {
            format!("n{voter} votes for n{candidate} in term {term}, in which it voted for n{voted}")
        })
    }
}
