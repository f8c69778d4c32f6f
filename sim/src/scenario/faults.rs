//! Faults as they are written in scenarios. How they are printed is in `crate::nemesis`.

use quorate_raft::NodeId;

use super::words::{Read, Words};
use crate::env::network::{Letter, LinkSet, Meddling, Quality};
use crate::fault_budget::NodeSet;
use crate::nemesis::{DiskFailure, Fault, Target};
use crate::options::Options;

/// The words that faults begin with.
pub const NAMES: [&str; 27] = [
    "cut",
    "isolate",
    "clog",
    "lossy",
    "disconnect",
    "crash",
    "pause",
    "slow-cpu",
    "clock-rate",
    "clock-jump",
    "slow-disk",
    "full-disk",
    "failed-sync",
    "read-errors",
    "bit-rot",
    "misdirected-write",
    "power-loss",
    "partition",
    "transfer",
    "add-member",
    "promote-learner",
    "demote",
    "remove",
    "impostor",
    "lost-disk",
    "drop",
    "late",
];

/// The name of a fault, if this is one.
pub fn name(word: &str) -> Option<&'static str> {
    NAMES.into_iter().find(|name| *name == word)
}

/// Reads a fault.
pub fn read(words: &mut Words, options: &Options) -> Read<Fault> {
    let word = words.peek().to_owned();
    if name(&word).is_none() {
        return Err(words.wrong(&format!("expected a fault (one of {})", NAMES.join(", "))));
    }
    words.take(&word);
    if let Some(failure) = DiskFailure::ALL.into_iter().find(|failure| failure.name() == word) {
        return Ok(Fault::Disk { target: words.target()?, failure });
    }
    Ok(match word.as_str() {
        "cut" => cut(words)?,
        "partition" => partition(words)?,
        "isolate" => isolate(words)?,
        "clog" => Fault::Clog { links: words.links()? },
        "lossy" => Fault::Lossy(quality(words, options.network)?),
        "drop" => {
            let (links, letter) = (words.links()?, letter(words)?);
            Fault::Meddle(Meddling { links, letter, late: None })
        }
        "late" => {
            let (links, letter) = (words.links()?, letter(words)?);
            Fault::Meddle(Meddling { links, letter, late: Some(words.duration()?) })
        }
        "disconnect" => Fault::Disconnect(words.target()?),
        "crash" => Fault::Crash(words.target()?),
        "power-loss" => Fault::PowerLoss,
        "transfer" => Fault::Transfer(if words.peek().starts_with('n') { Some(words.node()?) } else { None }),
        "add-member" if words.take("learner") => Fault::Add { learner: true },
        "add-member" => {
            words.expect("voter")?;
            Fault::Add { learner: false }
        }
        "promote-learner" => Fault::Promote,
        "demote" => Fault::Demote(words.target()?),
        "remove" => Fault::Remove(words.target()?),
        "impostor" => Fault::Impostor(words.target()?),
        "lost-disk" => Fault::LostDisk(words.target()?),
        "pause" => Fault::Pause { target: words.target()?, frozen_clock: words.take("with-clock") },
        "slow-cpu" => Fault::SlowCpu { target: words.target()?, by: words.duration()? },
        "clock-rate" => Fault::ClockRate { target: words.target()?, rate: words.rate()? },
        "clock-jump" => Fault::ClockJump { target: words.target()?, by: words.duration()? },
        _ => slow_disk(words)?,
    })
}

fn cut(words: &mut Words) -> Read<Fault> {
    let links = words.links()?;
    let impaired = if words.take("impairs") { words.node_set()? } else { NodeSet::default() };
    Ok(Fault::Cut { links, impaired })
}

fn letter(words: &mut Words) -> Read<Letter> {
    let names: Vec<&str> = Letter::names().collect();
    let wanted = format!("a kind of messages (one of {})", names.join(", "));
    let name = words.word(&wanted)?;
    Letter::named(&name).ok_or_else(|| words.back().wrong(&format!("expected {wanted}, found {name:?}")))
}

/// `partition n1,n2 | n3,n4,n5`: both ways; the smaller side is cut off from a majority.
fn partition(words: &mut Words) -> Read<Fault> {
    let one = words.nodes()?;
    words.expect("|")?;
    let other = words.nodes()?;
    if let Some(both) = one.iter().find(|node| other.contains(node)) {
        return Err(words.back().wrong(&format!("n{both} is on both sides of the partition")));
    }
    let links = LinkSet::between(&one, &other).and(LinkSet::between(&other, &one));
    let few: &[NodeId] = if one.len() <= other.len() { &one } else { &other };
    Ok(Fault::Cut { links, impaired: NodeSet::of(few) })
}

fn isolate(words: &mut Words) -> Read<Fault> {
    let target: Target = words.target()?;
    let (mut inbound, mut outbound, mut clients) = (false, false, false);
    loop {
        let side = match words.peek() {
            "in" => &mut inbound,
            "out" => &mut outbound,
            "clients" => &mut clients,
            _ => break,
        };
        *side = true;
        let word = words.peek().to_owned();
        words.take(&word);
    }
    if !(inbound || outbound || clients) {
        return Err(words.wrong("expected what is cut: in, out, clients, or several of them"));
    }
    Ok(Fault::Isolate { target, inbound, outbound, clients })
}

fn quality(words: &mut Words, mut quality: Quality) -> Read<Quality> {
    loop {
        if words.take("loss") {
            quality.loss = words.number("how many of a million")?;
        } else if words.take("duplication") {
            quality.duplication = words.number("how many of a million")?;
        } else if words.take("reordering") {
            quality.reordering = words.number("how many of a million")?;
        } else if words.take("delay") {
            quality.delay = words.duration()?;
        } else if words.take("jitter") {
            quality.jitter = words.duration()?;
        } else {
            return Ok(quality);
        }
    }
}

fn slow_disk(words: &mut Words) -> Read<Fault> {
    let target = words.target()?;
    let factor = words.number("how many times slower")?;
    if factor == 0 {
        return Err(words.back().wrong("a disk cannot be zero times slower"));
    }
    Ok(Fault::SlowDisk { target, factor })
}
