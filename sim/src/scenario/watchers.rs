//! Watchers as scenarios say what they do.
//!
//! ```text
//! watcher N MEMBER: watch KEYS [from REVISION] [prev] [slowly]
//! watcher N MEMBER: resume        goes on at this member, where it was
//! watcher N progress              asks how far its stream is
//! watcher N stop
//! ```
//!
//! A watcher whose stream breaks opens another at the same member, where it was: what it is told must be whole
//! and in order across all its streams, which the checker judges in the end.

use std::fmt;

use quorate_jepsen::etcd::Keys;
use quorate_raft::NodeId;

use super::requests::{keys, keys_text};
use super::words::{Read, Words};

/// What a watcher does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatcherAction {
    /// It begins.
    Watch {
        /// At this member.
        member: NodeId,
        /// What it watches.
        keys: Keys,
        /// From this revision on; what comes next, if zero.
        from: i64,
        /// It wants the versions before.
        prev_kv: bool,
        /// It takes one event at a time.
        slowly: bool,
    },
    /// It goes on at this member.
    Resume(NodeId),
    /// It asks how far it is.
    Progress,
    /// It ends.
    Stop,
}

/// Reads what a watcher does, after its number.
pub fn read(words: &mut Words) -> Read<WatcherAction> {
    if words.take("stop") {
        return Ok(WatcherAction::Stop);
    }
    if words.take("progress") {
        return Ok(WatcherAction::Progress);
    }
    let wanted = "a member and a colon (such as \"n1:\"), progress or stop";
    let text = words.word(wanted)?;
    let member = text.strip_suffix(':').and_then(super::words::node);
    let Some(member) = member else { return Err(words.back().wrong(&format!("expected {wanted}"))) };
    if words.take("resume") {
        return Ok(WatcherAction::Resume(member));
    }
    words.expect("watch")?;
    let keys = keys(words)?;
    let (mut from, mut prev_kv, mut slowly) = (0, false, false);
    loop {
        if words.take("from") {
            from = words.number("a revision")?;
        } else if words.take("prev") {
            prev_kv = true;
        } else if words.take("slowly") {
            slowly = true;
        } else {
            return Ok(WatcherAction::Watch { member, keys, from, prev_kv, slowly });
        }
    }
}

impl fmt::Display for WatcherAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WatcherAction::Stop => f.write_str("stop"),
            WatcherAction::Progress => f.write_str("progress"),
            WatcherAction::Resume(member) => write!(f, "n{member}: resume"),
            WatcherAction::Watch { member, keys, from, prev_kv, slowly } => {
                write!(f, "n{member}: watch {}", keys_text(keys))?;
                if *from != 0 {
                    write!(f, " from {from}")?;
                }
                f.write_str(if *prev_kv { " prev" } else { "" })?;
                f.write_str(if *slowly { " slowly" } else { "" })
            }
        }
    }
}
