//! The smallest part of a refuted history that is still refuted.
//!
//! Not every part of a history means something: without a write, the reads of its value would be refuted for the
//! wrong reason. What may be left out so that the rest is still evidence:
//!
//! * everything called after the point where the search was stuck; what is pending there may or may not have
//!   happened;
//! * any read;
//! * all operations of a value, if the model can tell values ([`Model::values`]).
//!
//! Each step is verified by a search of its own, so the result is refuted for certain.

use std::collections::{BTreeMap, BTreeSet};

use super::explore::{Outcome, Used, explore};
use super::states::States;
use super::window::Window;
use super::{Limits, Reductions};
use crate::history::{Operation, Returned};
use crate::model::Model;

/// A refuted part of a partition.
pub(super) struct Core {
    /// Its operations, the one that cannot be placed first.
    pub operations: Vec<usize>,
    /// Why it is refuted.
    pub sentence: String,
}

/// Shrinks a refuted partition in which the search could not pass the return of `stuck`.
pub(super) fn shrink<M: Model>(
    model: &M,
    operations: &[&Operation<M::Input, M::Output>],
    stuck: usize,
    limits: &Limits<'_>,
) -> Core {
    let end = operations[stuck].return_time();
    let prefix: Vec<Operation<M::Input, M::Output>> = operations
        .iter()
        .map(|operation| Operation {
            process: operation.process,
            call: operation.call,
            input: operation.input.clone(),
            returned: operation
                .returned
                .as_ref()
                .filter(|returned| returned.at <= end)
                .map(|returned| Returned { at: returned.at, output: returned.output.clone() }),
        })
        .collect();
    let keep = (0..operations.len()).filter(|index| operations[*index].call <= end).collect();
    let mut shrinker = Shrinker { model, prefix: &prefix, limits, keep, searches: SEARCHES_MAX };
    shrinker.drop_groups(shrinker.value_groups());
    shrinker.drop_reads();
    shrinker.drop_groups(shrinker.value_groups());
    shrinker.core(stuck)
}

/// The operation that the search could not place, for those who want no more.
pub(super) fn unshrunk<M: Model>(
    model: &M,
    operations: &[&Operation<M::Input, M::Output>],
    stuck: usize,
) -> Core {
    let operation = operations[stuck];
    let what = model.describe(&operation.input, operation.output());
    let sentence =
        format!("process {} {what}, called at {}, cannot be placed", operation.process, operation.call);
    Core { operations: vec![stuck], sentence }
}

struct Shrinker<'a, M: Model> {
    model: &'a M,
    prefix: &'a [Operation<M::Input, M::Output>],
    limits: &'a Limits<'a>,
    keep: BTreeSet<usize>,
    searches: usize,
}

impl<M: Model> Shrinker<'_, M> {
    /// Leaves out `group` if the rest is still refuted.
    fn try_without(&mut self, group: &[usize]) -> bool {
        let rest: BTreeSet<usize> =
            self.keep.iter().copied().filter(|index| !group.contains(index)).collect();
        let smaller = rest.len() < self.keep.len() && self.searches > 0;
        if smaller && self.stuck(&rest).is_some() {
            self.keep = rest;
            return true;
        }
        false
    }

    /// Searches a part: the operation whose return could not be passed and the states there, if it is refuted.
    fn stuck(&mut self, part: &BTreeSet<usize>) -> Option<(usize, Vec<String>)> {
        self.searches = self.searches.saturating_sub(1);
        let indices: Vec<usize> = part.iter().copied().collect();
        let operations: Vec<&Operation<_, _>> = indices.iter().map(|index| &self.prefix[*index]).collect();
        let window = Window::new(self.model, &operations);
        let mut states = States::new(self.model, window.classes.clone());
        let limits =
            Limits { configurations: CONFIGURATIONS_MAX, reductions: Reductions::default(), ..*self.limits };
        match explore(self.model, &window, &mut states, &limits, &mut Used::default()) {
            Outcome::Refuted(deepest) => {
                let stuck = indices[window.returns[deepest.at].operation as usize];
                let shown =
                    deepest.states.iter().map(|state| self.model.describe_state(states.state(*state)));
                Some((stuck, shown.collect()))
            }
            _ => None,
        }
    }

    /// Leaves out reads: many at once first, then fewer, then one by one.
    fn drop_reads(&mut self) {
        let mut size = self.keep.len();
        while size > 0 {
            let reads: Vec<usize> = self.keep.iter().copied().filter(|index| self.is_read(*index)).collect();
            for chunk in reads.chunks(size) {
                self.try_without(chunk);
            }
            size /= 2;
        }
    }

    fn is_read(&self, index: usize) -> bool {
        let operation = &self.prefix[index];
        self.model.is_read(&operation.input, operation.output())
    }

    fn drop_groups(&mut self, groups: Vec<Vec<usize>>) {
        let mut size = groups.len();
        while size > 0 {
            for chunk in groups.chunks(size) {
                self.try_without(&chunk.concat());
            }
            size /= 2;
        }
    }

    /// Operations by value; values that one operation ties together are one group.
    fn value_groups(&self) -> Vec<Vec<usize>> {
        let mut group_of_value: BTreeMap<String, usize> = BTreeMap::new();
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for index in &self.keep {
            let operation = &self.prefix[*index];
            let mut values = Vec::new();
            self.model
                .values(&operation.input, operation.output(), &mut |value| values.push(format!("{value:?}")));
            let Some(first) = values.first() else { continue };
            let next = groups.len();
            let target = *group_of_value.entry(first.clone()).or_insert(next);
            if target == next {
                groups.push(Vec::new());
            }
            groups[target].push(*index);
            for value in values.into_iter().skip(1) {
                if let Some(other) = group_of_value.insert(value, target).filter(|other| *other != target) {
                    let moved = std::mem::take(&mut groups[other]);
                    groups[target].extend(moved);
                    group_of_value
                        .values_mut()
                        .filter(|group| **group == other)
                        .for_each(|group| *group = target);
                }
            }
        }
        groups.retain(|group| !group.is_empty());
        groups
    }

    /// What is left, in words.
    fn core(mut self, stuck_before: usize) -> Core {
        let keep = std::mem::take(&mut self.keep);
        self.searches = self.searches.max(1);
        let (stuck, states) = self.stuck(&keep).unwrap_or((stuck_before, Vec::new()));
        let operation = &self.prefix[stuck];
        let what = self.model.describe(&operation.input, operation.output());
        let states = match states.as_slice() {
            [] => String::new(),
            [one] => format!(": the only state it can meet is {one}"),
            many => format!(": it can meet only the states {}", many.join(", ")),
        };
        let sentence = format!(
            "process {} {what}, called at {}, returned at {}, cannot be placed among the other {} operations that \
             matter{states}",
            operation.process,
            operation.call,
            operation.return_time(),
            keep.len() - 1,
        );
        let others = keep.into_iter().filter(|index| *index != stuck);
        Core { operations: std::iter::once(stuck).chain(others).collect(), sentence }
    }
}

/// How many searches shrinking may take, and how large each may grow.
const SEARCHES_MAX: usize = 400;
const CONFIGURATIONS_MAX: u64 = 20_000;
