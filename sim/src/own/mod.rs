//! Bring your own: any state machine over `quorate-raft` ([`Service`], below), and any client's code against a cluster of Quorate
//! ([`client`]), under this simulator's faults.
//!
//! Say what the state is, what a command does to it, and what clients ask for. The simulator makes a cluster of it,
//! on links that lose, delay, repeat and reorder, with clocks that go wrong, disks that lose what was not synced and fail,
//! crashes, pauses, busy processors, broken connections, members that come and go, leadership that is moved, and snapshots sent to members
//! that lag, and checks, after everything that happens:
//!
//! - one leader a term, and no panic (Raft's own assertions are on);
//! - the same state at the same index, however a member got there: by its log or by a snapshot;
//! - what the service itself says must hold ([`Service::holds`]);
//! - when the storm is over: every member has the same state, and clients are served;
//! - of what the clients were answered: that some order of their requests explains it (linearizability, by
//!   `quorate_jepsen`). The sequential object is the service itself, given every request once.
//!
//! ```
//! use quorate_sim::own::{self, Service};
//! use quorate_sim::random::Random;
//!
//! /// The highest number so far. It answers nothing, so that a request that is sent again does no harm: a register that told what
//! /// was there before would be convicted, because a repetition is told something else.
//! struct Highest;
//!
//! impl Service for Highest {
//!     type State = u64;
//!     type Command = u64;
//!     type Response = ();
//!     fn begin(&self) -> u64 {
//!         0
//!     }
//!     fn apply(&self, state: &mut u64, command: &u64) {
//!         *state = *command.max(state);
//!     }
//!     fn draw(&self, _client: u64, _number: u64, random: &mut Random) -> u64 {
//!         random.below(1_000)
//!     }
//! }
//!
//! own::sweep(&Highest, 0..2).expect("repetitions do no harm");
//! ```
//!
//! `sim/examples/counter_service.rs` is a service with a bug that is found.
//!
//! A disk here holds values, not bytes: when it is full or fails to sync, its member ends and comes back when the fault is over; where bytes
//! would have rotted, the member is down as long. Not here: reads that go around the log, and members of one address and two ids.

pub mod client;
mod clients;
mod cluster;
mod judge;
mod member;
mod operator;
mod world;

use std::fmt::{self, Debug};
use std::hash::Hash;
use std::ops::Range;
use std::time::Duration;

use crate::invariants::Violation;
use crate::nemesis::Step;
use crate::options::Options;
use crate::random::Random;

/// A replicated service: a state machine, and what its clients ask for.
pub trait Service: Sync {
    /// What every member holds.
    type State: Clone + Eq + Hash + Debug;
    /// What goes through the log.
    type Command: Clone + Eq + Hash + Debug + Sync;
    /// What a client is told.
    type Response: Clone + Eq + Hash + Debug + Sync;

    /// The state before the first command.
    fn begin(&self) -> Self::State;

    /// What a command does. The same state and the same command must always lead to the same.
    fn apply(&self, state: &mut Self::State, command: &Self::Command) -> Self::Response;

    /// What a client asks next, its `number`th request. A request that is not answered in time is sent again, the very same, as
    /// clients do: so it may be applied more than once.
    fn draw(&self, client: u64, number: u64, random: &mut Random) -> Self::Command;

    /// What a snapshot keeps, and a member that starts from one has.
    fn snapshot(&self, state: &Self::State) -> Self::State {
        state.clone()
    }

    /// What must hold of every state; the text says what does not.
    ///
    /// # Errors
    /// It does not hold.
    fn holds(&self, _state: &Self::State) -> Result<(), String> {
        Ok(())
    }
}

/// A run that came to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many runs.
    pub seeds: u64,
    /// What happened, in events.
    pub events: u64,
    /// How much time passed in the simulated world.
    pub simulated: Duration,
    /// How many requests were answered.
    pub answered: u64,
    /// A fingerprint of all that happened: the same for the same seed.
    pub hash: u64,
}

/// A run in which something does not hold.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed, which with the same code leads to the same failure.
    pub seed: u64,
    /// What does not hold.
    pub violation: Violation,
    /// The faults that it takes: all others were left out, and it still fails.
    pub faults: Vec<Step>,
    /// The last things that happened; if the clients' history is what is wrong, until the faults were over.
    pub last: Vec<String>,
}

/// What a seed draws for services: clusters as for Quorate itself, with fewer requests, because every history is searched for
/// an order that explains it.
#[must_use]
pub fn options(seed: u64) -> Options {
    let mut options = Options::draw(seed);
    options.storm = options.storm.min(Duration::from_secs(8));
    options.load.clients = options.load.clients.min(4);
    options.load.think = options.load.think.max(Duration::from_millis(30));
    options.snapshot_entries = options.snapshot_entries.min(100);
    options
}

/// Runs one seed to its end.
///
/// # Errors
/// Something does not hold.
pub fn run<S: Service>(service: &S, options: &Options) -> Result<Summary, Failure> {
    let finished = cluster::run(service, options, None, false);
    let Some(violation) = finished.violation else { return Ok(finished.summary) };
    let faults = shrink(service, options, finished.faults, &violation);
    // Once more, now with words.
    let shown = cluster::run(service, options, Some(&faults), true);
    let violation = shown.violation.unwrap_or(violation);
    Err(Failure { seed: options.seed, violation, faults, last: shown.last })
}

/// Runs many seeds, until one fails.
///
/// # Errors
/// The first failure.
pub fn sweep<S: Service>(service: &S, seeds: Range<u64>) -> Result<Summary, Failure> {
    let mut total = Summary::default();
    for seed in seeds {
        let Summary { seeds, events, simulated, answered, hash } = run(service, &options(seed))?;
        total.seeds += seeds;
        total.events += events;
        total.simulated += simulated;
        total.answered += answered;
        total.hash = total.hash.rotate_left(1) ^ hash;
    }
    Ok(total)
}

/// Leaves out one fault after the other, as long as the same property breaks.
fn shrink<S: Service>(
    service: &S,
    options: &Options,
    mut faults: Vec<Step>,
    violation: &Violation,
) -> Vec<Step> {
    let fails = |faults: &[Step]| {
        let found = cluster::run(service, options, Some(faults), false).violation;
        found.is_some_and(|found| found.invariant == violation.invariant)
    };
    if !fails(&faults) {
        return faults;
    }
    // Halves first, then single ones.
    let mut length = faults.len();
    while length > 0 {
        let mut at = 0;
        while at < faults.len() {
            let mut fewer = faults.clone();
            fewer.drain(at..(at + length).min(faults.len()));
            if fails(&fewer) { faults = fewer } else { at += length }
        }
        length /= 2;
    }
    faults
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { seeds, events, simulated, answered, hash } = self;
        let seconds = simulated.as_secs_f64();
        write!(f, "{seeds} seeds, {events} events in {seconds:.1} simulated seconds, ")?;
        write!(f, "{answered} requests answered, trace {hash:016x}")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {} violates {}", self.seed, self.violation)?;
        writeln!(f, "the last that happened:")?;
        self.last.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
        writeln!(f, "faults that it takes: {}", if self.faults.is_empty() { "none" } else { "" })?;
        self.faults
            .iter()
            .try_for_each(|step| writeln!(f, "  at {} for {:?}: {}", step.at, step.lasts, step.fault))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::options::FAULTS;

    /// The highest number so far.
    struct Highest;

    impl Service for Highest {
        type State = u64;
        type Command = u64;
        type Response = ();

        fn begin(&self) -> u64 {
            0
        }

        fn apply(&self, state: &mut u64, command: &u64) {
            *state = *command.max(state);
        }

        fn draw(&self, _client: u64, _number: u64, random: &mut Random) -> u64 {
            random.below(1_000)
        }
    }

    /// A service that holds goes on holding, whatever happens to its members.
    #[test]
    fn every_kind_of_fault_strikes_and_is_survived() {
        for fault in [
            "letters",
            "slow-cpu",
            "disconnect",
            "full-disk",
            "failed-sync",
            "read-errors",
            "transfer",
            "membership",
            "lost-disk",
        ] {
            assert!(FAULTS.contains(&fault));
            let mut struck = BTreeSet::new();
            for seed in 0..4 {
                let mut options = options(seed);
                options.without(None);
                for (name, weight) in FAULTS.iter().zip(&mut options.faults.weights) {
                    *weight = u32::from(*name == fault);
                }
                options.members = 5;
                options.election_timeout = options.election_timeout.min(Duration::from_millis(300));
                options.faults.interval = options.election_timeout * 3;
                options.storm = Duration::from_secs(4);
                let finished = cluster::run(&Highest, &options, None, false);
                assert_eq!(finished.violation, None, "seed {seed}, only {fault}");
                assert!(finished.summary.answered > 0, "seed {seed}, only {fault}: nobody was served");
                struck.extend(finished.faults.iter().map(|step| step.fault.name()));
            }
            assert!(!struck.is_empty(), "{fault} never happened");
        }
    }

    #[test]
    fn members_come_and_go_in_every_way() {
        let mut names = BTreeSet::new();
        for seed in 0..8 {
            let mut options = options(seed);
            options.without(None);
            let membership = FAULTS.iter().position(|name| *name == "membership");
            options.faults.weights[membership.expect("there is such a fault")] = 1;
            options.faults.interval = Duration::from_millis(400);
            options.members = 5;
            let finished = cluster::run(&Highest, &options, None, false);
            assert_eq!(finished.violation, None, "seed {seed}");
            names.extend(finished.faults.iter().map(|step| step.fault.name()));
        }
        assert!(names.len() >= 4, "only {names:?}");
    }
}
