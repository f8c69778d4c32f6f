//! What the nemesis does to the members of this depth.

use std::time::Duration;

use quorate_raft::{NodeId, Role};

use super::member::Life;
use super::{Event, Simulation};
use crate::env::network::Network;
use crate::nemesis::{DiskFailure, Fault, FaultLine, World};
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
        self.note(Traced::Fault(line), None);
    }
}

impl Simulation {
    /// A member's disk has failed: its process ends, as the product's does.
    pub(super) fn disk_fails(&mut self, node: NodeId) {
        let time = self.time;
        let storage = &mut self.member(node).storage;
        if storage.loses_unsynced() {
            storage.crash(time);
        } else {
            storage.stop();
        }
        self.process_ends(node);
    }

    /// A member's process is over: nothing is left of it but what is on the disk.
    fn process_ends(&mut self, node: NodeId) {
        self.crashes += 1;
        self.invariants.on_crash(node);
        let alone = self.members.iter().all(|member| member.id == node || !member.is_up());
        let status = self.member(node).status;
        self.coverage.on_crash(&status, alone);
        let member = self.member(node);
        member.forget();
        for asker in member.drop_watchers() {
            self.queue.push(self.time + super::REFUSAL, Event::WatchLost { asker });
        }
        self.note(Traced::Crash(node), None);
    }

    /// A wake-up that was scheduled by the old clock may come too late by the new one.
    fn clock_changed(&mut self, node: NodeId) {
        self.member(node).wake = None;
        self.schedule_wake(node);
    }
}
