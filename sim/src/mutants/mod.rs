//! Mutants: known bugs, put into a copy of the product to see that the simulator notices.
//!
//! An oracle that never objects looks just like a product that is never wrong. So known bugs are kept as a
//! table of small changes (`mutants/`), outside of the product's source, which knows nothing of them.
//! `quorate-sim mutants` applies all of them to a scratch copy of the workspace, each behind a switch
//! ([`switch`]), builds the simulator there once (`workshop`), and with each switched on tells all scenarios and
//! sweeps seeds until one fails. The two are counted apart (`score`): a scenario is somebody's knowledge of a bug,
//! a seed finds those that nobody knows.
//!
//! ```text
//! mutant <name>
//! source <who knows the bug>
//! etcd   <number of the issue, if it is one of etcd's recorded bugs>
//! by     <package>                the package's own tests have to notice it, for this reason:
//! why    <what the simulator cannot do>
//! equal  <why nobody can notice it>
//! file   <path>
//! - <lines before>                several times, if need be; and several files
//! + <lines after>
//! ```

mod score;
pub mod switch;
mod workshop;

use std::ops::Range;

pub use score::{HEAD, Line, Score, Shrunk, quick, read_lines, summary, table};
pub use workshop::{Fate, Told, Workshop};

/// The table of mutants.
pub const TABLE: &str = concat!(
    include_str!("../../mutants/raft.txt"),
    "\n",
    include_str!("../../mutants/replica.txt"),
    "\n",
    include_str!("../../mutants/store.txt"),
    "\n",
    include_str!("../../mutants/node.txt"),
);

/// What became of them when that was last looked at.
pub const RESULT: &str = include_str!("../../mutants/result.txt");

/// A known bug.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mutant {
    /// Its place in the table.
    pub number: usize,
    /// What it is called.
    pub name: String,
    /// Who knows the bug.
    pub source: String,
    /// The number of the issue, if it is one of etcd's recorded bugs.
    pub etcd: String,
    /// The package whose tests have to notice it, if it is not the simulator.
    pub by: Option<String>,
    /// Why the simulator cannot notice it.
    pub why: String,
    /// Why nobody can notice it, if so.
    pub equal: String,
    /// What it changes.
    pub hunks: Vec<Hunk>,
}

/// A change of a few lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hunk {
    /// The file.
    pub file: String,
    /// The lines before.
    pub before: Vec<String>,
    /// The lines after.
    pub after: Vec<String>,
}

/// Reads the table. Lines that begin with `#` are for people.
pub fn parse(table: &str) -> Result<Vec<Mutant>, String> {
    let mut mutants: Vec<Mutant> = Vec::new();
    for (number, line) in table.lines().enumerate() {
        let wrong = |what: &str| format!("line {} of the table of mutants: {what}: {line:?}", number + 1);
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim().to_owned();
        if word == "mutant" {
            if mutants.iter().any(|mutant| mutant.name == rest) {
                return Err(wrong("there is one of that name"));
            }
            mutants.push(Mutant { number: mutants.len(), name: rest, ..Mutant::default() });
            continue;
        }
        if matches!(word, "" | "#") {
            continue;
        }
        let mutant = mutants.last_mut().ok_or_else(|| wrong("no mutant has begun"))?;
        match word {
            "source" => mutant.source = rest,
            "etcd" => mutant.etcd = rest,
            "by" => mutant.by = Some(rest),
            "why" => mutant.why = rest,
            "equal" => mutant.equal = rest,
            "file" => mutant.hunks.push(Hunk { file: rest, ..Hunk::default() }),
            "-" | "+" => {
                let hunk = mutant.hunks.last_mut().ok_or_else(|| wrong("no file is named"))?;
                if word == "+" {
                    hunk.after.push(rest);
                } else if hunk.after.is_empty() {
                    hunk.before.push(rest);
                } else {
                    let file = hunk.file.clone();
                    mutant.hunks.push(Hunk { file, before: vec![rest], after: Vec::new() });
                }
            }
            _ => return Err(wrong("unknown word")),
        }
    }
    Ok(mutants)
}

impl Hunk {
    /// Where the lines are in the file: they must be there once, indentation apart.
    pub fn place(&self, text: &str) -> Result<Range<usize>, String> {
        let mut start = 0;
        let lines = text.split_inclusive('\n').map(|line| {
            start += line.len();
            (start - line.len(), line.trim())
        });
        let mut lines: Vec<(usize, &str)> = lines.collect();
        lines.push((text.len(), ""));
        let fits = |at: &usize| {
            let window = lines.get(*at..*at + self.before.len());
            window.is_some_and(|window| {
                window.iter().zip(&self.before).all(|((_, line), before)| line == before)
            })
        };
        let places: Vec<usize> = (0..lines.len() - 1).filter(fits).collect();
        match &places[..] {
            &[place] if !self.before.is_empty() => Ok(lines[place].0..lines[place + self.before.len()].0),
            _ => Err(format!("{:?} fits {} at {} places", self.before, self.file, places.len())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_mutant_still_fits_the_source() {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mutants = parse(TABLE).expect("the table can be read");
        assert!(mutants.len() >= 50, "only {} mutants", mutants.len());
        let mut files: BTreeMap<&str, Vec<(usize, &Hunk)>> = BTreeMap::new();
        for mutant in &mutants {
            assert!(!mutant.hunks.is_empty() && !mutant.source.is_empty(), "{} is not whole", mutant.name);
            assert_eq!(mutant.by.is_some(), !mutant.why.is_empty(), "{}: `by` needs a `why`", mutant.name);
            for hunk in &mutant.hunks {
                assert_ne!(hunk.before, hunk.after, "mutant {} changes nothing", mutant.name);
                files.entry(&hunk.file).or_default().push((mutant.number, hunk));
            }
        }
        let mut wrong = Vec::new();
        for (file, hunks) in files {
            let text = std::fs::read_to_string(workspace.join(file)).expect("the file exists");
            for (number, hunk) in &hunks {
                if let Err(error) = switch::switched(&text, &[(*number, hunk)]) {
                    wrong.push(format!("{}: {error}", mutants[*number].name));
                }
            }
            if let Err(error) = switch::switched(&text, &hunks) {
                wrong.push(error);
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
