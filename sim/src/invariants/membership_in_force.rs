//! The configuration in force is the latest one in a member's log, committed or not; it changes when an entry is
//! appended, and changes back when that is truncated (Raft §6, thesis §4.1). What a snapshot has replaced counts as
//! part of the log.

use quorate_raft::{Configuration, NodeId};

use super::logs::Logs;
use super::{Check, broken};

/// A member takes this configuration for the one in force.
pub fn check(logs: &Logs, node: NodeId, taken: &Configuration) -> Check {
    let latest = logs.configuration(node, logs.log(node).last());
    if taken == latest {
        return Ok(());
    }
    broken("membership in force", || {
        format!("n{node} goes by {taken:?}, and the latest configuration in its log is {latest:?}")
    })
}
