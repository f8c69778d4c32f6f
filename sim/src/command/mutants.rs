//! `mutants`: are known bugs still noticed?

use std::process::ExitCode;

use crate::mutants::{self, Fate, Workshop};

/// Builds each mutant and sweeps seeds with it; prints what became of it.
#[must_use]
pub fn mutants(seeds: u64, name: &str) -> ExitCode {
    let outcome = mutants::parse(mutants::TABLE).and_then(|table| Ok((table, Workshop::open()?)));
    let (table, workshop) = match outcome {
        Ok(outcome) => outcome,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let mut survivors = 0;
    println!("{:<42} {:<10} {:>6} {:>8}  oracle", "mutant", "fate", "seeds", "time");
    for mutant in table.iter().filter(|mutant| mutant.name.contains(name)) {
        match workshop.judge(mutant, seeds) {
            Ok(Fate::Killed { oracle, seeds, seconds }) => {
                println!("{:<42} {:<10} {seeds:>6} {seconds:>7.2}s  {oracle}", mutant.name, "killed");
            }
            Ok(Fate::Survived) => {
                survivors += 1;
                println!("{:<42} {:<10} {seeds:>6}", mutant.name, "survived");
            }
            Err(error) => {
                survivors += 1;
                println!("{:<42} {error}", mutant.name);
            }
        }
    }
    println!("{survivors} survivors");
    if survivors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
