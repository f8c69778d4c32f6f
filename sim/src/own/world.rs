//! What the nemesis does to a cluster that runs somebody's service.

use std::time::Duration;

use quorate_raft::{Input, NodeId, Raft, Role};

use super::Service;
use super::cluster::{Cluster, Event};
use crate::env::network::Network;
use crate::nemesis::{DiskFailure, Fault, FaultLine, Nemesis, World};
use crate::random::{Random, Stream};
use crate::time::Time;

impl<S: Service> Cluster<'_, S> {
    /// Lets the nemesis act.
    pub(super) fn with_nemesis(&mut self, act: impl FnOnce(&mut Nemesis, Time, &mut Self)) {
        let time = self.time;
        let Some(mut nemesis) = self.nemesis.take() else { return };
        act(&mut nemesis, time, self);
        self.nemesis = Some(nemesis);
        self.schedule_nemesis();
    }

    /// Schedules what it does next.
    pub(super) fn schedule_nemesis(&mut self) {
        if let Some(at) = self.nemesis.as_ref().and_then(Nemesis::next_at) {
            self.queue.push(at.max(self.time), Event::Nemesis);
        }
    }
}

impl<S: Service> World for Cluster<'_, S> {
    fn leader(&self) -> Option<NodeId> {
        let rafts = self.members.iter().filter_map(|member| member.raft.as_ref());
        let leaders = rafts.map(Raft::status).filter(|status| status.role == Role::Leader);
        leaders.max_by_key(|status| status.term).map(|status| status.id)
    }

    fn network(&mut self, change: &mut dyn FnMut(&mut Network)) {
        change(&mut self.network);
    }

    fn crash(&mut self, node: NodeId) {
        self.member(node).crash();
    }

    fn start(&mut self, node: NodeId) {
        let (time, seed) = (self.time, self.options.seed);
        let config = self.options.replica_config(node).raft;
        let member = self.member(node);
        if member.raft.is_some() || member.over {
            return;
        }
        member.clock.restart(time);
        let seed = Random::keyed(seed, Stream::Members, node.0, member.boot).any();
        let now = member.clock.now(time);
        member.start(config, seed, now);
        self.input(node, Input::Wake);
    }

    fn pause(&mut self, node: NodeId) {
        self.member(node).paused = true;
    }

    fn resume(&mut self, node: NodeId) {
        let member = self.member(node);
        member.paused = false;
        // What has arrived waits in its inbox.
        member.turn_scheduled = false;
        self.input(node, Input::Wake);
    }

    fn set_clock_rate(&mut self, node: NodeId, rate: Option<u64>) {
        let time = self.time;
        let member = self.member(node);
        member.clock.set_rate(time, rate.unwrap_or(member.clock_rate));
        member.wake.forget();
        self.schedule_wake(node);
    }

    fn jump_clock(&mut self, node: NodeId, by: Duration) {
        let time = self.time;
        let member = self.member(node);
        member.clock.jump(time, by);
        member.wake.forget();
        self.schedule_wake(node);
    }

    fn slow_disk(&mut self, node: NodeId, factor: u32, until: Time) {
        self.member(node).slower = (factor, until);
    }

    fn slow_cpu(&mut self, node: NodeId, by: Duration) {
        self.member(node).cpu_delay = by;
    }

    fn disconnect(&mut self, node: NodeId) {
        self.break_connections(node);
    }

    fn fail_disk(&mut self, node: NodeId, failure: DiskFailure) {
        match failure {
            DiskFailure::Full | DiskFailure::FailedSync => self.member(node).disk_fails = Some(failure),
            // There are no bytes here that could be read wrongly: whoever finds such damage does not start.
            DiskFailure::ReadErrors | DiskFailure::BitRot | DiskFailure::Misdirected => self.crash(node),
        }
    }

    fn repair_disk(&mut self, node: NodeId, _failure: DiskFailure) {
        self.member(node).disk_fails = None;
    }

    fn admits(&self, fault: &Fault) -> bool {
        self.may_operate(fault)
    }

    fn occupant(&self, seat: NodeId) -> NodeId {
        self.sits_for(seat)
    }

    fn lose_disk(&mut self, node: NodeId) {
        self.disk_is_lost(node);
    }

    fn replace_disk(&mut self, _node: NodeId) {
        self.operator_looks();
    }

    fn extras(&self) -> Vec<NodeId> {
        let present = self.members.iter().filter(|member| !member.over).map(|member| member.id);
        present.filter(|id| !self.seats.contains(id)).collect()
    }

    fn operate(&mut self, fault: Fault) {
        self.operate_now(fault);
    }

    fn note(&mut self, line: FaultLine) {
        Cluster::note(self, || format!("nemesis: {line}"));
    }
}
