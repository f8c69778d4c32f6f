//! Calls by method and by how they ended, with the names of go-grpc-prometheus.

use std::sync::atomic::{AtomicU64, Ordering};

use quorate_api::Code;

use super::Text;

/// Defines `Rpc` with the labels of every method side by side.
macro_rules! rpcs {
    ($($name:ident: $service:literal, $method:literal, $kind:literal;)*) => {
        /// A method that is served.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the services are etcd's")]
        pub enum Rpc {
            $($name,)*
        }

        impl Rpc {
            const ALL: &[Rpc] = &[$(Rpc::$name,)*];

            pub(crate) fn find(service: &str, method: &str) -> Option<Rpc> {
                match (service, method) {
                    $(($service, $method) => Some(Rpc::$name),)*
                    _ => None,
                }
            }

            pub(crate) fn is_service(name: &str) -> bool {
                [$($service,)*].contains(&name)
            }

            /// Whether messages go on both ways after the first.
            pub(crate) fn is_stream(self) -> bool {
                match self {
                    $(Rpc::$name => $kind != "unary",)*
                }
            }

            fn labels(self) -> &'static str {
                match self {
                    $(Rpc::$name => concat!(
                        "grpc_method=\"", $method, "\",grpc_service=\"", $service, "\",grpc_type=\"", $kind, "\""
                    ),)*
                }
            }
        }
    };
}

rpcs! {
    Range: "etcdserverpb.KV", "Range", "unary";
    Put: "etcdserverpb.KV", "Put", "unary";
    DeleteRange: "etcdserverpb.KV", "DeleteRange", "unary";
    Txn: "etcdserverpb.KV", "Txn", "unary";
    Compact: "etcdserverpb.KV", "Compact", "unary";
    Watch: "etcdserverpb.Watch", "Watch", "bidi_stream";
    LeaseGrant: "etcdserverpb.Lease", "LeaseGrant", "unary";
    LeaseRevoke: "etcdserverpb.Lease", "LeaseRevoke", "unary";
    LeaseKeepAlive: "etcdserverpb.Lease", "LeaseKeepAlive", "bidi_stream";
    LeaseTimeToLive: "etcdserverpb.Lease", "LeaseTimeToLive", "unary";
    LeaseLeases: "etcdserverpb.Lease", "LeaseLeases", "unary";
    MemberList: "etcdserverpb.Cluster", "MemberList", "unary";
    MemberAdd: "etcdserverpb.Cluster", "MemberAdd", "unary";
    MemberRemove: "etcdserverpb.Cluster", "MemberRemove", "unary";
    MemberUpdate: "etcdserverpb.Cluster", "MemberUpdate", "unary";
    MemberPromote: "etcdserverpb.Cluster", "MemberPromote", "unary";
    MemberDemote: "quoratepb.Membership", "MemberDemote", "unary";
    Status: "etcdserverpb.Maintenance", "Status", "unary";
    HashKv: "etcdserverpb.Maintenance", "HashKV", "unary";
    MoveLeader: "etcdserverpb.Maintenance", "MoveLeader", "unary";
    Alarm: "etcdserverpb.Maintenance", "Alarm", "unary";
    HealthCheck: "grpc.health.v1.Health", "Check", "unary";
    HealthWatch: "grpc.health.v1.Health", "Watch", "server_stream";
}

const RPCS: usize = Rpc::ALL.len();
/// gRPC's codes are the numbers below this.
const CODES: usize = 17;

/// One counter per method, and one per method and code.
#[derive(Debug)]
pub(super) struct RpcCounters {
    started: [AtomicU64; RPCS],
    handled: [[AtomicU64; CODES]; RPCS],
}

impl Default for RpcCounters {
    fn default() -> RpcCounters {
        RpcCounters {
            started: std::array::from_fn(|_| AtomicU64::new(0)),
            handled: std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0))),
        }
    }
}

impl RpcCounters {
    pub(super) fn started(&self, rpc: Rpc) {
        self.started[rpc as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn handled(&self, rpc: Rpc, code: Code) {
        self.handled[rpc as usize][code as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn render(&self, text: &mut Text) {
        let name = "grpc_server_started_total";
        text.head(name, "Total number of RPCs started on the server.", "counter");
        for &rpc in Rpc::ALL {
            let count = self.started[rpc as usize].load(Ordering::Relaxed);
            text.line(format_args!("{name}{{{}}} {count}", rpc.labels()));
        }
        let name = "grpc_server_handled_total";
        let help = "Total number of RPCs completed on the server, regardless of success or failure.";
        text.head(name, help, "counter");
        for &rpc in Rpc::ALL {
            for code in Code::ALL {
                let count = self.handled[rpc as usize][code as usize].load(Ordering::Relaxed);
                // A code that never was is left out, but every method shows that it could succeed.
                if count > 0 || code == Code::Ok {
                    text.line(format_args!(
                        "{name}{{grpc_code=\"{}\",{}}} {count}",
                        code.name(),
                        rpc.labels()
                    ));
                }
            }
        }
    }
}
