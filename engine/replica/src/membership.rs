//! Changes of the membership: from a request to Raft's configuration and the table of members.
//!
//! Who votes is told by two things that must never disagree: Raft's configuration, in force as soon as it is in a
//! log, and the store's table, which follows when the entry is applied. Both travel in one entry. So that the
//! table then takes what the leader has promised Raft,
//!
//! - the leader makes one change after the other: the next is looked at when the one before, and everything that
//!   earlier leaders left, is applied. What it is held against is then what it will be applied to;
//! - a change that does not go through Raft's configuration (a new address, a directory that takes possession of a
//!   member) waits in the same queue;
//! - whatever a log of bad faith holds, [`Store::conform_members`](quorate_store::Store::conform_members) makes the
//!   table follow.
//!
//! # Refusals
//!
//! A change that the leader refuses goes into the log all the same, as [`Command::MemberRefused`] under the
//! request's id. Whoever asked is told once, when that is applied at its member; and a copy of the request that is
//! still on its way is recognised like any command that comes twice. A refusal in a message could be
//! overtaken by such a copy and be a lie.
//!
//! Waiting is not refusing: a change that comes while another is under way waits for its turn.
//!
//! # Who is talked to
//!
//! [`Output::Peers`] names the members of the table; those of the configuration in force, which may be one more
//! that is not committed, and may go again; and those to whom the leader still has to tell that they were
//! removed.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

use quorate_raft::{Change, ChangeError, Index, Instant, NodeId, NodeSet, PeerState, PeerStatus};
use quorate_store::{Command, Error, Member, MemberChange};
use serde::{Deserialize, Serialize};

use crate::io::{Output, Proposal, SharedProposal};
use crate::limits::{CHANGES_MAX, PROMOTION_LAG_MAX};
use crate::replica::Replica;

/// What a replica knows of changes that are not applied.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Membership {
    /// Changes that wait for their turn at this leader, oldest first.
    waiting: VecDeque<SharedProposal>,
    /// Those for which it is too early, and when to look again.
    early: Vec<SharedProposal>,
    again_at: Option<Instant>,
    /// No change before this entry is applied: the one before, or what Raft is busy with.
    settled_at: Index,
    /// What came with the configuration in force, if that is not applied yet.
    in_force: Option<SharedProposal>,
    /// Peers that have lost what they had acknowledged to this leader.
    pub(crate) lost: BTreeSet<NodeId>,
    /// Whether the peers may have changed.
    pub(crate) peers_changed: bool,
    /// Whether the leader talks to somebody who has been removed.
    farewells: bool,
    /// The peers as last told.
    told: Option<BTreeMap<NodeId, Vec<String>>>,
    /// How many learners this leader has made voters.
    pub(crate) promotions: u64,
    /// How often the table had to be made to agree with Raft's configuration.
    pub(crate) corrected: u64,
    /// Whether some member would rather lead than others.
    pub(crate) prioritized: bool,
}

/// What becomes of a change.
enum Verdict {
    /// It goes into the log, with these changes of Raft's configuration.
    Take(Vec<Change>),
    /// It is refused.
    Refuse(Error),
    /// It is too early to tell.
    Wait,
}

impl Membership {
    /// Leadership has changed: those who wait will ask the next leader.
    pub(crate) fn reset(&mut self) {
        self.waiting.clear();
        self.early.clear();
        self.again_at = None;
        self.settled_at = Index(0);
        self.lost.clear();
        self.peers_changed = true;
    }

    /// When a change for which it was too early is looked at again.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.again_at
    }
}

/// The leader's part.
impl Replica {
    /// Takes a change on; one that waits already is not taken twice. Beyond the limit its origin has to send it again.
    pub(crate) fn queue_change(&mut self, proposal: SharedProposal) {
        let membership = &mut self.membership;
        let same =
            |other: &SharedProposal| (other.0.origin, other.0.id) == (proposal.0.origin, proposal.0.id);
        let known = membership.waiting.iter().chain(&membership.early).any(same);
        if !known && membership.waiting.len() + membership.early.len() < CHANGES_MAX {
            membership.waiting.push_back(proposal);
        }
    }

    /// Makes the next change, if the one before is done.
    pub(crate) fn propose_changes(&mut self) {
        if self.membership.again_at.is_some_and(|at| at <= self.now) {
            self.membership.again_at = None;
            self.membership.waiting.extend(self.membership.early.drain(..));
        }
        while !self.membership.waiting.is_empty() && self.may_change() {
            let proposal = self.membership.waiting.pop_front().expect("there is one");
            self.propose_change(proposal);
        }
        if !self.configuration.learners.is_empty() && self.may_change() {
            self.promote_who_has_caught_up();
        }
    }

    /// Whether what a change is held against now is what it will be applied to.
    fn may_change(&self) -> bool {
        let status = self.raft.status();
        let own_term = self.leads() && self.applied.term == status.term;
        let all_applied =
            self.applied.index == status.commit && self.applied.index >= self.membership.settled_at;
        // Compared last: a leader with a learner asks in every turn.
        let one_configuration =
            || *self.raft.configuration() == self.configuration && !self.configuration.is_joint();
        own_term && all_applied && status.transferee.is_none() && one_configuration()
    }

    fn propose_change(&mut self, proposal: SharedProposal) {
        let Proposal { origin, id, ref command } = *proposal.0;
        if self.sessions.seen(origin, id) || self.store.members().get(origin.0).is_none() {
            return;
        }
        if let Some(careful) = self.careful_addition(command) {
            return self.propose_change(SharedProposal::new(origin, id, careful));
        }
        match self.judge(command) {
            Verdict::Take(changes) if changes.is_empty() => self.propose(proposal),
            Verdict::Take(changes) => {
                self.raft_handle(quorate_raft::Input::ChangeMembership { changes, command: proposal });
            }
            Verdict::Refuse(error) => self.propose_refusal(&proposal, error),
            Verdict::Wait => {
                self.membership.early.push(proposal);
                self.membership.again_at = Some(self.now + self.patience());
                return;
            }
        }
        self.membership.settled_at = self.raft.status().last.index;
    }

    fn propose_refusal(&mut self, proposal: &SharedProposal, error: Error) {
        let Proposal { origin, id, .. } = *proposal.0;
        self.propose(SharedProposal::new(origin, id, Command::MemberRefused { error }));
    }

    /// Raft has not taken a change.
    pub(crate) fn on_change_refused(&mut self, proposal: SharedProposal, reason: ChangeError) {
        match reason {
            // The next leader will be asked.
            ChangeError::NotLeader => {}
            ChangeError::Busy | ChangeError::Transferring => {
                self.membership.waiting.push_front(proposal);
                self.membership.settled_at = self.applied.index.next();
            }
            ChangeError::NoVoters => self.propose_refusal(&proposal, Error::NotEnoughStarted),
            ChangeError::Unchanged
            | ChangeError::AlreadyVoter(_)
            | ChangeError::NotMember(_)
            | ChangeError::NoId => self.propose_refusal(&proposal, Error::MemberNotFound),
        }
    }

    /// Holds a change against the table, and against what the leader knows of the members' health.
    fn judge(&self, command: &Command) -> Verdict {
        if let Command::MemberJoin { peer_urls, .. } = command
            && self.would_replace_a_live_member(command, peer_urls)
        {
            return Verdict::Wait;
        }
        let checked = self.store.members().plan(command).and_then(|changes| {
            self.check_limits(command, |id| self.is_alive(id))?;
            Ok(changes)
        });
        // A new leader has heard of nobody yet. It does not count on those who have still to answer.
        let sure = |id| self.is_alive(id) && self.has_answered(id);
        match checked {
            Ok(_) if self.check_limits(command, sure).is_err() => Verdict::Wait,
            Ok(changes) => Verdict::Take(changes.into_iter().map(raft_change).collect()),
            Err(error) => Verdict::Refuse(error),
        }
    }

    /// Whether a directory claims the place of another that has just been heard of. It may have died since; if it
    /// goes on, two processes were given the same addresses by mistake.
    fn would_replace_a_live_member(&self, command: &Command, peer_urls: &[String]) -> bool {
        let replaces = self.store.members().plan(command).is_ok_and(|changes| !changes.is_empty());
        let at_urls = |member: &&Member| member.peer_urls.iter().any(|url| peer_urls.contains(url));
        replaces && self.store.members().iter().find(at_urls).is_some_and(|member| self.is_alive(member.id))
    }

    /// What etcd checks besides: how many learners there may be, that a promoted one has caught up, and that the
    /// members left are enough (`--strict-reconfig-check`).
    fn check_limits(&self, command: &Command, alive: impl Fn(u64) -> bool) -> Result<(), Error> {
        let members = self.store.members();
        match command {
            // (One that is to vote is a learner for the moment.)
            Command::MemberAdd { learner: true, auto_promote: false, .. } => self.check_learners(),
            Command::MemberAdd { learner: true, auto_promote: true, .. } if self.config.auto_promote => {
                self.check_learners()
            }
            Command::MemberAdd { learner: true, .. } => Ok(()),
            Command::MemberAdd { learner: false, .. } => self.check_quorum_with_one_more(false, alive),
            Command::MemberPromote { id } => {
                if !self.in_sync(*id) {
                    return Err(Error::LearnerNotReady);
                }
                self.check_quorum_with_one_more(true, alive)
            }
            Command::MemberDemote { id } => {
                self.check_learners()?;
                self.check_quorum_without(*id, alive)
            }
            Command::MemberRemove { id } => match members.get(*id) {
                Some(member) if !member.learner => self.check_quorum_without(*id, alive),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn check_learners(&self) -> Result<(), Error> {
        let full = self.store.members().learners().count() >= self.config.learners_max;
        if full { Err(Error::TooManyLearners) } else { Ok(()) }
    }

    /// Whether there would still be a quorum with another voter, itself up or not. (One voter alone cannot be any
    /// safer before it gets company.)
    fn check_quorum_with_one_more(&self, up: bool, alive: impl Fn(u64) -> bool) -> Result<(), Error> {
        let voters = || self.store.members().voters();
        let all = voters().count();
        if !self.config.strict_reconfig_check || all == 1 {
            return Ok(());
        }
        let started = voters().filter(|voter| voter.is_started()).count();
        let alive = voters().filter(|voter| alive(voter.id)).count();
        let more = usize::from(up);
        enough(started + more, alive + more, quorum_of(all + 1))
    }

    /// How a voter is added that is needed for a quorum from the moment on in which it is added: as a learner, with its
    /// vote to come when it has caught up. Its directory learns its id from the log, which such a voter would
    /// stop. (Only with a single voter is there no other way; otherwise the strict check refuses it.)
    fn careful_addition(&self, command: &Command) -> Option<Command> {
        let Command::MemberAdd { id, peer_urls, learner: false, .. } = command else { return None };
        let voters = || self.store.members().voters();
        let (all, alive) = (voters().count(), voters().filter(|voter| self.is_alive(voter.id)).count());
        let allowed = all == 1 || !self.config.strict_reconfig_check;
        (allowed && alive < quorum_of(all + 1)).then(|| Command::MemberAdd {
            id: *id,
            peer_urls: peer_urls.clone(),
            learner: true,
            auto_promote: true,
        })
    }

    /// Whether there would still be a quorum without this voter. One that is down was no help anyway.
    fn check_quorum_without(&self, id: u64, alive: impl Fn(u64) -> bool) -> Result<(), Error> {
        let others = || self.store.members().voters().filter(|voter| voter.id != id);
        let quorum = quorum_of(others().count());
        if !self.config.strict_reconfig_check {
            return Ok(());
        }
        let started = others().filter(|voter| voter.is_started()).count();
        let up = others().filter(|voter| alive(voter.id)).count();
        enough(started, if self.is_alive(id) { up } else { quorum }, quorum)
    }

    /// Makes the first learner a voter that waits for that and has caught up.
    fn promote_who_has_caught_up(&mut self) {
        let ready = |member: &&Member| {
            member.auto_promote
                && member.is_started()
                && self.in_sync(member.id)
                && self.lag(member.id) <= PROMOTION_LAG_MAX
        };
        let Some(id) = self.store.members().learners().find(ready).map(|member| member.id) else { return };
        let command = Command::MemberPromote { id };
        if matches!(self.judge(&command), Verdict::Take(_)) {
            let proposal = self.own_proposal(command);
            self.propose_change(proposal);
        }
    }

    /// Whether a learner has nine tenths of the leader's log, as etcd wants it.
    fn in_sync(&self, id: u64) -> bool {
        let last = self.raft.status().last.index.0;
        let has = |peer: PeerStatus| {
            !matches!(peer.state, PeerState::Snapshot | PeerState::Lost)
                && peer.matched.0.saturating_mul(10) >= last.saturating_mul(9)
        };
        self.is_alive(id) && self.peer(id).is_some_and(has)
    }

    /// How many entries of the log a peer is not known to have.
    pub(crate) fn lag(&self, id: u64) -> u64 {
        let matched = self.peer(id).map_or(0, |peer| peer.matched.0);
        self.raft.status().last.index.0 - matched
    }

    /// Whether a member has been heard of within an election timeout.
    pub(crate) fn is_alive(&self, id: u64) -> bool {
        let heard = |peer: PeerStatus| {
            peer.state != PeerState::Lost && self.now.since(peer.contact) < self.patience()
        };
        id == self.config.raft.id.0 || self.peer(id).is_some_and(heard)
    }

    /// Whether a member has said to this leader what it has.
    fn has_answered(&self, id: u64) -> bool {
        let answered =
            |peer: PeerStatus| peer.matched > Index(0) || matches!(peer.state, PeerState::Snapshot);
        id == self.config.raft.id.0 || self.peer(id).is_some_and(answered)
    }

    pub(crate) fn peer(&self, id: u64) -> Option<PeerStatus> {
        self.raft.peers().find(|peer| peer.id.0 == id)
    }
}

/// The part of everybody.
impl Replica {
    /// Another configuration is in force.
    pub(crate) fn on_configuration_in_force(&mut self, command: Option<SharedProposal>) {
        self.membership.in_force = command;
        self.membership.peers_changed = true;
    }

    /// The configuration of the applied state is another one: the table must agree.
    pub(crate) fn conform_members(&mut self) {
        let ids = |ids: &NodeSet| ids.iter().map(|id| id.0).collect::<BTreeSet<u64>>();
        let (voters, learners) = (ids(&self.configuration.voters), ids(&self.configuration.learners));
        self.membership.corrected += u64::from(self.store.conform_members(&voters, &learners));
        assert!(self.store.members().voters().map(|it| it.id).eq(voters), "the table has the voters");
        assert!(self.store.members().learners().map(|it| it.id).eq(learners), "the table has the learners");
        self.on_members_applied();
    }

    /// The table may have changed.
    pub(crate) fn on_members_applied(&mut self) {
        let Replica { sessions, store, .. } = self;
        // Nothing of theirs is admitted any more, so there is nothing to recognise either.
        sessions.retain(|origin| store.members().get(origin.0).is_some());
        self.note_priorities();
        self.membership.peers_changed = true;
        self.changed = true;
    }

    /// Says whom to talk to, if that is news.
    pub(crate) fn tell_peers(&mut self) {
        let Membership { peers_changed, farewells, told, .. } = &mut self.membership;
        if !core::mem::take(peers_changed) && !*farewells && told.is_some() {
            return;
        }
        let mut peers: BTreeMap<NodeId, Vec<String>> =
            self.store.members().iter().map(|member| (NodeId(member.id), member.peer_urls.clone())).collect();
        let known = |id| self.membership.told.as_ref().and_then(|told| told.get(&id).cloned());
        for id in self.raft.configuration().members() {
            let announced =
                self.membership.in_force.as_ref().and_then(|proposal| announced(&proposal.0.command, id));
            peers.entry(id).or_insert_with(|| announced.or_else(|| known(id)).unwrap_or_default());
        }
        let members = peers.len();
        for peer in self.raft.peers() {
            peers.entry(peer.id).or_insert_with(|| known(peer.id).unwrap_or_default());
        }
        self.membership.farewells = peers.len() > members;
        peers.remove(&self.config.raft.id);
        if self.membership.told.as_ref() != Some(&peers) {
            self.outputs.push_back(Output::Peers(peers.clone().into_iter().collect()));
            self.membership.told = Some(peers);
        }
    }
}

/// The addresses that a command on its way gives a member.
fn announced(command: &Command, member: NodeId) -> Option<Vec<String>> {
    match command {
        Command::MemberAdd { id, peer_urls, .. } | Command::MemberJoin { id, peer_urls, .. }
            if *id == member.0 =>
        {
            Some(peer_urls.clone())
        }
        _ => None,
    }
}

fn raft_change(change: MemberChange) -> Change {
    match change {
        MemberChange::AddLearner(id) => Change::AddLearner(NodeId(id)),
        MemberChange::AddVoter(id) => Change::AddVoter(NodeId(id)),
        MemberChange::Demote(id) => Change::Demote(NodeId(id)),
        MemberChange::Remove(id) => Change::Remove(NodeId(id)),
    }
}

fn quorum_of(voters: usize) -> usize {
    voters / 2 + 1
}

fn enough(started: usize, alive: usize, quorum: usize) -> Result<(), Error> {
    if started < quorum {
        return Err(Error::NotEnoughStarted);
    }
    if alive < quorum { Err(Error::UnhealthyCluster) } else { Ok(()) }
}
