//! The smallest part of a refuted history that is still refuted.
//!
//! Not every part of a history means something: without a write, the reads of its value would be refuted for
//! the wrong reason. What may be left out so that the rest is still evidence:
//!
//! * everything called after the point where the search was stuck; what is pending there may or may not have
//!   happened;
//! * everything that returned before some moment, if the rest is refuted from every state that the search has
//!   met; what is pending at that moment may or may not have happened by then;
//! * any read;
//! * all operations of a value, if the model can tell values ([`Model::values`]).
//!
//! Each step is verified by a search of its own, so the result is refuted for certain.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

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
    let copy = |operation: &&Operation<M::Input, M::Output>| {
        let returned = operation.returned.as_ref().filter(|returned| returned.at <= end);
        Operation {
            process: operation.process,
            call: operation.call,
            input: operation.input.clone(),
            returned: returned.map(|returned| Returned { at: returned.at, output: returned.output.clone() }),
        }
    };
    let mut shrinker = Shrinker {
        model,
        operations: operations.iter().map(copy).collect(),
        starts: vec![model.init()],
        since: None,
        limits,
        keep: (0..operations.len()).filter(|index| operations[*index].call <= end).collect(),
        work: 0,
    };
    shrinker.work = WORK_MIN.max(SEARCHES_MAX * shrinker.keep.len());
    // Whole stories first: a few values from the beginning on are easier to follow than any state in between.
    let groups = if shrinker.keep.len() > STORY_MAX { Vec::new() } else { shrinker.value_groups() };
    let has_values = !groups.is_empty();
    if has_values {
        shrinker.drop_reads();
        shrinker.drop_groups(groups);
    }
    if !has_values || shrinker.keep.len() > STORY_GOOD {
        shrinker.drop_beginning();
    }
    shrinker.drop_reads();
    shrinker.drop_groups(shrinker.value_groups());
    shrinker.drop_end();
    shrinker.drop_reads();
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
    /// Those that are pending at an end of what is looked at have no return.
    operations: Vec<Operation<M::Input, M::Output>>,
    /// The states that it may begin with.
    starts: Vec<M::State>,
    /// When it begins, if not at the beginning.
    since: Option<u64>,
    limits: &'a Limits<'a>,
    keep: BTreeSet<usize>,
    /// Operations that may still be looked at, over all searches.
    work: usize,
}

/// Where the search was stuck: the operation whose return could not be passed, and the states there.
struct Stuck {
    operation: usize,
    states: BTreeSet<String>,
}

impl<M: Model> Shrinker<'_, M> {
    /// Leaves out `group` if the rest is still refuted.
    fn try_without(&mut self, group: &[usize]) -> bool {
        let rest: BTreeSet<usize> =
            self.keep.iter().copied().filter(|index| !group.contains(index)).collect();
        let smaller = rest.len() < self.keep.len() && self.work > 0;
        if smaller && self.stuck(&rest).is_some() {
            self.keep = rest;
            return true;
        }
        false
    }

    /// Searches a part from every start: where it was stuck, if it is refuted from all.
    fn stuck(&mut self, part: &BTreeSet<usize>) -> Option<Stuck> {
        // Of all starts, the one that leads furthest tells most.
        let mut furthest: Option<Stuck> = None;
        for start in self.starts.clone() {
            let stuck = self.stuck_from(part, start, None)?;
            let end = |stuck: &Stuck| self.operations[stuck.operation].return_time();
            if furthest.as_ref().is_none_or(|furthest| end(furthest) < end(&stuck)) {
                furthest = Some(stuck);
            }
        }
        furthest
    }

    /// Searches a part from one start. `met` gets the states that the search meets.
    fn stuck_from(
        &mut self,
        part: &BTreeSet<usize>,
        start: M::State,
        met: Option<&mut Vec<M::State>>,
    ) -> Option<Stuck> {
        self.work = self.work.saturating_sub(part.len() + 1);
        let indices: Vec<usize> = part.iter().copied().collect();
        let operations: Vec<&Operation<_, _>> =
            indices.iter().map(|index| &self.operations[*index]).collect();
        let window = Window::new(self.model, &operations, self.limits.bytes)?;
        let mut states = States::new(self.model, start, &window.classes);
        let limits =
            Limits { configurations: CONFIGURATIONS_MAX, reductions: Reductions::ALL, ..*self.limits };
        let outcome = explore(self.model, &window, &mut states, &limits, &mut Used::default());
        let Outcome::Refuted(deepest) = outcome else { return None };
        if let Some(met) = met {
            met.extend_from_slice(states.all());
        }
        let operation = indices[window.returns[deepest.at].operation as usize];
        let shown = deepest.states.iter().map(|state| self.model.describe_state(states.state(*state)));
        Some(Stuck { operation, states: shown.collect() })
    }

    /// Leaves out as much of the beginning as can be left out whatever the state was after it.
    fn drop_beginning(&mut self) {
        let mut met = Vec::new();
        let (all, init) = (self.keep.clone(), self.model.init());
        if self.stuck_from(&all, init, Some(&mut met)).is_none() || met.len() > STARTS_MAX {
            return;
        }
        let returns = all.iter().filter_map(|index| self.operations[*index].returned.as_ref());
        let mut moments: Vec<u64> = returns.map(|returned| returned.at).collect();
        moments.sort_unstable();
        moments.dedup();
        moments.pop();
        // Late moments leave little: try the last, the second to last, the fourth to last, ….
        let mut back = 1;
        while let Some(moment) = moments.len().checked_sub(back).map(|index| moments[index]) {
            if self.work == 0 || self.try_since(moment, &met) {
                return;
            }
            back = if back < 16 { back + 1 } else { back * 2 };
        }
    }

    /// Looks only at what had not returned by `moment`, if that is refuted from all of `starts`.
    fn try_since(&mut self, moment: u64, starts: &[M::State]) -> bool {
        let before = (self.operations.clone(), self.starts.clone());
        let rest: BTreeSet<usize> = self
            .keep
            .iter()
            .copied()
            .filter(|index| self.operations[*index].return_time() > moment)
            .collect();
        for index in &rest {
            let operation = &mut self.operations[*index];
            if operation.call <= moment {
                operation.returned = None;
            }
        }
        self.starts = starts.to_vec();
        if self.stuck(&rest).is_some() {
            self.keep = rest;
            self.since = Some(moment);
            return true;
        }
        (self.operations, self.starts) = before;
        false
    }

    /// Leaves out what was called after the return at which the search is stuck now: it may be an earlier one
    /// than at first.
    fn drop_end(&mut self) {
        let Some(stuck) = self.stuck(&self.keep.clone()) else { return };
        let end = self.operations[stuck.operation].return_time();
        let later: Vec<usize> =
            self.keep.iter().copied().filter(|index| self.operations[*index].call > end).collect();
        self.try_without(&later);
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
        let operation = &self.operations[index];
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
            let operation = &self.operations[*index];
            let mut values = Vec::new();
            let mut visit = |value: &dyn Debug| values.push(format!("{value:?}"));
            if !self.model.values(&operation.input, operation.output(), &mut visit) {
                return Vec::new();
            }
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
        let found = self.stuck(&keep);
        let stuck = found.as_ref().map_or(stuck_before, |found| found.operation);
        let operation = &self.operations[stuck];
        let what = self.model.describe(&operation.input, operation.output());
        let states: Vec<String> = found.into_iter().flat_map(|found| found.states).collect();
        let why = match (self.since, states.as_slice()) {
            (Some(since), _) => format!(", whatever state those before had led to by {since}"),
            (None, []) => String::new(),
            (None, [one]) => format!(": the only state it can meet is {one}"),
            (None, many) => format!(": it can meet only the states {}", many.join(", ")),
        };
        let among = match keep.len() - 1 {
            0 => String::new(),
            1 => " before or after the one other operation that matters".to_owned(),
            others => format!(" among the {others} other operations that matter"),
        };
        let sentence = format!(
            "process {} {what}, called at {}, returned at {}, cannot be placed{among}{why}",
            operation.process,
            operation.call,
            operation.return_time(),
        );
        let others = keep.into_iter().filter(|index| *index != stuck);
        Core { operations: std::iter::once(stuck).chain(others).collect(), sentence }
    }
}

/// How many searches of the whole shrinking may take, or of how many operations, and how large each may grow.
const SEARCHES_MAX: usize = 400;
const WORK_MIN: usize = 20_000;
const CONFIGURATIONS_MAX: u64 = 20_000;
/// With more states than this, starting from each of them takes too long.
const STARTS_MAX: usize = 256;
/// Longer histories are not searched for a few values as they are, and fewer operations than this are a story.
const STORY_MAX: usize = 2000;
const STORY_GOOD: usize = 6;
