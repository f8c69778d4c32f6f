//! A lease whose time is up is revoked by whoever leads, in its own term: the revocation goes into its own log, and no other
//! member is asked to put it into theirs.
//!
//! A leader that was deposed without noticing finds that leases are over which its successor has renewed since. What it puts
//! into its own log nobody commits. What it sends to others, who do lead, looks like a request. (etcd issues 12528 and
//! 15247: a stuck leader went on revoking.)

use quorate_raft::NodeId;
use quorate_replica::{Message, SharedProposal};
use quorate_store::Command;

use super::{Check, broken};

/// A member says this to another one.
pub fn on_send(from: NodeId, to: NodeId, message: &Message) -> Check {
    let Message::Forward(proposals) = message else { return Ok(()) };
    let own = |SharedProposal(proposal): &&SharedProposal| {
        proposal.id.is_own() && matches!(proposal.command, Command::LeaseRevoke { .. })
    };
    match proposals.iter().find(own) {
        None => Ok(()),
        Some(SharedProposal(proposal)) => broken("own revocations", || {
            format!("n{from} asks n{to} for {:?}, which no client has asked for", proposal.command)
        }),
    }
}
