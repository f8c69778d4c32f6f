//! From a recording to a verdict that people can read: what the command line does, as a function.

use std::fmt::Display;
use std::str::FromStr;

use crate::etcd::{self, EtcdHistory, Options};
use crate::format::Recording;
use crate::format::jepsen::{Answer, Ask};
use crate::history::{History, Operation};
use crate::model::Model;
use crate::models::EtcdModel;
use crate::models::named::{self, Bound, Semantics, Unmeaning};
use crate::search::{Limits, check};
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
    /// etcd.
    Etcd,
}

impl ModelName {
    /// All names that [`ModelName::from_str`] knows.
    pub const NAMES: [&'static str; 6] =
        ["register", "cas-register", "key-value", "multi-register", "mutex", "etcd"];
}

impl FromStr for ModelName {
    type Err = String;

    fn from_str(name: &str) -> Result<ModelName, String> {
        match name {
            "register" | "cas-register" => Ok(ModelName::Register),
            "key-value" | "kv" => Ok(ModelName::KeyValue),
            "multi-register" => Ok(ModelName::MultiRegister),
            "mutex" => Ok(ModelName::Mutex),
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
}

/// Judges a recording. An error says why the model does not fit it.
pub fn judge(recording: &Recording, settings: &Settings<'_>) -> Result<Report, String> {
    match recording {
        Recording::Etcd(history) if matches!(settings.model, None | Some(ModelName::Etcd)) => {
            Ok(judge_etcd(history, settings))
        }
        Recording::Etcd(_) => Err("operations of etcd can be judged by the model etcd only".to_owned()),
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
    let count = operations.operations.len() + history.watches.len();
    Report { model: "etcd", operations: count, verdict, evidence }
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
        ModelName::Etcd => Err("the model etcd needs operations in the format etcd".to_owned()),
    }
}

fn judge_bound<M: Model>(
    name: &'static str,
    bound: Result<Bound<M>, Unmeaning>,
    settings: &Settings<'_>,
) -> Result<Report, String> {
    let bound = bound.map_err(|error| error.to_string())?;
    let mut verdict = check(&bound.model, &bound.history, &settings.limits);
    let evidence = evidence(&verdict, &bound.history, |operation| {
        bound.model.describe(&operation.input, operation.output())
    });
    if let Verdict::Invalid(violation) = &mut verdict {
        violation.operations.iter_mut().for_each(|index| *index = bound.origin[*index]);
    }
    Ok(Report { model: name, operations: bound.history.operations.len(), verdict, evidence })
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
