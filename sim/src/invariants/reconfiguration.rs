//! A change of the members leaves a cluster that goes on.
//!
//! A leader takes a change into its log only if, as far as it has heard,
//!
//! - a learner that gets a vote lives and has nine tenths of the log (etcd: `ErrLearnerNotReady`; issue 15096);
//! - those who are left when a living voter goes are a quorum that lives (etcd: `--strict-reconfig-check`);
//! - a directory takes the place of another only if that is silent (two processes with the same addresses by mistake).
//!
//! What it has heard is looked up in its Raft when it writes the change. That may have become better in the same turn,
//! after the change was judged; so whoever was heard of in this very turn is given the benefit of the doubt.

use std::time::Duration;

use quorate_raft::{Entry, Instant, NodeId, Payload, PeerStatus, Role};
use quorate_replica::{Replica, SharedProposal, Write};
use quorate_store::{Command, Member};

use super::{Check, broken};

/// A leader, as it writes something.
#[derive(Clone, Copy, Debug)]
pub struct Leader<'a> {
    /// It.
    pub replica: &'a Replica,
    /// Its clock.
    pub now: Instant,
    /// How long it does not mind if a peer is silent.
    pub patience: Duration,
}

/// A member writes this.
pub fn on_write(node: NodeId, write: &Write, leader: Leader<'_>) -> Check {
    let status = leader.replica.raft().status();
    if status.role != Role::Leader {
        return Ok(());
    }
    for entry in write.entries.iter().filter(|entry| entry.term == status.term) {
        let Payload::Membership(membership) = &entry.payload else { continue };
        let Some(SharedProposal(proposal)) = &membership.command else { continue };
        leader.check(node, entry, &proposal.command)?;
    }
    Ok(())
}

impl Leader<'_> {
    fn check(&self, node: NodeId, entry: &Entry<SharedProposal>, command: &Command) -> Check {
        match command {
            Command::MemberPromote { id } => self.check_promotion(node, entry.index.0, *id),
            Command::MemberRemove { id } | Command::MemberDemote { id } => self.check_loss(node, *id),
            Command::MemberJoin { owner, peer_urls, .. } => self.check_replacement(node, *owner, peer_urls),
            _ => Ok(()),
        }
    }

    fn check_promotion(&self, node: NodeId, index: u64, id: u64) -> Check {
        let Some(peer) = self.peer(id) else { return Ok(()) };
        if self.is_heard(&peer) && peer.matched.0 * 10 >= (index - 1) * 9 {
            return Ok(());
        }
        broken("learners catch up first", || {
            format!("n{node} gives n{id} a vote at entry {index}; it was known to have {}", peer.matched)
        })
    }

    fn check_loss(&self, node: NodeId, id: u64) -> Check {
        let Some(member) = self.member(|member| member.id == id).filter(|member| !member.learner) else {
            return Ok(());
        };
        if !self.was_heard_before(node, member.id) {
            return Ok(());
        }
        let others = || self.replica.store().members().voters().filter(|voter| voter.id != id);
        let live = |voter: &&Member| {
            voter.id == node.0 || self.peer(voter.id).is_some_and(|peer| self.is_heard(&peer))
        };
        let (all, left) = (others().count(), others().filter(live).count());
        if left > all / 2 {
            return Ok(());
        }
        broken("changes leave a quorum", || {
            format!("n{node} lets the living n{id} go, and has heard of {left} of the {all} other voters")
        })
    }

    fn check_replacement(&self, node: NodeId, owner: u64, peer_urls: &[String]) -> Check {
        let at_urls = |member: &Member| member.peer_urls.iter().any(|url| peer_urls.contains(url));
        let Some(old) = self.member(at_urls).filter(|old| old.is_started() && old.owner != owner) else {
            return Ok(());
        };
        if !self.was_heard_before(node, old.id) {
            return Ok(());
        }
        broken("the living keep their places", || {
            format!("n{node} gives the place of n{}, which lives, to another directory", old.id)
        })
    }

    fn member(&self, which: impl Fn(&Member) -> bool) -> Option<&Member> {
        self.replica.store().members().iter().find(|member| which(member))
    }

    fn peer(&self, id: u64) -> Option<PeerStatus> {
        self.replica.raft().peers().find(|peer| peer.id.0 == id)
    }

    fn is_heard(&self, peer: &PeerStatus) -> bool {
        self.now.since(peer.contact) < self.patience
    }

    /// Whether it lived as far as the leader knew when this turn began.
    fn was_heard_before(&self, node: NodeId, id: u64) -> bool {
        id == node.0 || self.peer(id).is_some_and(|peer| peer.contact < self.now && self.is_heard(&peer))
    }
}
