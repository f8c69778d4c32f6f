//! A guess at an order: along real time, the most urgent first, with a little going back.
//!
//! Transactions take effect one after the other. One may go next if all that must precede it has gone, if each
//! of its reads finds the version that it did find, and if what it overwrites has no readers left. Who only
//! reads goes as soon as he may: that never hinders anybody. What real databases do nearly always has an order
//! that this finds at once; what has none, or a hidden one, is left to `saturate`.

use std::collections::BTreeSet;

use super::super::graph::Graph;
use super::super::history::{Index, NOBODY};
use super::Effort;
use super::problem::Problem;

/// Whether an order was found. That none was found says nothing.
pub(super) fn exists(problem: &Problem, effort: &Effort<'_>) -> bool {
    problem.guides.iter().zip(&problem.guide_nodes).any(|(guide, nodes)| {
        let graph = problem.graph(guide, (*nodes).max(problem.nodes));
        Walk::new(problem, &graph).run(effort)
    })
}

struct Walk<'p> {
    problem: &'p Problem,
    graph: &'p Graph,
    /// By transaction: the versions that it reads and writes, each with its key.
    reads: Vec<Vec<(u32, u32)>>,
    writes: Vec<Vec<(u32, u32)>>,
    /// By node: how many of those before it have not gone.
    waits: Vec<u32>,
    /// Nodes that wait for nobody, the most urgent first.
    ready: BTreeSet<(u64, u32)>,
    /// Of these, those that change nothing: moments, and transactions that only read.
    harmless: Vec<u32>,
    /// By key: the version it holds, and who has read his snapshot and will write it.
    current: Vec<u32>,
    open: Vec<Index>,
    /// By version: how many readers are still to come.
    pending: Vec<u32>,
    path: Vec<Step>,
}

/// A node that went, and what each key that it wrote had held before.
struct Step {
    node: u32,
    was_forced: bool,
    overwritten: Vec<(u32, u32)>,
}

impl<'p> Walk<'p> {
    fn new(problem: &'p Problem, graph: &'p Graph) -> Self {
        let (count, keys) = (problem.transactions, problem.keys.len());
        let (mut reads, mut writes) = (vec![Vec::new(); count], vec![Vec::new(); count]);
        // The first versions are those before all writes.
        let mut pending = vec![0; keys];
        for (number, key) in (0u32..).zip(&problem.keys) {
            let first = pending.len() as u32;
            for (version, writer) in (first..).zip(&key.writers) {
                writes[*writer as usize].push((number, version));
                pending.push(0);
            }
            for read in &key.reads {
                // Every version that was read has a writer that takes part, or is the first.
                let place = key.writers.binary_search(&read.writer);
                let version = place.map_or(number, |place| first + place as u32);
                debug_assert!(place.is_ok() || read.writer == NOBODY, "an unknown version was read");
                reads[read.reader as usize].push((number, version));
                pending[version as usize] += 1;
            }
        }
        let mut waits = vec![0; graph.nodes()];
        let all = 0..graph.nodes() as u32;
        all.clone().for_each(|node| graph.out(node).iter().for_each(|(to, _)| waits[*to as usize] += 1));
        let mut walk = Walk {
            problem,
            graph,
            reads,
            writes,
            waits,
            ready: BTreeSet::new(),
            harmless: Vec::new(),
            current: (0..keys as u32).collect(),
            open: vec![NOBODY; keys],
            pending,
            path: Vec::new(),
        };
        all.filter(|node| walk.waits[*node as usize] == 0).collect::<Vec<_>>().iter().for_each(|node| {
            walk.offer(*node);
        });
        walk
    }

    fn run(mut self, effort: &Effort<'_>) -> bool {
        let mut steps = 64 * self.graph.nodes() as u64 + 20_000;
        let mut behind: Option<(u64, u32)> = None;
        while self.path.len() < self.graph.nodes() {
            steps = match steps.checked_sub(1) {
                Some(steps) if steps % 1024 != 0 || !effort.stop.is_some_and(|stop| stop()) => steps,
                _ => return false,
            };
            // Harmless ones first; a place that we came back to tries what it has not tried.
            if let Some(node) = self.harmless_one() {
                self.go(node, true);
                continue;
            }
            let from = behind.take().map_or((0, 0), |(urgency, node)| (urgency, node + 1));
            let next = self.ready.range(from..).find(|(_, node)| self.may_go(*node)).copied();
            if let Some((_, node)) = next {
                self.go(node, false);
                continue;
            }
            // Back to the last choice.
            loop {
                let Some(step) = self.path.pop() else { return false };
                let (node, was_forced) = (step.node, step.was_forced);
                self.take_back(step);
                if !was_forced {
                    behind = Some((self.urgency(node), node));
                    break;
                }
            }
        }
        true
    }

    fn urgency(&self, node: u32) -> u64 {
        self.problem.transaction_of(node).map_or(0, |index| self.problem.urgency[index as usize])
    }

    fn is_harmless(&self, node: u32) -> bool {
        self.problem.transaction_of(node).is_none_or(|index| self.writes[index as usize].is_empty())
    }

    fn offer(&mut self, node: u32) {
        if self.is_harmless(node) {
            self.harmless.push(node);
        } else {
            self.ready.insert((self.urgency(node), node));
        }
    }

    fn harmless_one(&mut self) -> Option<u32> {
        let at = self.harmless.iter().position(|node| self.may_go(*node))?;
        Some(self.harmless.swap_remove(at))
    }

    /// What a node is of: the transaction, whether it reads, whether it writes.
    fn role(&self, node: u32) -> Option<(Index, bool, bool)> {
        let index = self.problem.transaction_of(node)?;
        let target = self.problem.target;
        Some((index, node == target.reads(index), node == target.writes(index)))
    }

    fn may_go(&self, node: u32) -> bool {
        let Some((index, reads, writes)) = self.role(node) else { return true };
        let (read, written) = (&self.reads[index as usize], &self.writes[index as usize]);
        if reads && !read.iter().all(|(key, version)| self.current[*key as usize] == *version) {
            return false;
        }
        if reads && !writes {
            // The first half of a snapshot: nobody else may be about to write the same.
            return written.iter().all(|(key, _)| self.open[*key as usize] == NOBODY);
        }
        !writes
            || written.iter().all(|(key, _)| {
                let version = self.current[*key as usize];
                let own = u32::from(reads && read.contains(&(*key, version)));
                self.pending[version as usize] == own
            })
    }

    fn go(&mut self, node: u32, was_forced: bool) {
        let mut overwritten = Vec::new();
        if let Some((index, reads, writes)) = self.role(node) {
            if reads {
                self.reads[index as usize]
                    .iter()
                    .for_each(|(_, version)| self.pending[*version as usize] -= 1);
            }
            for (key, version) in &self.writes[index as usize] {
                if writes {
                    overwritten.push((*key, std::mem::replace(&mut self.current[*key as usize], *version)));
                }
                self.open[*key as usize] = if writes { NOBODY } else { index };
            }
        }
        self.ready.remove(&(self.urgency(node), node));
        self.path.push(Step { node, was_forced, overwritten });
        for (to, _) in self.graph.out(node) {
            self.waits[*to as usize] -= 1;
            if self.waits[*to as usize] == 0 {
                self.offer(*to);
            }
        }
    }

    fn take_back(&mut self, step: Step) {
        for (to, _) in self.graph.out(step.node) {
            if self.waits[*to as usize] == 0 {
                self.ready.remove(&(self.urgency(*to), *to));
                self.harmless.retain(|node| node != to);
            }
            self.waits[*to as usize] += 1;
        }
        self.offer(step.node);
        let Some((index, reads, writes)) = self.role(step.node) else { return };
        if reads {
            self.reads[index as usize].iter().for_each(|(_, version)| self.pending[*version as usize] += 1);
        }
        for (key, _) in &self.writes[index as usize] {
            let both = reads && writes;
            self.open[*key as usize] = if writes && !both { index } else { NOBODY };
        }
        for (key, version) in step.overwritten {
            self.current[key as usize] = version;
        }
    }
}
