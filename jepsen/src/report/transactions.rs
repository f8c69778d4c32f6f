//! Transactions: which check they get, and the report of it.

use super::{Report, Settings, evidence, finish, is_drawn, picture, shorten};
use crate::format::jepsen::{Answer, Ask};
use crate::history::{History, Operation};
use crate::txn::exact::{self, Decision, Effort};
use crate::txn::weak::WeakLevel;
use crate::txn::{self, Options, TransactionReport, Transactions, Workload};
use crate::value::Value;
use crate::verdict::Verdict;

type Named = History<Ask, Answer>;

/// Judges transactions by what the file says itself (`own`), or by the settings.
pub(super) fn judge(
    history: &Named,
    workload: Workload,
    own: Option<&Options>,
    settings: &Settings<'_>,
) -> Result<Report, String> {
    let options = own.cloned().or_else(|| settings.transactions.clone()).unwrap_or_default();
    let model = match workload {
        Workload::ListAppend => "list-append",
        Workload::Register => "rw-register",
    };
    // The cases of Elle's tests say what can be inferred, not what can be decided.
    infer(model, history, workload, &options, own.is_none(), settings)
}

/// Single writes and reads of several keys: no two reads may see two writes in different orders.
pub(super) fn judge_long_fork(history: &Named, settings: &Settings<'_>) -> Result<Report, String> {
    let forbidden = vec!["G-nonadjacent".parse().expect("a name of the table")];
    let options = Options { levels: Vec::new(), anomalies: forbidden, ..Options::default() };
    infer("long-fork", history, Workload::Register, &options, false, settings)
}

fn infer(
    model: &'static str,
    history: &Named,
    workload: Workload,
    options: &Options,
    decides: bool,
    settings: &Settings<'_>,
) -> Result<Report, String> {
    let transactions = txn::bind(history, workload).map_err(|(at, why)| format!("operation {at}: {why}"))?;
    let (verdict, report) = match txn::check(&transactions, workload, options) {
        Ok(mut report) => {
            if decides && workload == Workload::Register && report.findings.is_empty() {
                decide(&transactions.without_strangers(), options, settings, &mut report);
            }
            (report.verdict(), Some(report))
        }
        Err(unfit) => (Verdict::Unknown(unfit.why), None),
    };
    settings.judged.inspect(|judged| judged());
    Ok(report_of(model, history, verdict, report, settings))
}

/// Where no anomaly was found: is there an order, too?
fn decide(
    transactions: &Transactions,
    options: &Options,
    settings: &Settings<'_>,
    report: &mut TransactionReport,
) {
    let effort = Effort { bytes: settings.limits.bytes, stop: settings.limits.stop, ..Effort::default() };
    let mut is_complete = options.anomalies.is_empty();
    for level in &options.levels {
        match exact::decide(transactions, *level, &options.order, &effort) {
            Ok(Decision::Holds) => {}
            Ok(Decision::Broken(finding)) => {
                report.counts.push((finding.anomaly, 1));
                report.findings.push(*finding);
                (report.excluded, report.also_excluded) = (vec![*level], level.above());
                return;
            }
            Ok(Decision::Undecided(why)) if exact::is_decided(*level) => {
                is_complete = false;
                report.incomplete = Some(why);
            }
            Ok(Decision::Undecided(_)) => is_complete = false,
            Err(unfit) => {
                is_complete = false;
                report.incomplete = Some(unfit.why);
            }
        }
    }
    if is_complete {
        report.incomplete = None;
    }
}

fn report_of(
    model: &'static str,
    history: &Named,
    verdict: Verdict,
    transactions: Option<TransactionReport>,
    settings: &Settings<'_>,
) -> Report {
    let evidence = evidence(&verdict, history, |index| format!("T{index}"), describe);
    let picture = is_drawn(&verdict, settings)
        .then(|| picture::of_names(history, &verdict, transactions.as_ref(), describe));
    let transactions = transactions.map(Box::new);
    Report { transactions, ..finish(model, history.operations.len(), verdict, evidence, picture) }
}

fn describe(operation: &Operation<Ask, Answer>) -> String {
    match operation.output() {
        Some(answer) if !answer.ok => format!("{} (failed)", shorten(&operation.input.value.to_string())),
        Some(answer) if answer.value != Value::Nil => shorten(&answer.value.to_string()),
        _ => format!("{} (outcome unknown)", shorten(&operation.input.value.to_string())),
    }
}

/// Sessions have no times, so the weak levels are decided, from the strongest asked for down. What is stronger
/// is inferred as far as it can be.
pub(super) fn judge_sessions(history: &Named, settings: &Settings<'_>) -> Result<Report, String> {
    let transactions =
        txn::bind(history, Workload::Register).map_err(|(at, why)| format!("transaction {at}: {why}"))?;
    let asked = settings.transactions.as_ref();
    let level = asked.map_or(Some(WeakLevel::Causal), |options| WeakLevel::strongest_below(&options.levels));
    let (verdict, report) = match txn::weak::check(&transactions, level) {
        Ok(report) => (report.verdict(), Some(report)),
        Err(unfit) => (Verdict::Unknown(unfit.why), None),
    };
    if let Some(options) = asked.filter(|_| verdict.is_valid()) {
        let mut options = options.clone();
        options.levels.retain(|asked| Some(asked.name()) != level.map(WeakLevel::name));
        // There is no real time among sessions.
        for level in &mut options.levels {
            if *level == txn::Level::strict_serializable() {
                *level = "strong-session-serializable".parse().expect("a name of the table");
            }
        }
        if !options.levels.is_empty() || !options.anomalies.is_empty() {
            return infer("rw-register", history, Workload::Register, &options, true, settings);
        }
    }
    settings.judged.inspect(|judged| judged());
    Ok(report_of("rw-register", history, verdict, report, settings))
}
