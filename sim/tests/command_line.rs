//! `quorate-sim` as people run it: wrong input is answered with what is wrong, where, and what to do; and whoever has
//! read enough may close the pipe.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn sim(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate-sim"));
    command.args(arguments).current_dir(env!("CARGO_TARGET_TMPDIR"));
    command
}

/// Runs it with a mistake: it ends with 2, prints nothing to standard output, and says this.
fn refused(arguments: &[&str], says: &[&str]) {
    let Output { status, stdout, stderr } = sim(arguments).output().expect("it starts");
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert_eq!(status.code(), Some(2), "{arguments:?}: {stdout}{stderr}");
    assert_eq!(stdout, "", "{arguments:?}");
    for wanted in says {
        assert!(stderr.contains(wanted), "{arguments:?} is to say {wanted:?} and says: {stderr}");
    }
}

fn file(name: &str, text: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).expect("the folder for tests is writable");
    path
}

#[test]
fn unknown_options_are_answered_with_those_there_are() {
    refused(&["run", "--sed", "1"], &["--sed", "--seed"]);
    refused(&["sweep", "--only", "earthquake"], &["earthquake", "one-way", "clock-jump"]);
    refused(&["sweep", "--workload", "poetry"], &["poetry", "register"]);
    refused(&["run", "--seed", "many"], &["\"many\" is not a number"]);
}

#[test]
fn faults_that_no_cluster_survives_are_refused() {
    refused(
        &["run", "--seed", "1", "--nodes", "1", "--only", "partition"],
        &["no cluster of 1 member", "--nodes 3"],
    );
    refused(&["sweep", "--nodes", "9"], &["9 is not in 1..8"]);
    refused(&["sweep", "--calm", "--only", "crash"], &["--calm", "--only"]);
    refused(&["shrink", "--only", "crash", "--without", "crash"], &["ruled out by --without"]);
}

#[test]
fn a_schedule_that_leaves_no_quorum_says_in_which_line() {
    let text = "at 1s crash n1\nat 1s crash n2\n";
    let path = file("no_quorum.scn", text);
    let output = sim(&["scenario", &path.to_string_lossy()]).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("line 2: crash n2 would leave the cluster without a quorum"), "{said}");
    assert!(said.contains("budget off"), "{said}");
}

#[test]
fn a_mistake_in_a_scenario_is_said_with_its_line_and_column() {
    let path = file("mistake.scn", "members 3\n\nat 1s explode n1\n");
    refused(&["scenario", &path.to_string_lossy()], &["mistake.scn: line 3, column 7: expected a fault"]);
    refused(&["shrink", "--from", &path.to_string_lossy()], &["line 3, column 7"]);
    refused(&["scenario", "nowhere.scn"], &["nowhere.scn", "No such file"]);
}

#[test]
fn a_seed_of_another_version_is_refused() {
    refused(&["replay", "--seed", "7@0badc0de"], &["seed 7 is from version 0badc0de", "give 7 alone"]);
    refused(&["run", "--seed", "7@v0.0.1"], &["from version v0.0.1"]);
}

#[test]
fn a_seed_is_named_with_the_code_that_it_is_from_and_runs_by_that_name() {
    let first = sim(&["run", "--seed", "3", "--seconds", "1"]).output().expect("it starts");
    let said = String::from_utf8_lossy(&first.stdout).into_owned();
    let name = said.split_whitespace().nth(1).expect("the first line names the seed");
    assert!(name.starts_with("3@"), "{said}");
    let again = sim(&["run", "--seed", name, "--seconds", "1"]).output().expect("it starts");
    assert_eq!(String::from_utf8_lossy(&again.stdout), said);
}

#[test]
fn whoever_has_read_enough_may_close_the_pipe() {
    let scenario = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/a_minority_cannot_commit.scn");
    let scenario = scenario.to_string_lossy();
    for arguments in [
        vec!["scenario", "--print", &scenario],
        vec!["replay", "--seed", "1", "--seconds", "2"],
        vec!["scenario", &scenario, &scenario, &scenario],
    ] {
        let mut child =
            sim(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("it is piped"))
            .read_line(&mut line)
            .expect("it prints a line");
        assert!(!line.is_empty());
        // The pipe is closed by now.
        let output = child.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("panicked"), "{arguments:?}: {said}");
    }
}
