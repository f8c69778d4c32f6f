//! From a recording to a verdict that people can read: what the command line does, as a function.

mod names;
mod picture;
mod stream;
mod transactions;

use std::collections::BTreeSet;
use std::fmt::Display;

use crate::direct;
use crate::etcd::{self, Options, Records};
use crate::explain::{self, Picture};
use crate::format::Recording;
use crate::format::jepsen::{Answer, Ask};
use crate::history::{History, Operation};
use crate::model::Model;
use crate::models::named::{self, Bound, Semantics, Unmeaning};
use crate::models::{EtcdModel, OwnedLock, Semaphore, named_objects as objects};
use crate::robustness;
use crate::search::{Limits, check};
use crate::txn::{self, TransactionReport, Workload};
use crate::value::Value;
use crate::verdict::Verdict;

pub use names::ModelName;
pub use stream::judge_stream;

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
    /// How many permits a semaphore has, or how often a lock may be held at once.
    pub permits: Option<u32>,
    /// How much money a bank has; what its first read shows if not given.
    pub total: Option<i64>,
    /// Whether accounts may be overdrawn.
    pub negative_balances: bool,
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
        Recording::Case(case) => {
            transactions::judge(&case.history, case.workload, Some(&case.options), settings)
        }
        Recording::Sessions(history) => transactions::judge_sessions(history, settings),
        Recording::Robustness(report) => Ok(judge_robustness(report, settings)),
        Recording::Named(history) => judge_named(history, settings),
    }
}

fn judge_etcd(records: &Records<'_>, settings: &Settings<'_>) -> Report {
    let options = Options { bytes_max: settings.limits.bytes, ..settings.etcd.clone() };
    let verdict = match etcd::check_records(records, &options, settings.limits.stop) {
        Verdict::Unknown(_) if records.lacks_revisions() && records.watches().is_empty() => {
            let model = EtcdModel { initial: settings.etcd.initial.clone() };
            check(&model, &records.history().operations, &settings.limits)
        }
        verdict => verdict,
    };
    settings.judged.inspect(|judged| judged());
    let count = records.len() + records.watches().len();
    let ticks = settings.etcd.ticks_per_second;
    let (mut evidence, mut picture) = (Vec::new(), None);
    if verdict.is_invalid() || settings.draw {
        let history = records.history();
        let name = |index| format!("op {index}");
        evidence =
            self::evidence(&verdict, &history.operations, name, |operation| match operation.output() {
                Some(response) => shorten_to(ETCD_TEXT_MAX, &format!("{} -> {response}", operation.input)),
                None => shorten_to(ETCD_TEXT_MAX, &format!("{} -> unknown", operation.input)),
            });
        picture = is_drawn(&verdict, settings).then(|| explain::picture_of_etcd(&history, &verdict, ticks));
    }
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
    let model = match settings.model.or_else(|| ModelName::guess(history)) {
        Some(model) => model,
        None => return Err(unfit(history)),
    };
    let (name, semantics) = (model.name(), &settings.semantics);
    let of_transactions = [ModelName::ListAppend, ModelName::RwRegister, ModelName::LongFork];
    if settings.transactions.is_some() && !of_transactions.contains(&model) {
        return Err(format!(
            "levels of isolation, anomalies and orders of versions are asked of transactions, and this is judged as {name}: \
             leave them out, or name list-append or rw-register by --model"
        ));
    }
    match model {
        ModelName::Register => judge_bound(name, named::register(history, semantics), settings),
        ModelName::KeyValue => judge_bound(name, named::key_value(history), settings),
        ModelName::MultiRegister => {
            // Knossos's registers hold zero at first; that one holds nothing can never be seen.
            let initial =
                if semantics.initial == Value::Nil { Value::Int(0) } else { semantics.initial.clone() };
            let semantics = Semantics { initial, ..semantics.clone() };
            judge_bound(name, named::multi_register(history, &semantics), settings)
        }
        ModelName::Mutex => {
            let report = judge_bound(name, named::mutex(history), settings)?;
            Ok(seen_by_holders(report, history, settings))
        }
        ModelName::OwnerMutex => {
            judge_bound(name, objects::owned_lock(history, OwnedLock::default()), settings)
        }
        ModelName::ReentrantMutex => {
            let lock = OwnedLock { depth: settings.permits.unwrap_or(2), fenced: false };
            judge_bound(name, objects::owned_lock(history, lock), settings)
        }
        ModelName::FencedLock => {
            let lock = OwnedLock { depth: settings.permits.unwrap_or(1), fenced: true };
            judge_bound(name, objects::owned_lock(history, lock), settings)
        }
        ModelName::Semaphore => {
            let permits = settings.permits.map_or_else(Semaphore::default, |permits| Semaphore { permits });
            judge_bound(name, objects::semaphore(history, permits), settings)
        }
        ModelName::FifoQueue => judge_bound(name, objects::fifo_queue(history), settings),
        ModelName::Queue => judge_bound(name, objects::unordered_queue(history), settings),
        ModelName::LinearizableSet => judge_bound(name, objects::set(history), settings),
        ModelName::LinearizableCounter => judge_bound(name, objects::counter(history), settings),
        ModelName::ListAppend => transactions::judge(history, Workload::ListAppend, None, settings),
        ModelName::RwRegister => transactions::judge(history, Workload::Register, None, settings),
        ModelName::LongFork => transactions::judge_long_fork(history, settings),
        ModelName::Etcd => Err("the model etcd needs operations in the format etcd".to_owned()),
        _ => judge_directly(model, history, settings),
    }
}

/// Some locks are refuted by counting alone: more acquisitions than releases, over a long time. If they are refuted by
/// few operations as soon as each process releases what it has acquired itself, then those are shown.
fn seen_by_holders(report: Report, history: &History<Ask, Answer>, settings: &Settings<'_>) -> Report {
    let shown = |report: &Report| match &report.verdict {
        Verdict::Invalid(violation) => violation.operations.len(),
        _ => 0,
    };
    if shown(&report) <= MUTEX_SHOWN_MAX || !settings.limits.explain {
        return report;
    }
    let lock = objects::owned_lock(history, OwnedLock::default());
    match judge_bound(report.model, lock, &Settings { judged: None, ..settings.clone() }) {
        Ok(mut by_holders) if by_holders.verdict.is_invalid() && shown(&by_holders) < shown(&report) => {
            let counted = report.why.last().map_or("", String::as_str);
            let why = format!(
                "that is so if each process releases what it has acquired itself; whoever releases, {counted}"
            );
            by_holders.why.push(why.clone());
            if let Some(picture) = &mut by_holders.picture {
                picture.why.push(why);
            }
            by_holders
        }
        _ => report,
    }
}

/// More operations of a lock are too many to look at.
const MUTEX_SHOWN_MAX: usize = 12;

/// What the operations are called that no model has together.
fn unfit(history: &History<Ask, Answer>) -> String {
    let names: BTreeSet<&str> =
        history.operations.iter().map(|operation| operation.input.f.as_str()).collect();
    let shown: Vec<&str> = names.iter().copied().take(8).collect();
    let more = if names.len() > shown.len() { " and others" } else { "" };
    let operations = shown.join(", ");
    format!(
        "no model has operations called {operations}{more}: name the one that is meant by --model (one of {}), or call \
         them as it does (README.md has a table)",
        ModelName::all()
    )
}

/// Judges a report of etcd's robustness tests.
fn judge_robustness(report: &robustness::Report, settings: &Settings<'_>) -> Report {
    let verdict = robustness::check(report, &settings.limits);
    settings.judged.inspect(|judged| judged());
    finish("etcd-robustness", report.len(), verdict, Vec::new(), None)
}

/// Judges by a check of its own kind.
fn judge_directly(
    model: ModelName,
    history: &History<Ask, Answer>,
    settings: &Settings<'_>,
) -> Result<Report, String> {
    let verdict = match model {
        ModelName::TotalQueue => direct::total_queue(history, false)?,
        ModelName::Set => direct::set(history)?,
        ModelName::SetFull => direct::set_full(history, false)?,
        ModelName::Counter => direct::counter(history)?,
        ModelName::Bank => direct::bank(history, settings.total, settings.negative_balances)?,
        ModelName::UniqueIds => direct::unique_ids(history),
        ModelName::Comments => direct::comments(history)?,
        other => return Err(format!("the model {} has no direct check", other.name())),
    };
    settings.judged.inspect(|judged| judged());
    let evidence = evidence(&verdict, history, |index| format!("op {index}"), name_of);
    let picture = is_drawn(&verdict, settings).then(|| picture::of_names(history, &verdict, None, name_of));
    Ok(finish(model.name(), history.operations.len(), verdict, evidence, picture))
}

/// An operation as the history names it.
fn name_of(operation: &Operation<Ask, Answer>) -> String {
    let (f, asked) = (&operation.input.f, &operation.input.value);
    match operation.output() {
        Some(answer) if !answer.ok => format!("{f} {asked} failed"),
        Some(answer) if answer.value != Value::Nil && answer.value != *asked => {
            format!("{f} {}", shorten(&answer.value.to_string()))
        }
        Some(_) => format!("{f} {}", shorten(&asked.to_string())),
        None => format!("{f} {} (outcome unknown)", shorten(&asked.to_string())),
    }
}

/// What fits a line or two.
fn shorten(text: &str) -> String {
    shorten_to(TEXT_MAX, text)
}

/// How long operations are told by name, and those of etcd, whose transactions say more.
const TEXT_MAX: usize = 160;
const ETCD_TEXT_MAX: usize = 500;

fn shorten_to(max: usize, text: &str) -> String {
    match text.char_indices().nth(max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
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
    let numbered = |index: usize| format!("op {}", bound.origin[index]);
    let evidence = evidence(&verdict, &bound.history, numbered, |operation| {
        bound.model.describe(&operation.input, operation.output())
    });
    if let Verdict::Invalid(violation) = &mut verdict {
        violation.operations.iter_mut().for_each(|index| *index = bound.origin[*index]);
    }
    Ok(finish(name, bound.history.operations.len(), verdict, evidence, picture))
}

/// The operations of a violation, one line each, under the names that sentences and pages give them.
fn evidence<I, O>(
    verdict: &Verdict,
    history: &History<I, O>,
    name: impl Fn(usize) -> String,
    describe: impl Fn(&Operation<I, O>) -> String,
) -> Vec<String> {
    let Verdict::Invalid(violation) = verdict else { return Vec::new() };
    let mut indices = violation.operations.clone();
    indices.sort_by_key(|index| (history.operations[*index].call, *index));
    let line = |index: &usize| {
        let operation = &history.operations[*index];
        line_of(&name(*index), violation.operations.first() == Some(index), operation, &describe(operation))
    };
    indices.iter().map(line).collect()
}

/// One operation of a violation.
fn line_of<I, O>(name: &str, is_first: bool, operation: &Operation<I, O>, words: &str) -> String {
    let mark = if is_first { '*' } else { ' ' };
    let end: &dyn Display = match &operation.returned {
        Some(returned) => &returned.at,
        None => &"?",
    };
    let times = format!("[{}, {end}]", operation.call);
    format!("{mark} {name:<6} {times:<16} process {:<4} {words}", operation.process)
}
