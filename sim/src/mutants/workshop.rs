//! A scratch copy of the workspace in which every mutant is built at once, and runs of each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::{Hunk, Mutant, switch};

/// The copy, built.
#[derive(Debug)]
pub struct Workshop {
    /// The workspace that this program was built from.
    source: PathBuf,
    copy: PathBuf,
    /// Where runs leave their files.
    runs: PathBuf,
    simulator: PathBuf,
    /// The test programs of packages whose tests have to notice something.
    tests: BTreeMap<String, Vec<PathBuf>>,
}

/// What became of a mutant.
#[derive(Clone, Debug, PartialEq)]
pub enum Fate {
    /// It was noticed.
    Killed {
        /// By which property or test.
        oracle: String,
        /// How many seeds that took; none, if it was a test.
        seeds: u64,
        /// How much processor time that took, in seconds.
        seconds: f64,
    },
    /// Nobody noticed it.
    Survived {
        /// In so many seeds; unknown if the time was up.
        seeds: Option<u64>,
        /// How much processor time that took, in seconds.
        seconds: f64,
    },
}

/// The scenario that noticed a mutant.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// Its name.
    pub scenario: String,
    /// The property that it saw broken.
    pub oracle: String,
    /// How much processor time it took to get there, in seconds, the scenarios before it included.
    pub seconds: f64,
}

impl Workshop {
    /// Copies the workspace, puts all these mutants into the copy, and builds what those need that are `wanted`.
    pub fn open(mutants: &[Mutant], wanted: &[&Mutant]) -> Result<Workshop, String> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let scratch = source.join("target").join("mutants");
        let mut workshop = Workshop {
            copy: scratch.join("work"),
            runs: scratch.join("runs"),
            simulator: scratch.join("target/release/quorate-sim"),
            tests: BTreeMap::new(),
            source,
        };
        std::fs::create_dir_all(&workshop.runs).map_err(|error| error.to_string())?;
        let mut changed = workshop.changed(mutants)?;
        workshop.copy_all(&mut changed)?;
        if wanted.iter().any(|mutant| mutant.by.is_none()) {
            workshop.build()?;
        }
        let packages: BTreeSet<String> = wanted.iter().filter_map(|mutant| mutant.by.clone()).collect();
        for package in packages {
            let programs = workshop.build_tests(&package)?;
            workshop.tests.insert(package, programs);
        }
        Ok(workshop)
    }

    /// Every file that a mutant changes, with all changes behind switches; and the switch in every crate
    /// concerned.
    fn changed(&self, mutants: &[Mutant]) -> Result<BTreeMap<PathBuf, String>, String> {
        let mut files: BTreeMap<&str, Vec<(usize, &Hunk)>> = BTreeMap::new();
        for mutant in mutants {
            for hunk in &mutant.hunks {
                files.entry(&hunk.file).or_default().push((mutant.number, hunk));
            }
        }
        let read = |file: &Path| {
            std::fs::read_to_string(self.source.join(file))
                .map_err(|error| format!("{}: {error}", file.display()))
        };
        let mut changed = BTreeMap::new();
        for (file, hunks) in files {
            let text = read(Path::new(file))?;
            changed.insert(PathBuf::from(file), switch::switched(&text, &hunks)?);
        }
        let roots: BTreeSet<PathBuf> = changed.keys().filter_map(|file| root(file)).collect();
        for root in roots {
            let text = changed.remove(&root).map_or_else(|| read(&root), Ok)?;
            changed.insert(root, text + switch::MODULE);
        }
        Ok(changed)
    }

    /// Copies what the repository holds. What is there already stays as it is, so that it need not be built
    /// again.
    fn copy_all(&self, changed: &mut BTreeMap<PathBuf, String>) -> Result<(), String> {
        let listed = Command::new("git")
            .arg("-C")
            .arg(&self.source)
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .output()
            .map_err(|error| format!("git: {error}"))?;
        let mut kept = BTreeSet::new();
        for name in String::from_utf8_lossy(&listed.stdout).split_terminator('\0') {
            let (from, to) = (self.source.join(name), self.copy.join(name));
            let bytes = match changed.remove(Path::new(name)) {
                Some(text) => text.into_bytes(),
                None if from.is_file() => std::fs::read(from).map_err(|error| error.to_string())?,
                None => continue, // Removed, and the removal not committed.
            };
            kept.insert(to.clone());
            if std::fs::read(&to).is_ok_and(|there| there == bytes) {
                continue;
            }
            let write = || {
                std::fs::create_dir_all(to.parent().expect("a file has a folder"))?;
                std::fs::write(&to, bytes)
            };
            write().map_err(|error| format!("{}: {error}", to.display()))?;
        }
        remove_others(&self.copy, &kept).map_err(|error| format!("{}: {error}", self.copy.display()))
    }

    fn cargo(&self) -> Command {
        let mut command = Command::new("cargo");
        command.current_dir(&self.copy);
        // What counts here is the time until all are done, and that is mostly the build.
        for setting in ["lto=false", "codegen-units=16", "debug=false", "incremental=true", "opt-level=2"] {
            command.args(["--config", &format!("profile.release.{setting}")]);
        }
        command
    }

    fn build(&self) -> Result<(), String> {
        let mut command = self.cargo();
        command.args(["build", "--release", "--quiet", "--package", "quorate-sim", "--bin", "quorate-sim"]);
        self.finish_build(command).map(|_| ())
    }

    fn build_tests(&self, package: &str) -> Result<Vec<PathBuf>, String> {
        let mut command = self.cargo();
        command.args(["test", "--release", "--quiet", "--no-run", "--message-format", "json"]);
        command.args(["--package", package]);
        let output = self.finish_build(command)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let programs = text.split("\"executable\":\"").skip(1);
        Ok(programs.filter_map(|rest| rest.split('"').next()).map(PathBuf::from).collect())
    }

    fn finish_build(&self, mut command: Command) -> Result<Output, String> {
        command.arg("--target-dir").arg(self.copy.with_file_name("target"));
        let output = command.output().map_err(|error| format!("cargo: {error}"))?;
        if output.status.success() {
            return Ok(output);
        }
        Err(format!("the mutants do not build: {}", String::from_utf8_lossy(&output.stderr)))
    }

    /// A command for the simulator with this bug in it.
    #[must_use]
    pub fn simulator(&self, mutant: &Mutant) -> Command {
        let mut command = Command::new(&self.simulator);
        command.env(switch::VARIABLE, mutant.number.to_string());
        command
    }

    /// Runs the simulator with this bug in it; says how much processor time that took, in seconds.
    pub fn simulate(&self, mutant: &Mutant, arguments: &[&str]) -> Result<f64, String> {
        Ok(self.run(mutant, &self.simulator, arguments, LIMIT)?.seconds)
    }

    /// Whether a scenario becomes what it says: with this bug in the product, and without.
    pub fn becomes_what_it_says(&self, scenario: &Path, mutant: &Mutant) -> Result<(bool, bool), String> {
        let arguments = ["scenario".as_ref(), scenario.as_os_str()];
        let runs = |mut command: Command| {
            let output = command.args(arguments).current_dir(&self.runs).output();
            output.map(|output| output.status.success()).map_err(|error| error.to_string())
        };
        Ok((runs(self.simulator(mutant))?, runs(Command::new(&self.simulator))?))
    }

    /// Where runs leave their files: a folder for each mutant.
    #[must_use]
    pub fn runs(&self) -> &Path {
        &self.runs
    }

    /// Whether some scenario becomes something else with this bug in it.
    pub fn tell(&self, mutant: &Mutant) -> Result<Option<Told>, String> {
        let folder = self.source.join("sim/scenarios");
        let entries = std::fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let mut files: Vec<String> =
            entries.filter_map(|entry| Some(entry.ok()?.path().to_string_lossy().into_owned())).collect();
        files.sort_unstable();
        let arguments: Vec<&str> =
            ["scenario", "--first"].into_iter().chain(files.iter().map(String::as_str)).collect();
        let run = self.run(mutant, &self.simulator, &arguments, LIMIT)?;
        Ok(told(&run))
    }

    /// Whether this bug is noticed: by some of these seeds, or by the tests that have to.
    pub fn judge(&self, mutant: &Mutant, seeds: u64, limit: u64) -> Result<Fate, String> {
        match &mutant.by {
            Some(package) => self.test(mutant, package, limit),
            None => {
                let arguments = ["sweep", "--jobs", "1", "--first", "--seeds", &seeds.to_string()];
                let run = self.run(mutant, &self.simulator, &arguments, limit)?;
                Ok(swept(&run))
            }
        }
    }

    fn test(&self, mutant: &Mutant, package: &str, limit: u64) -> Result<Fate, String> {
        let mut seconds = 0.0;
        for program in &self.tests[package] {
            let run = self.run(mutant, program, &["--test-threads", "1"], limit)?;
            seconds += run.seconds;
            if !run.success {
                let mut lines = run.stdout.lines();
                let failed = lines.find_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
                let failed = failed.unwrap_or("ended before its time");
                let program = program.file_name().map(|name| name.to_string_lossy().into_owned());
                let program = program.unwrap_or_default();
                let program = program.rsplit_once('-').map_or(&*program, |(name, _)| name);
                let oracle = format!("tests of {package}: {program} {failed}");
                return Ok(Fate::Killed { oracle, seeds: 0, seconds });
            }
        }
        Ok(Fate::Survived { seeds: None, seconds })
    }

    /// Runs a program as this mutant. A shell limits its processor time, and says how much it was.
    fn run(&self, mutant: &Mutant, program: &Path, arguments: &[&str], limit: u64) -> Result<Run, String> {
        let folder = self.runs.join(&mutant.name);
        std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        let script = format!("ulimit -t {limit}; \"$0\" \"$@\"; code=$?; times >&2; exit $code");
        let output = Command::new("sh")
            .args(["-c", &script])
            .arg(program)
            .args(arguments)
            .current_dir(folder)
            .env(switch::VARIABLE, mutant.number.to_string())
            // The same cases of property tests every time.
            .env("PROPTEST_RNG_SEED", "1")
            .output()
            .map_err(|error| format!("sh: {error}"))?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok(Run {
            success: output.status.success(),
            violated: output.status.code() == Some(1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            // The last line has the children's time: user, then system.
            seconds: stderr.lines().last().unwrap_or_default().split_whitespace().map(minutes).sum(),
        })
    }
}

/// No run that has a limit of its own takes so many seconds.
const LIMIT: u64 = 600;

/// What a program came to.
struct Run {
    success: bool,
    violated: bool,
    stdout: String,
    seconds: f64,
}

/// Removes what an earlier copy held and the workspace holds no more.
fn remove_others(folder: &Path, kept: &BTreeSet<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_others(&entry.path(), kept)?;
        } else if !kept.contains(&entry.path()) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// The first file of the crate that a file belongs to.
fn root(file: &Path) -> Option<PathBuf> {
    let folder = file.ancestors().find(|folder| folder.ends_with("src"))?;
    Some(folder.join("lib.rs"))
}

/// The first scenario that did not become what it says.
fn told(run: &Run) -> Option<Told> {
    if run.success || !run.violated {
        return None;
    }
    let oracle = run.stdout.lines().find_map(|line| line.strip_prefix("violated: "));
    let wrong =
        run.stdout.lines().find(|line| line.contains(".scn: ") && !line.contains(": as expected: "))?;
    let (path, what) = wrong.split_once(": ")?;
    let oracle = oracle.unwrap_or(what).split(':').next().unwrap_or_default().to_owned();
    let scenario = Path::new(path).file_stem()?.to_string_lossy().into_owned();
    Some(Told { scenario, oracle, seconds: run.seconds })
}

/// What a sweep found.
fn swept(run: &Run) -> Fate {
    // The first line says: 17 seeds in 0.53s: …
    let seeds = run.stdout.split_whitespace().next().and_then(|word| word.parse().ok());
    let seconds = run.seconds;
    if run.success || !run.violated {
        return Fate::Survived { seeds, seconds };
    }
    let oracle = run.stdout.lines().find_map(|line| line.strip_prefix("violated: "));
    let oracle = oracle.and_then(|line| line.split(':').next()).unwrap_or("the program died").to_owned();
    Fate::Killed { oracle, seeds: seeds.unwrap_or(0), seconds }
}

/// What `1m2.50s` is in seconds.
fn minutes(word: &str) -> f64 {
    let (minutes, seconds) = word.split_once('m').unwrap_or(("0", word));
    let number = |word: &str| word.trim_end_matches('s').parse().unwrap_or(0.0);
    number(minutes) * 60.0 + number(seconds)
}
