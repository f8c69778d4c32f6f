//! Pictures of histories that no sequential model judged: every operation as a bar, and the cycles of
//! transactions.

use crate::explain::{Bar, Cycle, Edge, Kind, Part, Picture};
use crate::format::jepsen::{Answer, Ask};
use crate::history::{History, Operation};
use crate::txn::TransactionReport;
use crate::value::Value;
use crate::verdict::Verdict;

/// Draws operations by name.
pub(super) fn of_names(
    history: &History<Ask, Answer>,
    verdict: &Verdict,
    transactions: Option<&TransactionReport>,
    describe: impl Fn(&Operation<Ask, Answer>) -> String,
) -> Picture {
    let label = if transactions.is_some() { "T" } else { "op " };
    let mut picture = Picture { parts: vec![Part::default()], label, ..Picture::default() };
    picture.bars = history
        .operations
        .iter()
        .enumerate()
        .map(|(id, operation)| Bar {
            id,
            process: operation.process,
            call: operation.call,
            end: operation.returned.as_ref().map(|returned| returned.at),
            text: describe(operation),
            kind: kind(operation),
            part: 0,
            core: 0,
        })
        .collect();
    match verdict {
        Verdict::Valid => "valid".clone_into(&mut picture.verdict),
        Verdict::Unknown(why) => {
            "unknown".clone_into(&mut picture.verdict);
            picture.why = vec![why.clone()];
        }
        Verdict::Invalid(violation) => {
            "invalid".clone_into(&mut picture.verdict);
            picture.rule = Some(violation.rule.to_owned());
            picture.why = vec![violation.sentence.clone()];
            for (place, index) in violation.operations.iter().enumerate().rev() {
                picture.bars[*index].core = if place == 0 { 2 } else { 1 };
            }
        }
    }
    let found = transactions.into_iter().flat_map(|report| &report.findings);
    picture.cycles = found
        .filter_map(|finding| {
            let cycle = finding.cycle.as_ref()?;
            let edges = cycle.edges.iter().map(|edge| Edge {
                from: edge.from,
                to: edge.to,
                kind: edge.why.short().to_owned(),
                because: edge.why.sentence(&format!("T{}", edge.from), &format!("T{}", edge.to)),
            });
            Some(Cycle { name: finding.anomaly.name().to_owned(), edges: edges.collect() })
        })
        .collect();
    picture
}

fn kind(operation: &Operation<Ask, Answer>) -> Kind {
    if operation.output().is_some_and(|answer| !answer.ok) {
        return Kind::Failed;
    }
    let reads = ["read", "get", "contains", "r"];
    let is_read = match &operation.input.value {
        Value::List(steps) if !steps.is_empty() => steps.iter().all(|step| {
            matches!(step, Value::List(parts) if parts.first().and_then(Value::name).is_some_and(|name| reads.contains(&name)))
        }),
        _ => reads.contains(&operation.input.f.as_str()),
    };
    if is_read { Kind::Read } else { Kind::Write }
}
