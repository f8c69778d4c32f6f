//! A member's turn: it looks at what has arrived and at its clock, and everything that it asks for is carried
//! out. Then the oracles look at where it stands, and its next wake-up is scheduled.

use quorate_raft::NodeId;
use quorate_replica::{Input, Output, Replica};

use super::member::Member;
use super::timers::Timer;
use super::{Event, Simulation, operator, place};
use crate::env::network::MEMBERS_MAX;
use crate::invariants::{Leader, Violation, Waiting};
use crate::trace::Event as Traced;

impl Simulation {
    /// Something happens to a member. It looks at it now, or, if it gathers inputs, a little later.
    pub(super) fn input(&mut self, node: NodeId, input: Input) {
        let (time, delay) = (self.time, self.options.turn_delay);
        let member = self.member(node);
        if !member.is_up() {
            return;
        }
        if member.paused || member.turn_scheduled || member.in_turn {
            return member.inbox.push(input);
        }
        let delay = delay + member.cpu_delay;
        if delay.is_zero() && member.inbox.is_empty() {
            return self.turn_with(node, Some(input));
        }
        member.inbox.push(input);
        if delay.is_zero() {
            self.turn(node);
        } else {
            member.turn_scheduled = true;
            self.timers.set(node, Timer::Turn, time + delay, &mut self.queue);
        }
    }

    /// A member looks at what has arrived, and at its clock; then everything that it asks for is carried out.
    pub(super) fn turn(&mut self, node: NodeId) {
        self.turn_with(node, None);
    }

    /// A turn that begins with this input, of which nothing waited before it.
    fn turn_with(&mut self, node: NodeId, mut first: Option<Input>) {
        let time = self.time;
        let member = self.member(node);
        if member.paused {
            return;
        }
        member.in_turn = true;
        let now = member.clock.now(time);
        // What was due before now as of the last turn has a wake-up that is due as well.
        let may_be_due = member.wake.may_be_due(time);
        loop {
            let Member { replica, inbox, flight, .. } = self.member(node);
            let Some(replica) = replica else { break };
            if let Some(flight) = flight {
                flight.recorder.turn(now);
            }
            // Inputs first: what came while the member was stopped should be seen before deadlines are
            // judged.
            for input in first.take().into_iter().chain(inbox.drain(..)) {
                if let Some(flight) = flight {
                    flight.recorder.input(&input);
                }
                replica.handle(now, input);
            }
            if may_be_due && replica.deadline().is_some_and(|(at, _)| at <= now) {
                if let Some(flight) = flight {
                    flight.recorder.input(&Input::Wake);
                }
                replica.handle(now, Input::Wake);
            }
            while let Some(output) = self.member(node).replica.as_mut().and_then(Replica::poll_output) {
                if let Some(flight) = &mut self.member(node).flight {
                    flight.recorder.output(&output);
                }
                self.perform(node, output);
            }
            let member = self.member(node);
            if let (Some(flight), Some(replica)) = (&mut member.flight, &mut member.replica) {
                flight.recorder.end(replica);
            }
            if self.member(node).inbox.is_empty() {
                break;
            }
        }
        self.member(node).in_turn = false;
        self.start_disk(node);
        self.observe(node);
        self.schedule_wake(node);
    }

    fn perform(&mut self, node: NodeId, output: Output) {
        match output {
            Output::Send { to, message } => {
                let check = self.invariants.on_send(node, to, self.time, &message);
                self.demand(check);
                self.send(node, to, message);
            }
            Output::Persist(write) => {
                let Simulation { members, invariants, time, options, .. } = self;
                let member = &mut members[place(node)];
                let replica = member.replica.as_ref().expect("who writes is up");
                let (now, patience) = (member.clock.now(*time), options.election_timeout);
                let leader = Leader { replica, now, patience };
                let commit = replica.status().raft.commit.0;
                let check = invariants.on_write(node, &write, commit, leader, || member.clock.reading(*time));
                member.storage.enqueue(write);
                self.demand(check);
            }
            Output::SaveSnapshot { chunk, keep_after: _ } => {
                let member = &mut self.members[place(node)];
                let boot = member.boot;
                if let Some(takes) = member.storage.enqueue_chunk(chunk, self.time) {
                    self.queue.push(self.time + takes, Event::Chunk { node, boot });
                }
            }
            Output::Respond { id, result } => self.respond(node, id, result),
            Output::Watch { watch, update } => self.tell_watcher(node, watch, update),
            Output::Removed => {
                let boot = self.member(node).boot;
                self.queue.push(self.time + operator::FAREWELL, Event::Ended { node, boot });
            }
            Output::Disowned => {
                let detail = format!("n{node} is taken for an old copy of itself");
                self.demand(Err(Violation { invariant: "identity", detail }));
            }
            Output::Peers(_) | Output::Changed(_) => {}
        }
    }

    /// Looks at where a member stands now, and at whether that may be.
    fn observe(&mut self, node: NodeId) {
        let time = self.time;
        let Simulation { members, invariants, nemesis, .. } = self;
        let member = &mut members[place(node)];
        let Some(replica) = &member.replica else { return };
        let now = replica.status().into();
        let check = invariants.on_turn(node, replica, &now, member.clock.now(time));
        if now == member.status {
            return self.demand(check);
        }
        let before = std::mem::replace(&mut member.status, now);
        let leads = now.leader == node.0 && before.leader != node.0;
        let commits = now.leader == node.0 && now.commit > before.commit;
        let first = commits && member.committed_in < now.term;
        if first {
            member.committed_in = now.term;
        }
        if let Some(nemesis) = nemesis {
            if leads {
                nemesis.on_leader(time, node);
            }
            if first {
                nemesis.on_first_commit(time, node);
            }
        }
        let pending = replica.status().pending;
        let scheduled = self.queue.len() + self.timers.len();
        let waiting = Waiting { pending, inbox: member.inbox.len(), scheduled };
        let askers = self.options.load.clients + MEMBERS_MAX as u64;
        let check = check.and_then(|()| invariants.on_status(&before, &now, replica));
        let check = check.and_then(|()| invariants.on_waiting(node, waiting, askers));
        self.coverage.on_status(&before, &now, self.members.iter().map(|member| member.status));
        self.demand(check);
        self.schedule_nemesis();
        self.check_script();
    }

    pub(super) fn wake(&mut self, node: NodeId, number: u64) {
        let time = self.time;
        let member = self.member(node);
        if !member.wake.comes(number) || member.paused || !member.is_up() {
            return;
        }
        if member.turn_scheduled {
            return;
        }
        let now = member.clock.now(time);
        let due = member.replica.as_ref().and_then(Replica::deadline).is_some_and(|(at, _)| at <= now);
        if due && !member.cpu_delay.is_zero() {
            member.turn_scheduled = true;
            let at = time + member.cpu_delay;
            self.timers.set(node, Timer::Turn, at, &mut self.queue);
        } else if due {
            self.turn(node);
            self.note(Traced::Wake(node), Some(node));
        } else {
            self.schedule_wake(node);
        }
    }

    /// Schedules the member's next wake-up, unless an early enough one is scheduled already.
    pub(super) fn schedule_wake(&mut self, node: NodeId) {
        let Simulation { members, queue, wakes, time, .. } = self;
        let member = &mut members[place(node)];
        let deadline = member.replica.as_ref().and_then(Replica::deadline);
        if let Some((at, number)) = member.wake.schedule(deadline, &member.clock, *time, wakes) {
            queue.push(at, Event::Wake { node, number });
        }
    }
}
