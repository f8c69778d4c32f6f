//! etcd's Lease service.

use quorate_node::Clock;
use quorate_proto::etcdserverpb as pb;
use quorate_replica::{Body, Consistency, Request};
use quorate_store::{Command, LeaseId, Query, Response};

use super::{Api, Metadata};
use crate::convert;
use crate::error::Error;

impl<C: Clock> Api<C> {
    /// Creates a lease.
    pub async fn lease_grant(
        &self,
        request: pb::LeaseGrantRequest,
        metadata: Metadata,
    ) -> Result<pb::LeaseGrantResponse, Error> {
        self.admit(metadata)?;
        let ttl = convert::grant_ttl(request.ttl, self.config.lease_ttl_min())?;
        loop {
            let id = if request.id == 0 { self.random.lease_id() } else { LeaseId(request.id) };
            match self.ask_store(Request::Command(Command::LeaseGrant { id, ttl })).await {
                Ok((header, Response::LeaseGranted { id, ttl })) => {
                    let error = String::new();
                    return Ok(pb::LeaseGrantResponse { header: Some(header), id: id.0, ttl, error });
                }
                // Our own choice was taken: choose again. Ids do not repeat, so this ends.
                Err(Error::LeaseExists) if request.id == 0 => {}
                Err(error) => return Err(error),
                Ok((_, other)) => unreachable!("a grant was answered with {other:?}"),
            }
        }
    }

    /// Ends a lease and deletes its keys.
    pub async fn lease_revoke(
        &self,
        request: pb::LeaseRevokeRequest,
        metadata: Metadata,
    ) -> Result<pb::LeaseRevokeResponse, Error> {
        self.admit(metadata)?;
        let command = Command::LeaseRevoke { id: LeaseId(request.id) };
        let (header, _) = self.ask_store(Request::Command(command)).await?;
        Ok(pb::LeaseRevokeResponse { header: Some(header) })
    }

    /// Answers one message of a keep-alive stream. An unknown lease is no error: its time to live is
    /// zero.
    pub async fn lease_keep_alive(
        &self,
        request: pb::LeaseKeepAliveRequest,
        metadata: Metadata,
    ) -> Result<pb::LeaseKeepAliveResponse, Error> {
        self.admit(metadata)?;
        let response = self.ask(Request::KeepAlive(LeaseId(request.id))).await?;
        let header = Some(self.header(&response));
        match response.body {
            Body::KeptAlive { id, ttl } => Ok(pb::LeaseKeepAliveResponse { header, id: id.0, ttl }),
            body => unreachable!("a keep-alive was answered with {body:?}"),
        }
    }

    /// How long a lease still lives.
    pub async fn lease_time_to_live(
        &self,
        request: pb::LeaseTimeToLiveRequest,
        metadata: Metadata,
    ) -> Result<pb::LeaseTimeToLiveResponse, Error> {
        self.admit(metadata)?;
        let question = Request::TimeToLive { id: LeaseId(request.id), keys: request.keys };
        let response = self.ask(question).await?;
        let header = Some(self.header(&response));
        match response.body {
            Body::TimeToLive { id, ttl, granted_ttl, keys } => Ok(pb::LeaseTimeToLiveResponse {
                header,
                id: id.0,
                ttl,
                granted_ttl,
                keys: keys.iter().map(convert::key_bytes).collect(),
            }),
            body => unreachable!("a time to live was answered with {body:?}"),
        }
    }

    /// All leases.
    pub async fn lease_leases(
        &self,
        _request: pb::LeaseLeasesRequest,
        metadata: Metadata,
    ) -> Result<pb::LeaseLeasesResponse, Error> {
        self.admit(metadata)?;
        let question = Request::Query { query: Query::Leases, consistency: Consistency::Linearizable };
        match self.ask_store(question).await? {
            (header, Response::Leases(leases)) => Ok(pb::LeaseLeasesResponse {
                header: Some(header),
                leases: leases.iter().map(|lease| pb::LeaseStatus { id: lease.0 }).collect(),
            }),
            (_, other) => unreachable!("a question for all leases was answered with {other:?}"),
        }
    }
}
