//! About how many bytes a command takes when it is encoded; what messages and queues are bounded by.

use alloc::string::String;

use quorate_store::{Branch, Command, Compare, CompareTarget, KeyRange, Operation, Put, RangeEnd};

use crate::io::SharedProposal;

/// Numbers, tags and lengths around the bytes of one command or one step of a transaction.
const OVERHEAD: usize = 48;

impl quorate_raft::Command for SharedProposal {
    fn size(&self) -> usize {
        OVERHEAD + command(&self.0.command)
    }
}

fn command(command: &Command) -> usize {
    match command {
        Command::Put(it) => put(it),
        Command::DeleteRange(it) => range(&it.range),
        Command::Txn(txn) => txn.branches.iter().map(branch).sum(),
        Command::MemberPublish { name, client_urls, .. } => name.len() + urls(client_urls),
        Command::MemberAdd { peer_urls, .. } | Command::MemberUpdate { peer_urls, .. } => urls(peer_urls),
        Command::MemberJoin { name, peer_urls, .. } => name.len() + urls(peer_urls),
        Command::Compact(_)
        | Command::MemberRemove { .. }
        | Command::MemberPromote { .. }
        | Command::MemberDemote { .. }
        | Command::MemberRefused { .. }
        | Command::LeaseGrant { .. }
        | Command::LeaseRevoke { .. }
        | Command::Alarm { .. } => 0,
    }
}

fn urls(urls: &[String]) -> usize {
    urls.iter().map(String::len).sum()
}

fn put(put: &Put) -> usize {
    put.key.len() + put.value.as_ref().map_or(0, |value| value.len())
}

fn range(range: &KeyRange) -> usize {
    let end = match &range.end {
        RangeEnd::Before(end) => end.len(),
        RangeEnd::Single | RangeEnd::Unbounded => 0,
    };
    range.start.len() + end
}

fn branch(branch: &Branch) -> usize {
    let compares = branch.compares.iter().map(compare).sum::<usize>();
    let operations = branch.success.iter().chain(&branch.failure);
    OVERHEAD + compares + operations.map(operation).sum::<usize>()
}

fn compare(compare: &Compare) -> usize {
    let target = match &compare.target {
        CompareTarget::Value(value) => value.len(),
        CompareTarget::Version(_)
        | CompareTarget::Create(_)
        | CompareTarget::Mod(_)
        | CompareTarget::Lease(_) => 0,
    };
    OVERHEAD + range(&compare.range) + target
}

fn operation(operation: &Operation) -> usize {
    OVERHEAD
        + match operation {
            Operation::Range(query) => range(&query.range),
            Operation::Put(it) => put(it),
            Operation::DeleteRange(it) => range(&it.range),
            Operation::Nested(_) => 0,
        }
}
