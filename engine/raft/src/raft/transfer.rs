//! Handing leadership over (thesis §3.10).
//!
//! The leader takes no more proposals, brings the chosen voter up to date, and tells it to stand for election
//! at once. That voter asks for votes without asking around first, and says that the leader wants it so, whereupon
//! even those vote who hear from the leader. So the cluster is without a leader for one round trip and the time
//! it takes to write two votes. Reads go on meanwhile: they are confirmed by a quorum as ever.
//!
//! If the other does not take over within an election timeout, the leader leads on. (If it was only slow, it
//! may still win later: an election like any other.)

use core::cmp::Reverse;

use serde::{Deserialize, Serialize};

use super::leader::Leader;
use super::{PeerState, Raft, State};
use crate::entry::Command;
use crate::io::Output;
use crate::message::Body;
use crate::types::{Instant, NodeId};

/// A hand-over under way.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Transfer {
    to: NodeId,
    /// When to give up.
    until: Instant,
    /// The other was told to stand for election.
    asked: bool,
}

impl Leader {
    /// To whom leadership is being handed over.
    pub(super) fn transferee(&self) -> Option<NodeId> {
        self.transfer.map(|transfer| transfer.to)
    }

    /// When to give up handing over.
    pub(super) fn transfer_until(&self) -> Option<Instant> {
        self.transfer.map(|transfer| transfer.until)
    }

    /// What a hand-over has come to, when this leader leads no more.
    pub(super) fn transfer_outcome<C>(&self, term: crate::types::Term) -> Option<Output<C>> {
        let Transfer { to, asked, .. } = self.transfer?;
        Some(Output::TransferEnded { to: Some(to), ok: asked && term > self.term })
    }
}

impl<C: Command> Raft<C> {
    pub(super) fn on_transfer(&mut self, to: Option<NodeId>) {
        let ended = |to, ok| Output::TransferEnded { to, ok };
        let to = to.or_else(|| self.furthest_voter());
        let able = to.filter(|id| self.configuration().voters.contains(id));
        let State::Leader(leader) = &mut self.state else { return self.outputs.push_back(ended(to, false)) };
        let Some(target) = able else { return self.outputs.push_back(ended(to, false)) };
        if target == self.config.id {
            return self.outputs.push_back(ended(to, true));
        }
        if leader.transferee() == Some(target) {
            return;
        }
        let until = self.now + self.config.election_timeout;
        if let Some(old) = leader.transfer.replace(Transfer { to: target, until, asked: false }) {
            self.outputs.push_back(ended(Some(old.to), false));
        }
    }

    /// The voter whose log is the longest, of those that answer.
    fn furthest_voter(&self) -> Option<NodeId> {
        let State::Leader(leader) = &self.state else { return None };
        let voters = &self.configuration().voters;
        let answers = |contact| self.now.since(contact) < self.config.election_timeout;
        let able = leader.peers().filter(|(id, peer)| {
            voters.contains(id) && answers(peer.contact) && peer.state() != PeerState::Lost
        });
        able.max_by_key(|(id, peer)| (peer.matched, Reverse(*id))).map(|(id, _)| id)
    }

    /// Tells the next leader to stand for election, as soon as its log is as long as ours; and again at every
    /// heartbeat, because it may not have heard.
    pub(super) fn maybe_ask_transferee(&mut self, heartbeat_due: bool) {
        let last = self.log.last().index;
        let State::Leader(leader) = &mut self.state else { return };
        let Some(transfer) = &mut leader.transfer else { return };
        let caught_up = leader.peers.get(transfer.to).is_some_and(|peer| peer.matched == last);
        if caught_up && (!transfer.asked || heartbeat_due) {
            transfer.asked = true;
            let to = transfer.to;
            self.send(to, Body::CampaignNow);
        }
    }

    /// Gives up handing over when its time has passed.
    pub(super) fn maybe_end_transfer(&mut self) {
        let State::Leader(leader) = &mut self.state else { return };
        if let Some(transfer) = leader.transfer.take_if(|transfer| self.now >= transfer.until) {
            self.outputs.push_back(Output::TransferEnded { to: Some(transfer.to), ok: false });
        }
    }

    /// A leader that is no voter of its own committed configuration has done its part, and lets a voter go on.
    pub(super) fn maybe_resign(&mut self) {
        let State::Leader(leader) = &self.state else { return };
        let commit = self.log.commit();
        let committed = commit >= leader.first && commit >= self.memberships.index();
        if !committed || self.is_voter() {
            return;
        }
        if let Some(to) = self.furthest_voter() {
            self.send(to, Body::CampaignNow);
        }
        let election_at = self.random_election_at();
        self.become_follower(None, election_at);
        // The owner must hear of it in this turn.
        self.touched = true;
    }
}
