//! One file per etcd service, and what they share: asking the node, and the response header.

mod cluster;
mod health;
mod kv;
mod lease;
mod maintenance;
mod watch;

use quorate_node::{Clock, NodeHandle};
use quorate_proto::etcdserverpb as pb;
use quorate_replica::{Body, Request, Response, Status};
use quorate_store::Revision;

use crate::config::Config;
use crate::error::Error;
use crate::random::Random;

pub use health::HealthQuery;
pub use watch::WatchSession;

/// etcd's services of one member; shared by all connections.
#[derive(Debug)]
pub struct Api<C> {
    node: NodeHandle,
    clock: C,
    config: Config,
    random: Random,
}

/// What a client says with a call, beside the message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// `hasleader: true`: rather fail at once than wait for a leader.
    pub require_leader: bool,
}

impl Metadata {
    /// From the values of the metadata `hasleader` and `client-api-version`, where given.
    pub fn parse(hasleader: Option<&[u8]>, client_api_version: Option<&[u8]>) -> Result<Metadata, Error> {
        if client_api_version.is_some_and(|version| std::str::from_utf8(version).is_err()) {
            return Err(Error::InvalidClientApiVersion);
        }
        Ok(Metadata { require_leader: hasleader == Some(b"true") })
    }
}

impl<C: Clock> Api<C> {
    /// The services of the member that `node` leads to.
    pub fn new(node: NodeHandle, clock: C, config: Config) -> Api<C> {
        let random = Random::new(config.seed);
        Api { node, clock, config, random }
    }

    /// The configuration given to `new`.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How the member was a moment ago.
    pub fn node_status(&self) -> Status {
        self.node.status()
    }

    /// Refuses a call that a learner does not answer, or that needs a leader when there is none. (A stream's call is
    /// watched over as long as it lasts; see `watch`.) etcd's interceptors do this before they look at a message.
    pub fn admit(&self, metadata: Metadata) -> Result<(), Error> {
        if self.node.is_learner() {
            return Err(Error::NotForLearners);
        }
        self.admit_at_learner(metadata)
    }

    /// As `admit`, for the few calls that a learner answers: those that need nobody else.
    fn admit_at_learner(&self, metadata: Metadata) -> Result<(), Error> {
        if metadata.require_leader && self.node_status().raft.leader.is_none() {
            return Err(Error::NoLeader);
        }
        Ok(())
    }

    async fn ask(&self, request: Request) -> Result<Response, Error> {
        Ok(self.node.request(request).await?)
    }

    /// Asks for something that the store answers: the header, and the answer.
    async fn ask_store(
        &self,
        request: Request,
    ) -> Result<(pb::ResponseHeader, quorate_store::Response), Error> {
        let response = self.ask(request).await?;
        let header = self.header(&response);
        match response.body {
            Body::Store(body) => Ok((header, body)),
            body => unreachable!("a question to the store was answered with {body:?}"),
        }
    }

    fn header(&self, response: &Response) -> pb::ResponseHeader {
        pb::ResponseHeader {
            cluster_id: self.config.cluster_id,
            member_id: self.config.member_id,
            revision: response.revision.0,
            raft_term: response.term.0,
        }
    }

    /// A header for something that the node says unasked, and without its term.
    fn header_at(&self, revision: Revision) -> pb::ResponseHeader {
        pb::ResponseHeader { revision: revision.0, ..self.header_now() }
    }

    /// A header for what the node need not be asked about.
    fn header_now(&self) -> pb::ResponseHeader {
        let status = self.node_status();
        pb::ResponseHeader {
            cluster_id: self.config.cluster_id,
            member_id: self.config.member_id,
            revision: status.revision.0,
            raft_term: status.raft.term.0,
        }
    }
}
