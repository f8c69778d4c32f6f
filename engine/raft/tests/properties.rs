//! Random schedules of everything that can happen to a cluster: messages delivered late, twice, out of order or
//! never; writes that finish late; crashes that lose or tear what was not durable; time passing differently for
//! everybody; proposals, reads, snapshots, changes of the membership in one step and in joint ones, hand-overs.
//!
//! Safety is checked at every step by `quorate_raft::testing::Invariants`. Then the faults stop, and
//! the cluster must agree, answer and stay quiet: liveness.
//!
//! A failure shrinks to a script that can be put into a file below `tests/scripts`: it is the end of the
//! error's text. `PROPTEST_CASES=10000 cargo test -p quorate-raft --test properties` looks for longer.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use quorate_raft::{Index, NodeId, Role};

#[allow(dead_code, reason = "scripts can look at more than schedules do")]
mod runner;

use runner::{Command, Id, Runner};

/// Something that happens. Members and places are chosen modulo what there is.
#[derive(Clone, Debug)]
enum Action {
    /// The oldest message of the network arrives, or one of the later ones; or arrives, and will again.
    Deliver {
        place: usize,
        again: bool,
    },
    Lose {
        place: usize,
    },
    /// All messages to and from a member are lost.
    Isolate {
        member: u64,
    },
    /// Everything arrives and is written, for a while.
    Settle {
        steps: u64,
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
        count: u64,
    },
    Read {
        member: u64,
    },
    Change {
        changes: Vec<(&'static str, u64)>,
    },
    HandOver {
        to: Option<u64>,
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
        fail: bool,
    },
}

/// What changes, in a word of the scripts.
fn change() -> impl Strategy<Value = (&'static str, u64)> {
    let what =
        prop_oneof![1 => Just("learner"), 3 => Just("voter"), 1 => Just("demote"), 1 => Just("remove")];
    (what, 0u64..10)
}

fn action() -> impl Strategy<Value = Action> {
    let member = || 0u64..10;
    // Mostly in order, sometimes not.
    let place = || prop_oneof![3 => Just(0usize), 1 => 0usize..100];
    prop_oneof![
        30 => place().prop_map(|place| Action::Deliver { place, again: false }),
        3 => place().prop_map(|place| Action::Deliver { place, again: true }),
        5 => place().prop_map(|place| Action::Lose { place }),
        1 => member().prop_map(|member| Action::Isolate { member }),
        8 => (1u64..40).prop_map(|steps| Action::Settle { steps }),
        12 => (member(), 1usize..4).prop_map(|(member, count)| Action::Persist { member, count }),
        2 => (member(), 0usize..3, 0usize..3)
            .prop_map(|(member, survive, torn)| Action::Crash { member, survive, torn }),
        3 => member().prop_map(|member| Action::Restart { member }),
        6 => (member(), 1u64..4).prop_map(|(member, count)| Action::Propose { member, count }),
        4 => member().prop_map(|member| Action::Read { member }),
        4 => prop::collection::vec(change(), 1..4).prop_map(|changes| Action::Change { changes }),
        1 => prop::option::of(member()).prop_map(|to| Action::HandOver { to }),
        5 => member().prop_map(|member| Action::Timeout { member }),
        5 => (member(), 1u64..1500).prop_map(|(member, millis)| Action::Advance { member, millis }),
        2 => (member(), 0u64..4).prop_map(|(member, keep)| Action::Snapshot { member, keep }),
        3 => (0usize..4, any::<bool>()).prop_map(|(place, fail)| Action::Transfer { place, fail }),
    ]
}

/// A schedule as it is carried out, and the script that tells it.
struct Run {
    runner: Runner,
    size: u64,
    proposed: u64,
    script: String,
}

impl Run {
    /// A cluster with small limits, so that they are met, and `spare` more members that run and are not part of it.
    fn new(voters: u64, spare: u64, seed: u64, pre_vote: bool) -> Run {
        let mut run =
            Run { runner: Runner::default(), size: voters + spare, proposed: 0, script: String::new() };
        run.perform(Command::Cluster {
            voters,
            learners: 0,
            pre_vote: Some(pre_vote),
            append_bytes: Some(100),
            inflight: Some(3),
            hold: None,
            reads: Some(8),
            seed: Some(seed),
        });
        for member in voters..voters + spare {
            run.perform(Command::Join { id: run.id(member) });
        }
        run.runner.cluster().trace = None;
        run.perform(Command::Elect { id: Id(NodeId(1)) });
        run
    }

    fn id(&self, member: u64) -> Id {
        Id(NodeId(1 + member % self.size))
    }

    fn perform(&mut self, command: Command) {
        self.script += &format!("{}\n", Line(&command));
        self.runner.perform(&command, &mut Vec::new()).expect("commands that can be carried out");
    }

    fn act(&mut self, action: Action) {
        let pending = self.runner.cluster().network.len();
        let transfers = self.runner.cluster().transfers.len();
        let command = match action {
            Action::Deliver { place, again } if pending > 0 => {
                Command::Arrive { place: place % pending, again }
            }
            Action::Lose { place } if pending > 0 => Command::Vanish { place: place % pending },
            Action::Transfer { place, fail } if transfers > 0 => {
                Command::Transfer { place: place % transfers, fail }
            }
            Action::Deliver { .. } | Action::Lose { .. } | Action::Transfer { .. } => return,
            Action::Isolate { member } => Command::Isolate { id: self.id(member) },
            Action::Settle { steps } => Command::Settle { steps },
            Action::Persist { member, count } => {
                let id = self.id(member);
                if self.runner.cluster().members[&id.0].writes.is_empty() {
                    return;
                }
                Command::Persist { id, count: Some(count) }
            }
            Action::Crash { member, survive, torn } => Command::Crash { id: self.id(member), survive, torn },
            Action::Restart { member } => return self.restart(member),
            Action::Propose { member, count } => return self.propose(member, count),
            Action::Read { member } => Command::Read { id: self.id(member) },
            Action::Change { changes } => {
                let Some(leader) = self.runner.cluster().leader() else { return };
                let changes = changes.iter().map(|&(what, id)| (what.to_owned(), self.id(id))).collect();
                Command::Change { id: Id(leader), changes }
            }
            Action::HandOver { to } => {
                let Some(leader) = self.runner.cluster().leader() else { return };
                Command::HandOver { id: Id(leader), to: to.map(|to| self.id(to)) }
            }
            Action::Timeout { member } => {
                let id = self.id(member);
                let raft = self.runner.cluster().members[&id.0].raft.as_ref();
                if raft.is_none_or(|raft| raft.deadline().is_none()) {
                    return;
                }
                Command::Timeout { id }
            }
            Action::Advance { member, millis } => {
                self.perform(Command::Advance { millis, ids: vec![self.id(member)] });
                Command::Wake { id: self.id(member) }
            }
            Action::Snapshot { member, keep } => Command::Snapshot { id: self.id(member), keep },
        };
        self.perform(command);
    }

    fn restart(&mut self, member: u64) {
        let id = self.id(member);
        if self.runner.cluster().members[&id.0].raft.is_none() {
            self.perform(Command::Restart { id });
        }
    }

    /// Proposes to the leader if there is one (a proposal to others is refused, which is dull).
    fn propose(&mut self, member: u64, count: u64) {
        let id = self.runner.cluster().leader().map_or(self.id(member), Id);
        let commands = (1..=count).map(|at| format!("v{}", self.proposed + at)).collect();
        self.proposed += count;
        self.perform(Command::Propose { id, commands, read: false });
    }

    /// Delivers and writes everything until nothing is left to do without time.
    fn quiesce(&mut self) {
        for _ in 0..20_000 {
            let cluster = self.runner.cluster();
            let writes = cluster.members.values().any(|member| !member.writes.is_empty());
            if cluster.network.is_empty() && cluster.transfers.is_empty() && !writes {
                return;
            }
            self.perform(Command::Settle { steps: 1 });
        }
        panic!("the cluster never comes to rest");
    }

    /// Time passes equally for everybody, without faults.
    fn pass(&mut self, millis: u64) {
        self.perform(Command::Advance { millis, ids: Vec::new() });
        for member in 0..self.size {
            self.perform(Command::Wake { id: self.id(member) });
        }
        self.quiesce();
    }

    /// The faults stop: within ten election timeouts there is one leader, no change is half done, all members have
    /// applied the same, and it stays so.
    fn heal(&mut self) {
        for member in 0..self.size {
            self.restart(member);
        }
        for _ in 0..100 {
            self.pass(100);
        }
        let leader = self.runner.cluster().leader().expect("a healed cluster has a leader");
        self.propose(leader.0 - 1, 3);
        let configuration = self.raft(leader).configuration().clone();
        assert!(!configuration.is_joint(), "no change is half done: {configuration}");
        assert!(configuration.is_voter(leader), "a voter leads: {configuration}");
        let reads = self.runner.cluster().invariants.reads_answered;
        for id in configuration.members() {
            self.perform(Command::Read { id: Id(id) });
        }
        self.quiesce();
        let answered = self.runner.cluster().invariants.reads_answered - reads;
        assert_eq!(answered, configuration.members().count() as u64, "every read is answered");
        self.pass(100);
        let (last, term) = (self.raft(leader).status().last.index, self.raft(leader).status().term);
        assert!(last >= Index(4), "a no-op and three commands");
        for id in configuration.members() {
            let status = self.raft(id).status().clone();
            let applied = self.runner.cluster().members[&id].applied.index;
            assert_eq!(applied, last, "everybody has applied everything: {status}");
            assert_eq!((status.term, status.leader), (term, Some(leader)), "everybody follows: {status}");
            assert_eq!(status.role == Role::Leader, status.id == leader, "only one leads: {status}");
        }
    }

    fn raft(&mut self, id: NodeId) -> &quorate_raft::Raft<runner::Text> {
        self.runner.cluster().members[&id].raft.as_ref().expect("everybody runs")
    }
}

/// A command as a line of a script.
struct Line<'a>(&'a Command);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Command::Cluster { voters, pre_vote, append_bytes, inflight, reads, seed, .. } => {
                write!(f, "cluster {voters} pre_vote={} ", pre_vote.expect("set"))?;
                write!(
                    f,
                    "append_bytes={} inflight={} ",
                    append_bytes.expect("set"),
                    inflight.expect("set")
                )?;
                write!(f, "reads={} seed={}", reads.expect("set"), seed.expect("set"))
            }
            Command::Elect { id } => write!(f, "elect n{}", id.0),
            Command::Join { id } => write!(f, "join n{}", id.0),
            Command::Arrive { place, again: false } => write!(f, "arrive {place}"),
            Command::Arrive { place, again: true } => write!(f, "arrive {place} again=true"),
            Command::Vanish { place } => write!(f, "vanish {place}"),
            Command::Isolate { id } => write!(f, "isolate n{}", id.0),
            Command::Settle { steps } => write!(f, "settle {steps}"),
            Command::Persist { id, count } => write!(f, "persist n{} count={}", id.0, count.expect("set")),
            Command::Crash { id, survive, torn } => {
                write!(f, "crash n{} survive={survive} torn={torn}", id.0)
            }
            Command::Restart { id } => write!(f, "restart n{}", id.0),
            Command::Propose { id, commands, .. } => write!(f, "propose n{} {}", id.0, commands.join(" ")),
            Command::Read { id } => write!(f, "read n{}", id.0),
            Command::Change { id, changes } => {
                write!(f, "change n{}", id.0)?;
                changes.iter().try_for_each(|(what, id)| write!(f, " {what}=n{}", id.0))
            }
            Command::HandOver { id, to: None } => write!(f, "hand_over n{}", id.0),
            Command::HandOver { id, to: Some(to) } => write!(f, "hand_over n{} n{}", id.0, to.0),
            Command::Timeout { id } => write!(f, "timeout n{}", id.0),
            Command::Wake { id } => write!(f, "wake n{}", id.0),
            Command::Advance { millis, ids } => {
                write!(f, "advance {millis}")?;
                ids.iter().try_for_each(|id| write!(f, " n{}", id.0))
            }
            Command::Snapshot { id, keep } => write!(f, "snapshot n{} keep={keep}", id.0),
            Command::Transfer { place, fail } => write!(f, "transfer {place} fail={fail}"),
            _ => unreachable!("schedules do not contain it"),
        }
    }
}

fn check(
    voters: u64,
    spare: u64,
    seed: u64,
    pre_vote: bool,
    actions: Vec<Action>,
) -> Result<(), TestCaseError> {
    let mut run = Run::new(voters, spare, seed, pre_vote);
    let result = catch_unwind(AssertUnwindSafe(|| {
        actions.into_iter().for_each(|action| run.act(action));
        run.heal();
    }));
    result.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let text = text.unwrap_or_default();
        TestCaseError::fail(format!("{text}\nThe script:\n\n{}---\n", run.script))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn three_members(
        seed in any::<u64>(),
        pre_vote in prop::bool::weighted(0.8),
        actions in prop::collection::vec(action(), 0..500),
    ) {
        check(3, 0, seed, pre_vote, actions)?;
    }

    #[test]
    fn five_members(
        seed in any::<u64>(),
        pre_vote in prop::bool::weighted(0.8),
        actions in prop::collection::vec(action(), 0..500),
    ) {
        check(5, 0, seed, pre_vote, actions)?;
    }

    #[test]
    fn members_that_come_and_go(
        seed in any::<u64>(),
        pre_vote in prop::bool::weighted(0.8),
        actions in prop::collection::vec(action(), 0..500),
    ) {
        check(2, 3, seed, pre_vote, actions)?;
    }
}

/// What a failure prints is worth something only if it does the same when it is run as a script.
#[test]
fn the_script_of_a_schedule_repeats_it() {
    let mut random = proptest::test_runner::TestRunner::deterministic();
    let actions = prop::collection::vec(action(), 300).new_tree(&mut random).expect("no filters").current();
    let mut run = Run::new(3, 2, 7, true);
    actions.into_iter().for_each(|action| run.act(action));
    let script = format!("{}---\n\nstatus\n---\n", run.script);
    let mut again = Runner::default();
    let output = goldenscript::generate(&mut again, &script).expect("a valid script");
    let statuses = |runner: &mut Runner| {
        let rafts = runner.cluster().members.values().map(|member| member.raft.as_ref());
        rafts.map(|raft| raft.map(|raft| raft.status().clone())).collect::<Vec<_>>()
    };
    assert_eq!(statuses(&mut again), statuses(&mut run.runner), "{output}");
}
