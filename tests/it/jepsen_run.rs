//! `quorate-jepsen-run`: a cluster under load and faults, from the command line to the verdict.

use std::process::Command;
use std::time::Duration;

use quorate_tests::{Deadline, Exit, Process, program, workspace_program};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(120);

fn run(arguments: &[&str]) -> Exit {
    let runner = workspace_program("quorate-jepsen-run", "quorate-jepsen-run");
    Process::start(Command::new(runner).args(arguments), "").wait(Deadline::after(PATIENCE))
}

/// Runs a workload for a few seconds while members are killed and paused.
fn torment(workload: &[&str]) -> (Exit, TempDir) {
    let folder = TempDir::with_prefix("quorate-test-").expect("a temporary directory can be made");
    let (server, out) = (program().path.display().to_string(), folder.path().display().to_string());
    let standard =
        ["--local", "quorate", "--binary", &server, "--out", &out, "--time", "6", "--interval", "1"];
    let faults = ["--nemesis", "kill,pause", "--seed", "1", "--workload"];
    (run(&[&standard[..], &faults, workload].concat()), folder)
}

#[test]
fn a_tormented_cluster_is_found_valid_and_leaves_everything_behind() {
    let (exit, folder) = torment(&["append"]);
    assert_eq!(exit.code, Some(0), "{exit:?}");
    assert!(exit.stdout.contains("valid   transactions over lists are strictly serializable"), "{exit:?}");
    for file in [
        "history.jsonl",
        "operations.jsonl",
        "nemesis.jsonl",
        "verdict.json",
        "latency.svg",
        "rate.svg",
        "check-1.html",
    ] {
        let length = folder.path().join(file).metadata().map_or(0, |metadata| metadata.len());
        assert!(length > 0, "{file} is missing or empty: {exit:?}");
    }
}

#[test]
fn it_judges_while_it_runs() {
    let (exit, _folder) = torment(&["kv", "--verify-live", "1"]);
    assert_eq!(exit.code, Some(0), "{exit:?}");
    assert!(exit.stdout.contains("window by window"), "{exit:?}");
}

#[test]
fn a_run_that_cannot_be_made_says_why() {
    let folder = TempDir::with_prefix("quorate-test-").expect("a temporary directory can be made");
    let out = folder.path().display().to_string();
    let exit = run(&["--endpoints", "127.0.0.1:1", "--out", &out, "--timeout", "0.5"]);
    assert_eq!(exit.code, Some(3), "{exit:?}");
    assert!(exit.stderr.contains("the cluster does not answer"), "{exit:?}");
    let exit = run(&["--workload", "kv"]);
    assert_eq!(exit.code, Some(3), "{exit:?}");
    assert!(exit.stderr.contains("--endpoints"), "{exit:?}");
}
