//! What became of the whole table, as a text that is kept with the source.

use std::collections::BTreeSet;

use super::{Fate, Mutant};

/// What became of one mutant.
#[derive(Clone, Debug)]
pub struct Score {
    /// Which.
    pub mutant: Mutant,
    /// What.
    pub fate: Fate,
    /// What the run that noticed it could be made smaller to, if that was asked for.
    pub shrunk: Option<Shrunk>,
}

/// A schedule that was made smaller.
#[derive(Clone, Copy, Debug)]
pub struct Shrunk {
    /// Its faults.
    pub faults: usize,
    /// Its requests.
    pub operations: usize,
    /// How long it took, in seconds of processor time.
    pub seconds: f64,
}

impl Score {
    /// The line of the table.
    #[must_use]
    pub fn line(&self) -> String {
        let name = &self.mutant.name;
        let etcd = if self.mutant.etcd.is_empty() { "-" } else { &self.mutant.etcd };
        let start = match &self.fate {
            Fate::Killed { oracle, seeds: 0, seconds } => {
                format!("{name:<52} {etcd:<14} killed       - {seconds:>8.2}s {:>14}  {oracle}", "")
            }
            Fate::Killed { oracle, seeds, seconds } => {
                let shrunk = self.shrunk.map_or_else(String::new, |shrunk| {
                    format!("{}+{} in {:.1}s", shrunk.faults, shrunk.operations, shrunk.seconds)
                });
                format!("{name:<52} {etcd:<14} killed  {seeds:>6} {seconds:>8.2}s {shrunk:>14}  {oracle}")
            }
            Fate::Survived { .. } if !self.mutant.equal.is_empty() => {
                format!("{name:<52} {etcd:<14} equivalent: {}", self.mutant.equal)
            }
            Fate::Survived { seeds, seconds } => {
                let seeds = seeds.map_or_else(|| "?".to_owned(), |seeds| seeds.to_string());
                format!("{name:<52} {etcd:<14} survived{seeds:>6} {seconds:>8.2}s")
            }
        };
        start.trim_end().to_owned()
    }
}

/// The head of the table.
pub const HEAD: &str = "mutant                                               etcd           fate     seeds      CPU \
    faults+requests  oracle";

/// The whole table, with what it comes to.
#[must_use]
pub fn table(scores: &[Score], commit: &str) -> String {
    let mut text =
        format!("Known bugs, and what noticed them; made by `cargo sim mutants` at commit {commit}.\n\n");
    text.push_str(HEAD);
    text.push('\n');
    for score in scores {
        text.push_str(&score.line());
        text.push('\n');
    }
    text.push('\n');
    text.push_str(&summary(scores));
    text
}

/// The names of those that a table says the simulator noticed within so many seconds.
#[must_use]
pub fn quick(table: &str, seconds: f64) -> BTreeSet<&str> {
    let quick = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let &[_, _, "killed", seeds, time, ..] = &words[..] else { return false };
        let time = time.trim_end_matches('s').parse::<f64>();
        seeds != "-" && time.is_ok_and(|time| time <= seconds)
    };
    table.lines().filter(|line| quick(line)).filter_map(|line| line.split_whitespace().next()).collect()
}

/// What the table comes to.
#[must_use]
pub fn summary(scores: &[Score]) -> String {
    let mut times: Vec<f64> = Vec::new();
    let (mut tests, mut equal, mut survived) = (0, 0, Vec::new());
    let mut shrunk: Vec<Shrunk> = Vec::new();
    for score in scores {
        match &score.fate {
            Fate::Killed { seconds, .. } => {
                tests += usize::from(score.mutant.by.is_some());
                times.push(*seconds);
                shrunk.extend(score.shrunk);
            }
            Fate::Survived { .. } if !score.mutant.equal.is_empty() => equal += 1,
            Fate::Survived { .. } => survived.push(&*score.mutant.name),
        }
    }
    times.sort_by(f64::total_cmp);
    let median = times.get(times.len() / 2).copied().unwrap_or(0.0);
    let within = times.iter().filter(|time| **time <= 60.0).count();
    let total = times.len() + survived.len();
    let percent = |part: usize, of: usize| 100.0 * part as f64 / of.max(1) as f64;
    let mut text = format!(
        "{} of {total} mutants killed ({tests} of them by tests of one package), {within} within 60 s of processor \
         time ({:.1} %), median {median:.2} s, slowest {:.2} s; {equal} more are equivalent to the original\n",
        times.len(),
        percent(within, total),
        times.last().copied().unwrap_or(0.0),
    );
    if !shrunk.is_empty() {
        let small = shrunk.iter().filter(|shrunk| {
            shrunk.faults <= crate::shrink::FAULTS_WANTED
                && shrunk.operations <= crate::shrink::OPERATIONS_WANTED
        });
        text.push_str(&format!(
            "{} of {} schedules made as small as {} faults and {} requests\n",
            small.count(),
            shrunk.len(),
            crate::shrink::FAULTS_WANTED,
            crate::shrink::OPERATIONS_WANTED,
        ));
    }
    if !survived.is_empty() {
        text.push_str(&format!("survived: {}\n", survived.join(", ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_says_which_were_noticed_quickly() {
        let score = |name: &str, fate| Score {
            mutant: Mutant { name: name.to_owned(), ..Mutant::default() },
            fate,
            shrunk: None,
        };
        let killed = |seeds, seconds| Fate::Killed { oracle: "election safety".to_owned(), seeds, seconds };
        let scores = [
            score("at-once", killed(1, 0.02)),
            score("late", killed(900, 31.0)),
            score("by-tests", killed(0, 0.02)),
            score("never", Fate::Survived { seeds: Some(9), seconds: 0.01 }),
        ];
        let text = table(&scores, "abc");
        assert_eq!(quick(&text, 0.5).into_iter().collect::<Vec<_>>(), ["at-once"]);
        assert!(
            text.contains("3 of 4 mutants killed (0 of them by tests of one package), 3 within 60 s"),
            "{text}"
        );
        assert!(text.contains("(75.0 %), median 0.02 s, slowest 31.00 s"), "{text}");
    }
}
