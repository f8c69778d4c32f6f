//! `mutants`: are known bugs still noticed?

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Args;

use crate::mutants::{self, Fate, Mutant, Score, Shrunk, Workshop};

/// Which known bugs, and how long to look.
#[derive(Args, Clone, Debug)]
pub struct Mutants {
    /// How many seeds each may survive.
    #[arg(long, default_value_t = 100_000)]
    pub seeds: u64,
    /// How much processor time each may take, in seconds.
    #[arg(long, default_value_t = 600)]
    pub limit: u64,
    /// Only those whose name contains one of these.
    #[arg(long, value_delimiter = ',')]
    pub name: Vec<String>,
    /// Only those that the table kept with the source says were noticed within so many seconds.
    #[arg(long, value_name = "SECONDS")]
    pub known: Option<f64>,
    /// How many at a time; as many as there are processors, if not given.
    #[arg(long)]
    pub jobs: Option<usize>,
    /// Make each schedule that notices one smaller.
    #[arg(long)]
    pub shrink: bool,
    /// Where the table goes. If it is there already, the lines of other mutants stay.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Print the table that is kept with the source, and do nothing.
    #[arg(long)]
    pub last: bool,
}

/// Builds all mutants, and tells scenarios and sweeps seeds with each; prints what became of it.
#[must_use]
pub fn mutants(options: &Mutants) -> ExitCode {
    if options.last {
        print!("{}", mutants::RESULT);
        return ExitCode::SUCCESS;
    }
    match run(options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// Whether every mutant was noticed that could be.
fn run(options: &Mutants) -> Result<bool, String> {
    let table = mutants::parse(mutants::TABLE)?;
    let known = options.known.map(|seconds| mutants::quick(mutants::RESULT, seconds));
    let wanted = |mutant: &&Mutant| {
        known.as_ref().is_none_or(|known| known.contains(&*mutant.name))
            && (options.name.is_empty() || options.name.iter().any(|name| mutant.name.contains(name)))
    };
    let wanted: Vec<&Mutant> = table.iter().filter(wanted).collect();
    if wanted.is_empty() {
        return Err(format!("none of {} mutants has a name that contains {:?}", table.len(), options.name));
    }
    let workshop = Workshop::open(&table, &wanted)?;
    println!("{}", mutants::HEAD);
    let (next, scores) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || -> Result<(), String> {
        while let Some(mutant) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
            let score = judge(&workshop, mutant, options)?;
            println!("{}", score.line());
            scores.lock().expect("no worker panics while it holds this").push(score);
        }
        Ok(())
    };
    let processors = || std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> =
            (0..options.jobs.unwrap_or_else(processors)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("no worker panics"))
    })?;
    let scores = scores.into_inner().expect("no worker has panicked");
    let text: Vec<String> = scores.iter().map(Score::line).collect();
    let text = text.join("\n");
    let lines = mutants::read_lines(&text);
    print!("{}", mutants::summary(&table, &lines));
    if let Some(path) = &options.out {
        let before = std::fs::read_to_string(path).unwrap_or_default();
        let mut all = mutants::read_lines(&before);
        all.extend(lines);
        let text = mutants::table(&table, &all, env!("QUORATE_COMMIT"));
        std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(scores.iter().all(|score| score.noticed() || !score.mutant.equal.is_empty()))
}

fn judge(workshop: &Workshop, mutant: &Mutant, options: &Mutants) -> Result<Score, String> {
    let told = if mutant.by.is_none() { workshop.tell(mutant)? } else { None };
    let fate = workshop.judge(mutant, options.seeds, options.limit)?;
    let mut score = Score { mutant: mutant.clone(), fate, told, shrunk: None };
    if let Fate::Killed { seeds: 1.., .. } = score.fate
        && options.shrink
    {
        score.shrunk = shrink(workshop, &score)?;
    }
    Ok(score)
}

/// Makes the schedule that noticed a mutant smaller.
fn shrink(workshop: &Workshop, score: &Score) -> Result<Option<Shrunk>, String> {
    let Fate::Killed { seeds, .. } = score.fate else { return Ok(None) };
    let name = &score.mutant.name;
    let out = workshop.runs().join(name).join(format!("{name}.scn"));
    let seed = (seeds - 1).to_string();
    // What an earlier search left must not be taken for what this one has found.
    let _ = std::fs::remove_file(&out);
    let arguments =
        ["shrink", &seed, "--or-later", "--as-mutant", name, "--limit", "60", "--small-enough", "--out"];
    let arguments: Vec<&str> = arguments.into_iter().chain(out.to_str()).collect();
    let seconds = workshop.simulate(&score.mutant, &arguments)?;
    let Some((faults, operations)) = read(&out) else { return Ok(None) };
    let (with_bug, without) = workshop.becomes_what_it_says(&out, &score.mutant)?;
    Ok(Some(Shrunk { faults, operations, seconds, tells: !with_bug && without }))
}

fn read(path: &Path) -> Option<(usize, usize)> {
    let scenario = super::single::read(path).ok()?;
    Some((scenario.faults(), scenario.operations()))
}
