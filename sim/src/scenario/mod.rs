//! Scenarios: one run as a plain text, for people to write, read and keep.
//!
//! A seed means something only together with a commit: any change of the code makes another run of it. So a
//! failure that a seed found is written as a scenario, in which every fault and every request stands by
//! itself; only the delays of links and disks and the jitter of elections still come from a seed. Scenarios
//! are also how the famous schedules (Raft figure 8, Cloudflare's one-way link) are told.
//!
//! ```text
//! # Whatever follows a '#' is for people.
//! source Raft §5.4.2, figure 8           who knows this schedule
//! expect pass                            or: expect violation durable votes
//! depths core whole                      where it is run; core, if nothing is said
//! seed 7                                 options, one a line; a wrong one is answered with a list of them
//! members 5
//! election-timeout 150ms
//!
//! at 1s for 300ms crash n1               a fault, its time, and how long it lasts
//! at 1.2s client 0 n2: put r/00 v1       a request of a client at a member (or "leader:", or "any:", as it comes)
//! when n2 leads after 5ms crash leader   once n2 leads, 5 ms later; lasts until healed
//! after 1s heal crash                    one second after the line before
//! after 2s require any leads             must be so then
//! after 0s require all has r/00 = v1 within 5 timeouts     or must become so: election timeouts
//! after 0s never any reaches-term 3 for 2s                 must not be so; until the storm ends, if no time is said
//! after 0s client 0 n2: get r/00 -> value v1               must be answered so
//! after 0s client 0 n2: 1000 times put k/00 v2             one after the other
//! after 0s watcher 0 n3: watch r/00 .. r/99 from 2         the checker judges all that it is told
//! ```
//!
//! A line with `at` stands alone. Any other waits for the line before it to have happened (a `require` with `within`
//! has happened when what it demands is so): `after` for so long, `when` until
//! something is so; each must happen before the storm ends. When the storm ends (`storm 10s`), all faults end, and
//! the run demands what every run demands (see [`crate::core`]). Faults are those of [`crate::nemesis::Fault`];
//! conditions, requests, answers and watchers are described where each is read (`conditions.rs`, `requests.rs`,
//! `expected.rs`, `watchers.rs`). One fault is for schedules alone: `drop n2>* vote` and `late n1>n3 append 300ms`
//! single out messages of one kind. So `drop n2>*,n3>* vote` says who can be elected, and with it who leads first.
//!
//! A cluster's members are n1, n2 and so on; one that is added (`add-member`, or in place of a `lost-disk`) has the
//! next number that was never used.

mod conditions;
mod expected;
mod faults;
mod options;
mod parse;
mod requests;
mod watchers;
mod words;

use std::fmt;
use std::time::Duration;

use quorate_jepsen::etcd::Request;
use quorate_raft::NodeId;

pub use conditions::{Condition, Fact, Standing, Who};
pub use expected::{Became, Expected};
pub use options::{names as option_names, plain as plain_options};
pub use parse::parse;
pub use watchers::WatcherAction;
pub use words::Mistake;

use crate::nemesis::{self, Fault, Target};
use crate::options::Options;
use crate::time::Time;

/// One run, said in full.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// What it tells people, a line each.
    pub comment: Vec<String>,
    /// Who knows this schedule.
    pub source: String,
    /// What must become of it.
    pub expect: Expect,
    /// Whether the fault budget holds.
    pub budget: bool,
    /// At which depths it is told.
    pub depths: Depths,
    /// The options; those of workloads and of drawing faults mean nothing here.
    pub options: Options,
    /// What happens.
    pub steps: Vec<Step>,
}

impl Scenario {
    /// What happened in a run: its faults, and who asked whom for what, each at its own time.
    pub fn of_run(
        options: &Options,
        depths: Depths,
        faults: &[nemesis::Step],
        calls: impl Iterator<Item = (Time, u64, Option<NodeId>, Request)>,
    ) -> Scenario {
        let step = |at, action| Step { line: 0, when: When::At(at), action };
        let faults =
            faults.iter().map(|it| step(it.at, Action::Fault { fault: it.fault, lasts: Some(it.lasts) }));
        let operations = calls.map(|(at, client, member, request)| {
            let member = member.map(Target::Node);
            step(at, Action::Operation(Operation { client, member, times: 1, request, outcome: None }))
        });
        let mut steps: Vec<Step> = faults.chain(operations).collect();
        steps.sort_by_key(|step| match step.when {
            When::At(at) => at,
            _ => Time::ZERO,
        });
        Scenario {
            comment: Vec::new(),
            source: String::new(),
            expect: Expect::Pass,
            budget: true,
            depths,
            options: options.clone(),
            steps,
        }
    }
}

/// At which depths of simulation a scenario is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depths {
    /// Replicas driven from an event queue.
    pub core: bool,
    /// Whole nodes under an executor.
    pub whole: bool,
}

/// What must become of a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Every property holds.
    Pass,
    /// This one is violated.
    Violation(String),
}

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The line in its file; zero if it has none.
    pub line: usize,
    /// When.
    pub when: When,
    /// What.
    pub action: Action,
}

/// When a line happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// At this time.
    At(Time),
    /// So long after the line before.
    After(Duration),
    /// So long after this is so, once the line before has happened.
    On(Condition, Duration),
}

/// What happens.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Something goes wrong.
    Fault {
        /// What.
        fault: Fault,
        /// How long; until it is healed or the storm ends, if `None`.
        lasts: Option<Duration>,
    },
    /// Faults of this name end; all faults, if `None`.
    Heal(Option<&'static str>),
    /// A client asks.
    Operation(Operation),
    /// A watcher does something.
    Watcher(u64, WatcherAction),
    /// Something must be so, or become so within this time.
    Require(Condition, Option<Period>),
    /// Something must not be so, for this time; until the storm ends, if `None`.
    Never(Condition, Option<Duration>),
}

/// A stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// So long.
    Time(Duration),
    /// So many election timeouts.
    Timeouts(u32),
}

impl Period {
    /// How long it is.
    #[must_use]
    pub fn length(self, options: &Options) -> Duration {
        match self {
            Period::Time(time) => time,
            Period::Timeouts(count) => options.election_timeout * count,
        }
    }
}

/// A client asks something.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// The client. It asks one thing at a time, in the order of the lines.
    pub client: u64,
    /// Whom it asks; if nobody, the client library chooses (at core depth, which has none, whoever leads is asked).
    pub member: Option<Target>,
    /// How often, one after the other.
    pub times: u32,
    /// What.
    pub request: Request,
    /// What must become of it, if that matters.
    pub outcome: Option<Expected>,
}

impl Scenario {
    /// How many faults it has.
    #[must_use]
    pub fn faults(&self) -> usize {
        self.steps.iter().filter(|step| matches!(step.action, Action::Fault { .. })).count()
    }

    /// How many requests it has.
    #[must_use]
    pub fn operations(&self) -> usize {
        self.steps.iter().filter(|step| matches!(step.action, Action::Operation(_))).count()
    }

    /// Whether this is what was expected of it.
    pub fn judge(&self, violation: Option<&crate::invariants::Violation>) -> Result<(), String> {
        match (&self.expect, violation) {
            (Expect::Pass, None) => Ok(()),
            (Expect::Pass, Some(violation)) => Err(format!("violates {violation}")),
            (Expect::Violation(wanted), Some(violation)) if *wanted == violation.invariant => Ok(()),
            (Expect::Violation(wanted), Some(violation)) => {
                Err(format!("was expected to violate {wanted}, and violates {violation}"))
            }
            (Expect::Violation(wanted), None) => {
                Err(format!("was expected to violate {wanted}, and does not"))
            }
        }
    }
}

/// The words that faults begin with (a partition is a cut).
#[must_use]
pub fn fault_names() -> &'static [&'static str; 27] {
    &faults::NAMES
}

/// A request as scenarios say it.
#[must_use]
pub fn request_text(request: &Request) -> String {
    requests::Printed(request).to_string()
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.comment.iter().try_for_each(|line| writeln!(f, "# {line}"))?;
        if !self.source.is_empty() {
            writeln!(f, "source {}", self.source)?;
        }
        match &self.expect {
            Expect::Pass => writeln!(f, "expect pass")?,
            Expect::Violation(invariant) => writeln!(f, "expect violation {invariant}")?,
        }
        if !self.budget {
            writeln!(f, "budget off")?;
        }
        if self.depths.whole {
            writeln!(f, "depths {}", self.depths)?;
        }
        options::write(f, &self.options)?;
        writeln!(f)?;
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.when {
            When::At(at) => write!(f, "at {:?} ", at.since(Time::ZERO))?,
            When::After(delay) => write!(f, "after {delay:?} ")?,
            When::On(ref condition, delay) => {
                write!(f, "when {condition} ")?;
                if !delay.is_zero() {
                    write!(f, "after {delay:?} ")?;
                }
            }
        }
        write!(f, "{}", self.action)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Fault { fault, lasts: Some(lasts) } => write!(f, "for {lasts:?} {fault}"),
            Action::Fault { fault, lasts: None } => write!(f, "{fault}"),
            Action::Heal(name) => write!(f, "heal {}", name.unwrap_or("all")),
            Action::Require(condition, None) => write!(f, "require {condition}"),
            Action::Require(condition, Some(within)) => write!(f, "require {condition} within {within}"),
            Action::Never(condition, None) => write!(f, "never {condition}"),
            Action::Never(condition, Some(lasts)) => write!(f, "never {condition} for {lasts:?}"),
            Action::Watcher(watcher, action) => write!(f, "watcher {watcher} {action}"),
            Action::Operation(Operation { client, member, times, request, outcome }) => {
                match member {
                    Some(member) => write!(f, "client {client} {member}: ")?,
                    None => write!(f, "client {client} any: ")?,
                }
                if *times > 1 {
                    write!(f, "{times} times ")?;
                }
                write!(f, "{}", requests::Printed(request))?;
                outcome.as_ref().map_or(Ok(()), |outcome| write!(f, " -> {outcome}"))
            }
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Period::Time(time) => write!(f, "{time:?}"),
            Period::Timeouts(count) => write!(f, "{count} timeouts"),
        }
    }
}

impl fmt::Display for Depths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.core, self.whole) {
            (true, true) => "core whole",
            (false, true) => "whole",
            _ => "core",
        })
    }
}

#[cfg(test)]
mod tests;
