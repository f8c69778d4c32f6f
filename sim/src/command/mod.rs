//! The command line: what both depths share, and the commands of the core depth, one file each.

pub mod mutants;
pub mod recording;
pub mod seed;
pub mod shrink;
pub mod single;
pub mod sweep;

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use clap::Args;

use self::seed::Seed;
use crate::options::{FAULTS, Options, WORKLOADS};

/// Overrides what the seed draws.
#[derive(Args, Clone, Debug, Default)]
pub struct Overrides {
    /// Draw the options of this seed instead; everything else that is drawn is the seed's own.
    #[arg(long, value_name = "SEED")]
    pub like: Option<u64>,
    /// How long faults happen, in simulated seconds.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: Option<u64>,
    /// How many members (1 to 7).
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..8))]
    pub nodes: Option<u64>,
    /// How many clients.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    pub clients: Option<u64>,
    /// How long a client waits between an answer and its next request, in milliseconds.
    #[arg(long)]
    pub think: Option<u64>,
    /// Only these workloads, evenly.
    #[arg(long, value_delimiter = ',', value_parser = clap::builder::PossibleValuesParser::new(WORKLOADS))]
    pub workload: Vec<String>,
    /// Only these faults, evenly.
    #[arg(long, value_delimiter = ',', value_parser = clap::builder::PossibleValuesParser::new(FAULTS))]
    pub only: Vec<String>,
    /// None of these faults.
    #[arg(long, value_delimiter = ',', value_parser = clap::builder::PossibleValuesParser::new(FAULTS))]
    pub without: Vec<String>,
    /// No faults at all: links, disks and clocks are right, too.
    #[arg(long)]
    pub calm: bool,
}

impl Overrides {
    /// The options of a seed.
    #[must_use]
    pub fn options(&self, seed: u64) -> Options {
        let mut options = Options { seed, ..Options::draw(self.like.unwrap_or(seed)) };
        if let Some(seconds) = self.seconds {
            options.storm = std::time::Duration::from_secs(seconds);
        }
        options.members = self.nodes.unwrap_or(options.members);
        options.load.clients = self.clients.unwrap_or(options.load.clients);
        if let Some(think) = self.think {
            options.load.think = std::time::Duration::from_millis(think);
        }
        if !self.workload.is_empty() {
            for (name, weight) in WORKLOADS.iter().zip(&mut options.load.mix) {
                *weight = u32::from(self.workload.iter().any(|wanted| wanted == name));
            }
        }
        if !self.only.is_empty() {
            options.without(None);
            for (name, weight) in FAULTS.iter().zip(&mut options.faults.weights) {
                *weight = u32::from(self.only.iter().any(|wanted| wanted == name));
            }
        }
        for fault in &self.without {
            options.without(Some(fault));
        }
        if self.calm {
            options.make_calm();
        }
        options
    }

    /// Whether what was asked for can be had at all: a run in which nothing of it can happen would only seem to say
    /// something.
    pub fn check(&self) -> Result<(), String> {
        if self.calm && !self.only.is_empty() {
            return Err(
                "--calm is a run without faults, and --only asks for some: give one of them".to_owned()
            );
        }
        let left: Vec<&String> = self.only.iter().filter(|fault| !self.without.contains(fault)).collect();
        if !self.only.is_empty() && left.is_empty() {
            return Err("every fault that --only asks for is ruled out by --without".to_owned());
        }
        let Some(members) = self.nodes else { return Ok(()) };
        let impossible: Vec<&str> =
            left.iter().map(|fault| fault.as_str()).filter(|fault| !is_survivable(fault, members)).collect();
        if !left.is_empty() && impossible.len() == left.len() {
            let (faults, members_too_few) =
                (impossible.join(", "), if members == 1 { "1 member" } else { "2 members" });
            return Err(format!(
                "no cluster of {members_too_few} survives {faults}, so it would never happen: a fault may impair a \
                 minority at most (give --nodes 3 or more, or other faults)"
            ));
        }
        Ok(())
    }

    /// As it was given, so that a failure can say how to run it again.
    #[must_use]
    pub fn arguments(&self) -> String {
        let mut text = String::new();
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                text.push_str(&format!(" --{name} {value}"));
            }
        };
        add("like", self.like.map(|value| value.to_string()));
        add("seconds", self.seconds.map(|value| value.to_string()));
        add("nodes", self.nodes.map(|value| value.to_string()));
        add("clients", self.clients.map(|value| value.to_string()));
        add("think", self.think.map(|value| value.to_string()));
        let list = |values: &[String]| (!values.is_empty()).then(|| values.join(","));
        add("workload", list(&self.workload));
        add("only", list(&self.only));
        add("without", list(&self.without));
        add("calm", self.calm.then(String::new));
        text.trim_end().to_owned()
    }
}

/// Whether a fault can strike a cluster of so many members within the fault budget.
fn is_survivable(fault: &str, members: u64) -> bool {
    // Of two members none may be impaired; a single one may, since it can wait for itself.
    let links = ["lossy", "letters", "clog", "one-way"].contains(&fault);
    let peers = ["partition", "bridge", "flap", "isolate", "transfer", "lost-disk"].contains(&fault);
    let impairs = ["crash", "rolling-restart", "pause", "slow-cpu", "slow-disk", "full-disk", "failed-sync"];
    let damages = ["read-errors", "bit-rot", "misdirected-write"];
    match members {
        1 => !links && !peers,
        2 => !peers && !impairs.contains(&fault) && !damages.contains(&fault),
        _ => true,
    }
}

/// What a run begins with: everything that is needed to run it again.
#[must_use]
pub fn banner(options: &Options) -> String {
    let (version, commit) = (env!("CARGO_PKG_VERSION"), seed::COMMIT);
    format!("seed {} version {version} commit {commit} {options}", Seed(options.seed))
}

/// How fast it went: by the clock on the wall and, where the system tells, by the time that processors were busy,
/// which says more when others use them as well.
#[must_use]
pub fn speed(seeds: u64, simulated: Duration, events: u64, wall: Duration) -> String {
    let rates = |time: Duration| {
        let seconds = time.as_secs_f64().max(1e-9);
        format!(
            "{:.1} seeds/s, {:.0} simulated seconds per second, {:.2} M events/s",
            seeds as f64 / seconds,
            simulated.as_secs_f64() / seconds,
            events as f64 / seconds / 1e6
        )
    };
    let mut text = format!("{seeds} seeds in {:.2}s: {}", wall.as_secs_f64(), rates(wall));
    if let Some(busy) = processor_time().filter(|busy| !busy.is_zero()) {
        let seconds = busy.as_secs_f64();
        text.push_str(&format!("\nper core ({seconds:.2}s of processor time): {}", rates(busy)));
    }
    text
}

/// How long processors have worked for this process and those that it has waited for, since the clock was first
/// started.
pub(crate) fn processor_time() -> Option<Duration> {
    Some(work_done()?.saturating_sub(*BEFORE.get()?))
}

/// The work of `cargo run` and of the compilers that it has waited for, before it became this process.
static BEFORE: OnceLock<Duration> = OnceLock::new();

/// The fields `utime`, `stime`, `cutime` and `cstime` of proc_pid_stat(5), together.
fn work_done() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // Fields are counted after the program's name, which may hold anything and ends with the last parenthesis.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let ticks = ticks()? + ticks()? + ticks()? + ticks()?;
    Some(Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND))
}

/// What Linux shows to programs, whatever it uses itself.
const TICKS_PER_SECOND: u64 = 100;

/// Now, in the real world.
#[expect(clippy::disallowed_methods, reason = "how fast the simulator itself is, nothing simulated can tell")]
#[must_use]
pub fn start_clock() -> Instant {
    BEFORE.get_or_init(|| work_done().unwrap_or_default());
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overrides(nodes: Option<u64>, only: &[&str], without: &[&str]) -> Overrides {
        let list = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Overrides { nodes, only: list(only), without: list(without), ..Overrides::default() }
    }

    #[test]
    fn faults_that_can_never_happen_are_refused() {
        assert_eq!(overrides(None, &["crash"], &[]).check(), Ok(()));
        assert_eq!(overrides(Some(1), &["crash", "partition"], &[]).check(), Ok(()));
        assert_eq!(overrides(Some(2), &["lossy"], &["crash"]).check(), Ok(()));
        let said = |overrides: Overrides| overrides.check().expect_err("impossible");
        assert!(
            said(overrides(Some(1), &["partition"], &[]))
                .contains("no cluster of 1 member survives partition")
        );
        assert!(said(overrides(Some(2), &["crash", "isolate"], &[])).contains("survives crash, isolate"));
        assert!(said(overrides(None, &["crash"], &["crash"])).contains("ruled out"));
        assert!(said(Overrides { calm: true, ..overrides(None, &["crash"], &[]) }).contains("--calm"));
    }
}
