//! Equal states: from time to time every member is asked for a hash of the same stretch of history, as etcd's members ask each
//! other (its corruption check; v3.5's inconsistent members were found so).
//!
//! The question goes straight to a member's services, past the links: what is asked is what it holds, whoever can hear it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use quorate_api::Metadata;
use quorate_proto::etcdserverpb as pb;
use quorate_raft::NodeId;
use quorate_sim::invariants::Violation;

use super::cluster::Shared;

/// Compares for as long as the run goes on.
pub async fn compare(shared: Arc<Shared>) {
    // By revision, and by the revision up to which the past is forgotten.
    let mut told: BTreeMap<(i64, i64), (u32, NodeId)> = BTreeMap::new();
    loop {
        madsim::time::sleep(PAUSE).await;
        let there = shared.machine_ids().into_iter().filter_map(|machine| {
            let revision = shared.full_status(machine)?.revision.0;
            Some((machine, revision, shared.api(machine)?))
        });
        let there: Vec<_> = there.collect();
        let Some(revision) = there.iter().map(|(_, revision, _)| *revision).min() else { continue };
        for (machine, _, api) in there {
            let asked = api.hash_kv(pb::HashKvRequest { revision }, Metadata::default());
            // A member that stands still does not answer, and one that has forgotten so much says so.
            let Ok(Ok(answer)) = madsim::time::timeout(PATIENCE, asked).await else { continue };
            let place = (answer.hash_revision, answer.compact_revision);
            let (first, who) = *told.entry(place).or_insert((answer.hash, machine));
            if first != answer.hash {
                let detail = format!(
                    "at revision {}, compacted at {}, n{machine} holds another history than n{who} did",
                    answer.hash_revision, answer.compact_revision
                );
                shared.demand(Err(Violation { invariant: "equal states", detail }));
            }
        }
    }
}

/// How often.
const PAUSE: Duration = Duration::from_secs(2);

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_millis(50);
