//! What a member is told when it starts: parsed once, checked once, never changed.
//!
//! Flags keep etcd's names, defaults, checks and error texts (etcd 3.6 `server/embed/config.go`); [`flags`]
//! reads them, this module makes a [`Config`] of them.

pub mod flags;
pub mod identity;

use std::path::PathBuf;
use std::time::Duration;

pub use quorate_api::url;
use thiserror::Error;

use flags::{Settings, Source};
use url::{Url, UrlError};

/// A member's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The member's name.
    pub name: String,
    /// Where it keeps its files.
    pub data_dir: PathBuf,
    /// Where it listens for peers.
    pub listen_peer_urls: Vec<Url>,
    /// Where it listens for clients.
    pub listen_client_urls: Vec<Url>,
    /// Where clients reach it.
    pub advertise_client_urls: Vec<Url>,
    /// Where peers reach it.
    pub advertise_peer_urls: Vec<Url>,
    /// All members with their peer URLs, this one included, by name.
    pub initial_cluster: Vec<(String, Vec<Url>)>,
    /// Whether the cluster is new.
    pub cluster_state: ClusterState,
    /// Tells clusters apart that were configured alike.
    pub cluster_token: String,
    /// Whether changes of the membership are refused that would leave too few members.
    pub strict_reconfig_check: bool,
    /// Most learners that may be added at a time.
    pub learners_max: usize,
    /// Whether every learner that is added becomes a voter by itself.
    pub auto_promote: bool,
    /// The higher, the rather this member leads.
    pub leader_priority: u32,
    /// Whether this member goes on alone, without those that were lost.
    pub force_new_cluster: bool,
    /// Between two heartbeats of a leader.
    pub heartbeat_interval: Duration,
    /// Without a leader before an election starts, at least.
    pub election_timeout: Duration,
    /// Whether a member asks around before an election.
    pub pre_vote: bool,
    /// Applied entries between two snapshots.
    pub snapshot_count: u64,
    /// Log entries kept below a snapshot.
    pub catchup_entries: u64,
    /// Bytes of keys and values before the alarm NOSPACE; `None` is no limit.
    pub quota_bytes: Option<u64>,
    /// Most operations in a transaction.
    pub max_txn_ops: usize,
    /// Most bytes in a client's request.
    pub max_request_bytes: usize,
    /// How often a watch that asked for it is told of progress.
    pub progress_interval: Duration,
    /// Bytes of the flight recorder's ring; `None` records nothing.
    pub flight_recorder: Option<usize>,
    /// How to log.
    pub log: LogConfig,
    /// What is worth a line in the log.
    pub warnings: Vec<String>,
}

/// Whether a member starts a cluster or joins one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterState {
    /// All members start together.
    New,
    /// The cluster runs already.
    Existing,
}

/// How to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// The least level that is written.
    pub level: tracing::Level,
    /// JSON lines with etcd's keys, or lines for people.
    pub json: bool,
    /// To standard output instead of standard error.
    pub stdout: bool,
}

/// Why there is no configuration. Texts are etcd's where etcd has the check.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ConfigError {
    #[error("invalid value \"{value}\" for {place}: {reason}")]
    Value { value: String, place: String, reason: String },
    #[error("--advertise-client-urls is required when --listen-client-urls is set explicitly")]
    AdvertiseRequired,
    #[error("expected IP in URL for binding ({0})")]
    CannotBind(Url),
    #[error(
        "--election-timeout[{election}ms] should be at least as 5 times as --heartbeat-interval[{heartbeat}ms]"
    )]
    ElectionTooShort { election: u64, heartbeat: u64 },
    #[error("--election-timeout[{0}ms] is too long, and should be set less than 50000ms")]
    ElectionTooLong(u64),
    #[error("couldn't find local name \"{0}\" in the initial cluster configuration")]
    NotInInitialCluster(String),
    #[error(
        "--initial-cluster has {name}={cluster} but missing from --initial-advertise-peer-urls={advertised} (they must \
         name the same URLs)"
    )]
    AdvertisedDiffer { name: String, cluster: String, advertised: String },
    #[error("duplicate URL {0} in the initial cluster: every member needs peer URLs of its own")]
    DuplicateUrl(Url),
}

impl ConfigError {
    /// etcd's exit code: 2 for a flag that cannot be read, 1 for a configuration that makes no sense.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            ConfigError::Value { .. } => 2,
            _ => 1,
        }
    }
}

impl Config {
    /// Makes a configuration of flags and variables.
    ///
    /// # Errors
    /// The first value that cannot be read, or the first check that fails.
    pub fn new(settings: &Settings) -> Result<Config, ConfigError> {
        let read = Reader(settings);
        let name = settings.value("name").0.to_owned();
        let advertised = read.urls("initial-advertise-peer-urls")?;
        let initial_cluster = if settings.is_set("initial-cluster") {
            read.parse("initial-cluster", initial_cluster)?
        } else {
            vec![(name.clone(), advertised.clone())]
        };
        let data_dir = if settings.is_set("data-dir") {
            PathBuf::from(settings.value("data-dir").0)
        } else {
            PathBuf::from(format!("{name}.etcd"))
        };
        read.parse("logger", |text| if text == "zap" { Ok(()) } else { Err("invalid value") })?;
        let config = Config {
            data_dir,
            listen_peer_urls: read.urls("listen-peer-urls")?,
            listen_client_urls: read.urls("listen-client-urls")?,
            advertise_client_urls: read.urls("advertise-client-urls")?,
            advertise_peer_urls: advertised,
            initial_cluster,
            cluster_state: read.parse("initial-cluster-state", cluster_state)?,
            cluster_token: settings.value("initial-cluster-token").0.to_owned(),
            strict_reconfig_check: read.parse("strict-reconfig-check", boolean)?,
            learners_max: read.positive("max-learners")?,
            auto_promote: read.parse("auto-promote-learners", boolean)?,
            leader_priority: read.number("leader-priority")?,
            force_new_cluster: read.parse("force-new-cluster", boolean)?,
            heartbeat_interval: Duration::from_millis(read.positive("heartbeat-interval")?),
            election_timeout: Duration::from_millis(read.positive("election-timeout")?),
            pre_vote: read.parse("pre-vote", boolean)?,
            snapshot_count: read.positive("snapshot-count")?,
            catchup_entries: read.number("snapshot-catchup-entries")?,
            quota_bytes: read.parse("quota-backend-bytes", quota)?,
            max_txn_ops: read.positive("max-txn-ops")?,
            max_request_bytes: read.parse("max-request-bytes", request_bytes)?,
            progress_interval: read.parse("watch-progress-notify-interval", duration)?,
            flight_recorder: read.parse("flight-recorder", ring_size)?,
            log: LogConfig {
                level: read.parse("log-level", level)?,
                json: read.parse("log-format", log_format)?,
                stdout: read.parse("log-outputs", log_output)?,
            },
            warnings: settings.warnings.clone(),
            name,
        };
        config.check(settings)?;
        Ok(config)
    }

    /// The checks that span several flags, in etcd's order.
    fn check(&self, settings: &Settings) -> Result<(), ConfigError> {
        for url in self.listen_peer_urls.iter().chain(&self.listen_client_urls) {
            if !url.can_bind() {
                return Err(ConfigError::CannotBind(url.clone()));
            }
        }
        if settings.is_set("listen-client-urls") && !settings.is_set("advertise-client-urls") {
            return Err(ConfigError::AdvertiseRequired);
        }
        let heartbeat = self.heartbeat_interval.as_millis() as u64;
        let election = self.election_timeout.as_millis() as u64;
        if election < 5 * heartbeat {
            return Err(ConfigError::ElectionTooShort { election, heartbeat });
        }
        if election > 50_000 {
            return Err(ConfigError::ElectionTooLong(election));
        }
        if !self.initial_cluster.iter().any(|(name, _)| *name == self.name) {
            return Err(ConfigError::NotInInitialCluster(self.name.clone()));
        }
        let mut seen = Vec::new();
        for url in self.initial_cluster.iter().flat_map(|(_, urls)| urls) {
            if seen.contains(&url) {
                return Err(ConfigError::DuplicateUrl(url.clone()));
            }
            seen.push(url);
        }
        Ok(())
    }

    /// Whether it is the same member in the initial cluster as by itself. That matters as long as the data directory
    /// is nobody's: a member may move later, and its flags with it or not.
    ///
    /// # Errors
    /// When the URLs differ.
    pub fn check_newcomer(&self) -> Result<(), ConfigError> {
        let (own, advertised) = (self.peer_urls(), &self.advertise_peer_urls);
        let same = own.len() == advertised.len()
            && own.iter().all(|url| advertised.iter().any(|other| url.same_place(other)));
        if same {
            return Ok(());
        }
        Err(ConfigError::AdvertisedDiffer {
            name: self.name.clone(),
            cluster: url::join(own),
            advertised: url::join(advertised),
        })
    }

    /// This member's peer URLs in the initial cluster.
    #[must_use]
    pub fn peer_urls(&self) -> &[Url] {
        self.initial_cluster.iter().find(|(name, _)| *name == self.name).map_or(&[], |(_, urls)| urls)
    }

    /// The id of the member with these peer URLs.
    #[must_use]
    pub fn id_of(&self, peer_urls: &[Url]) -> u64 {
        identity::member_id(peer_urls, &self.cluster_token)
    }

    /// This member's id.
    #[must_use]
    pub fn member_id(&self) -> u64 {
        self.id_of(self.peer_urls())
    }

    /// The cluster's id.
    #[must_use]
    pub fn cluster_id(&self) -> u64 {
        let members: Vec<u64> = self.initial_cluster.iter().map(|(_, urls)| self.id_of(urls)).collect();
        identity::cluster_id(&members)
    }
}

/// Reads values and says where a bad one was.
struct Reader<'a>(&'a Settings);

impl Reader<'_> {
    fn parse<T, E: ToString>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<T, ConfigError> {
        let (value, source) = self.0.value(name);
        parse(value).map_err(|reason| ConfigError::Value {
            value: value.to_owned(),
            place: match source {
                Some(Source::Environment) => format!("ETCD_{}", name.to_uppercase().replace('-', "_")),
                _ => format!("flag -{name}"),
            },
            reason: reason.to_string(),
        })
    }

    fn urls(&self, name: &str) -> Result<Vec<Url>, ConfigError> {
        self.parse(name, Url::parse_list)
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<T, ConfigError> {
        self.parse(name, |text| text.parse().map_err(|_| "parse error"))
    }

    fn positive<T: std::str::FromStr + PartialEq + Default>(&self, name: &str) -> Result<T, ConfigError> {
        self.parse(name, |text| match text.parse::<T>() {
            Ok(number) if number != T::default() => Ok(number),
            Ok(_) => Err("must be greater than zero"),
            Err(_) => Err("parse error"),
        })
    }
}

/// `a=http://h:1,b=http://h:2`; a name that comes twice has two URLs.
fn initial_cluster(text: &str) -> Result<Vec<(String, Vec<Url>)>, String> {
    let mut members: Vec<(String, Vec<Url>)> = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (name, url) = part
            .split_once('=')
            .ok_or_else(|| format!("\"{part}\" is not of the form name=http://host:port"))?;
        let url = Url::parse(url).map_err(|error: UrlError| error.to_string())?;
        match members.iter_mut().find(|(other, _)| other == name) {
            Some((_, urls)) => urls.push(url),
            None => members.push((name.to_owned(), vec![url])),
        }
    }
    Ok(members)
}

fn cluster_state(text: &str) -> Result<ClusterState, &'static str> {
    match text {
        "new" => Ok(ClusterState::New),
        "existing" => Ok(ClusterState::Existing),
        _ => Err("invalid value"),
    }
}

/// `off`, or a number of bytes with or without a unit.
fn ring_size(text: &str) -> Result<Option<usize>, &'static str> {
    const UNITS: [(&str, usize); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
    const EXPECTED: &str = "expected off, or a size of at least 1MiB such as 64MiB";
    if text == "off" {
        return Ok(None);
    }
    let unit = UNITS.iter().find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, *bytes)));
    let (number, unit) = unit.unwrap_or((text, 1));
    let bytes = number.trim().parse::<usize>().ok().and_then(|number| number.checked_mul(unit));
    bytes.filter(|bytes| *bytes >= 1 << 20).map(Some).ok_or(EXPECTED)
}

/// Go's `strconv.ParseBool`.
fn boolean(text: &str) -> Result<bool, &'static str> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("parse error"),
    }
}

fn quota(text: &str) -> Result<Option<u64>, &'static str> {
    match text.parse::<i64>() {
        Ok(0) => Ok(Some(2 << 30)),
        Ok(bytes) => Ok(u64::try_from(bytes).ok()),
        Err(_) => Err("parse error"),
    }
}

/// A request becomes one entry of the log, which has a limit of its own.
fn request_bytes(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be greater than zero".to_owned()),
        Ok(bytes) if bytes <= REQUEST_BYTES_MAX => Ok(bytes),
        Ok(_) => Err(format!("must be at most {REQUEST_BYTES_MAX}")),
        Err(_) => Err("parse error".to_owned()),
    }
}

const REQUEST_BYTES_MAX: usize = 32 << 20;

// An entry is a little longer than the request that it was.
const _: () = assert!(REQUEST_BYTES_MAX <= quorate_node::limits::RECORD_BODY_BYTES_MAX / 2);

fn level(text: &str) -> Result<tracing::Level, &'static str> {
    match text {
        "debug" => Ok(tracing::Level::DEBUG),
        "info" => Ok(tracing::Level::INFO),
        "warn" => Ok(tracing::Level::WARN),
        // What zap calls panic and fatal are errors after which the process ends.
        "error" | "panic" | "fatal" => Ok(tracing::Level::ERROR),
        _ => Err("must be debug, info, warn, error, panic or fatal"),
    }
}

fn log_format(text: &str) -> Result<bool, &'static str> {
    match text {
        "json" => Ok(true),
        "console" => Ok(false),
        _ => Err("must be json or console"),
    }
}

fn log_output(text: &str) -> Result<bool, &'static str> {
    match text {
        "default" | "stderr" => Ok(false),
        "stdout" => Ok(true),
        _ => Err("must be default, stderr or stdout"),
    }
}

/// Go's durations, as far as whole numbers go: `10m`, `1h30m`, `500ms`.
fn duration(text: &str) -> Result<Duration, &'static str> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: u64 = rest[..digits].parse().map_err(|_| "parse error")?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            _ => return Err("parse error"),
        };
        let number = u32::try_from(number).map_err(|_| "parse error")?;
        total = unit.checked_mul(number).and_then(|part| total.checked_add(part)).ok_or("parse error")?;
        rest = &rest[letters..];
    }
    if total < Duration::from_millis(100) {
        return Err("must be at least 100ms");
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::flags::{CommandLine, read};
    use super::*;

    fn config(arguments: &[&str]) -> Result<Config, ConfigError> {
        let arguments = arguments.iter().map(|text| (*text).to_owned());
        match read(arguments, []).expect("readable flags") {
            CommandLine::Start(settings) => Config::new(&settings),
            other => panic!("not a start: {other:?}"),
        }
    }

    #[test]
    fn without_flags_it_is_the_etcd_that_everybody_knows() {
        let config = config(&[]).unwrap();
        assert_eq!(config.data_dir, PathBuf::from("default.etcd"));
        assert_eq!(config.cluster_id(), 0xcdf8_1819_4e3a_8c32);
        assert_eq!(config.quota_bytes, Some(2 << 30));
        assert_eq!(config.progress_interval, Duration::from_secs(600));
    }

    #[test]
    fn bad_values_are_refused_with_the_texts_of_etcd() {
        let text = |arguments: &[&str]| config(arguments).unwrap_err().to_string();
        assert_eq!(
            text(&["--listen-client-urls=foo"]),
            "invalid value \"foo\" for flag -listen-client-urls: URL scheme must be http, https, unix, or unixs: foo"
        );
        assert_eq!(
            text(&["--listen-client-urls=http://127.0.0.1:1"]),
            "--advertise-client-urls is required when --listen-client-urls is set explicitly"
        );
        assert_eq!(
            text(&["--election-timeout=200"]),
            "--election-timeout[200ms] should be at least as 5 times as --heartbeat-interval[100ms]"
        );
        assert_eq!(
            text(&["--initial-cluster=a=http://localhost:2380"]),
            "couldn't find local name \"default\" in the initial cluster configuration"
        );
        let moved = config(&["--initial-cluster=default=http://127.0.0.1:9"]).unwrap();
        let refusal = moved.check_newcomer().unwrap_err().to_string();
        assert!(refusal.starts_with("--initial-cluster has default="), "{refusal}");
        assert!(text(&["--initial-cluster=abc"]).contains("name=http://host:port"));
        assert!(text(&["--snapshot-count=0"]).contains("greater than zero"));
        assert!(text(&["--max-request-bytes=99999999"]).contains("at most 33554432"));
    }

    #[test]
    fn three_members_have_three_ids_and_one_cluster() {
        let cluster = "a=http://127.0.0.1:1,b=http://127.0.0.1:2,c=http://127.0.0.1:3";
        let member = |name: &str, port: u16| {
            config(&[
                &format!("--name={name}"),
                &format!("--initial-advertise-peer-urls=http://127.0.0.1:{port}"),
                &format!("--initial-cluster={cluster}"),
            ])
            .unwrap()
        };
        let (a, b) = (member("a", 1), member("b", 2));
        assert_eq!(a.cluster_id(), b.cluster_id());
        assert_ne!(a.member_id(), b.member_id());
    }

    #[test]
    fn durations_are_those_of_go() {
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert!(duration("5").is_err() && duration("x").is_err() && duration("10ms").is_err());
    }
}
