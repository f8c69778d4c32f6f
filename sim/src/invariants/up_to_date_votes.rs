//! A vote goes to a log that is at least as up to date as the voter's own: its last entry is of a later term, or of the
//! same term and not earlier in the log (Raft §5.4.1).
//!
//! Elections with a wrong voter mostly end well: it takes a leader that lacks something committed, and its vote must have
//! made the difference. The vote itself is there much more often. (openraft a48a3282: an order that compared lengths
//! first.)
//!
//! Looked at when the vote goes to the disk: until it is on its way to the candidate the voter's log may have grown. For
//! the same reason a vote counts here only if nothing else happened to the log in that turn.

use quorate_raft::{Index, NodeId, Position, Term};
use quorate_replica::{Replica, Saved, Write};

use super::logs::Logs;
use super::{Check, broken};
use crate::env::network::MEMBERS_MAX;

/// Who has asked for votes, and who has given theirs.
#[derive(Debug, Default)]
pub struct UpToDateVotes {
    members: [Member; MEMBERS_MAX],
}

/// One of them.
#[derive(Clone, Copy, Debug, Default)]
struct Member {
    /// In which term it asked for votes last, and where its log ended.
    asked: (Term, Position),
    /// The vote that it has written last.
    voted: (Term, Option<NodeId>),
}

impl UpToDateVotes {
    /// A member asks for a vote.
    pub fn on_ask(&mut self, candidate: NodeId, term: Term, last: Position) {
        self.members[candidate.0 as usize].asked = (term, last);
    }

    /// A member starts with what it had written.
    pub fn on_start(&mut self, node: NodeId, saved: &Saved) {
        self.members[node.0 as usize].voted = (saved.hard_state.term, saved.hard_state.vote);
    }

    /// A member writes this. What it writes of entries is not in `logs` yet.
    pub fn on_write(&mut self, logs: &Logs, node: NodeId, write: &Write, replica: &Replica) -> Check {
        let Some(hard_state) = write.hard_state else { return Ok(()) };
        let vote = (hard_state.term, hard_state.vote);
        let before = std::mem::replace(&mut self.members[node.0 as usize].voted, vote);
        let Some(candidate) = hard_state.vote.filter(|candidate| vote != before && *candidate != node) else {
            return Ok(());
        };
        let (asked, theirs) = self.members[candidate.0 as usize].asked;
        let status = replica.raft().status();
        let (ours, log) = (status.last, logs.log(node));
        let index = log.last();
        let term = log.link(index).map_or(Term(0), |link| link.term);
        let unchanged = write.entries.is_empty() && ours == (Position { term, index: Index(index) });
        // Who had no vote when it heard of its leader remembers that one as if it had voted for it.
        let elected = status.leader == Some(candidate);
        if asked != hard_state.term || theirs >= ours || !unchanged || elected {
            return Ok(());
        }
        broken("up-to-date votes", || {
            format!(
                "n{node}, whose log ends with entry {}, votes in term {asked} for n{candidate}, whose log ends with \
                 entry {}",
                ours, theirs
            )
        })
    }
}
