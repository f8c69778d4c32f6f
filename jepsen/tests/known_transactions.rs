//! Histories of transactions whose anomalies are known. They belong to their projects: see `known_verdicts.rs`.

#[path = "common/manifest.rs"]
mod manifest;

use std::collections::BTreeSet;

use manifest::known;
use quorate_jepsen::Verdict;
use quorate_jepsen::format::{self, ReadOptions, Recording};
use quorate_jepsen::report::{Report, Settings, judge};
use quorate_jepsen::txn::weak::{WeakLevel, decide};
use quorate_jepsen::txn::{Workload, bind};

fn read(known: &manifest::Known) -> Recording {
    format::read(&known.text(), None, ReadOptions::default())
        .unwrap_or_else(|error| panic!("{}: {error}", known.path.display()))
}

fn judged(known: &manifest::Known) -> Report {
    judge(&read(known), &Settings::default())
        .unwrap_or_else(|error| panic!("{}: {error}", known.path.display()))
}

#[test]
#[cfg_attr(no_histories, ignore = "set QUORATE_HISTORIES to a folder with given/MANIFEST.json")]
fn every_case_gets_its_verdict_its_anomalies_and_its_levels() {
    let mut wrong = Vec::new();
    for known in known(&["list-append", "rw-register"]) {
        let report = judged(&known);
        let valid = match report.verdict {
            Verdict::Valid => Some(true),
            Verdict::Invalid(_) => Some(false),
            Verdict::Unknown(_) => None,
        };
        let name = format!("{} ({})", known.path.display(), known.model);
        if valid != known.valid() && known.entry["format"] != "awdit-test" {
            wrong.push(format!("{name}: expected {:?}, got {}", known.valid(), report.verdict));
        }
        if known.entry["format"] != "elle-case-json" {
            continue;
        }
        let case: serde_json::Value = serde_json::from_str(&known.text()).expect("JSON");
        let transactions = report.transactions.expect("transactions were judged");
        let set = |value: &serde_json::Value| -> BTreeSet<String> {
            let names = value.as_array().into_iter().flatten();
            names.map(|name| name.as_str().expect("a name").to_owned()).collect()
        };
        let mut expected = set(&case["expected"]["anomaly-types"]);
        expected.remove("empty-transaction-graph");
        let found: BTreeSet<String> = transactions.anomalies().into_iter().map(str::to_owned).collect();
        if found != expected {
            wrong.push(format!("{name}: expected anomalies {expected:?}, found {found:?}"));
        }
        let not = set(&case["expected"]["not"]);
        let excluded: BTreeSet<String> =
            transactions.excluded.iter().map(|level| level.name().to_owned()).collect();
        if !not.is_empty() && excluded != not {
            wrong.push(format!("{name}: expected not {not:?}, found not {excluded:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
#[cfg_attr(no_histories, ignore = "set QUORATE_HISTORIES to a folder with given/MANIFEST.json")]
fn every_ladder_of_weak_levels_breaks_where_it_is_known_to() {
    for known in known(&["rw-register"]) {
        let Recording::Sessions(history) = read(&known) else { continue };
        let transactions = bind(&history, Workload::Register).expect("reads and writes");
        for level in WeakLevel::ALL {
            let holds = decide(&transactions, level).expect("values are unique").is_none();
            let expected = known.entry[level.name()].as_bool().expect("a verdict by level");
            assert_eq!(holds, expected, "{} at {}", known.path.display(), level.name());
        }
    }
}
