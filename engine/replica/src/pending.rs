//! The requests that this member owes an answer.
//!
//! Ids ascend, and every request may wait equally long, so one queue in the order of ids is at the same
//! time the index and the timeout queue: a request's place is its sequence minus that of the oldest
//! one, and the oldest one is always the first to time out. Slots point into a slab, so that a slot
//! whose request has been answered costs four bytes until its elders are answered too. Everything is
//! O(1) and, once the slab has grown, nothing allocates.
//!
//! The ids in the table never span more than `SESSION_WINDOW`: see `sessions.rs` for what hangs on it.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use quorate_raft::{Command as _, Instant, NodeId, Term};
use quorate_store::{LeaseId, Query};
use serde::{Deserialize, Serialize};

use crate::io::{RequestId, SharedProposal};
use crate::limits::{PENDING_BYTES_MAX, PENDING_MAX, PENDING_RESERVED, RESEND_DOUBLINGS_MAX, SESSION_WINDOW};

/// A request that waits for its answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Waiting {
    /// Its id.
    pub(crate) id: RequestId,
    /// When it is given up.
    pub(crate) deadline: Instant,
    /// How often leadership had changed when it came.
    pub(crate) epoch: u64,
    /// When and to whom it was last sent; `None` means that nobody but this member knows of it.
    pub(crate) sent: Option<Sent>,
    /// What is asked.
    pub(crate) ask: Ask,
}

/// What a request waits for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// Its own apply.
    Command(SharedProposal),
    /// A read index, and to have applied everything up to it.
    Query(Query),
    /// The leader's word that the lease lives on.
    KeepAlive(LeaseId),
    /// The leader's word on how long the lease lives.
    TimeToLive { lease: LeaseId, keys: bool },
    /// Another leader.
    MoveLeader { to: Option<NodeId> },
}

/// To whom a request was sent, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sent {
    pub(crate) route: Route,
    pub(crate) at: Instant,
    /// How often so far, all routes counted.
    pub(crate) times: u8,
}

/// Whom requests go to: the leader of a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Route {
    pub(crate) term: Term,
    pub(crate) leader: NodeId,
}

impl Sent {
    /// A sending that follows the one before, if any.
    pub(crate) fn again(before: Option<Sent>, route: Route, at: Instant) -> Sent {
        Sent { route, at, times: before.map_or(0, |sent| sent.times).saturating_add(1) }
    }

    /// When it is to be repeated, unless there is an answer: after `patience`, then twice that, and so on.
    pub(crate) fn due(self, patience: Duration) -> Instant {
        let doublings = (self.times - 1).min(RESEND_DOUBLINGS_MAX);
        self.at + patience * (1 << doublings)
    }
}

impl Waiting {
    /// Notes that the request is on its way.
    pub(crate) fn mark_sent(&mut self, route: Route, at: Instant) -> Sent {
        *self.sent.insert(Sent::again(self.sent, route, at))
    }
}

/// How a newcomer is to be treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Priority {
    /// Keep-alives and revocations, which may use the reserve.
    Lease,
    /// Everything else.
    Normal,
}

/// The table of requests that wait.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Pending {
    boot: u64,
    /// The sequence of `slots[0]`.
    first: u64,
    /// Places in the slab; the first one is never `ANSWERED`.
    slots: VecDeque<u32>,
    slab: Vec<Option<Waiting>>,
    free: Vec<u32>,
    /// Sum of the commands' sizes.
    bytes: usize,
}

/// A slot whose request waits no more.
const ANSWERED: u32 = u32::MAX;

impl Pending {
    pub(crate) fn new(boot: u64) -> Pending {
        Pending { boot, ..Pending::default() }
    }

    /// Whether a request with this id, above all before, may wait too.
    pub(crate) fn has_room(&self, id: RequestId, priority: Priority) -> bool {
        let reserved = match priority {
            Priority::Lease => 0,
            Priority::Normal => PENDING_RESERVED,
        };
        let spans = self.slots.is_empty() || id.sequence - self.first < SESSION_WINDOW;
        spans && self.len() < PENDING_MAX - reserved && self.bytes < PENDING_BYTES_MAX
    }

    /// Adds a request for which there is room.
    pub(crate) fn insert(&mut self, waiting: Waiting) {
        assert_eq!(waiting.id.boot, self.boot, "requests belong to this boot");
        if self.slots.is_empty() {
            self.first = waiting.id.sequence;
        }
        let offset = usize::try_from(waiting.id.sequence - self.first).expect("the window fits a usize");
        assert!(offset >= self.slots.len(), "ids ascend");
        // Ids in between were answered at once, or refused.
        self.slots.resize(offset, ANSWERED);
        self.bytes += waiting.ask.bytes();
        let place = self.free.pop().unwrap_or_else(|| {
            self.slab.push(None);
            u32::try_from(self.slab.len() - 1).expect("the slab is bounded by PENDING_MAX")
        });
        self.slab[place as usize] = Some(waiting);
        self.slots.push_back(place);
    }

    /// The request with this id, if it waits.
    pub(crate) fn get(&self, id: RequestId) -> Option<&Waiting> {
        let place = self.slots[self.offset(id)?];
        self.slab.get(place as usize)?.as_ref()
    }

    /// The request with this id, if it waits.
    pub(crate) fn get_mut(&mut self, id: RequestId) -> Option<&mut Waiting> {
        let place = self.slots[self.offset(id)?];
        self.slab.get_mut(place as usize)?.as_mut()
    }

    /// Takes the request with this id out, if it waits: it is answered, or nobody wants the answer.
    pub(crate) fn remove(&mut self, id: RequestId) -> Option<Waiting> {
        let offset = self.offset(id)?;
        let place = core::mem::replace(&mut self.slots[offset], ANSWERED);
        if place == ANSWERED {
            return None;
        }
        let waiting = self.slab[place as usize].take().expect("a slot points at a request");
        self.free.push(place);
        self.bytes -= waiting.ask.bytes();
        while self.slots.front() == Some(&ANSWERED) {
            self.slots.pop_front();
            self.first += 1;
        }
        Some(waiting)
    }

    /// The request that has waited longest; no other times out before it.
    pub(crate) fn oldest(&self) -> Option<&Waiting> {
        let place = *self.slots.front()?;
        self.slab[place as usize].as_ref()
    }

    /// All that wait, by id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Waiting> {
        self.slots.iter().filter_map(|place| self.slab.get(*place as usize)?.as_ref())
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.slab.len() - self.free.len()
    }

    fn offset(&self, id: RequestId) -> Option<usize> {
        if id.boot != self.boot {
            return None;
        }
        let offset = usize::try_from(id.sequence.checked_sub(self.first)?).ok()?;
        (offset < self.slots.len()).then_some(offset)
    }
}

impl Ask {
    /// Whether it is sent to the leader again when there is another one, or after a silence. (Queries are in Raft's hands
    /// once they are asked, and come back if need be; for a leader one can only wait.)
    pub(crate) const fn is_resent(&self) -> bool {
        !matches!(self, Ask::Query(_) | Ask::MoveLeader { .. })
    }

    fn bytes(&self) -> usize {
        match self {
            Ask::Command(proposal) => proposal.size(),
            Ask::Query(_) | Ask::KeepAlive(_) | Ask::TimeToLive { .. } | Ask::MoveLeader { .. } => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn waiting(sequence: u64) -> Waiting {
        Waiting {
            id: RequestId { boot: 1, sequence },
            deadline: Instant(sequence),
            epoch: 0,
            sent: None,
            ask: Ask::KeepAlive(LeaseId(sequence as i64)),
        }
    }

    proptest! {
        /// The table against a map.
        #[test]
        fn behaves_like_a_map(steps in prop::collection::vec((any::<bool>(), 1..20u64), 1..200)) {
            let mut pending = Pending::new(1);
            let mut model = BTreeMap::new();
            let mut last = 0;
            for (insert, number) in steps {
                if insert {
                    last += number;
                    pending.insert(waiting(last));
                    model.insert(last, last);
                } else {
                    let id = RequestId { boot: 1, sequence: last.saturating_sub(number) };
                    prop_assert_eq!(pending.get(id).is_some(), model.contains_key(&id.sequence));
                    let removed = pending.remove(id).map(|waiting| waiting.id.sequence);
                    prop_assert_eq!(removed, model.remove(&id.sequence));
                }
                prop_assert_eq!(pending.len(), model.len());
                prop_assert_eq!(pending.oldest().map(|w| w.id.sequence), model.keys().next().copied());
                prop_assert!(pending.iter().map(|w| w.id.sequence).eq(model.keys().copied()));
            }
        }
    }

    #[test]
    fn ids_never_span_more_than_the_window() {
        let mut pending = Pending::new(1);
        let id = |sequence| RequestId { boot: 1, sequence };
        pending.insert(waiting(5));
        assert!(pending.has_room(id(5 + SESSION_WINDOW - 1), Priority::Normal));
        assert!(!pending.has_room(id(5 + SESSION_WINDOW), Priority::Lease));
        pending.remove(id(5));
        assert!(pending.has_room(id(5 + SESSION_WINDOW), Priority::Normal));
    }

    #[test]
    fn sendings_become_rarer_up_to_a_limit() {
        let route = Route { term: Term(1), leader: NodeId(1) };
        let mut sent = None;
        let mut gaps = core::iter::from_fn(|| {
            sent = Some(Sent::again(sent, route, Instant(0)));
            Some(sent?.due(Duration::from_nanos(1)).0)
        });
        assert!([1, 2, 4, 8, 8, 8].into_iter().eq(gaps.by_ref().take(6)));
        assert_eq!(gaps.nth(1_000), Some(8), "the count saturates");
    }

    #[test]
    fn of_an_earlier_boot_nothing_waits() {
        let mut pending = Pending::new(2);
        pending.insert(Waiting { id: RequestId { boot: 2, sequence: 1 }, ..waiting(1) });
        assert!(pending.remove(RequestId { boot: 1, sequence: 1 }).is_none());
        assert!(pending.get(RequestId { boot: 1, sequence: 1 }).is_none());
    }
}
