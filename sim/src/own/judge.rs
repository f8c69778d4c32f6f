//! What must hold of a cluster that runs somebody's service.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use quorate_jepsen::{History, Limits, Model, Verdict, check};
use quorate_raft::{Index, NodeId, Term};

use super::Service;
use crate::invariants::{Check, Violation};

/// What was seen so far, of all members together.
#[derive(Debug, Default)]
pub struct Judge {
    leaders: BTreeMap<Term, NodeId>,
    /// The first state that was seen at an index.
    states: BTreeMap<Index, (u64, NodeId)>,
}

impl Judge {
    /// A member leads this term (Raft §5.2: at most one does).
    pub fn on_leader(&mut self, term: Term, node: NodeId) -> Check {
        let first = *self.leaders.entry(term).or_insert(node);
        demand(first == node, "election safety", || format!("n{first} and n{node} both lead term {term}"))
    }

    /// A member's state includes everything up to this index (Raft §5.4.3: the same for all).
    pub fn on_state<S: Service>(
        &mut self,
        service: &S,
        node: NodeId,
        index: Index,
        state: &S::State,
        how: &str,
    ) -> Check {
        let mut hasher = DefaultHasher::new();
        state.hash(&mut hasher);
        let hash = hasher.finish();
        let (first, who) = *self.states.entry(index).or_insert((hash, node));
        demand(first == hash, "equal states", || {
            format!("at index {index}, n{node} ({how}) has another state than n{who} had: {state:?}")
        })?;
        service.holds(state).map_err(|detail| Violation { invariant: "the service's own", detail })
    }
}

/// The service as a sequential object: every request is applied once.
struct Sequential<'a, S>(&'a S);

impl<S: Service> Model for Sequential<'_, S> {
    type Input = S::Command;
    type Output = S::Response;
    type State = S::State;

    fn init(&self) -> S::State {
        self.0.begin()
    }

    fn step(&self, state: &S::State, input: &S::Command, output: Option<&S::Response>) -> Option<S::State> {
        let mut state = state.clone();
        let answer = self.0.apply(&mut state, input);
        output.is_none_or(|output| *output == answer).then_some(state)
    }
}

/// Whether some order of the requests, each applied once, explains what the clients were answered.
pub fn judge<S: Service>(service: &S, history: &History<S::Command, S::Response>) -> Check {
    let limits = Limits { configurations: CONFIGURATIONS_MAX, ..Limits::default() };
    match check(&Sequential(service), history, &limits) {
        Verdict::Invalid(violation) => {
            Err(Violation { invariant: LINEARIZABILITY, detail: violation.to_string() })
        }
        // A search that gives up convicts nobody.
        Verdict::Valid | Verdict::Unknown(_) => Ok(()),
    }
}

/// The property holds, or this is how it does not.
pub fn demand(holds: bool, invariant: &'static str, detail: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(Violation { invariant, detail: detail() }) }
}

/// The property that is judged when a run is over.
pub const LINEARIZABILITY: &str = "linearizability";

/// How long to search for an order.
const CONFIGURATIONS_MAX: u64 = 3_000_000;
