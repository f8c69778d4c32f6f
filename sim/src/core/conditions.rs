//! What a scenario's lines wait for, demand and forbid, as the members are now.

use quorate_jepsen::etcd::Bytes;
use quorate_raft::{NodeId, Role};
use quorate_store::{KeyRange, LeaseId, Query, RangeQuery, Response, Store};

use super::Simulation;
use super::member::Member;
use crate::scenario::{Condition, Fact, Standing, Who};

impl Simulation {
    /// Whether this is so now.
    pub(super) fn holds(&self, condition: &Condition) -> bool {
        self.is_so(&condition.fact) != condition.not
    }

    fn is_so(&self, fact: &Fact) -> bool {
        match fact {
            Fact::ClientIdle(client) => self.clients.get(*client as usize).is_none_or(|slot| slot.is_idle()),
            Fact::WatcherSees(watcher, revision) => {
                let slot = self.script.as_ref().and_then(|script| script.watcher(*watcher));
                slot.is_some_and(|slot| self.watchers[slot as usize].sees(*revision))
            }
            Fact::OperatorIdle => self.operator_is_idle(),
            Fact::Members(who, standing) => self.stand(*who, standing),
        }
    }

    fn stand(&self, who: Who, standing: &Standing) -> bool {
        let mut running = self.members.iter().filter(|member| member.is_up());
        match who {
            Who::Any => running.any(|member| self.stands(member.id, standing)),
            Who::All => running.all(|member| self.stands(member.id, standing)),
            Who::Node(node) => self.stands(node, standing),
        }
    }

    fn stands(&self, node: NodeId, standing: &Standing) -> bool {
        let record = || self.table().and_then(|table| table.get(node.0));
        match standing {
            Standing::Votes => return record().is_some_and(|record| !record.learner),
            Standing::Learns => return record().is_some_and(|record| record.learner),
            Standing::Belongs => return record().is_some(),
            _ => {}
        }
        let member = self.members.iter().find(|member| member.id == node);
        member.filter(|member| member.is_up()).is_some_and(|member| running_stands(member, standing))
    }
}

fn running_stands(member: &Member, standing: &Standing) -> bool {
    let status = &member.status;
    let Some(replica) = &member.replica else { return false };
    match standing {
        Standing::Leads => status.role == Role::Leader,
        Standing::Follows => status.role == Role::Follower && status.leader != 0,
        Standing::Commits(index) => status.commit >= *index,
        Standing::Applies(index) => status.applied >= *index,
        Standing::Holds(index) => status.last >= *index,
        Standing::Term(term) => status.term >= *term,
        Standing::Snapshots(index) => replica.status().snapshot.0 >= *index,
        Standing::Has(key, value) => found(replica.store(), key)
            .is_some_and(|found| value.as_ref().is_none_or(|value| *value == found)),
        Standing::KeepsLease(lease) => replica.store().lease_ttl(LeaseId(*lease)).is_some(),
        Standing::Runs => true,
        Standing::Votes | Standing::Learns | Standing::Belongs => unreachable!("these are of the table"),
    }
}

/// The value of a key in a member's own store, whatever the others have.
fn found(store: &Store, key: &Bytes) -> Option<Bytes> {
    let query = Query::Range(RangeQuery::of(KeyRange::from_wire(key.as_slice(), &[])));
    match store.query(&query) {
        Ok(Response::Range(range)) => {
            range.kvs.first().map(|found| Bytes::from(found.value.as_slice().to_vec()))
        }
        _ => None,
    }
}
