//! What a Raft shows of itself.

use core::fmt;

use serde::{Deserialize, Serialize};

use super::{Raft, State};
use crate::entry::Command;
use crate::progress::Progress;
use crate::types::{Index, Instant, NodeId, Position, Term};

/// The part a member plays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// Follows a leader, or waits for one.
    #[default]
    Follower,
    /// Asks whether it could win an election.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Follower => "follower",
            Role::PreCandidate => "pre-candidate",
            Role::Candidate => "candidate",
            Role::Leader => "leader",
        })
    }
}

/// Where a member stands, in one printed line: `n1@3 leader last=12@3 persisted=12 commit=11`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// This member.
    pub id: NodeId,
    /// Its current term.
    pub term: Term,
    /// The part it plays.
    pub role: Role,
    /// The leader of this term, if known.
    pub leader: Option<NodeId>,
    /// The last entry of its log.
    pub last: Position,
    /// The last entry known to be on its disk.
    pub persisted: Index,
    /// The highest committed index it knows.
    pub commit: Index,
    /// Whether the cluster works, as far as this member can tell: it leads and has heard from a quorum, or it follows
    /// a leader, within the election timeouts. Without, nothing can be committed.
    pub quorum: bool,
    /// To whom this leader is handing over.
    pub transferee: Option<NodeId>,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "n{}@{} {} last={} persisted={} commit={}",
            self.id, self.term, self.role, self.last, self.persisted, self.commit
        )?;
        match (self.leader, self.transferee) {
            (_, Some(to)) => write!(f, " hands over to n{to}"),
            (Some(leader), None) if self.role != Role::Leader => write!(f, " leader=n{leader}"),
            _ => Ok(()),
        }
    }
}

/// What a leader knows of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// The peer.
    pub id: NodeId,
    /// Its log equals the leader's up to here, durably.
    pub matched: Index,
    /// When it was last heard of.
    pub contact: Instant,
    /// How entries flow to it.
    pub state: PeerState,
}

/// How entries flow from a leader to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PeerState {
    /// Where the logs agree is not known, or the peer does not answer.
    Probe,
    /// As they come.
    Replicate,
    /// It needs a snapshot first.
    Snapshot,
    /// It lost what it had acknowledged, and gets nothing more.
    Lost,
}

impl<C: Command> Raft<C> {
    /// Everybody to whom this leader sends its log, in ascending order; nobody if it does not lead.
    pub fn peers(&self) -> impl Iterator<Item = PeerStatus> + '_ {
        let leader = match &self.state {
            State::Leader(leader) => Some(leader),
            _ => None,
        };
        let peers = leader.into_iter().flat_map(|leader| leader.peers());
        peers.map(|(id, peer)| PeerStatus {
            id,
            matched: peer.matched,
            contact: peer.contact,
            state: Progress::state(peer),
        })
    }

    pub(super) fn refresh_status(&mut self) {
        let leader = self.state.leader(self.config.id);
        let transferee = match &self.state {
            State::Leader(leader) => leader.transferee(),
            _ => None,
        };
        self.status = Status {
            id: self.config.id,
            term: self.term,
            role: self.state.role(),
            leader,
            last: self.log.last(),
            persisted: self.log.persisted(),
            commit: self.log.commit(),
            // A leader without a quorum steps down, and a follower that hears nothing forgets its leader.
            quorum: leader.is_some(),
            transferee,
        };
    }
}
