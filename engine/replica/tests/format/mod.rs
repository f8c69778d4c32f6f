//! One line for everything that a script shows.

use std::sync::Arc;

use quorate_raft::{Index, NodeId, Payload, Position, SnapshotMeta};
use quorate_replica::{Body, ChunkBody, Message, Replica, Response, SharedProposal, SnapshotChunk, Write};
use quorate_store::{Command, EventKind, KeyValue, Member, RangeResponse, WatchUpdate};

use crate::cluster::Event;

pub fn event(member: NodeId, event: &Event) -> String {
    match event {
        Event::Respond(id, Ok(Response { revision, body, .. })) => {
            format!("n{member} answers {id} (rev {revision}): {}", self::body(body))
        }
        Event::Respond(id, Err(error)) => format!("n{member} refuses {id}: {error}"),
        Event::Watch(watch, update) => {
            format!("n{member} tells watcher {}: {}", watch.0, self::update(update))
        }
        Event::Removed => format!("n{member} is removed"),
        Event::Disowned => format!("n{member} is disowned"),
        Event::Changed(status) => {
            let leader = status.raft.leader.map_or("nobody".into(), |leader| format!("n{leader}"));
            format!("n{member} is {} in term {}, led by {leader}", status.raft.role, status.raft.term)
        }
    }
}

fn body(body: &Body) -> String {
    match body {
        Body::Store(response) => store_response(response),
        Body::KeptAlive { id, ttl } => format!("lease {id} kept alive, ttl={ttl}"),
        Body::TimeToLive { id, ttl, granted_ttl, keys } => {
            format!("lease {id} ttl={ttl} granted={granted_ttl} keys={keys:?}")
        }
        Body::LeaderMoved { leader } => format!("n{leader} leads"),
        Body::Status(status) => status.to_string(),
    }
}

pub fn store_response(response: &quorate_store::Response) -> String {
    use quorate_store::Response as R;
    match response {
        R::Put { .. } => "put".into(),
        R::Range(RangeResponse { kvs, .. }) if kvs.is_empty() => "nothing".into(),
        R::Range(RangeResponse { kvs, .. }) => {
            kvs.iter().map(|kv| key_value(kv)).collect::<Vec<_>>().join(" ")
        }
        R::DeleteRange { deleted, .. } => format!("deleted {deleted}"),
        R::Done => "done".into(),
        R::Members(members) => members_line(members),
        R::Joined { id } => format!("joined as n{id}"),
        R::LeaseGranted { id, ttl } => format!("lease {id} granted, ttl={ttl}"),
        other => format!("{other:?}"),
    }
}

/// Who is a member: `n1 n2 n3 (learner)`.
fn members_line(members: &[Member]) -> String {
    let member =
        |member: &Member| format!("n{}{}", member.id, if member.learner { " (learner)" } else { "" });
    members.iter().map(member).collect::<Vec<_>>().join(", ")
}

fn key_value(kv: &KeyValue) -> String {
    let value = match kv.value.len() {
        0..=32 => kv.value.escape_ascii().to_string(),
        long => format!("({long} bytes)"),
    };
    format!("{}={value}@{}", kv.key.escape_ascii(), kv.mod_revision)
}

fn update(update: &WatchUpdate) -> String {
    match update {
        WatchUpdate::Created { revision } => format!("created at {revision}"),
        WatchUpdate::Events { revision, events } => {
            let events = events.iter().map(|event| match &event.kind {
                EventKind::Put(kv) => format!("put {}", key_value(kv)),
                EventKind::Delete { key, revision } => format!("delete {}@{revision}", key.escape_ascii()),
            });
            format!("{} (rev {revision})", events.collect::<Vec<_>>().join(", "))
        }
        WatchUpdate::Progress { revision } => format!("complete up to {revision}"),
        WatchUpdate::Compacted { compact_revision, revision } => {
            format!("compacted up to {compact_revision} (rev {revision})")
        }
    }
}

pub fn message(message: &Message) -> String {
    match message {
        Message::Raft(message) => message.to_string(),
        Message::Forward(proposals) => {
            let proposals = proposals.iter().map(proposal).collect::<Vec<_>>();
            format!("forward [{}]", proposals.join(", "))
        }
        Message::KeepAlive { id, lease } => format!("keep alive lease {lease} for {id}"),
        Message::KeptAlive { id, ttl } => format!("kept alive for {id}, ttl={ttl}"),
        Message::TimeToLive { id, lease, .. } => format!("time to live of lease {lease} for {id}"),
        Message::TimeToLiveReply { id, ttl, .. } => format!("time to live for {id}, ttl={ttl}"),
        Message::Chunk { term, chunk } => format!("term {term} {}", self::chunk(chunk)),
        Message::Disowned { boot: Some(boot) } => {
            format!("has seen a later copy of it start for the {boot}th time")
        }
        Message::Disowned { boot: None } => "its log has lost what it had acknowledged".into(),
        Message::ChunkUnknown { position, sequence } => {
            format!("cannot take chunk {sequence} of snapshot {position}")
        }
        Message::ChunkAck { position, sequence } => format!("has chunk {sequence} of snapshot {position}"),
    }
}

fn proposal(proposal: &SharedProposal) -> String {
    let origin = proposal.0.origin;
    let command = match &proposal.0.command {
        Command::Put(put) => {
            let value = put.value.as_ref().map_or(String::new(), |value| value.escape_ascii().to_string());
            format!("put {}={value}", put.key.escape_ascii())
        }
        Command::LeaseRevoke { id } => format!("revoke {id}"),
        other => format!("{other:?}"),
    };
    format!("n{origin}:{} {command}", proposal.0.id)
}

pub fn write(write: &Write) -> String {
    let entries = write.entries.iter().map(|entry| match &entry.payload {
        Payload::Noop => format!("{} noop", entry.position()),
        Payload::Command(command) => format!("{} {}", entry.position(), proposal(command)),
        Payload::Membership(_) => format!("{} membership", entry.position()),
    });
    entries.collect::<Vec<_>>().join(", ")
}

pub fn chunk(chunk: &SnapshotChunk) -> String {
    let body = match &chunk.body {
        ChunkBody::Store(_) => "store",
        ChunkBody::Sessions(_) => "sessions",
    };
    let last = if chunk.last { ", the last" } else { "" };
    format!("chunk {} of snapshot {} ({body}{last})", chunk.sequence, chunk.meta.position)
}

/// A chunk that claims to be a whole snapshot, far ahead of everything, but has no store in it.
pub fn damaged_snapshot(leader: &Replica) -> Message {
    let term = leader.status().raft.term;
    let position = Position { term, index: Index(1_000) };
    let meta = SnapshotMeta { position, configuration: leader.raft().configuration().clone() };
    let body = ChunkBody::Sessions(Vec::new());
    Message::Chunk { term, chunk: Arc::new(SnapshotChunk { meta, sequence: 0, last: true, body }) }
}
