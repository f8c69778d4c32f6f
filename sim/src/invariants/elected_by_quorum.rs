//! Who leads was elected: a quorum of its configuration has voted for it in its term (Raft §5.2). Seen from the votes
//! on the wire, so that a vote that was refused, was meant for another term, or was no vote (the answer to a
//! question before an election) is noticed at once and not only when there are two leaders.

use quorate_raft::NodeId;

use super::logs::{Logs, quorum};
use super::vote_once::VoteOnce;
use super::{Check, broken};

/// A member leads in this term.
pub fn on_leader(logs: &Logs, votes: &VoteOnce, node: NodeId, term: u64) -> Check {
    let configuration = logs.configuration(node, logs.log(node).last());
    let votes = |voter: NodeId| voter == node || votes.vote(voter, term) == Some(node);
    if quorum(configuration, votes) {
        return Ok(());
    }
    broken("elected by a quorum", || {
        let voters: Vec<String> =
            configuration.voters.iter().filter(|it| votes(**it)).map(|it| format!("n{it}")).collect();
        format!(
            "n{node} leads in term {term}, for which {} of {} voters have voted",
            voters.join(", "),
            configuration.voters.len()
        )
    })
}
