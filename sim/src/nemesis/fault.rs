//! What can go wrong, in the words of scenario files (`crate::scenario`).

use std::fmt;
use std::time::Duration;

use quorate_raft::NodeId;

use crate::env::clock::TRUE_RATE;
use crate::env::network::{LinkSet, Meddling, Quality};
use crate::fault_budget::NodeSet;

/// Whom a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// This member.
    Node(NodeId),
    /// Whoever leads when the fault begins (this member, if nobody does).
    Leader(NodeId),
}

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// These links are cut, so that these members are cut off from a majority (none of them, if the set is
    /// empty).
    Cut {
        /// The links.
        links: LinkSet,
        /// Whom it impairs.
        impaired: NodeSet,
    },
    /// One member is cut off from its peers, in one direction or both, and perhaps from clients.
    Isolate {
        /// Who.
        target: Target,
        /// It hears nothing.
        inbound: bool,
        /// It is not heard.
        outbound: bool,
        /// Clients do not reach it.
        clients: bool,
    },
    /// These links keep everything and deliver it at the end.
    Clog {
        /// The links.
        links: LinkSet,
    },
    /// All links lose, duplicate, reorder and delay more than usual.
    Lossy(Quality),
    /// Messages of one kind are lost or late: for schedules that depend on a single message.
    Meddle(Meddling),
    /// Every connection of a member's clients breaks, once: what they have asked for has an unknown outcome.
    Disconnect(Target),
    /// A member loses power.
    Crash(Target),
    /// All members lose power.
    PowerLoss,
    /// An operator has the leader hand over, to this member or to whoever has caught up best.
    Transfer(Option<NodeId>),
    /// An operator adds a member: an empty directory that joins as soon as it has been added.
    Add {
        /// Whether it has no vote at first.
        learner: bool,
    },
    /// An operator gives the first learner a vote.
    Promote,
    /// An operator takes a member's vote away.
    Demote(Target),
    /// An operator removes a member.
    Remove(Target),
    /// By mistake, an empty directory is given the addresses of a member, and asks for its place.
    Impostor(Target),
    /// A member loses its disk, and with it its id: an empty directory takes its place when the fault ends.
    LostDisk(Target),
    /// A member is stopped; its clock runs on, or stands still as well.
    Pause {
        /// Who.
        target: Target,
        /// Whether its clock stands still.
        frozen_clock: bool,
    },
    /// A member's processor is busy with something else: it looks at what arrives only after this time.
    SlowCpu {
        /// Whose.
        target: Target,
        /// How late.
        by: Duration,
    },
    /// A clock runs at another rate.
    ClockRate {
        /// Whose.
        target: Target,
        /// In millionths.
        rate: u64,
    },
    /// A clock jumps forward.
    ClockJump {
        /// Whose.
        target: Target,
        /// How far.
        by: Duration,
    },
    /// A disk is slow.
    SlowDisk {
        /// Whose.
        target: Target,
        /// How many times slower.
        factor: u32,
    },
    /// A disk fails in a way that ends the process at the latest when it next needs the disk.
    Disk {
        /// Whose.
        target: Target,
        /// How.
        failure: DiskFailure,
    },
}

/// How a disk fails. Each ends with the fault: there is room again, somebody has put the right bytes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFailure {
    /// There is no room: the next append fails half-way.
    Full,
    /// The next sync fails, and what it should have made durable may be lost.
    FailedSync,
    /// The member is down, and while the fault lasts its log cannot be read.
    ReadErrors,
    /// The member is down, and a bit of what was durable has changed meanwhile.
    BitRot,
    /// The member is down, and a sector of its log was overwritten by another one's bytes.
    Misdirected,
}

impl DiskFailure {
    /// Every kind.
    pub const ALL: [DiskFailure; 5] = [
        DiskFailure::Full,
        DiskFailure::FailedSync,
        DiskFailure::ReadErrors,
        DiskFailure::BitRot,
        DiskFailure::Misdirected,
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            DiskFailure::Full => "full-disk",
            DiskFailure::FailedSync => "failed-sync",
            DiskFailure::ReadErrors => "read-errors",
            DiskFailure::BitRot => "bit-rot",
            DiskFailure::Misdirected => "misdirected-write",
        }
    }
}

impl Fault {
    /// Whom it strikes, if one member.
    #[must_use]
    pub fn target(&self) -> Option<Target> {
        match *self {
            Fault::Isolate { target, .. }
            | Fault::Disconnect(target)
            | Fault::Crash(target)
            | Fault::Pause { target, .. }
            | Fault::SlowCpu { target, .. }
            | Fault::ClockRate { target, .. }
            | Fault::ClockJump { target, .. }
            | Fault::SlowDisk { target, .. }
            | Fault::Demote(target)
            | Fault::Remove(target)
            | Fault::Impostor(target)
            | Fault::LostDisk(target)
            | Fault::Disk { target, .. } => Some(target),
            Fault::Cut { .. }
            | Fault::Clog { .. }
            | Fault::Lossy(_)
            | Fault::Meddle(_)
            | Fault::PowerLoss
            | Fault::Transfer(_)
            | Fault::Add { .. }
            | Fault::Promote => None,
        }
    }

    /// The same fault, striking this member.
    #[must_use]
    pub fn aimed_at(mut self, node: NodeId) -> Fault {
        match &mut self {
            Fault::Isolate { target, .. }
            | Fault::Disconnect(target)
            | Fault::Crash(target)
            | Fault::Pause { target, .. }
            | Fault::SlowCpu { target, .. }
            | Fault::ClockRate { target, .. }
            | Fault::ClockJump { target, .. }
            | Fault::SlowDisk { target, .. }
            | Fault::Demote(target)
            | Fault::Remove(target)
            | Fault::Impostor(target)
            | Fault::LostDisk(target)
            | Fault::Disk { target, .. } => *target = Target::Node(node),
            Fault::Cut { .. }
            | Fault::Clog { .. }
            | Fault::Lossy(_)
            | Fault::Meddle(_)
            | Fault::PowerLoss
            | Fault::Transfer(_)
            | Fault::Add { .. }
            | Fault::Promote => {}
        }
        self
    }

    /// The same fault, striking those who have taken the places of whom it names.
    #[must_use]
    pub fn seated(mut self, seat: impl Fn(NodeId) -> NodeId) -> Fault {
        match &mut self {
            Fault::Cut { links, impaired } => {
                *links = links.map(&seat);
                let nodes: Vec<NodeId> = impaired.members().map(&seat).collect();
                *impaired = NodeSet::of(&nodes);
            }
            Fault::Clog { links } | Fault::Meddle(Meddling { links, .. }) => *links = links.map(&seat),
            Fault::Transfer(Some(to)) => *to = seat(*to),
            _ => {}
        }
        match self.target() {
            Some(Target::Node(node)) => self.aimed_at(seat(node)),
            _ => self,
        }
    }

    /// Whether it is something that an operator does to the members.
    #[must_use]
    pub fn changes_members(&self) -> bool {
        matches!(
            self,
            Fault::Add { .. } | Fault::Promote | Fault::Demote(_) | Fault::Remove(_) | Fault::Impostor(_)
        )
    }

    /// Whom it impairs, for the fault budget.
    #[must_use]
    pub fn impaired(&self, node: Option<NodeId>) -> NodeSet {
        let struck = node.map_or(NodeSet::default(), |node| NodeSet::of(&[node]));
        match *self {
            Fault::Cut { impaired, .. } => impaired,
            Fault::Isolate { .. }
            | Fault::Crash(_)
            | Fault::Pause { .. }
            | Fault::SlowCpu { .. }
            | Fault::SlowDisk { .. }
            | Fault::LostDisk(_)
            | Fault::Disk { .. }
            | Fault::ClockRate { rate: 0, .. } => struck,
            // A wrong clock or a bad link is no excuse for not serving.
            Fault::Clog { .. }
            | Fault::Lossy(_)
            | Fault::Meddle(_)
            | Fault::Disconnect(_)
            | Fault::PowerLoss
            | Fault::Transfer(_)
            | Fault::Add { .. }
            | Fault::Promote
            | Fault::Demote(_)
            | Fault::Remove(_)
            | Fault::Impostor(_)
            | Fault::ClockRate { .. }
            | Fault::ClockJump { .. } => NodeSet::default(),
        }
    }

    /// The word that it begins with in a scenario.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Fault::Cut { .. } => "cut",
            Fault::Isolate { .. } => "isolate",
            Fault::Clog { .. } => "clog",
            Fault::Lossy(_) => "lossy",
            Fault::Meddle(Meddling { late: None, .. }) => "drop",
            Fault::Meddle(_) => "late",
            Fault::Disconnect(_) => "disconnect",
            Fault::Crash(_) => "crash",
            Fault::PowerLoss => "power-loss",
            Fault::Transfer(_) => "transfer",
            Fault::Add { .. } => "add-member",
            Fault::Promote => "promote-learner",
            Fault::Demote(_) => "demote",
            Fault::Remove(_) => "remove",
            Fault::Impostor(_) => "impostor",
            Fault::LostDisk(_) => "lost-disk",
            Fault::Pause { .. } => "pause",
            Fault::SlowCpu { .. } => "slow-cpu",
            Fault::ClockRate { .. } => "clock-rate",
            Fault::ClockJump { .. } => "clock-jump",
            Fault::SlowDisk { .. } => "slow-disk",
            Fault::Disk { failure, .. } => failure.name(),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Node(node) => write!(f, "n{node}"),
            Target::Leader(_) => f.write_str("leader"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        if let Some(target) = self.target() {
            write!(f, " {target}")?;
        }
        match *self {
            Fault::Cut { links, impaired } => {
                write!(f, " {links}")?;
                if impaired == NodeSet::default() { Ok(()) } else { write!(f, " impairs {impaired}") }
            }
            Fault::Clog { links } => write!(f, " {links}"),
            Fault::Meddle(Meddling { links, letter, late }) => {
                write!(f, " {links} {}", letter.name())?;
                late.map_or(Ok(()), |late| write!(f, " {late:?}"))
            }
            Fault::Transfer(Some(to)) => write!(f, " n{to}"),
            Fault::Add { learner } => f.write_str(if learner { " learner" } else { " voter" }),
            Fault::Isolate { inbound, outbound, clients, .. } => {
                let list = [(inbound, "in"), (outbound, "out"), (clients, "clients")];
                list.iter().filter(|(on, _)| *on).try_for_each(|(_, name)| write!(f, " {name}"))
            }
            Fault::Lossy(Quality { delay, jitter, loss, duplication, reordering }) => {
                write!(f, " loss {loss} duplication {duplication} reordering {reordering}")?;
                write!(f, " delay {delay:?} jitter {jitter:?}")
            }
            Fault::ClockRate { rate, .. } => {
                let (whole, part) = (rate / TRUE_RATE, rate % TRUE_RATE);
                write!(f, " {whole}.{part:06}")
            }
            Fault::ClockJump { by, .. } | Fault::SlowCpu { by, .. } => write!(f, " {by:?}"),
            Fault::SlowDisk { factor, .. } => write!(f, " {factor}"),
            Fault::Pause { frozen_clock: true, .. } => f.write_str(" with-clock"),
            _ => Ok(()),
        }
    }
}
