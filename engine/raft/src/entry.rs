//! What the log holds.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::few::NodeSet;
use crate::types::{Index, NodeId, Position, Term};

/// What an owner of a `Raft` replicates. Raft never looks inside.
///
/// A clone must be cheap (a reference count), because an entry is shared between the log, the disk,
/// every peer and the state machine.
pub trait Command: Clone {
    /// About how many bytes this command takes when encoded; bounds the size of messages.
    fn size(&self) -> usize;
}

/// One entry of the replicated log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry<C> {
    /// The term of the leader that created the entry.
    pub term: Term,
    /// The entry's place in the log.
    pub index: Index,
    /// What the entry says.
    pub payload: Payload<C>,
}

impl<C> Entry<C> {
    /// Index and term together.
    #[must_use]
    pub const fn position(&self) -> Position {
        Position { term: self.term, index: self.index }
    }
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Payload<C> {
    /// Appended by every new leader, so that it can commit what its predecessors left (Raft §8).
    Noop,
    /// A command of the owner's state machine.
    Command(C),
    /// A new configuration of the cluster.
    Membership(Membership<C>),
}

/// A change of who takes part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership<C> {
    /// In force as soon as it is in a member's log, committed or not (Raft §6).
    pub configuration: Configuration,
    /// What the owner's state machine makes of it, when it is committed. None when a leader ends a joint
    /// configuration by itself.
    pub command: Option<C>,
}

/// Who takes part (Raft §6; thesis §4).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// Members whose majority decides.
    pub voters: NodeSet,
    /// While a joint change is under way, the old voters, whose majority must agree as well;
    /// empty otherwise.
    pub outgoing: NodeSet,
    /// Members that receive the log but do not vote.
    pub learners: NodeSet,
}

impl Configuration {
    /// Whether two majorities must agree: a change of several voters is under way (Raft §6).
    #[must_use]
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether this member votes.
    #[must_use]
    pub fn is_voter(&self, id: NodeId) -> bool {
        self.voters.contains(&id) || self.outgoing.contains(&id)
    }

    /// Whether this member receives the log.
    #[must_use]
    pub fn contains(&self, id: NodeId) -> bool {
        self.is_voter(id) || self.learners.contains(&id)
    }

    /// Everybody who receives the log, in ascending order, each once.
    pub fn members(&self) -> impl Iterator<Item = NodeId> + '_ {
        let all: NodeSet = self.voters.iter().chain(&self.outgoing).chain(&self.learners).copied().collect();
        all.into_iter()
    }
}

impl fmt::Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, ids) in
            [("voters", &self.voters), (" outgoing", &self.outgoing), (" learners", &self.learners)]
        {
            if !ids.is_empty() {
                f.write_str(name)?;
                ids.iter().try_for_each(|id| write!(f, " n{id}"))?;
            }
        }
        Ok(())
    }
}
