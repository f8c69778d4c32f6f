//! One search per independent part of the object.
//!
//! Linearizability is local (Herlihy & Wing 1990): a history is linearizable if and only if its restriction
//! to each part is. The first refuted part refutes the whole, so parts are searched in rounds with growing
//! limits: a part that is easily refuted is not kept waiting by one that is hard. A part whose operations do not
//! overlap needs no search.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::explore::{Outcome, Used, explore};
use super::shrink;
use super::states::States;
use super::window::Window;
use super::{Exhausted, Limits};
use crate::hash::FastMap;
use crate::history::{History, Operation};
use crate::model::{Model, Refutation};
use crate::verdict::{Verdict, Violation};

/// Judges a history: is it linearizable for this model?
#[must_use]
pub fn check<M: Model>(model: &M, history: &History<M::Input, M::Output>, limits: &Limits<'_>) -> Verdict {
    let mut open: Vec<Part<'_, M>> = partition(model, history);
    open.sort_unstable_by_key(|part| (part.operations.len(), part.key));
    let mut used = Used::default();
    let mut round = FIRST_ROUND;
    loop {
        let left = limits.configurations.saturating_sub(used.configurations);
        let in_round = Limits { configurations: round.min(left), ..*limits };
        let searched = search_all(model, &open, &in_round);
        let mut given_up = None;
        let mut still_open = Vec::new();
        for (part, searched) in open.into_iter().zip(searched) {
            // Behind a refuted part nothing was searched.
            let Some((found, spent)) = searched else { break };
            used.add(spent);
            match found {
                Found::Linearizable => {}
                Found::Refuted(violation) => return Verdict::Invalid(violation),
                Found::GaveUp(Exhausted::Configurations) if round < left => still_open.push(part),
                Found::GaveUp(exhausted) => given_up = given_up.or(Some((exhausted, part))),
            }
        }
        if let Some((exhausted, part)) = given_up {
            return unknown(exhausted, &part, used);
        }
        if still_open.is_empty() {
            return Verdict::Valid;
        }
        open = still_open;
        round = round.saturating_mul(GROWTH);
    }
}

/// Searches all parts, on several threads if asked for. What comes back is what one thread would have found:
/// results up to the first refuted part.
fn search_all<M: Model>(model: &M, parts: &[Part<'_, M>], limits: &Limits<'_>) -> Vec<Option<(Found, Used)>> {
    let threads = limits.threads.clamp(1, parts.len().max(1));
    let share = Limits { bytes: limits.bytes / threads as u64, ..*limits };
    let (next, refuted) = (AtomicUsize::new(0), AtomicUsize::new(usize::MAX));
    let work = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= parts.len() || index > refuted.load(Ordering::Relaxed) {
                return done;
            }
            let mut used = Used::default();
            let found = parts[index].search(model, &share, &mut used);
            if matches!(found, Found::Refuted(_)) {
                refuted.fetch_min(index, Ordering::Relaxed);
            }
            done.push((index, (found, used)));
        }
    };
    let mut results: Vec<Option<(Found, Used)>> = parts.iter().map(|_| None).collect();
    let mut keep = |(index, result): (usize, _)| results[index] = Some(result);
    if threads == 1 {
        work().into_iter().for_each(keep);
    } else {
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            for worker in workers {
                worker.join().expect("a model panicked").into_iter().for_each(&mut keep);
            }
        });
    }
    results
}

fn unknown<M: Model>(exhausted: Exhausted, part: &Part<'_, M>, used: Used) -> Verdict {
    let of_key = part.key.map_or_else(String::new, |key| format!(" of key {key}"));
    Verdict::Unknown(format!(
        "{exhausted}, with {} operations{of_key} still undecided after {} configurations",
        part.operations.len(),
        used.configurations
    ))
}

/// The operations on one part of the object.
pub(super) struct Part<'h, M: Model> {
    pub key: Option<&'h str>,
    pub operations: Vec<&'h Operation<M::Input, M::Output>>,
    /// Where each stands in the history; none where it is the same.
    pub indices: Option<Vec<u32>>,
}

enum Found {
    Linearizable,
    Refuted(Violation),
    GaveUp(Exhausted),
}

fn partition<'h, M: Model>(model: &M, history: &'h History<M::Input, M::Output>) -> Vec<Part<'h, M>> {
    let mut parts: Vec<Part<'h, M>> = Vec::new();
    let mut of_key: FastMap<&str, usize> = FastMap::default();
    for (index, operation) in (0..).zip(&history.operations) {
        let Some(key) = model.partition_key(&operation.input) else { return vec![whole(history)] };
        let number = *of_key.entry(key).or_insert_with(|| {
            parts.push(Part { key: Some(key), operations: Vec::new(), indices: Some(Vec::new()) });
            parts.len() - 1
        });
        let part = &mut parts[number];
        part.operations.push(operation);
        part.indices.as_mut().expect("parts have indices").push(index);
    }
    parts
}

fn whole<M: Model>(history: &History<M::Input, M::Output>) -> Part<'_, M> {
    Part { key: None, operations: history.operations.iter().collect(), indices: None }
}

impl<M: Model> Part<'_, M> {
    fn search(&self, model: &M, limits: &Limits<'_>, used: &mut Used) -> Found {
        if let Some(decided) = model.decide(&self.operations) {
            return match decided {
                Ok(()) => Found::Linearizable,
                Err(refutation) => {
                    Found::Refuted(self.violation("zones", refutation.operations, refutation.sentence))
                }
            };
        }
        if let Some(verdict) = in_their_order(model, &self.operations) {
            return verdict.map_or_else(|stuck| self.refuted(model, stuck, limits), |()| Found::Linearizable);
        }
        let Some(window) = Window::new(model, &self.operations, limits.bytes) else {
            return Found::GaveUp(Exhausted::Bytes);
        };
        let mut states = if limits.reductions.observation {
            States::observed(model, model.init(), &window.classes)
        } else {
            States::new(model, model.init(), &window.classes)
        };
        match explore(model, &window, &mut states, limits, used) {
            Outcome::Linearizable => Found::Linearizable,
            Outcome::Refuted(deepest) => {
                self.refuted(model, window.returns[deepest.at].operation as usize, limits)
            }
            Outcome::GaveUp(exhausted) => Found::GaveUp(exhausted),
        }
    }

    /// Why there is no order of which `stuck` is a part.
    fn refuted(&self, model: &M, stuck: usize, limits: &Limits<'_>) -> Found {
        if let Some(simplest) = limits.explain.then(|| model.simplest(&self.operations)).flatten() {
            let Refutation { operations, sentence } = simplest;
            return Found::Refuted(self.violation("not-linearizable", operations, sentence));
        }
        let core = if limits.explain {
            shrink::shrink(model, &self.operations, stuck, limits)
        } else {
            shrink::unshrunk(model, &self.operations, stuck)
        };
        Found::Refuted(self.violation("not-linearizable", core.operations, core.sentence))
    }

    /// A violation in terms of the whole history.
    fn violation(&self, rule: &'static str, operations: Vec<usize>, sentence: String) -> Violation {
        let sentence = match self.key {
            Some(key) => format!("key {key}: {sentence}"),
            None => sentence,
        };
        let in_history =
            |index: usize| self.indices.as_ref().map_or(index, |indices| indices[index] as usize);
        let operations = operations.into_iter().map(in_history).collect();
        Violation { rule, sentence, operations }
    }
}

/// Judges operations each of which returned before the next was called: then there is only one order. The one that
/// cannot stand where it does, if there is one; `None` if some overlap.
fn in_their_order<M: Model>(
    model: &M,
    operations: &[&Operation<M::Input, M::Output>],
) -> Option<Result<(), usize>> {
    let mut end = None;
    for operation in operations {
        if end.is_some_and(|end| operation.call <= end) {
            return None;
        }
        end = Some(operation.returned.as_ref()?.at.max(operation.call));
    }
    let mut state = model.init();
    for (index, operation) in operations.iter().enumerate() {
        match model.step(&state, &operation.input, operation.output()) {
            Some(_) if model.is_read(&operation.input, operation.output()) => {}
            Some(next) => state = next,
            None => return Some(Err(index)),
        }
    }
    Some(Ok(()))
}

/// Configurations per part in the first round, and how many times more in each further one.
const FIRST_ROUND: u64 = 4096;
const GROWTH: u64 = 8;
