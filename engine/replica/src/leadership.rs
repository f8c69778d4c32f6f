//! Who leads, as far as somebody has a wish: an operator who moves leadership, a process that is about to end, and
//! priorities.
//!
//! Raft hands over ([`quorate_raft::Input::Transfer`]); this file decides when, and answers whoever asked. While a
//! hand-over is under way Raft takes no proposals. Commands of this member's clients wait meanwhile: they
//! go to the next leader as soon as it is known, or are proposed here after all. Reads go on.
//!
//! # Priorities
//!
//! A member publishes its priority when it starts. A leader that sees a voter with a higher one, up and caught up for
//! some election timeouts on end, hands over to it. The highest of those wins; if it does not come up, the
//! next attempt is as far away as the first was.

use alloc::vec::Vec;

use quorate_raft::{Instant, NodeId, PeerState};
use serde::{Deserialize, Serialize};

use crate::io::{Body, Error, RequestId};
use crate::limits::{PREFERENCE_PATIENCE, PROMOTION_LAG_MAX};
use crate::pending::{Ask, Sent, Waiting};
use crate::replica::Replica;

/// The voter that would rather lead, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Preferred {
    member: NodeId,
    since: Instant,
}

impl Replica {
    /// An operator, or this process before it ends, wants another member to lead.
    pub(crate) fn on_move_leader(&mut self, id: RequestId, to: Option<u64>) {
        let me = self.config.raft.id;
        let Some(route) = self.current_route().filter(|route| route.leader == me) else {
            return self.respond(id, Err(Error::NotLeader));
        };
        if to == Some(me.0) {
            return self.respond(id, Ok(Body::LeaderMoved { leader: me }));
        }
        let possible = |voter: u64| voter != me.0 && to.is_none_or(|to| to == voter);
        if !self.store.members().voters().any(|voter| possible(voter.id)) {
            return self.respond(id, Err(Error::BadTransferee));
        }
        let ask = Ask::MoveLeader { to: to.map(NodeId) };
        if let Err(error) = self.admit(id, &ask) {
            return self.respond(id, Err(error));
        }
        let deadline = self.now + self.config.request_timeout;
        let sent = Some(Sent::again(None, route, self.now));
        self.pending.insert(Waiting { id, deadline, epoch: self.epoch, sent, ask });
        self.raft_handle(quorate_raft::Input::Transfer { to: to.map(NodeId) });
    }

    /// A hand-over has ended. If it went well, those who wait for it are answered when the new leader is known.
    pub(crate) fn on_transfer_ended(&mut self, to: Option<NodeId>, ok: bool) {
        if ok {
            return;
        }
        let error = if to.is_some() { Error::TimeoutTransfer } else { Error::BadTransferee };
        for (id, wanted) in self.waiting_for_leaders() {
            if wanted.is_none() || wanted == to {
                self.pending.remove(id);
                self.respond(id, Err(error));
            }
        }
    }

    /// Another leader is known: whoever waits for one is told.
    pub(crate) fn answer_leader_moved(&mut self, leader: NodeId) {
        if leader == self.config.raft.id {
            return;
        }
        for (id, wanted) in self.waiting_for_leaders() {
            self.pending.remove(id);
            let expected = wanted.is_none_or(|wanted| wanted == leader);
            self.respond(
                id,
                if expected { Ok(Body::LeaderMoved { leader }) } else { Err(Error::TimeoutTransfer) },
            );
        }
    }

    fn waiting_for_leaders(&self) -> Vec<(RequestId, Option<NodeId>)> {
        let wanted = |waiting: &Waiting| match waiting.ask {
            Ask::MoveLeader { to } => Some((waiting.id, to)),
            _ => None,
        };
        self.pending.iter().filter_map(wanted).collect()
    }

    /// Hands over to a voter that would rather lead, if it has been fit for long enough.
    pub(crate) fn maybe_hand_over(&mut self) {
        let Some(member) = self.preferred_leader() else {
            self.preferred = None;
            return;
        };
        let now = self.now;
        let preferred = self.preferred.get_or_insert(Preferred { member, since: now });
        if preferred.member != member {
            *preferred = Preferred { member, since: now };
        }
        if self.preference_due().is_some_and(|due| due <= now) {
            self.preferred = Some(Preferred { member, since: now });
            self.raft_handle(quorate_raft::Input::Transfer { to: Some(member) });
        }
    }

    /// Looks whether anybody would rather lead: leaders ask in every turn, and the table changes hardly ever.
    pub(crate) fn note_priorities(&mut self) {
        self.membership.prioritized = self.store.members().iter().any(|member| member.priority > 0);
    }

    /// The fit voter with the highest priority above this leader's.
    fn preferred_leader(&self) -> Option<NodeId> {
        // Before it keeps the time of leases, it has not come up itself.
        if !self.membership.prioritized || self.leases.is_none() || self.transferring() {
            return None;
        }
        let members = self.store.members();
        let own = members.get(self.config.raft.id.0).map_or(0, |member| member.priority);
        let higher = members.voters().filter(|voter| voter.priority > own && self.is_fit(voter.id));
        let best = higher.max_by_key(|voter| (voter.priority, core::cmp::Reverse(voter.id)))?;
        Some(NodeId(best.id))
    }

    fn is_fit(&self, id: u64) -> bool {
        let replicates = self.peer(id).is_some_and(|peer| peer.state == PeerState::Replicate);
        replicates && self.is_alive(id) && self.lag(id) <= PROMOTION_LAG_MAX
    }

    /// When the voter that would rather lead has been fit for long enough.
    pub(crate) fn preference_due(&self) -> Option<Instant> {
        self.preferred.map(|preferred| preferred.since + self.patience() * PREFERENCE_PATIENCE)
    }

    /// Whether this leader is handing over, and takes no commands.
    pub(crate) fn transferring(&self) -> bool {
        self.raft.status().transferee.is_some()
    }
}
