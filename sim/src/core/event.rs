//! What can be scheduled.

use quorate_raft::NodeId;
use quorate_replica::Message;

use super::calm;
use super::member::Asker;
use crate::time::Time;
use crate::workload::Outcome;

/// Something that is going to happen. (What a member has at most one of is in `timers.rs`.)
#[derive(Debug)]
pub enum Event {
    /// A message arrives.
    Deliver { from: NodeId, to: NodeId, sent: Time, message: Message },
    /// A member's deadline may have passed.
    Wake { node: NodeId, number: u64 },
    /// A member's disk has written a snapshot chunk.
    Chunk { node: NodeId, boot: u64 },
    /// A client has thought.
    Client { slot: u32 },
    /// A client of somebody else's has slept.
    Guest { slot: u32 },
    /// A client's request arrives.
    Request { asker: Asker },
    /// A client's answer arrives.
    Answer { asker: Asker, outcome: Outcome },
    /// A client may have no more patience.
    Patience { slot: u32 },
    /// A watcher opens a stream.
    WatchOpen { slot: u32 },
    /// Its request arrives.
    WatchRequest { asker: Asker },
    /// A watcher receives something.
    WatchResponse { asker: Asker, response: quorate_jepsen::etcd::WatchResponse },
    /// A watcher wants more.
    WatchCredit { asker: Asker, events: u32 },
    /// A watcher's stream broke.
    WatchLost { asker: Asker },
    /// The nemesis is due.
    Nemesis,
    /// A line of a scenario is due.
    Script { step: usize },
    /// The operator looks after the members.
    Operator,
    /// A member that was removed is ended.
    Ended { node: NodeId, boot: u64 },
    /// The next phase begins.
    Phase(calm::Phase),
}
