//! Searching while a history goes on: which states are possible now, and what of the pending operations has happened in each.
//!
//! The configurations are those of [`explore`](super::explore), but breadth first: all that are possible at the present moment.
//! When an operation returns, each configuration is followed to where that operation has taken effect, *just in time* as there;
//! if none is left, no order explains the history. Memory is that of the configurations and the pending operations. A write of
//! unknown outcome is pending for ever, which limits how many there may be.
//!
//! Source: Lowe, "Testing for linearizability", 2017, whose algorithm is breadth first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashSet};

use super::{Limits, check};
use crate::history::{History, Operation};
use crate::model::Model;
use crate::online::{Bounds, Numbered};
use crate::{Verdict, Violation};

/// Judges a history of a sequential object as it comes.
pub struct Search<M: Model> {
    model: M,
    bounds: Bounds,
    parts: BTreeMap<Option<String>, Part<M>>,
    pushed: usize,
    last_call: u64,
    verdict: Option<Verdict>,
    peak: usize,
}

/// One independent part of the object.
struct Part<M: Model> {
    /// By slot.
    pending: Vec<Option<Held<M>>>,
    /// Returns that lie ahead: when, and the slot.
    returns: BinaryHeap<Reverse<(u64, usize)>>,
    possible: HashSet<Configuration<M::State>>,
    /// The only state there was some time ago, and what has come since: what an explanation needs.
    begun: M::State,
    since: Vec<Held<M>>,
    /// Where the next explanation begins.
    next: Option<Start<M>>,
    /// Whether anything was let go.
    is_cut: bool,
    /// What shows that nothing is possible any more.
    evidence: Vec<Held<M>>,
}

/// A moment at which there was only one state: that, what was pending and had not happened, and how much had come.
struct Start<M: Model> {
    state: M::State,
    undone: Vec<Held<M>>,
    came: usize,
}

/// A state, and which of the pending operations have led to it.
type Configuration<S> = (S, u128);

struct Held<M: Model> {
    index: usize,
    operation: Operation<M::Input, M::Output>,
}

impl<M: Model> Clone for Held<M> {
    fn clone(&self) -> Self {
        Held { index: self.index, operation: self.operation.clone() }
    }
}

impl<M: Model> Search<M>
where
    M::State: Sync,
{
    /// Before the first operation.
    #[must_use]
    pub fn new(model: M, bounds: Bounds) -> Search<M> {
        Search { model, bounds, parts: BTreeMap::new(), pushed: 0, last_call: 0, verdict: None, peak: 0 }
    }

    /// The next operation, in the order of their calls, with its place in the history. It is whole.
    pub fn push(&mut self, index: usize, operation: Operation<M::Input, M::Output>) {
        if self.verdict.is_some() {
            return;
        }
        self.pushed += 1;
        if operation.call < self.last_call {
            let why = format!("operation {index} was called before the one that came before it");
            self.verdict = Some(Verdict::Unknown(why));
            return;
        }
        self.last_call = operation.call;
        let key = self.model.partition_key(&operation.input).map(str::to_owned);
        let init = || Part {
            pending: Vec::new(),
            returns: BinaryHeap::new(),
            possible: HashSet::from([(self.model.init(), 0)]),
            begun: self.model.init(),
            since: Vec::new(),
            next: None,
            is_cut: false,
            evidence: Vec::new(),
        };
        let part = self.parts.entry(key.clone()).or_insert_with(init);
        let result = part.advance(&self.model, &self.bounds, operation.call);
        let result = result.and_then(|()| part.add(&self.model, Held { index, operation }));
        self.peak = self.peak.max(part.since.len().max(part.possible.len()));
        self.end(result, key.as_deref());
    }

    /// The verdict on everything, when nothing comes any more.
    pub fn conclude(&mut self) -> Verdict {
        let mut parts = std::mem::take(&mut self.parts);
        for (key, part) in &mut parts {
            if self.verdict.is_none() {
                let result = part.advance(&self.model, &self.bounds, u64::MAX);
                self.end(result, key.as_deref());
            }
        }
        self.parts = parts;
        self.verdict.clone().unwrap_or(Verdict::Valid)
    }

    /// The verdict so far: `None` while nothing is wrong.
    #[must_use]
    pub fn verdict(&self) -> Option<&Verdict> {
        self.verdict.as_ref()
    }

    /// The operations that a violation names, with their places in the history and in words, in the order of their calls.
    pub fn evidence(&self) -> impl Iterator<Item = (usize, &Operation<M::Input, M::Output>, String)> {
        let held = self.parts.values().flat_map(|part| &part.evidence);
        held.map(|held| {
            let words = self.model.describe(&held.operation.input, held.operation.output());
            (held.index, &held.operation, words)
        })
    }

    /// How many operations or configurations one part held at most.
    #[must_use]
    pub fn peak(&self) -> usize {
        self.peak
    }

    fn end(&mut self, result: Result<(), Verdict>, key: Option<&str>) {
        let Err(verdict) = result else { return };
        let of_key = |text: String| match key {
            Some(key) if !text.starts_with("key ") => format!("key {key}: {text}"),
            _ => text,
        };
        self.verdict.get_or_insert(match verdict {
            Verdict::Invalid(violation) => {
                Verdict::Invalid(Violation { sentence: of_key(violation.sentence), ..violation })
            }
            Verdict::Unknown(why) => Verdict::Unknown(of_key(why)),
            Verdict::Valid => Verdict::Valid,
        });
    }
}

impl<M: Model> Part<M>
where
    M::State: Sync,
{
    /// An operation is called.
    fn add(&mut self, model: &M, held: Held<M>) -> Result<(), Verdict> {
        let Operation { input, .. } = &held.operation;
        let output = held.operation.output();
        if output.is_none() && model.is_read(input, None) {
            return Ok(()); // Nobody knows what it saw.
        }
        let slot = match self.pending.iter().position(Option::is_none) {
            Some(slot) => slot,
            None if self.pending.len() < SLOTS_MAX => {
                self.pending.push(None);
                self.pending.len() - 1
            }
            None => {
                return Err(Verdict::Unknown(format!(
                    "{SLOTS_MAX} operations are pending at once, those of unknown outcome included: more are judged as a whole \
                     only"
                )));
            }
        };
        if let Some(returned) = &held.operation.returned {
            self.returns.push(Reverse((returned.at, slot)));
        }
        self.since.push(held.clone());
        self.pending[slot] = Some(held);
        Ok(())
    }

    /// Everything that returned before a time has returned.
    fn advance(&mut self, model: &M, bounds: &Bounds, to: u64) -> Result<(), Verdict> {
        while let Some(Reverse((at, slot))) = self.returns.peek().copied().filter(|Reverse((at, _))| *at < to)
        {
            debug_assert!(at < to, "it was filtered");
            self.returns.pop();
            let possible = self.follow(model, bounds, slot)?;
            let stuck = self.pending[slot].take().expect("it was pending");
            if possible.is_empty() {
                let violation = self.explain(model, &stuck);
                let shown = |held: &&Held<M>| violation.operations.contains(&held.index);
                self.evidence = self.since.iter().filter(shown).cloned().collect();
                return Err(Verdict::Invalid(violation));
            }
            self.possible = possible;
            self.let_go(bounds);
        }
        Ok(())
    }

    /// All configurations in which the operation in a slot has taken effect, without it.
    fn follow(
        &self,
        model: &M,
        bounds: &Bounds,
        slot: usize,
    ) -> Result<HashSet<Configuration<M::State>>, Verdict> {
        let bit = 1_u128 << slot;
        let mut done = HashSet::new();
        let mut seen: HashSet<Configuration<M::State>> = HashSet::new();
        let mut stack: Vec<Configuration<M::State>> = self.possible.iter().cloned().collect();
        while let Some((state, mask)) = stack.pop() {
            let mask = self.absorb(model, &state, mask);
            if mask & bit != 0 {
                done.insert((state, mask & !bit));
                continue;
            }
            if !seen.insert((state.clone(), mask)) {
                continue;
            }
            if seen.len() + done.len() > bounds.configurations {
                return Err(Verdict::Unknown(format!(
                    "more than {} orders of the pending operations are possible at once",
                    bounds.configurations
                )));
            }
            for (other, held) in self.pending.iter().enumerate() {
                let Some(held) = held.as_ref().filter(|_| mask & (1 << other) == 0) else { continue };
                let Operation { input, .. } = &held.operation;
                if let Some(next) = model.step(&state, input, held.operation.output()) {
                    stack.push((next, mask | 1 << other));
                }
            }
        }
        Ok(done)
    }

    /// Lets every read take effect that is legal now: it changes nothing.
    fn absorb(&self, model: &M, state: &M::State, mut mask: u128) -> u128 {
        for (slot, held) in self.pending.iter().enumerate() {
            let Some(held) = held else { continue };
            let (input, output) = (&held.operation.input, held.operation.output());
            if mask & (1 << slot) == 0
                && model.is_read(input, output)
                && model.step(state, input, output).is_some()
            {
                mask |= 1 << slot;
            }
        }
        mask
    }

    /// Begins the explanation anew, from time to time, where only one configuration was possible.
    fn let_go(&mut self, bounds: &Bounds) {
        if self.since.len() > bounds.operations {
            // Too much for an explanation: what is left of it is the latest.
            self.since.drain(..bounds.operations / 2);
            (self.next, self.is_cut) = (None, true);
        }
        let mut possible = self.possible.iter();
        let (Some((state, mask)), None) = (possible.next(), possible.next()) else { return };
        let is_due = |start: &Start<M>| self.since.len() - start.came >= EXPLAINED_MIN;
        if self.next.is_none() || self.next.as_ref().is_some_and(is_due) {
            let undone =
                |(slot, held): (usize, &Option<Held<M>>)| held.clone().filter(|_| mask & (1 << slot) == 0);
            let undone = self.pending.iter().enumerate().filter_map(undone).collect();
            if let Some(start) = self.next.take() {
                self.since.splice(..start.came, start.undone);
                (self.begun, self.is_cut) = (start.state, true);
            }
            self.next = Some(Start { state: state.clone(), undone, came: self.since.len() });
        }
    }

    /// Why nothing is possible any more.
    fn explain(&self, model: &M, stuck: &Held<M>) -> Violation {
        let history: History<M::Input, M::Output> =
            self.since.iter().map(|held| held.operation.clone()).collect();
        let limits = Limits { configurations: EXPLAINED_MAX, ..Limits::default() };
        let verdict = if self.is_cut {
            check(&Resumed { model, state: self.begun.clone() }, &history, &limits)
        } else {
            check(model, &history, &limits)
        };
        if let Verdict::Invalid(violation) = verdict {
            return violation.renumbered(|at| self.since[at].index);
        }
        let mut states: Vec<String> =
            self.possible.iter().map(|(state, _)| model.describe_state(state)).collect();
        states.sort_unstable();
        states.dedup();
        states.truncate(STATES_SHOWN);
        let did = model.describe(&stuck.operation.input, stuck.operation.output());
        let sentence = format!(
            "process {} {did}, which no state explains that was possible: {}",
            stuck.operation.process,
            states.join(", ")
        );
        Violation { rule: "not-linearizable", sentence, operations: vec![stuck.index] }
    }
}

/// A model that goes on from a state.
struct Resumed<'m, M: Model> {
    model: &'m M,
    state: M::State,
}

impl<M: Model> Model for Resumed<'_, M>
where
    M::State: Sync,
{
    type Input = M::Input;
    type Output = M::Output;
    type State = M::State;

    fn init(&self) -> M::State {
        self.state.clone()
    }

    fn step(&self, state: &M::State, input: &M::Input, output: Option<&M::Output>) -> Option<M::State> {
        self.model.step(state, input, output)
    }

    fn is_read(&self, input: &M::Input, output: Option<&M::Output>) -> bool {
        self.model.is_read(input, output)
    }

    fn partition_key<'a>(&self, input: &'a M::Input) -> Option<&'a str> {
        self.model.partition_key(input)
    }

    fn values(
        &self,
        input: &M::Input,
        output: Option<&M::Output>,
        visit: &mut dyn FnMut(&dyn std::fmt::Debug),
    ) -> bool {
        self.model.values(input, output, visit)
    }

    fn describe(&self, input: &M::Input, output: Option<&M::Output>) -> String {
        self.model.describe(input, output)
    }

    fn describe_state(&self, state: &M::State) -> String {
        self.model.describe_state(state)
    }
}

/// How many operations may be pending at once.
const SLOTS_MAX: usize = 128;
/// How long an explanation may be searched for.
const EXPLAINED_MAX: u64 = 1_000_000;
/// How many operations an explanation can look back on, at least.
const EXPLAINED_MIN: usize = 128;
/// How many states an explanation names.
const STATES_SHOWN: usize = 8;
