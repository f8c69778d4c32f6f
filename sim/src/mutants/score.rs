//! What became of the whole table, as a text that is kept with the source.
//!
//! Three kinds of notice are told apart, because they are worth differently: *seeds* found the bug without being
//! told where to look; a *scenario* was written by somebody who knew it; *tests* of a package are what there is
//! for bugs that the simulator cannot have. A table is made in parts: what is looked at again replaces its line.

use std::collections::{BTreeMap, BTreeSet};

use super::{Fate, Mutant, Told};

/// What became of one mutant.
#[derive(Clone, Debug)]
pub struct Score {
    /// Which.
    pub mutant: Mutant,
    /// What seeds, or tests, made of it.
    pub fate: Fate,
    /// The scenario that noticed it, if one did.
    pub told: Option<Told>,
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
    /// Whether the file fails again with the bug, and passes without.
    pub tells: bool,
}

impl Score {
    /// Whether it was noticed at all.
    #[must_use]
    pub fn noticed(&self) -> bool {
        matches!(self.fate, Fate::Killed { .. }) || self.told.is_some()
    }

    /// The line of the table.
    #[must_use]
    pub fn line(&self) -> String {
        let name = &self.mutant.name;
        let etcd = if self.mutant.etcd.is_empty() { "-" } else { &self.mutant.etcd };
        let start = match (&self.fate, &self.told) {
            (Fate::Killed { oracle, seeds: 0, seconds }, _) => {
                format!("{name:<52} {etcd:<6} killed      tests {seconds:>8.2}s {:>14}  {oracle}", "")
            }
            (Fate::Killed { oracle, seeds, seconds }, told) => {
                let shrunk = self.shrunk.map_or_else(String::new, |shrunk| {
                    let silent = if shrunk.tells { "" } else { SILENT };
                    format!("{silent}{}+{} in {:.1}s", shrunk.faults, shrunk.operations, shrunk.seconds)
                });
                let told = told.as_ref().map_or_else(String::new, |told| {
                    format!("{ALSO}{} in {:.2}s", told.scenario, told.seconds)
                });
                format!(
                    "{name:<52} {etcd:<6} killed   {seeds:>8} {seconds:>8.2}s {shrunk:>14}  {oracle}{told}"
                )
            }
            (Fate::Survived { seconds: vain, .. }, Some(Told { scenario, oracle, seconds })) => {
                let told = format!("{scenario}: {oracle} (no seed in {vain:.0} s)");
                format!("{name:<52} {etcd:<6} killed   scenario {seconds:>8.2}s {:>14}  {told}", "")
            }
            (Fate::Survived { .. }, None) if !self.mutant.equal.is_empty() => {
                format!("{name:<52} {etcd:<6} equivalent: {}", self.mutant.equal)
            }
            (Fate::Survived { seeds, seconds }, None) => {
                let seeds = seeds.map_or_else(|| "?".to_owned(), |seeds| seeds.to_string());
                format!("{name:<52} {etcd:<6} survived {seeds:>8} {seconds:>8.2}s")
            }
        };
        start.trim_end().to_owned()
    }
}

/// What a line says between the property that a seed saw broken and the scenario that noticed it, too.
const ALSO: &str = "; scenario ";

/// Before the size of a smaller schedule whose file does not fail with the bug, or fails without it.
const SILENT: &str = "!";

/// The head of the table.
pub const HEAD: &str = "mutant                                               etcd   fate        seeds       CPU faults+requests  oracle";

/// A line of a table, as far as it says what became of a mutant.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// The line itself.
    pub text: String,
    /// Processor time until a seed noticed it, in seconds.
    by_seeds: Option<f64>,
    /// Processor time until a scenario noticed it.
    by_scenario: Option<f64>,
    /// Processor time until tests noticed it.
    by_tests: Option<f64>,
    /// Nobody can notice it.
    equivalent: bool,
    /// The size of the smaller schedule, faults and requests; and whether its file tells the bug from the product.
    shrunk: Option<(usize, usize, bool)>,
}

impl Line {
    fn read(text: &str) -> Option<(&str, Line)> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let seconds = |word: &str| word.strip_suffix('s')?.parse::<f64>().ok();
        let mut line = Line {
            text: text.to_owned(),
            by_seeds: None,
            by_scenario: None,
            by_tests: None,
            equivalent: false,
            shrunk: None,
        };
        let &[name, _, fate, ref rest @ ..] = &words[..] else { return None };
        match (fate, rest) {
            ("survived", _) => {}
            ("equivalent:", _) => line.equivalent = true,
            ("killed", ["tests", time, ..]) => line.by_tests = seconds(time),
            ("killed", ["scenario", time, ..]) => line.by_scenario = seconds(time),
            ("killed", [_, time, rest @ ..]) => {
                line.by_seeds = seconds(time);
                line.shrunk = rest.first().and_then(|size| {
                    let (faults, operations) = size.split_once('+')?;
                    let tells = !faults.starts_with(SILENT);
                    let faults = faults.trim_start_matches(SILENT).parse().ok()?;
                    Some((faults, operations.parse().ok()?, tells))
                });
                line.by_scenario = text.split_once(ALSO).and_then(|_| seconds(words.last()?));
            }
            _ => return None,
        }
        Some((name, line))
    }

    /// Processor time until anything noticed it.
    fn earliest(&self) -> Option<f64> {
        [self.by_seeds, self.by_scenario, self.by_tests].into_iter().flatten().min_by(f64::total_cmp)
    }
}

/// The lines of a table, by the names of the mutants.
#[must_use]
pub fn read_lines(table: &str) -> BTreeMap<&str, Line> {
    table.lines().filter_map(Line::read).collect()
}

/// The lines in the order of the table of mutants, and what they come to.
#[must_use]
pub fn table(mutants: &[Mutant], lines: &BTreeMap<&str, Line>, commit: &str) -> String {
    let mut text = format!(
        "Known bugs, and what noticed them; made by `cargo sim mutants`, last at commit {commit}.\n\n"
    );
    text.push_str(HEAD);
    text.push('\n');
    for line in mutants.iter().filter_map(|mutant| lines.get(&*mutant.name)) {
        text.push_str(&line.text);
        text.push('\n');
    }
    text.push('\n');
    text.push_str(&summary(mutants, lines));
    text
}

/// The names of those that a table says seeds noticed within so much processor time.
#[must_use]
pub fn quick(table: &str, limit: f64) -> BTreeSet<&str> {
    let lines = read_lines(table).into_iter();
    lines.filter(|(_, line)| line.by_seeds.is_some_and(|time| time <= limit)).map(|(name, _)| name).collect()
}

/// What the lines come to.
#[must_use]
pub fn summary(mutants: &[Mutant], lines: &BTreeMap<&str, Line>) -> String {
    let looked_at = mutants.iter().filter_map(|mutant| Some((mutant, lines.get(&*mutant.name)?)));
    let (equal, others): (Vec<_>, Vec<_>) = looked_at.partition(|(_, line)| line.equivalent);
    let ours: Vec<&Line> =
        others.iter().filter(|(mutant, _)| mutant.by.is_none()).map(|(_, line)| *line).collect();
    let all: Vec<&Line> = others.iter().map(|(_, line)| *line).collect();
    let by_seeds = |line: &&&Line| line.by_seeds.is_some();
    let alone = all.iter().filter(|line| line.by_seeds.is_none() && line.by_scenario.is_some()).count();
    let tests = all.iter().filter(|line| line.by_tests.is_some()).count();
    let mut text = format!(
        "{} of {} mutants killed: {} by seeds, {alone} by a scenario alone, {tests} by tests of one package; \
         {} more are equivalent to the original\n",
        all.iter().filter(|line| line.earliest().is_some()).count(),
        all.len(),
        all.iter().filter(by_seeds).count(),
        equal.len(),
    );
    text.push_str(&times("all of them, by whatever noticed them first", &all, Line::earliest));
    text.push_str(&times("those that are the simulator's to notice, by seeds alone", &ours, |line| {
        line.by_seeds
    }));
    text.push_str(&times("the same, by seeds or scenarios", &ours, Line::earliest));
    let sizes: Vec<(usize, usize, bool)> = all.iter().filter_map(|line| line.shrunk).collect();
    if !sizes.is_empty() {
        let small = |(faults, operations, tells): &&(usize, usize, bool)| {
            *tells
                && *faults <= crate::shrink::FAULTS_WANTED
                && *operations <= crate::shrink::OPERATIONS_WANTED
        };
        text.push_str(&format!(
            "{} of {} schedules that seeds found made as small as {} faults and {} requests, in files that fail again\n",
            sizes.iter().filter(small).count(),
            all.iter().filter(by_seeds).count(),
            crate::shrink::FAULTS_WANTED,
            crate::shrink::OPERATIONS_WANTED,
        ));
    }
    let names = |of: &dyn Fn(&Line) -> bool| {
        let names: Vec<&str> =
            others.iter().filter(|(_, line)| of(line)).map(|(mutant, _)| &*mutant.name).collect();
        names.join(", ")
    };
    let (told, survived) = (
        names(&|line| line.by_seeds.is_none() && line.by_scenario.is_some()),
        names(&|line| line.earliest().is_none()),
    );
    for (what, names) in [("no seed noticed", told), ("survived", survived)] {
        if !names.is_empty() {
            text.push_str(&format!("{what}: {names}\n"));
        }
    }
    text
}

/// How long it took until those were noticed that were.
fn times(of: &str, lines: &[&Line], time: impl Fn(&Line) -> Option<f64>) -> String {
    let mut times: Vec<f64> = lines.iter().filter_map(|line| time(line)).collect();
    times.sort_by(f64::total_cmp);
    let within = |limit: f64| times.iter().filter(|time| **time <= limit).count();
    let percent = |part: usize| 100.0 * part as f64 / lines.len().max(1) as f64;
    format!(
        "{of}: {} of {} within 60 s of processor time ({:.1} %), {} within 10 minutes ({:.1} %), median {:.2} s, \
         slowest {:.2} s\n",
        within(60.0),
        lines.len(),
        percent(within(60.0)),
        within(600.0),
        percent(within(600.0)),
        times.get(times.len() / 2).copied().unwrap_or(0.0),
        times.last().copied().unwrap_or(0.0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutant(name: &str) -> Mutant {
        Mutant { name: name.to_owned(), ..Mutant::default() }
    }

    fn score(name: &str, fate: Fate) -> Score {
        Score { mutant: mutant(name), fate, told: None, shrunk: None }
    }

    #[test]
    fn a_table_tells_seeds_from_scenarios_and_tests() {
        let killed = |seeds, seconds| Fate::Killed { oracle: "election safety".to_owned(), seeds, seconds };
        let survived = Fate::Survived { seeds: Some(9), seconds: 60.0 };
        let told = Told { scenario: "a_vote".to_owned(), oracle: "hand-over".to_owned(), seconds: 0.1 };
        let shrunk = Shrunk { faults: 3, operations: 2, seconds: 9.0, tells: true };
        let scores = [
            Score { shrunk: Some(shrunk), ..score("at-once", killed(1, 0.02)) },
            Score { told: Some(told.clone()), ..score("late", killed(900, 61.0)) },
            Score {
                mutant: Mutant { by: Some("quorate-raft".to_owned()), ..mutant("by-tests") },
                ..score("by-tests", killed(0, 0.02))
            },
            Score { told: Some(told), ..score("told", survived.clone()) },
            Score {
                mutant: Mutant { equal: "why".to_owned(), ..mutant("same") },
                ..score("same", survived.clone())
            },
            score("never", survived),
        ];
        let mutants: Vec<Mutant> = scores.iter().map(|score| score.mutant.clone()).collect();
        let lines: Vec<String> = scores.iter().map(Score::line).collect();
        let text = table(&mutants, &read_lines(&lines.join("\n")), "abc");
        assert_eq!(quick(&text, 0.5).into_iter().collect::<Vec<_>>(), ["at-once"]);
        for wanted in [
            "4 of 5 mutants killed: 2 by seeds, 1 by a scenario alone, 1 by tests of one package; 1 more are",
            "noticed them first: 4 of 5 within 60 s of processor time (80.0 %), 4 within 10 minutes (80.0 %)",
            "by seeds alone: 1 of 4 within 60 s of processor time (25.0 %), 2 within 10 minutes (50.0 %), median 61.00",
            "by seeds or scenarios: 3 of 4 within 60 s",
            "1 of 2 schedules that seeds found made as small as",
            "no seed noticed: told\nsurvived: never\n",
        ] {
            assert!(text.contains(wanted), "{wanted:?} is not in {text}");
        }
        // What was written can be read again, and lines that are looked at again replace their former ones.
        let again = score("never", killed(2, 0.1)).line();
        let mut merged = read_lines(&text);
        merged.extend(read_lines(&again));
        assert_eq!(table(&mutants, &merged, "abc").matches("never").count(), 1);
        assert!(table(&mutants, &merged, "abc").contains("5 of 5 mutants killed"));
    }
}
