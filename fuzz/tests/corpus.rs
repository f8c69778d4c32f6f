//! Replays every corpus, and variants of all that is in it.

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use quorate_fuzz::mutate::variant;
use quorate_fuzz::{TARGETS, Target};

const VARIANTS: u64 = 300;

fn corpus(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name)
}

fn run(target: &Target, file: &Path, input: &[u8], seed: Option<u64>) {
    if catch_unwind(|| (target.run)(input)).is_err() {
        let name = target.name;
        panic!(
            "{name} fails on {} (variant {seed:?}): put these bytes into a file:\n{input:02x?}",
            file.display()
        );
    }
}

#[test]
fn no_input_of_a_corpus_and_no_variant_of_one_makes_a_target_panic() {
    for target in TARGETS {
        let directory = fs::read_dir(corpus(target)).expect("every target has a corpus");
        let mut files: Vec<_> = directory.map(|entry| entry.expect("readable").path()).collect();
        files.sort();
        assert!(!files.is_empty(), "every target has a corpus");
        for file in files {
            let input = fs::read(&file).expect("readable");
            run(target, &file, &input, None);
            for seed in 0..VARIANTS {
                run(target, &file, &variant(&input, seed), Some(seed));
            }
        }
    }
}

/// The corpus is made of what the program writes today; `UPDATE_GOLDENFILES=1` writes it anew.
#[test]
fn every_corpus_holds_its_seeds() {
    for target in TARGETS {
        let directory = corpus(target);
        for (name, input) in (target.seeds)() {
            let file = directory.join(name);
            if std::env::var_os("UPDATE_GOLDENFILES").is_some() {
                fs::create_dir_all(&directory).expect("writable");
                fs::write(&file, &input).expect("writable");
            }
            let found = fs::read(&file).unwrap_or_default();
            assert!(found == input, "{}/{name} is out of date: set UPDATE_GOLDENFILES=1", target.name);
        }
    }
}

/// The seeds are of use: those that should be accepted get all the way in.
#[test]
fn good_seeds_are_accepted() {
    let accepted = |name: &str, seed: &str| {
        let target = TARGETS.iter().find(|target| target.name == name).expect("it exists");
        let (_, input) = (target.seeds)().into_iter().find(|(other, _)| *other == seed).expect("it exists");
        input
    };
    let message = accepted("codec_message", "whole_append");
    assert!(quorate_node::decode_message(&message[1..]).is_ok());
    let snapshot = accepted("snapshot_file", "whole");
    assert!(quorate_node::testing::load_snapshot(&snapshot[1..]).is_ok());
    let segment = accepted("wal_recovery", "whole");
    assert!(quorate_node::wal::record::scan(&segment[1..], false).is_ok());
}
