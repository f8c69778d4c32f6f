//! The everyday commands, with etcdctl's names, flags, output and exit codes.
//!
//! What etcdctl prints by default is printed here byte for byte, because scripts depend on it; `tests/it/quoratectl.rs`
//! holds both against each other. Commands and flags that are not here are etcdctl's to do.

use std::io::Read;

use bytes::Bytes;
use clap::{Args, Subcommand, ValueEnum};
use quorate_client::proto::{etcdserverpb as pb, mvccpb};
use quorate_client::{Client, Error};

use crate::failure::Failure;
use crate::output::print;

/// The everyday commands.
#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// Put a key; without a value, read it from standard input.
    Put(PutArguments),
    /// Get a key or a range of keys.
    Get(GetArguments),
    /// Delete a key or a range of keys.
    Del(DelArguments),
    /// Print changes as they happen.
    Watch(WatchArguments),
    /// Forget superseded versions up to a revision.
    Compaction {
        /// The revision.
        revision: i64,
        /// Wait until the old versions are gone from the disk.
        #[arg(long)]
        physical: bool,
    },
    /// Leases.
    #[command(subcommand)]
    Lease(LeaseCommand),
}

#[derive(Args, Debug)]
pub struct PutArguments {
    key: String,
    value: Option<String>,
    /// The lease to attach the key to, in hexadecimal digits.
    #[arg(long, value_parser = parse_lease, default_value = "0")]
    lease: i64,
    /// Print the version before.
    #[arg(long)]
    prev_kv: bool,
    /// Keep the present value.
    #[arg(long)]
    ignore_value: bool,
    /// Keep the present lease.
    #[arg(long)]
    ignore_lease: bool,
}

/// Which keys: one, a range, or what begins with a prefix.
#[derive(Args, Debug)]
struct KeyArguments {
    key: String,
    /// Where the range ends.
    #[arg(conflicts_with_all = ["prefix"])]
    range_end: Option<String>,
    /// All keys that begin with this key.
    #[arg(long)]
    prefix: bool,
}

#[derive(Args, Debug)]
pub struct GetArguments {
    #[command(flatten)]
    keys: KeyArguments,
    /// All keys from this one on.
    #[arg(long, conflicts_with_all = ["prefix", "range_end"])]
    from_key: bool,
    /// At most so many keys; 0 is no limit.
    #[arg(long, default_value_t = 0)]
    limit: i64,
    /// The revision to read; 0 is the present one.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    rev: i64,
    /// Leave the values out.
    #[arg(long)]
    keys_only: bool,
    /// Print values only.
    #[arg(long)]
    print_value_only: bool,
    /// Linearizable or serializable.
    #[arg(long, value_enum, default_value = "l")]
    consistency: Consistency,
}

/// How fresh the answer must be.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum Consistency {
    #[value(name = "l")]
    Linearizable,
    #[value(name = "s")]
    Serializable,
}

impl Consistency {
    pub fn is_linearizable(self) -> bool {
        self == Consistency::Linearizable
    }
}

#[derive(Args, Debug)]
pub struct DelArguments {
    #[command(flatten)]
    keys: KeyArguments,
    /// All keys from this one on.
    #[arg(long, conflicts_with_all = ["prefix", "range_end"])]
    from_key: bool,
    /// Print the deleted versions.
    #[arg(long)]
    prev_kv: bool,
}

#[derive(Args, Debug)]
pub struct WatchArguments {
    #[command(flatten)]
    keys: KeyArguments,
    /// The first revision of interest; 0 is whatever comes next.
    #[arg(long, default_value_t = 0)]
    rev: i64,
    /// Print the versions before as well.
    #[arg(long)]
    prev_kv: bool,
}

/// Leases.
#[derive(Debug, Subcommand)]
pub enum LeaseCommand {
    /// Grant a lease of so many seconds.
    Grant {
        /// Seconds.
        ttl: i64,
    },
    /// End a lease and delete its keys.
    Revoke {
        /// In hexadecimal digits.
        #[arg(value_parser = parse_lease)]
        id: i64,
    },
    /// How long a lease lives.
    Timetolive {
        /// In hexadecimal digits.
        #[arg(value_parser = parse_lease)]
        id: i64,
        /// Its keys as well.
        #[arg(long)]
        keys: bool,
    },
    /// All leases.
    List,
}

fn parse_lease(text: &str) -> Result<i64, String> {
    i64::from_str_radix(text, 16).map_err(|_| "a lease id is a hexadecimal number".to_owned())
}

/// Carries out a command and prints to standard output.
pub async fn run(command: DataCommand, client: &Client) -> Result<(), Failure> {
    match command {
        DataCommand::Put(arguments) => put(arguments, client).await,
        DataCommand::Get(arguments) => get(arguments, client).await,
        DataCommand::Del(arguments) => del(arguments, client).await,
        DataCommand::Watch(arguments) => watch(arguments, client).await,
        DataCommand::Compaction { revision, physical } => {
            client.compact(pb::CompactionRequest { revision, physical }).await?;
            print(format!("compacted revision {revision}\n").as_bytes())
        }
        DataCommand::Lease(command) => lease(&command, client).await,
    }
}

async fn put(arguments: PutArguments, client: &Client) -> Result<(), Failure> {
    let value = match arguments.value {
        Some(value) => value.into_bytes(),
        None if arguments.ignore_value => Vec::new(),
        None => {
            let mut value = Vec::new();
            let read = std::io::stdin().read_to_end(&mut value);
            read.map_err(|error| Failure::error(format!("cannot read standard input: {error}")))?;
            value
        }
    };
    let request = pb::PutRequest {
        key: arguments.key.into(),
        value: value.into(),
        lease: arguments.lease,
        prev_kv: arguments.prev_kv,
        ignore_value: arguments.ignore_value,
        ignore_lease: arguments.ignore_lease,
    };
    let response = client.put(request).await?;
    let mut text = b"OK\n".to_vec();
    if let Some(previous) = response.prev_kv {
        write_version(&previous, false, &mut text);
    }
    print(&text)
}

async fn get(arguments: GetArguments, client: &Client) -> Result<(), Failure> {
    let (key, range_end) = arguments.keys.range(arguments.from_key);
    let request = pb::RangeRequest {
        key,
        range_end,
        limit: arguments.limit,
        revision: arguments.rev,
        keys_only: arguments.keys_only,
        serializable: !arguments.consistency.is_linearizable(),
        ..Default::default()
    };
    let response = client.range(request).await?;
    let mut text = Vec::new();
    for version in &response.kvs {
        write_version(version, arguments.print_value_only, &mut text);
    }
    print(&text)
}

async fn del(arguments: DelArguments, client: &Client) -> Result<(), Failure> {
    let (key, range_end) = arguments.keys.range(arguments.from_key);
    let response =
        client.delete_range(pb::DeleteRangeRequest { key, range_end, prev_kv: arguments.prev_kv }).await?;
    let mut text = format!("{}\n", response.deleted).into_bytes();
    for version in &response.prev_kvs {
        write_version(version, false, &mut text);
    }
    print(&text)
}

async fn watch(arguments: WatchArguments, client: &Client) -> Result<(), Failure> {
    let (key, range_end) = arguments.keys.range(false);
    let mut next_revision = arguments.rev;
    loop {
        let create = pb::WatchCreateRequest {
            key: key.clone(),
            range_end: range_end.clone(),
            start_revision: next_revision,
            prev_kv: arguments.prev_kv,
            ..Default::default()
        };
        let mut watch = client.watch(create).await?;
        // A stream that ends with its member goes on at another, behind the last event.
        while let Ok(response) = watch.next().await {
            if response.canceled {
                let reason = match response.compact_revision {
                    0 => response.cancel_reason,
                    _ => "etcdserver: mvcc: required revision has been compacted".to_owned(),
                };
                eprintln!("watch was canceled ({reason})");
                return Err(Failure::interrupted("watch is canceled by the server"));
            }
            if let (true, 0, Some(header)) = (response.created, next_revision, &response.header) {
                next_revision = header.revision + 1;
            }
            let mut text = Vec::new();
            for event in &response.events {
                write_event(event, &mut text);
                next_revision = event.kv.as_ref().map_or(next_revision, |version| version.mod_revision + 1);
            }
            print(&text)?;
        }
    }
}

async fn lease(command: &LeaseCommand, client: &Client) -> Result<(), Failure> {
    let text = match *command {
        LeaseCommand::Grant { ttl } => {
            let granted = client.lease_grant(pb::LeaseGrantRequest { ttl, id: 0 }).await;
            let granted = granted.map_err(|error| Failure::from(error).within("failed to grant lease"))?;
            format!("lease {:016x} granted with TTL({}s)\n", granted.id, granted.ttl)
        }
        LeaseCommand::Revoke { id } => {
            let revoked = client.lease_revoke(pb::LeaseRevokeRequest { id }).await;
            revoked.map_err(|error| Failure::from(error).within("failed to revoke lease"))?;
            format!("lease {id:016x} revoked\n")
        }
        LeaseCommand::Timetolive { id, keys } => {
            let lease = client.lease_time_to_live(pb::LeaseTimeToLiveRequest { id, keys }).await?;
            if lease.ttl == -1 {
                format!("lease {id:016x} already expired\n")
            } else {
                let names: Vec<_> = lease.keys.iter().map(|key| String::from_utf8_lossy(key)).collect();
                let attached =
                    if keys { format!(", attached keys([{}])", names.join(" ")) } else { String::new() };
                format!(
                    "lease {id:016x} granted with TTL({}s), remaining({}s){attached}\n",
                    lease.granted_ttl, lease.ttl
                )
            }
        }
        LeaseCommand::List => {
            let leases = client.lease_leases().await?.leases;
            let ids: String = leases.iter().map(|lease| format!("{:016x}\n", lease.id)).collect();
            format!("found {} leases\n{ids}", leases.len())
        }
    };
    print(text.as_bytes())
}

impl KeyArguments {
    /// Key and end of the range, as the wire has them.
    fn range(self, from_key: bool) -> (Bytes, Bytes) {
        let key = self.key.into_bytes();
        let zero = || Bytes::from_static(&[0]);
        if from_key {
            return (if key.is_empty() { zero() } else { key.into() }, zero());
        }
        if !self.prefix {
            return (key.into(), self.range_end.unwrap_or_default().into());
        }
        if key.is_empty() {
            return (zero(), zero());
        }
        // The first key after all with the prefix: its last byte plus one, bytes that have no successor dropped.
        let kept = key.iter().rposition(|byte| *byte != 0xff).map_or(0, |at| at + 1);
        let mut end = key[..kept].to_vec();
        match end.last_mut() {
            Some(last) => *last += 1,
            None => end.push(0),
        }
        (key.into(), end.into())
    }
}

fn write_version(version: &mvccpb::KeyValue, value_only: bool, out: &mut Vec<u8>) {
    if !value_only {
        out.extend_from_slice(&version.key);
        out.push(b'\n');
    }
    out.extend_from_slice(&version.value);
    out.push(b'\n');
}

fn write_event(event: &mvccpb::Event, out: &mut Vec<u8>) {
    let deleted = event.r#type() == mvccpb::event::EventType::Delete;
    out.extend_from_slice(if deleted { b"DELETE\n" } else { b"PUT\n" });
    for version in event.prev_kv.iter().chain(&event.kv) {
        write_version(version, false, out);
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Unreachable { .. } => Failure::connection(error.to_string()),
            Error::InvalidEndpoint { .. } => Failure::arguments(error.to_string()),
            _ => Failure::error(error.to_string()),
        }
    }
}
