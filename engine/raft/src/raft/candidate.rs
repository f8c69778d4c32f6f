//! Elections: asking around (thesis §9.6), candidacy (Raft §5.2), and voting (Raft §5.4.1).

use alloc::vec::Vec;

use rand::Rng;
use serde::{Deserialize, Serialize};

use super::{Raft, State};
use crate::entry::Command;
use crate::few::NodeSet;
use crate::message::{Body, Message};
use crate::types::{Instant, NodeId, Position, Term};

/// What belongs to a candidate, or to one who asks whether to become one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Campaign {
    /// Ties the answers to a `PreVote` to this campaign, and to this incarnation of the member.
    pub(super) id: u64,
    /// Who has granted.
    granted: NodeSet,
    /// When to try again.
    pub(super) election_at: Instant,
}

impl<C: Command> Raft<C> {
    /// No leader was heard of for an election timeout.
    pub(super) fn on_election_timeout(&mut self) {
        if !self.may_lead() {
            // There is nothing to do but to know.
            self.become_follower(None, self.now);
        } else if self.config.pre_vote {
            self.become_pre_candidate();
        } else {
            self.become_candidate(false);
        }
    }

    /// The leader wants this member to lead.
    pub(super) fn on_campaign_now(&mut self, from: NodeId) {
        let asked = matches!(&self.state, State::Follower(follower) if follower.leader == Some(from));
        if asked && self.is_voter() {
            self.become_candidate(true);
        }
    }

    fn become_pre_candidate(&mut self) {
        let mut campaign = self.new_campaign();
        let id = campaign.id;
        campaign.granted.insert(self.config.id);
        self.become_state(State::PreCandidate(campaign));
        let last = self.log.last();
        // The one message that does not carry the sender's own term.
        let message = Message { term: self.term.next(), body: Body::PreVote { campaign: id, last } };
        for to in self.other_voters() {
            self.disk.send(to, message.clone(), &mut self.outputs);
        }
        self.maybe_win();
    }

    fn become_candidate(&mut self, transfer: bool) {
        self.adopt_term(self.term.next());
        self.vote_for(self.config.id);
        let campaign = self.new_campaign();
        self.become_state(State::Candidate(campaign));
        let last = self.log.last();
        for to in self.other_voters() {
            self.send(to, Body::Vote { last, transfer });
        }
    }

    /// A candidate's own vote counts when it is durable, like any other.
    pub(super) fn count_own_vote(&mut self) {
        self.on_vote_reply(self.config.id, true);
    }

    /// Would this member vote for the asker? Says so, and changes nothing.
    pub(super) fn on_pre_vote(&mut self, from: NodeId, term: Term, campaign: u64, last: Position) {
        let granted = term > self.term && last >= self.log.last() && !self.hears_from_leadership();
        self.send(from, Body::PreVoteReply { campaign, granted });
    }

    pub(super) fn on_pre_vote_reply(&mut self, from: NodeId, id: u64, granted: bool) {
        let State::PreCandidate(campaign) = &mut self.state else { return };
        if granted && campaign.id == id {
            campaign.granted.insert(from);
            self.maybe_win();
        }
    }

    /// A candidate of this term asks for a vote. (Its term was adopted if it was newer.)
    pub(super) fn on_vote(&mut self, from: NodeId, last: Position) {
        // Once there is a leader, its term's election is decided.
        let undecided = self.vote.is_none() && self.state.leader(self.config.id).is_none();
        let free = self.vote == Some(from) || undecided;
        let granted = free && last >= self.log.last();
        if granted && self.vote.is_none() {
            self.vote_for(from);
            // Whom we vote for deserves the time to win.
            let election_at = self.random_election_at();
            self.become_follower(None, election_at);
        }
        self.send(from, Body::VoteReply { granted });
    }

    pub(super) fn on_vote_reply(&mut self, from: NodeId, granted: bool) {
        let State::Candidate(campaign) = &mut self.state else { return };
        // Nobody is asked before our own vote is durable, so nobody can have answered before.
        if granted && self.disk.vote_is_durable() {
            campaign.granted.insert(from);
            self.maybe_win();
        }
    }

    /// Goes on if a quorum has granted.
    fn maybe_win(&mut self) {
        let (State::PreCandidate(campaign) | State::Candidate(campaign)) = &self.state else { return };
        if !self.configuration().agrees(|id| campaign.granted.contains(&id)) {
            return;
        }
        match self.state {
            State::PreCandidate(_) => self.become_candidate(false),
            _ => self.become_leader(),
        }
    }

    fn new_campaign(&mut self) -> Campaign {
        let election_at = self.random_election_at();
        Campaign { id: self.random.next_u64(), granted: NodeSet::new(), election_at }
    }

    fn other_voters(&self) -> Vec<NodeId> {
        let configuration = self.configuration();
        let others = |id: &NodeId| *id != self.config.id && configuration.is_voter(*id);
        configuration.members().filter(others).collect()
    }
}
