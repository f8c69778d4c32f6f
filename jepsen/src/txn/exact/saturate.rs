//! The two rules until nothing follows any more, and choices where nothing follows.
//!
//! Every edge knows its reason, so that a circle can be followed back to the transactions that make it, and to
//! the choices. A choice that a circle does not depend on is not tried the other way round: the search jumps
//! back to the last one that matters.

use std::collections::{BTreeSet, VecDeque};

use super::super::history::{Index, NOBODY};
use super::Effort;
use super::closure::{Closure, Mark, bits};
use super::problem::{Known, Problem};

/// What a search finds.
pub(super) enum Outcome {
    /// There is an order.
    Ordered,
    /// There is none.
    Impossible(Proof),
    /// The effort was used up.
    GaveUp(String),
}

/// Why there is no order.
#[derive(Clone, Default)]
pub(super) struct Proof {
    /// The transactions that matter.
    pub transactions: BTreeSet<Index>,
    /// The edges from which the circle follows, known ones first and each behind those that it follows from; none
    /// if choices were needed.
    pub derived: Vec<Edge>,
    /// The circle; empty if choices were needed.
    pub circle: Vec<Edge>,
}

/// An edge and why.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edge {
    pub from: u32,
    pub to: u32,
    pub why: Why,
}

/// Why one node precedes another.
#[derive(Clone, Copy, Debug)]
pub(super) enum Why {
    /// It was known.
    Known(u8),
    /// The reader found the key as it was before all writes.
    Initial { key: u32 },
    /// The reader comes after the source and yet read from the target.
    ReadPast { key: u32, reader: Index },
    /// The source read from a writer that precedes the target.
    Missed { key: u32, writer: Index },
    /// Both wrote the key, and the source began first: the target's snapshot came after it.
    Conflict { key: u32 },
    /// It was assumed, as the choice of this number.
    Choice(u32),
}

/// Finds out whether there is an order.
pub(super) fn search(problem: &Problem, effort: &Effort<'_>) -> Outcome {
    let graph = problem.graph(&[], problem.nodes);
    let Some(order) = graph.topological() else {
        return Outcome::Impossible(known_circle(problem));
    };
    if Closure::bytes(problem.nodes) > effort.bytes {
        let (count, limit) = (problem.transactions, effort.bytes >> 20);
        return Outcome::GaveUp(format!(
            "to follow all orders of {count} transactions takes more than {limit} MiB, and none was found at once"
        ));
    }
    let closure = Closure::new(&graph, &order);
    let mut search = Search::new(problem, closure);
    search.run(effort)
}

/// A circle of what was known from the beginning: the shortest.
fn known_circle(problem: &Problem) -> Proof {
    let edges = Explicit::new(problem);
    let in_circle = problem.graph(&[], problem.nodes).components(u8::MAX);
    let component = in_circle.iter().min_by_key(|nodes| nodes.len()).expect("no order, so there is a circle");
    let members: BTreeSet<u32> = component.iter().copied().collect();
    let all = edges.list.len();
    let circles = edges.list.clone().into_iter().filter(|edge| members.contains(&edge.from));
    let shortest = circles.filter_map(|edge| {
        let mut circle = vec![edge];
        circle.extend(edges.path(edge.to, edge.from, all)?.into_iter().map(|at| edges.list[at]));
        Some(circle)
    });
    let circle = shortest.min_by_key(Vec::len).expect("every edge of a component is in a circle");
    let nodes = circle.iter().filter_map(|edge| problem.transaction_of(edge.from));
    Proof { transactions: nodes.collect(), derived: Vec::new(), circle }
}

/// All edges one by one, by their source.
struct Explicit {
    list: Vec<Edge>,
    out: Vec<Vec<usize>>,
}

impl Explicit {
    fn new(problem: &Problem) -> Explicit {
        let mut edges = Explicit { list: Vec::new(), out: vec![Vec::new(); problem.nodes] };
        for Known { from, to, kind } in &problem.known {
            edges.push(Edge { from: *from, to: *to, why: Why::Known(*kind) });
        }
        edges
    }

    fn push(&mut self, edge: Edge) {
        self.out[edge.from as usize].push(self.list.len());
        self.list.push(edge);
    }

    fn truncate(&mut self, length: usize) {
        while self.list.len() > length {
            let edge = self.list.pop().expect("it is longer");
            self.out[edge.from as usize].pop();
        }
    }

    /// The shortest path by the first so many edges.
    fn path(&self, from: u32, to: u32, limit: usize) -> Option<Vec<usize>> {
        let mut reached = vec![usize::MAX; self.out.len()];
        let mut queue = VecDeque::from([from]);
        let mut seen = vec![false; self.out.len()];
        seen[from as usize] = true;
        while let Some(node) = queue.pop_front() {
            if node == to {
                let (mut path, mut node) = (Vec::new(), to);
                while node != from {
                    path.push(reached[node as usize]);
                    node = self.list[reached[node as usize]].from;
                }
                path.reverse();
                return Some(path);
            }
            for at in self.out[node as usize].iter().take_while(|at| **at < limit) {
                let next = self.list[*at].to;
                if !std::mem::replace(&mut seen[next as usize], true) {
                    reached[next as usize] = *at;
                    queue.push_back(next);
                }
            }
        }
        None
    }
}

struct Search<'p> {
    problem: &'p Problem,
    closure: Closure,
    edges: Explicit,
    /// By key: its writers' nodes, as a row.
    writers: Vec<Vec<u64>>,
    choices: Vec<Choice>,
}

/// A choice between two orders of two writers.
struct Choice {
    mark: Mark,
    edges: usize,
    /// The other order, if it was not tried.
    other: Option<Edge>,
    /// Why the first one was impossible.
    first: Option<Conflict>,
}

/// What a circle depends on.
#[derive(Clone, Default)]
struct Conflict {
    transactions: BTreeSet<Index>,
    choices: BTreeSet<u32>,
    proof: Option<Box<Proof>>,
}

impl<'p> Search<'p> {
    fn new(problem: &'p Problem, closure: Closure) -> Self {
        let words = problem.nodes.div_ceil(64);
        let row = |writers: &Vec<Index>| {
            let mut row = vec![0; words];
            for node in writers.iter().map(|writer| problem.target.writes(*writer)) {
                row[node as usize / 64] |= 1 << (node % 64);
            }
            row
        };
        let writers = problem.keys.iter().map(|key| row(&key.writers)).collect();
        Search { problem, closure, edges: Explicit::new(problem), writers, choices: Vec::new() }
    }

    fn run(&mut self, effort: &Effort<'_>) -> Outcome {
        loop {
            let conflict = match self.saturate() {
                Ok(()) => match self.undecided() {
                    None => return Outcome::Ordered,
                    Some((first, other)) => {
                        if self.choices.is_empty() {
                            self.closure.settle();
                        }
                        let (mark, edges) = (self.closure.mark(), self.edges.list.len());
                        self.choices.push(Choice { mark, edges, other: Some(other), first: None });
                        self.add(first).err()
                    }
                },
                Err(conflict) => Some(conflict),
            };
            if let Some(conflict) = conflict
                && let Some(proof) = self.back(conflict)
            {
                return Outcome::Impossible(proof);
            }
            if effort.stop.is_some_and(|stop| stop()) {
                return Outcome::GaveUp("the check was stopped".to_owned());
            }
            let choices = self.choices.len();
            if self.closure.work > effort.steps || self.closure.trail_bytes() > effort.bytes {
                return Outcome::GaveUp(format!(
                    "the search for an order used up its effort with {choices} open choices between writers"
                ));
            }
        }
    }

    /// Goes back to the last choice that the conflict depends on and tries the other way. A proof: there is
    /// none left.
    fn back(&mut self, mut conflict: Conflict) -> Option<Proof> {
        loop {
            let Some(mut choice) = self.choices.pop() else {
                let proof = conflict.proof.map(|proof| *proof);
                return Some(
                    proof.unwrap_or(Proof { transactions: conflict.transactions, ..Proof::default() }),
                );
            };
            self.closure.undo(choice.mark);
            self.edges.truncate(choice.edges);
            let number = self.choices.len() as u32;
            if !conflict.choices.remove(&number) {
                continue;
            }
            conflict.proof = None;
            if let Some(first) = choice.first {
                conflict.transactions.extend(first.transactions);
                conflict.choices.extend(first.choices);
                continue;
            }
            let other = choice.other.take().expect("a choice has two sides");
            choice.first = Some(conflict);
            self.choices.push(choice);
            match self.add(other) {
                Ok(()) => return None,
                Err(again) => conflict = again,
            }
        }
    }

    /// Adds an edge, unless it is known.
    fn add(&mut self, edge: Edge) -> Result<(), Conflict> {
        if edge.from == edge.to || self.closure.precedes(edge.to, edge.from) {
            return Err(self.explain(edge));
        }
        if !self.closure.precedes(edge.from, edge.to) {
            self.closure.add(edge.from, edge.to);
            self.edges.push(edge);
        }
        Ok(())
    }

    /// Both rules, until nothing follows.
    fn saturate(&mut self) -> Result<(), Conflict> {
        loop {
            let before = self.edges.list.len();
            for key in 0..self.problem.keys.len() as u32 {
                self.reads_of(key)?;
                if self.problem.target.snapshot {
                    self.writers_of(key)?;
                }
            }
            if self.edges.list.len() == before {
                return Ok(());
            }
        }
    }

    fn reads_of(&mut self, key: u32) -> Result<(), Conflict> {
        let (problem, target) = (self.problem, self.problem.target);
        for read in &problem.keys[key as usize].reads {
            let reader = target.reads(read.reader);
            if read.writer == NOBODY {
                let missing = |search: &Self, at: usize| {
                    search.writers[key as usize][at] & !search.closure.after(reader)[at]
                };
                self.for_each(missing, |search, node| {
                    let own = node == target.writes(read.reader);
                    if own {
                        Ok(())
                    } else {
                        search.add(Edge { from: reader, to: node, why: Why::Initial { key } })
                    }
                })?;
                continue;
            }
            let (begun, done) = (target.reads(read.writer), target.writes(read.writer));
            let skip = |node: u32| node == done || node == target.writes(read.reader);
            // Writers that precede the reader precede whom he read from.
            let early = |search: &Self, at: usize| {
                let closure = &search.closure;
                search.writers[key as usize][at] & closure.before(reader)[at] & !closure.before(begun)[at]
            };
            self.for_each(early, |search, node| {
                let why = Why::ReadPast { key, reader: read.reader };
                if skip(node) { Ok(()) } else { search.add(Edge { from: node, to: begun, why }) }
            })?;
            // Writers that come after whom he read from come after the reader.
            let late = |search: &Self, at: usize| {
                let closure = &search.closure;
                search.writers[key as usize][at] & closure.after(begun)[at] & !closure.after(reader)[at]
            };
            self.for_each(late, |search, node| {
                let why = Why::Missed { key, writer: read.writer };
                if skip(node) { Ok(()) } else { search.add(Edge { from: reader, to: node, why }) }
            })?;
        }
        Ok(())
    }

    /// Writers of one key whose snapshots are in order: the first has written when the second begins.
    fn writers_of(&mut self, key: u32) -> Result<(), Conflict> {
        let (problem, target) = (self.problem, self.problem.target);
        for writer in &problem.keys[key as usize].writers {
            let (begun, done) = (target.reads(*writer), target.writes(*writer));
            // The reads of a transaction are the bit before its writes.
            let missing = |search: &Self, at: usize| {
                let closure = &search.closure;
                search.writers[key as usize][at] & closure.after(begun)[at] & !(closure.after(done)[at] << 1)
            };
            self.for_each(missing, |search, node| {
                let edge = Edge { from: done, to: node - 1, why: Why::Conflict { key } };
                if node == done { Ok(()) } else { search.add(edge) }
            })?;
        }
        Ok(())
    }

    /// Calls `visit` with the nodes of a row that is made word by word.
    fn for_each(
        &mut self,
        row: impl Fn(&Self, usize) -> u64,
        mut visit: impl FnMut(&mut Self, u32) -> Result<(), Conflict>,
    ) -> Result<(), Conflict> {
        let words = self.problem.nodes.div_ceil(64);
        self.closure.work += words as u64;
        for at in 0..words {
            for bit in bits(row(self, at)) {
                visit(self, at as u32 * 64 + bit)?;
            }
        }
        Ok(())
    }

    /// Two writers of a key whose order matters and is not known: the likelier order, and the other.
    fn undecided(&mut self) -> Option<(Edge, Edge)> {
        let (problem, target) = (self.problem, self.problem.target);
        let number = self.choices.len() as u32;
        for (key, of_key) in problem.keys.iter().enumerate() {
            let matters: Vec<Index> = match target.snapshot {
                true => of_key.writers.clone(),
                false => {
                    of_key.reads.iter().map(|read| read.writer).filter(|writer| *writer != NOBODY).collect()
                }
            };
            for one in matters {
                let (begun, done) = (target.reads(one), target.writes(one));
                let words = problem.nodes.div_ceil(64);
                self.closure.work += words as u64;
                // Another writer: neither after the first one's reads nor entirely before them.
                let open = (0..words).find_map(|at| {
                    let row = self.writers[key][at]
                        & !self.closure.after(begun)[at]
                        & !self.closure.before(begun)[at];
                    bits(row).map(|bit| at as u32 * 64 + bit).find(|node| *node != done)
                });
                let Some(node) = open else { continue };
                let other = problem.transaction_of(node).expect("a writer is a transaction");
                let edge = |from, to| Edge {
                    from: target.writes(from),
                    to: target.reads(to),
                    why: Why::Choice(number),
                };
                let (forth, back) = (edge(one, other), edge(other, one));
                let urgency = |index: Index| problem.urgency[index as usize];
                return Some(if urgency(one) <= urgency(other) { (forth, back) } else { (back, forth) });
            }
        }
        None
    }

    /// What an edge that closes a circle depends on.
    fn explain(&self, closing: Edge) -> Conflict {
        let mut conflict = Conflict::default();
        let mut needed: BTreeSet<usize> = BTreeSet::new();
        let all = self.edges.list.len();
        let mut open = self.premises(closing, all, &mut conflict);
        let mut circle = vec![closing];
        if closing.from != closing.to {
            let path = self.edges.path(closing.to, closing.from, all).expect("the closure says so");
            circle.extend(path.iter().map(|at| self.edges.list[*at]));
            open.extend(path);
        }
        let in_circle: BTreeSet<usize> = open.iter().copied().collect();
        while let Some(at) = open.pop() {
            if needed.insert(at) {
                open.extend(self.premises(self.edges.list[at], at, &mut conflict));
            }
        }
        if conflict.choices.is_empty() {
            let derived = needed.iter().filter(|at| !circle_has(&circle, self.edges.list[**at]));
            let derived = derived.map(|at| self.edges.list[*at]);
            let derived = derived.collect();
            debug_assert!(in_circle.iter().all(|at| needed.contains(at)), "all of the circle is needed");
            let transactions = conflict.transactions.clone();
            conflict.proof = Some(Box::new(Proof { transactions, derived, circle }));
        }
        conflict
    }

    /// The edges that one follows from, among the first so many.
    fn premises(&self, edge: Edge, limit: usize, conflict: &mut Conflict) -> Vec<usize> {
        let problem = self.problem;
        let target = problem.target;
        let ends = [edge.from, edge.to].into_iter().filter_map(|node| problem.transaction_of(node));
        conflict.transactions.extend(ends);
        let premise = match edge.why {
            Why::Known(_) | Why::Initial { .. } => return Vec::new(),
            Why::Choice(number) => {
                conflict.choices.insert(number);
                return Vec::new();
            }
            Why::ReadPast { reader, .. } => {
                conflict.transactions.insert(reader);
                (edge.from, target.reads(reader))
            }
            Why::Missed { writer, .. } => {
                conflict.transactions.insert(writer);
                (target.reads(writer), edge.to)
            }
            Why::Conflict { .. } => {
                let (from, to) = (edge.from - 1, edge.to + 1);
                (from, to)
            }
        };
        self.edges.path(premise.0, premise.1, limit).expect("the rule was used because of this path")
    }
}

fn circle_has(circle: &[Edge], edge: Edge) -> bool {
    circle.iter().any(|other| (other.from, other.to) == (edge.from, edge.to))
}
