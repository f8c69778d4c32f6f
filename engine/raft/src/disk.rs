//! What was handed to the disk, what is known to be there, and the messages that wait for it.
//!
//! - A turn makes at most one [`Write`]; ids are consecutive. Whatever changes during a turn is carried
//!   by the write with the id `next`.
//! - **No message leaves before the sender's current term and vote are durable.** So a vote or a
//!   candidacy cannot be forgotten once somebody knows of it, and no one ever hears of a term that its
//!   speaker could forget. Term and vote change only in elections: normally no message waits here.
//! - Messages of an older term die with it.
//!
//! That the *entries* of an acknowledgement are durable is not this file's business: an
//! acknowledgement is made from the log's `persisted` mark when it is sent.

use alloc::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::entry::Command;
use crate::io::{HardState, Output, Write};
use crate::log::Log;
use crate::message::Message;
use crate::types::{Instant, NodeId, WriteId};

/// Writes handed out and acknowledged, and messages held back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Disk<C> {
    /// The hard state as of the last write.
    written: HardState,
    /// When that was.
    written_at: Instant,
    /// The id of the next write.
    next: WriteId,
    /// Every write up to here is durable.
    persisted: WriteId,
    /// The write that carries the current term and vote.
    vote_write: WriteId,
    /// Messages that wait for `vote_write`, oldest first.
    held: VecDeque<(NodeId, Message<C>)>,
}

/// Most messages held; beyond, the oldest are forgotten, as if the network had lost them.
const HELD_MAX: usize = 1024;

impl<C: Command> Disk<C> {
    /// A disk that holds `hard_state`, and owes nothing.
    pub(crate) fn new(hard_state: HardState, now: Instant) -> Disk<C> {
        Disk {
            written: hard_state,
            written_at: now,
            next: WriteId(1),
            persisted: WriteId(0),
            vote_write: WriteId(0),
            held: VecDeque::new(),
        }
    }

    /// When the last write was made.
    pub(crate) fn written_at(&self) -> Instant {
        self.written_at
    }

    /// The write that will carry what changes now.
    pub(crate) fn next(&self) -> WriteId {
        self.next
    }

    /// The term has changed: the next write carries it, and messages of the old one are obsolete.
    pub(crate) fn on_term(&mut self) {
        self.held.clear();
        self.vote_write = self.next;
    }

    /// The vote has changed: the next write carries it.
    pub(crate) fn on_vote(&mut self) {
        self.vote_write = self.next;
    }

    /// Whether the current term and vote are durable.
    pub(crate) fn vote_is_durable(&self) -> bool {
        self.vote_write <= self.persisted
    }

    /// Sends a message now, or as soon as the current term and vote are durable.
    pub(crate) fn send(&mut self, to: NodeId, message: Message<C>, outputs: &mut VecDeque<Output<C>>) {
        if self.vote_is_durable() {
            outputs.push_back(Output::Send { to, message });
            return;
        }
        if self.held.len() == HELD_MAX {
            self.held.pop_front();
        }
        self.held.push_back((to, message));
    }

    /// Every write up to `write` is durable; sends what waited for it.
    pub(crate) fn on_persisted(&mut self, write: WriteId, outputs: &mut VecDeque<Output<C>>) {
        assert!(write < self.next, "only a write that was made can be durable");
        self.persisted = self.persisted.max(write);
        if self.vote_is_durable() {
            outputs.extend(self.held.drain(..).map(|(to, message)| Output::Send { to, message }));
        }
    }

    /// The write of this turn, if there is anything to write.
    ///
    /// The commit index rides on writes made for other reasons, because losing it costs nothing but
    /// a little time after a restart. Only when the disk is idle is it worth a write of its own.
    pub(crate) fn make_write(
        &mut self,
        now: Instant,
        hard_state: HardState,
        log: &mut Log<C>,
        idle: bool,
    ) -> Option<Write<C>> {
        let vote_changed = (hard_state.term, hard_state.vote) != (self.written.term, self.written.vote);
        assert!(!vote_changed || self.vote_write == self.next, "a new vote is carried by the next write");
        let sync = vote_changed || log.has_unwritten();
        let commit_changed = hard_state.commit != self.written.commit;
        let worth_it = sync || (idle && commit_changed);
        if !worth_it {
            return None;
        }
        let changed = vote_changed || commit_changed;
        self.written = hard_state;
        self.written_at = now;
        let id = self.next;
        self.next = id.next();
        Some(Write { id, hard_state: changed.then_some(hard_state), entries: log.take_unwritten(), sync })
    }
}
