//! What to measure: the flags of `quoratectl bench` and the checks that make a plan of them.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::compare::CompareOptions;
use crate::failure::Failure;

/// The workloads, and the comparison of two servers by them.
#[derive(Clone, Debug, Subcommand)]
pub enum BenchCommand {
    /// Put values.
    Put(LoadOptions),
    /// Get single keys; they are put beforehand.
    Get(LoadOptions),
    /// Get ranges of consecutive keys (`--range-keys`); they are put beforehand.
    Range(LoadOptions),
    /// Compare-and-swap: put a key if its revision is still the one last seen, else get it.
    Txn(LoadOptions),
    /// Put values that watchers wait for, and measure the way from the put to the event.
    Watch(LoadOptions),
    /// Grant leases, or keep them alive (`--lease-operation`).
    Lease(LoadOptions),
    /// Gets and puts mixed (`--read-percent`).
    Mixed(LoadOptions),
    /// Run the same workloads against two servers in turn and print one table.
    Compare(CompareOptions),
}

/// The kinds of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    Put,
    Get,
    Range,
    Txn,
    Watch,
    LeaseGrant,
    LeaseKeepAlive,
    Mixed,
}

impl Workload {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Workload::Put => "put",
            Workload::Get => "get",
            Workload::Range => "range",
            Workload::Txn => "txn",
            Workload::Watch => "watch",
            Workload::LeaseGrant => "lease grant",
            Workload::LeaseKeepAlive => "lease keep-alive",
            Workload::Mixed => "mixed",
        }
    }

    /// It reads keys, which must be there.
    pub fn needs_keys(self) -> bool {
        matches!(self, Workload::Get | Workload::Range | Workload::Txn | Workload::Mixed)
    }
}

/// How reads are confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Consistency {
    /// Linearizable: confirmed by a quorum.
    #[value(name = "l")]
    Linearizable,
    /// Serializable: answered by the member that is asked.
    #[value(name = "s")]
    Serializable,
}

/// The half of leases to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LeaseOperation {
    /// Grant leases of ten minutes.
    Grant,
    /// Renew one lease per request in flight.
    KeepAlive,
}

/// The flags of every workload.
#[derive(Args, Clone, Debug)]
pub struct LoadOptions {
    /// Requests in flight over all connections; with --rate, the most that may be.
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub in_flight: u32,

    /// Connections, spread over all endpoints [default: one per endpoint]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub connections: Option<u32>,

    /// Threads of the load generator.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub threads: u32,

    /// Open loop: start this many requests per second, whether or not earlier ones have been answered. Latency counts
    /// from the moment a request was due.
    #[arg(long, value_name = "PER_SECOND", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub rate: Option<u64>,

    /// How long to measure, such as 500ms, 10s or 2m [default: 10s, unless --total is given]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, conflicts_with = "total")]
    pub duration: Option<Duration>,

    /// Measure this many requests instead of a time.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub total: Option<u64>,

    /// Load before the measurement, so that connections and caches are warm.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "0s")]
    pub warm_up: Duration,

    /// Bytes per key, the prefix included.
    #[arg(long, default_value_t = 24, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub key_size: u32,

    /// What all keys begin with.
    #[arg(long, default_value = "bench/", value_name = "TEXT")]
    pub prefix: String,

    /// Bytes per value.
    #[arg(long, default_value_t = 256, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(0..=1 << 30))]
    pub value_size: u32,

    /// Different keys [default: 10000; watch: one per watcher]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub keys: Option<u64>,

    /// Take the keys in order instead of at random.
    #[arg(long)]
    pub sequential: bool,

    /// The keys exist already: do not put them first.
    #[arg(long)]
    pub no_preload: bool,

    /// Reads: linearizable (l) or serializable (s).
    #[arg(long, value_enum, default_value = "l", value_name = "l|s")]
    pub consistency: Consistency,

    /// range: keys per range.
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub range_keys: u64,

    /// mixed: how many of a hundred requests are gets.
    #[arg(long, default_value_t = 90, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(0..=100))]
    pub read_percent: u32,

    /// watch: watchers, spread over the keys.
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub watchers: u32,

    /// lease: what to measure.
    #[arg(long, value_enum, default_value = "keep-alive", value_name = "OPERATION")]
    pub lease_operation: LeaseOperation,

    /// Process ids of the servers, if they run on this machine: their CPU time and memory become part of the report.
    #[arg(long, value_delimiter = ',', value_name = "PID,...")]
    pub server_pids: Vec<u32>,

    /// Print the result as one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// When the measurement ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    Duration(Duration),
    Total(u64),
}

/// Checked options: what the workers carry out.
#[derive(Clone, Debug)]
pub struct Plan {
    pub workload: Workload,
    pub endpoints: Vec<Endpoint>,
    pub connections: u32,
    pub threads: u32,
    pub in_flight: u32,
    pub rate: Option<u64>,
    pub extent: Extent,
    pub warm_up: Duration,
    pub prefix: String,
    pub key_size: usize,
    pub value_size: usize,
    pub keys: u64,
    pub sequential: bool,
    pub serializable: bool,
    pub range_keys: u64,
    pub read_percent: u32,
    pub watchers: u32,
}

/// A server's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `host:port`, for connecting and as HTTP/2's authority.
    pub authority: String,
}

impl Plan {
    /// Checks what clap cannot: that the options fit together.
    pub fn new(workload: Workload, endpoints: &[String], options: &LoadOptions) -> Result<Self, Failure> {
        let endpoints = endpoints.iter().map(|text| Endpoint::parse(text)).collect::<Result<Vec<_>, _>>()?;
        if endpoints.is_empty() {
            return Err(Failure::arguments("no endpoint given; name one with --endpoints"));
        }
        let keys_default = if workload == Workload::Watch { u64::from(options.watchers) } else { 10_000 };
        let keys = options.keys.unwrap_or(keys_default);
        let digits_needed = (keys - 1).to_string().len();
        let key_size = options.key_size as usize;
        if key_size < options.prefix.len() + digits_needed {
            return Err(Failure::arguments(format!(
                "--key-size {key_size} has no room for the prefix {:?} and {digits_needed} digits of --keys {keys}",
                options.prefix
            )));
        }
        if workload == Workload::Watch && options.value_size < 8 {
            return Err(Failure::arguments(
                "watch needs --value-size 8 or more: values carry the time of their put",
            ));
        }
        if workload == Workload::Range && options.range_keys > keys {
            return Err(Failure::arguments(format!(
                "--range-keys {} is more than --keys {keys}",
                options.range_keys
            )));
        }
        if options.total.is_some() && !options.warm_up.is_zero() {
            return Err(Failure::arguments("--warm-up goes with --duration, not with --total"));
        }
        let connections = options.connections.unwrap_or(endpoints.len() as u32);
        let threads = options.threads;
        if connections < threads {
            return Err(Failure::arguments(format!("--threads {threads} needs as many --connections")));
        }
        if options.in_flight < threads {
            return Err(Failure::arguments(format!("--threads {threads} needs as many --in-flight")));
        }
        let extent = match options.total {
            Some(total) => Extent::Total(total),
            None => Extent::Duration(options.duration.unwrap_or(Duration::from_secs(10))),
        };
        Ok(Self {
            workload,
            endpoints,
            connections,
            threads,
            in_flight: options.in_flight,
            rate: options.rate,
            extent,
            warm_up: options.warm_up,
            prefix: options.prefix.clone(),
            key_size,
            value_size: options.value_size as usize,
            keys,
            sequential: options.sequential,
            serializable: options.consistency == Consistency::Serializable,
            range_keys: options.range_keys,
            read_percent: options.read_percent,
            watchers: options.watchers,
        })
    }
}

impl Endpoint {
    /// Accepts what etcdctl accepts for plain connections: `host:port` and `http://host:port`.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        if text.starts_with("https://") {
            return Err(Failure::arguments(format!("endpoint {text}: bench does not speak TLS")));
        }
        let authority = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        let port = authority.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
        match port.map(str::parse::<u16>) {
            Some(Ok(_)) if !authority.contains('/') => Ok(Self { authority: authority.to_owned() }),
            _ => Err(Failure::arguments(format!("endpoint {text:?} is not of the form host:port"))),
        }
    }
}

/// Reads `250ms`, `10s`, `2m`, or plain seconds.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        "ms" => Duration::from_millis(1),
        "s" | "" => Duration::from_secs(1),
        "m" => Duration::from_secs(60),
        _ => return Err("expected a number and ms, s or m, such as 10s".into()),
    };
    let number =
        number.parse::<u32>().map_err(|_| "expected a number and ms, s or m, such as 10s".to_owned())?;
    unit.checked_mul(number).filter(|time| time.as_secs() <= 86_400).ok_or("more than a day".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("3"), Ok(Duration::from_secs(3)));
        for wrong in ["", "s", "1h", "-1s", "1.5s", "99999999999s", "4000000000m"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn endpoints() {
        for right in ["127.0.0.1:2379", "http://localhost:2379", "http://[::1]:2379/"] {
            assert!(Endpoint::parse(right).is_ok(), "{right}");
        }
        for wrong in
            ["", "localhost", ":2379", "host:port", "http://host:1/path", "https://host:2379", "host:70000"]
        {
            assert!(Endpoint::parse(wrong).is_err(), "{wrong}");
        }
    }
}
