//! A member's process starts from what is on its disk, and ends.

use quorate_raft::NodeId;
use quorate_replica::Replica;

use super::flight::Flight;
use super::{Event, REFUSAL, Simulation, place};
use crate::invariants::Violation;
use crate::random::{Random, Stream};
use crate::trace::Event as Traced;

impl Simulation {
    pub(super) fn start_member(&mut self, node: NodeId) {
        let time = self.time;
        let (seed, config) = (self.options.seed, self.options.replica_config(node));
        let Simulation { members, decoded, .. } = self;
        let member = &mut members[place(node)];
        assert!(!member.is_up(), "n{node} is started while it runs");
        member.clock.restart(time);
        let saved = match member.storage.recover(decoded) {
            Ok(_) if member.storage.is_damaged() => return self.start_with_damage(node),
            Ok(saved) => saved,
            Err(_) if member.storage.is_damaged() => return,
            Err(detail) => return self.refuse_start(node, &detail),
        };
        member.boot = saved.boot;
        let boot = saved.boot;
        let now = member.clock.now(time);
        let seed = Random::keyed(seed, Stream::Members, node.0, boot).any();
        self.coverage.on_start(node, saved.snapshot.position.index.0, saved.entries.len());
        let check = self.invariants.on_start(node, &saved);
        self.demand(check);
        match Replica::recover(config, seed, now, saved) {
            Ok(mut replica) => {
                let flight = self.watch.fly.then(|| Flight::begin(&mut replica));
                let member = self.member(node);
                (member.replica, member.flight) = (Some(replica), flight);
            }
            Err(error) => return self.refuse_start(node, &error.to_string()),
        }
        self.turn(node);
        self.note(Traced::Start { node, boot }, Some(node));
    }

    /// Bytes that a member had synced have changed, and it starts all the same.
    fn start_with_damage(&mut self, node: NodeId) {
        let detail = format!("n{node} starts from a log in which bytes that were synced have changed");
        self.demand(Err(Violation { invariant: "damage is noticed", detail }));
    }

    fn refuse_start(&mut self, node: NodeId, detail: &str) {
        let detail = format!("n{node} cannot start from what a crash has left on its disk: {detail}");
        self.demand(Err(Violation { invariant: "recovery", detail }));
    }

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
    pub(super) fn process_ends(&mut self, node: NodeId) {
        self.end_flight(node);
        self.crashes += 1;
        self.invariants.on_crash(node);
        let alone = self.members.iter().all(|member| member.id == node || !member.is_up());
        let status = self.member(node).status;
        self.coverage.on_crash(&status, alone);
        self.operator_hears_of_the_end(node);
        self.timers.clear_all(node);
        let member = self.member(node);
        member.forget();
        for asker in member.drop_watchers() {
            self.queue.push(self.time + REFUSAL, Event::WatchLost { asker });
        }
        self.note(Traced::Crash(node), None);
        self.check_script();
    }
}
