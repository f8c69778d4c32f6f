//! Among members of good faith, nothing that is kept for those of bad faith is ever needed.
//!
//! A member checks what its peers and its log hold, because disks and programs fail, and counts how often that was
//! needed. In a simulated cluster every member runs the same program on a disk that keeps what it promised:
//!
//! - the table of members never has to be made to agree with Raft's configuration (etcd keeps both, and they came
//!   apart: issues 15096 and 14571's class);
//! - no snapshot that a leader sends is found to be damaged (etcd issue 20271);
//! - a member that has applied its own removal says so in the same turn (etcd: a removed member ends).

use quorate_raft::NodeId;
use quorate_replica::Replica;

use super::{Check, broken};

/// A member has had its turn, and has applied something.
pub fn after_turn(node: NodeId, replica: &Replica) -> Check {
    let status = replica.status();
    if status.members_corrected > 0 {
        return broken("members as configured", || {
            format!("n{node} had to correct its table of members {} times", status.members_corrected)
        });
    }
    if status.snapshots_refused > 0 {
        return broken("whole snapshots", || format!("n{node} was sent a snapshot that is none"));
    }
    if replica.store().members().is_removed(node.0) && !status.removed {
        return broken("removed members end", || format!("n{node} has applied its removal and goes on"));
    }
    Ok(())
}
