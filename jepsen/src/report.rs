//! From a recording to a verdict that people can read: what the command line does, as a function.

use std::fmt::Display;
use std::str::FromStr;

use crate::etcd::{self, EtcdHistory, Options};
use crate::explain::{self, Picture};
use crate::format::Recording;
use crate::format::jepsen::{Answer, Ask};
use crate::history::{History, Operation};
use crate::model::Model;
use crate::models::EtcdModel;
use crate::models::named::{self, Bound, Semantics, Unmeaning};
use crate::search::{Limits, check};
use crate::txn::weak::WeakLevel;
use crate::txn::{self, TransactionReport, Workload};
use crate::value::Value;
use crate::verdict::Verdict;

/// The models that a recording can be judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelName {
    /// Read, write and compare-and-set.
    Register,
    /// Get, put and append on strings.
    KeyValue,
    /// Transactions over several registers.
    MultiRegister,
    /// A lock.
    Mutex,
    /// Transactions that append to lists and read them.
    ListAppend,
    /// Transactions that write values, each one once, and read them.
    RwRegister,
    /// etcd.
    Etcd,
}

impl ModelName {
    /// All names that [`ModelName::from_str`] knows.
    pub const NAMES: [&'static str; 8] = [
        "register",
        "cas-register",
        "key-value",
        "multi-register",
        "mutex",
        "list-append",
        "rw-register",
        "etcd",
    ];
}

impl FromStr for ModelName {
    type Err = String;

    fn from_str(name: &str) -> Result<ModelName, String> {
        match name {
            "register" | "cas-register" => Ok(ModelName::Register),
            "key-value" | "kv" => Ok(ModelName::KeyValue),
            "multi-register" => Ok(ModelName::MultiRegister),
            "mutex" => Ok(ModelName::Mutex),
            "list-append" => Ok(ModelName::ListAppend),
            "rw-register" => Ok(ModelName::RwRegister),
            "etcd" => Ok(ModelName::Etcd),
            other => Err(format!("no model {other:?}: expected one of {}", ModelName::NAMES.join(", "))),
        }
    }
}

/// How to judge.
#[derive(Clone, Default)]
pub struct Settings<'a> {
    /// The model; guessed by the names of the operations if not given.
    pub model: Option<ModelName>,
    /// What the history leaves open.
    pub semantics: Semantics,
    /// What the search may use.
    pub limits: Limits<'a>,
    /// What the etcd engine may assume.
    pub etcd: Options,
    /// Whether to draw valid histories, too ([`Report::picture`]). Takes longer than the verdict.
    pub draw: bool,
    /// Called when the verdict is there and only its explanation is still to be made. For stopwatches.
    pub judged: Option<&'a dyn Fn()>,
    /// What transactions are to be held to; what a file says itself comes first.
    pub transactions: Option<txn::Options>,
}

/// A verdict and what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Which model judged.
    pub model: &'static str,
    /// How many operations it judged.
    pub operations: usize,
    /// The verdict; operations by their index in the recording.
    pub verdict: Verdict,
    /// The operations of a violation, in words, in the order of their calls.
    pub evidence: Vec<String>,
    /// Why, in words, the clearest first; none for a valid history.
    pub why: Vec<String>,
    /// The history as a picture: of every invalid one, of others if asked for.
    pub picture: Option<Box<Picture>>,
    /// What was found about transactions.
    pub transactions: Option<Box<TransactionReport>>,
}

/// Judges a recording. An error says why the model does not fit it.
pub fn judge(recording: &Recording, settings: &Settings<'_>) -> Result<Report, String> {
    match recording {
        Recording::Etcd(history) if matches!(settings.model, None | Some(ModelName::Etcd)) => {
            Ok(judge_etcd(history, settings))
        }
        Recording::Etcd(_) => Err("operations of etcd can be judged by the model etcd only".to_owned()),
        Recording::Case(case) => judge_transactions(&case.history, case.workload, &case.options),
        Recording::Sessions(history) => judge_sessions(history, settings),
        Recording::Named(history) => judge_named(history, settings),
    }
}

fn judge_etcd(history: &EtcdHistory, settings: &Settings<'_>) -> Report {
    let operations = &history.operations;
    let without_revision = operations.operations.iter().any(|operation| {
        operation.output().is_some_and(|response| response.revision == 0 && response.result.is_ok())
    });
    let verdict = match etcd::check(history, &settings.etcd) {
        Verdict::Unknown(_) if without_revision && history.watches.is_empty() => {
            check(&EtcdModel { initial: settings.etcd.initial.clone() }, operations, &settings.limits)
        }
        verdict => verdict,
    };
    let evidence = evidence(&verdict, operations, |operation| match operation.output() {
        Some(response) => format!("{} -> {response}", operation.input),
        None => format!("{} -> unknown", operation.input),
    });
    settings.judged.inspect(|judged| judged());
    let count = operations.operations.len() + history.watches.len();
    let ticks = settings.etcd.ticks_per_second;
    let picture = is_drawn(&verdict, settings).then(|| explain::picture_of_etcd(history, &verdict, ticks));
    finish("etcd", count, verdict, evidence, picture)
}

/// Only what somebody will look at is drawn.
fn is_drawn(verdict: &Verdict, settings: &Settings<'_>) -> bool {
    settings.draw || (verdict.is_invalid() && settings.limits.explain)
}

fn finish(
    model: &'static str,
    operations: usize,
    verdict: Verdict,
    evidence: Vec<String>,
    picture: Option<Picture>,
) -> Report {
    let why = match (&picture, &verdict) {
        (Some(picture), _) => picture.why.clone(),
        (None, Verdict::Valid) => Vec::new(),
        (None, Verdict::Invalid(violation)) => vec![violation.sentence.clone()],
        (None, Verdict::Unknown(reason)) => vec![reason.clone()],
    };
    let picture = picture.map(|picture| Box::new(Picture { model: model.to_owned(), ..picture }));
    Report { model, operations, verdict, evidence, why, picture, transactions: None }
}

fn judge_named(history: &History<Ask, Answer>, settings: &Settings<'_>) -> Result<Report, String> {
    let model = match settings.model {
        Some(model) => model,
        None => named::guess(history)
            .ok_or_else(|| {
                format!("no model has all these operations; name one of {}", ModelName::NAMES.join(", "))
            })?
            .parse()?,
    };
    let semantics = &settings.semantics;
    match model {
        ModelName::Register => judge_bound("register", named::register(history, semantics), settings),
        ModelName::KeyValue => judge_bound("key-value", named::key_value(history), settings),
        ModelName::MultiRegister => {
            judge_bound("multi-register", named::multi_register(history, semantics), settings)
        }
        ModelName::Mutex => judge_bound("mutex", named::mutex(history), settings),
        ModelName::ListAppend => judge_transactions(history, Workload::ListAppend, &options(settings)),
        ModelName::RwRegister => judge_transactions(history, Workload::Register, &options(settings)),
        ModelName::Etcd => Err("the model etcd needs operations in the format etcd".to_owned()),
    }
}

fn options(settings: &Settings<'_>) -> txn::Options {
    settings.transactions.clone().unwrap_or_default()
}

fn judge_transactions(
    history: &History<Ask, Answer>,
    workload: Workload,
    options: &txn::Options,
) -> Result<Report, String> {
    let transactions = txn::bind(history, workload).map_err(|(at, why)| format!("operation {at}: {why}"))?;
    let (verdict, report) = match txn::check(&transactions, workload, options) {
        Ok(report) => (report.verdict(), Some(Box::new(report))),
        Err(unfit) => (Verdict::Unknown(unfit.why), None),
    };
    let model = match workload {
        Workload::ListAppend => "list-append",
        Workload::Register => "rw-register",
    };
    Ok(transaction_report(model, history, verdict, report))
}

fn transaction_report(
    model: &'static str,
    history: &History<Ask, Answer>,
    verdict: Verdict,
    transactions: Option<Box<TransactionReport>>,
) -> Report {
    let evidence = evidence(&verdict, history, |operation| match operation.output() {
        Some(answer) if answer.ok && answer.value != Value::Nil => answer.value.to_string(),
        Some(answer) if !answer.ok => format!("{} (failed)", operation.input.value),
        _ => operation.input.value.to_string(),
    });
    Report { transactions, ..finish(model, history.operations.len(), verdict, evidence, None) }
}

/// Sessions have no times, so the weak levels are decided, from the strongest asked for down.
fn judge_sessions(history: &History<Ask, Answer>, settings: &Settings<'_>) -> Result<Report, String> {
    let transactions =
        txn::bind(history, Workload::Register).map_err(|(at, why)| format!("transaction {at}: {why}"))?;
    let asked = settings.transactions.as_ref().map(|options| options.levels.as_slice());
    let level = asked.map_or(Some(WeakLevel::Causal), WeakLevel::strongest_below);
    let (verdict, report) = match txn::weak::check(&transactions, level) {
        Ok(report) => (report.verdict(), Some(report)),
        Err(unfit) => (Verdict::Unknown(unfit.why), None),
    };
    // Above causal there is inference only.
    let above = asked
        .is_some_and(|levels| levels.iter().any(|asked| Some(asked.name()) != level.map(WeakLevel::name)));
    if above && verdict.is_valid() {
        return judge_transactions(history, Workload::Register, &options(settings));
    }
    Ok(transaction_report("rw-register", history, verdict, report.map(Box::new)))
}

fn judge_bound<M: Model>(
    name: &'static str,
    bound: Result<Bound<M>, Unmeaning>,
    settings: &Settings<'_>,
) -> Result<Report, String> {
    let bound = bound.map_err(|error| error.to_string())?;
    let mut verdict = check(&bound.model, &bound.history, &settings.limits);
    settings.judged.inspect(|judged| judged());
    let picture = is_drawn(&verdict, settings)
        .then(|| explain::picture(&bound.model, &bound.history, &bound.origin, &verdict, settings.draw));
    if let (Verdict::Invalid(violation), Some(picture)) = (&mut verdict, &picture) {
        // The picture knows who is to be named first.
        violation.operations.sort_by_key(|index| picture.bars[*index].core != 2);
    }
    let evidence = evidence(&verdict, &bound.history, |operation| {
        bound.model.describe(&operation.input, operation.output())
    });
    if let Verdict::Invalid(violation) = &mut verdict {
        violation.operations.iter_mut().for_each(|index| *index = bound.origin[*index]);
    }
    Ok(finish(name, bound.history.operations.len(), verdict, evidence, picture))
}

/// The operations of a violation, one line each.
fn evidence<I, O>(
    verdict: &Verdict,
    history: &History<I, O>,
    describe: impl Fn(&Operation<I, O>) -> String,
) -> Vec<String> {
    let Verdict::Invalid(violation) = verdict else { return Vec::new() };
    let mut indices = violation.operations.clone();
    indices.sort_by_key(|index| (history.operations[*index].call, *index));
    let line = |index: &usize| {
        let operation = &history.operations[*index];
        let mark = if violation.operations.first() == Some(index) { '*' } else { ' ' };
        let end: &dyn Display = match &operation.returned {
            Some(returned) => &returned.at,
            None => &"?",
        };
        let times = format!("[{}, {end}]", operation.call);
        format!("{mark} {times:<16} process {:<4} {}", operation.process, describe(operation))
    };
    indices.iter().map(line).collect()
}
