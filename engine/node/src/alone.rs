//! Going on alone: what `--force-new-cluster` adds to a log.
//!
//! When a majority is lost for good, nobody can be elected, and no change of the membership can be committed. Somebody
//! who knows that the others will never come back may then declare one member to be the cluster. That cannot be safe by
//! itself (what only the others had acknowledged is lost, and two members that are both declared the cluster go
//! different ways), but it can be honest: the log says what has happened, like any other change. All that this member
//! has in its log stays, committed or not, and behind it, every other member is removed, for ever, in a configuration of
//! this member alone. Being its own majority, it commits that when it is elected.

use std::collections::BTreeSet;

use quorate_raft::{
    Configuration, Entry, HardState, Index, Membership, NodeId, Payload, SnapshotMeta, WriteId,
};
use quorate_replica::{RequestId, SharedProposal, Write};
use quorate_store::Command;

use crate::error::Error;

/// What makes this member the only one, as a write to its log; none if it is that already. `boot` is a life of the
/// member in which nothing else is proposed.
pub(crate) fn go_on_alone(
    me: NodeId,
    boot: u64,
    hard_state: HardState,
    snapshot: &SnapshotMeta,
    entries: &[Entry<SharedProposal>],
) -> Result<Option<Write>, Error> {
    let later = entries.iter().filter_map(|entry| match &entry.payload {
        Payload::Membership(membership) => Some(&membership.configuration),
        Payload::Noop | Payload::Command(_) => None,
    });
    let configurations: Vec<&Configuration> = [&snapshot.configuration].into_iter().chain(later).collect();
    let latest = *configurations.last().expect("there is one at the beginning");
    if !latest.contains(me) {
        return Err(Error::Removed { member: me.0 });
    }
    let alone = Configuration { voters: [me].into(), ..Configuration::default() };
    if *latest == alone {
        return Ok(None);
    }
    // A change that was under way may come out either way; whoever it was about is removed in any case.
    let all: BTreeSet<NodeId> =
        configurations.iter().flat_map(|configuration| configuration.members()).collect();
    let promote = latest.learners.contains(&me).then_some(Command::MemberPromote { id: me.0 });
    let others = all.into_iter().filter(|id| *id != me);
    let removals = others.map(|id| Command::MemberRemove { id: id.0 });
    let commands: Vec<Command> = promote.into_iter().chain(removals).collect();

    let last = entries.last().map_or(snapshot.position, Entry::position);
    let term = hard_state.term.max(last.term).next();
    let entry = |(number, command): (u64, Command)| {
        let id = RequestId { boot, sequence: number };
        let membership =
            Membership { configuration: alone.clone(), command: Some(SharedProposal::new(me, id, command)) };
        Entry { term, index: Index(last.index.0 + number), payload: Payload::Membership(membership) }
    };
    let entries: Vec<_> = (1..).zip(commands).map(entry).collect();
    let end = entries.last().map_or(last, Entry::position);
    tracing::warn!(
        from = %last,
        to = %end,
        removed = entries.len(),
        "going on alone: every other member is removed from the cluster, for ever"
    );
    let hard_state = HardState { term, vote: Some(me), commit: hard_state.commit };
    Ok(Some(Write { id: WriteId(1), hard_state: Some(hard_state), entries, sync: true }))
}
