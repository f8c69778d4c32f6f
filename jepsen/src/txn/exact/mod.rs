//! Serializability and snapshot isolation of registers: decided, though nobody shows the order of versions.
//!
//! A level holds if *some* order of the writers of each key agrees with everything that was read. What is
//! known at first: who read from whom, the order of processes or of real time if the level has it, and what
//! the caller assumes of versions. With *t* reading a key from *t1*, and *t2* writing the key too:
//!
//! * *t2* before *t* makes *t2* before *t1*, for otherwise *t* would have read from *t2*;
//! * *t1* before *t2* makes *t* before *t2*, for the same reason.
//!
//! Snapshot isolation is the same with each transaction in two halves, its reads and its writes, and writers of
//! one key that do not overlap: the writes of one come before the reads of the other. Files, in the order of
//! the work:
//!
//! * `problem`: what has to be ordered;
//! * `witness`: a guess along real time, which finds an order of nearly every right history at once;
//! * `closure`: who precedes whom, as rows of bits that can be taken back;
//! * `saturate`: both rules until nothing follows any more, and a choice between two writers where nothing says
//!   which was first, taken back with all that does not depend on it (no solver needed);
//! * `core`: the fewest transactions that still have no order, and why.
//!
//! The problem is NP-complete (Papadimitriou 1979), so that there is a budget, and [`Decision::Undecided`].
//! Sources: Biswas & Enea, "On the complexity of checking transactional consistency", OOPSLA 2019; Tan et al.,
//! "Cobra: making transactional key-value stores verifiably serializable", OSDI 2020.

mod closure;
mod core;
mod problem;
mod saturate;
mod witness;

use std::collections::BTreeSet;

use super::anomaly::Anomaly;
use super::check::{Unfit, VersionOrder};
use super::history::{Index, NOBODY, Outcome, Transactions};
use super::level::Level;
use super::register::{self, Registers};
use super::report::Finding;
use super::weak::{self, WeakLevel};
use problem::Problem;

/// What is known about a level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Some order explains everything.
    Holds,
    /// None does, and this shows it: leaving out any of its transactions makes an order possible.
    Broken(Box<Finding>),
    /// It was not found out, and why.
    Undecided(String),
}

/// How much work may be done.
#[derive(Clone, Copy)]
pub struct Effort<'a> {
    /// Words of rows that may be looked at: about a billion in a second.
    pub steps: u64,
    /// Bytes of rows.
    pub bytes: u64,
    /// Asked every now and then: true ends the work.
    pub stop: Option<&'a (dyn Fn() -> bool + Sync)>,
}

impl Default for Effort<'_> {
    fn default() -> Self {
        Effort { steps: 8_000_000_000, bytes: 1 << 30, stop: None }
    }
}

/// The order that a level demands besides that of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Demand {
    Nothing,
    Process,
    RealTime,
}

/// A level that is decided here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Target {
    /// Whether reads and writes of a transaction may lie apart: snapshot isolation.
    snapshot: bool,
    demand: Demand,
}

fn target(level: Level) -> Option<Target> {
    let (snapshot, demand) = match level.name() {
        "serializable" | "view-serializable" | "1SR" => (false, Demand::Nothing),
        "strong-session-serializable" | "session-serializable" => (false, Demand::Process),
        "strict-serializable" => (false, Demand::RealTime),
        "snapshot-isolation" => (true, Demand::Nothing),
        "strong-session-snapshot-isolation" => (true, Demand::Process),
        "strong-snapshot-isolation" => (true, Demand::RealTime),
        _ => return None,
    };
    Some(Target { snapshot, demand })
}

/// Whether [`decide`] knows a level. Of others only anomalies are known.
#[must_use]
pub fn is_decided(level: Level) -> bool {
    target(level).is_some() || weak_level(level).is_some()
}

fn weak_level(level: Level) -> Option<WeakLevel> {
    WeakLevel::ALL.into_iter().find(|weak| weak.name() == level.name())
}

/// Decides whether transactions that write each value once have a level: serializability, snapshot isolation
/// (both also within sessions or real time), causal consistency, read atomic or read committed. `assumed` is
/// what may be assumed of the order of versions, beyond what the level says. Sessions are processes.
///
/// ```
/// use quorate_jepsen::txn::exact::{Decision, Effort, decide};
/// use quorate_jepsen::txn::{Level, Outcome, StepKind, Transactions, VersionOrder};
///
/// // Two doctors go off duty, each because the other one is still on it: fine for snapshots.
/// let mut history = Transactions::new();
/// let (x, y) = (history.key(&"x".into()), history.key(&"y".into()));
/// history.begin(1, 10, 20, Outcome::Committed, 0);
/// history.step(StepKind::Read, x, []);
/// history.step(StepKind::Write, y, [1]);
/// history.begin(2, 11, 21, Outcome::Committed, 1);
/// history.step(StepKind::Read, y, []);
/// history.step(StepKind::Write, x, [2]);
/// let decided = |level: &str| {
///     let level: Level = level.parse().unwrap();
///     decide(&history, level, &VersionOrder::default(), &Effort::default()).unwrap()
/// };
/// assert_eq!(decided("snapshot-isolation"), Decision::Holds);
/// assert!(matches!(decided("serializable"), Decision::Broken(_)));
/// ```
pub fn decide(
    transactions: &Transactions,
    level: Level,
    assumed: &VersionOrder,
    effort: &Effort<'_>,
) -> Result<Decision, Unfit> {
    if let Some(weak) = weak_level(level) {
        let Some(finding) = weak::decide(transactions, weak)? else { return Ok(Decision::Holds) };
        let broken = |part: &Transactions| weak::decide(part, weak).ok().flatten();
        return Ok(Decision::Broken(Box::new(core::shrink(transactions, finding, &broken))));
    }
    let Some(target) = target(level) else {
        return Ok(Decision::Undecided(format!("{level} cannot be decided, only anomalies found")));
    };
    let cannot = match attempt(transactions, target, level, assumed, effort)? {
        Attempt::Holds => return Ok(Decision::Holds),
        Attempt::Undecided(why) => return Ok(Decision::Undecided(why)),
        Attempt::Broken(finding) => finding,
    };
    let broken = |part: &Transactions| match attempt(part, target, level, assumed, effort) {
        Ok(Attempt::Broken(finding)) => Some(*finding),
        _ => None,
    };
    Ok(Decision::Broken(Box::new(core::shrink(transactions, *cannot, &broken))))
}

enum Attempt {
    Holds,
    /// Not yet with the fewest transactions.
    Broken(Box<Finding>),
    Undecided(String),
}

fn attempt(
    transactions: &Transactions,
    target: Target,
    level: Level,
    assumed: &VersionOrder,
    effort: &Effort<'_>,
) -> Result<Attempt, Unfit> {
    let mut registers = Registers::new(transactions)?;
    if let Some(finding) = at_once(&registers) {
        return Ok(Attempt::Broken(Box::new(finding)));
    }
    if let Some(finding) = registers.order_versions(assumed).into_iter().next() {
        return Ok(Attempt::Broken(Box::new(finding)));
    }
    let problem = Problem::new(&registers, target, *assumed != VersionOrder::default());
    if witness::exists(&problem, effort) {
        return Ok(Attempt::Holds);
    }
    Ok(match saturate::search(&problem, effort) {
        saturate::Outcome::Ordered => Attempt::Holds,
        saturate::Outcome::GaveUp(why) => Attempt::Undecided(why),
        saturate::Outcome::Impossible(proof) => {
            Attempt::Broken(Box::new(core::finding(&registers, &problem, level, &proof)))
        }
    })
}

/// What breaks serializability and snapshot isolation alike, whatever the order.
fn at_once(registers: &Registers<'_>) -> Option<Finding> {
    let forbidden = BTreeSet::from([Anomaly::G1A, Anomaly::G1B, Anomaly::INTERNAL, Anomaly::LOST_UPDATE]);
    let found = register::find(registers).into_iter().find(|finding| forbidden.contains(&finding.anomaly));
    found.or_else(|| register::thin_air(registers)).or_else(|| register::read_ahead(registers))
}

/// Whether a transaction is part of the order: it committed, or somebody read from it.
fn takes_part(registers: &Registers<'_>) -> Vec<bool> {
    let list = &registers.transactions.list;
    let mut part: Vec<bool> = list.iter().map(|one| one.outcome == Outcome::Committed).collect();
    for index in 0..list.len() as Index {
        for read in registers.reads.of(index) {
            let writer = registers.writer[*read as usize];
            if writer != NOBODY {
                part[writer as usize] = true;
            }
        }
    }
    part
}
