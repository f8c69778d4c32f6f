//! Partial partitions: links that work in one direction only, or not at all.
//!
//! Every subset of the six directed links among three members, and a sample of those among five, is
//! broken for good while a leader leads. Safety holds always (the cluster checks it). And if some
//! member can talk both ways with a quorum, there is a leader who can commit, within ten election
//! timeouts; a leader who cannot steps down within two. The same with a learner, which is of no help, and in a
//! joint configuration, in which it takes both quorums.

use std::collections::BTreeSet;
use std::time::Duration;

use quorate_raft::testing::Cluster;
use quorate_raft::{Command, Configuration, Input, NodeId, NodeSet, Role};

#[derive(Clone, Debug, PartialEq)]
struct Nothing;

impl Command for Nothing {
    fn size(&self) -> usize {
        0
    }
}

const ELECTION_TIMEOUT: Duration = Duration::from_millis(1000);
const STEP: Duration = Duration::from_millis(50);

struct Run {
    cluster: Cluster<Nothing>,
    configuration: Configuration,
    size: u64,
    broken: BTreeSet<(NodeId, NodeId)>,
}

impl Run {
    fn new(size: u64, seed: u64) -> Run {
        Run::with(Configuration { voters: ids(1..=size), ..Configuration::default() }, seed)
    }

    fn with(configuration: Configuration, seed: u64) -> Run {
        let cluster = Cluster::new(seed, &configuration, |_| {});
        let size = cluster.members.len() as u64;
        Run { cluster, configuration, size, broken: BTreeSet::new() }
    }

    fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (1..=self.size).map(NodeId)
    }

    /// All directed links, in a fixed order.
    fn links(&self) -> Vec<(NodeId, NodeId)> {
        let pairs = self.ids().flat_map(|from| self.ids().map(move |to| (from, to)));
        pairs.filter(|(from, to)| from != to).collect()
    }

    /// Time passes for everybody; messages on working links arrive at once, and writes are durable at once.
    fn pass(&mut self, time: Duration) {
        for _ in 0..time.as_millis() / STEP.as_millis() {
            for id in self.ids() {
                self.cluster.advance(id, STEP);
                self.cluster.handle(id, Input::Wake);
            }
            loop {
                self.cluster.network.retain(|message| !self.broken.contains(&(message.from, message.to)));
                if !self.cluster.network.is_empty() {
                    self.cluster.deliver(0);
                } else if !self.ids().any(|id| self.cluster.persist(id, usize::MAX)) {
                    break;
                }
            }
        }
    }

    /// The members that can talk both ways with so many others that they are a quorum together.
    fn able(&self) -> BTreeSet<NodeId> {
        let works = |a, b| !self.broken.contains(&(a, b)) && !self.broken.contains(&(b, a));
        let quorum = |id: NodeId, voters: &NodeSet| {
            let partners = voters.iter().filter(|&&other| other == id || works(id, other)).count();
            voters.is_empty() || 2 * partners > voters.len()
        };
        let Configuration { voters, outgoing, .. } = &self.configuration;
        let able = |id: &NodeId| quorum(*id, voters) && quorum(*id, outgoing);
        voters.iter().copied().filter(able).collect()
    }

    fn leaders(&self) -> BTreeSet<NodeId> {
        let rafts = self.cluster.members.values().filter_map(|member| member.raft.as_ref());
        rafts.filter(|raft| raft.status().role == Role::Leader).map(|raft| raft.status().id).collect()
    }

    /// Breaks these links under a working leader, and sees what becomes of it.
    fn check(mut self, broken: BTreeSet<(NodeId, NodeId)>) {
        self.pass(3 * ELECTION_TIMEOUT);
        assert_eq!(self.leaders().len(), 1, "with all links there is a leader");
        self.broken = broken;
        let able = self.able();

        self.pass(2 * ELECTION_TIMEOUT);
        assert!(self.leaders().is_subset(&able), "a leader that cannot commit steps down: {:?}", self.broken);

        self.pass(8 * ELECTION_TIMEOUT);
        if !able.is_empty() {
            self.check_commit(&able);
        }
    }

    /// Somebody leads who can commit.
    fn check_commit(mut self, able: &BTreeSet<NodeId>) {
        let before = self.cluster.invariants.committed();
        for id in self.leaders() {
            self.cluster.handle(id, Input::Propose(Nothing));
        }
        self.pass(STEP);
        let commits = self.cluster.invariants.committed() > before;
        assert!(commits, "{able:?} could lead and commit, but nobody does: {:?}", self.broken);
    }
}

fn ids(ids: impl IntoIterator<Item = u64>) -> NodeSet {
    ids.into_iter().map(NodeId).collect()
}

/// A fixed sample of subsets: the upper bits of multiples of a large odd number. Half of the links are broken, or
/// (two samples agree) a quarter: that often leaves somebody with a quorum.
fn sample(number: u32) -> u32 {
    let subset = |number: u32| number.wrapping_mul(2_654_435_761) >> 12;
    subset(number) & if number.is_multiple_of(2) { u32::MAX } else { subset(number + 1000) }
}

/// The links that this subset names.
fn broken(run: &Run, subset: u32) -> BTreeSet<(NodeId, NodeId)> {
    let links = run.links().into_iter().enumerate();
    links.filter(|(i, _)| subset >> i & 1 == 1).map(|(_, link)| link).collect()
}

#[test]
fn all_subsets_of_links_among_three_members() {
    for subset in 0..64u32 {
        let run = Run::new(3, u64::from(subset));
        let broken = broken(&run, subset);
        run.check(broken);
    }
}

#[test]
fn some_subsets_of_links_among_five_members() {
    for number in 0..60u32 {
        let run = Run::new(5, u64::from(number));
        let broken = broken(&run, sample(number));
        run.check(broken);
    }
}

#[test]
fn some_subsets_of_links_among_three_voters_and_a_learner() {
    for number in 0..60u32 {
        let configuration =
            Configuration { voters: ids(1..=3), learners: ids([4]), ..Configuration::default() };
        let run = Run::with(configuration, u64::from(number));
        let broken = broken(&run, sample(number));
        run.check(broken);
    }
}

#[test]
fn some_subsets_of_links_in_a_joint_configuration() {
    for number in 0..120u32 {
        let configuration =
            Configuration { voters: ids(2..=4), outgoing: ids(1..=3), ..Configuration::default() };
        let mut run = Run::with(configuration, u64::from(number));
        // The first leader would leave it at once: the links are broken from the beginning.
        run.broken = broken(&run, sample(number));
        let able = run.able();
        run.pass(10 * ELECTION_TIMEOUT);
        if !able.is_empty() {
            run.check_commit(&able);
        }
    }
}
