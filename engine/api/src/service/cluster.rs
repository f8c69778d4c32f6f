//! etcd's Cluster service: so far, the list of members.

use std::collections::BTreeMap;

use quorate_node::Clock;
use quorate_proto::etcdserverpb as pb;
use quorate_replica::{Consistency, Request};
use quorate_store::{Query, Response};

use super::{Api, Metadata};
use crate::error::Error;

impl<C: Clock> Api<C> {
    /// The members by id: the configured ones, and what those that have started say of themselves.
    pub async fn member_list(
        &self,
        request: pb::MemberListRequest,
        metadata: Metadata,
    ) -> Result<pb::MemberListResponse, Error> {
        self.admit(metadata)?;
        let consistency =
            if request.linearizable { Consistency::Linearizable } else { Consistency::Serializable };
        let question = Request::Query { query: Query::Members, consistency };
        let (header, published) = match self.ask_store(question).await? {
            (header, Response::Members(members)) => (header, members),
            (_, other) => unreachable!("a question for the members was answered with {other:?}"),
        };
        let configured = self.config.members.iter().map(|member| pb::Member {
            id: member.id,
            peer_ur_ls: member.peer_urls.clone(),
            ..Default::default()
        });
        let published = published.into_iter().map(|member| pb::Member {
            id: member.id,
            name: member.name,
            peer_ur_ls: member.peer_urls,
            client_ur_ls: member.client_urls,
            is_learner: member.learner,
        });
        let mut members: BTreeMap<u64, pb::Member> = published.map(|member| (member.id, member)).collect();
        for member in configured {
            let known = members.entry(member.id).or_default();
            if known.peer_ur_ls.is_empty() {
                known.peer_ur_ls = member.peer_ur_ls;
            }
        }
        // etcd's Cluster service leaves the revision out.
        let header = pb::ResponseHeader { revision: 0, ..header };
        Ok(pb::MemberListResponse { header: Some(header), members: members.into_values().collect() })
    }
}
