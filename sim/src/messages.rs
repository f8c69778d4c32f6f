//! Messages between members, in a few numbers for the trace.

use quorate_raft::Body;
use quorate_replica::Message;

use crate::trace::MessageLine;

/// What a message says.
#[must_use]
pub fn line(message: &Message) -> MessageLine {
    let (kind, term, first, second) = match message {
        Message::Raft(message) => {
            let (kind, first, second) = raft(&message.body);
            (kind, message.term.0, first, second)
        }
        Message::Forward(proposals) => {
            let first = proposals.first().map_or(0, |proposal| proposal.0.id.sequence);
            ("Forward", 0, proposals.len() as u64, first)
        }
        Message::KeepAlive { id, lease } => ("KeepAlive", 0, id.sequence, lease.0 as u64),
        Message::KeptAlive { id, ttl } => ("KeptAlive", 0, id.sequence, *ttl as u64),
        Message::TimeToLive { id, lease, .. } => ("TimeToLive", 0, id.sequence, lease.0 as u64),
        Message::TimeToLiveReply { id, ttl, .. } => ("TimeToLiveReply", 0, id.sequence, *ttl as u64),
        Message::Chunk { term, chunk } => {
            ("Chunk", term.0, chunk.meta.position.index.0, u64::from(chunk.sequence))
        }
        Message::Disowned { boot } => ("Disowned", 0, boot.unwrap_or(0), 0),
        Message::ChunkUnknown { position, sequence } => {
            ("ChunkUnknown", 0, position.index.0, u64::from(*sequence))
        }
        Message::ChunkAck { position, sequence } => ("ChunkAck", 0, position.index.0, u64::from(*sequence)),
    };
    MessageLine { kind, term, first, second }
}

/// What kind of message it is.
#[must_use]
pub fn kind<C>(body: &Body<C>) -> &'static str {
    raft(body).0
}

fn raft<C>(body: &Body<C>) -> (&'static str, u64, u64) {
    match body {
        Body::PreVote { last, .. } => ("PreVote", last.index.0, last.term.0),
        Body::PreVoteReply { granted, .. } => ("PreVoteReply", u64::from(*granted), 0),
        Body::Vote { last, .. } => ("Vote", last.index.0, last.term.0),
        Body::VoteReply { granted } => ("VoteReply", u64::from(*granted), 0),
        Body::Append { previous, entries, commit, .. } => {
            ("Append", previous.index.0 + entries.len() as u64, commit.0)
        }
        Body::AppendAck { matched, round } => ("AppendAck", matched.0, *round),
        Body::AppendReject { rejected, hint, .. } => ("AppendReject", rejected.0, hint.index.0),
        Body::Heartbeat { commit, round } => ("Heartbeat", commit.0, *round),
        Body::HeartbeatAck { round, matched } => ("HeartbeatAck", matched.0, *round),
        Body::Outdated => ("Outdated", 0, 0),
        Body::ReadIndex { request } => ("ReadIndex", *request & 0xffff_ffff, 0),
        Body::ReadIndexReply { request, index } => ("ReadIndexReply", *request & 0xffff_ffff, index.0),
        Body::CampaignNow => ("CampaignNow", 0, 0),
    }
}
