//! The end of a run: the storm ends, the cluster serves, everybody catches up.

use std::time::Duration;

use quorate_jepsen::etcd::{Keys, Put, Range, Request};

use quorate_raft::NodeId;

use super::member::Member;
use super::{Event, Simulation, place};
use crate::env::clock::TRUE_RATE;
use crate::env::network::Quality;
use crate::invariants::{self, Liveness};
use crate::nemesis::World;
use crate::time::Time;
use crate::trace::Event as Traced;

/// The phases of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Faults happen.
    Storm,
    /// All faults are undone; clients go on, and a write must be served in time.
    Calm,
    /// Clients ask nothing more; everything has to settle.
    Quiet,
    /// Has everything settled?
    Settled {
        /// By then it must have.
        deadline: Time,
    },
    /// Everything has settled: all members are asked for everything.
    Reading,
    /// The run is over.
    End,
}

impl Member {
    /// What the end of a run compares.
    fn at_rest(&self) -> Option<invariants::Member> {
        let store = self.replica.as_ref()?.store();
        Some(invariants::Member { status: self.status, leases: store.leases().count() })
    }
}

impl Simulation {
    pub(super) fn schedule_phases(&mut self) {
        self.queue.push(Time::ZERO + self.options.storm, Event::Phase(Phase::Calm));
    }

    pub(super) fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        let name = match phase {
            Phase::Storm => "storm",
            Phase::Calm => "calm",
            Phase::Quiet => "quiet",
            Phase::Settled { deadline } => return self.settled(deadline),
            Phase::Reading => "reading",
            Phase::End => "end",
        };
        self.note(Traced::Phase(name), None);
        match phase {
            Phase::Storm | Phase::Settled { .. } => {}
            Phase::Calm => self.calm(),
            Phase::Quiet => self.quiet(),
            Phase::Reading => self.read_everywhere(),
            Phase::End => self.check_reads(),
        }
    }

    /// Undoes everything, and starts to ask for a write until one is served.
    fn calm(&mut self) {
        self.script_must_be_over();
        self.invariants.on_unrest();
        if let Some(mut nemesis) = self.nemesis.take() {
            nemesis.finish(self);
            self.faults_begun = nemesis.begun().to_vec();
        }
        let quality = Quality { loss: 0, duplication: 0, reordering: 0, ..self.options.network };
        self.network.set_quality(quality);
        let everybody: Vec<NodeId> = self.members.iter().map(|member| member.id).collect();
        for id in everybody {
            self.member(id).clock_rate = TRUE_RATE;
            self.set_clock_rate(id, None);
        }
        let liveness = Liveness::new(self.time, self.options.election_timeout);
        self.liveness = Some(liveness);
        self.probe();
        self.queue.push(liveness.deadline(), Event::Phase(Phase::Quiet));
    }

    fn quiet(&mut self) {
        if let Some(liveness) = self.liveness {
            self.demand(liveness.check_served());
        }
        // Long enough for the last answers, and for the longest lease to expire after a change of leaders.
        let deadline = self.time
            + self.options.load.patience
            + self.options.election_timeout * invariants::TIMEOUTS_MAX
            + LEASE_TTL_MAX * 2;
        self.queue.push(self.time + self.options.load.patience, Event::Phase(Phase::Settled { deadline }));
    }

    /// Looks whether everything has settled, from time to time, until it has to have.
    fn settled(&mut self, deadline: Time) {
        let there: Vec<usize> = self.present().map(|member| place(member.id)).collect();
        let members: Vec<invariants::Member> =
            there.iter().filter_map(|at| self.members[*at].at_rest()).collect();
        assert_eq!(members.len(), there.len(), "the nemesis has started everybody again");
        let content = |member: usize| {
            let replica = self.members[there[member]].replica.as_ref();
            replica.expect("it has started").store().content_hash()
        };
        let settled = self.check_members().and_then(|()| invariants::converged(&members, content));
        match settled {
            Ok(()) => self.queue.push(self.time, Event::Phase(Phase::Reading)),
            Err(violation) if violation.invariant != "liveness" || self.time >= deadline => {
                self.demand(Err(violation));
            }
            Err(_) => {
                let again = self.time + self.options.election_timeout;
                self.queue.push(again, Event::Phase(Phase::Settled { deadline }));
            }
        }
    }

    fn read_everywhere(&mut self) {
        for id in self.present_ids() {
            self.ask_once(id, Request::Range(Range::of(Keys::all())));
        }
        self.queue.push(self.time + READING, Event::Phase(Phase::End));
    }

    fn check_reads(&mut self) {
        if let Some(id) = self.present_ids().into_iter().find(|id| self.asks_still(*id)) {
            self.demand(Err(invariants::Violation {
                invariant: "liveness",
                detail: format!(
                    "a read at n{id} was not answered within {READING:?}, long after the faults stopped"
                ),
            }));
        }
    }

    /// The write that a member is asked for now. Its value counts on nothing that a script of the same run would not
    /// know: as many bytes in the log mean the same snapshots.
    pub(super) fn probe_of(&self, member: NodeId) -> Request {
        Request::Put(Put::new("probe", format!("n{} at {:020}", member.0, self.time.0).into_bytes()))
    }

    /// Asks each member for a write.
    pub(super) fn probe(&mut self) {
        for id in self.present_ids() {
            self.ask_once(id, self.probe_of(id));
        }
    }

    fn present_ids(&self) -> Vec<NodeId> {
        self.present().map(|member| member.id).collect()
    }

    fn asks_still(&self, id: NodeId) -> bool {
        self.clients[self.options.load.clients as usize + place(id)].is_waiting()
    }
}

/// The longest time to live that a workload asks for, and a little.
const LEASE_TTL_MAX: Duration = Duration::from_secs(5);

/// How long the last reads may take.
const READING: Duration = Duration::from_secs(2);
