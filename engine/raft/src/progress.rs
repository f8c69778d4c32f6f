//! What a leader knows of one peer's log, and what to send it next.
//!
//! - *Probe*: it is not known where the logs agree, or whether the peer is there at all. One append at
//!   a time; the next only after an answer, or after a heartbeat's answer (the append may be lost).
//! - *Replicate*: the logs agree up to `matched`, and appends are sent one after the other without
//!   waiting, until the inflight window is full.
//! - *Snapshot*: the peer needs what the log no longer holds. Nothing is sent but heartbeats, until the
//!   peer acknowledges something that the log can continue.
//!
//! - *Lost*: the peer has lost what it had acknowledged. It gets nothing but heartbeats, and counts for nothing.
//!
//! But for that, `matched` never goes down and `matched < next`. Nothing is buffered: entries come from the log.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::mem;

use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::entry::Command;
use crate::log::Log;
use crate::message::Body;
use crate::raft::PeerState;
use crate::types::{Index, Instant, Position};

/// What a leader knows of one peer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// The peer's log equals ours up to here, durably.
    pub(crate) matched: Index,
    /// The first entry that was not sent yet (in `Probe`: whose predecessor is to be found).
    next: Index,
    flow: Flow,
    /// The commit index last sent with an append.
    commit_sent: Index,
    /// The newest read round last sent.
    pub(crate) round_sent: u64,
    /// The newest read round that the peer confirmed.
    pub(crate) round: u64,
    /// The newest read round sent when `matched` was last raised: appends of a later one were sent later.
    matched_round: u64,
    /// When the peer was last heard of as a follower of this term.
    pub(crate) contact: Instant,
    /// When an append was last sent.
    append_at: Instant,
    /// What there is to say is held back until then.
    pub(crate) held_until: Option<Instant>,
}

/// How entries flow to a peer.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Flow {
    Probe {
        /// An append is on its way; wait for an answer.
        sent: bool,
    },
    Replicate {
        /// The last index of each append with entries that is not acknowledged.
        inflight: VecDeque<Index>,
        /// A heartbeat's answer suggests that an append was lost: send an empty one, which a follower
        /// that misses something refuses.
        verify: bool,
    },
    Snapshot,
    Lost,
}

/// What a refusal says of the refuser's disk.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// Nothing.
    None,
    /// It refuses what it had acknowledged, or the refusal is older than the acknowledgement. An append with
    /// a read round that is new now will tell.
    Suspect,
    /// It had acknowledged this much, and its log does not go further than that.
    Lost { had: Index, has: Index },
}

/// Appends with entries that a follower has been sent and not acknowledged: one being synced and one waiting.
const APPENDS_UNDER_WAY: usize = 2;

/// More entries than this are worth an append of their own at once.
const HELD_ENTRIES_MAX: u64 = 512;

/// What a peer needs.
pub(crate) enum Need<C> {
    /// Send this append.
    Append(Body<C>),
    /// The log no longer holds what the peer needs.
    Snapshot,
}

impl Progress {
    /// A peer of which a new leader knows nothing: probably it has the same log.
    pub(crate) fn new(last: Index, now: Instant) -> Progress {
        Progress {
            matched: Index(0),
            next: last.next(),
            flow: Flow::Probe { sent: false },
            commit_sent: Index(0),
            round_sent: 0,
            round: 0,
            matched_round: 0,
            contact: now,
            append_at: now,
            held_until: None,
        }
    }

    /// How entries flow to it.
    pub(crate) fn state(&self) -> PeerState {
        match self.flow {
            Flow::Probe { .. } => PeerState::Probe,
            Flow::Replicate { .. } => PeerState::Replicate,
            Flow::Snapshot => PeerState::Snapshot,
            Flow::Lost => PeerState::Lost,
        }
    }

    /// What to do for the peer now, until `None`.
    pub(crate) fn next_need<C: Command>(
        &mut self,
        log: &Log<C>,
        config: &Config,
        round: u64,
        now: Instant,
    ) -> Option<Need<C>> {
        self.held_until = None;
        let has_room = match &self.flow {
            Flow::Probe { .. } => true,
            Flow::Replicate { inflight, .. } => inflight.len() < config.inflight_max,
            Flow::Snapshot | Flow::Lost => return None,
        };
        let has_news = self.next <= log.last().index || self.commit_sent < log.commit();
        let due = match &self.flow {
            Flow::Probe { sent } => !sent,
            // If the window is full, the peer is gone, or will hear the news when it acknowledges.
            Flow::Replicate { verify, .. } => *verify || (has_room && has_news),
            Flow::Snapshot | Flow::Lost => false,
        };
        if !due || self.holds_back(log, config, now) {
            return None;
        }
        self.append_at = now;
        let index = self.next.prev();
        let Some(term) = log.term_at(index) else {
            self.flow = Flow::Snapshot;
            return Some(Need::Snapshot);
        };
        let entries = if has_room { log.slice(self.next, config.append_bytes_max) } else { Vec::new() };
        match &mut self.flow {
            Flow::Probe { sent } => *sent = true,
            Flow::Replicate { inflight, verify } => {
                *verify = false;
                if let Some(entry) = entries.last() {
                    inflight.push_back(entry.index);
                    self.next = entry.index.next();
                }
            }
            Flow::Snapshot | Flow::Lost => {}
        }
        let commit = log.commit();
        self.commit_sent = commit;
        self.round_sent = round;
        Some(Need::Append(Body::Append { previous: Position { term, index }, entries, commit, round }))
    }

    /// Whether the next append had better wait until one of those under way is acknowledged.
    ///
    /// With two under way, the follower syncs one while the other is there already, so a third one would only wait
    /// there for its turn. Held back here it gathers what comes meanwhile: one message, one write and one sync instead
    /// of several, and nothing is later for it. The limit in time is for distances where a round trip is much
    /// longer than a sync.
    fn holds_back<C: Command>(&mut self, log: &Log<C>, config: &Config, now: Instant) -> bool {
        let Flow::Replicate { inflight, verify } = &self.flow else { return false };
        let until = self.append_at + config.append_hold;
        let many = log.last().index.0.saturating_sub(self.next.0) >= HELD_ENTRIES_MAX;
        // What did not fit into an append of this same turn follows it at once.
        let young = self.append_at < now && now < until;
        let holds = young && inflight.len() >= APPENDS_UNDER_WAY && !verify && !many;
        self.held_until = holds.then_some(until);
        holds
    }

    /// The peer's log equals ours up to `matched`, durably.
    pub(crate) fn on_ack<C: Command>(&mut self, matched: Index, log: &Log<C>) {
        let news = matched > self.matched;
        if news {
            self.matched = matched;
            self.matched_round = self.round_sent;
        }
        match &mut self.flow {
            Flow::Replicate { inflight, .. } => {
                while inflight.front().is_some_and(|&last| last <= self.matched) {
                    inflight.pop_front();
                }
                self.next = self.next.max(self.matched.next());
            }
            // An old acknowledgement, from before the probe, does not answer the probe.
            Flow::Probe { .. } if matched.next() >= self.next => self.replicate(),
            // Nor does one from before the snapshot say that the snapshot has arrived.
            Flow::Snapshot if news && self.matched >= log.start().index => self.replicate(),
            // It has arrived, but while it travelled the log's start has moved on.
            Flow::Snapshot if news => {
                self.next = self.matched.next();
                self.flow = Flow::Probe { sent: false };
            }
            Flow::Probe { .. } | Flow::Snapshot | Flow::Lost => {}
        }
    }

    /// The answer to a heartbeat: the peer is there, and claims this much of our log.
    pub(crate) fn on_heartbeat_ack<C: Command>(&mut self, matched: Index, log: &Log<C>) {
        self.on_ack(matched, log);
        match &mut self.flow {
            Flow::Probe { sent } => *sent = false,
            // Perhaps it is only slow; perhaps an append was lost; perhaps it has restarted.
            Flow::Replicate { verify, .. } => *verify = matched.next() < self.next,
            Flow::Snapshot | Flow::Lost => {}
        }
    }

    /// The peer's log does not contain our entry at `rejected`, and nothing of ours after `hint`.
    /// `round` is that of the refused append.
    pub(crate) fn on_reject<C: Command>(
        &mut self,
        rejected: Index,
        hint: Position,
        round: u64,
        log: &Log<C>,
    ) -> Doubt {
        if rejected <= self.matched {
            return self.on_contradiction(round, hint);
        }
        let stale = match self.flow {
            Flow::Replicate { .. } => false,
            Flow::Probe { .. } => rejected.next() != self.next,
            Flow::Snapshot | Flow::Lost => true,
        };
        if stale {
            return Doubt::None;
        }
        // Below the log's start nothing is known of our terms. The peer's hint decides: it may hold
        // everything up to the start even if what it has before was forgotten here.
        let common = log.common_at_most(hint).index.min(hint.index);
        self.next = common.max(self.matched).next().min(rejected);
        self.next = self.next.max(self.matched.next());
        self.flow = Flow::Probe { sent: false };
        Doubt::None
    }

    /// The peer refuses what it had acknowledged. Nearly always this is an old refusal, from before the
    /// acknowledgement; but not if the refused append was sent after it.
    fn on_contradiction(&mut self, round: u64, hint: Position) -> Doubt {
        if round > self.matched_round {
            let had = mem::take(&mut self.matched);
            self.round = 0;
            self.flow = Flow::Lost;
            return Doubt::Lost { had, has: hint.index.min(had) };
        }
        match &mut self.flow {
            Flow::Probe { sent } => *sent = false,
            Flow::Replicate { verify, .. } => *verify = true,
            Flow::Snapshot | Flow::Lost => return Doubt::None,
        }
        Doubt::Suspect
    }

    /// The stream of a snapshot ended without success: wait for a sign of life, then begin again.
    pub(crate) fn on_snapshot_failed(&mut self) {
        if matches!(self.flow, Flow::Snapshot) {
            self.flow = Flow::Probe { sent: true };
        }
    }

    /// The logs agree up to `matched`: send what follows.
    fn replicate(&mut self) {
        self.next = self.matched.next();
        self.flow = Flow::Replicate { inflight: VecDeque::new(), verify: false };
    }
}
