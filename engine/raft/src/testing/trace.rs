//! How outputs read in a trace.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::{Entry, HardState, NodeId, Output, Payload, Write};

/// How an output reads in a trace.
pub(super) fn trace_line<C: fmt::Debug>(id: NodeId, output: &Output<C>) -> Option<String> {
    Some(match output {
        Output::Send { to, message } => format!("n{id}→n{to} {message}"),
        Output::Persist(write) => format!("n{id} writes {}", write_line(write)),
        Output::Committed(entries) => format!("n{id} applies {}", entry_lines(entries)),
        Output::ReadReady { id: read, index } => format!("n{id} may answer read {read} at {index}"),
        Output::ReadDropped { id: read } => format!("n{id} drops read {read}"),
        Output::Refused(command) => format!("n{id} refuses {command:?}"),
        Output::SnapshotNeeded { to } => format!("n{id} must send n{to} a snapshot"),
        Output::Restore(meta) => format!("n{id} restores the snapshot at {}", meta.position),
        Output::ChangeRefused { command, reason } => format!("n{id} refuses {command:?}: {reason}"),
        Output::ConfigurationChanged { configuration, .. } => format!("n{id} is in {configuration}"),
        Output::TransferEnded { to, ok } => {
            let to = to.map_or(String::from("nobody"), |to| format!("n{to}"));
            format!("n{id} has {}handed over to {to}", if *ok { "" } else { "not " })
        }
        Output::PeerLostLog { peer, had, has } => {
            format!("n{id} notices that n{peer}, which had acknowledged {had}, has at most {has}")
        }
        Output::RoleChanged => return None,
    })
}

fn write_line<C: fmt::Debug>(write: &Write<C>) -> String {
    let mut line = format!("#{}", write.id);
    if let Some(HardState { term, vote, commit }) = write.hard_state {
        let vote = vote.map_or(String::from("nobody"), |vote| format!("n{vote}"));
        line += &format!(" term={term} vote={vote} commit={commit}");
    }
    if !write.entries.is_empty() {
        line += &format!(" entries {}", entry_lines(&write.entries));
    }
    if !write.sync {
        line += " (unsynced)";
    }
    line
}

/// Entries with what they say: `3@1 noop, 4@1 "x"`.
pub fn entry_lines<C: fmt::Debug>(entries: &[Entry<C>]) -> String {
    let line = |entry: &Entry<C>| {
        let position = entry.position();
        match &entry.payload {
            Payload::Noop => format!("{position} noop"),
            Payload::Command(command) => format!("{position} {command:?}"),
            Payload::Membership(membership) => format!("{position} {}", membership.configuration),
        }
    };
    entries.iter().map(line).collect::<Vec<_>>().join(", ")
}
