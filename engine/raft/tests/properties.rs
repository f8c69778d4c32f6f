//! Random schedules of everything that can happen to clusters of three and five: messages delivered
//! late, twice, out of order or never; writes that finish late; crashes that lose or tear what was
//! not durable; time passing differently for everybody; proposals, reads, snapshots.
//!
//! Safety is checked at every step by `quorate_raft::testing::Invariants`. Then the faults stop, and
//! the cluster must agree, answer and stay quiet: liveness.

use std::time::Duration;

use proptest::prelude::*;
use quorate_raft::testing::Cluster;
use quorate_raft::{Command, Configuration, Index, Input, NodeId, Role};

#[derive(Clone, Debug, PartialEq)]
struct Value(u64);

impl Command for Value {
    fn size(&self) -> usize {
        8
    }
}

/// Something that happens. Members and places are chosen modulo what there is.
#[derive(Clone, Copy, Debug)]
enum Action {
    /// The oldest message of the network arrives, or one of the later ones.
    Deliver {
        place: usize,
    },
    /// A message arrives, and will arrive again.
    Duplicate {
        place: usize,
    },
    Drop {
        place: usize,
    },
    /// All messages to and from a member are lost.
    Isolate {
        member: u64,
    },
    /// Everything arrives and is written, for a while.
    Settle {
        steps: u8,
    },
    Persist {
        member: u64,
        count: usize,
    },
    Crash {
        member: u64,
        survive: usize,
        torn: usize,
    },
    Restart {
        member: u64,
    },
    Propose {
        member: u64,
        count: u8,
    },
    Read {
        member: u64,
    },
    Timeout {
        member: u64,
    },
    Advance {
        member: u64,
        millis: u64,
    },
    Snapshot {
        member: u64,
        keep: u64,
    },
    Transfer {
        place: usize,
        success: bool,
    },
}

fn action() -> impl Strategy<Value = Action> {
    let member = || 0u64..5;
    // Mostly in order, sometimes not.
    let place = || prop_oneof![3 => Just(0usize), 1 => 0usize..100];
    prop_oneof![
        30 => place().prop_map(|place| Action::Deliver { place }),
        3 => place().prop_map(|place| Action::Duplicate { place }),
        5 => place().prop_map(|place| Action::Drop { place }),
        1 => member().prop_map(|member| Action::Isolate { member }),
        3 => (1u8..40).prop_map(|steps| Action::Settle { steps }),
        12 => (member(), 1usize..4).prop_map(|(member, count)| Action::Persist { member, count }),
        2 => (member(), 0usize..3, 0usize..3)
            .prop_map(|(member, survive, torn)| Action::Crash { member, survive, torn }),
        3 => member().prop_map(|member| Action::Restart { member }),
        6 => (member(), 1u8..4).prop_map(|(member, count)| Action::Propose { member, count }),
        4 => member().prop_map(|member| Action::Read { member }),
        5 => member().prop_map(|member| Action::Timeout { member }),
        5 => (member(), 1u64..1500).prop_map(|(member, millis)| Action::Advance { member, millis }),
        2 => (member(), 0u64..4).prop_map(|(member, keep)| Action::Snapshot { member, keep }),
        3 => (0usize..4, any::<bool>()).prop_map(|(place, success)| Action::Transfer { place, success }),
    ]
}

struct Run {
    cluster: Cluster<Value>,
    size: u64,
    proposed: u64,
}

impl Run {
    fn new(size: u64, seed: u64, pre_vote: bool) -> Run {
        let configuration =
            Configuration { voters: (1..=size).map(NodeId).collect(), ..Configuration::default() };
        // Small limits, so that they are met.
        let cluster = Cluster::new(seed, &configuration, |config| {
            config.append_bytes_max = 100;
            config.inflight_max = 3;
            config.reads_max = 8;
            config.pre_vote = pre_vote;
        });
        Run { cluster, size, proposed: 0 }
    }

    fn id(&self, member: u64) -> NodeId {
        NodeId(1 + member % self.size)
    }

    fn act(&mut self, action: Action) {
        let pending = self.cluster.network.len();
        match action {
            Action::Deliver { place } if pending > 0 => self.cluster.deliver(place % pending),
            Action::Duplicate { place } if pending > 0 => {
                let copy = self.cluster.network[place % pending].clone();
                self.cluster.network.push(copy);
                self.cluster.deliver(place % pending);
            }
            Action::Drop { place } if pending > 0 => {
                self.cluster.network.remove(place % pending);
            }
            Action::Deliver { .. } | Action::Duplicate { .. } | Action::Drop { .. } => {}
            Action::Isolate { member } => {
                let id = self.id(member);
                self.cluster.network.retain(|envelope| envelope.from != id && envelope.to != id);
            }
            Action::Settle { steps } => (0..steps).for_each(|_| self.step()),
            Action::Persist { member, count } => {
                self.cluster.persist(self.id(member), count);
            }
            Action::Crash { member, survive, torn } => self.cluster.crash(self.id(member), survive, torn),
            Action::Restart { member } => self.restart(self.id(member)),
            Action::Propose { member, count } => self.propose(member, count),
            Action::Read { member } => {
                self.cluster.read(self.id(member));
            }
            Action::Timeout { member } => {
                self.cluster.timeout(self.id(member));
            }
            Action::Advance { member, millis } => {
                self.cluster.advance(self.id(member), Duration::from_millis(millis));
                self.cluster.handle(self.id(member), Input::Wake);
            }
            Action::Snapshot { member, keep } => self.cluster.snapshot(self.id(member), keep),
            Action::Transfer { place, success } => {
                let transfers = self.cluster.transfers.len();
                if transfers > 0 {
                    self.cluster.finish_transfer(place % transfers, success);
                }
            }
        }
    }

    fn restart(&mut self, id: NodeId) {
        if self.cluster.members[&id].raft.is_none() {
            self.cluster.restart(id);
        }
    }

    /// Proposes to the leader if there is one (a proposal to others is refused, which is dull).
    fn propose(&mut self, member: u64, count: u8) {
        let id = self.cluster.leader().unwrap_or(self.id(member));
        let inputs = (0..count).map(|_| {
            self.proposed += 1;
            Input::Propose(Value(self.proposed))
        });
        let inputs = inputs.collect();
        self.cluster.handle_all(id, inputs);
    }

    /// One message arrives, one write of each member finishes, one snapshot arrives.
    fn step(&mut self) {
        if !self.cluster.network.is_empty() {
            self.cluster.deliver(0);
        }
        for member in 0..self.size {
            self.cluster.persist(self.id(member), 1);
        }
        if !self.cluster.transfers.is_empty() {
            self.cluster.finish_transfer(0, true);
        }
    }

    /// Delivers and writes everything until nothing is left to do without time.
    fn quiesce(&mut self) {
        for _ in 0..20_000 {
            let writes = self.cluster.members.values().any(|member| !member.writes.is_empty());
            if self.cluster.network.is_empty() && self.cluster.transfers.is_empty() && !writes {
                return;
            }
            self.step();
        }
        panic!("the cluster never comes to rest");
    }

    /// Time passes equally for everybody, without faults.
    fn pass(&mut self, millis: u64) {
        for member in 0..self.size {
            self.cluster.advance(self.id(member), Duration::from_millis(millis));
            self.cluster.handle(self.id(member), Input::Wake);
        }
        self.quiesce();
    }

    /// The faults stop: within ten election timeouts there is one leader, everybody has applied the
    /// same, and it stays so.
    fn heal(&mut self) {
        for member in 0..self.size {
            self.restart(self.id(member));
        }
        for _ in 0..100 {
            self.pass(100);
        }
        let leader = self.cluster.leader().expect("a healed cluster has a leader");
        self.propose(leader.0 - 1, 3);
        let reads = self.cluster.invariants.reads_answered;
        for member in 0..self.size {
            self.cluster.read(self.id(member));
        }
        self.quiesce();
        assert_eq!(self.cluster.invariants.reads_answered, reads + self.size, "every read is answered");
        self.pass(100);
        let last = self.cluster.members[&leader].raft.as_ref().expect("it leads").status().last.index;
        assert!(last >= Index(4), "a no-op and three commands");
        let term = self.cluster.members[&leader].raft.as_ref().expect("it leads").status().term;
        for member in self.cluster.members.values() {
            let status = member.raft.as_ref().expect("restarted").status();
            assert_eq!(member.applied.index, last, "everybody has applied everything: {status}");
            assert_eq!((status.term, status.leader), (term, Some(leader)), "everybody follows: {status}");
            assert_eq!(status.role == Role::Leader, status.id == leader, "only one leads: {status}");
        }
    }
}

fn check(size: u64, seed: u64, pre_vote: bool, actions: &[Action]) {
    let mut run = Run::new(size, seed, pre_vote);
    for &action in actions {
        run.act(action);
    }
    run.heal();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn three_members(
        seed in any::<u64>(),
        pre_vote in prop::bool::weighted(0.8),
        actions in prop::collection::vec(action(), 0..500),
    ) {
        check(3, seed, pre_vote, &actions);
    }

    #[test]
    fn five_members(
        seed in any::<u64>(),
        pre_vote in prop::bool::weighted(0.8),
        actions in prop::collection::vec(action(), 0..500),
    ) {
        check(5, seed, pre_vote, &actions);
    }
}
