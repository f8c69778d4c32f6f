//! The schedule of faults that a seed draws.

use std::collections::VecDeque;

use quorate_raft::NodeId;

use super::Step;
use super::fault::{DiskFailure, Fault, Target};
use crate::env::clock::TRUE_RATE;
use crate::env::network::{Letter, LinkSet, Meddling, Quality};
use crate::fault_budget::NodeSet;
use crate::options::Options;
use crate::random::Random;
use crate::time::Time;

/// Draws the whole schedule.
pub fn draw(options: &Options, random: &mut Random) -> VecDeque<Step> {
    let mut plan = Vec::new();
    let mut at = Time::ZERO + options.election_timeout * 3;
    let end = Time::ZERO + options.storm;
    while at < end {
        let Some(kind) = random.weighted(&options.faults.weights) else { break };
        let lasts = random.exponential_duration(options.faults.duration);
        let first = Step { at, lasts, fault: Fault::PowerLoss };
        match crate::options::FAULTS[kind] {
            "flap" => flap(first, options, random, &mut plan),
            "rolling-restart" => rolling_restart(first, options, &mut plan),
            "clock-drift" => clock_drift(first, options, random, &mut plan),
            "membership" if random.chance(options.faults.rash_changes) => {
                change_of_a_lost_leader(first, options, random, &mut plan);
            }
            kind => plan.push(Step { fault: draw_fault(kind, options, random), ..first }),
        }
        at += random.exponential_duration(options.faults.interval);
    }
    plan.sort_by_key(|step| step.at);
    plan.into()
}

/// Everything that strikes at once, and how.
fn draw_fault(kind: &str, options: &Options, random: &mut Random) -> Fault {
    let mut members = options.member_ids();
    random.shuffle(&mut members);
    let one = members[0];
    let target = if random.chance(500_000) { Target::Leader(one) } else { Target::Node(one) };
    let minority = ((members.len() - 1) / 2).max(1).min(members.len());
    let (few, many) = members.split_at(random.between(1, minority as u64) as usize);
    let impaired = NodeSet::of(few);
    let (there, back) = (LinkSet::between(few, many), LinkSet::between(many, few));
    if let Some(failure) = DiskFailure::ALL.into_iter().find(|failure| failure.name() == kind) {
        return Fault::Disk { target, failure };
    }
    match kind {
        "partition" => Fault::Cut { links: there.and(back), impaired },
        "one-way" => Fault::Cut { links: if random.chance(500_000) { there } else { back }, impaired },
        "bridge" => Fault::Cut { links: bridge(&members), impaired: NodeSet::default() },
        "isolate" => {
            let (inbound, outbound) =
                random.pick(&[(true, true), (true, true), (true, false), (false, true)]);
            Fault::Isolate { target, inbound, outbound, clients: random.chance(300_000) }
        }
        "clog" => Fault::Clog { links: if random.chance(500_000) { there } else { back } },
        "lossy" => Fault::Lossy(Quality {
            loss: random.below(300_000) as u32,
            duplication: random.below(300_000) as u32,
            reordering: random.below(500_000) as u32,
            ..options.network
        }),
        "letters" => {
            let links = random.pick(&[
                there,
                back,
                LinkSet::from(one),
                LinkSet::to(one),
                LinkSet::between(&members, &members),
            ]);
            // Several election timeouts at most: they are to find a cluster that remembers them.
            let late = options.election_timeout * random.pick(&[1, 1, 4]);
            let late = random.chance(800_000).then(|| random.exponential_duration(late));
            Fault::Meddle(Meddling { links, letter: Letter::any_of(random), late })
        }
        "disconnect" => Fault::Disconnect(target),
        "crash" => Fault::Crash(target),
        "power-loss" => Fault::PowerLoss,
        "transfer" => Fault::Transfer(random.chance(500_000).then_some(one)),
        "membership" => match random.below(9) {
            0..3 => Fault::Add { learner: random.chance(700_000) },
            3..5 => Fault::Promote,
            5 => Fault::Demote(target),
            6..8 => Fault::Remove(target),
            _ => Fault::Impostor(target),
        },
        "lost-disk" => Fault::LostDisk(target),
        "pause" => Fault::Pause { target, frozen_clock: random.chance(300_000) },
        "slow-cpu" => {
            Fault::SlowCpu { target, by: options.election_timeout / random.pick(&[100, 30, 10, 3]) }
        }
        "clock-rate" => Fault::ClockRate {
            target,
            rate: random.pick(&[0, TRUE_RATE / 2, TRUE_RATE / 10 * 9, TRUE_RATE * 2]),
        },
        "clock-jump" => {
            Fault::ClockJump { target, by: random.exponential_duration(options.election_timeout * 3) }
        }
        "slow-disk" => Fault::SlowDisk { target, factor: random.pick(&[10, 100, 1_000]) },
        other => unreachable!("{other} is not in the list of faults"),
    }
}

/// Two halves that do not hear each other, and one member that hears both.
fn bridge(members: &[NodeId]) -> LinkSet {
    let (left, right) = members[1..].split_at((members.len() - 1) / 2);
    LinkSet::between(left, right).and(LinkSet::between(right, left))
}

/// One cut that comes and goes: as long away as there.
fn flap(first: Step, options: &Options, random: &mut Random, plan: &mut Vec<Step>) {
    let kind = random.pick(&["partition", "one-way", "bridge"]);
    let fault = draw_fault(kind, options, random);
    let period = options.election_timeout / random.pick(&[1, 2, 4, 8]);
    for turn in 0..FLAPS_MAX {
        let at = first.at + period * turn;
        if at > first.at + first.lasts {
            break;
        }
        plan.push(Step { at, lasts: period / 2, fault });
    }
}

/// A leader is cut off, and asked to change the members before it notices: what it puts into its log, nobody else has, and its
/// successor takes it out again.
fn change_of_a_lost_leader(first: Step, options: &Options, random: &mut Random, plan: &mut Vec<Step>) {
    let target = Target::Leader(random.pick(&options.member_ids()));
    let cut_off = Fault::Isolate { target, inbound: true, outbound: true, clients: false };
    plan.push(Step { lasts: first.lasts + options.election_timeout * 3, fault: cut_off, ..first });
    let at = first.at + random.exponential_duration(options.election_timeout / 10);
    plan.push(Step { at, fault: draw_fault("membership", options, random), ..first });
}

/// Every member is restarted, one after the other, as an upgrade does it.
fn rolling_restart(first: Step, options: &Options, plan: &mut Vec<Step>) {
    let lasts = first.lasts.min(options.election_timeout * 2);
    let mut at = first.at;
    for id in options.member_ids() {
        plan.push(Step { at, lasts, fault: Fault::Crash(Target::Node(id)) });
        // Until the last one has caught up, or so.
        at = at + lasts + options.election_timeout / 2;
    }
}

/// One clock that is fast, then slow, then fast, in steps.
fn clock_drift(first: Step, options: &Options, random: &mut Random, plan: &mut Vec<Step>) {
    let member = random.pick(&options.member_ids());
    let amplitude = random.pick(&[1_000, 100_000, TRUE_RATE / 2]);
    let lasts = first.lasts / DRIFT_STEPS.len() as u32;
    for (number, quarters) in DRIFT_STEPS.into_iter().enumerate() {
        let rate = (TRUE_RATE * 4 + amplitude * quarters - amplitude * 4) / 4;
        let fault = Fault::ClockRate { target: Target::Node(member), rate };
        plan.push(Step { at: first.at + lasts * number as u32, lasts, fault });
    }
}

/// A wave, in quarters of its amplitude above the lowest point.
const DRIFT_STEPS: [u64; 8] = [4, 7, 8, 7, 4, 1, 0, 1];

/// The most times that one drawn fault comes and goes.
const FLAPS_MAX: u32 = 40;
