//! What a script can say.

use std::fmt;
use std::str::FromStr;

use quorate_raft::{Index, NodeId, Position, Term};

/// What a script can do. Members are written `n1`, `n2`, …
#[derive(goldenscript::Command)]
pub enum Command {
    /// Starts a cluster of members `n1` to `n<voters>`, followed by the learners. Comes first.
    Cluster {
        voters: u64,
        #[arg(key, optional)]
        learners: u64,
        #[arg(key)]
        pre_vote: Option<bool>,
        /// Most bytes of entries in an append; an entry takes 32 bytes and its text.
        #[arg(key)]
        append_bytes: Option<usize>,
        /// Most appends in flight to one peer.
        #[arg(key)]
        inflight: Option<usize>,
        /// Milliseconds for which a small append is held back while two are under way.
        #[arg(key)]
        hold: Option<u64>,
        /// Most reads that wait at one member.
        #[arg(key)]
        reads: Option<usize>,
        /// For other random choices.
        #[arg(key)]
        seed: Option<u64>,
    },
    /// A new member starts, with an empty disk. It begins with the first configuration, of which it is not part.
    Join { id: Id },
    /// A member gets a change of the membership: `learner=n4 voter=n5 demote=n1 remove=n2`, all in one step.
    Change {
        id: Id,
        #[arg(key, many)]
        changes: Vec<(String, Id)>,
    },
    /// A member gets the wish that another (or whoever is furthest) leads.
    HandOver {
        id: Id,
        #[arg(optional)]
        to: Option<Id>,
    },
    /// A hand-made message arrives, that nobody sent: by its name, with the fields that it has.
    Message {
        from: Id,
        to: Id,
        kind: String,
        /// The term; without, that of the receiver.
        #[arg(key)]
        term: Option<u64>,
        /// `last`, `previous` or `hint`, as `3@2`: the entry at index 3 of term 2.
        #[arg(key, optional)]
        at: At,
        /// Positions of entries that follow, as `4@2/5@2`.
        #[arg(key)]
        entries: Option<String>,
        /// `commit`, `matched`, `rejected` or `index`.
        #[arg(key, optional)]
        index: u64,
        /// `round`, `campaign` or `request`.
        #[arg(key, optional)]
        number: u64,
        /// `granted` or `transfer`.
        #[arg(key, optional)]
        yes: bool,
    },
    /// The message at a place in the network arrives; and stays there, with `again`.
    Arrive {
        place: usize,
        #[arg(key, optional)]
        again: bool,
    },
    /// The message at a place in the network is lost.
    Vanish { place: usize },
    /// All messages in flight from and to a member are lost.
    Isolate { id: Id },
    /// So many times, the oldest message arrives, the oldest write of each member becomes durable, and the oldest
    /// snapshot arrives.
    Settle { steps: u64 },
    /// Gives a member another past: term, vote, and the terms of its entries in order. An entry's text
    /// names its term.
    Past {
        id: Id,
        terms: Vec<u64>,
        #[arg(key)]
        term: u64,
        #[arg(key)]
        vote: Option<Id>,
        #[arg(key, optional)]
        commit: u64,
    },
    /// A member's clock moves on to its deadline (election, heartbeat, read retry), and it wakes.
    Timeout { id: Id },
    /// Clocks move on, and nobody wakes: all clocks, or those of some members.
    Advance {
        millis: u64,
        #[arg(optional, many)]
        ids: Vec<Id>,
    },
    /// A member wakes, whatever its deadline.
    Wake { id: Id },
    /// Time passes for everybody alike, in small steps; all messages arrive and all writes become durable.
    Pass { millis: u64 },
    /// Makes a member leader: nobody has heard from a leader for long, its timeout runs out, and
    /// everything settles.
    Elect { id: Id },
    /// A member gets commands, and optionally a read, in one turn.
    Propose {
        id: Id,
        commands: Vec<String>,
        #[arg(key, optional)]
        read: bool,
    },
    /// A member gets a read.
    Read { id: Id },
    /// Messages in flight arrive, oldest first: all, or those that match. What they cause stays in flight.
    Deliver {
        #[arg(key)]
        from: Option<Id>,
        #[arg(key)]
        to: Option<Id>,
        /// The message's name.
        #[arg(key)]
        kind: Option<String>,
        /// At most so many.
        #[arg(key)]
        count: Option<usize>,
        /// They will arrive once more.
        #[arg(key, optional)]
        twice: bool,
    },
    /// Messages in flight are lost: all, or those that match.
    Lose {
        #[arg(key)]
        from: Option<Id>,
        #[arg(key)]
        to: Option<Id>,
        #[arg(key)]
        kind: Option<String>,
        #[arg(key)]
        count: Option<usize>,
    },
    /// Messages in flight get stuck somewhere, until `release`.
    Delay {
        #[arg(key)]
        from: Option<Id>,
        #[arg(key)]
        to: Option<Id>,
        #[arg(key)]
        kind: Option<String>,
    },
    /// Delayed messages are in flight again, as the oldest.
    Release,
    /// From now on, messages from these members to the others are lost; in both directions, unless it
    /// is one way only.
    Cut {
        ids: Vec<Id>,
        /// `in`: the members do not hear. `out`: they are not heard.
        #[arg(key)]
        only: Option<String>,
    },
    /// From now on, messages from one member to another are lost.
    Break { from: Id, to: Id },
    /// All links work again.
    Heal,
    /// Writes of a member become durable: all, or the oldest so many.
    Persist {
        id: Id,
        #[arg(key)]
        count: Option<usize>,
    },
    /// Messages are delivered and writes become durable until nothing is left to do without time;
    /// of some members only, if given (messages to and from others stay in flight).
    Stabilize {
        #[arg(optional, many)]
        ids: Vec<Id>,
    },
    /// A member crashes, and loses what is not durable, except for the oldest writes that happen to
    /// survive and some entries of the next one.
    Crash {
        id: Id,
        #[arg(key, optional)]
        survive: usize,
        #[arg(key, optional)]
        torn: usize,
    },
    /// A crashed member starts again.
    Restart { id: Id },
    /// A member takes a snapshot of what it has applied, and keeps some entries before its end.
    Snapshot {
        id: Id,
        #[arg(key, optional)]
        keep: u64,
    },
    /// The oldest snapshot on its way, or the one at this place, arrives and is durable, or is lost.
    Transfer {
        #[arg(optional)]
        place: usize,
        #[arg(key, optional)]
        fail: bool,
    },
    /// Shows where members stand.
    Status {
        #[arg(optional, many)]
        ids: Vec<Id>,
    },
    /// Shows members' logs as they are in memory.
    Log {
        #[arg(optional, many)]
        ids: Vec<Id>,
    },
    /// Shows what is on members' disks.
    Disk {
        #[arg(optional, many)]
        ids: Vec<Id>,
    },
    /// Shows members' deadlines: an election's, which depends on chance, only roughly.
    Deadline {
        #[arg(optional, many)]
        ids: Vec<Id>,
    },
    /// Shows what members that lead know of their peers.
    Peers {
        #[arg(optional, many)]
        ids: Vec<Id>,
    },
    /// Shows whether members believe that the cluster works.
    Quorum {
        #[arg(optional, many)]
        ids: Vec<Id>,
    },
    /// Shows the configurations that members are in.
    Configuration {
        #[arg(optional, many)]
        ids: Vec<Id>,
    },
}

/// A member's id, as scripts write it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Id(pub NodeId);

impl FromStr for Id {
    type Err = String;

    fn from_str(text: &str) -> Result<Id, String> {
        let number = text.strip_prefix('n').and_then(|number| number.parse().ok());
        number.map(|number| Id(NodeId(number))).ok_or_else(|| format!("not a member: {text}"))
    }
}

/// A position, as scripts write it.
#[derive(Clone, Copy, Debug, Default)]
pub struct At(pub Position);

impl FromStr for At {
    type Err = String;

    fn from_str(text: &str) -> Result<At, String> {
        let wrong = || format!("not a position: {text}");
        let (index, term) = text.split_once('@').ok_or_else(wrong)?;
        let (index, term) = (index.parse().map_err(|_| wrong())?, term.parse().map_err(|_| wrong())?);
        Ok(At(Position { term: Term(term), index: Index(index) }))
    }
}

/// A command of the replicated state machine.
#[derive(Clone, PartialEq)]
pub struct Text(pub String);

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl quorate_raft::Command for Text {
    fn size(&self) -> usize {
        self.0.len()
    }
}
