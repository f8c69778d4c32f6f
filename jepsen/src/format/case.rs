//! Transactions with what is expected of them: one JSON object that holds Jepsen's events and the options of
//! the check.
//!
//! ```json
//! {"kind": "list-append",
//!  "options": {"consistency-models": ["serializable"], "anomalies": ["G0"], "wfr-keys?": true},
//!  "history": [{"process": 0, "type": "ok", "f": "txn", "value": [["append", "x", 1], ["r", "x", [1]]]}]}
//! ```
//!
//! `kind` is `list-append` or `rw-register`. The options are Elle's: `consistency-models` and `anomalies`
//! (none given: strict serializability), `wfr-keys?`, `sequential-keys?`, `linearizable-keys?`,
//! `transaction-order` (from the index of an event to a number). Other fields are for people.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::jepsen::{self, Answer, Ask, Pairs};
use super::{FormatError, ReadOptions, json};
use crate::history::History;
use crate::txn::{Options, VersionOrder, Workload};

/// A history of transactions and how to judge it.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// The operations.
    pub history: History<Ask, Answer>,
    /// What they do.
    pub workload: Workload,
    /// What to check.
    pub options: Options,
}

#[derive(Deserialize)]
struct CaseFile {
    #[serde(alias = "model")]
    kind: String,
    #[serde(default)]
    options: CaseOptions,
    history: Vec<serde_json::Value>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct CaseOptions {
    #[serde(deserialize_with = "given")]
    consistency_models: Option<Option<Vec<String>>>,
    anomalies: Option<Vec<String>>,
    #[serde(rename = "wfr-keys?")]
    wfr_keys: bool,
    #[serde(rename = "sequential-keys?")]
    sequential_keys: bool,
    #[serde(rename = "linearizable-keys?")]
    linearizable_keys: bool,
    transaction_order: BTreeMap<String, i64>,
}

/// Null is not the same as nothing: it asks for no level at all.
fn given<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Some)
}

/// Reads a case.
pub fn read(text: &str) -> Result<Case, FormatError> {
    let file: CaseFile = serde_json::from_str(text).map_err(|error| json::locate(&error, 0))?;
    let workload = match file.kind.as_str() {
        "list-append" => Workload::ListAppend,
        "rw-register" => Workload::Register,
        other => {
            let why = format!("expected \"kind\" to be list-append or rw-register, found {other:?}");
            return Err(FormatError::at_line(1, why));
        }
    };
    let mut pairs = Pairs::new(ReadOptions { lenient: true, ..ReadOptions::default() });
    for (number, value) in file.history.into_iter().enumerate() {
        let why = |why| FormatError::at_line(1, format!("element {number} of \"history\": {why}"));
        pairs.push(jepsen::event(&json::convert(value), 1).map_err(why)?)?;
    }
    let history = pairs.finish()?;
    let options = options(file.options, &history).map_err(|why| FormatError::at_line(1, why))?;
    Ok(Case { history, workload, options })
}

fn options(given: CaseOptions, history: &History<Ask, Answer>) -> Result<Options, String> {
    let mut options = Options::default();
    if let Some(names) = given.consistency_models {
        let names = names.unwrap_or_default();
        options.levels = names.iter().map(|name| name.parse()).collect::<Result<_, _>>()?;
    }
    let anomalies = given.anomalies.unwrap_or_default();
    options.anomalies = anomalies.iter().map(|name| name.parse()).collect::<Result<_, _>>()?;
    options.order = VersionOrder {
        writes_follow_reads: given.wfr_keys,
        sequential_keys: given.sequential_keys,
        linearizable_keys: given.linearizable_keys,
        transactions: BTreeMap::new(),
    };
    for (event, place) in given.transaction_order {
        let event: u64 =
            event.parse().map_err(|_| format!("expected the index of an event, found {event:?}"))?;
        // The time of an event is its number, counted from one; a completion's is that of the return.
        let at = event + 1;
        let index = history.operations.iter().position(|operation| operation.return_time() == at);
        options.order.transactions.extend(index.map(|index| (index, place)));
    }
    Ok(options)
}
