//! What members say to each other.

use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::entry::{Entry, Payload};
use crate::types::{Index, Position, Term};

/// A message between two Rafts: the sender's term, and what it says.
///
/// Messages may be lost, delayed, duplicated and reordered; a receiver must survive any of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message<C> {
    /// The sender's current term (in a `PreVote`, the term it would campaign in).
    ///
    /// A receiver in an older term moves to it, except where a variant says otherwise; a receiver in
    /// a newer term takes no notice of the message, and tells leaders and candidates why.
    pub term: Term,
    /// What it says.
    pub body: Body<C>,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body<C> {
    /// A member whose election timeout ran out asks every voter whether it could win an election.
    /// Nobody's term, vote or timer changes by it, so a member that keeps asking disturbs no one.
    PreVote {
        /// Drawn at random for this round of asking; the answer carries it back.
        campaign: u64,
        /// The asker's last entry.
        last: Position,
    },
    /// The answer to `PreVote`. A grant counts only in the campaign it names: an answer that was
    /// delayed past the end of a campaign says nothing about the present.
    PreVoteReply {
        /// The campaign that was asked for.
        campaign: u64,
        /// Whether the answerer would vote for the asker.
        granted: bool,
    },
    /// A candidate asks every voter for its vote (Raft §5.2). Sent only when the candidate's own
    /// vote, and with it the term, is durable.
    ///
    /// A receiver that hears from a live leader ignores it and keeps its term, unless that leader wants it so.
    Vote {
        /// The candidate's last entry.
        last: Position,
        /// The leader itself has asked for this election, by `CampaignNow`.
        transfer: bool,
    },
    /// The answer to `Vote`, sent only when the vote is durable.
    VoteReply {
        /// Whether the candidate got the vote.
        granted: bool,
    },
    /// The leader replicates entries, tells of new commits, or (without entries) probes whether the
    /// follower's log contains `previous` (Raft §5.3).
    ///
    /// Answered by `AppendReject` at once, or by `AppendAck` as soon as the entries are durable. One
    /// that neither brings entries nor teaches the follower anything is not answered.
    Append {
        /// The entry before the first one here.
        previous: Position,
        /// Consecutive entries, possibly none.
        entries: Vec<Entry<C>>,
        /// The leader's commit index; holds for the follower up to the last entry of this message.
        commit: Index,
        /// The leader's newest read round. A newer one than before is confirmed at once.
        round: u64,
    },
    /// A follower's log equals the leader's up to `matched`, durably. One may answer many appends.
    AppendAck {
        /// Everything up to here equals the leader's log and is on the follower's disk.
        matched: Index,
        /// The newest read round seen: the follower still followed when that round had begun.
        round: u64,
    },
    /// A follower's log does not contain the `previous` of an append.
    AppendReject {
        /// The `previous.index` that was refused.
        rejected: Index,
        /// The last entry of the follower's log that may be in the leader's log as well.
        hint: Position,
        /// The read round of the refused append: a follower that lags confirms leadership all the same.
        round: u64,
    },
    /// The leader is alive. Sent to every peer at each heartbeat interval, and in between when a read
    /// waits for confirmation and no append is due.
    Heartbeat {
        /// The leader's commit index, or what the follower is known to hold if that is less.
        commit: Index,
        /// The leader's newest read round.
        round: u64,
    },
    /// The receiver of a heartbeat follows this leader. What it says of the log lets the leader
    /// notice that an append, or its acknowledgement, was lost.
    HeartbeatAck {
        /// As in `AppendAck`.
        matched: Index,
        /// The read round of the heartbeat.
        round: u64,
    },
    /// The answer to a leader of an older term: there is a newer term, the one of this message. A
    /// member can be stuck in a newer term than a working leader's (it voted for a candidate that
    /// lost); the leader must then step down, so that an election includes that member again.
    Outdated,
    /// A follower asks its leader for a read index; again at every heartbeat interval while the
    /// answer is outstanding.
    ReadIndex {
        /// Ascending per follower; begins at a random number, so that an answer to a follower's
        /// previous incarnation is no answer.
        request: u64,
    },
    /// The leader's answer, after a quorum confirmed that it leads: serves every read that the
    /// follower had when it sent this request or an earlier one.
    ReadIndexReply {
        /// The follower's number.
        request: u64,
        /// The read index.
        index: Index,
    },
    /// A leader that hands over asks the voter that shall lead, whose log is as long as its own, to
    /// stand for election at once and without asking around (thesis §3.10).
    CampaignNow,
}

/// No term, index or counter of an honest peer comes near this, so that their successors always exist.
const NUMBER_MAX: u64 = u64::MAX / 2;

impl<C> Message<C> {
    /// Whether an honest peer could have said this. What fails here is ignored: nothing that a peer
    /// sends may make an assertion fail.
    pub(crate) fn is_sound(&self) -> bool {
        let positions = match &self.body {
            Body::PreVote { last, .. } | Body::Vote { last, .. } => [*last, Position::default()],
            Body::Append { previous, entries, commit, .. } => {
                let mut before = *previous;
                for entry in entries {
                    if entry.index.0 != before.index.0.wrapping_add(1) || entry.term < before.term {
                        return false;
                    }
                    if let Payload::Membership(membership) = &entry.payload
                        && !membership.configuration.is_sound()
                    {
                        return false;
                    }
                    before = entry.position();
                }
                [before, Position { term: Term(0), index: *commit }]
            }
            Body::AppendReject { rejected, hint, .. } => {
                [*hint, Position { term: Term(0), index: *rejected }]
            }
            _ => [Position::default(); 2],
        };
        self.term.0 < NUMBER_MAX && positions.iter().all(|at| at.term <= self.term && at.index.0 < NUMBER_MAX)
    }
}

impl<C> fmt::Display for Message<C> {
    /// One line that shows everything but the commands: `Append@3 after 11@2 entries 12@3..13@3 commit=11`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let term = self.term;
        match &self.body {
            // The campaign's random number would only make the line hard to read.
            Body::PreVote { last, .. } => write!(f, "PreVote@{term} last={last}"),
            Body::PreVoteReply { granted, .. } => write!(f, "PreVoteReply@{term} {}", grant(*granted)),
            Body::Vote { last, transfer } => {
                write!(f, "Vote@{term} last={last}{}", if *transfer { " transfer" } else { "" })
            }
            Body::VoteReply { granted } => write!(f, "VoteReply@{term} {}", grant(*granted)),
            Body::Append { previous, entries, commit, round } => {
                write!(f, "Append@{term} after {previous}")?;
                match (entries.first(), entries.last()) {
                    (Some(first), Some(last)) if entries.len() > 1 => {
                        write!(f, " entries {}..{}", first.position(), last.position())?;
                    }
                    (Some(only), _) => write!(f, " entry {}", only.position())?,
                    (None, _) => f.write_str(" no entries")?,
                }
                write!(f, " commit={commit}{}", Round(*round))
            }
            Body::AppendAck { matched, round } => {
                write!(f, "AppendAck@{term} matched={matched}{}", Round(*round))
            }
            Body::AppendReject { rejected, hint, round } => {
                write!(f, "AppendReject@{term} rejected={rejected} hint={hint}{}", Round(*round))
            }
            Body::Heartbeat { commit, round } => {
                write!(f, "Heartbeat@{term} commit={commit}{}", Round(*round))
            }
            Body::HeartbeatAck { matched, round } => {
                write!(f, "HeartbeatAck@{term} matched={matched}{}", Round(*round))
            }
            Body::Outdated => write!(f, "Outdated@{term}"),
            Body::ReadIndex { .. } => write!(f, "ReadIndex@{term}"),
            Body::ReadIndexReply { index, .. } => write!(f, "ReadIndexReply@{term} index={index}"),
            Body::CampaignNow => write!(f, "CampaignNow@{term}"),
        }
    }
}

/// How a vote reads.
fn grant(granted: bool) -> &'static str {
    if granted { "granted" } else { "refused" }
}

/// A read round, shown only once there has been one.
struct Round(u64);

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { Ok(()) } else { write!(f, " round={}", self.0) }
    }
}
