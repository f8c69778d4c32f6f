//! What is done to a cluster of our own while clients work: one fault after the other, each for a while, with a
//! pause between, all drawn from the seed.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use tokio::sync::Mutex;

use crate::local::{Local, LocalError};
use crate::record::Recorder;
use crate::workload::Context;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Nemesis {
    /// Members are killed (`kill -9`) and started again: one, most, or all at once.
    Kill,
    /// Members are stopped from doing anything and go on later, unaware of the time that has passed.
    Pause,
    /// Links between members are cut: one member alone, one direction only, or a ring of majorities. Needs root.
    Partition,
    /// A member is killed, a byte of its files is changed, and it is started again. It may refuse to start; it must
    /// not serve anything wrong. Its files are put back afterwards, as from a backup.
    Corrupt,
}

/// Which faults, and when.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The kinds to draw from; none: nothing is done.
    pub kinds: Vec<Nemesis>,
    /// How long a fault lasts, and the pause before it, on average.
    pub interval: Duration,
}

/// Does it until the run is over, then heals everything.
pub async fn torment(
    local: &Mutex<Local>,
    plan: &Plan,
    mut random: StdRng,
    recorder: &Recorder,
    context: &Context,
) -> Result<Vec<String>, LocalError> {
    let mut notes = Vec::new();
    while !context.is_over() && !plan.kinds.is_empty() {
        sleep(plan.interval.mul_f64(random.random_range(0.5..1.5)), context).await;
        if context.is_over() {
            break;
        }
        let kind = plan.kinds[random.random_range(0..plan.kinds.len())];
        let mut fault = begin(&mut *local.lock().await, kind, &mut random)?;
        let number = recorder.fault_begins(fault.label.clone());
        sleep(plan.interval.mul_f64(random.random_range(0.5..1.5)), context).await;
        notes.extend(end(&mut *local.lock().await, &mut fault)?);
        recorder.fault_ends(number);
    }
    let ended = local.lock().await.heal()?;
    notes.extend(ended.iter().map(|name| format!("{name} had ended by itself")));
    Ok(notes)
}

async fn sleep(time: Duration, context: &Context) {
    let mut left = time;
    while !context.is_over() && !left.is_zero() {
        let tick = left.min(TICK);
        tokio::time::sleep(tick).await;
        left -= tick;
    }
}

/// A fault under way.
struct Fault {
    label: String,
    /// A file that was damaged, and its bytes before.
    backup: Option<(usize, PathBuf, Vec<u8>)>,
}

fn begin(local: &mut Local, kind: Nemesis, random: &mut StdRng) -> Result<Fault, LocalError> {
    let members = local.size();
    let first = random.random_range(0..members);
    // Mostly one, sometimes most, now and then all.
    let count = match random.random_range(0..10) {
        0..6 => 1,
        6..8 => members / 2 + 1,
        _ => members,
    };
    let targets: Vec<usize> = (0..count).map(|offset| (first + offset) % members).collect();
    let mut label = format!("{kind:?}").to_lowercase();
    let mut backup = None;
    match kind {
        Nemesis::Kill => targets.iter().for_each(|at| local.kill(*at)),
        Nemesis::Pause => targets.iter().for_each(|at| local.pause(*at, true)),
        Nemesis::Partition => label = partition(local, first, random)?,
        Nemesis::Corrupt => {
            local.kill(first);
            backup = corrupt(local.data(first), random).map(|(path, bytes)| (first, path, bytes));
            local.restart(first)?;
        }
    }
    if kind == Nemesis::Corrupt {
        write!(label, " {}", local.name(first)).expect("a string takes everything");
    } else if kind != Nemesis::Partition {
        targets
            .iter()
            .for_each(|at| write!(label, " {}", local.name(*at)).expect("a string takes everything"));
    }
    Ok(Fault { label, backup })
}

/// Cuts links around a member.
fn partition(local: &Local, first: usize, random: &mut StdRng) -> Result<String, LocalError> {
    let Some(network) = &local.network else { return Ok("nothing: no links that can be cut".to_owned()) };
    let members = local.size();
    let others = (0..members).filter(|other| *other != first);
    let cut = |from, to| network.cut(from, to).map_err(LocalError::Network);
    let name = local.name(first);
    Ok(match random.random_range(0..4) {
        0 | 1 => {
            for other in others {
                cut(first, other)?;
                cut(other, first)?;
            }
            format!("partition: {name} alone")
        }
        2 => {
            others.into_iter().try_for_each(|other| cut(first, other))?;
            format!("partition: nobody hears {name}")
        }
        _ => {
            let next = (first + 1) % members;
            cut(first, next)?;
            cut(next, first)?;
            format!("partition: {name} | {}", local.name(next))
        }
    })
}

/// Changes one byte of the largest file below a folder; gives the file and its bytes before.
fn corrupt(folder: &Path, random: &mut StdRng) -> Option<(PathBuf, Vec<u8>)> {
    let mut folders = vec![folder.to_path_buf()];
    let mut largest: Option<(u64, PathBuf)> = None;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).ok()?.flatten() {
            let (path, metadata) = (entry.path(), entry.metadata().ok()?);
            if metadata.is_dir() {
                folders.push(path);
            } else if largest.as_ref().is_none_or(|(size, _)| *size < metadata.len()) {
                largest = Some((metadata.len(), path));
            }
        }
    }
    let (_, path) = largest?;
    let mut bytes = Vec::new();
    File::open(&path).ok()?.read_to_end(&mut bytes).ok()?;
    // Files are longer than what has been written to them: take a byte that says something.
    let written = bytes.iter().rposition(|byte| *byte != 0)?;
    let at = random.random_range(0..=written);
    let mut file = File::options().write(true).open(&path).ok()?;
    file.seek(SeekFrom::Start(at as u64)).ok()?;
    file.write_all(&[bytes[at] ^ (1 << random.random_range(0..8))]).ok()?;
    Some((path, bytes))
}

fn end(local: &mut Local, fault: &mut Fault) -> Result<Vec<String>, LocalError> {
    let mut notes = Vec::new();
    if let Some((at, path, bytes)) = fault.backup.take() {
        if local.is_running(at) {
            notes.push(format!("{} ran on with a damaged {}", local.name(at), path.display()));
        } else {
            notes.push(format!("{} refused to run with a damaged {}", local.name(at), path.display()));
            let restored = std::fs::write(&path, bytes);
            restored
                .map_err(|source| LocalError::Io { what: format!("restoring {}", path.display()), source })?;
        }
    }
    let damaged = !notes.is_empty();
    let ended = local.heal()?;
    if !damaged {
        notes.extend(ended.iter().map(|name| format!("{name} had ended by itself during {}", fault.label)));
    }
    Ok(notes)
}

const TICK: Duration = Duration::from_millis(50);

/// A cluster that tasks share.
pub type Shared = Arc<Mutex<Local>>;
