//! How much was simulated, on which code, with what result: a file of one line per sweep.
//!
//! ```text
//! commit 1a2b3c4 seeds 1000 from 0 seconds 38211 events 60211930 violations 0
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

/// One sweep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The code.
    pub commit: String,
    /// How many seeds.
    pub seeds: u64,
    /// The first one.
    pub start: u64,
    /// How much time passed in the simulated world, in seconds.
    pub seconds: u64,
    /// How many events there were.
    pub events: u64,
    /// How many seeds violated a property.
    pub violations: u64,
}

impl Entry {
    /// A sweep on this code.
    #[must_use]
    pub fn new(seeds: u64, start: u64, simulated: Duration, events: u64, violations: u64) -> Entry {
        let commit = env!("QUORATE_COMMIT").to_owned();
        Entry { commit, seeds, start, seconds: simulated.as_secs(), events, violations }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Entry { commit, seeds, start, seconds, events, violations } = self;
        write!(f, "commit {commit} seeds {seeds} from {start} seconds {seconds} events {events} ")?;
        write!(f, "violations {violations}")
    }
}

/// Adds a sweep to a ledger.
pub fn add(path: &Path, entry: &Entry) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
    writeln!(file, "{entry}")
}

/// Reads a ledger, or says which line is wrong.
pub fn parse(text: &str) -> Result<Vec<Entry>, String> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(number, line)| {
            parse_line(line)
                .ok_or_else(|| format!("line {}: this is no line of a ledger: {line:?}", number + 1))
        })
        .collect()
}

fn parse_line(line: &str) -> Option<Entry> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let value = |name: &str| words.chunks(2).find(|pair| pair[0] == name).and_then(|pair| pair.get(1));
    let number = |name: &str| value(name).and_then(|word| word.parse().ok());
    Some(Entry {
        commit: (*value("commit")?).to_owned(),
        seeds: number("seeds")?,
        start: number("from")?,
        seconds: number("seconds")?,
        events: number("events")?,
        violations: number("violations")?,
    })
}

/// What all sweeps came to, by commit in the order of the file, and in total.
#[must_use]
pub fn table(entries: &[Entry]) -> String {
    let mut order: Vec<&str> = Vec::new();
    let mut sums: BTreeMap<&str, Entry> = BTreeMap::new();
    let mut total = Entry { commit: "total".to_owned(), ..Entry::default() };
    for entry in entries {
        if !order.contains(&&*entry.commit) {
            order.push(&entry.commit);
        }
        for sum in [sums.entry(&entry.commit).or_default(), &mut total] {
            sum.seeds += entry.seeds;
            sum.seconds += entry.seconds;
            sum.events += entry.events;
            sum.violations += entry.violations;
        }
    }
    let mut text = format!(
        "{:<12} {:>10} {:>14} {:>10} {:>16} {:>10}\n",
        "commit", "seeds", "simulated", "years", "events", "violations"
    );
    let rows = order.iter().map(|commit| (*commit, &sums[commit])).chain([("total", &total)]);
    for (commit, sum) in rows {
        let years = sum.seconds as f64 / SECONDS_PER_YEAR;
        let simulated = format!("{} s", sum.seconds);
        text.push_str(&format!(
            "{commit:<12} {:>10} {simulated:>14} {years:>10.4} {:>16} {:>10}\n",
            sum.seeds, sum.events, sum.violations
        ));
    }
    text
}

const SECONDS_PER_YEAR: f64 = 365.25 * 86_400.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_adds_up() {
        let entry = Entry {
            commit: "abc".to_owned(),
            seeds: 10,
            start: 5,
            seconds: 31_557_600,
            events: 7,
            violations: 1,
        };
        let text = format!("{entry}\n\n{entry}\n");
        let entries = parse(&text).expect("what was written can be read");
        assert_eq!(entries, [entry.clone(), entry]);
        let table = table(&entries);
        assert!(
            table.lines().last().is_some_and(|line| line.contains("2.0000") && line.starts_with("total")),
            "{table}"
        );
        assert_eq!(
            parse("commit x").expect_err("incomplete"),
            "line 1: this is no line of a ledger: \"commit x\""
        );
    }
}
