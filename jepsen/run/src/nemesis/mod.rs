//! What is done to a cluster of our own while clients work: a fault, or two of different kinds at once, for a while, then
//! a pause, all drawn from the seed. At the end everything is healed, and the cluster must recover (see `converge`).
//!
//! * `fault`: what each kind does to whom, and how it ends;
//! * `members`: the cluster that shall be, and the calls that make it so.

mod fault;
mod members;

use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use tokio::sync::Mutex;

use crate::local::{Local, LocalError};
use crate::record::Recorder;
use crate::workload::Context;
use fault::Fault;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Nemesis {
    /// Members are killed (`kill -9`) and started again: one, most, or all at once.
    Kill,
    /// Members are stopped from doing anything and go on later, unaware of the time that has passed.
    Pause,
    /// Links between members are cut: one member alone, one direction only, or a pair. Needs namespaces: root, or users
    /// who may make them.
    Partition,
    /// Clocks of running members go wrong, unmodified programs' too: the time of day jumps, once or to and fro, by up to
    /// hours; or all clocks run at half to twice the rate. Leases may end after half of their time then, and that is
    /// allowed for. Only on x86-64.
    Clock,
    /// Disks are full: nothing more can be written to one member's, most members', or all. Needs namespaces, as
    /// partition.
    Disk,
    /// A member is killed, a byte of its files is changed, and it is started again. It may refuse to start; it must
    /// not serve anything wrong. The byte is put back afterwards.
    Corrupt,
    /// Members change: one is removed and comes back as a new one, without its data, or one more joins and is removed
    /// again, through the API of the cluster. Who joins is a learner first and is promoted.
    Members,
}

/// Which faults, and when.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The kinds to draw from; none: nothing is done.
    pub kinds: Vec<Nemesis>,
    /// How long a fault lasts, and the pause before it, on average.
    pub interval: Duration,
}

impl Plan {
    /// One kind, or now and then two that go together.
    fn draw(&self, random: &mut StdRng) -> Vec<Nemesis> {
        let first = self.kinds[random.random_range(0..self.kinds.len())];
        let others: Vec<Nemesis> = self.kinds.iter().copied().filter(|kind| kind.goes_with(first)).collect();
        if others.is_empty() || random.random_bool(0.6) {
            return vec![first];
        }
        vec![first, others[random.random_range(0..others.len())]]
    }
}

impl Nemesis {
    /// Whether both at once are a fault of their own. (A damaged file that is removed cannot be put back.)
    fn goes_with(self, other: Nemesis) -> bool {
        let both = [self, other];
        self != other && !(both.contains(&Nemesis::Corrupt) && both.contains(&Nemesis::Members))
    }

    /// Whether it takes namespaces of the run's own.
    pub fn needs_sandbox(self) -> bool {
        matches!(self, Nemesis::Partition | Nemesis::Disk)
    }
}

/// Does it until the run is over, then heals everything. Gives what is worth knowing.
pub async fn torment(
    local: &Mutex<Local>,
    plan: &Plan,
    mut random: StdRng,
    recorder: &Recorder,
    context: &Context,
) -> Result<Vec<String>, LocalError> {
    let mut notes = Vec::new();
    let mut seen_kinds = Vec::new();
    while !context.is_over() && !plan.kinds.is_empty() {
        sleep(plan.interval.mul_f64(random.random_range(0.5..1.5)), context).await;
        if context.is_over() {
            break;
        }
        let mut faults = Vec::new();
        for kind in plan.draw(&mut random) {
            if !faults.is_empty() {
                sleep(plan.interval.mul_f64(random.random_range(0.0..0.5)), context).await;
            }
            let since = recorder.now();
            let is_first = !seen_kinds.contains(&kind);
            seen_kinds.push(kind);
            let mut local = local.lock().await;
            let fault = Fault::begin(&mut local, kind, is_first, plan.interval, &mut random).await?;
            drop(local);
            let number = recorder.fault_begins(since, fault.label.clone());
            faults.push((fault, number));
        }
        let until = recorder.elapsed() + plan.interval.mul_f64(random.random_range(0.5..1.5));
        while !context.is_over() && recorder.elapsed() < until {
            sleep(STROBE, context).await;
            for (fault, _) in &mut faults {
                fault.go_on(&mut *local.lock().await, &mut random)?;
            }
        }
        let mut healed = local.lock().await;
        for (fault, _) in &mut faults {
            notes.extend(fault.end(&mut healed)?);
        }
        let ended = healed.heal()?;
        drop(healed);
        let labels: Vec<&str> = faults.iter().map(|(fault, _)| fault.label.as_str()).collect();
        notes.extend(
            ended.iter().map(|name| format!("{name} had ended by itself during {}", labels.join(", "))),
        );
        for (fault, number) in faults.iter().rev() {
            notes.extend(fault.recover(local).await?);
            recorder.fault_ends(*number);
        }
    }
    let ended = local.lock().await.heal()?;
    notes.extend(ended.iter().map(|name| format!("{name} had ended by itself")));
    Ok(notes)
}

/// Makes the cluster consist of those again whom it began with.
pub async fn restore_members(local: &mut Local, patience: Duration) -> Result<(), LocalError> {
    let founders = local.founders();
    members::become_(local, &founders, patience).await
}

async fn sleep(time: Duration, context: &Context) {
    let mut left = time;
    while !context.is_over() && !left.is_zero() {
        let tick = left.min(TICK);
        tokio::time::sleep(tick).await;
        left -= tick;
    }
}

const TICK: Duration = Duration::from_millis(50);
/// How often a clock changes that jumps to and fro.
const STROBE: Duration = Duration::from_millis(100);
