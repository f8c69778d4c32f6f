//! What the nemesis does to the machines of this depth.

use std::sync::Arc;
use std::time::Duration;

use madsim::runtime::Handle;
use quorate_raft::NodeId;
use quorate_sim::env::clock::TRUE_RATE;
use quorate_sim::env::network::Network;
use quorate_sim::nemesis::{DiskFailure, Fault, FaultLine, World};
use quorate_sim::time::Time;
use quorate_sim::trace::{Event, StatusLine};

use super::clock::lock;
use super::cluster::{Closed, Machine, Shared};
use super::{life, operator};

/// The cluster in the hands of the nemesis.
pub struct Cluster(pub Arc<Shared>);

impl Cluster {
    /// Gives all clocks their usual rate, and starts all members.
    pub fn start_all(&mut self) {
        for machine in self.0.machine_ids() {
            self.set_clock_rate(machine, None);
            self.start(machine);
        }
    }

    /// From now on all clocks are right.
    pub fn correct_clocks(&mut self) {
        for machine in self.0.machine_ids() {
            self.0.with(machine, |machine| machine.clock_rate = TRUE_RATE);
            self.set_clock_rate(machine, None);
        }
    }

    /// After the storm: whoever may run, does.
    pub fn start_whoever_is_down(&mut self) {
        for machine in self.0.machine_ids() {
            self.start(machine);
        }
    }
}

impl World for Cluster {
    fn leader(&self) -> Option<NodeId> {
        self.0.leader()
    }

    fn network(&mut self, change: &mut dyn FnMut(&mut Network)) {
        change(&mut lock(&self.0.network));
    }

    fn crash(&mut self, machine: NodeId) {
        let taken = self.0.with(machine, |it| {
            let life = it.life.take()?;
            it.seen = StatusLine::default();
            Some((life, it.disk.clone()))
        });
        let Some((life, disk)) = taken.flatten() else { return };
        let status = life.ready.as_ref().map(|(_, handle)| StatusLine::from(&handle.status()));
        Handle::current().kill(life.spawner.id());
        // From here on nothing of that life runs any more, so nothing of it reaches the disk.
        disk.crash();
        let down = lock(&self.0.machines).iter().all(|machine| machine.life.is_none());
        lock(&self.0.coverage).on_crash(&status.unwrap_or_default(), down);
        self.0.count_crash();
        self.0.note(Event::Crash(machine), None);
    }

    fn start(&mut self, machine: NodeId) {
        life::start(&self.0, machine);
    }

    fn pause(&mut self, machine: NodeId) {
        self.0.with(machine, |it| it.paused = true);
        self.0.with_life(machine, |life| Handle::current().pause(life.spawner.id()));
    }

    fn resume(&mut self, machine: NodeId) {
        self.0.with(machine, |it| it.paused = false);
        self.0.with_life(machine, |life| Handle::current().resume(life.spawner.id()));
    }

    fn set_clock_rate(&mut self, machine: NodeId, rate: Option<u64>) {
        let usual = self.0.with(machine, |it| it.clock_rate).unwrap_or(TRUE_RATE);
        self.0.change_clock(machine, |clock, time| clock.set_rate(time, rate.unwrap_or(usual)));
    }

    fn jump_clock(&mut self, machine: NodeId, by: Duration) {
        self.0.change_clock(machine, |clock, time| clock.jump(time, by));
    }

    fn slow_disk(&mut self, machine: NodeId, factor: u32, until: Time) {
        self.0.with(machine, |it| it.disk.set_slower(factor, until));
    }

    /// Letters, calls and the disk wait; nothing of a task's own work takes time here.
    fn slow_cpu(&mut self, machine: NodeId, by: Duration) {
        self.0.with(machine, |it| {
            it.delay = by;
            it.disk.set_delay(by);
        });
    }

    fn disconnect(&mut self, machine: NodeId) {
        let calls = self.0.with_life(machine, |life| std::mem::take(&mut life.calls)).unwrap_or_default();
        calls.iter().for_each(madsim::task::AbortHandle::abort);
    }

    fn fail_disk(&mut self, machine: NodeId, failure: DiskFailure) {
        let down = !matches!(failure, DiskFailure::Full | DiskFailure::FailedSync);
        if down {
            self.crash(machine);
        }
        let failing = self.0.with(machine, |it| it.disk.fail(failure)).unwrap_or(false);
        if down && failing {
            // Whoever looks after the machines tries to start it: it must refuse.
            self.start(machine);
        }
    }

    fn repair_disk(&mut self, machine: NodeId, failure: DiskFailure) {
        self.0.with(machine, |it| it.disk.repair(failure));
    }

    fn admits(&self, fault: &Fault) -> bool {
        operator::may_happen(&self.0, fault)
    }

    fn extras(&self) -> Vec<NodeId> {
        self.0.machine_ids().into_iter().filter(|machine| machine.0 > self.0.options.members).collect()
    }

    fn operate(&mut self, fault: Fault) {
        operator::operate(&self.0, fault);
    }

    fn lose_disk(&mut self, machine: NodeId) {
        operator::disk_is_lost(&self.0, machine);
        self.crash(machine);
        let options = &self.0.options;
        self.0.with(machine, |it| {
            it.disk = Machine::new(NodeId(machine.0 + it.boots * 8), options).disk;
            it.disk.set_delay(it.delay);
            it.closed = Some(Closed::NoDisk);
        });
    }

    fn replace_disk(&mut self, machine: NodeId) {
        self.0.with(machine, |it| it.closed.take_if(|closed| *closed == Closed::NoDisk));
        self.start(machine);
    }

    fn note(&mut self, line: FaultLine) {
        lock(&self.0.coverage).on_fault(&line);
        self.0.note(Event::Fault(line), None);
    }
}
