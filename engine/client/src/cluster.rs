//! Calls about the cluster: who its members are, who leads, and how a member is.
//!
//! Members are named by their ids. A change is sent once; `member_list` tells whether one of unknown outcome happened.

use quorate_proto::etcdserverpb as pb;
use quorate_proto::etcdserverpb::cluster_client::ClusterClient;
use quorate_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use quorate_proto::quoratepb::membership_client::MembershipClient;
use quorate_proto::quoratepb::{MemberDemoteRequest, MemberDemoteResponse};

use crate::{Client, Error, Repeat, Transport, call};

impl<T: Transport> Client<T> {
    /// The members of the cluster.
    ///
    /// # Errors
    /// See [`Error`]; so for all calls.
    pub async fn member_list(&self, linearizable: bool) -> Result<pb::MemberListResponse, Error> {
        let request = pb::MemberListRequest { linearizable };
        call!(self, Repeat::Harmless, ClusterClient, member_list, request)
    }

    /// Makes room for a new member, a voter or a learner, that will be reached at these URLs. Start it then.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn member_add(
        &self,
        peer_urls: Vec<String>,
        learner: bool,
    ) -> Result<pb::MemberAddResponse, Error> {
        let request = pb::MemberAddRequest { peer_ur_ls: peer_urls, is_learner: learner };
        call!(self, Repeat::Never, ClusterClient, member_add, request)
    }

    /// Removes a member for ever.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn member_remove(&self, id: u64) -> Result<pb::MemberRemoveResponse, Error> {
        call!(self, Repeat::Never, ClusterClient, member_remove, pb::MemberRemoveRequest { id })
    }

    /// Changes where the others reach a member.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn member_update(
        &self,
        id: u64,
        peer_urls: Vec<String>,
    ) -> Result<pb::MemberUpdateResponse, Error> {
        let request = pb::MemberUpdateRequest { id, peer_ur_ls: peer_urls };
        call!(self, Repeat::Never, ClusterClient, member_update, request)
    }

    /// Makes a learner a voter.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn member_promote(&self, id: u64) -> Result<pb::MemberPromoteResponse, Error> {
        call!(self, Repeat::Never, ClusterClient, member_promote, pb::MemberPromoteRequest { id })
    }

    /// Makes a voter a learner. Only Quorate can do this; etcd answers that it does not know the method.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn member_demote(&self, id: u64) -> Result<MemberDemoteResponse, Error> {
        call!(self, Repeat::Never, MembershipClient, member_demote, MemberDemoteRequest { id })
    }

    /// Hands leadership to this member. Only the leader does it: ask it alone (see [`Client::each`]).
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn move_leader(&self, target_id: u64) -> Result<pb::MoveLeaderResponse, Error> {
        call!(self, Repeat::Never, MaintenanceClient, move_leader, pb::MoveLeaderRequest { target_id })
    }

    /// How some member is; a client of one endpoint asks that member.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn status(&self) -> Result<pb::StatusResponse, Error> {
        call!(self, Repeat::Harmless, MaintenanceClient, status, pb::StatusRequest::default())
    }

    /// A checksum of a member's history of keys up to a revision, zero for the present one. A client of one endpoint asks
    /// that member.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn hash_kv(&self, revision: i64) -> Result<pb::HashKvResponse, Error> {
        call!(self, Repeat::Harmless, MaintenanceClient, hash_kv, pb::HashKvRequest { revision })
    }

    /// The alarms that are on.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn alarms(&self) -> Result<pb::AlarmResponse, Error> {
        // The defaults are: get, of all members, of every kind.
        call!(self, Repeat::Harmless, MaintenanceClient, alarm, pb::AlarmRequest::default())
    }
}
