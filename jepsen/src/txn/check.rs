//! The check itself: from transactions to a report.

use std::collections::{BTreeMap, BTreeSet};

use super::anomaly::Anomaly;
use super::append::{self, Versions};
use super::graph::{Edges, Graph, OUTSIDE, kind};
use super::history::{Index, Transactions};
use super::level::Level;
use super::register::{self, Registers};
use super::report::{Cycle, CycleEdge, Dependency, Finding, TransactionReport};
use super::{append_single, cycle, order};

/// What the transactions do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// They append to lists and read whole lists.
    ListAppend,
    /// They write values, each one only once per key, and read them.
    Register,
}

/// What to check, and what may be assumed.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The levels of isolation that should hold.
    pub levels: Vec<Level>,
    /// Anomalies that should not happen, besides those that these levels forbid.
    pub anomalies: Vec<Anomaly>,
    /// What is assumed of the order of a register's versions.
    pub order: VersionOrder,
    /// How much work to do.
    pub limits: Limits,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            levels: vec![Level::strict_serializable()],
            anomalies: Vec::new(),
            order: VersionOrder::default(),
            limits: Limits::default(),
        }
    }
}

/// What is assumed of the order of a register's versions. That nothing comes before the first write is always
/// assumed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionOrder {
    /// Who reads a key and then writes it replaces what was read.
    pub writes_follow_reads: bool,
    /// Each process sees the versions of a key in their order.
    pub sequential_keys: bool,
    /// Each key alone is linearizable.
    pub linearizable_keys: bool,
    /// The order of transactions, by their index in the history, as the database itself knows it.
    pub transactions: BTreeMap<usize, i64>,
}

/// How much work to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Edges that may be looked at in search of short cycles.
    pub cycle_steps: u64,
    /// Edges from readers to all those who wrote later in an order that nobody knows.
    pub unread_edges_max: usize,
    /// How many findings of each kind to keep.
    pub kept: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { cycle_steps: 200_000_000, unread_edges_max: 8_000_000, kept: 10 }
    }
}

/// Why a history cannot be judged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Unfit {
    /// The transactions that show it.
    pub transactions: Vec<Index>,
    /// Why.
    pub why: String,
}

/// Judges transactions.
pub fn check(
    transactions: &Transactions,
    workload: Workload,
    options: &Options,
) -> Result<TransactionReport, Unfit> {
    let forbidden: BTreeSet<Anomaly> = Level::forbidden(&options.levels)
        .union(&Anomaly::implying(options.anomalies.iter().copied()))
        .copied()
        .collect();
    let mut edges = Edges::default();
    let inferred = infer(transactions, workload, options, &mut edges)?;
    let mut nodes = transactions.list.len();
    // Who needs real time needs no processes: they are a part of it.
    if forbidden.iter().any(|anomaly| anomaly.needs_realtime()) {
        nodes = order::real_time_order(transactions, &mut edges);
    } else if forbidden.iter().any(|anomaly| anomaly.needs_process()) {
        order::process_order(transactions, &mut edges);
    }
    let (mut findings, mut subsumed) = (inferred.findings, Vec::new());
    let mut budget = options.limits.cycle_steps;
    let graph = Graph::new(nodes, &edges);
    let mut place = Vec::new();
    for component in graph.components(kind::ALL) {
        place.resize(nodes, OUTSIDE);
        for found in cycle::search(&graph, &component, transactions.list.len(), &mut place, &mut budget) {
            let steps = &found.steps;
            let edge = |(number, (from, kind)): (usize, &(u32, u8))| {
                let to = steps[(number + 1) % steps.len()].0;
                let (source, target) = (&transactions.list[*from as usize], &transactions.list[to as usize]);
                CycleEdge {
                    from: source.origin,
                    to: target.origin,
                    steps: transactions.describe(*from),
                    why: inferred.source.why(transactions, (*from, to), *kind),
                }
            };
            let edges = steps.iter().enumerate().map(edge).collect();
            let finding = Finding::of_cycle(found.anomaly, Cycle { edges });
            if found.is_subsumed { subsumed.push(finding) } else { findings.push(finding) }
        }
    }
    if !findings.iter().any(|finding| forbidden.contains(&finding.anomaly)) {
        findings.append(&mut subsumed);
    }
    let incomplete = if budget == 0 {
        Some("the search for cycles used up its steps, so there may be others".to_owned())
    } else if edges.len() == 0 {
        Some("no two transactions depend on each other, so there is nothing to judge".to_owned())
    } else {
        inferred.incomplete
    };
    Ok(summarize(findings, &forbidden, incomplete, options.limits.kept))
}

/// What can be known before cycles are searched for.
struct Inferred<'t> {
    findings: Vec<Finding>,
    source: Source<'t>,
    incomplete: Option<String>,
}

/// What knows why one transaction depends on another.
enum Source<'t> {
    Lists(Versions),
    Registers(Registers<'t>),
}

fn infer<'t>(
    transactions: &'t Transactions,
    workload: Workload,
    options: &Options,
    edges: &mut Edges,
) -> Result<Inferred<'t>, Unfit> {
    let many = "there are too many writes whose order nobody knows to follow all of them";
    let (findings, source, complete) = match workload {
        Workload::ListAppend => {
            let versions = Versions::new(transactions)?;
            let findings = append_single::find(transactions, &versions);
            let complete = append::dependencies(transactions, &versions, &options.limits, edges);
            (findings, Source::Lists(versions), complete)
        }
        Workload::Register => {
            let mut registers = Registers::new(transactions)?;
            let mut findings = register::find(&registers);
            findings.extend(registers.order_versions(&options.order));
            let complete = registers.dependencies(&options.limits, edges);
            (findings, Source::Registers(registers), complete)
        }
    };
    Ok(Inferred { findings, source, incomplete: (!complete).then(|| many.to_owned()) })
}

impl Source<'_> {
    fn why(&self, transactions: &Transactions, (from, to): (Index, Index), edge: u8) -> Dependency {
        let (source, target) = (&transactions.list[from as usize], &transactions.list[to as usize]);
        match edge {
            kind::PROCESS => Dependency::Process { process: source.process },
            kind::REALTIME => Dependency::RealTime { ended: source.end, began: target.call },
            _ => {
                let why = match self {
                    Source::Lists(versions) => append::why(transactions, versions, (from, to), edge),
                    Source::Registers(registers) => registers.why((from, to), edge),
                };
                why.expect("an edge was made for a reason that can be found again")
            }
        }
    }
}

fn summarize(
    mut findings: Vec<Finding>,
    forbidden: &BTreeSet<Anomaly>,
    incomplete: Option<String>,
    kept: usize,
) -> TransactionReport {
    let shown: BTreeSet<Anomaly> = findings.iter().map(|finding| finding.anomaly).collect();
    let (excluded, also_excluded) = Level::excluded(shown);
    findings.retain(|finding| forbidden.contains(&finding.anomaly));
    // The worst is what excludes most levels; of equals the one that fewest transactions show.
    let mut badness: BTreeMap<Anomaly, usize> = BTreeMap::new();
    for finding in &findings {
        badness.entry(finding.anomaly).or_insert_with(|| {
            let (weakest, others) = Level::excluded([finding.anomaly]);
            weakest.len() + others.len()
        });
    }
    findings.sort_by_key(|finding| {
        (usize::MAX - badness[&finding.anomaly], finding.anomaly, finding.operations.len())
    });
    let mut counts: Vec<(Anomaly, usize)> = Vec::new();
    findings.retain(|finding| {
        match counts.last_mut() {
            Some((anomaly, count)) if *anomaly == finding.anomaly => *count += 1,
            _ => counts.push((finding.anomaly, 1)),
        }
        counts.last().is_some_and(|(_, count)| *count <= kept)
    });
    TransactionReport { findings, counts, excluded, also_excluded, incomplete }
}
