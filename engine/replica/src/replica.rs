//! The replica itself: what it is made of, and the turn that moves everything through it.
//!
//! `handle` takes note of things: requests and messages go to where they wait, Raft hears of what is
//! Raft's. `poll_output` makes the outputs: it passes all that waits on to Raft in one go, so that a
//! turn costs one log write, one append per peer and one read round however many requests came in it,
//! and carries out what Raft decides, until there is nothing left to do.

use alloc::boxed::Box;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;

use quorate_raft::{Configuration, Entry, Index, Instant, NodeId, Position, Raft, Role, Term};
use quorate_store::{ImportError, Member, Store, WatchId, WatchRequest, WatchUpdate};
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::io::{Body, Error, Founder, Input, Output, RequestId, Response, Saved, SharedProposal, Write};
use crate::leadership::Preferred;
use crate::leases::Leases;
use crate::membership::Membership;
use crate::peer::Message;
use crate::pending::{Pending, Route};
use crate::reads::{LeaseAsk, Reads};
use crate::route::OwnCommand;
use crate::sessions::Sessions;
use crate::snapshots::{Snapshots, assemble};
use crate::status::Status;

/// One member of the cluster, without I/O.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Replica {
    pub(crate) config: Config,
    pub(crate) boot: u64,
    /// The time of the latest input.
    pub(crate) now: Instant,

    // What is replicated.
    pub(crate) raft: Raft<SharedProposal>,
    pub(crate) store: Store,
    pub(crate) sessions: Sessions,
    /// The last entry that `store` and `sessions` include.
    pub(crate) applied: Position,
    /// The cluster's configuration as of that entry.
    pub(crate) configuration: Configuration,

    // Requests on their way; see `route.rs`, `reads.rs`, `leases.rs`.
    pub(crate) pending: Pending,
    pub(crate) unsent: Vec<RequestId>,
    pub(crate) routed: Option<Route>,
    pub(crate) resend_at: Option<Instant>,
    pub(crate) reads: Reads,
    pub(crate) leases: Option<Leases>,
    pub(crate) lease_asks: Vec<LeaseAsk>,
    pub(crate) own_commands: u64,
    pub(crate) alarm: Option<OwnCommand>,
    /// Commands that wait for the end of a hand-over.
    pub(crate) held: Vec<RequestId>,
    /// Bytes of the commands that this leader has proposed and not applied.
    pub(crate) uncommitted_bytes: usize,

    // Who takes part; see `membership.rs`, `leadership.rs`, `identity.rs`.
    pub(crate) membership: Membership,
    pub(crate) preferred: Option<Preferred>,
    pub(crate) removed: bool,
    pub(crate) disowned: bool,

    pub(crate) snapshots: Snapshots,
    watchers: BTreeSet<WatchId>,

    // What was last seen of Raft's leadership.
    leadership: (Term, Role, Option<NodeId>),
    /// How often the term or the leader has changed.
    pub(crate) epoch: u64,
    last_leader: Option<Route>,

    /// Made, and not yet polled: none between two turns, when images are taken.
    #[serde(skip)]
    pub(crate) outputs: VecDeque<Output>,
    /// Whether something has happened since outputs were last made.
    touched: bool,
    status: Status,
    /// Whether something that `Output::Changed` tells has changed since it was last told.
    pub(crate) changed: bool,
}

impl Replica {
    /// A replica as it was at its last durable write. Draws no randomness beyond `seed`. Fails only on
    /// a snapshot whose chunks do not fit together.
    pub fn recover(config: Config, seed: u64, now: Instant, saved: Saved) -> Result<Replica, ImportError> {
        let Saved { genesis, boot, hard_state, mut snapshot, chunks, entries } = saved;
        let (store, sessions) = if snapshot.position.index == Index(0) {
            snapshot.configuration = initial_configuration(&genesis);
            (founded(genesis), Sessions::default())
        } else {
            assemble(&snapshot, chunks)?
        };
        let (applied, configuration) = (snapshot.position, snapshot.configuration.clone());
        let entries = entries_after(applied, entries);
        let saved = quorate_raft::Saved { hard_state, snapshot, entries };
        let raft = Raft::recover(config.raft.clone(), seed, now, saved);
        let status = raft.status();
        let leadership = (status.term, status.role, status.leader);
        let mut replica = Replica {
            boot,
            now,
            raft,
            store,
            sessions,
            applied,
            configuration,
            pending: Pending::new(boot),
            unsent: Vec::new(),
            routed: None,
            resend_at: None,
            reads: Reads::default(),
            leases: None,
            lease_asks: Vec::new(),
            own_commands: 0,
            alarm: None,
            held: Vec::new(),
            uncommitted_bytes: 0,
            membership: Membership::default(),
            preferred: None,
            removed: false,
            disowned: false,
            snapshots: Snapshots::new(applied.index),
            watchers: BTreeSet::new(),
            leadership,
            epoch: 0,
            last_leader: None,
            outputs: VecDeque::new(),
            touched: true,
            status: Status { quota_bytes: config.quota_bytes, ..Status::default() },
            changed: false,
            config,
        };
        replica.note_priorities();
        replica.refresh_status();
        Ok(replica)
    }

    /// Takes note of something that happened. Outputs are made when they are polled: any number of
    /// `handle` calls, then `poll_output` until `None`, is one turn.
    pub fn handle(&mut self, now: Instant, input: Input) {
        if self.disowned {
            return;
        }
        self.now = self.now.max(now);
        self.touched = true;
        match input {
            Input::Request { id, request } => self.on_request(id, request),
            Input::Cancel { id } => drop(self.pending.remove(id)),
            Input::Message { from, message } => self.on_message(from, message),
            Input::Persisted(id) => self.raft_handle(quorate_raft::Input::Persisted(id)),
            Input::SnapshotSaved { position, sequence } => self.on_snapshot_saved(position, sequence),
            Input::Watch { watch, request } => self.on_watch(watch, request),
            Input::Credit { watch, events } => self.store.credit(watch, events),
            Input::Progress { watch } => self.store.request_progress(watch),
            Input::CancelWatch { watch } => {
                self.watchers.remove(&watch);
                self.store.cancel_watch(watch);
            }
            Input::Wake => {
                self.raft_handle(quorate_raft::Input::Wake);
                // Garbage that no command comes along to remove.
                self.store.maintain();
            }
        }
    }

    /// The next thing to do, until `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        if self.outputs.is_empty() && core::mem::take(&mut self.touched) {
            self.pump();
        }
        // Watchers' news are made one by one, as they are taken: they may be much larger than all else.
        self.outputs.pop_front().or_else(|| if self.disowned { None } else { self.poll_watch() })
    }

    /// When to call `handle(now, Input::Wake)` at the latest, and why.
    pub fn deadline(&self) -> Option<(Instant, &'static str)> {
        if self.disowned {
            return None;
        }
        const NEVER: Instant = Instant(u64::MAX);
        let mut next = self.raft.deadline().unwrap_or((NEVER, ""));
        // Asked for after every turn: no list of them is made.
        let mut consider = |at: Option<Instant>, why| {
            if let Some(at) = at
                && at < next.0
            {
                next = (at, why);
            }
        };
        consider(self.pending.oldest().map(|oldest| oldest.deadline), "request timeout");
        consider(self.resend_at, "unanswered request");
        consider(self.reads.deadline(), "read round");
        consider(self.leases.as_ref().and_then(Leases::deadline), "lease expiry");
        consider(self.transfer_deadline(), "snapshot chunk");
        consider(self.membership.deadline(), "change of the membership");
        consider(self.preference_due(), "hand-over");
        (next.0 != NEVER).then_some(next)
    }

    /// How this member is.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// The store, for invariants and debugging.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The Raft, for invariants and debugging.
    pub fn raft(&self) -> &Raft<SharedProposal> {
        &self.raft
    }

    /// A checksum of everything that is replicated, store and sessions: equal on all members at equal
    /// `applied`.
    pub fn state_hash(&self) -> u64 {
        self.store.state_hash() ^ self.sessions.hash().rotate_left(32)
    }
}

/// Everybody who was there at the beginning has a vote.
fn initial_configuration(genesis: &[Founder]) -> Configuration {
    let voters = genesis.iter().map(|founder| founder.id).collect();
    Configuration { voters, ..Configuration::default() }
}

/// The store at the beginning of the log.
fn founded(genesis: Vec<Founder>) -> Store {
    Store::founded(genesis.into_iter().map(|founder| {
        let Founder { id, owner, name, peer_urls } = founder;
        Member { id: id.0, owner, name, peer_urls, ..Member::default() }
    }))
}

/// The entries that continue a snapshot, of those found on the disk.
///
/// A leader sends a snapshot to a member whose log lacks the snapshot's last entry. What the disk holds
/// after it is then the end of a log that came to nothing: it leaves a gap, or it is older than the
/// snapshot's last entry. If it is neither, it stays for the next leader to replace: no committed history
/// contains it, so no leader takes it for its own, and a majority is ahead of it.
fn entries_after(position: Position, mut entries: Vec<Entry<SharedProposal>>) -> Vec<Entry<SharedProposal>> {
    let continues = |first: &Entry<_>| first.index == position.index.next() && first.term >= position.term;
    if !entries.first().is_some_and(continues) {
        entries.clear();
    }
    entries
}

/// The turn.
impl Replica {
    /// Moves everything on until nothing moves. What feeds Raft comes before Raft is drained, so that
    /// all of it shares Raft's next write, appends and read round.
    fn pump(&mut self) {
        loop {
            self.route();
            self.propose_changes();
            self.maybe_hand_over();
            self.ask_leases();
            self.begin_read_round();
            self.answer_confirmed_reads();
            self.maybe_take_snapshot();
            self.maybe_cut_log();
            self.continue_sending();
            if !self.drain_raft() {
                break;
            }
        }
        if self.disowned {
            return self.end_disowned();
        }
        // Late, so that an answer that came together with the deadline is still given.
        self.expire_requests();
        self.drop_useless_incoming();
        self.tell_peers();
        self.maybe_end_removed();
        self.refresh_status();
        if core::mem::take(&mut self.changed) {
            self.outputs.push_back(Output::Changed(Box::new(self.status.clone())));
        }
    }

    /// Carries out what Raft asks for. Returns whether there was anything after which there may be more to do: what is
    /// only sent or written leaves everything else as it was.
    fn drain_raft(&mut self) -> bool {
        use quorate_raft::Output::{Persist, Send};
        let mut moved = false;
        while let Some(output) = self.raft.poll_output() {
            moved |= !matches!(output, Send { .. } | Persist(_));
            self.on_raft_output(output);
        }
        self.observe_leadership();
        if self.snapshots.received.is_some() {
            // Raft had no use for it.
            self.snapshots.received = None;
        }
        moved
    }

    fn on_raft_output(&mut self, output: quorate_raft::Output<SharedProposal>) {
        use quorate_raft::Output as Raft;
        match output {
            Raft::Send { to, message } => self.send(to, Message::Raft(message)),
            Raft::Persist(write) => {
                let quorate_raft::Write { id, hard_state, entries, sync } = write;
                self.outputs.push_back(Output::Persist(Write { id, hard_state, entries, sync }));
            }
            Raft::Committed(entries) => self.apply(entries),
            Raft::ReadReady { id, index } => self.reads.confirm(id, index),
            Raft::ReadDropped { id } => self.on_read_dropped(id),
            Raft::Refused(proposal) => self.on_refused(&proposal),
            Raft::ChangeRefused { command, reason } => self.on_change_refused(command, reason),
            Raft::ConfigurationChanged { command, .. } => self.on_configuration_in_force(command),
            Raft::TransferEnded { to, ok } => self.on_transfer_ended(to, ok),
            Raft::PeerLostLog { peer, .. } => self.on_peer_lost_log(peer),
            Raft::SnapshotNeeded { to } => self.on_snapshot_needed(to),
            Raft::Restore(meta) => self.restore(meta),
            Raft::RoleChanged => self.observe_leadership(),
        }
    }

    /// Tells Raft something, and looks at once whether that has changed who leads: a leader that hears
    /// of its successor forgets the time of leases before it does anything else.
    pub(crate) fn raft_handle(&mut self, input: quorate_raft::Input<SharedProposal>) {
        self.raft.handle(self.now, input);
        self.observe_leadership();
    }

    #[inline]
    fn observe_leadership(&mut self) {
        let status = self.raft.status();
        let seen = (status.term, status.role, status.leader);
        if seen != self.leadership {
            self.on_leadership(seen);
        }
    }

    /// Somebody else leads, or nobody, or in another term.
    #[cold]
    fn on_leadership(&mut self, seen: (Term, Role, Option<NodeId>)) {
        let (term, role, leader) = core::mem::replace(&mut self.leadership, seen);
        self.changed = true;
        if (term, leader) != (seen.0, seen.2) {
            self.epoch += 1;
            self.drop_incoming_of_others();
        }
        if role == Role::Leader && (seen.1 != Role::Leader || seen.0 != term) {
            self.leases = None;
            self.lease_asks.clear();
            self.stop_sending_all();
            self.membership.reset();
            self.preferred = None;
        }
        if seen.1 == Role::Leader && (role != Role::Leader || seen.0 != term) {
            self.uncommitted_bytes = 0;
            self.membership.reset();
        }
        let route = self.current_route();
        if let Some(leader) = route.filter(|_| route != self.last_leader) {
            self.last_leader = route;
            self.status.leader_changes += 1;
            self.answer_leader_moved(leader.leader);
        }
        self.reads.resume();
    }

    /// The leader, if known.
    pub(crate) fn current_route(&self) -> Option<Route> {
        let status = self.raft.status();
        let leader = if status.role == Role::Leader { Some(status.id) } else { status.leader };
        Some(Route { term: status.term, leader: leader? })
    }

    /// Whether this member leads.
    pub(crate) fn leads(&self) -> bool {
        self.raft.status().role == Role::Leader
    }

    pub(crate) fn send(&mut self, to: NodeId, message: Message) {
        self.outputs.push_back(Output::Send { to, message });
    }

    pub(crate) fn respond(&mut self, id: RequestId, result: Result<Body, Error>) {
        let (revision, term) = (self.store.revision(), self.raft.status().term);
        let result = result.map(|body| Response { revision, term, body });
        self.outputs.push_back(Output::Respond { id, result });
    }

    pub(crate) fn refresh_status(&mut self) {
        let status = &mut self.status;
        status.raft.clone_from(self.raft.status());
        status.applied = self.applied.index;
        status.snapshot = self.snapshots.durable;
        status.revision = self.store.revision();
        status.store_bytes = self.store.size_bytes();
        status.pending = self.pending.len();
        status.watchers = self.watchers.len();
        status.learner = self.configuration.learners.contains(&self.config.raft.id);
        status.voters = self.configuration.voters.len();
        status.learners = self.configuration.learners.len();
        status.members = status.voters + status.learners;
        status.removed = self.removed;
        status.promotions = self.membership.promotions;
        status.members_corrected = self.membership.corrected;
        status.lessor = self.leases.is_some();
        status.snapshots_refused = self.snapshots.refused;
    }
}

/// Watchers.
impl Replica {
    fn on_watch(&mut self, watch: WatchId, request: WatchRequest) {
        self.watchers.insert(watch);
        self.store.watch(watch, request);
    }

    fn poll_watch(&mut self) -> Option<Output> {
        let (watch, update) = self.store.poll_watch()?;
        if matches!(update, WatchUpdate::Compacted { .. }) {
            self.watchers.remove(&watch);
        }
        Some(Output::Watch { watch, update })
    }
}
