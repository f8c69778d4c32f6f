//! Mutants: known bugs, put into a copy of the product to see that the simulator notices.
//!
//! An oracle that never objects looks just like a product that is never wrong. So known bugs are kept as a
//! table of small changes (`mutants/`), outside of the product's source, which knows nothing of them.
//! `quorate-sim mutants` applies each to a scratch copy of the workspace, builds the simulator there, and
//! sweeps seeds until one fails.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The table of mutants.
pub const TABLE: &str = concat!(
    include_str!("../mutants/raft.txt"),
    include_str!("../mutants/replica.txt"),
    include_str!("../mutants/store.txt"),
);

/// A known bug.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mutant {
    /// What it is called.
    pub name: String,
    /// Who knows the bug.
    pub source: String,
    /// The file that it changes.
    pub file: String,
    /// The lines before.
    pub before: Vec<String>,
    /// The lines after.
    pub after: Vec<String>,
}

/// What became of a mutant.
#[derive(Clone, Debug)]
pub enum Fate {
    /// A seed noticed it: the property that it broke, the seed's place in the sweep, and the time that took.
    Killed {
        /// The property.
        oracle: String,
        /// How many seeds it took.
        seeds: u64,
        /// How many seconds, the build not counted.
        seconds: f64,
    },
    /// No seed noticed it.
    Survived,
}

/// Reads the table. Lines that begin with `#` are for people.
pub fn parse(table: &str) -> Result<Vec<Mutant>, String> {
    let mut mutants: Vec<Mutant> = Vec::new();
    for (number, line) in table.lines().enumerate() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim().to_owned();
        if word == "mutant" {
            mutants.push(Mutant { name: rest, ..Mutant::default() });
            continue;
        }
        let Some(mutant) = mutants.last_mut() else { continue };
        match word {
            "source" => mutant.source = rest,
            "file" => mutant.file = rest,
            "-" => mutant.before.push(rest),
            "+" => mutant.after.push(rest),
            "" | "#" => {}
            other => return Err(format!("line {}: unknown word {other:?}", number + 1)),
        }
    }
    Ok(mutants)
}

impl Mutant {
    /// The file's text with the bug in it.
    pub fn apply(&self, text: &str) -> Result<String, String> {
        let lines: Vec<&str> = text.lines().collect();
        let fits = |at: &usize| {
            let window = lines.get(*at..*at + self.before.len());
            window.is_some_and(|window| {
                window.iter().zip(&self.before).all(|(line, before)| line.trim() == before)
            })
        };
        let places: Vec<usize> = (0..lines.len()).filter(fits).collect();
        let &[place] = &places[..] else {
            return Err(format!("mutant {} fits {} at {} places", self.name, self.file, places.len()));
        };
        let mut changed: Vec<String> = lines[..place].iter().map(|&line| line.to_owned()).collect();
        changed.extend(self.after.iter().cloned());
        changed.extend(lines[place + self.before.len()..].iter().map(|&line| line.to_owned()));
        Ok(changed.join("\n") + "\n")
    }
}

/// The workspace that this program was built from, copied to a place where mutants can be built.
#[derive(Debug)]
pub struct Workshop {
    source: PathBuf,
    copy: PathBuf,
}

impl Workshop {
    /// The workshop of this workspace.
    pub fn open() -> Result<Workshop, String> {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let scratch = workspace.join("target").join("mutants");
        Workshop::new(&workspace, &scratch).map_err(|error| error.to_string())
    }

    /// Copies what the repository holds. What is there already stays as it is, so that it need not be built
    /// again.
    pub fn new(source: &Path, scratch: &Path) -> io::Result<Workshop> {
        let copy = scratch.join("work");
        let listed = Command::new("git")
            .arg("-C")
            .arg(source)
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .output()?;
        for name in String::from_utf8_lossy(&listed.stdout).split_terminator('\0') {
            let (from, to) = (source.join(name), copy.join(name));
            if !from.exists() {
                continue; // Removed, and the removal not committed.
            }
            let bytes = std::fs::read(from)?;
            if std::fs::read(&to).is_ok_and(|there| there == bytes) {
                continue;
            }
            std::fs::create_dir_all(to.parent().expect("a file has a folder"))?;
            std::fs::write(to, bytes)?;
        }
        Ok(Workshop { source: source.to_owned(), copy })
    }

    /// Builds a mutant, and sweeps seeds until one fails or there are no more.
    pub fn judge(&self, mutant: &Mutant, seeds: u64) -> Result<Fate, String> {
        self.with(mutant, |program| sweep(program, seeds))
    }

    /// Builds a mutant, and does something with its simulator.
    pub fn with<T>(
        &self,
        mutant: &Mutant,
        work: impl FnOnce(&Path) -> Result<T, String>,
    ) -> Result<T, String> {
        let original = std::fs::read_to_string(self.source.join(&mutant.file)).map_err(|e| e.to_string())?;
        let place = self.copy.join(&mutant.file);
        std::fs::write(&place, mutant.apply(&original)?).map_err(|e| e.to_string())?;
        let result = self.build().and_then(|program| work(&program));
        std::fs::write(&place, original).map_err(|e| e.to_string())?;
        result
    }

    fn build(&self) -> Result<PathBuf, String> {
        let target = self.copy.with_file_name("target");
        let output = Command::new("cargo")
            .current_dir(&self.copy)
            .args(["build", "--release", "--quiet", "--package", "quorate-sim", "--bin", "quorate-sim"])
            // What counts here is the time until the first seed runs.
            .args(["--config", "profile.release.lto=false", "--config", "profile.release.incremental=true"])
            .args(["--config", "profile.release.codegen-units=16", "--config", "profile.release.debug=false"])
            .arg("--target-dir")
            .arg(&target)
            .output()
            .map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(format!("it does not build: {}", String::from_utf8_lossy(&output.stderr)));
        }
        Ok(target.join("release").join("quorate-sim"))
    }
}

/// Sweeps seeds with a mutant's simulator, until the first that fails.
fn sweep(program: &Path, seeds: u64) -> Result<Fate, String> {
    let output = Command::new(program)
        .args(["sweep", "--jobs", "1", "--first", "--seeds", &seeds.to_string()])
        .current_dir(std::env::temp_dir())
        .output()
        .map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    if output.status.success() {
        return Ok(Fate::Survived);
    }
    let oracle = text.lines().find_map(|line| line.strip_prefix("violated: "));
    let oracle = oracle.and_then(|line| line.split(':').next()).unwrap_or("unknown").to_owned();
    // The first line says: 17 seeds in 0.53s: …
    let mut words = text.lines().next().unwrap_or_default().split_whitespace();
    let seeds = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
    let seconds = words.nth(2).and_then(|word| word.trim_end_matches("s:").parse().ok()).unwrap_or(0.0);
    Ok(Fate::Killed { oracle, seeds, seconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutant_still_fits_the_source() {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mutants = parse(TABLE).expect("the table can be read");
        assert!(!mutants.is_empty());
        for mutant in mutants {
            let text = std::fs::read_to_string(workspace.join(&mutant.file)).expect("the file exists");
            let changed = mutant.apply(&text).unwrap_or_else(|error| panic!("{error}"));
            assert_ne!(changed, text, "mutant {} changes nothing", mutant.name);
        }
    }
}
