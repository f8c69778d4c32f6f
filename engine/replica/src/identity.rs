//! Whether this member may still be what it says it is.
//!
//! A member is one data directory (`quorate_store::Member`). It ends when it has been *removed*; and when its
//! directory turns out to be an *older copy* of itself, restored from a backup: what it has promised since the copy was
//! made (votes, entries that it acknowledged) it does not know, and could break. Three things give a copy away:
//!
//! - **Its boot number.** Every start raises it, durably, and publishes the member, so the log and with it the table
//!   of sessions know the latest one. A member that applies a command of its own from a later boot than its
//!   own, or is told of one, runs on a copy.
//! - **Its log**, if the leader it had acknowledged entries to still leads and finds them missing
//!   ([`quorate_raft::Output::PeerLostLog`]).
//!
//! Old messages can arrive late, so being told of a boot is believed only if it is later than the present one.
//!
//! A member that knows it falls silent in the same turn: what it wanted to say in that turn is not said.

use alloc::vec::Vec;

use quorate_raft::NodeId;

use crate::io::{Error, Output, RequestId};
use crate::peer::Message;
use crate::replica::Replica;

/// What this member learns of itself.
impl Replica {
    /// A command has come out of the log.
    pub(crate) fn note_own_boot(&mut self, origin: NodeId, id: RequestId) {
        self.disowned |= origin == self.config.raft.id && id.boot > self.boot;
    }

    /// A peer says that this member runs on an older copy of its directory.
    pub(crate) fn on_disowned(&mut self, boot: Option<u64>) {
        self.disowned |= boot.is_none_or(|boot| boot > self.boot);
    }

    /// Says at the end of a turn that this member has been removed. It goes on as Raft wants it to until it is ended:
    /// others may still have to hear of it from here.
    pub(crate) fn maybe_end_removed(&mut self) {
        if !self.removed && self.store.members().is_removed(self.config.raft.id.0) {
            self.removed = true;
            self.changed = true;
            self.stop_serving();
            self.outputs.push_back(Output::Removed);
        }
    }

    /// Falls silent: of what was to be done in this turn only clients are told, who have been waiting.
    pub(crate) fn end_disowned(&mut self) {
        self.outputs.retain(|output| matches!(output, Output::Respond { .. }));
        self.stop_serving();
        self.outputs.push_back(Output::Disowned);
    }

    fn stop_serving(&mut self) {
        let ids: Vec<RequestId> = self.pending.iter().map(|waiting| waiting.id).collect();
        for id in ids {
            self.pending.remove(id);
            self.respond(id, Err(Error::Stopped));
        }
    }
}

/// What it tells others.
impl Replica {
    /// A command comes from an earlier boot of its origin than the latest one: an old message, or an old copy.
    pub(crate) fn tell_if_old(&mut self, origin: NodeId, id: RequestId) {
        let boot = self.sessions.boot(origin);
        if id.boot < boot {
            self.send(origin, Message::Disowned { boot: Some(boot) });
        }
    }

    /// A peer that has lost what it had acknowledged is told whenever it says something, for messages get lost.
    pub(crate) fn tell_if_lost(&mut self, peer: NodeId) {
        if self.membership.lost.contains(&peer) {
            self.send(peer, Message::Disowned { boot: None });
        }
    }

    /// Raft has found out that a peer has lost what it had acknowledged.
    pub(crate) fn on_peer_lost_log(&mut self, peer: NodeId) {
        self.membership.lost.insert(peer);
        self.tell_if_lost(peer);
    }
}
