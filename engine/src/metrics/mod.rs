//! `/metrics`: etcd's names for what there is, as Prometheus text.
//!
//! Counters are atomics that the hot path adds to; everything about the replica comes from one look at its
//! `Status` when somebody asks. Names, types and labels are etcd's (dashboards and alerts depend on them), also
//! where Prometheus' habits differ: several gauges of etcd end in `_total`.

mod histogram;
mod process;
mod rpc;

use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use quorate_api::{CLUSTER_VERSION, Code, ETCD_VERSION};
use quorate_raft::Role;
use quorate_replica::Status;

pub use histogram::Histogram;
pub use rpc::Rpc;
use rpc::RpcCounters;

/// What is counted in this process.
#[derive(Debug, Default)]
pub struct Metrics {
    rpcs: RpcCounters,
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    /// How long the log's fsyncs take.
    pub wal_fsync: Histogram,
}

impl Metrics {
    /// A call has begun.
    pub(crate) fn started(&self, rpc: Rpc) {
        self.rpcs.started(rpc);
    }

    /// A call has ended.
    pub(crate) fn handled(&self, rpc: Rpc, code: Code) {
        self.rpcs.handled(rpc, code);
    }

    /// A client's message of this length has come.
    pub(crate) fn received(&self, bytes: usize) {
        self.received_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// A message of this length goes to a client.
    pub(crate) fn sent(&self, bytes: usize) {
        self.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Everything, as Prometheus text.
    pub fn render(&self, member_id: u64, status: &Status) -> String {
        let mut text = Text::default();
        let id = format!("{member_id:x}");
        text.gauge_with(
            "etcd_server_id",
            "Server or member ID in hexadecimal format. 1 for 'server_id' label with current ID.",
            ("server_id", &id),
            1,
        );
        let help = "Which version is running. 1 for 'server_version' label with current version.";
        text.gauge_with("etcd_server_version", help, ("server_version", ETCD_VERSION), 1);
        let help = "Which version is running. 1 for 'cluster_version' label with current cluster version";
        text.gauge_with("etcd_cluster_version", help, ("cluster_version", minor_version(CLUSTER_VERSION)), 1);
        replica(&mut text, status);
        text.counter(
            "etcd_network_client_grpc_received_bytes_total",
            "The total number of bytes received from grpc clients.",
            self.received_bytes.load(Ordering::Relaxed),
        );
        text.counter(
            "etcd_network_client_grpc_sent_bytes_total",
            "The total number of bytes sent to grpc clients.",
            self.sent_bytes.load(Ordering::Relaxed),
        );
        self.wal_fsync.render(
            &mut text,
            "etcd_disk_wal_fsync_duration_seconds",
            "The latency distributions of fsync called by WAL.",
        );
        self.rpcs.render(&mut text);
        process::render(&mut text);
        text.0
    }
}

/// A version without the patch level.
fn minor_version(version: &str) -> &str {
    version.rsplit_once('.').map_or(version, |(minor, _)| minor)
}

/// What is known from the replica.
fn replica(text: &mut Text, status: &Status) {
    let has_leader = u8::from(status.raft.leader.is_some());
    text.gauge(
        "etcd_server_has_leader",
        "Whether or not a leader exists. 1 is existence, 0 is not.",
        has_leader,
    );
    let is_leader = u8::from(status.raft.role == Role::Leader);
    text.gauge(
        "etcd_server_is_leader",
        "Whether or not this member is a leader. 1 if is, 0 otherwise.",
        is_leader,
    );
    let is_learner = u8::from(status.learner);
    text.gauge(
        "etcd_server_is_learner",
        "Whether or not this member is a learner. 1 if is, 0 otherwise.",
        is_learner,
    );
    text.counter(
        "etcd_server_leader_changes_seen_total",
        "The number of leader changes seen.",
        status.leader_changes,
    );
    text.counter(
        "etcd_server_learner_promote_successes",
        "The total number of successful learner promotions while this member is leader.",
        status.promotions,
    );
    text.gauge(
        "quorate_server_has_quorum",
        "Whether or not this member is in contact with a majority of the voters. 1 if it is, 0 otherwise.",
        u8::from(status.raft.quorum),
    );
    let members = "The number of members of the cluster, as far as this one knows.";
    text.head("quorate_server_members", members, "gauge");
    text.line(format_args!("quorate_server_members{{role=\"voter\"}} {}", status.voters));
    text.line(format_args!("quorate_server_members{{role=\"learner\"}} {}", status.learners));
    text.gauge(
        "etcd_server_proposals_committed_total",
        "The total number of consensus proposals committed.",
        status.raft.commit,
    );
    text.gauge(
        "etcd_server_proposals_applied_total",
        "The total number of consensus proposals applied.",
        status.applied,
    );
    text.gauge(
        "etcd_server_proposals_pending",
        "The current number of pending proposals to commit.",
        status.pending,
    );
    text.gauge(
        "etcd_server_quota_backend_bytes",
        "Current backend storage quota size in bytes.",
        status.quota_bytes,
    );
    text.gauge(
        "etcd_mvcc_db_total_size_in_bytes",
        "Total size of the underlying database physically allocated in bytes.",
        status.store_bytes,
    );
    text.gauge(
        "etcd_mvcc_db_total_size_in_use_in_bytes",
        "Total size of the underlying database logically in use in bytes.",
        status.store_bytes,
    );
    text.gauge("etcd_debugging_mvcc_current_revision", "The current revision of store.", status.revision);
    text.gauge("etcd_debugging_mvcc_watcher_total", "Total number of watchers.", status.watchers);
}

/// Prometheus' text format under construction.
#[derive(Debug, Default)]
pub(crate) struct Text(String);

impl Text {
    /// A metric's two lines of introduction.
    pub(crate) fn head(&mut self, name: &str, help: &str, kind: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    pub(crate) fn line(&mut self, line: impl Display) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "{line}");
    }

    pub(crate) fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, help, "gauge");
        self.line(format_args!("{name} {value}"));
    }

    pub(crate) fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, help, "counter");
        self.line(format_args!("{name} {value}"));
    }

    fn gauge_with(&mut self, name: &str, help: &str, label: (&str, &str), value: impl Display) {
        self.head(name, help, "gauge");
        self.line(format_args!("{name}{{{}=\"{}\"}} {value}", label.0, label.1));
    }
}
