//! One member: a replica or the gap a crash has left, its clock, its disk, and who waits for its answers.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_raft::NodeId;
use quorate_replica::{Input, Replica, RequestId};
use quorate_store::WatchId;

use super::flight::Flight;
use super::storage::Storage;
use crate::env::clock::NodeClock;
use crate::env::wake::WakeUp;
use crate::time::Time;
use crate::trace::StatusLine;

/// One member.
#[derive(Debug)]
pub struct Member {
    /// Its id.
    pub id: NodeId,
    /// Whether it is part of the cluster.
    pub life: Life,
    /// The running replica; `None` while it is down.
    pub replica: Option<Replica>,
    /// What writes down what the replica is given.
    pub flight: Option<Flight>,
    /// How many times it has started. Events that belong to an earlier life are ignored.
    pub boot: u64,
    /// Its clock.
    pub clock: NodeClock,
    /// The rate of its clock when nobody meddles with it.
    pub clock_rate: u64,
    /// Its disk.
    pub storage: Storage,
    /// Whether it is stopped.
    pub paused: bool,
    /// How late it looks at what arrives, because its processor is busy.
    pub cpu_delay: Duration,
    /// What has arrived and was not looked at yet.
    pub inbox: Vec<Input>,
    /// Whether it is in the middle of a turn: what arrives now, it looks at right afterwards.
    pub in_turn: bool,
    /// Whether a turn is scheduled.
    pub turn_scheduled: bool,
    /// Its next wake-up.
    pub wake: WakeUp,
    /// Where it stood after the last event.
    pub status: StatusLine,
    /// The latest term in which it has committed something as the leader.
    pub committed_in: u64,
    /// The sequence number of its last request.
    sequence: u64,
    /// Who waits for which request.
    waiting: Vec<(u64, Asker)>,
    /// Who watches by which number.
    watching: BTreeMap<WatchId, Asker>,
    watches: u64,
}

/// Where a member is in its life: an id is used once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It may have been added; its directory has not joined yet.
    Expected,
    /// It has a directory, and runs or is down.
    Present,
    /// It was removed, or its disk is lost.
    Over,
}

/// A client's request, or a watcher's stream: who, and its how-manieth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// The client's or watcher's slot.
    pub slot: u32,
    /// Its how-manieth request or stream.
    pub serial: u64,
}

impl Member {
    /// A member that never ran.
    #[must_use]
    pub fn new(id: NodeId, storage: Storage, clock_rate: u64) -> Member {
        let mut clock = NodeClock::default();
        clock.set_rate(Time::ZERO, clock_rate);
        Member {
            id,
            life: Life::Present,
            replica: None,
            flight: None,
            boot: 0,
            clock,
            clock_rate,
            storage,
            paused: false,
            cpu_delay: Duration::ZERO,
            inbox: Vec::new(),
            in_turn: false,
            turn_scheduled: false,
            wake: WakeUp::default(),
            status: StatusLine::default(),
            committed_in: 0,
            sequence: 0,
            waiting: Vec::new(),
            watching: BTreeMap::new(),
            watches: 0,
        }
    }

    /// Whether it runs (it may be paused).
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.replica.is_some()
    }

    /// A client's request gets its number.
    pub fn admit(&mut self, asker: Asker) -> RequestId {
        self.sequence += 1;
        self.waiting.push((self.sequence, asker));
        RequestId { boot: self.boot, sequence: self.sequence }
    }

    /// Who waits for this answer; nobody does, once it is given.
    pub fn answered(&mut self, id: RequestId) -> Option<Asker> {
        let at = self.waiting.iter().position(|(sequence, _)| *sequence == id.sequence)?;
        Some(self.waiting.swap_remove(at).1)
    }

    /// The number of the request that somebody waits for, who does not any more.
    pub fn abandon(&mut self, asker: Asker) -> Option<RequestId> {
        let at = self.waiting.iter().position(|(_, other)| *other == asker)?;
        let (sequence, _) = self.waiting.swap_remove(at);
        Some(RequestId { boot: self.boot, sequence })
    }

    /// A watcher's stream gets its number.
    pub fn watch(&mut self, asker: Asker) -> WatchId {
        self.watches += 1;
        let id = WatchId(self.watches);
        self.watching.insert(id, asker);
        id
    }

    /// Whose stream this is.
    #[must_use]
    pub fn watcher(&self, id: WatchId) -> Option<Asker> {
        self.watching.get(&id).copied()
    }

    /// The number of somebody's stream, if it is open here.
    #[must_use]
    pub fn stream_of(&self, asker: Asker) -> Option<WatchId> {
        self.watching.iter().find(|(_, other)| **other == asker).map(|(id, _)| *id)
    }

    /// Every open stream.
    #[must_use]
    pub fn streams(&self) -> Vec<(WatchId, Asker)> {
        self.watching.iter().map(|(id, asker)| (*id, *asker)).collect()
    }

    /// A stream is closed.
    pub fn unwatch(&mut self, id: WatchId) {
        self.watching.remove(&id);
    }

    /// Every open stream ends.
    pub fn drop_watchers(&mut self) -> Vec<Asker> {
        std::mem::take(&mut self.watching).into_values().collect()
    }

    /// The power fails: all but the disk and the clock is gone.
    pub fn forget(&mut self) {
        self.replica = None;
        self.inbox.clear();
        self.turn_scheduled = false;
        self.wake.forget();
        self.status = StatusLine::default();
        self.sequence = 0;
        self.waiting.clear();
    }
}
