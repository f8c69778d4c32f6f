//! What a check of transactions finds: anomalies, cycles, and the levels that they exclude.

use std::fmt;

use super::anomaly::Anomaly;
use super::history::{Index, Transactions};
use super::level::Level;
use crate::value::Value;
use crate::verdict::{Verdict, Violation};

/// One anomaly and what shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which.
    pub anomaly: Anomaly,
    /// The transactions that show it, as indices into the history, the offender first.
    pub operations: Vec<usize>,
    /// How.
    pub sentence: String,
    /// The cycle, if it is one.
    pub cycle: Option<Cycle>,
}

impl Finding {
    pub(super) fn new(
        transactions: &Transactions,
        anomaly: Anomaly,
        shown: &[Index],
        sentence: String,
    ) -> Finding {
        let operations = shown.iter().map(|index| transactions.list[*index as usize].origin).collect();
        Finding { anomaly, operations, sentence, cycle: None }
    }

    pub(super) fn of_cycle(anomaly: Anomaly, cycle: Cycle) -> Finding {
        let operations: Vec<usize> = cycle.edges.iter().map(|edge| edge.from).collect();
        let sentence = cycle.to_string();
        Finding { anomaly, operations, sentence, cycle: Some(cycle) }
    }
}

/// A circle of transactions, each of which must come before the next, and the last before the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cycle {
    /// The edges in order: the target of each is the source of the next, and of the last that of the first.
    pub edges: Vec<CycleEdge>,
}

/// One step of a cycle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CycleEdge {
    /// The transaction that must come first, as an index into the history.
    pub from: usize,
    /// The one that must come later.
    pub to: usize,
    /// What the first one did, in words.
    pub steps: String,
    /// Why.
    pub why: Dependency,
}

/// Why one transaction must come before another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dependency {
    /// The later one replaced the earlier one's version (write-write).
    Overwrote {
        /// Of which key.
        key: Value,
        /// The version before.
        old: Value,
        /// The version after.
        new: Value,
    },
    /// The later one read the earlier one's version (write-read).
    Read {
        /// Of which key.
        key: Value,
        /// That version.
        value: Value,
    },
    /// The earlier one read the version that the later one replaced (read-write).
    Missed {
        /// Of which key.
        key: Value,
        /// What was read; nil is the beginning.
        seen: Value,
        /// What was written over it.
        written: Value,
    },
    /// Somebody knew of the earlier one's version of a key and read the later one's, so that was newer.
    Ordered {
        /// Which key.
        key: Value,
        /// The earlier one's version.
        known: Value,
        /// The later one's.
        read: Value,
        /// Who did, as an index into the history.
        reader: usize,
        /// The level of isolation that says so.
        level: &'static str,
    },
    /// Somebody came after the earlier one and yet read the later one's version of a key, so that was newer.
    ReadPast {
        /// Which key.
        key: Value,
        /// The earlier one's version.
        known: Value,
        /// The later one's.
        read: Value,
        /// Who did, as an index into the history.
        reader: usize,
    },
    /// Both wrote a key, and the earlier one began before the later one ended, so it ended before that began.
    Apart {
        /// Which key.
        key: Value,
    },
    /// The later one knows of the earlier one.
    Knows {
        /// The level of isolation that says so.
        level: &'static str,
    },
    /// The same process did one after the other.
    Process {
        /// Which.
        process: u64,
    },
    /// The later one began after the earlier one had ended.
    RealTime {
        /// When the earlier one ended.
        ended: u64,
        /// When the later one began.
        began: u64,
    },
}

impl Dependency {
    /// The usual short name of such an edge.
    #[must_use]
    pub fn short(&self) -> &'static str {
        match self {
            Dependency::Overwrote { .. } => "ww",
            Dependency::Read { .. } => "wr",
            Dependency::Missed { .. } => "rw",
            Dependency::Ordered { .. } | Dependency::ReadPast { .. } => "order",
            Dependency::Apart { .. } => "apart",
            Dependency::Knows { .. } => "known",
            Dependency::Process { .. } => "process",
            Dependency::RealTime { .. } => "realtime",
        }
    }

    /// Why `from` must come before `to`, given what the two are called.
    #[must_use]
    pub fn sentence(&self, from: &str, to: &str) -> String {
        match self {
            Dependency::Overwrote { key, old, new } => {
                format!("{to} wrote {new} to key {key} after {from} had written {old}")
            }
            Dependency::Read { key, value } => {
                format!("{to} read {value} from key {key}, which {from} wrote")
            }
            Dependency::Missed { key, seen: Value::Nil, written } => {
                format!("{from} found key {key} empty, without {written}, which {to} wrote")
            }
            Dependency::Missed { key, seen, written } => {
                format!(
                    "{from} read {seen} from key {key} and did not see {written}, which {to} wrote over it"
                )
            }
            Dependency::Ordered { key, known, read, reader, .. } => format!(
                "T{reader} knew of {from}, which wrote {known} to key {key}, and yet read {read}, so {to}, which \
                 wrote that, came after {from}"
            ),
            Dependency::ReadPast { key, known, read, reader } => format!(
                "T{reader} came after {from}, which wrote {known} to key {key}, and yet read {read}, so {to}, which \
                 wrote that, came after {from}"
            ),
            Dependency::Apart { key } => {
                format!("{from} and {to} both wrote key {key}, so that {to} began only when {from} had ended")
            }
            Dependency::Knows { level } => format!("by {level}, {to} knew of {from}"),
            Dependency::Process { process } => format!("process {process} did {from} before {to}"),
            Dependency::RealTime { ended, began } => {
                format!("{from} ended at {ended}, before {to} began at {began}")
            }
        }
    }
}

/// The cycle in words: transactions are called by their index in the history.
impl fmt::Display for Cycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, edge) in self.edges.iter().enumerate() {
            let (from, to) = (format!("T{}", edge.from), format!("T{}", edge.to));
            let glue = match number {
                0 => "",
                _ if number + 1 == self.edges.len() => "; but ",
                _ => "; ",
            };
            write!(f, "{glue}{}", edge.why.sentence(&from, &to))?;
        }
        Ok(())
    }
}

/// The result of a check of transactions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransactionReport {
    /// Everything found that the levels asked for forbid; the worst first, at most a few of each kind.
    pub findings: Vec<Finding>,
    /// How often each kind of anomaly was found.
    pub counts: Vec<(Anomaly, usize)>,
    /// The weakest levels that cannot hold.
    pub excluded: Vec<Level>,
    /// The levels that cannot hold because those cannot.
    pub also_excluded: Vec<Level>,
    /// Why the check could not be complete, if it could not.
    pub incomplete: Option<String>,
}

impl TransactionReport {
    /// The names of all anomalies found, sorted.
    #[must_use]
    pub fn anomalies(&self) -> Vec<&'static str> {
        let mut names: Vec<&str> = self.counts.iter().map(|(anomaly, _)| anomaly.name()).collect();
        names.sort_unstable();
        names
    }

    /// The verdict on the levels asked for.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let Some(worst) = self.findings.first() else {
            return match &self.incomplete {
                Some(why) => Verdict::Unknown(why.clone()),
                None => Verdict::Valid,
            };
        };
        let mut sentence = format!("{}: {}", worst.anomaly.meaning(), worst.sentence);
        if !self.excluded.is_empty() {
            let names: Vec<&str> = self.excluded.iter().map(|level| level.name()).collect();
            sentence = format!("{sentence}. This is not {}", names.join(", not "));
        }
        let others: Vec<String> = self
            .counts
            .iter()
            .filter(|(anomaly, _)| *anomaly != worst.anomaly)
            .map(|(anomaly, count)| format!("{anomaly} ({count})"))
            .collect();
        if !others.is_empty() {
            sentence = format!("{sentence}. Also found: {}", others.join(", "));
        }
        Verdict::Invalid(Violation {
            rule: worst.anomaly.name(),
            sentence,
            operations: worst.operations.clone(),
        })
    }
}
