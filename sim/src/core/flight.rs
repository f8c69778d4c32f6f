//! Members that fly with a flight recorder, as in production: what it writes must replay to where they stand.

use quorate_node::flight::{FlightRecorder, Recorder, Recording};
use quorate_raft::NodeId;
use quorate_replica::Replica;

use super::Simulation;
use crate::invariants::{Check, Violation};
use crate::recording::{Ending, replay};

/// A member's recorder, in both of its roles.
#[derive(Debug)]
pub struct Flight {
    reader: FlightRecorder,
    /// What is told of every turn.
    pub recorder: Recorder,
}

impl Flight {
    /// A recorder for a replica that has just been recovered.
    pub(super) fn begin(replica: &mut Replica) -> Flight {
        // So small that most recordings begin with an image that was made in the middle of everything.
        let reader = FlightRecorder::new(RING_BYTES, drop).with_image_steps(IMAGE_STEPS);
        let recorder = reader.begin(replica);
        Flight { reader, recorder }
    }

    /// Writes the recording down, reads it, and replays it.
    fn check(&self, node: NodeId) -> Check {
        let broken = |what: String| {
            Err(Violation { invariant: "flight recorder", detail: format!("n{node}: {what}") })
        };
        let Some(taken) = self.reader.take() else { return broken("nothing was recorded".to_owned()) };
        let mut file = Vec::new();
        if let Err(error) = taken.write("the simulation", 0, &mut file) {
            return broken(format!("cannot be written: {error}"));
        }
        let recording = match Recording::read(&file) {
            Ok(recording) => recording,
            Err(error) => return broken(error.to_string()),
        };
        let replayed = replay(&recording, |_| false, |_| ());
        match replayed.ending {
            Ending::Arrived => Ok(()),
            ending => broken(format!("turn {} of its recording: {ending:?}", replayed.turns)),
        }
    }
}

impl Simulation {
    /// The run is over.
    pub(super) fn end_flights(&mut self) {
        for at in 0..self.members.len() {
            self.end_flight(self.members[at].id);
        }
    }

    /// A member is about to lose all that is in memory.
    pub(super) fn end_flight(&mut self, node: NodeId) {
        let Some(flight) = self.member(node).flight.take() else { return };
        // What broke a property may have left a turn in its middle, and is what people want to see.
        if self.violation.is_none() {
            let check = flight.check(node);
            self.demand(check);
        }
    }
}

/// A leg is half of it, or as long as the store is large.
const RING_BYTES: usize = 32 << 10;

/// So few that images take many turns, in which everything goes on.
const IMAGE_STEPS: usize = 40;
