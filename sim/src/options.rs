//! The options of a run, all drawn from its seed.
//!
//! Each run tries another corner (swarm testing: Groce et al., ISSTA 2012): some without a crash, some with
//! nothing but, some with snapshots every eight entries, some with appends of a hundred bytes. A run that has
//! a little of everything reaches fewer states than many runs that each have much of something.
//!
//! Every option is drawn, always in the same order, before any is overridden on the command line, so that
//! `--nodes 5` changes the number of members and nothing else.

use std::fmt;
use std::time::Duration;

use quorate_raft::NodeId;

use crate::env::clock::TRUE_RATE;
use crate::env::network::Quality;
use crate::random::{Random, Stream};
use crate::time::Time;

/// The options of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The seed.
    pub seed: u64,
    /// How many members.
    pub members: u64,
    /// How long faults happen.
    pub storm: Duration,
    /// The base of election timeouts.
    pub election_timeout: Duration,
    /// Whether followers ask around before they campaign.
    pub pre_vote: bool,
    /// Most bytes of entries in one append.
    pub append_bytes_max: usize,
    /// Most appends under way to one peer.
    pub inflight_max: usize,
    /// Applied entries between two snapshots.
    pub snapshot_entries: u64,
    /// Entries kept below a snapshot.
    pub catchup_entries: u64,
    /// How long a member lets requests wait.
    pub request_timeout: Duration,
    /// How long a member gathers inputs before it looks at them; zero looks at each at once.
    pub turn_delay: Duration,
    /// What links are like.
    pub network: Quality,
    /// What disks are like.
    pub disk: DiskSpeed,
    /// How far clocks' rates differ from the true one, in millionths.
    pub clock_spread: u64,
    /// Of a million messages, how many go through encoding and decoding.
    pub codec: u32,
    /// What clients do.
    pub load: Load,
    /// What goes wrong.
    pub faults: FaultMix,
}

/// How long a disk takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpeed {
    /// The shortest time of a sync.
    pub sync: Duration,
    /// The mean of what comes on top.
    pub jitter: Duration,
}

/// What clients do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// How many clients.
    pub clients: u64,
    /// How long one waits between an answer and its next request, in the mean.
    pub think: Duration,
    /// How long one waits for an answer.
    pub patience: Duration,
    /// How many keys each workload uses.
    pub keys: u64,
    /// The length of values.
    pub value_bytes: usize,
    /// How heavy each workload is, in the order of [`WORKLOADS`].
    pub mix: [u32; WORKLOADS.len()],
    /// How many watchers.
    pub watchers: u64,
    /// How long a watcher takes for what it is told, before it wants more.
    pub watch_pause: Duration,
    /// How many revisions compactions leave, at least.
    pub kept: u64,
    /// Of a million requests, how many are sent to another member than the last one.
    pub roam: u32,
    /// Of a million reads, how many may be stale.
    pub serializable: u32,
}

/// The names of the workloads that clients run. (Watchers are clients of their own.)
pub const WORKLOADS: [&str; 5] = ["register", "kv", "txn", "lease", "lock"];

/// What goes wrong, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultMix {
    /// The mean time from one fault to the next.
    pub interval: Duration,
    /// The mean time a fault lasts.
    pub duration: Duration,
    /// How heavy each kind is, in the order of [`FAULTS`].
    pub weights: [u32; FAULTS.len()],
    /// Of a million new leaders, how many are struck right after their election.
    pub hunt: u32,
    /// Of a million new leaders, how many are cut off as soon as they commit something.
    pub cut_at_commit: u32,
    /// Of a million new leaders, how many are left behind: what they hear comes late, and their clock with it.
    pub left_behind: u32,
    /// Of a million members that were sent a snapshot, how many lose power when it is on their disk.
    pub crash_at_snapshot: u32,
    /// Of a million bad moments for a change of the members, how many somebody chooses for one: a leader that has not
    /// committed anything yet, or has just been cut off; a learner that has just joined.
    pub rash_changes: u32,
}

/// The kinds of faults.
pub const FAULTS: [&str; 26] = [
    "partition",
    "one-way",
    "bridge",
    "flap",
    "isolate",
    "clog",
    "lossy",
    "letters",
    "disconnect",
    "crash",
    "rolling-restart",
    "power-loss",
    "pause",
    "slow-cpu",
    "clock-rate",
    "clock-drift",
    "clock-jump",
    "slow-disk",
    "full-disk",
    "failed-sync",
    "read-errors",
    "bit-rot",
    "misdirected-write",
    "transfer",
    "membership",
    "lost-disk",
];

/// How many of the kinds are about members and leadership: the last ones.
const OPERATIONS: usize = 3;

impl Options {
    /// What the seed says.
    #[must_use]
    pub fn draw(seed: u64) -> Options {
        let random = &mut Random::new(seed, Stream::Options);
        let members = random.pick(&[3, 3, 3, 3, 5, 5, 5, 1]);
        let millis = Duration::from_millis;
        let election_timeout = millis(random.pick(&[100, 300, 1_000, 1_000]));
        let append_bytes_max = random.pick(&[100, 1_000, 100_000, 1 << 20]);
        // Small appends one at a time would carry fewer entries per round trip than clients ask for: a queue
        // that only grows proves nothing.
        let inflight_max = random.pick(if append_bytes_max < 10_000 { &[8, 20, 256] } else { &[1, 2, 256] });
        let mut options = Options {
            seed,
            members,
            storm: Duration::from_secs(random.between(15, 40)),
            election_timeout,
            pre_vote: random.chance(800_000),
            append_bytes_max,
            inflight_max,
            snapshot_entries: random.pick(&[8, 30, 100, 1_000, 100_000]),
            catchup_entries: random.pick(&[0, 1, 10, 100]),
            request_timeout: millis(random.pick(&[1_000, 3_000, 7_000])),
            turn_delay: random.pick(&[Duration::ZERO, Duration::from_micros(50), millis(1)]),
            network: draw_network(random, election_timeout),
            disk: draw_disk(random),
            clock_spread: random.pick(&[0, 1_000, 100_000, TRUE_RATE]),
            codec: 10_000,
            load: draw_load(random, pace(election_timeout)),
            faults: draw_faults(random, election_timeout),
        };
        match random.below(100) {
            0..8 => options.profile_of_leaders_that_fall(),
            8..20 => options.profile_of_leaders_left_behind(),
            20..28 => options.profile_of_slow_watchers(),
            28..38 => options.profile_of_old_letters(random),
            38..46 => options.profile_of_members_far_behind(random),
            46..49 => options.profile_of_large_states(),
            _ => {}
        }
        options.storm *= pace(options.election_timeout);
        options
    }

    /// Leaders come and go before they have done anything, over and over: figure 8 of the Raft paper, which takes
    /// three in a row at the right moments, and entries that travel one by one.
    fn profile_of_leaders_that_fall(&mut self) {
        self.members = 5;
        self.election_timeout = Duration::from_millis(100);
        self.append_bytes_max = 40;
        self.inflight_max = 8;
        self.without(None);
        self.network = Quality { delay: Duration::from_millis(2), loss: 0, ..self.network };
        self.shorten_links();
        self.load.clients = 2;
        self.load.think = Duration::from_millis(100);
        self.faults = FaultMix {
            duration: self.election_timeout * 3,
            hunt: 600_000,
            cut_at_commit: 400_000,
            ..self.faults.clone()
        };
    }

    /// Leaders that do not notice that they lead no more, and clients that ask them: stale reads, stale leases.
    fn profile_of_leaders_left_behind(&mut self) {
        self.members = self.members.max(3);
        self.faults.hunt = 0;
        self.faults.left_behind = 800_000;
        self.faults.interval = self.election_timeout * 50;
        self.faults.duration = self.election_timeout * 10;
        self.load.clients = 6;
        self.load.keys = 1;
        self.load.roam = 300_000;
        // Some of them hold leases: what the one who was left behind says of those counts most.
        self.load.mix[3] = self.load.mix[3].max(1);
        self.load.serializable = 0;
        self.load.think = Duration::from_millis(5) * pace(self.election_timeout);
    }

    /// Watchers that fall behind by more than anybody remembers for them, and find their way back.
    fn profile_of_slow_watchers(&mut self) {
        self.election_timeout = self.election_timeout.min(Duration::from_millis(300));
        self.shorten_links();
        self.load.watchers = 4;
        self.load.watch_pause = self.election_timeout * 10;
        self.load.kept = 4_000;
        self.load.clients = 6;
        self.load.think = Duration::from_millis(2);
    }

    /// What was said long ago arrives again, at members that have changed their parts, their terms, or restarted
    /// since: acknowledgements, votes, appends and answers that were true once.
    fn profile_of_old_letters(&mut self, random: &mut Random) {
        self.members = self.members.max(3);
        self.network.jitter = self.election_timeout / 40;
        self.network.duplication = random.pick(&[30_000, 300_000]);
        self.faults.interval = self.election_timeout * random.pick(&[2, 5]);
        self.faults.duration = self.election_timeout * random.pick(&[1, 2]);
        self.faults.hunt = random.pick(&[0, 300_000]);
        self.weigh("crash", 4);
        self.weigh("transfer", random.pick(&[0, 2]));
    }

    /// Snapshots all the time, for members that are kept from the log: deposed leaders full of entries that nobody
    /// else has, followers behind bad links, and those who lose power when a snapshot has just arrived.
    fn profile_of_members_far_behind(&mut self, random: &mut Random) {
        self.members = self.members.max(3);
        self.election_timeout = Duration::from_millis(random.pick(&[100, 300]));
        self.shorten_links();
        self.snapshot_entries = random.pick(&[4, 8]);
        self.catchup_entries = random.pick(&[0, 1, 4]);
        self.without(None);
        for fault in ["partition", "isolate", "one-way", "crash", "letters"] {
            self.weigh(fault, random.pick(&[0, 1, 4]));
        }
        self.weigh("isolate", 4);
        self.faults.interval = self.election_timeout * random.pick(&[3, 8]);
        self.faults.duration = self.election_timeout * random.pick(&[2, 5]);
        self.faults.crash_at_snapshot = 400_000;
        self.faults.hunt = random.pick(&[0, 300_000]);
        self.load.clients = 10;
        self.load.think = Duration::from_millis(random.pick(&[2, 20, 60]));
        // Whoever is impatient asks a leader that is cut off again and again: for entries that reach further than the
        // next leader's snapshot.
        self.load.patience = random.pick(&[self.election_timeout / 3, self.election_timeout * 4]);
    }

    /// Makes the links fit a shorter election timeout than they were drawn for.
    fn shorten_links(&mut self) {
        let slowest = self.election_timeout / 40;
        self.network.delay = self.network.delay.min(slowest);
        self.network.jitter = self.network.jitter.min(slowest);
    }

    /// How heavy one kind of faults is.
    fn weigh(&mut self, fault: &str, heavy: u32) {
        let at = FAULTS.iter().position(|name| *name == fault);
        self.faults.weights[at.expect("it is in the list of faults")] = heavy;
    }

    /// States that take several chunks to send, while clients write and compact.
    fn profile_of_large_states(&mut self) {
        self.load.mix[1] = 4;
        self.load.value_bytes = 8_000;
        self.load.keys = 10;
        self.load.kept = 150;
        self.load.clients = 4;
        self.load.think = Duration::from_millis(30) * pace(self.election_timeout);
        self.snapshot_entries = 30;
        self.catchup_entries = 10;
        self.append_bytes_max = 1 << 20;
    }

    /// Whether a message sent then never arrives now. The calm begins with a network that has forgotten the storm:
    /// late duplicates of a leader that is gone would keep its followers waiting for it for as long as they arrive.
    #[must_use]
    pub fn is_forgotten(&self, sent: Time, now: Time) -> bool {
        let storm_ends = Time::ZERO + self.storm;
        sent < storm_ends && now > storm_ends + self.election_timeout
    }

    /// The members.
    #[must_use]
    pub fn member_ids(&self) -> Vec<NodeId> {
        (1..=self.members).map(NodeId).collect()
    }

    /// The rate that a member's clock has when nobody meddles with it. A spread of one means anything from
    /// half to twice the true rate.
    pub fn clock_rate(&self, random: &mut Random) -> u64 {
        let fastest = TRUE_RATE + self.clock_spread;
        random.between(TRUE_RATE * TRUE_RATE / fastest, fastest)
    }

    /// Every fault of this kind (or every one, if `None`) never happens.
    pub fn without(&mut self, fault: Option<&str>) {
        for (name, weight) in FAULTS.iter().zip(&mut self.faults.weights) {
            if fault.is_none_or(|fault| fault == *name) {
                *weight = 0;
            }
        }
        if fault == Some("membership") {
            self.faults.rash_changes = 0;
        }
        if fault.is_none() {
            (self.faults.hunt, self.faults.cut_at_commit) = (0, 0);
            (self.faults.left_behind, self.faults.crash_at_snapshot) = (0, 0);
            self.faults.rash_changes = 0;
        }
    }

    /// Nothing goes wrong: no fault, no lossy link, no wrong clock.
    pub fn make_calm(&mut self) {
        self.without(None);
        self.network = Quality { loss: 0, duplication: 0, reordering: 0, ..self.network };
        self.clock_spread = 0;
    }

    /// What the replica of a member is told.
    #[must_use]
    pub fn replica_config(&self, id: NodeId) -> quorate_replica::Config {
        let mut raft = quorate_raft::Config::new(id);
        raft.election_timeout = self.election_timeout;
        raft.heartbeat_interval = self.election_timeout / 10;
        raft.append_bytes_max = self.append_bytes_max;
        raft.inflight_max = self.inflight_max;
        raft.pre_vote = self.pre_vote;
        quorate_replica::Config {
            raft,
            snapshot_entries: self.snapshot_entries,
            catchup_entries: self.catchup_entries,
            quota_bytes: 1 << 31,
            strict_reconfig_check: true,
            learners_max: 1,
            auto_promote: false,
            priority: 0,
            request_timeout: self.request_timeout,
        }
    }
}

/// How much longer everything takes in a cluster with this election timeout than in the hasty ones that most of the
/// figures above are for. Faults, elections and heartbeats come in its measure anyway; a run of a cluster with etcd's
/// timeouts (1 s) that was no longer would see a handful of them. So its storm is longer, and its clients think
/// longer: as much happens in it as in any other.
fn pace(election_timeout: Duration) -> u32 {
    (election_timeout.as_millis() / 200).max(1) as u32
}

fn draw_network(random: &mut Random, election_timeout: Duration) -> Quality {
    // A round trip must fit well into an election timeout, or no protocol elects anybody.
    let slowest = election_timeout / 20;
    Quality {
        delay: random.duration(Duration::from_micros(50), slowest / 2),
        jitter: random.duration(Duration::from_micros(10), slowest / 2),
        loss: random.pick(&[0, 0, 1_000, 20_000]),
        duplication: random.pick(&[0, 0, 1_000, 50_000]),
        reordering: random.pick(&[0, 0, 10_000, 200_000]),
    }
}

fn draw_disk(random: &mut Random) -> DiskSpeed {
    let micros = Duration::from_micros;
    DiskSpeed {
        sync: micros(random.pick(&[20, 100, 1_000, 4_000])),
        jitter: micros(random.pick(&[5, 100, 1_000])),
    }
}

fn draw_load(random: &mut Random, pace: u32) -> Load {
    let millis = Duration::from_millis;
    let mut mix = [0; WORKLOADS.len()];
    for weight in &mut mix {
        *weight = random.pick(&[0, 1, 1, 4]);
    }
    if mix.iter().all(|&weight| weight == 0) {
        mix = [1; WORKLOADS.len()];
    }
    Load {
        clients: random.pick(&[2, 4, 6, 10]),
        think: millis(random.pick(&[2, 10, 30, 100, 300])) * pace,
        patience: millis(random.pick(&[500, 2_000, 5_000])),
        keys: random.pick(&[1, 3, 10]),
        value_bytes: random.pick(&[8, 8, 64, 1_000]),
        mix,
        watchers: random.pick(&[0, 2, 4]),
        watch_pause: Duration::ZERO,
        kept: 0,
        roam: random.pick(&[0, 100_000, 1_000_000]),
        serializable: random.pick(&[0, 0, 100_000, 500_000]),
    }
}

fn draw_faults(random: &mut Random, election_timeout: Duration) -> FaultMix {
    let mut weights = [0; FAULTS.len()];
    let (breakage, operations) = weights.split_at_mut(FAULTS.len() - OPERATIONS);
    for weight in breakage {
        *weight = random.pick(&[0, 0, 1, 4]);
    }
    let interval = election_timeout * random.pick(&[2, 5, 20]);
    let duration = election_timeout * random.pick(&[1, 3, 10]);
    let hunt = random.pick(&[0, 0, 200_000, 800_000]);
    for weight in operations {
        *weight = random.pick(&[0, 1, 4]);
    }
    let changes = FAULTS.iter().zip(weights).any(|(name, weight)| *name == "membership" && weight > 0);
    let rash_changes = random.pick(&[0, 0, 200_000, 600_000]) * u32::from(changes);
    FaultMix {
        interval,
        duration,
        weights,
        hunt,
        cut_at_commit: 0,
        left_behind: 0,
        crash_at_snapshot: 0,
        rash_changes,
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Options { network, disk, load, faults, .. } = self;
        write!(f, "members={} storm={:?} ", self.members, self.storm)?;
        write!(f, "election={:?} pre-vote={} ", self.election_timeout, self.pre_vote)?;
        write!(f, "append={} inflight={} ", self.append_bytes_max, self.inflight_max)?;
        write!(f, "snapshot={} catchup={} ", self.snapshot_entries, self.catchup_entries)?;
        write!(f, "timeout={:?} turn={:?} ", self.request_timeout, self.turn_delay)?;
        write!(f, "delay={:?}+{:?} loss={} ", network.delay, network.jitter, network.loss)?;
        write!(f, "duplication={} reordering={} ", network.duplication, network.reordering)?;
        write!(f, "sync={:?}+{:?} clocks=±{} ", disk.sync, disk.jitter, self.clock_spread)?;
        write!(f, "clients={} think={:?} patience={:?} ", load.clients, load.think, load.patience)?;
        write!(f, "keys={} value={} watchers={} ", load.keys, load.value_bytes, load.watchers)?;
        write!(f, "roam={} serializable={} workloads=", load.roam, load.serializable)?;
        write_weights(f, &WORKLOADS, &load.mix)?;
        write!(f, " watch-pause={:?} kept={}", load.watch_pause, load.kept)?;
        write!(f, " faults every {:?} for {:?}, hunt={} ", faults.interval, faults.duration, faults.hunt)?;
        write!(f, "cut-at-commit={} left-behind={} ", faults.cut_at_commit, faults.left_behind)?;
        write!(f, "crash-at-snapshot={} rash-changes={}: ", faults.crash_at_snapshot, faults.rash_changes)?;
        write_weights(f, &FAULTS, &faults.weights)
    }
}

fn write_weights(f: &mut fmt::Formatter<'_>, names: &[&str], weights: &[u32]) -> fmt::Result {
    let mut separator = "";
    for (name, weight) in names.iter().zip(weights).filter(|&(_, &weight)| weight > 0) {
        write!(f, "{separator}{name}:{weight}")?;
        separator = ",";
    }
    if separator.is_empty() { f.write_str("none") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_draws_the_same_options_and_seeds_differ() {
        assert_eq!(Options::draw(5), Options::draw(5));
        assert_ne!(Options::draw(5), Options::draw(6));
    }

    #[test]
    fn clock_rates_stay_between_half_and_twice_the_true_one() {
        let mut options = Options::draw(1);
        options.clock_spread = TRUE_RATE;
        let random = &mut Random::new(1, Stream::Clock);
        for _ in 0..1_000 {
            let rate = options.clock_rate(random);
            assert!((TRUE_RATE / 2..=TRUE_RATE * 2).contains(&rate), "{rate}");
        }
    }
}
