//! The longest order that a model permits: the witness of a valid history, and for a refuted one how far any
//! order comes and what it is stuck at.
//!
//! The verdict does not come from here. Its engines are made for speed and forget how they came to where they
//! are; this search is plain, remembers the way, and stops after so many configurations with the best that it
//! has. It goes from return to return: what returns next must have taken effect, at once or after another
//! pending operation; reads that fit take effect without a choice. Two hints keep it from getting lost:
//! a pending read that no remaining write can make legal ends the branch, and where every answer has one
//! source, writes are tried in the order in which their values are needed, those that nobody reads first.

use std::collections::HashSet;

use super::sources::Sources;
use crate::history::Operation;
use crate::model::Model;

/// An order, and what comes after it.
#[derive(Clone, Debug)]
pub(super) struct Path<S> {
    /// Operations in the order of their effects, each with the state after it.
    pub order: Vec<(usize, S)>,
    /// What cannot be placed, unless all of it was.
    pub stuck: Option<Stuck<S>>,
    /// Whether every other order was tried, too.
    pub exhaustive: bool,
}

/// Where no order gets any further.
#[derive(Clone, Debug)]
pub(super) struct Stuck<S> {
    /// The operation that must take effect now.
    pub operation: usize,
    /// All states found at this point, a few, each with what took effect last in some order that leads to it.
    pub states: Vec<(S, Vec<usize>)>,
}

/// Searches for the longest order. Visits at most `configurations_max`.
pub(super) fn longest<M: Model>(
    model: &M,
    operations: &[&Operation<M::Input, M::Output>],
    configurations_max: usize,
) -> Path<M::State> {
    let mut search = Search {
        model,
        operations,
        moments: moments(model, operations),
        nodes: vec![Node { parent: ROOT, operation: ROOT, state: model.init() }],
        sources: Sources::new(model, operations),
        seen: HashSet::new(),
        deepest: 0,
        ends: Vec::new(),
    };
    let exhaustive = search.run(configurations_max);
    search.path(exhaustive)
}

/// The moment before a return.
struct Moment {
    /// What returns.
    operation: u32,
    /// What has been called and has not returned, by their returns; unknown outcomes last.
    pending: Vec<u32>,
}

/// One moment per return, in order. Reads of unknown outcome say nothing and are left out.
fn moments<M: Model>(model: &M, operations: &[&Operation<M::Input, M::Output>]) -> Vec<Moment> {
    let mut ends: Vec<(u64, bool, u32)> = Vec::with_capacity(operations.len() * 2);
    for (index, operation) in operations.iter().enumerate() {
        if operation.returned.is_some() || !model.is_read(&operation.input, None) {
            ends.push((operation.call, false, index as u32));
        }
        if operation.returned.is_some() {
            ends.push((operation.return_time().max(operation.call), true, index as u32));
        }
    }
    ends.sort_unstable();
    let (mut pending, mut moments) = (Vec::<u32>::new(), Vec::new());
    for (_, is_return, index) in ends {
        if is_return {
            moments.push(Moment { operation: index, pending: pending.clone() });
            pending.retain(|other| *other != index);
        } else {
            let key = |index: u32| (operations[index as usize].return_time(), index);
            let place = pending.partition_point(|other| key(*other) < key(index));
            pending.insert(place, index);
        }
    }
    moments
}

/// No node, no operation.
const ROOT: u32 = u32::MAX;

/// One step of an order.
struct Node<S> {
    parent: u32,
    operation: u32,
    state: S,
}

/// What distinguishes configurations: the next return, the state, and what is pending and has taken effect.
type Configuration<S> = (u32, S, Vec<u32>);

struct Search<'a, M: Model> {
    model: &'a M,
    operations: &'a [&'a Operation<M::Input, M::Output>],
    moments: Vec<Moment>,
    sources: Option<Sources>,
    nodes: Vec<Node<M::State>>,
    seen: HashSet<Configuration<M::State>>,
    /// The furthest return that could not be passed yet, and the nodes there.
    deepest: u32,
    ends: Vec<u32>,
}

impl<M: Model> Search<'_, M> {
    /// Whether every configuration was visited or a whole order was found.
    fn run(&mut self, configurations_max: usize) -> bool {
        let mut stack = vec![(0, 0, Vec::new())];
        while let Some((node, at, done)) = stack.pop() {
            let Some((node, at, done)) = self.settle(node, at, done) else { continue };
            if at as usize == self.moments.len() {
                self.deepest = at;
                self.ends = vec![node];
                return true;
            }
            if self.seen.len() >= configurations_max {
                return false;
            }
            if self.is_hopeless(node, at, &done) {
                continue;
            }
            let first = stack.len();
            for operation in self.candidates(at, &done) {
                if let Some(next) = self.step(node, operation) {
                    let mut done = done.clone();
                    done.insert(done.partition_point(|other| *other < operation), operation);
                    stack.push((next, at, done));
                }
            }
            stack[first..].reverse();
        }
        true
    }

    /// What may take effect next, the most promising first: what returns or is needed first, and before it what
    /// nobody reads.
    fn candidates(&self, at: u32, done: &[u32]) -> Vec<u32> {
        let pending = self.moments[at as usize].pending.iter().copied();
        let mut candidates: Vec<u32> = pending.filter(|operation| !done.contains(operation)).collect();
        if let Some(sources) = self.sources.as_ref().filter(|sources| sources.unique) {
            let is_spare = |operation: u32| {
                sources.unread[operation as usize] && self.operations[operation as usize].returned.is_some()
            };
            candidates.sort_by_key(|operation| {
                (!is_spare(*operation), sources.due[*operation as usize], *operation)
            });
        }
        candidates
    }

    /// Whether some pending read can never become legal.
    fn is_hopeless(&self, node: u32, at: u32, done: &[u32]) -> bool {
        let Some(sources) = &self.sources else { return false };
        let state = &self.nodes[node as usize].state;
        let now = self.operations[self.moments[at as usize].operation as usize].return_time();
        self.moments[at as usize].pending.iter().any(|read| {
            let Operation { input, .. } = self.operations[*read as usize];
            let Some(output) = self.operations[*read as usize].output() else { return false };
            let may_come = |write: &u32| {
                let write_returns = self.operations[*write as usize].return_time();
                write_returns >= now && !done.contains(write)
            };
            self.model.is_read(input, Some(output))
                && !done.contains(read)
                && !self.model.is_on_the_way(state, input, output)
                && !sources.of(*read).iter().any(may_come)
        })
    }

    /// Lets happen what needs no choice. None if this configuration is known.
    fn settle(&mut self, mut node: u32, mut at: u32, mut done: Vec<u32>) -> Option<(u32, u32, Vec<u32>)> {
        while let Some(moment) = self.moments.get(at as usize) {
            let returning = moment.operation;
            for index in 0..self.moments[at as usize].pending.len() {
                let operation = self.moments[at as usize].pending[index];
                let Operation { input, .. } = self.operations[operation as usize];
                let output = self.operations[operation as usize].output();
                if self.model.is_read(input, output)
                    && !done.contains(&operation)
                    && let Some(next) = self.step(node, operation)
                {
                    node = next;
                    done.insert(done.partition_point(|other| *other < operation), operation);
                }
            }
            let Ok(place) = done.binary_search(&returning) else { break };
            done.remove(place);
            at += 1;
        }
        if at > self.deepest {
            self.deepest = at;
            self.ends.clear();
        }
        if at == self.deepest && self.ends.len() < ENDS_MAX {
            self.ends.push(node);
        }
        let state = self.nodes[node as usize].state.clone();
        self.seen.insert((at, state, done.clone())).then_some((node, at, done))
    }

    fn step(&mut self, parent: u32, operation: u32) -> Option<u32> {
        let Operation { input, .. } = self.operations[operation as usize];
        let output = self.operations[operation as usize].output();
        let state = self.model.step(&self.nodes[parent as usize].state, input, output)?;
        self.nodes.push(Node { parent, operation, state });
        Some(self.nodes.len() as u32 - 1)
    }

    /// The operations that lead to a node.
    fn way(&self, mut node: u32) -> Vec<u32> {
        let mut way = Vec::new();
        while node != 0 {
            way.push(node);
            node = self.nodes[node as usize].parent;
        }
        way.reverse();
        way
    }

    fn path(self, exhaustive: bool) -> Path<M::State> {
        let ways: Vec<Vec<u32>> = self.ends.iter().map(|end| self.way(*end)).collect();
        let longest = ways.iter().max_by_key(|way| way.len()).map_or(&[][..], Vec::as_slice);
        let step = |node: &u32| {
            let node = &self.nodes[*node as usize];
            (node.operation as usize, node.state.clone())
        };
        let stuck = self.moments.get(self.deepest as usize).map(|moment| {
            let mut states: Vec<(M::State, Vec<usize>)> = Vec::new();
            for (end, way) in self.ends.iter().zip(&ways) {
                let state = &self.nodes[*end as usize].state;
                if !states.iter().any(|(known, _)| known == state) {
                    let last = &way[way.len().saturating_sub(STEPS_SHOWN)..];
                    let last = last.iter().map(|node| self.nodes[*node as usize].operation as usize);
                    states.push((state.clone(), last.collect()));
                }
            }
            Stuck { operation: moment.operation as usize, states }
        });
        Path { order: longest.iter().map(step).collect(), stuck, exhaustive }
    }
}

/// How many ways to the deepest point are kept, and how many of their last steps.
const ENDS_MAX: usize = 64;
const STEPS_SHOWN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::History;
    use crate::models::{KeyValue, KeyValueInput};

    fn put(history: &mut History<KeyValueInput, Option<String>>, times: (u64, u64), value: &str) {
        let id = history.invoke(1, times.0, KeyValueInput::Put("k".into(), value.into()));
        history.ok(id, times.1, None);
    }

    fn get(history: &mut History<KeyValueInput, Option<String>>, times: (u64, u64), value: &str) {
        let id = history.invoke(2, times.0, KeyValueInput::Get("k".into()));
        history.ok(id, times.1, Some(value.into()));
    }

    #[test]
    fn a_valid_history_is_ordered_as_a_whole() {
        let mut history = History::new();
        put(&mut history, (1, 10), "a");
        put(&mut history, (2, 9), "b");
        get(&mut history, (11, 12), "a");
        let operations: Vec<_> = history.operations.iter().collect();
        let path = longest(&KeyValue, &operations, 1000);
        assert!(path.stuck.is_none() && path.exhaustive);
        let order: Vec<usize> = path.order.iter().map(|(operation, _)| *operation).collect();
        assert_eq!(order, [1, 0, 2], "the read tells which write was last");
    }

    #[test]
    fn a_refuted_one_is_ordered_up_to_where_it_breaks() {
        let mut history = History::new();
        put(&mut history, (1, 2), "a");
        put(&mut history, (3, 4), "b");
        get(&mut history, (5, 6), "a");
        get(&mut history, (7, 8), "b");
        let operations: Vec<_> = history.operations.iter().collect();
        let path = longest(&KeyValue, &operations, 1000);
        let stuck = path.stuck.expect("the first read is stale");
        assert_eq!((path.order.len(), stuck.operation), (2, 2));
        assert_eq!(stuck.states, [("b".to_owned(), vec![0, 1])]);
    }
}
