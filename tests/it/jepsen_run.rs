//! `quorate-jepsen-run`: a cluster under load and faults, from the command line to the verdict.

use std::process::Command;
use std::time::Duration;

use quorate_tests::{Deadline, Exit, Process, peer, program, workspace_program};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(120);

/// `quorate-jepsen run …`, as people type it: the checker hands over to the runner beside it.
fn run(arguments: &[&str]) -> Exit {
    let _beside = workspace_program("quorate-jepsen-run", "quorate-jepsen-run");
    let checker = workspace_program("quorate-jepsen", "quorate-jepsen");
    Process::start(Command::new(checker).arg("run").args(arguments), "").wait(Deadline::after(PATIENCE))
}

/// Runs a workload for a few seconds on a cluster under faults.
fn torment(local: &[&str], faults: &str, workload: &[&str]) -> (Exit, TempDir) {
    let folder = TempDir::with_prefix("quorate-test-").expect("a temporary directory can be made");
    let out = folder.path().display().to_string();
    let standard = ["--out", &out, "--seed", "1"];
    let faults = if faults.is_empty() { vec![] } else { vec!["--nemesis", faults] };
    let own = |name| workload.contains(&name);
    let time = if own("--time") { &[][..] } else { &["--time", "6"] };
    let interval = if own("--interval") { &[][..] } else { &["--interval", "1"] };
    (run(&[local, &standard, &faults, time, interval, &["--workload"], workload].concat()), folder)
}

fn torment_quorate(faults: &str, workload: &[&str]) -> (Exit, TempDir) {
    let server = program().path.display().to_string();
    torment(&["--local", "quorate", "--binary", &server], faults, workload)
}

fn torment_etcd(faults: &str, workload: &[&str]) -> (Exit, TempDir) {
    let etcd = peer("etcd").display().to_string();
    torment(&["--local", "etcd", "--binary", &etcd], faults, workload)
}

/// Registers that are read from members' own states, long enough for what a run does first to links: one member is
/// alone, for seconds, while clients reach it and the others go on. Clients who only read see the state from before there,
/// over and over.
const STALE: [&str; 8] = ["register", "--serializable", "--keys", "1", "--interval", "4", "--time", "14"];

fn has_faults(folder: &TempDir, word: &str) -> bool {
    let faults = std::fs::read_to_string(folder.path().join("nemesis.jsonl")).expect("it is left behind");
    faults.contains(&format!("\"fault\":\"{word}"))
}

#[test]
fn a_tormented_cluster_is_found_valid_and_leaves_everything_behind() {
    let (exit, folder) = torment_quorate("kill,pause", &["append"]);
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
    let (exit, folder) = torment_quorate("kill,pause", &["kv", "--verify-live", "1"]);
    assert_eq!(exit.code, Some(0), "{exit:?}");
    assert!(exit.stdout.contains("explains every answer, as they came"), "{exit:?}");
    // What was judged in parts is a history that can be judged again as a whole.
    let checker = workspace_program("quorate-jepsen", "quorate-jepsen");
    let mut command = Command::new(checker);
    command.args(["check", "--members-may-go-back"]).arg(folder.path().join("history.jsonl"));
    let exit = Process::start(&mut command, "").wait(Deadline::after(PATIENCE));
    assert_eq!(exit.code, Some(0), "{exit:?}");
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

#[test]
fn clocks_damage_and_changes_of_members_are_survived() {
    for fault in ["clock", "corrupt", "members"] {
        let (exit, folder) = torment_quorate(fault, &["txn"]);
        assert_eq!(exit.code, Some(0), "{fault}: {exit:?}");
        assert!(has_faults(&folder, fault), "{fault}: {exit:?}");
        assert!(exit.stdout.contains("valid   when the faults are over, every member serves"), "{exit:?}");
        assert!(exit.stdout.contains("valid   members hold the same at the same revision"), "{exit:?}");
    }
}

#[test]
#[cfg_attr(no_namespaces, ignore = "users may not make namespaces here: sysctl user.max_user_namespaces")]
fn partitions_and_full_disks_are_survived() {
    for (fault, first) in [("partition", "partition"), ("disk", "disk full")] {
        let (exit, folder) = torment_quorate(fault, &["kv", "--value-size", "20000"]);
        assert_eq!(exit.code, Some(0), "{fault}: {exit:?}");
        assert!(has_faults(&folder, first), "{fault}: {exit:?}");
    }
}

#[test]
#[cfg_attr(no_etcd, ignore = "etcd is not on PATH: apt-get install etcd-server")]
fn a_lock_of_etcd_is_owned_twice_unless_it_is_fenced() {
    let lock = ["lock", "--ttl", "1", "--time", "12"];
    let (exit, _folder) = torment_etcd("", &lock);
    assert_eq!(exit.code, Some(1), "{exit:?}");
    assert!(exit.stdout.contains("INVALID no two clients believe to own the lock at once"), "{exit:?}");
    assert!(exit.stdout.contains("That is so with every lock that rests on a lease"), "{exit:?}");
    let (exit, _folder) = torment_etcd("pause", &[&lock[..], &["--fenced"]].concat());
    assert_eq!(exit.code, Some(0), "{exit:?}");
}

#[test]
#[cfg_attr(no_etcd, ignore = "etcd is not on PATH: apt-get install etcd-server")]
fn etcd_survives_what_quorate_survives() {
    let (exit, folder) = torment_etcd("clock,members", &["append"]);
    assert_eq!(exit.code, Some(0), "{exit:?}");
    assert!(has_faults(&folder, "clock") || has_faults(&folder, "members"), "{exit:?}");
}

#[test]
#[cfg_attr(no_namespaces, ignore = "users may not make namespaces here: sysctl user.max_user_namespaces")]
fn quorates_serializable_reads_are_no_more_than_that() {
    let (exit, folder) = torment_quorate("partition", &STALE);
    assert_stale(&exit, &folder);
}

#[test]
#[cfg_attr(no_etcd, ignore = "etcd is not on PATH: apt-get install etcd-server")]
#[cfg_attr(no_namespaces, ignore = "users may not make namespaces here: sysctl user.max_user_namespaces")]
fn etcds_serializable_reads_are_stale_and_others_are_not() {
    let (exit, folder) = torment_etcd("partition", &STALE);
    assert_stale(&exit, &folder);
    let linearizable: Vec<&str> = STALE.into_iter().filter(|word| *word != "--serializable").collect();
    let (exit, folder) = torment_etcd("partition", &linearizable);
    assert_eq!(exit.code, Some(0), "{exit:?}");
    assert!(has_faults(&folder, "partition: m"), "{exit:?}");
}

fn assert_stale(exit: &Exit, folder: &TempDir) {
    assert!(has_faults(folder, "partition: m"), "{exit:?}");
    assert_eq!(exit.code, Some(1), "{exit:?}");
    assert!(exit.stdout.contains("INVALID every key is a linearizable register"), "{exit:?}");
    assert!(exit.stdout.contains("valid   the order of revisions explains every answer"), "{exit:?}");
}
