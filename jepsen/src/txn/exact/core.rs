//! The fewest transactions that still have no order, and why they have none.

use super::super::anomaly::Anomaly;
use super::super::graph::kind;
use super::super::history::{Index, Transactions};
use super::super::level::Level;
use super::super::register::Registers;
use super::super::report::{Cycle, CycleEdge, Dependency, Finding};
use super::problem::{Problem, SAME};
use super::saturate::{Edge, Proof, Why};
use crate::hash::FastMap;
use crate::value::Value;

/// Leaves out whatever can be left out. `broken` says why some transactions still have no order, if they have
/// none. Since a part of what has an order has one, one try for each transaction is enough.
pub(super) fn shrink(
    transactions: &Transactions,
    finding: Finding,
    broken: &dyn Fn(&Transactions) -> Option<Finding>,
) -> Finding {
    let places: FastMap<usize, Index> =
        (0..).zip(&transactions.list).map(|(index, one)| (one.origin, index)).collect();
    let mut shown: Vec<Index> = finding.operations.iter().map(|origin| places[origin]).collect();
    shown.sort_unstable();
    shown.dedup();
    let (mut kept, mut finding) = match broken(&transactions.part(&shown)) {
        Some(again) => (shown, again),
        // A finding may leave out what leads from one of its transactions to the next.
        None => ((0..transactions.list.len() as Index).collect(), finding),
    };
    let mut room = SHRINK_MAX;
    let mut chunk = kept.len().div_ceil(2);
    while chunk > 0 {
        let mut at = 0;
        while at < kept.len() && kept.len() > 1 {
            let end = (at + chunk).min(kept.len());
            let rest: Vec<Index> = kept[..at].iter().chain(&kept[end..]).copied().collect();
            room = match room.checked_sub(rest.len()) {
                Some(room) => room,
                None => return finding,
            };
            match broken(&transactions.part(&rest)) {
                Some(again) => (kept, finding) = (rest, again),
                None => at = end,
            }
        }
        chunk /= 2;
    }
    // All that is left matters, also what a circle does not pass through.
    let missing = kept.iter().map(|index| transactions.list[*index as usize].origin);
    let missing: Vec<usize> = missing.filter(|origin| !finding.operations.contains(origin)).collect();
    finding.operations.extend(missing);
    finding
}

/// How many transactions may be looked at in all, to leave out some.
const SHRINK_MAX: usize = 3_000_000;

/// Puts a proof into words.
pub(super) fn finding(registers: &Registers<'_>, problem: &Problem, level: Level, proof: &Proof) -> Finding {
    let transactions = registers.transactions;
    let anomaly = Anomaly::named(level.name());
    let words = Words { registers, problem };
    let circle = words.circle(&proof.circle);
    let mut operations: Vec<usize> = circle.iter().map(|edge| edge.from).collect();
    for index in &proof.transactions {
        let origin = transactions.list[*index as usize].origin;
        if !operations.contains(&origin) {
            operations.push(origin);
        }
    }
    if circle.is_empty() {
        let sentence = format!(
            "whatever the order of these {} transactions, one of them does not read what was written last before it",
            operations.len()
        );
        return Finding { anomaly, operations, sentence, cycle: None };
    }
    let mut sentences: Vec<String> =
        proof.derived.iter().filter_map(|edge| words.link(*edge)).map(|edge| sentence(&edge)).collect();
    sentences.dedup();
    let circle = Cycle { edges: circle };
    sentences.push(circle.to_string());
    Finding { anomaly, operations, sentence: sentences.join("; "), cycle: Some(circle) }
}

fn sentence(edge: &CycleEdge) -> String {
    edge.why.sentence(&format!("T{}", edge.from), &format!("T{}", edge.to))
}

struct Words<'w, 't> {
    registers: &'w Registers<'t>,
    problem: &'w Problem,
}

impl Words<'_, '_> {
    /// The circle by transactions: what leads over moments of real time is one step.
    fn circle(&self, edges: &[Edge]) -> Vec<CycleEdge> {
        let Some(start) = edges.iter().position(|edge| self.problem.transaction_of(edge.from).is_some())
        else {
            return Vec::new();
        };
        let mut circle = Vec::new();
        let mut from = None;
        for edge in edges[start..].iter().chain(&edges[..start]) {
            let source = *from.get_or_insert(edge.from);
            if self.problem.transaction_of(edge.to).is_none() {
                continue;
            }
            circle.extend(self.link(Edge { from: source, to: edge.to, why: edge.why }));
            from = None;
        }
        circle
    }

    /// One step; none if it stays within a transaction.
    fn link(&self, edge: Edge) -> Option<CycleEdge> {
        let transactions = self.registers.transactions;
        let (from, to) = (self.problem.transaction_of(edge.from)?, self.problem.transaction_of(edge.to)?);
        let (source, target) = (&transactions.list[from as usize], &transactions.list[to as usize]);
        let name = |key: u32| transactions.key_name(key).clone();
        let why = match edge.why {
            Why::Known(SAME) => return None,
            Why::Known(kind::PROCESS) => Dependency::Process { process: source.process },
            Why::Known(kind::REALTIME) => Dependency::RealTime { ended: source.end, began: target.call },
            Why::Known(kind) => self.registers.why((from, to), kind)?,
            Why::Initial { key } => {
                Dependency::Missed { key: name(key), seen: Value::Nil, written: self.written(to, key) }
            }
            Why::Missed { key, writer } => Dependency::Missed {
                key: name(key),
                seen: self.written(writer, key),
                written: self.written(to, key),
            },
            Why::ReadPast { key, reader } => Dependency::ReadPast {
                key: name(key),
                known: self.written(from, key),
                read: self.written(to, key),
                reader: transactions.list[reader as usize].origin,
            },
            Why::Conflict { key } => Dependency::Apart { key: name(key) },
            Why::Choice(_) => return None,
        };
        Some(CycleEdge { from: source.origin, to: target.origin, steps: transactions.describe(from), why })
    }

    /// What a transaction left behind of a key.
    fn written(&self, transaction: Index, key: u32) -> Value {
        let mut writes = self.registers.writes.of(transaction).iter();
        let write = writes.find(|write| self.registers.names[**write as usize].0 == key);
        write.map_or(Value::Nil, |write| self.registers.value(*write))
    }
}
