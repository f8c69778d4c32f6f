//! etcd's Cluster service, and what Quorate adds to it.
//!
//! Who may be added, removed or promoted, and when, is the leader's to decide (`quorate-replica`); here requests are
//! parsed, and every change is answered with all members.

use quorate_node::Clock;
use quorate_proto::etcdserverpb as pb;
use quorate_proto::quoratepb::{MemberDemoteRequest, MemberDemoteResponse};
use quorate_replica::{Consistency, Request};
use quorate_store::{Command, Query, Response};

use super::{Api, Metadata};
use crate::convert;
use crate::error::Error;

/// The header of an answer, and the members by id.
type Members = (Option<pb::ResponseHeader>, Vec<pb::Member>);

impl<C: Clock> Api<C> {
    /// The members: those that have been added, and what those that have started say of themselves.
    pub async fn member_list(
        &self,
        request: pb::MemberListRequest,
        metadata: Metadata,
    ) -> Result<pb::MemberListResponse, Error> {
        self.admit(metadata)?;
        let consistency =
            if request.linearizable { Consistency::Linearizable } else { Consistency::Serializable };
        let (header, members) =
            self.ask_members(Request::Query { query: Query::Members, consistency }).await?;
        Ok(pb::MemberListResponse { header, members })
    }

    /// Makes room for a member that is to be started with these peer URLs.
    pub async fn member_add(
        &self,
        request: pb::MemberAddRequest,
        metadata: Metadata,
    ) -> Result<pb::MemberAddResponse, Error> {
        self.admit(metadata)?;
        let peer_urls = convert::peer_urls(&request.peer_ur_ls)?;
        loop {
            let id = self.random.member_id();
            let (peer_urls, learner) = (peer_urls.clone(), request.is_learner);
            let command = Command::MemberAdd { id, peer_urls, learner, auto_promote: false };
            match self.ask_members(Request::Command(command)).await {
                Ok((header, members)) => {
                    let member = members.iter().find(|member| member.id == id).cloned();
                    return Ok(pb::MemberAddResponse { header, member, members });
                }
                // Somebody has or had this id: choose again. Ids do not repeat, so this ends.
                Err(Error::MemberExists) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Removes a member for ever.
    pub async fn member_remove(
        &self,
        request: pb::MemberRemoveRequest,
        metadata: Metadata,
    ) -> Result<pb::MemberRemoveResponse, Error> {
        self.admit(metadata)?;
        let command = Command::MemberRemove { id: request.id };
        let (header, members) = self.ask_members(Request::Command(command)).await?;
        Ok(pb::MemberRemoveResponse { header, members })
    }

    /// Changes where a member's peers reach it.
    pub async fn member_update(
        &self,
        request: pb::MemberUpdateRequest,
        metadata: Metadata,
    ) -> Result<pb::MemberUpdateResponse, Error> {
        self.admit(metadata)?;
        let peer_urls = convert::peer_urls(&request.peer_ur_ls)?;
        let command = Command::MemberUpdate { id: request.id, peer_urls };
        let (header, members) = self.ask_members(Request::Command(command)).await?;
        Ok(pb::MemberUpdateResponse { header, members })
    }

    /// Makes a learner a voter.
    pub async fn member_promote(
        &self,
        request: pb::MemberPromoteRequest,
        metadata: Metadata,
    ) -> Result<pb::MemberPromoteResponse, Error> {
        self.admit(metadata)?;
        let command = Command::MemberPromote { id: request.id };
        let (header, members) = self.ask_members(Request::Command(command)).await?;
        Ok(pb::MemberPromoteResponse { header, members })
    }

    /// Makes a voter a learner. etcd has no such call.
    pub async fn member_demote(
        &self,
        request: MemberDemoteRequest,
        metadata: Metadata,
    ) -> Result<MemberDemoteResponse, Error> {
        self.admit(metadata)?;
        let command = Command::MemberDemote { id: request.id };
        let (header, members) = self.ask_members(Request::Command(command)).await?;
        Ok(MemberDemoteResponse { header, members })
    }

    /// Asks for something that is answered with all members.
    async fn ask_members(&self, request: Request) -> Result<Members, Error> {
        match self.ask_store(request).await? {
            (header, Response::Members(members)) => {
                // etcd's Cluster service leaves the revision out.
                let header = pb::ResponseHeader { revision: 0, ..header };
                Ok((Some(header), members.into_iter().map(convert::member).collect()))
            }
            (_, other) => unreachable!("the members were asked for, and {other:?} was answered"),
        }
    }
}
