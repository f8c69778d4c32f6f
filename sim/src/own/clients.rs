//! Clients of a service: one request at a time, sent again and again until it is answered, at another member each time.

use quorate_jepsen::history::OperationId;
use quorate_raft::{Input, NodeId, Raft, Role};

use super::Service;
use super::cluster::{Cluster, Event};
use super::member::{Attempt, Proposal};

/// A client, and the request it waits for.
#[derive(Clone, Debug)]
pub struct Client<C> {
    /// How many requests it has made.
    number: u64,
    asked: Option<Asked<C>>,
}

#[derive(Clone, Debug)]
struct Asked<C> {
    attempt: Attempt,
    /// The member that was asked last.
    at: NodeId,
    command: C,
    operation: OperationId,
}

impl<C> Default for Client<C> {
    fn default() -> Client<C> {
        Client { number: 0, asked: None }
    }
}

impl<S: Service> Cluster<'_, S> {
    /// A client begins with its next request.
    pub(super) fn think(&mut self, client: u64) {
        if self.calm {
            return;
        }
        self.clients[client as usize].number += 1;
        let number = self.clients[client as usize].number;
        let command = self.service.draw(client, number, &mut self.workload);
        self.note(|| format!("client {client} asks for {command:?}"));
        let operation = self.history.invoke(client, self.time.0, command.clone());
        let attempt = Attempt { client, number, again: 0 };
        let asked = Asked { attempt, at: NodeId(0), command, operation };
        self.clients[client as usize].asked = Some(asked);
        self.send_attempt(client);
    }

    /// Asks some member for what a client waits for.
    fn send_attempt(&mut self, client: u64) {
        let seat = NodeId(self.random.between(1, self.options.members));
        let node = self.sits_for(seat);
        let Some(asked) = &mut self.clients[client as usize].asked else { return };
        asked.at = node;
        let (attempt, command) = (asked.attempt, asked.command.clone());
        if let Some(at) = self.network.send_client(self.time, node) {
            self.queue.push(at, Event::Ask { node, attempt, command });
        }
        self.queue.push(self.time + self.options.load.patience / 4, Event::Patience { attempt });
    }

    /// A member that does not lead passes the question on to the one that does, as far as it knows.
    pub(super) fn ask(&mut self, node: NodeId, attempt: Attempt, command: S::Command) {
        let member = self.member(node);
        if member.paused {
            return;
        }
        let Some(status) = member.raft.as_ref().map(Raft::status) else { return };
        if status.role != Role::Leader {
            let Some(leader) = status.leader else { return };
            let arrivals = self.network.send(self.time, node, leader);
            if let Some(at) = self.network.meddle(node, leader, || "Forward", arrivals).first {
                self.queue.push(at, Event::Ask { node: leader, attempt, command });
            }
            return;
        }
        member.waiting.insert(attempt);
        let proposal = Proposal { origin: node, boot: member.boot, attempt, command: Some(command) };
        self.input(node, Input::Propose(proposal));
    }

    /// A client is answered.
    pub(super) fn answer(&mut self, attempt: Attempt, response: S::Response) {
        let client = &mut self.clients[attempt.client as usize];
        // An answer to an earlier attempt of the same request is as good as one to the last.
        let Some(asked) = client.asked.take_if(|asked| asked.attempt.number == attempt.number) else {
            return;
        };
        self.note(|| format!("client {} is answered {response:?}", attempt.client));
        self.history.ok(asked.operation, self.time.0, response);
        self.summary.answered += 1;
        let think = self.random.exponential_duration(self.options.load.think);
        self.queue.push(self.time + think, Event::Think { client: attempt.client });
    }

    /// A client has waited long enough for this attempt, and makes another one.
    pub(super) fn lose_patience(&mut self, attempt: Attempt) {
        let waiting = self.clients[attempt.client as usize].asked.as_mut();
        let Some(asked) = waiting.filter(|asked| asked.attempt == attempt) else { return };
        asked.attempt.again += 1;
        let command = asked.command.clone();
        self.note(|| format!("client {} asks again for {command:?}", attempt.client));
        self.send_attempt(attempt.client);
    }

    /// Every connection of clients to a member breaks: whoever has asked it asks another one at once.
    pub(super) fn break_connections(&mut self, node: NodeId) {
        self.member(node).waiting.clear();
        let waiting = self.clients.iter().filter_map(|client| client.asked.as_ref());
        let attempts: Vec<Attempt> =
            waiting.filter(|asked| asked.at == node).map(|asked| asked.attempt).collect();
        attempts.into_iter().for_each(|attempt| self.lose_patience(attempt));
    }
}
