//! One fault: to whom it is done, what, and how it ends.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use tokio::sync::Mutex;

use super::{Nemesis, members};
use crate::local::{Local, LocalError, io_error};
use crate::network::Network;

/// A fault under way.
pub struct Fault {
    /// What is done, and to whom.
    pub label: String,
    rest: Rest,
}

/// What remains to be done while it lasts, or when it ends. Most faults end when everything is healed.
enum Rest {
    Nothing,
    /// The time of day of these members goes to and fro.
    Strobe(Vec<usize>),
    /// A member runs on damaged files, or does not.
    Damaged(usize, Option<Damage>),
    /// The cluster shall consist of these again.
    Members(Vec<usize>),
}

impl Fault {
    /// Does something to somebody; to one alone, in the plainest way, if it is the first of its kind in this run. A
    /// change of members is given up after a while: another fault may be in its way.
    pub async fn begin(
        local: &mut Local,
        kind: Nemesis,
        is_first: bool,
        patience: Duration,
        random: &mut StdRng,
    ) -> Result<Fault, LocalError> {
        let mut targets = targets(local, random);
        if is_first {
            targets.truncate(1);
        }
        let names = |what: &str| {
            let names: Vec<&str> = targets.iter().map(|at| local.name(*at)).collect();
            format!("{what} {}", names.join(" "))
        };
        let fault = |label, rest| Fault { label, rest };
        Ok(match kind {
            Nemesis::Kill => {
                let label = names("kill");
                targets.iter().for_each(|at| local.kill(*at));
                fault(label, Rest::Nothing)
            }
            Nemesis::Pause => {
                let label = names("pause");
                targets.iter().for_each(|at| local.pause(*at, true));
                fault(label, Rest::Nothing)
            }
            Nemesis::Disk => {
                let label = names("disk full:");
                targets.iter().try_for_each(|at| local.fill(*at))?;
                // Programs make room in advance: who runs on may not notice, who starts does.
                let anew = random.random();
                if anew {
                    targets.iter().for_each(|at| local.kill(*at));
                    targets.iter().try_for_each(|at| local.restart(*at))?;
                }
                fault(if anew { format!("{label}, started anew") } else { label }, Rest::Nothing)
            }
            Nemesis::Partition => {
                let way = if is_first { ALONE } else { random.random_range(0..4) };
                fault(partition(local, targets[0], way, random)?, Rest::Nothing)
            }
            Nemesis::Clock => {
                let who = names("clock:");
                let (what, rest) = skew(local, targets, random)?;
                fault(format!("{who} {what}"), rest)
            }
            Nemesis::Corrupt => {
                let at = targets[0];
                local.kill(at);
                let damage = Damage::somewhere(&local.data(at), random);
                local.restart(at)?;
                fault(format!("corrupt {}", local.name(at)), Rest::Damaged(at, damage))
            }
            Nemesis::Members => {
                let before = local.belonging();
                let (label, after) = members::another(local, random);
                let label = match members::become_(local, &after, patience.max(MEMBERS_PATIENCE_MIN)).await {
                    Err(LocalError::Members(..)) => format!("{label}, tried in vain"),
                    done => done.map(|()| label)?,
                };
                fault(label, Rest::Members(before))
            }
        })
    }

    /// What a fault does again and again.
    pub fn go_on(&mut self, local: &mut Local, random: &mut StdRng) -> Result<(), LocalError> {
        if let Rest::Strobe(targets) = &self.rest {
            for at in targets {
                let (by, back) = (Duration::from_millis(random.random_range(0..5_000)), random.random());
                if let Some(clocks) = local.clocks(*at)? {
                    // It may have ended meanwhile.
                    let _ = clocks.jump(by, back);
                }
            }
        }
        Ok(())
    }

    /// Ends what healing does not end. Gives what is worth knowing.
    pub fn end(&mut self, local: &mut Local) -> Result<Vec<String>, LocalError> {
        let Rest::Damaged(at, Some(damage)) = &self.rest else { return Ok(Vec::new()) };
        let ran = local.is_running(*at);
        let name = local.name(*at).to_owned();
        let how = if ran { "ran on with" } else { "did not run with" };
        local.kill(*at);
        damage.undo().map_err(io_error(format!("restoring {}", damage.path.display())))?;
        let file = damage.path.file_name().unwrap_or_default().to_string_lossy();
        Ok(vec![format!("{name} {how} a damaged byte {} of {file}", damage.at)])
    }

    /// After everything is healed: members change back. Gives what is worth knowing.
    pub async fn recover(&self, local: &Mutex<Local>) -> Result<Vec<String>, LocalError> {
        let Rest::Members(before) = &self.rest else { return Ok(Vec::new()) };
        match members::become_(&mut *local.lock().await, before, MEMBERS_PATIENCE).await {
            Err(LocalError::Members(why, _)) => Ok(vec![why]),
            done => done.map(|()| Vec::new()),
        }
    }
}

/// Mostly one, sometimes most, now and then all.
fn targets(local: &Local, random: &mut StdRng) -> Vec<usize> {
    let members = local.belonging();
    let first = random.random_range(0..members.len());
    let count = match random.random_range(0..10) {
        0..6 => 1,
        6..8 => members.len() / 2 + 1,
        _ => members.len(),
    };
    (0..count).map(|offset| members[(first + offset) % members.len()]).collect()
}

/// Cuts links around a member, in one of four ways.
fn partition(local: &Local, first: usize, way: u8, random: &mut StdRng) -> Result<String, LocalError> {
    let members = local.belonging();
    let others: Vec<usize> = members.into_iter().filter(|other| *other != first).collect();
    let cut = |from, to| Network::cut(from, to).map_err(LocalError::Sandbox);
    let name = local.name(first);
    if others.is_empty() {
        return Ok("partition: there is only one member".to_owned());
    }
    Ok(match way {
        ALONE | 1 => {
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
            let next = others[random.random_range(0..others.len())];
            cut(first, next)?;
            cut(next, first)?;
            format!("partition: {name} | {}", local.name(next))
        }
    })
}

/// Makes clocks wrong.
fn skew(local: &mut Local, targets: Vec<usize>, random: &mut StdRng) -> Result<(String, Rest), LocalError> {
    // From milliseconds to hours, each magnitude as likely as the next.
    let by = Duration::from_millis(1 << random.random_range(2..24));
    let back = random.random();
    let thousandths = random.random_range(RATES);
    let kind = random.random_range(0..3);
    for at in &targets {
        let Some(clocks) = local.clocks(*at)? else { continue };
        // It may have ended meanwhile.
        let _ = match kind {
            0 => clocks.jump(by, back),
            1 => clocks.run_at(thousandths),
            _ => Ok(()),
        };
    }
    let direction = if back { "behind" } else { "ahead" };
    Ok(match kind {
        0 => (format!("{by:?} {direction}"), Rest::Nothing),
        1 => (format!("{}.{:03} times as fast", thousandths / 1000, thousandths % 1000), Rest::Nothing),
        _ => ("to and fro".to_owned(), Rest::Strobe(targets)),
    })
}

/// A bit that was changed in a file.
struct Damage {
    path: PathBuf,
    /// Which byte.
    at: u64,
    /// Where the bytes around it begin.
    from: u64,
    /// The bytes around it, as they were and as they are now.
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Damage {
    /// Changes one bit of the largest file below a folder.
    fn somewhere(folder: &Path, random: &mut StdRng) -> Option<Damage> {
        let path = largest(folder)?;
        let bytes = std::fs::read(&path).ok()?;
        // Files are longer than what has been written to them: take a byte that says something.
        let written = bytes.iter().rposition(|byte| *byte != 0)?;
        let at = random.random_range(0..=written);
        let around = at.saturating_sub(AROUND)..(at + AROUND).min(bytes.len());
        let from = around.start;
        let before = bytes[around].to_vec();
        let mut after = before.clone();
        after[at - from] ^= 1 << random.random_range(0..8);
        let damage = Damage { path, at: at as u64, from: from as u64, before, after };
        File::options().write(true).open(&damage.path).ok()?.write_all_at(&damage.after, damage.from).ok()?;
        Some(damage)
    }

    /// Puts the bit back, and nothing else: the member may have written since. If the place holds something else by now,
    /// or is gone, the damage is gone as well.
    fn undo(&self) -> std::io::Result<()> {
        let Ok(file) = File::options().read(true).write(true).open(&self.path) else { return Ok(()) };
        let mut now = vec![0; self.after.len()];
        if file.read_exact_at(&mut now, self.from).is_ok() && now == self.after {
            file.write_all_at(&self.before, self.from)?;
        }
        Ok(())
    }
}

/// The largest file below a folder.
fn largest(folder: &Path) -> Option<PathBuf> {
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
    largest.map(|(_, path)| path)
}

/// The plainest way to cut links: all of one member's.
const ALONE: u8 = 0;
/// How fast clocks run that are wrong, in thousandths of the true rate.
const RATES: std::ops::RangeInclusive<u32> = 500..=2000;
/// How many bytes on each side tell whether damage is still there.
const AROUND: usize = 32;
/// How long a change of members is tried among other faults (etcd wants members to have been up for five seconds), and
/// when there are no other faults.
const MEMBERS_PATIENCE_MIN: Duration = Duration::from_secs(8);
const MEMBERS_PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn damage_is_undone_unless_something_else_was_written_over_it() {
        let folder = std::env::temp_dir().join(format!("quorate-test-damage-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("there is room");
        let path = folder.join("file");
        let mut random = StdRng::seed_from_u64(1);
        let original: Vec<u8> = (1..200).collect();
        std::fs::write(&path, &original).expect("there is room");
        let damage = Damage::somewhere(&folder, &mut random).expect("there is a file");
        let damaged = std::fs::read(&path).expect("it is there");
        assert_eq!(damaged.iter().zip(&original).filter(|(one, other)| one != other).count(), 1);
        damage.undo().expect("it can be written");
        assert_eq!(std::fs::read(&path).expect("it is there"), original);
        let damage = Damage::somewhere(&folder, &mut random).expect("there is a file");
        std::fs::write(&path, [7; 300]).expect("there is room");
        damage.undo().expect("it can be written");
        assert_eq!(std::fs::read(&path).expect("it is there"), [7; 300]);
        std::fs::remove_dir_all(&folder).expect("it was made here");
    }
}
