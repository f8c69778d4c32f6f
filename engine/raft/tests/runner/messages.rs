//! Messages that nobody sent.

use quorate_raft::{Body, Entry, Index, Message, Payload, Term};

use super::commands::{At, Command, Text};

/// The message that a script describes, to a receiver in this term.
pub fn hand_made(command: &Command, receiver: Term) -> Result<Message<Text>, String> {
    let Command::Message { kind, term, at: At(at), entries, index, number, yes, .. } = command else {
        unreachable!("called for messages")
    };
    let (at, index, number, yes) = (*at, Index(*index), *number, *yes);
    let body = match kind.as_str() {
        "PreVote" => Body::PreVote { campaign: number, last: at },
        "PreVoteReply" => Body::PreVoteReply { campaign: number, granted: yes },
        "Vote" => Body::Vote { last: at, transfer: yes },
        "VoteReply" => Body::VoteReply { granted: yes },
        "Append" => {
            let entries = parse_entries(entries.as_deref().unwrap_or_default())?;
            Body::Append { previous: at, entries, commit: index, round: number }
        }
        "AppendAck" => Body::AppendAck { matched: index, round: number },
        "AppendReject" => Body::AppendReject { rejected: index, hint: at, round: number },
        "Heartbeat" => Body::Heartbeat { commit: index, round: number },
        "HeartbeatAck" => Body::HeartbeatAck { matched: index, round: number },
        "Outdated" => Body::Outdated,
        "ReadIndex" => Body::ReadIndex { request: number },
        "ReadIndexReply" => Body::ReadIndexReply { request: number, index },
        "CampaignNow" => Body::CampaignNow,
        other => return Err(format!("no message is called {other}")),
    };
    Ok(Message { term: term.map_or(receiver, Term), body })
}

fn parse_entries(text: &str) -> Result<Vec<Entry<Text>>, String> {
    let entry = |text: &str| {
        let At(at) = text.parse()?;
        Ok(Entry { term: at.term, index: at.index, payload: Payload::Command(Text("forged".into())) })
    };
    text.split('/').filter(|text| !text.is_empty()).map(entry).collect()
}
