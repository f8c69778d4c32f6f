//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use crate::local::Program;
use crate::nemesis::Nemesis;
use crate::sandbox;
use crate::workload::Workload;

/// Puts a cluster under load and faults, and judges what its clients saw.
#[derive(clap::Parser)]
#[command(name = "quorate-jepsen-run", bin_name = "quorate-jepsen run", version, after_help = EXIT_CODES)]
pub struct Options {
    /// Clusters that run already: where clients are served, `host:port`, separated by commas. Nobody else may write.
    #[arg(long, value_delimiter = ',', required_unless_present = "local", conflicts_with = "local")]
    pub endpoints: Vec<String>,
    /// Start a cluster of this program on this machine.
    #[arg(long, value_enum)]
    pub local: Option<Program>,
    /// Members of the local cluster.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    pub members: u8,
    /// The program's file, if it is neither beside this one nor in the path.
    #[arg(long, value_name = "FILE")]
    pub binary: Option<PathBuf>,
    /// What clients do.
    #[arg(long, value_enum, default_value = "kv")]
    pub workload: Workload,
    /// What is done to the local cluster meanwhile, separated by commas: one at a time, now and then two.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub nemesis: Vec<Nemesis>,
    /// How long a fault lasts, and the pause before it, in seconds, on average.
    #[arg(long, value_name = "SECONDS", default_value_t = 4.0, value_parser = positive)]
    pub interval: f64,
    /// How long clients work, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0, value_parser = positive)]
    pub time: f64,
    /// How many clients.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub clients: u16,
    /// How many steps all clients make in a second, at most.
    #[arg(long, value_name = "STEPS", default_value_t = 200.0, value_parser = positive)]
    pub rate: f64,
    /// How many keys there are.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    pub keys: u64,
    /// How long values of the workloads kv, watch and txn are at least, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub value_size: usize,
    /// When a request is given up: its outcome is unknown then. In seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, value_parser = positive)]
    pub timeout: f64,
    /// Registers are read with `serializable`: not linearizable, and etcd does not say so.
    #[arg(long)]
    pub serializable: bool,
    /// The resource of the workload lock demands the lock's token.
    #[arg(long)]
    pub fenced: bool,
    /// The time to live of leases, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(i64).range(1..=3600))]
    pub ttl: i64,
    /// Judge while it runs, every so many seconds, and forget what is judged. Registers are judged by the order of
    /// revisions only.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "5", value_parser = positive)]
    pub verify_live: Option<f64>,
    /// What random choices are drawn from; drawn itself if not given.
    #[arg(long)]
    pub seed: Option<u64>,
    /// The folder for what is left of the run; below `results` if not given.
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
}

const EXIT_CODES: &str =
    "Exit codes: 0 all checks are valid, 1 one is invalid, 2 one is unknown, 3 the run could not be made.";

impl Options {
    /// What does not go together; clap sees only one option at a time.
    pub fn check(&self) -> Result<(), String> {
        // (clap forgets that an option requires `--local` as soon as `--endpoints` excludes that.)
        if self.local.is_none() && (!self.nemesis.is_empty() || self.binary.is_some()) {
            return Err(
                "--nemesis and --binary are about a cluster that is started here: use --local".to_owned()
            );
        }
        if self.serializable && self.workload != Workload::Register {
            return Err("--serializable is about the workload register".to_owned());
        }
        if self.fenced && self.workload != Workload::Lock {
            return Err("--fenced is about the workload lock".to_owned());
        }
        Ok(())
    }

    /// Goes on in namespaces of its own if a fault needs them.
    pub fn enter_sandbox(&self) -> Result<(), String> {
        if self.nemesis.iter().any(|nemesis| nemesis.needs_sandbox()) { sandbox::enter() } else { Ok(()) }
    }

    /// When a request is given up.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs_f64(self.timeout)
    }

    /// How long a client waits between two steps.
    pub fn pause(&self) -> Duration {
        Duration::from_secs_f64(f64::from(self.clients) / self.rate)
    }
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number <= 1e7 => Ok(number),
        _ => Err("expected a number above 0 and up to 10000000".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::Options;

    #[test]
    fn what_does_not_go_together_is_refused() {
        let parse = |arguments: &str| Options::try_parse_from(arguments.split(' '));
        for wrong in [
            "run",
            "run --local etcd --endpoints a:1",
            "run --local etcd --time 0",
            "run --local etcd --members 0",
            "run --local etcd --workload nothing",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        for wrong in [
            "run --endpoints a:1 --nemesis kill",
            "run --endpoints a:1 --binary etcd",
            "run --local etcd --serializable",
            "run --local etcd --fenced --workload kv",
        ] {
            let options = parse(wrong).unwrap_or_else(|error| panic!("{error}"));
            assert!(options.check().is_err(), "{wrong}");
        }
        for fine in ["run --local etcd --workload lock --verify-live", "run --endpoints a:1 --verify-live 2"]
        {
            let options = parse(fine).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(options.check(), Ok(()), "{fine}");
        }
        let fine = parse("run --local quorate --workload lock --fenced --nemesis kill,pause")
            .map(|options| options.check());
        assert_eq!(fine.ok(), Some(Ok(())));
    }
}
