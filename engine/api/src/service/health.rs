//! Whether this member is fit to serve: etcd's `/health`, and gRPC's health check.

use quorate_node::Clock;
use quorate_proto::health as pb;
use quorate_replica::{Consistency, Request};
use quorate_store::{AlarmKind, KeyRange, Query, RangeQuery};

use super::{Api, Metadata};
use crate::error::Error;

/// The query string of `/health`, parsed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthQuery {
    /// Alarms that do not matter, by name.
    pub exclude: Vec<String>,
    /// Whether this member alone is asked about: no leader is needed then.
    pub serializable: bool,
}

impl<C: Clock> Api<C> {
    /// Why this member is not healthy, in etcd's words; `Ok` if it is.
    pub async fn health(&self, query: &HealthQuery) -> Result<(), String> {
        let range_error = |error: Error| format!("RANGE ERROR:{error}");
        let (_, alarms) = self.alarms(Consistency::Serializable).await.map_err(range_error)?;
        for (_, kind) in alarms {
            let name = match kind {
                AlarmKind::NoSpace => "NOSPACE",
                AlarmKind::Corrupt => "CORRUPT",
            };
            if !query.exclude.iter().any(|excluded| excluded == name) {
                return Err(format!("ALARM {name}"));
            }
        }
        if !query.serializable && self.node_status().raft.leader.is_none() {
            return Err("RAFT NO LEADER".to_owned());
        }
        // Any key will do: that there is an answer is the answer.
        let question = RangeQuery { keys_only: true, limit: 1, ..RangeQuery::of(KeyRange::single("\0")) };
        let consistency =
            if query.serializable { Consistency::Serializable } else { Consistency::Linearizable };
        let request = Request::Query { query: Query::Range(question), consistency };
        self.ask(request).await.map_err(range_error)?;
        Ok(())
    }

    /// gRPC's health check, of the server as a whole: that it answers is the answer.
    pub fn health_check(
        &self,
        request: &pb::HealthCheckRequest,
        metadata: Metadata,
    ) -> Result<pb::HealthCheckResponse, Error> {
        self.admit(metadata)?;
        if !request.service.is_empty() {
            return Err(Error::UnknownService);
        }
        let status = pb::health_check_response::ServingStatus::Serving.into();
        Ok(pb::HealthCheckResponse { status })
    }
}
