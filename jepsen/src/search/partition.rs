//! One search per independent part of the object.
//!
//! Linearizability is local (Herlihy & Wing 1990): a history is linearizable if and only if its restriction
//! to each part is. The first refuted part refutes the whole, so parts are searched in rounds with growing
//! limits: a part that is easily refuted is not kept waiting by one that is hard.

use std::collections::BTreeMap;

use super::explore::{Outcome, Used, explore};
use super::shrink;
use super::states::States;
use super::window::Window;
use super::{Exhausted, Limits};
use crate::history::{History, Operation};
use crate::model::Model;
use crate::verdict::{Verdict, Violation};

/// Judges a history: is it linearizable for this model?
#[must_use]
pub fn check<M: Model>(model: &M, history: &History<M::Input, M::Output>, limits: &Limits<'_>) -> Verdict {
    let mut open: Vec<Part<'_, M>> = partition(model, history);
    open.sort_by_key(|part| part.operations.len());
    let mut used = Used::default();
    let mut round = FIRST_ROUND;
    loop {
        let mut given_up = None;
        let mut still_open = Vec::new();
        for part in open {
            match part.search(model, limits, round, &mut used) {
                Found::Linearizable => {}
                Found::Refuted(violation) => return Verdict::Invalid(violation),
                Found::Open => still_open.push(part),
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
    /// Where each stands in the history.
    pub indices: Vec<usize>,
}

enum Found {
    Linearizable,
    Refuted(Violation),
    /// Not within this round.
    Open,
    GaveUp(Exhausted),
}

fn partition<'h, M: Model>(model: &M, history: &'h History<M::Input, M::Output>) -> Vec<Part<'h, M>> {
    let mut parts: BTreeMap<&str, Part<'h, M>> = BTreeMap::new();
    for (index, operation) in history.operations.iter().enumerate() {
        let Some(key) = model.partition_key(&operation.input) else { return vec![whole(history)] };
        let part = parts.entry(key).or_insert_with(|| Part {
            key: Some(key),
            operations: Vec::new(),
            indices: Vec::new(),
        });
        part.operations.push(operation);
        part.indices.push(index);
    }
    parts.into_values().collect()
}

fn whole<M: Model>(history: &History<M::Input, M::Output>) -> Part<'_, M> {
    let operations: Vec<_> = history.operations.iter().collect();
    let indices = (0..operations.len()).collect();
    Part { key: None, operations, indices }
}

impl<M: Model> Part<'_, M> {
    fn search(&self, model: &M, limits: &Limits<'_>, round: u64, used: &mut Used) -> Found {
        if let Some(decided) = model.decide(&self.operations) {
            return match decided {
                Ok(()) => Found::Linearizable,
                Err(refutation) => {
                    Found::Refuted(self.violation("zones", refutation.operations, refutation.sentence))
                }
            };
        }
        let allowed = used.configurations.saturating_add(round).min(limits.configurations);
        let in_round = Limits { configurations: allowed, ..*limits };
        let window = Window::new(model, &self.operations);
        let mut states = States::new(model, model.init(), window.classes.clone());
        match explore(model, &window, &mut states, &in_round, used) {
            Outcome::Linearizable => Found::Linearizable,
            Outcome::Refuted(deepest) => {
                let stuck = window.returns[deepest.at].operation as usize;
                let core = if limits.explain {
                    shrink::shrink(model, &self.operations, stuck, limits)
                } else {
                    shrink::unshrunk(model, &self.operations, stuck)
                };
                Found::Refuted(self.violation("not-linearizable", core.operations, core.sentence))
            }
            Outcome::GaveUp(Exhausted::Configurations) if allowed < limits.configurations => Found::Open,
            Outcome::GaveUp(exhausted) => Found::GaveUp(exhausted),
        }
    }

    /// A violation in terms of the whole history.
    fn violation(&self, rule: &'static str, operations: Vec<usize>, sentence: String) -> Violation {
        let sentence = match self.key {
            Some(key) => format!("key {key}: {sentence}"),
            None => sentence,
        };
        let operations = operations.into_iter().map(|index| self.indices[index]).collect();
        Violation { rule, sentence, operations }
    }
}

/// Configurations per part in the first round, and how many times more in each further one.
const FIRST_ROUND: u64 = 4096;
const GROWTH: u64 = 8;
