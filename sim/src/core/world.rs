//! When the nemesis acts, and what it does to the members of this depth.

use std::time::Duration;

use quorate_raft::{NodeId, Role};

use super::member::Life;
use super::{Event, Simulation};
use crate::env::network::Network;
use crate::nemesis::{DiskFailure, Fault, FaultLine, Nemesis, Step, World};
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
        let time = self.time;
        self.member(node).storage.crash(time);
        self.process_ends(node);
    }

    fn start(&mut self, node: NodeId) {
        let member = self.member(node);
        if !member.is_up() && member.life == Life::Present && self.violation.is_none() {
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

    fn slow_cpu(&mut self, node: NodeId, by: Duration) {
        self.member(node).cpu_delay = by;
    }

    fn disconnect(&mut self, node: NodeId) {
        self.break_connections(node);
    }

    fn fail_disk(&mut self, node: NodeId, failure: DiskFailure) {
        let time = self.time;
        match failure {
            DiskFailure::Full | DiskFailure::FailedSync => {
                self.member(node).storage.fail(failure, time);
            }
            DiskFailure::ReadErrors => self.crash(node),
            DiskFailure::BitRot | DiskFailure::Misdirected => {
                self.crash(node);
                if self.member(node).storage.fail(failure, time) && self.violation.is_none() {
                    // Whoever looks after the machines tries to start it: it must refuse.
                    self.start_member(node);
                }
            }
        }
    }

    fn repair_disk(&mut self, node: NodeId, _failure: DiskFailure) {
        self.member(node).storage.repair();
    }

    fn admits(&self, fault: &Fault) -> bool {
        self.may_operate(fault)
    }

    fn occupant(&self, seat: NodeId) -> NodeId {
        self.operator.occupant(seat)
    }

    fn extras(&self) -> Vec<NodeId> {
        self.present().map(|member| member.id).filter(|id| !self.operator.is_seated(*id)).collect()
    }

    fn operate(&mut self, fault: Fault) {
        self.operate_now(fault);
    }

    fn lose_disk(&mut self, node: NodeId) {
        self.disk_is_lost(node);
    }

    fn replace_disk(&mut self, _node: NodeId) {
        self.disk_is_replaced();
    }

    fn note(&mut self, line: FaultLine) {
        self.coverage.on_fault(&line);
        self.invariants.on_unrest();
        self.note(Traced::Fault(line), None);
    }
}

impl Simulation {
    /// Schedules the nemesis, unless it is scheduled early enough.
    pub(super) fn schedule_nemesis(&mut self) {
        let Some(at) = self.nemesis.as_ref().and_then(Nemesis::next_at) else { return };
        let at = at.max(self.time);
        if self.nemesis_at.is_none_or(|scheduled| at < scheduled) {
            self.nemesis_at = Some(at);
            self.queue.push(at, Event::Nemesis);
        }
    }

    pub(super) fn nemesis_acts(&mut self) {
        if self.nemesis_at != Some(self.time) {
            return; // An earlier event has taken this one's place.
        }
        self.nemesis_at = None;
        let Some(mut nemesis) = self.nemesis.take() else { return };
        nemesis.step(self.time, self);
        self.nemesis = Some(nemesis);
        self.schedule_nemesis();
    }

    /// Every fault that has begun so far.
    pub(super) fn faults_begun(&self) -> &[Step] {
        self.nemesis.as_ref().map_or(&self.faults_begun[..], |nemesis| nemesis.begun())
    }

    /// A wake-up that was scheduled by the old clock may come too late by the new one.
    fn clock_changed(&mut self, node: NodeId) {
        self.member(node).wake.forget();
        self.schedule_wake(node);
    }
}
