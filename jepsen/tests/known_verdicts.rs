//! Real histories whose verdicts are known. They belong to their projects, so they are read from the folder
//! that the environment variable `QUORATE_HISTORIES` names; without it cargo counts these tests as ignored.

#[path = "common/manifest.rs"]
mod manifest;

use manifest::Known;
use quorate_jepsen::format::{self, ReadOptions, Recording};
use quorate_jepsen::models::named::{self, Semantics};
use quorate_jepsen::report::{self, Settings};
use quorate_jepsen::{Limits, Model, Reductions, Value, Verdict, check};

fn known() -> Vec<Known> {
    let models = ["cas-register", "register", "kv", "mutex", "multi-register"];
    let known = manifest::known(&models);
    known.into_iter().filter(|known| known.valid().is_some()).collect()
}

fn judge(known: &Known, limits: &Limits<'_>) -> Verdict {
    fn run<M: Model>(bound: Result<named::Bound<M>, named::Unmeaning>, limits: &Limits<'_>) -> Verdict {
        let bound = bound.expect("the model knows the operations");
        check(&bound.model, &bound.history, limits)
    }
    let recording = format::read(&known.text(), None, ReadOptions::default());
    let recording = recording.unwrap_or_else(|error| panic!("{}: {error}", known.path.display()));
    let Recording::Named(history) = recording else { panic!("operations by name") };
    let semantics = Semantics::default();
    match known.model.as_str() {
        "kv" => run(named::key_value(&history), limits),
        "mutex" => run(named::mutex(&history), limits),
        "multi-register" => {
            let zero = Semantics { initial: Value::Int(0), ..semantics };
            run(named::multi_register(&history, &zero), limits)
        }
        _ => run(named::register(&history, &semantics), limits),
    }
}

#[test]
#[cfg_attr(no_histories, ignore = "set QUORATE_HISTORIES to a folder with given/MANIFEST.json")]
fn real_histories_get_their_known_verdicts() {
    for known in known() {
        let verdict = judge(&known, &Limits::default());
        let right = if known.valid() == Some(true) { verdict.is_valid() } else { verdict.is_invalid() };
        assert!(right, "{}: expected valid={:?}, got {verdict}", known.path.display(), known.valid());
    }
}

/// As a user would ask: the model is guessed, and nothing is said of what the file leaves open.
#[test]
#[cfg_attr(no_histories, ignore = "set QUORATE_HISTORIES to a folder with given/MANIFEST.json")]
fn real_histories_get_their_known_verdicts_without_any_option() {
    let models = ["cas-register", "register", "kv", "mutex", "multi-register", "bank", "set", "set-full"];
    let others =
        ["etcd", "counter", "long-fork", "queue", "fifo-queue", "total-queue", "semaphore", "unique-ids"];
    let mut wrong = Vec::new();
    for known in manifest::known(&[models.as_slice(), others.as_slice()].concat()) {
        let name = known.path.display();
        let recording = format::read(&known.text(), None, ReadOptions::default());
        let recording = recording.unwrap_or_else(|error| panic!("{name}: {error}"));
        match judge_by_name(&recording) {
            Err(error) => wrong.push(format!("{name}: {error}")),
            Ok(verdict) => {
                let valid = match verdict {
                    Verdict::Valid => Some(true),
                    Verdict::Invalid(_) => Some(false),
                    Verdict::Unknown(_) => None,
                };
                // Sequences have no verdict of their own: they say of each step whether it fits.
                let is_sequence =
                    known.entry["file"].as_str().is_some_and(|file| file.starts_with("etcd/model"));
                if known.valid().or(is_sequence.then_some(true)) != valid {
                    wrong.push(format!("{name}: expected {:?}, got {verdict}", known.valid()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn judge_by_name(recording: &Recording) -> Result<Verdict, String> {
    report::judge(recording, &Settings::default()).map(|report| report.verdict)
}

#[test]
#[cfg_attr(no_histories, ignore = "set QUORATE_HISTORIES to a folder with given/MANIFEST.json")]
fn no_reduction_changes_a_verdict_on_real_histories() {
    let all = Reductions::default();
    let variants = [
        Reductions { eager_reads: false, ..all },
        Reductions { symmetry: false, ..all },
        Reductions { dominance: false, ..all },
        Reductions { look_ahead: false, ..all },
        Reductions { observation: false, ..all },
    ];
    for known in known() {
        for reductions in variants {
            let limits = Limits { configurations: 20_000, reductions, ..Limits::default() };
            let verdict = judge(&known, &limits);
            let wrong = if known.valid() == Some(true) { verdict.is_invalid() } else { verdict.is_valid() };
            assert!(!wrong, "{} without {reductions:?}: {verdict}", known.path.display());
        }
    }
}
