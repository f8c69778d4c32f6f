//! What a leader may not do while it leads, whatever happens around it.
//!
//! - What it knows a peer to have never becomes less in a term (Raft figure 2: `matchIndex` "increases
//!   monotonically"), but for a peer that has lost its disk.
//! - If it does not hear from a quorum, it steps down (thesis §6.2; etcd's check-quorum, issue 15247), at most a
//!   heartbeat later than its election timeout says: whoever asks it would wait in vain. By its own clock.
//! - While it hands over, its log does not grow (thesis §3.10), so that its successor can catch up.

use std::time::Duration;

use quorate_raft::{Instant, NodeId, PeerState, Raft, Role};
use quorate_replica::SharedProposal;

use super::logs::quorum;
use super::{Check, broken};
use crate::env::network::MEMBERS_MAX;

/// What was seen of each member when it led last.
#[derive(Debug)]
pub struct Leading {
    election_timeout: Duration,
    seen: [Seen; MEMBERS_MAX],
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    term: u64,
    /// What each peer had.
    matched: [u64; MEMBERS_MAX],
    /// Since when it has been without a quorum.
    deserted: Option<Instant>,
    /// When this was last looked at.
    looked: Option<Instant>,
    /// To whom it was handing over, and the end of its log.
    hands_over: Option<(NodeId, u64)>,
}

impl Leading {
    /// Nobody leads yet.
    pub fn new(election_timeout: Duration) -> Leading {
        Leading { election_timeout, seen: [Seen::default(); MEMBERS_MAX] }
    }

    /// A member loses what it knew.
    pub fn on_crash(&mut self, node: NodeId) {
        self.seen[node.0 as usize] = Seen::default();
    }

    /// A member after its turn, by whose clock it is now.
    pub fn on_turn(&mut self, node: NodeId, raft: &Raft<SharedProposal>, now: Instant) -> Check {
        let status = raft.status();
        let timeout = self.election_timeout;
        let seen = &mut self.seen[node.0 as usize];
        if status.role != Role::Leader {
            return Ok(());
        }
        if seen.term != status.term.0 {
            *seen = Seen { term: status.term.0, ..Seen::default() };
        }
        seen.matched(node, raft)?;
        seen.quorum(node, raft, now, timeout)?;
        let last = status.last.index.0;
        let before = std::mem::replace(&mut seen.hands_over, status.transferee.map(|to| (to, last)));
        match (before, seen.hands_over) {
            (Some((to, before)), Some((still, now))) if to == still && now > before => {
                broken("hand-over", || format!("n{node} hands over to n{to} and appends entry {now}"))
            }
            _ => Ok(()),
        }
    }
}

impl Seen {
    fn matched(&mut self, node: NodeId, raft: &Raft<SharedProposal>) -> Check {
        for peer in raft.peers() {
            let before = std::mem::replace(&mut self.matched[peer.id.0 as usize], peer.matched.0);
            if peer.matched.0 < before && peer.state != PeerState::Lost {
                return broken("matched index", || {
                    format!("n{node} knew n{} to have entry {before}, and now {} only", peer.id, peer.matched)
                });
            }
        }
        Ok(())
    }

    fn quorum(
        &mut self,
        node: NodeId,
        raft: &Raft<SharedProposal>,
        now: Instant,
        timeout: Duration,
    ) -> Check {
        // A leader looks ten times a timeout; the oracle, more often than that.
        if self.looked.is_some_and(|at| now.since(at) < timeout / 40) {
            return Ok(());
        }
        self.looked = Some(now);
        let heard = |id: NodeId| {
            id == node || raft.peers().any(|peer| peer.id == id && now.since(peer.contact) < timeout)
        };
        if quorum(raft.configuration(), heard) {
            self.deserted = None;
            return Ok(());
        }
        // It looks at every heartbeat, a tenth of the timeout.
        let since = *self.deserted.get_or_insert(now);
        if now.since(since) < timeout / 5 {
            return Ok(());
        }
        broken("check-quorum", || format!("n{node} leads on without a quorum: {}", raft.status()))
    }
}
