//! What the nemesis does to the members of this depth.

use std::time::Duration;

use quorate_raft::{NodeId, Role};

use super::{Event, Simulation};
use crate::env::network::Network;
use crate::nemesis::{FaultLine, World};
use crate::time::Time;
use crate::trace::Event as Traced;

impl World for Simulation {
    fn leader(&self) -> Option<NodeId> {
        let leaders = self.members.iter().filter(|member| member.status.role == Role::Leader);
        leaders.max_by_key(|member| member.status.term).map(|member| member.id)
    }

    fn network(&mut self, change: &mut dyn FnMut(&mut Network)) {
        change(&mut self.network);
    }

    fn crash(&mut self, node: NodeId) {
        if !self.member(node).is_up() {
            return;
        }
        self.crashes += 1;
        self.invariants.on_crash(node);
        let member = &mut self.members[super::place(node)];
        member.storage.crash(&mut self.disk_random);
        member.forget();
        for asker in member.drop_watchers() {
            self.queue.push(self.time + super::REFUSAL, Event::WatchLost { asker });
        }
        self.note(Traced::Crash(node), None);
    }

    fn start(&mut self, node: NodeId) {
        if !self.member(node).is_up() && self.violation.is_none() {
            self.start_member(node);
        }
    }

    fn pause(&mut self, node: NodeId) {
        self.member(node).paused = true;
    }

    fn resume(&mut self, node: NodeId) {
        let member = self.member(node);
        member.paused = false;
        if member.is_up() {
            self.turn(node);
        }
    }

    fn set_clock_rate(&mut self, node: NodeId, rate: Option<u64>) {
        let time = self.time;
        let member = self.member(node);
        let rate = rate.unwrap_or(member.clock_rate);
        member.clock.set_rate(time, rate);
        self.clock_changed(node);
    }

    fn jump_clock(&mut self, node: NodeId, by: Duration) {
        let time = self.time;
        self.member(node).clock.jump(time, by);
        self.clock_changed(node);
    }

    fn slow_disk(&mut self, node: NodeId, factor: u32, until: Time) {
        self.member(node).storage.set_slower(factor, until);
    }

    fn note(&mut self, line: FaultLine) {
        self.note(Traced::Fault(line), None);
    }
}

impl Simulation {
    /// A wake-up that was scheduled by the old clock may come too late by the new one.
    fn clock_changed(&mut self, node: NodeId) {
        self.member(node).wake = None;
        self.schedule_wake(node);
    }
}
