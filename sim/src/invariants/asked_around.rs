//! With pre-vote, whoever asks for votes has asked around before and was encouraged by a quorum, in answer to this
//! very question (thesis §9.6; raft-rs issues 83 and 84: answers to older questions were counted), unless a leader
//! wants it so. Otherwise one member with a bad link deposes leaders for ever.

use quorate_raft::{Body, Message, NodeId};
use quorate_replica::SharedProposal;

use super::logs::{Logs, quorum};
use super::{Check, broken};
use crate::env::network::MEMBERS_MAX;
use crate::fault_budget::NodeSet;

/// The latest question of each member, and who has encouraged it.
#[derive(Debug, Default)]
pub struct AskedAround {
    on: bool,
    latest: [(u64, NodeSet); MEMBERS_MAX],
}

impl AskedAround {
    /// Nobody has asked yet. `on` says whether members ask around at all.
    pub fn new(on: bool) -> AskedAround {
        AskedAround { on, ..AskedAround::default() }
    }

    /// A member asks around, or asks for votes.
    pub fn on_send(&mut self, logs: &Logs, from: NodeId, message: &Message<SharedProposal>) -> Check {
        let latest = &mut self.latest[from.0 as usize];
        match message.body {
            Body::PreVote { campaign, .. } if latest.0 != campaign => {
                *latest = (campaign, NodeSet::default())
            }
            Body::Vote { transfer: false, .. } if self.on => {
                let encouraged = |id: NodeId| id == from || latest.1.members().any(|it| it == id);
                // Votes are asked for when that is durable; its log may have moved on meanwhile.
                let last = logs.log(from).last();
                let mut possible =
                    std::iter::once(logs.configuration(from, 0)).chain(logs.in_force(from, 1..=last));
                if !possible.any(|configuration| quorum(configuration, encouraged)) {
                    return broken("asked around", || {
                        format!(
                            "n{from} asks for votes in term {} and only {} encouraged it",
                            message.term, latest.1
                        )
                    });
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// An answer arrives.
    pub fn on_deliver(&mut self, from: NodeId, to: NodeId, message: &Message<SharedProposal>) {
        let Body::PreVoteReply { campaign, granted: true } = message.body else { return };
        let latest = &mut self.latest[to.0 as usize];
        if latest.0 == campaign {
            latest.1.0 |= NodeSet::of(&[from]).0;
        }
    }
}
