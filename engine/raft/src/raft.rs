//! The state machine itself.

use alloc::collections::VecDeque;
use core::fmt;

use crate::config::Config;
use crate::entry::{Command, Configuration};
use crate::io::{Input, Output, Saved};
use crate::types::{Index, Instant, NodeId, Position, Term};

/// One member's Raft.
#[derive(Debug)]
pub struct Raft<C> {
    outputs: VecDeque<Output<C>>,
    status: Status,
}

impl<C: Command> Raft<C> {
    /// A Raft as it was at its last durable write. Draws no randomness beyond `seed`.
    pub fn recover(config: Config, seed: u64, now: Instant, saved: Saved<C>) -> Raft<C> {
        let _ = (config, seed, now, saved);
        todo!()
    }

    /// Takes note of something that happened.
    pub fn handle(&mut self, now: Instant, input: Input<C>) {
        let _ = (now, input);
        todo!()
    }

    /// The next thing to do, until `None`.
    pub fn poll_output(&mut self) -> Option<Output<C>> {
        self.outputs.pop_front()
    }

    /// When to call `handle(now, Input::Wake)` at the latest, and why.
    pub fn deadline(&self) -> Option<(Instant, &'static str)> {
        todo!()
    }

    /// Where this member stands.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// The configuration in force: the latest one in the log.
    pub fn configuration(&self) -> &Configuration {
        todo!()
    }
}

/// The part a member plays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "n{}@{} {} last={} persisted={} commit={}",
            self.id, self.term, self.role, self.last, self.persisted, self.commit
        )?;
        match self.leader {
            Some(leader) if self.role != Role::Leader => write!(f, " leader=n{leader}"),
            _ => Ok(()),
        }
    }
}
