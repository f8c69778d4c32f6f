//! The replica itself.

use alloc::collections::VecDeque;

use quorate_raft::Instant;

use crate::config::Config;
use crate::io::{Input, Output, Saved};
use crate::status::Status;

/// One member of the cluster, without I/O.
#[derive(Debug)]
pub struct Replica {
    outputs: VecDeque<Output>,
    status: Status,
}

impl Replica {
    /// A replica as it was at its last durable write. Draws no randomness beyond `seed`. Fails only on
    /// a snapshot whose chunks do not fit together.
    pub fn recover(
        config: Config,
        seed: u64,
        now: Instant,
        saved: Saved,
    ) -> Result<Replica, quorate_store::ImportError> {
        let _ = (config, seed, now, saved);
        todo!()
    }

    /// Takes note of something that happened. Outputs are made when they are polled: any number of
    /// `handle` calls, then `poll_output` until `None`, is one turn.
    pub fn handle(&mut self, now: Instant, input: Input) {
        let _ = (now, input);
        todo!()
    }

    /// The next thing to do, until `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call `handle(now, Input::Wake)` at the latest, and why.
    pub fn deadline(&self) -> Option<(Instant, &'static str)> {
        todo!()
    }

    /// How this member is.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// The store, for invariants and debugging.
    pub fn store(&self) -> &quorate_store::Store {
        todo!()
    }
}
