//! The state machine itself: what comes in, what goes out, and the rules about terms that hold in
//! every role. What each role does with its inputs is in the files below this one.

use alloc::collections::VecDeque;
use core::mem;
use core::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::disk::Disk;
use crate::entry::{Command, Configuration, Entry, Membership};
use crate::io::{HardState, Input, Output, Saved, SnapshotMeta};
use crate::log::Log;
use crate::membership::Memberships;
use crate::message::{Body, Message};
use crate::types::{Index, Instant, NodeId, ReadId, Term, WriteId};

mod candidate;
mod change;
mod follower;
mod leader;
mod status;
mod transfer;

use candidate::Campaign;
use follower::Follower;
use leader::Leader;
pub use status::{PeerState, PeerStatus, Role, Status};

/// One member's Raft.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Raft<C> {
    config: Config,
    random: ChaCha8Rng,
    /// The time of the latest input.
    now: Instant,
    /// The latest term this member has seen.
    term: Term,
    /// Whom it voted for in that term.
    vote: Option<NodeId>,
    state: State,
    log: Log<C>,
    memberships: Memberships<C>,
    disk: Disk<C>,
    /// Made, and not yet polled: none between two turns, when images are taken.
    #[serde(skip, default = "VecDeque::new")]
    outputs: VecDeque<Output<C>>,
    /// Whether there was an input since outputs were last gathered.
    touched: bool,
    /// Term, role and leader as of the last `Output::RoleChanged`.
    announced: (Term, Role, Option<NodeId>),
    status: Status,
}

/// The part a member plays, with what belongs to it.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum State {
    Follower(Follower),
    PreCandidate(Campaign),
    Candidate(Campaign),
    Leader(Leader),
}

impl<C: Command> Raft<C> {
    /// A Raft as it was at its last durable write.
    ///
    /// Draws no randomness beyond `seed`, which must differ between members and between starts of one
    /// member: it keeps members from starting elections at the same time, and answers to an earlier
    /// incarnation of this member from being taken for answers to this one.
    ///
    /// # Panics
    /// If `config` is not valid, or the entries of `saved` have a gap or decreasing terms: whoever
    /// reads them from a disk checks that.
    pub fn recover(config: Config, seed: u64, now: Instant, saved: Saved<C>) -> Raft<C> {
        if let Err(error) = config.validate() {
            panic!("the configuration of a Raft must be valid: {error}");
        }
        let Saved { hard_state, snapshot, entries } = saved;
        let log = Log::recover(snapshot.position, entries, hard_state.commit);
        let mut memberships = Memberships::new(snapshot.position.index, snapshot.configuration);
        for entry in log.entries_from(log.start().index.next()) {
            memberships.on_append(entry);
        }
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        // A member that is alone need not wait for anybody.
        let alone = memberships.latest().agrees(|id| id == config.id);
        let election_at = if alone { now } else { now + random_timeout(&mut random, &config) };
        let follower = Follower::new(None, now, election_at, log.commit(), random.next_u64());
        let mut raft = Raft {
            state: State::Follower(follower),
            random,
            now,
            term: hard_state.term,
            vote: hard_state.vote,
            log,
            memberships,
            disk: Disk::new(hard_state, now),
            outputs: VecDeque::new(),
            touched: true,
            announced: (hard_state.term, Role::Follower, None),
            status: Status::default(),
            config,
        };
        // A snapshot, or entries, may have become durable without the term they came with. No vote of
        // that term can have left this member, because it would be durable.
        if raft.log.last().term > raft.term {
            raft.adopt_term(raft.log.last().term);
        }
        raft.refresh_status();
        raft
    }

    /// Takes note of something that happened.
    pub fn handle(&mut self, now: Instant, input: Input<C>) {
        self.now = self.now.max(now);
        self.touched = true;
        match input {
            Input::Propose(command) => self.on_propose(command),
            Input::ChangeMembership { changes, command } => self.on_change_membership(&changes, command),
            Input::Transfer { to } => self.on_transfer(to),
            Input::Read(id) => self.on_read(id),
            Input::Message { from, message } => self.on_message(from, message),
            Input::Persisted(write) => self.on_persisted(write),
            Input::SnapshotTaken { meta, keep_after } => self.on_snapshot_taken(&meta, keep_after),
            Input::Forget(index) => self.on_forget(index),
            Input::SnapshotReceived { from, term, meta } => self.on_snapshot_received(from, term, meta),
            Input::SnapshotFailed { to } => self.on_snapshot_failed(to),
            Input::Wake => self.on_wake(),
        }
        self.refresh_status();
    }

    /// The next thing to do, until `None`.
    pub fn poll_output(&mut self) -> Option<Output<C>> {
        if self.outputs.is_empty() && mem::take(&mut self.touched) {
            self.gather();
        }
        self.outputs.pop_front()
    }

    /// When to call `handle(now, Input::Wake)` at the latest, and why.
    pub fn deadline(&self) -> Option<(Instant, &'static str)> {
        match &self.state {
            State::Follower(follower) => {
                let may_lead = self.may_lead();
                let why = if may_lead { "election" } else { "leader lost" };
                let waits = may_lead || follower.leader.is_some();
                let election = waits.then_some((follower.election_at, why));
                earlier(election, follower.questions.retry_at().map(|at| (at, "read index")))
            }
            State::PreCandidate(campaign) | State::Candidate(campaign) => {
                Some((campaign.election_at, "election"))
            }
            State::Leader(leader) => {
                let next = leader.heartbeat_at().map(|at| (at, "heartbeat"));
                let next = earlier(next, leader.held_until().map(|at| (at, "held append")));
                let next = earlier(next, leader.transfer_until().map(|at| (at, "transfer")));
                earlier(next, leader.leaving_until().map(|at| (at, "farewell")))
            }
        }
    }

    /// Where this member stands.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// The configuration in force: the latest one in the log.
    pub fn configuration(&self) -> &Configuration {
        self.memberships.latest()
    }

    /// The log in memory, for invariants.
    #[cfg(feature = "testing")]
    pub fn log(&self) -> impl Iterator<Item = &Entry<C>> {
        self.log.entries_from(self.log.start().index.next())
    }

    /// What ties answers to this member's present campaign, for telling states apart.
    #[cfg(feature = "testing")]
    pub(crate) fn campaign(&self) -> Option<u64> {
        match &self.state {
            State::PreCandidate(campaign) | State::Candidate(campaign) => Some(campaign.id),
            State::Follower(_) | State::Leader(_) => None,
        }
    }

    /// The term of the entry at `index`, if the log still knows, for invariants.
    #[cfg(feature = "testing")]
    pub fn term_at(&self, index: Index) -> Option<Term> {
        self.log.term_at(index)
    }

    /// Makes the outputs of a turn from what its inputs have left behind.
    ///
    /// Messages come before the write, so that the network is busy while the disk is.
    fn gather(&mut self) {
        let announced = (self.term, self.state.role(), self.state.leader(self.config.id));
        if announced != self.announced {
            self.announced = announced;
            self.outputs.push_back(Output::RoleChanged);
        }
        if let State::Leader(_) = self.state {
            self.advance_commit();
            self.maybe_leave_joint();
        }
        // Before the first message to whoever is new.
        if let Some(Membership { configuration, command }) = self.memberships.take_news() {
            self.outputs.push_back(Output::ConfigurationChanged { configuration, command });
        }
        match self.state {
            State::Leader(_) => self.lead(),
            State::Follower(_) => self.follow(),
            State::PreCandidate(_) | State::Candidate(_) => {}
        }
        let hard_state = HardState { term: self.term, vote: self.vote, commit: self.log.commit() };
        let idle = self.now.since(self.disk.written_at()) >= self.config.heartbeat_interval;
        if let Some(write) = self.disk.make_write(self.now, hard_state, &mut self.log, idle) {
            self.outputs.push_back(Output::Persist(write));
        }
        let committed = self.log.take_committed();
        if !committed.is_empty() {
            self.outputs.push_back(Output::Committed(committed));
        }
        self.answer_reads();
        self.refresh_status();
    }

    fn on_message(&mut self, from: NodeId, message: Message<C>) {
        if from == self.config.id || !message.is_sound() {
            return;
        }
        let Message { term, body } = message;
        match body {
            // Asking does not change anybody's term.
            Body::PreVote { campaign, last } => return self.on_pre_vote(from, term, campaign, last),
            // Nor does a candidate's, as long as there is a leader: the candidate may have been cut off
            // while the rest of the cluster works (thesis §4.2.3).
            Body::Vote { transfer: false, .. } if self.hears_from_leadership() => return,
            _ => {}
        }
        if term > self.term && self.is_disturbance(from, &body) {
            return;
        }
        self.maybe_step_down(term);
        match body {
            // Tied to its campaign instead of a term: those who grant may be in an older term.
            Body::PreVoteReply { campaign, granted } => self.on_pre_vote_reply(from, campaign, granted),
            body if term < self.term => self.on_outdated(from, &body),
            Body::Vote { last, .. } => self.on_vote(from, last),
            Body::VoteReply { granted } => self.on_vote_reply(from, granted),
            Body::Append { previous, entries, commit, round } => {
                self.on_append(from, previous, entries, commit, round);
            }
            Body::Heartbeat { commit, round } => self.on_heartbeat(from, commit, round),
            Body::AppendAck { matched, round } => self.on_append_ack(from, matched, round),
            Body::AppendReject { rejected, hint, round } => {
                self.on_append_reject(from, rejected, hint, round);
            }
            Body::HeartbeatAck { matched, round } => self.on_heartbeat_ack(from, matched, round),
            Body::ReadIndex { request } => self.on_read_index(from, request),
            Body::ReadIndexReply { request, index } => self.on_read_index_reply(from, request, index),
            Body::CampaignNow => self.on_campaign_now(from),
            // All it had to say was its term.
            Body::Outdated | Body::PreVote { .. } => {}
        }
    }

    /// Whether a newer term need not end this leadership: one that is no member any more, and may not even know,
    /// speaks of it. But whoever leads, or is wanted by a leader, knows of members that we do not know of.
    fn is_disturbance(&self, from: NodeId, body: &Body<C>) -> bool {
        let leads = matches!(body, Body::Append { .. } | Body::Heartbeat { .. } | Body::Vote { .. });
        matches!(self.state, State::Leader(_)) && !leads && !self.configuration().contains(from)
    }

    /// A message of an older term: its sender must learn of the newer one if it leads or wants to.
    fn on_outdated(&mut self, from: NodeId, body: &Body<C>) {
        match body {
            Body::Append { .. } | Body::Heartbeat { .. } => self.send(from, Body::Outdated),
            Body::Vote { .. } => self.send(from, Body::VoteReply { granted: false }),
            _ => {}
        }
    }

    fn on_persisted(&mut self, write: WriteId) {
        self.disk.on_persisted(write, &mut self.outputs);
        let before = self.log.persisted();
        self.log.on_persisted(write);
        match &mut self.state {
            State::Follower(follower) => follower.disk_moved |= self.log.persisted() > before,
            State::Candidate(_) => self.count_own_vote(),
            // A leader's commit index is computed when outputs are gathered.
            State::PreCandidate(_) | State::Leader(_) => {}
        }
    }

    fn on_snapshot_taken(&mut self, meta: &SnapshotMeta, keep_after: Index) {
        assert!(keep_after <= meta.position.index, "entries after a snapshot are still needed");
        self.log.on_snapshot(meta.position.index);
        self.log.compact(keep_after);
        self.memberships.on_compact(self.log.start().index);
    }

    fn on_forget(&mut self, index: Index) {
        self.log.compact(index.min(self.log.persisted()).min(self.log.emitted()));
        self.memberships.on_compact(self.log.start().index);
    }

    fn on_wake(&mut self) {
        match &self.state {
            State::Follower(Follower { election_at, .. })
            | State::PreCandidate(Campaign { election_at, .. })
            | State::Candidate(Campaign { election_at, .. }) => {
                if self.now >= *election_at {
                    self.on_election_timeout();
                }
            }
            State::Leader(_) => self.on_leader_wake(),
        }
    }

    fn on_read(&mut self, id: ReadId) {
        let joined = match &mut self.state {
            State::Leader(leader) => leader.join_read(id, self.config.reads_max),
            State::Follower(follower) => follower.join_read(id, self.config.reads_max),
            State::PreCandidate(_) | State::Candidate(_) => false,
        };
        if !joined {
            self.outputs.push_back(Output::ReadDropped { id });
        }
    }

    /// Somebody speaks of this term. If it is newer, whatever this member was is over.
    fn maybe_step_down(&mut self, term: Term) {
        if term <= self.term {
            return;
        }
        // The election that was already due stays so: candidates who lose do not keep others from trying.
        let election_at = match &self.state {
            State::Follower(follower) => follower.election_at,
            State::PreCandidate(campaign) | State::Candidate(campaign) => campaign.election_at,
            State::Leader(_) => self.random_election_at(),
        };
        self.adopt_term(term);
        self.become_follower(None, election_at);
    }

    /// Takes on a newer term, in which this member has not voted.
    fn adopt_term(&mut self, term: Term) {
        assert!(term > self.term, "terms only grow");
        self.term = term;
        self.vote = None;
        self.disk.on_term();
    }

    /// Votes, once per term.
    fn vote_for(&mut self, candidate: NodeId) {
        assert!(self.vote.is_none(), "a member votes once per term");
        self.vote = Some(candidate);
        self.disk.on_vote();
    }

    /// Changes the part this member plays. What the old one had promised to its owner is dropped.
    fn become_state(&mut self, state: State) {
        let old = mem::replace(&mut self.state, state);
        match old {
            State::Follower(follower) => {
                let dropped = follower.questions.into_ids().map(|id| Output::ReadDropped { id });
                self.outputs.extend(dropped);
            }
            State::Leader(leader) => {
                self.outputs.extend(leader.transfer_outcome(self.term));
                self.outputs.extend(leader.into_reads().map(|id| Output::ReadDropped { id }));
            }
            State::PreCandidate(_) | State::Candidate(_) => {}
        }
    }

    /// Adds an entry to the log; the next write carries it.
    fn append(&mut self, entry: Entry<C>) {
        self.memberships.on_append(&entry);
        self.log.append(entry, self.disk.next());
    }

    /// Sends a message of the current term.
    fn send(&mut self, to: NodeId, body: Body<C>) {
        self.disk.send(to, Message { term: self.term, body }, &mut self.outputs);
    }

    /// Whether this member has recently heard from the leader, or as a leader from its quorum. Then it
    /// helps nobody to become leader: the leadership works, as far as it can tell.
    fn hears_from_leadership(&self) -> bool {
        let contact = match &self.state {
            State::Follower(follower) if follower.leader.is_some() => follower.contact,
            State::Leader(leader) => leader.quorum_contact(self.configuration(), self.config.id, self.now),
            _ => return false,
        };
        self.now.since(contact) < self.config.election_timeout
    }

    /// When the next election is due if this member hears nothing from now on.
    fn random_election_at(&mut self) -> Instant {
        self.now + random_timeout(&mut self.random, &self.config)
    }

    /// Whether this member votes, by the configuration in its log.
    fn is_voter(&self) -> bool {
        self.configuration().is_voter(self.config.id)
    }

    /// Whether this member stands for election when there is no leader.
    fn may_lead(&self) -> bool {
        self.memberships.may_lead(self.config.id, self.log.commit())
    }
}

impl State {
    fn role(&self) -> Role {
        match self {
            State::Follower(_) => Role::Follower,
            State::PreCandidate(_) => Role::PreCandidate,
            State::Candidate(_) => Role::Candidate,
            State::Leader(_) => Role::Leader,
        }
    }

    /// The leader of the current term, as far as member `id` knows.
    fn leader(&self, id: NodeId) -> Option<NodeId> {
        match self {
            State::Follower(follower) => follower.leader,
            State::PreCandidate(_) | State::Candidate(_) => None,
            State::Leader(_) => Some(id),
        }
    }
}

/// Something to do at a time, and what.
type Due = (Instant, &'static str);

/// Whichever comes first.
fn earlier(one: Option<Due>, other: Option<Due>) -> Option<Due> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if other.0 < one.0 { other } else { one }),
        _ => one.or(other),
    }
}

/// An election timeout, at random, so that one member is likely to start, and win, before others do
/// (Raft §5.2).
fn random_timeout(random: &mut ChaCha8Rng, config: &Config) -> Duration {
    let nanos = u64::try_from(config.election_timeout.as_nanos()).unwrap_or(u64::MAX);
    config.election_timeout + Duration::from_nanos(random.next_u64() % nanos)
}
