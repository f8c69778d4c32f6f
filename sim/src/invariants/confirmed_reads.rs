//! A leader gives away a read index only when it knows that it still leads (Raft §8, thesis §6.4): *after* the
//! question came, a quorum has acknowledged something to it in its term. No follower confirms what it has not
//! heard. And a client's read is answered only after such a confirmation, or after a leader's answer to a question
//! that this process has asked after the client (etcd issue 21378: an answer to an earlier question). The same goes for what
//! a leader says of a lease (etcd issue 20615: a keep-alive answered by who leads no more).
//!
//! A stale read takes a leader that was deposed without noticing, a write at its successor, and a client that asks the
//! one and then the other (etcd issues 20418 and 21399). A confirmation that confirms nothing is there all the time.
//! Seen on the wire, and where clients ask.

use std::collections::VecDeque;

use quorate_raft::{Body, Message, NodeId, Role, Term};
use quorate_replica::SharedProposal;

use super::logs::{Logs, quorum};
use super::{Check, broken};
use crate::env::network::MEMBERS_MAX;
use crate::time::Time;
use crate::trace::StatusLine;

/// What members have heard from each other.
#[derive(Debug, Default)]
pub struct ConfirmedReads {
    heard: [[Heard; MEMBERS_MAX]; MEMBERS_MAX],
    asks: [Asks; MEMBERS_MAX],
}

/// What a member's process has asked and was asked.
#[derive(Debug, Default)]
struct Asks {
    /// Its questions to leaders, and when it first asked each.
    questions: VecDeque<(u64, Time)>,
    /// When it asked the latest question that was answered.
    answered: Option<Time>,
    /// Clients' reads that wait.
    reads: Vec<Waits>,
}

/// A client's question that waits.
#[derive(Clone, Copy, Debug)]
struct Waits {
    number: u64,
    since: Time,
    /// It is about a lease, which only a leader knows, and the member led in this term when it arrived.
    of_leader: Option<u64>,
}

/// What a member has heard from another one, in the latest term of that.
#[derive(Debug, Default)]
struct Heard {
    term: Term,
    /// The latest acknowledgement that has arrived: in which term it was sent, and when. A newer term does not make it
    /// undone: what arrives together is handled in order, and a leader that has heard from its followers answers before it
    /// hears that one of them stands for election.
    acknowledged: Option<(Term, Time)>,
    /// Its questions, and when they arrived first.
    questions: VecDeque<(u64, Time)>,
    /// The newest read round that it has announced.
    round: u64,
}

impl ConfirmedReads {
    /// A message arrives.
    pub fn on_deliver(
        &mut self,
        from: NodeId,
        to: NodeId,
        sent: Time,
        now: Time,
        message: &Message<SharedProposal>,
    ) {
        // The one message that is not of its sender's term.
        if matches!(message.body, Body::PreVote { .. }) {
            return;
        }
        let heard = &mut self.heard[to.0 as usize][from.0 as usize];
        if matches!(
            message.body,
            Body::AppendAck { .. } | Body::AppendReject { .. } | Body::HeartbeatAck { .. }
        ) {
            heard.acknowledged = heard.acknowledged.max(Some((message.term, sent)));
        }
        if message.term > heard.term {
            *heard = Heard { term: message.term, acknowledged: heard.acknowledged, ..Heard::default() };
        }
        if message.term < heard.term {
            return;
        }
        match message.body {
            Body::ReadIndexReply { request, .. } => {
                let asks = &mut self.asks[to.0 as usize];
                let asked = asks.questions.iter().find(|(it, _)| *it == request).map(|(_, asked)| *asked);
                asks.answered = asks.answered.max(asked);
            }
            Body::Append { round, .. } | Body::Heartbeat { round, .. } => {
                heard.round = heard.round.max(round)
            }
            Body::ReadIndex { request } if !heard.questions.iter().any(|(it, _)| *it == request) => {
                if heard.questions.len() == QUESTIONS_KEPT {
                    heard.questions.pop_front();
                }
                heard.questions.push_back((request, now));
            }
            _ => {}
        }
    }

    /// A member loses power.
    pub fn on_crash(&mut self, node: NodeId) {
        self.asks[node.0 as usize] = Asks::default();
    }

    /// A client's read arrives at a member.
    pub fn on_read(&mut self, node: NodeId, number: u64, now: Time) {
        self.asks[node.0 as usize].reads.push(Waits { number, since: now, of_leader: None });
    }

    /// A client's question about a lease arrives at a leader.
    pub fn on_lease_asked(&mut self, node: NodeId, number: u64, term: u64, now: Time) {
        let of_leader = Some(term);
        self.asks[node.0 as usize].reads.push(Waits { number, since: now, of_leader });
    }

    /// A client's request is answered by a member that stood there before this turn; perhaps it is such a question.
    /// (Of a lease, another leader may have told a member that leads no more.)
    pub fn on_answered(
        &mut self,
        logs: &Logs,
        node: NodeId,
        number: u64,
        status: &StatusLine,
        well: bool,
    ) -> Check {
        let asks = &mut self.asks[node.0 as usize];
        let Some(at) = asks.reads.iter().position(|read| read.number == number) else { return Ok(()) };
        let Waits { since: asked, of_leader, .. } = asks.reads.swap_remove(at);
        if of_leader.is_some_and(|term| status.role != Role::Leader || status.term != term) {
            return Ok(());
        }
        let since = |time: Option<Time>| time.is_some_and(|time| time >= asked);
        let heard = &self.heard[node.0 as usize];
        let confirms =
            |id: NodeId| id == node || since(heard[id.0 as usize].acknowledged.map(|(_, sent)| sent));
        if !well || since(asks.answered) || quorum(logs.configuration(node, logs.log(node).last()), confirms)
        {
            return Ok(());
        }
        broken("confirmed reads", || {
            format!(
                "n{node} answers what was asked at {asked} without asking the leader or, as the leader, a quorum since"
            )
        })
    }

    /// A member asks or answers a question, or acknowledges something. `now` is when.
    pub fn on_send(
        &mut self,
        logs: &Logs,
        from: NodeId,
        to: NodeId,
        now: Time,
        message: &Message<SharedProposal>,
    ) -> Check {
        match message.body {
            Body::ReadIndex { request } => {
                let questions = &mut self.asks[from.0 as usize].questions;
                if !questions.iter().any(|(it, _)| *it == request) {
                    if questions.len() == QUESTIONS_KEPT {
                        questions.pop_front();
                    }
                    questions.push_back((request, now));
                }
                Ok(())
            }
            Body::ReadIndexReply { request, .. } => self.on_answer(logs, from, to, message.term, request),
            Body::AppendAck { round, .. }
            | Body::AppendReject { round, .. }
            | Body::HeartbeatAck { round, .. } => {
                let heard = &self.heard[from.0 as usize][to.0 as usize];
                let announced = if heard.term == message.term { heard.round } else { 0 };
                if round <= announced || heard.term > message.term {
                    return Ok(());
                }
                broken("confirmed reads", || {
                    format!("n{from} confirms read round {round} of n{to}, and has heard of {announced} only")
                })
            }
            _ => Ok(()),
        }
    }

    fn on_answer(&self, logs: &Logs, leader: NodeId, to: NodeId, term: Term, request: u64) -> Check {
        let asked = &self.heard[leader.0 as usize][to.0 as usize];
        let arrived = asked.questions.iter().find(|(it, _)| *it == request).map(|(_, arrived)| *arrived);
        let Some(arrived) = arrived.filter(|_| asked.term == term) else { return Ok(()) };
        let confirms = |id: NodeId| {
            let heard = &self.heard[leader.0 as usize][id.0 as usize];
            let in_time = |(of, sent): (Term, Time)| of == term && sent >= arrived;
            id == leader || heard.acknowledged.is_some_and(in_time)
        };
        let configuration = logs.configuration(leader, logs.log(leader).last());
        if quorum(configuration, confirms) {
            return Ok(());
        }
        broken("confirmed reads", || {
            let who: Vec<String> =
                configuration.voters.iter().filter(|id| confirms(**id)).map(|id| format!("n{id}")).collect();
            format!(
                "n{leader} answers a read of n{to} in term {term}; since it was asked at {arrived}, {} of {} voters \
                 have confirmed that it leads",
                who.join(", "),
                configuration.voters.len()
            )
        })
    }
}

/// A follower asks again and again with its latest number: older ones are answered soon or never.
const QUESTIONS_KEPT: usize = 64;
