//! Whoever hears from the leader of its term follows it, be it a candidate of that term or not (Raft §5.2: "if the
//! leader's term is at least as large as the candidate's current term, then the candidate recognizes the leader as
//! legitimate"). One that does not is lost to the cluster until its election times out, and then deposes the leader
//! (openraft commit 4015cc38).

use quorate_raft::{Body, Message, NodeId, Role};
use quorate_replica::SharedProposal;

use super::{Check, broken};
use crate::env::network::MEMBERS_MAX;
use crate::trace::StatusLine;

/// The leader of the highest term that each member has heard of since its last turn.
#[derive(Debug, Default)]
pub struct FollowsWhoLeads {
    heard: [Option<(u64, NodeId)>; MEMBERS_MAX],
}

impl FollowsWhoLeads {
    /// A message arrives.
    pub fn on_deliver(&mut self, from: NodeId, to: NodeId, message: &Message<SharedProposal>) {
        if let Body::Append { .. } | Body::Heartbeat { .. } = message.body {
            let heard = &mut self.heard[to.0 as usize];
            *heard = (*heard).max(Some((message.term.0, from)));
        }
    }

    /// A member loses what has arrived.
    pub fn on_crash(&mut self, node: NodeId) {
        self.heard[node.0 as usize] = None;
    }

    /// A member after a turn in which it has looked at all that had arrived.
    pub fn on_turn(&mut self, node: NodeId, now: &StatusLine) -> Check {
        let Some((term, leader)) = self.heard[node.0 as usize].take() else { return Ok(()) };
        let follows = now.role == Role::Follower && now.leader == leader.0;
        // Two leaders of a term are another oracle's business.
        if follows || now.term != term || now.role == Role::Leader {
            return Ok(());
        }
        broken("follows who leads", || {
            format!("n{node} has heard from n{leader}, the leader of term {term}: [{now}]")
        })
    }
}
