//! The folder of a run: everything that is needed to understand it later, and to judge it again.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use quorate_jepsen::etcd::EtcdHistory;
use quorate_jepsen::explain::{Band, Picture, html};
use quorate_jepsen::format::jepsen::{Answer, Ask};
use quorate_jepsen::format::lines;
use quorate_jepsen::{History, Verdict};

use crate::judge::Check;
use crate::plot::Plots;
use crate::record::Seen;
use crate::timeline::Timeline;

/// Makes a folder for a run: the one named, which must be new or empty, or the next free one below `results`.
pub fn make(named: Option<&Path>, workload: &str) -> io::Result<PathBuf> {
    let path = match named {
        Some(path) => path.to_path_buf(),
        None => {
            let free = |number: &u32| !Path::new("results").join(format!("{workload}-{number}")).exists();
            let number = (1..).find(free).expect("some number is free");
            Path::new("results").join(format!("{workload}-{number}"))
        }
    };
    std::fs::create_dir_all(&path)?;
    if std::fs::read_dir(&path)?.next().is_some() {
        return Err(io::Error::other(format!("{} is not empty", path.display())));
    }
    path.canonicalize()
}

/// Adds a part of the history of requests.
pub fn append_history(folder: &Path, history: &EtcdHistory) -> io::Result<()> {
    append(&folder.join("history.jsonl"), history)
}

/// Adds a part of the operations by name.
pub fn append_named(folder: &Path, history: &History<Ask, Answer>) -> io::Result<()> {
    if history.operations.is_empty() {
        return Ok(());
    }
    let file = File::options().create(true).append(true).open(folder.join("operations.jsonl"))?;
    let mut to = BufWriter::new(file);
    lines::write_named(history, &mut to)?;
    to.flush()
}

/// Adds requests to a file.
pub fn append(file: &Path, history: &EtcdHistory) -> io::Result<()> {
    if history.operations.operations.is_empty() && history.watches.is_empty() {
        return Ok(());
    }
    let file = File::options().create(true).append(true).open(file)?;
    let mut to = BufWriter::new(file);
    lines::write_etcd(history, &mut to)?;
    to.flush()
}

/// Writes everything but the history of requests.
pub fn write(
    folder: &Path,
    seen: &Seen,
    bands: &[Band],
    timeline: &Timeline,
    summary: &serde_json::Value,
) -> io::Result<()> {
    append_named(folder, &seen.named)?;
    let mut nemesis = File::create(folder.join("nemesis.jsonl"))?;
    for band in bands {
        writeln!(
            nemesis,
            "{}",
            serde_json::json!({ "from": band.from, "to": band.to, "fault": band.label })
        )?;
    }
    let plots = Plots::new(timeline, bands);
    std::fs::write(folder.join("latency.svg"), plots.latency())?;
    std::fs::write(folder.join("rate.svg"), plots.rate())?;
    std::fs::write(folder.join("verdict.json"), format!("{summary:#}\n"))
}

/// Writes a page for every check that has a picture.
pub fn write_pages(folder: &Path, checks: &[Check], bands: &[Band]) -> io::Result<()> {
    for (number, check) in checks.iter().enumerate() {
        let Some(picture) = &check.picture else { continue };
        let title = check.name.to_owned();
        let picture = Picture { title, bands: bands.to_vec(), ..(**picture).clone() };
        std::fs::write(folder.join(format!("check-{}.html", number + 1)), html::page(&picture))?;
    }
    Ok(())
}

/// A check in JSON.
pub fn summary(check: &Check) -> serde_json::Value {
    let (verdict, rule) = match &check.verdict {
        Verdict::Valid => ("valid", None),
        Verdict::Invalid(violation) => ("invalid", Some(violation.rule)),
        Verdict::Unknown(_) => ("unknown", None),
    };
    serde_json::json!({
        "check": check.name, "verdict": verdict, "rule": rule, "why": check.why, "steps": check.evidence,
    })
}
