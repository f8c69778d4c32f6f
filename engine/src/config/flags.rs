//! Command-line flags and environment variables, read the way etcd reads them.
//!
//! Flags follow the rules of Go's flag package, because scripts, manifests and unit files written for
//! etcd depend on them: one dash or two, `--name value` or `--name=value`, booleans without a value.
//! Each flag has an environment variable (`--data-dir` is `ETCD_DATA_DIR`); a flag wins over its
//! variable. Error texts are etcd's.

use std::collections::BTreeMap;

use thiserror::Error;

/// A flag: its name, its default, and what it is for.
pub struct Flag {
    /// The name without dashes.
    pub name: &'static str,
    /// The default, as it would be written on the command line.
    pub default: &'static str,
    /// Whether it may stand without a value.
    pub boolean: bool,
    /// The heading it is listed under by `--help`.
    pub group: &'static str,
    /// One sentence.
    pub help: &'static str,
}

const fn flag(group: &'static str, name: &'static str, default: &'static str, help: &'static str) -> Flag {
    Flag { name, default, boolean: false, group, help }
}

const fn switch(group: &'static str, name: &'static str, default: &'static str, help: &'static str) -> Flag {
    Flag { name, default, boolean: true, group, help }
}

/// Every flag this server acts on.
#[rustfmt::skip]
pub const FLAGS: &[Flag] = &[
    flag("Member", "name", "default", "Human-readable name for this member."),
    flag("Member", "data-dir", "${name}.etcd", "Path to the data directory."),
    flag("Member", "listen-peer-urls", "http://localhost:2380", "URLs to listen on for peer traffic, separated by commas."),
    flag("Member", "listen-client-urls", "http://localhost:2379", "URLs to listen on for client traffic (gRPC and HTTP), separated by commas."),
    flag("Member", "heartbeat-interval", "100", "Milliseconds between two heartbeats of a leader."),
    flag("Member", "election-timeout", "1000", "Milliseconds without a leader before an election starts, at least; at most 50000."),
    switch("Member", "pre-vote", "true", "Ask around before starting an election, so that a member that comes back does not disturb a leader."),
    flag("Member", "snapshot-count", "10000", "Applied entries between two snapshots to disk."),
    flag("Member", "snapshot-catchup-entries", "5000", "Log entries kept after a snapshot for members that lag."),
    flag("Member", "quota-backend-bytes", "0", "Bytes of keys and values before the alarm NOSPACE is raised; 0 is 2 GiB, negative is no limit."),
    flag("Member", "max-txn-ops", "128", "Most operations in a transaction."),
    flag("Member", "max-request-bytes", "1572864", "Most bytes in a client's request."),
    flag("Member", "watch-progress-notify-interval", "10m", "How often a watch that asked for it is told of progress."),
    flag("Clustering", "initial-advertise-peer-urls", "http://localhost:2380", "This member's peer URLs, as the others reach them."),
    flag("Clustering", "initial-cluster", "default=http://localhost:2380", "All members as name=URL, separated by commas; used when the data directory is new. A new cluster begins when all of them have met."),
    flag("Clustering", "initial-cluster-state", "new", "'new', or 'existing' when joining a cluster that already runs."),
    flag("Clustering", "initial-cluster-token", "etcd-cluster", "Tells clusters apart that were configured alike."),
    switch("Clustering", "strict-reconfig-check", "true", "Refuse changes of the membership that would leave too few members to go on."),
    flag("Clustering", "max-learners", "1", "Most learners that may be added at a time."),
    switch("Clustering", "auto-promote-learners", "false", "Make every learner that is added a voter as soon as it has caught up. (Not a flag of etcd's.)"),
    flag("Clustering", "leader-priority", "0", "A member that has caught up takes leadership over from one with a lower number. (Not a flag of etcd's.)"),
    switch("Clustering", "force-new-cluster", "false", "Go on alone with the data of this member after a majority was lost for good; all others are removed for ever. Stop them first."),
    flag("Clustering", "advertise-client-urls", "http://localhost:2379", "This member's client URLs, as clients reach them."),
    flag("Debugging", "flight-recorder", "off", "Keep what happens to this member in memory, in a ring of this size (64MiB, 1GiB, …) or of twice the store's, to be written to <data-dir>/recordings on SIGUSR1, on POST /flight-recorder and on a panic. Recordings hold all keys and values. (Not a flag of etcd's.)"),
    flag("Logging", "log-level", "info", "debug, info, warn, error, panic or fatal."),
    flag("Logging", "log-format", "json", "json or console."),
    flag("Logging", "log-outputs", "default", "default, stderr or stdout."),
    flag("Logging", "logger", "zap", "Accepted for etcd's sake; 'zap' is the only value."),
];

/// Names that etcd 3.6 still accepts for flags listed above.
const ALIASES: &[(&str, &str)] = &[
    ("experimental-watch-progress-notify-interval", "watch-progress-notify-interval"),
    ("experimental-snapshot-catchup-entries", "snapshot-catchup-entries"),
    ("experimental-max-learners", "max-learners"),
];

/// Flags of etcd that this server does not act on yet. Ignoring one silently could, say, serve without
/// the TLS that was asked for, so they are refused by name.
const NOT_SUPPORTED: &[&str] = &[
    "auth-token",
    "auth-token-ttl",
    "auto-compaction-mode",
    "auto-compaction-retention",
    "auto-tls",
    "backend-batch-interval",
    "backend-batch-limit",
    "backend-bbolt-freelist-type",
    "bcrypt-cost",
    "bootstrap-defrag-threshold-megabytes",
    "cert-file",
    "cipher-suites",
    "client-cert-allowed-hostname",
    "client-cert-auth",
    "client-cert-file",
    "client-crl-file",
    "client-key-file",
    "compact-hash-check-time",
    "compaction-batch-limit",
    "compaction-sleep-interval",
    "config-file",
    "corrupt-check-time",
    "cors",
    "discovery",
    "discovery-endpoints",
    "discovery-fallback",
    "discovery-proxy",
    "discovery-srv",
    "discovery-srv-name",
    "discovery-token",
    "distributed-tracing-address",
    "downgrade-check-time",
    "enable-distributed-tracing",
    "enable-grpc-gateway",
    "enable-log-rotation",
    "enable-pprof",
    "enable-v2",
    "feature-gates",
    "grpc-keepalive-interval",
    "grpc-keepalive-min-time",
    "grpc-keepalive-timeout",
    "host-whitelist",
    "initial-election-tick-advance",
    "key-file",
    "listen-client-http-urls",
    "listen-metrics-urls",
    "log-rotation-config-json",
    "max-concurrent-streams",
    "max-snapshots",
    "max-wals",
    "memory-mlock",
    "metrics",
    "peer-auto-tls",
    "peer-cert-allowed-cn",
    "peer-cert-allowed-hostname",
    "peer-cert-file",
    "peer-client-cert-auth",
    "peer-client-cert-file",
    "peer-client-key-file",
    "peer-crl-file",
    "peer-key-file",
    "peer-skip-client-san-verification",
    "peer-trusted-ca-file",
    "raft-read-timeout",
    "raft-write-timeout",
    "self-signed-cert-validity",
    "socket-reuse-address",
    "socket-reuse-port",
    "tls-max-version",
    "tls-min-version",
    "trusted-ca-file",
    "unsafe-no-fsync",
    "v2-deprecation",
    "wal-dir",
    "warning-apply-duration",
    "warning-unary-request-duration",
];

/// What a command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum CommandLine {
    /// Print the flags.
    Help,
    /// Print the version.
    Version,
    /// Start a server.
    Start(Settings),
}

/// Flags as they were given, before anything is made of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Settings {
    values: BTreeMap<&'static str, (String, Source)>,
    /// What is worth a line in the log once there is one.
    pub warnings: Vec<String>,
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The command line.
    Flag,
    /// The environment.
    Environment,
}

/// A command line or an environment that cannot be read.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum FlagError {
    /// No flag has this name.
    #[error("flag provided but not defined: -{0}")]
    NotDefined(String),
    /// etcd knows the flag, this server does not yet.
    #[error("flag -{0} of etcd is not supported by this version of quorate: remove it")]
    NotSupported(String),
    /// The last argument lacks its value.
    #[error("flag needs an argument: -{0}")]
    NeedsArgument(&'static str),
    /// Something that is not a flag.
    #[error("'{0}' is not a valid flag. See 'quorate --help'.")]
    NotAFlag(String),
}

impl Settings {
    /// The value of a flag, and where it was set; the default has no source.
    #[must_use]
    pub fn value(&self, name: &str) -> (&str, Option<Source>) {
        match self.values.get(name) {
            Some((value, source)) => (value, Some(*source)),
            None => (definition(name).map_or("", |flag| flag.default), None),
        }
    }

    /// Whether a flag was set at all.
    #[must_use]
    pub fn is_set(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }
}

/// Reads arguments (without the program's name) and environment variables.
///
/// # Errors
/// The first argument that makes no sense.
pub fn read(
    arguments: impl IntoIterator<Item = String>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<CommandLine, FlagError> {
    let mut settings = Settings::default();
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let Some(text) = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-')) else {
            return Err(FlagError::NotAFlag(argument));
        };
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, None),
        };
        match name {
            "h" | "help" => return Ok(CommandLine::Help),
            "version" => return Ok(CommandLine::Version),
            _ => {}
        }
        let flag = find(name)?;
        let value = match value {
            Some(value) => value,
            None if flag.boolean => "true".to_owned(),
            None => arguments.next().ok_or(FlagError::NeedsArgument(flag.name))?,
        };
        settings.values.insert(flag.name, (value, Source::Flag));
    }
    read_environment(&mut settings, environment);
    Ok(CommandLine::Start(settings))
}

/// Adds what the environment says where the command line says nothing.
fn read_environment(settings: &mut Settings, environment: impl IntoIterator<Item = (String, String)>) {
    let mut variables: Vec<(String, String)> =
        environment.into_iter().filter(|(name, _)| name.starts_with("ETCD_")).collect();
    variables.sort();
    for (variable, value) in variables {
        let name = variable["ETCD_".len()..].to_lowercase().replace('_', "-");
        match find(&name) {
            Ok(flag) if settings.is_set(flag.name) => settings.warnings.push(format!(
                "environment variable {variable} is shadowed by the command-line flag --{}: unset one of them",
                flag.name
            )),
            Ok(flag) if value.is_empty() => {
                settings.warnings.push(format!("environment variable for --{} is empty: ignored", flag.name));
            }
            Ok(flag) => {
                settings.values.insert(flag.name, (value, Source::Environment));
            }
            Err(_) => settings.warnings.push(format!("unrecognized environment variable {variable}={value}")),
        }
    }
}

fn definition(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.name == name)
}

fn find(name: &str) -> Result<&'static Flag, FlagError> {
    let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, name)| name);
    definition(name).ok_or_else(|| {
        let plain = name.strip_prefix("experimental-").unwrap_or(name);
        if NOT_SUPPORTED.contains(&plain) {
            FlagError::NotSupported(name.to_owned())
        } else {
            FlagError::NotDefined(name.to_owned())
        }
    })
}

/// The text of `--help`.
#[must_use]
pub fn help() -> String {
    let mut text = String::from(
        "Usage:\n\n  quorate [flags]\n    Start a member.\n\n  quorate local [--members 3]\n    Start a cluster on \
         this machine to try things out.\n\n  quorate --version | --help\n\nEvery flag has an environment variable: \
         --data-dir is ETCD_DATA_DIR.\nExit codes: 0 after a signal, 2 for flags that cannot be read, 3 for a member that \
         was removed from the cluster, 1 for everything else.\n",
    );
    let mut group = "";
    for flag in FLAGS {
        if flag.group != group {
            group = flag.group;
            text.push_str(&format!("\n{group}:\n"));
        }
        text.push_str(&format!("  --{} '{}'\n    {}\n", flag.name, flag.default, flag.help));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Result<CommandLine, FlagError> {
        read(
            arguments.iter().map(|text| (*text).to_owned()),
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        )
    }

    fn settings(arguments: &[&str], environment: &[(&str, &str)]) -> Settings {
        match start(arguments, environment) {
            Ok(CommandLine::Start(settings)) => settings,
            other => panic!("not a start: {other:?}"),
        }
    }

    #[test]
    fn one_dash_or_two_with_or_without_equals() {
        for arguments in [&["-name", "a"][..], &["--name", "a"], &["-name=a"], &["--name=a"]] {
            assert_eq!(settings(arguments, &[]).value("name"), ("a", Some(Source::Flag)), "{arguments:?}");
        }
        assert_eq!(settings(&["--pre-vote"], &[]).value("pre-vote").0, "true");
        assert_eq!(settings(&[], &[]).value("name"), ("default", None));
    }

    #[test]
    fn a_flag_wins_over_its_variable_and_that_is_said() {
        let settings =
            settings(&["--name=a"], &[("ETCD_NAME", "b"), ("ETCD_DATA_DIR", "d"), ("ETCD_FOO", "1")]);
        assert_eq!(settings.value("name").0, "a");
        assert_eq!(settings.value("data-dir"), ("d", Some(Source::Environment)));
        assert_eq!(settings.warnings.len(), 2, "{:?}", settings.warnings);
    }

    #[test]
    fn errors_are_those_of_etcd() {
        let text = |arguments| start(arguments, &[]).unwrap_err().to_string();
        assert_eq!(text(&["--foo=1"]), "flag provided but not defined: -foo");
        assert_eq!(text(&["--name"]), "flag needs an argument: -name");
        assert_eq!(text(&["extra"]), "'extra' is not a valid flag. See 'quorate --help'.");
        assert!(text(&["--cert-file=x"]).contains("not supported"));
    }
}
