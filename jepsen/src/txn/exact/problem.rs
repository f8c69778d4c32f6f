//! What has to be ordered: nodes, what is known of their order, and who reads which version.
//!
//! A transaction is one node, or two under snapshot isolation, its reads and its writes. Behind them come the
//! moments of real time (see `order`), which read and write nothing.

use super::super::graph::{Edges, Graph, kind};
use super::super::history::{Index, NOBODY};
use super::super::order;
use super::super::register::Registers;
use super::{Demand, Target, takes_part};

/// An edge that is known from the beginning.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub from: u32,
    pub to: u32,
    /// As in [`kind`]; `SAME`: from a transaction's reads to its writes.
    pub kind: u8,
}

/// From the reads of a transaction to its own writes.
pub(super) const SAME: u8 = 32;

/// A read of another transaction's version.
#[derive(Clone, Copy, Debug)]
pub(super) struct Read {
    pub reader: Index,
    /// `NOBODY`: the version before all.
    pub writer: Index,
}

/// Everything about one key.
#[derive(Clone, Debug, Default)]
pub(super) struct Key {
    pub writers: Vec<Index>,
    pub reads: Vec<Read>,
}

/// An instance of the problem.
pub(super) struct Problem {
    pub target: Target,
    /// How many transactions there are, and how many nodes.
    pub transactions: usize,
    pub nodes: usize,
    pub known: Vec<Known>,
    pub keys: Vec<Key>,
    /// By transaction: when it should be tried, judging by when it or its readers ended.
    pub urgency: Vec<u64>,
    /// What orders the witness may try first: the demand, made stronger.
    pub guides: Vec<Vec<(u32, u32)>>,
    /// By guide: how many nodes there are with it.
    pub guide_nodes: Vec<usize>,
}

impl Problem {
    pub fn new(registers: &Registers<'_>, target: Target, assumes: bool) -> Problem {
        let transactions = registers.transactions;
        let count = transactions.list.len();
        let part = takes_part(registers);
        let mut problem = Problem {
            target,
            transactions: count,
            nodes: count * target.stride(),
            known: Vec::new(),
            keys: vec![Key::default(); transactions.keys()],
            urgency: transactions.list.iter().map(|one| one.end).collect(),
            guides: Vec::new(),
            guide_nodes: Vec::new(),
        };
        if target.snapshot {
            problem.known.extend((0..count as u32).map(|index| Known {
                from: target.reads(index),
                to: target.writes(index),
                kind: SAME,
            }));
        }
        for index in (0..count as Index).filter(|index| part[*index as usize]) {
            for write in registers.writes.of(index) {
                problem.keys[registers.names[*write as usize].0 as usize].writers.push(index);
            }
            for read in registers.reads.of(index) {
                let writer = registers.writer[*read as usize];
                problem.keys[registers.names[*read as usize].0 as usize]
                    .reads
                    .push(Read { reader: index, writer });
                if writer != NOBODY {
                    let end = transactions.list[index as usize].end;
                    let urgency = &mut problem.urgency[writer as usize];
                    *urgency = end.min(*urgency);
                    problem.link((writer, index), kind::WR);
                }
            }
        }
        if assumes {
            problem.take_versions(registers, &part);
        }
        problem.take_order(registers);
        problem
    }

    fn link(&mut self, (from, to): (u32, u32), kind: u8) {
        if from != to {
            let (from, to) = self.target.ends((from, to), kind, self.transactions);
            self.known.push(Known { from, to, kind });
        }
    }

    /// The order of versions that the caller assumes.
    fn take_versions(&mut self, registers: &Registers<'_>, part: &[bool]) {
        for earlier in 0..registers.names.len() as u32 {
            let source = registers.writer[earlier as usize];
            for (later, _) in registers.order().out(earlier) {
                let target = registers.writer[*later as usize];
                if source != NOBODY && target != NOBODY && part[source as usize] && part[target as usize] {
                    self.link((source, target), kind::WW);
                }
            }
        }
    }

    /// The order that the level demands, and those that the witness may follow besides.
    fn take_order(&mut self, registers: &Registers<'_>) {
        let transactions = registers.transactions;
        let base = self.nodes;
        let mut edges = Edges::default();
        let nodes = order::real_time_order(transactions, &mut edges);
        let real_time = (edges, base + (nodes - transactions.list.len()));
        let mut edges = Edges::default();
        order::process_order(transactions, &mut edges);
        let process = (edges, base);
        let demanded = match self.target.demand {
            Demand::Nothing => None,
            Demand::Process => Some((&process, kind::PROCESS)),
            Demand::RealTime => Some((&real_time, kind::REALTIME)),
        };
        if let Some(((edges, nodes), kind)) = demanded {
            for (from, to, _) in edges.iter() {
                self.link((from, to), kind);
            }
            self.nodes = *nodes;
        }
        // Real time first: what a database does usually takes effect between the call and the answer.
        let guides: &[&(Edges, usize)] = match self.target.demand {
            Demand::RealTime => &[&real_time],
            Demand::Process | Demand::Nothing => &[&real_time, &process],
        };
        for (edges, nodes) in guides {
            let ends = edges
                .iter()
                .map(|(from, to, _)| self.target.ends((from, to), kind::REALTIME, self.transactions));
            self.guides.push(ends.collect());
            self.guide_nodes.push(*nodes);
        }
    }

    /// The transaction of a node; `None` for a moment.
    pub fn transaction_of(&self, node: u32) -> Option<Index> {
        let index = node as usize / self.target.stride();
        (index < self.transactions).then_some(index as Index)
    }

    /// What is known, as a graph.
    pub fn graph(&self, also: &[(u32, u32)], nodes: usize) -> Graph {
        let mut edges = Edges::default();
        self.known.iter().for_each(|known| edges.add(known.from, known.to, known.kind));
        also.iter().for_each(|(from, to)| edges.add(*from, *to, kind::REALTIME));
        Graph::new(nodes, &edges)
    }
}

impl Target {
    /// How many nodes a transaction has.
    pub fn stride(self) -> usize {
        if self.snapshot { 2 } else { 1 }
    }

    /// The node of a transaction's reads.
    pub fn reads(self, transaction: Index) -> u32 {
        transaction * self.stride() as u32
    }

    /// The node of its writes.
    pub fn writes(self, transaction: Index) -> u32 {
        transaction * self.stride() as u32 + self.stride() as u32 - 1
    }

    /// Between which nodes an edge from one transaction to another is. Moments move behind all transactions.
    fn ends(self, (from, to): (u32, u32), kind: u8, transactions: usize) -> (u32, u32) {
        let moment = |node: u32| node - transactions as u32 + (transactions * self.stride()) as u32;
        let is_moment = |node: u32| node as usize >= transactions;
        let source = match kind {
            _ if is_moment(from) => moment(from),
            kind::RW => self.reads(from),
            _ => self.writes(from),
        };
        let target = match kind {
            _ if is_moment(to) => moment(to),
            kind::RW => self.writes(to),
            _ => self.reads(to),
        };
        (source, target)
    }
}
