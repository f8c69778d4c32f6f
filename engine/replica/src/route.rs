//! Requests, from a client's question to whoever can answer it.
//!
//! A request that only the log or the leader can answer waits in `pending`, and is sent to the leader
//! of the present term: to this member's own Raft, or in a message. It is sent again
//!
//! * when another leader, or the same one in another term, becomes known;
//! * when a peer that leads has been silent about it for an election timeout, then for two, for four …,
//!   because messages get lost, and because a member in trouble is not helped by more of them.
//!
//! For commands, `sessions.rs` makes that harmless; keep-alives and questions are harmless anyway. As
//! long as no leader is known requests just wait; the first leader gets them all.

use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use quorate_raft::{Command as _, Instant, NodeId};
use quorate_store::{AlarmKind, Command, LeaseId, Query, Response};
use serde::{Deserialize, Serialize};

use crate::io::{Body, Consistency, Error, Proposal, Request, RequestId, SharedProposal};
use crate::limits::{
    APPLY_LAG_MAX, FORWARD_BYTES_MAX, LEASE_ASKS_MAX, UNCOMMITTED_BYTES_MAX, UNCOMMITTED_MAX,
};
use crate::peer::Message;
use crate::pending::{Ask, Priority, Route, Sent, Waiting};
use crate::reads::{Asker, LeaseAsk, LeaseQuestion, Reader};
use crate::replica::Replica;

/// A command that this replica made up itself and that any leader may propose.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct OwnCommand {
    pub(crate) proposal: SharedProposal,
    sent: Option<Sent>,
}

/// What comes in.
impl Replica {
    pub(crate) fn on_request(&mut self, id: RequestId, request: Request) {
        assert_eq!(id.boot, self.boot, "a request's id names this boot");
        assert!(!id.is_own(), "the upper half of the sequences belongs to the replica");
        if self.removed {
            return self.respond(id, Err(Error::Stopped));
        }
        let ask = match request {
            Request::Status => {
                self.refresh_status();
                let status = self.status().clone();
                return self.respond(id, Ok(Body::Status(status.into())));
            }
            Request::Query { query, consistency: Consistency::Serializable } => {
                return self.answer_query(id, &query);
            }
            Request::Query { query, consistency: Consistency::Linearizable } => Ask::Query(query),
            Request::Command(mut command) => {
                if let Command::MemberAdd { learner: true, auto_promote, .. } = &mut command {
                    *auto_promote |= self.config.auto_promote;
                }
                Ask::Command(SharedProposal::new(self.config.raft.id, id, command))
            }
            Request::Join { owner, name, peer_urls } => {
                let command = Command::MemberJoin { id: candidate_id(owner, id), owner, name, peer_urls };
                Ask::Command(SharedProposal::new(self.config.raft.id, id, command))
            }
            Request::MoveLeader { to } => return self.on_move_leader(id, to),
            Request::KeepAlive(lease) => Ask::KeepAlive(lease),
            Request::TimeToLive { id: lease, keys } => Ask::TimeToLive { lease, keys },
        };
        if let Err(error) = self.admit(id, &ask) {
            return self.respond(id, Err(error));
        }
        let deadline = self.now + self.config.request_timeout;
        self.pending.insert(Waiting { id, deadline, epoch: self.epoch, sent: None, ask });
        self.unsent.push(id);
    }

    /// Whether a request may be taken on.
    pub(crate) fn admit(&mut self, id: RequestId, ask: &Ask) -> Result<(), Error> {
        let unapplied = self.raft.status().commit.0.saturating_sub(self.applied.index.0);
        let priority = priority(ask);
        // What leases need is small, and must not suffer from what is large.
        let full = self.has_too_much_uncommitted() && priority == Priority::Normal;
        if unapplied > APPLY_LAG_MAX || full || !self.pending.has_room(id, priority) {
            return Err(Error::TooManyRequests);
        }
        match ask {
            Ask::Command(proposal) => self.check_quota(&proposal.0.command),
            _ => Ok(()),
        }
    }

    /// Refuses what might outgrow the quota, and raises the alarm, as in etcd: once that is applied, the
    /// stores of all members refuse whatever grows, until an operator has made room and cleared it.
    fn check_quota(&mut self, command: &Command) -> Result<(), Error> {
        let (quota, cost) = (self.config.quota_bytes, command.cost());
        if quota == 0 || cost == 0 || self.store.size_bytes().saturating_add(cost) <= quota {
            return Ok(());
        }
        let (member, kind) = (self.config.raft.id.0, AlarmKind::NoSpace);
        let raised = match self.store.query(&Query::Alarms) {
            Ok(Response::Alarms(alarms)) => alarms.contains(&(member, kind)),
            _ => false,
        };
        if !raised && self.alarm.is_none() {
            let proposal = self.own_proposal(Command::Alarm { member, kind, active: true });
            self.alarm = Some(OwnCommand { proposal, sent: None });
        }
        Err(Error::Store(quorate_store::Error::NoSpace))
    }

    pub(crate) fn on_message(&mut self, from: NodeId, message: Message) {
        self.tell_if_lost(from);
        self.note_sign_of_life(from);
        match message {
            Message::Raft(message) => self.raft_handle(quorate_raft::Input::Message { from, message }),
            Message::Forward(proposals) => self.on_forward(from, proposals),
            Message::KeepAlive { id, lease } => self.on_lease_ask(from, id, lease, LeaseQuestion::KeepAlive),
            Message::TimeToLive { id, lease, keys } => {
                self.on_lease_ask(from, id, lease, LeaseQuestion::TimeToLive { keys });
            }
            Message::KeptAlive { id, ttl } => {
                if let Some(&Ask::KeepAlive(lease)) = self.pending.get(id).map(|waiting| &waiting.ask) {
                    self.answer(id, Body::KeptAlive { id: lease, ttl });
                }
            }
            Message::TimeToLiveReply { id, ttl, granted_ttl, keys } => {
                if let Some(&Ask::TimeToLive { lease, .. }) = self.pending.get(id).map(|it| &it.ask) {
                    self.answer(id, Body::TimeToLive { id: lease, ttl, granted_ttl, keys });
                }
            }
            Message::Chunk { term, chunk } => self.on_chunk(from, term, chunk),
            Message::ChunkUnknown { position, sequence } => self.on_chunk_unknown(from, position, sequence),
            Message::Disowned { boot } => self.on_disowned(boot),
            Message::ChunkAck { position, sequence } => self.on_chunk_ack(from, position, sequence),
        }
    }

    /// A peer takes this member for the leader. If it is not, the peer will notice and send again.
    fn on_forward(&mut self, from: NodeId, proposals: Vec<SharedProposal>) {
        for proposal in proposals {
            if !self.leads() || self.has_too_much_uncommitted() || self.transferring() {
                return;
            }
            let Proposal { origin, id, ref command } = *proposal.0;
            if origin != from {
                continue;
            }
            if self.sessions.seen(origin, id) {
                self.tell_if_old(origin, id);
            } else if command.changes_members() {
                self.queue_change(proposal);
            } else {
                self.propose(proposal);
            }
        }
    }

    /// Gives a command to this member's own Raft.
    pub(crate) fn propose(&mut self, proposal: SharedProposal) {
        self.uncommitted_bytes += proposal.size();
        self.raft_handle(quorate_raft::Input::Propose(proposal));
    }

    /// Raft has not taken a command: this member leads no more, or is handing over. Whatever is pending will be sent to
    /// the next leader; the time of a lease is up again later.
    pub(crate) fn on_refused(&mut self, proposal: &SharedProposal) {
        self.uncommitted_bytes = self.uncommitted_bytes.saturating_sub(proposal.size());
        let retry = self.now + self.patience();
        if let (Command::LeaseRevoke { id }, Some(leases)) = (&proposal.0.command, &mut self.leases)
            && proposal.0.id.is_own()
        {
            self.lease_asks.extend(leases.put_off(*id, retry));
        }
    }

    fn has_too_much_uncommitted(&self) -> bool {
        self.leads()
            && (self.uncommitted() > UNCOMMITTED_MAX || self.uncommitted_bytes > UNCOMMITTED_BYTES_MAX)
    }

    /// How many entries at the end of the log are not known to be committed.
    fn uncommitted(&self) -> u64 {
        let status = self.raft.status();
        status.last.index.0.saturating_sub(status.commit.0)
    }

    fn on_lease_ask(&mut self, from: NodeId, id: RequestId, lease: LeaseId, question: LeaseQuestion) {
        if self.leads() && self.lease_asks.len() < LEASE_ASKS_MAX {
            self.lease_asks.push(LeaseAsk { asker: Asker::Peer(from, id), lease, question });
        }
    }
}

/// What goes out.
impl Replica {
    /// Sends what waits to the leader, if there is one.
    pub(crate) fn route(&mut self) {
        let Some(route) = self.current_route() else {
            // Whoever leads next gets everything.
            self.routed = None;
            self.resend_at = None;
            self.unsent.clear();
            return;
        };
        if self.routed != Some(route) {
            // A leader that was lost and found again may have missed what it was sent meanwhile.
            let found_again = self.routed.is_none();
            self.routed = Some(route);
            self.resend_at = None;
            self.unsent.clear();
            self.held.clear();
            let news = |it: &&Waiting| it.is_news_to(route) || found_again && it.ask.is_resent();
            self.unsent.extend(self.pending.iter().filter(news).map(|it| it.id));
        } else if self.resend_at.is_some_and(|at| at <= self.now) {
            self.collect_silent();
        }
        if !self.transferring() {
            self.unsent.append(&mut self.held);
        }
        if self.unsent.is_empty() {
            if self.alarm.is_some() {
                self.send_alarm(route);
            }
            return;
        }
        let unsent = core::mem::take(&mut self.unsent);
        if route.leader == self.config.raft.id {
            unsent.iter().for_each(|id| self.send_to_self(*id, route));
        } else {
            self.send_to_peer(&unsent, route);
        }
        // Keeps the allocation.
        self.unsent = unsent;
        self.unsent.clear();
        self.send_alarm(route);
    }

    fn send_to_self(&mut self, id: RequestId, route: Route) {
        let transferring = self.transferring();
        let Some(waiting) = self.pending.get_mut(id) else { return };
        if transferring && matches!(waiting.ask, Ask::Command(_)) {
            return self.held.push(id);
        }
        waiting.mark_sent(route, self.now);
        let asker = Asker::Client(id);
        match waiting.ask {
            Ask::Command(ref proposal) => {
                let proposal = proposal.clone();
                if proposal.0.command.changes_members() {
                    self.queue_change(proposal);
                } else {
                    self.propose(proposal);
                }
            }
            Ask::MoveLeader { .. } => {}
            Ask::Query(_) => self.reads.push(Reader::Query(id)),
            Ask::KeepAlive(lease) => {
                self.lease_asks.push(LeaseAsk { asker, lease, question: LeaseQuestion::KeepAlive });
            }
            Ask::TimeToLive { lease, keys } => {
                self.lease_asks.push(LeaseAsk { asker, lease, question: LeaseQuestion::TimeToLive { keys } });
            }
        }
    }

    fn send_to_peer(&mut self, unsent: &[RequestId], route: Route) {
        let (now, patience, to) = (self.now, self.patience(), route.leader);
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for id in unsent.iter().copied() {
            let Some(waiting) = self.pending.get_mut(id) else { continue };
            let due = waiting.mark_sent(route, now).due(patience);
            match waiting.ask {
                Ask::Command(ref proposal) => {
                    let size = proposal.size();
                    let proposal = proposal.clone();
                    if bytes + size > FORWARD_BYTES_MAX && !batch.is_empty() {
                        self.send(to, Message::Forward(core::mem::take(&mut batch)));
                        bytes = 0;
                    }
                    bytes += size;
                    batch.push(proposal);
                }
                Ask::Query(_) => {
                    self.reads.push(Reader::Query(id));
                    continue;
                }
                Ask::MoveLeader { .. } => continue,
                Ask::KeepAlive(lease) => self.send(to, Message::KeepAlive { id, lease }),
                Ask::TimeToLive { lease, keys } => self.send(to, Message::TimeToLive { id, lease, keys }),
            }
            self.resend_by(due);
        }
        if !batch.is_empty() {
            self.send(to, Message::Forward(batch));
        }
    }

    fn send_alarm(&mut self, route: Route) {
        if self.alarm.is_none() {
            return;
        }
        let (now, patience) = (self.now, self.patience());
        let to_self = route.leader == self.config.raft.id;
        if to_self && self.transferring() {
            return;
        }
        let Some(alarm) = &mut self.alarm else { return };
        if let Some(sent) = alarm.sent.filter(|sent| sent.route == route)
            && (to_self || sent.due(patience) > now)
        {
            if !to_self {
                self.resend_by(sent.due(patience));
            }
            return;
        }
        let sent = Sent::again(alarm.sent, route, now);
        alarm.sent = Some(sent);
        let proposal = alarm.proposal.clone();
        if to_self {
            self.propose(proposal);
        } else {
            self.send(route.leader, Message::Forward(vec![proposal]));
            self.resend_by(sent.due(patience));
        }
    }

    /// Finds the requests that the leader has been silent about for too long.
    fn collect_silent(&mut self) {
        let (now, patience) = (self.now, self.patience());
        self.resend_at = None;
        // (The alarm is sent again by `send_alarm`, which also says when next.)
        let alarm = self.alarm.as_ref().and_then(|alarm| alarm.sent).map(|sent| sent.due(patience));
        let mut next = alarm.filter(|due| *due > now);
        for waiting in self.pending.iter().filter(|waiting| waiting.ask.is_resent()) {
            match waiting.sent.map(|sent| sent.due(patience)) {
                Some(due) if due <= now => self.unsent.push(waiting.id),
                Some(due) => next = Some(next.map_or(due, |next| next.min(due))),
                // It has come in this turn, and is in `unsent` already.
                None => {}
            }
        }
        if let Some(next) = next {
            self.resend_by(next);
        }
    }

    /// Notes that something will have to be sent again at this time.
    fn resend_by(&mut self, at: Instant) {
        self.resend_at = Some(self.resend_at.map_or(at, |earliest| earliest.min(at)));
    }

    /// How long a peer may be silent about a message before it is taken for lost.
    pub(crate) fn patience(&self) -> Duration {
        self.config.raft.election_timeout
    }
}

impl Waiting {
    /// Whether a leader that has just become known must be told of this request.
    fn is_news_to(&self, route: Route) -> bool {
        match self.sent {
            None => true,
            Some(sent) => sent.route != route && self.ask.is_resent(),
        }
    }
}

/// An id for a directory that joins: no other request makes the same, and if chance has given it to somebody else,
/// that is refused and the next request makes another. (The finalizer of SplitMix64.)
fn candidate_id(owner: u64, id: RequestId) -> u64 {
    let mut mixed = owner;
    for word in [id.boot, id.sequence] {
        mixed = mixed.wrapping_add(word).wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
    }
    mixed.max(1)
}

/// Who may use the places kept free for leases.
fn priority(ask: &Ask) -> Priority {
    match ask {
        Ask::KeepAlive(_) => Priority::Lease,
        Ask::Command(proposal) => match proposal.0.command {
            Command::LeaseRevoke { .. } => Priority::Lease,
            _ => Priority::Normal,
        },
        // Moving leadership away is what an overloaded leader needs most.
        Ask::MoveLeader { .. } => Priority::Lease,
        Ask::Query(_) | Ask::TimeToLive { .. } => Priority::Normal,
    }
}
