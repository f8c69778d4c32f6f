//! Runs the scripts below `scripts/`: each is one scenario, told step by step, with what every member
//! says, writes and applies. `UPDATE_GOLDENFILES=1 cargo test` writes the outputs anew; read them.
//!
//! Reading an output:
//! - `n1→n2 Append@3 after 11@2 entry 12@3 commit=11`: a message was sent (not yet delivered). `12@3` is
//!   the entry at index 12 that the leader of term 3 made.
//! - `n1 writes #4 term=3 vote=n1 commit=11 entries 12@3 x`: a write was begun (not yet durable).
//! - `n1@3 leader last=12@3 persisted=11 commit=11`: a member's role, term or leader has changed.

use std::path::Path;

mod runner;

use runner::Runner;

/// Runs all scripts of a folder.
fn run(folder: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts").join(folder);
    let mut scripts: Vec<_> = std::fs::read_dir(&folder)
        .expect("the folder exists")
        .map(|entry| entry.expect("the folder is readable").path())
        .collect();
    scripts.sort();
    assert!(!scripts.is_empty(), "the folder has scripts");
    let failed = scripts.into_iter().filter_map(|script| {
        let result = std::panic::catch_unwind(|| goldenscript::run(&mut Runner::default(), &script));
        let error = match result {
            Ok(result) => result.err()?.to_string(),
            Err(_) => "differs or failed, see above".to_owned(),
        };
        Some(format!("{}: {error}", script.display()))
    });
    let failed: Vec<_> = failed.collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn election() {
    run("election");
}

#[test]
fn append() {
    run("append");
}

#[test]
fn reads() {
    run("reads");
}

#[test]
fn snapshot() {
    run("snapshot");
}

#[test]
fn restart() {
    run("restart");
}

#[test]
fn disk() {
    run("disk");
}

#[test]
fn membership() {
    run("membership");
}

#[test]
fn transfer() {
    run("transfer");
}

#[test]
fn partition() {
    run("partition");
}

#[test]
fn message() {
    run("message");
}
