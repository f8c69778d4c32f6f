//! etcd's Maintenance service: so far, status, alarms, checksums and the hand-over of leadership.

use quorate_node::Clock;
use quorate_proto::etcdserverpb as pb;
use quorate_proto::etcdserverpb::alarm_request::AlarmAction;
use quorate_replica::{Body, Consistency, Request};
use quorate_store::{AlarmKind, Command, HashPoint, HashQuery, HashResponse, Query, Response, Revision};

use super::{Api, Metadata};
use crate::error::Error;
use crate::{CLUSTER_VERSION, ETCD_VERSION};

impl<C: Clock> Api<C> {
    /// How this member is; answered without its peers.
    pub async fn status(
        &self,
        _request: pb::StatusRequest,
        metadata: Metadata,
    ) -> Result<pb::StatusResponse, Error> {
        self.admit_at_learner(metadata)?;
        let (_, alarms) = self.alarms(Consistency::Serializable).await?;
        let response = self.ask(Request::Status).await?;
        let header = self.header(&response);
        let Body::Status(status) = response.body else {
            unreachable!("a question for the status was answered with {:?}", response.body)
        };
        let no_leader = status.raft.leader.is_none().then(|| Error::NoLeader.message().to_owned());
        let alarms = alarms.iter().map(|(member, kind)| alarm_text(*member, *kind));
        Ok(pb::StatusResponse {
            header: Some(header),
            version: ETCD_VERSION.to_owned(),
            db_size: bytes(status.store_bytes),
            leader: status.raft.leader.map_or(0, |leader| leader.0),
            raft_index: status.raft.commit.0,
            raft_term: status.raft.term.0,
            raft_applied_index: status.applied.0,
            errors: no_leader.into_iter().chain(alarms).collect(),
            db_size_in_use: bytes(status.store_bytes),
            is_learner: status.learner,
            storage_version: CLUSTER_VERSION.to_owned(),
            db_size_quota: bytes(status.quota_bytes),
            downgrade_info: Some(pb::DowngradeInfo::default()),
        })
    }

    /// A checksum over the keys that this member holds, to compare members by. Asked of the node in parts: others are
    /// served in between.
    pub async fn hash_kv(
        &self,
        request: pb::HashKvRequest,
        metadata: Metadata,
    ) -> Result<pb::HashKvResponse, Error> {
        self.admit(metadata)?;
        let mut revision = Revision(request.revision);
        let (mut behind, mut compacted) = (None, None);
        loop {
            let (header, part) = self.hash_part(revision, behind.take()).await?;
            revision = part.revision;
            if *compacted.get_or_insert(part.compact_revision) != part.compact_revision {
                // What was forgotten meanwhile must not count: from the beginning.
                compacted = None;
                continue;
            }
            if part.next.is_some() {
                behind = part.next;
                continue;
            }
            return Ok(pb::HashKvResponse {
                header: Some(header),
                hash: (part.hash ^ part.hash >> 32) as u32,
                compact_revision: part.compact_revision.0,
                hash_revision: revision.0,
            });
        }
    }

    async fn hash_part(
        &self,
        revision: Revision,
        behind: Option<HashPoint>,
    ) -> Result<(pb::ResponseHeader, HashResponse), Error> {
        let query = Query::Hash(HashQuery { revision, behind, bytes_max: HASHED_AT_ONCE_BYTES });
        let consistency = Consistency::Serializable;
        match self.ask_store(Request::Query { query, consistency }).await? {
            (header, Response::Hash(part)) => Ok((header, part)),
            (_, other) => unreachable!("a question for a checksum was answered with {other:?}"),
        }
    }

    /// Hands leadership to a voter; answered when that one leads. Only the leader does it.
    pub async fn move_leader(
        &self,
        request: pb::MoveLeaderRequest,
        metadata: Metadata,
    ) -> Result<pb::MoveLeaderResponse, Error> {
        self.admit(metadata)?;
        self.ask(Request::MoveLeader { to: Some(request.target_id) }).await?;
        // As etcd's, without a header.
        Ok(pb::MoveLeaderResponse::default())
    }

    /// Lists, raises or clears alarms. The answer to a change holds the alarm that was changed.
    pub async fn alarm(
        &self,
        request: pb::AlarmRequest,
        metadata: Metadata,
    ) -> Result<pb::AlarmResponse, Error> {
        self.admit(metadata)?;
        let member = request.member_id;
        let kind = alarm_kind(request.alarm);
        let (header, active) = self.alarms(Consistency::Linearizable).await?;
        let is_active = kind.is_some_and(|kind| active.contains(&(member, kind)));
        let (header, alarms) = match (AlarmAction::try_from(request.action), kind) {
            (Ok(AlarmAction::Get), None) => (header, active),
            (Ok(AlarmAction::Get), Some(kind)) => {
                (header, active.into_iter().filter(|alarm| alarm.1 == kind).collect())
            }
            (Ok(AlarmAction::Activate), Some(kind)) => {
                (self.set_alarm(member, kind, true).await?, vec![(member, kind)])
            }
            (Ok(AlarmAction::Deactivate), Some(kind)) if is_active => {
                (self.set_alarm(member, kind, false).await?, vec![(member, kind)])
            }
            // Nothing to change, or an action that does not exist: etcd answers with an empty list.
            _ => (header, Vec::new()),
        };
        let alarms = alarms
            .into_iter()
            .map(|(member, kind)| pb::AlarmMember { member_id: member, alarm: wire_alarm(kind).into() });
        Ok(pb::AlarmResponse { header: Some(header), alarms: alarms.collect() })
    }

    async fn set_alarm(
        &self,
        member: u64,
        kind: AlarmKind,
        active: bool,
    ) -> Result<pb::ResponseHeader, Error> {
        let command = Command::Alarm { member, kind, active };
        Ok(self.ask_store(Request::Command(command)).await?.0)
    }

    /// The alarms that are on, by member and kind.
    pub(super) async fn alarms(
        &self,
        consistency: Consistency,
    ) -> Result<(pb::ResponseHeader, Vec<(u64, AlarmKind)>), Error> {
        match self.ask_store(Request::Query { query: Query::Alarms, consistency }).await? {
            (header, Response::Alarms(alarms)) => Ok((header, alarms)),
            (_, other) => unreachable!("a question for the alarms was answered with {other:?}"),
        }
    }
}

/// How much of the store goes into a checksum while others wait: some tenths of a millisecond.
const HASHED_AT_ONCE_BYTES: u64 = 512 << 10;

fn alarm_kind(wire: i32) -> Option<AlarmKind> {
    match pb::AlarmType::try_from(wire) {
        Ok(pb::AlarmType::Nospace) => Some(AlarmKind::NoSpace),
        Ok(pb::AlarmType::Corrupt) => Some(AlarmKind::Corrupt),
        Ok(pb::AlarmType::None) | Err(_) => None,
    }
}

fn wire_alarm(kind: AlarmKind) -> pb::AlarmType {
    match kind {
        AlarmKind::NoSpace => pb::AlarmType::Nospace,
        AlarmKind::Corrupt => pb::AlarmType::Corrupt,
    }
}

/// As Go prints the message, trailing space and all: that is what clients of etcd see.
fn alarm_text(member: u64, kind: AlarmKind) -> String {
    format!("memberID:{member} alarm:{} ", wire_alarm(kind).as_str_name())
}

fn bytes(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
