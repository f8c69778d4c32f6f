//! Read committed, read atomic and causal consistency of registers: decided, not only inferred.
//!
//! Let *so* be the order of each session and *wr* who read from whom. Each level says that some total order of
//! all transactions contains both and that nobody reads a version while it knows of a later one. What
//! "knows of" means is the level:
//!
//! * read committed: has read from, earlier in the same transaction;
//! * read atomic: has read from, or comes later in the session than;
//! * causal: comes later than by any chain of *so* and *wr*.
//!
//! So if *t* read `x` from *t1* and knows of *t2*, which wrote `x` too, then *t2* must come before *t1*. The
//! level holds if and only if all these edges, *so* and *wr* have no cycle. Sources: Biswas & Enea, "On the
//! complexity of checking transactional consistency", OOPSLA 2019; Møldrup & Pavlogiannis, "AWDIT: an optimal
//! weak database isolation tester", PLDI 2025, for keeping it near-linear.

use super::anomaly::Anomaly;
use super::check::Unfit;
use super::cycle;
use super::graph::{Edges, Graph, OUTSIDE, kind};
use super::history::{Index, NOBODY, Outcome, Step, StepKind, Transactions};
use super::level::Level;
use super::order::by_call;
use super::register::{self, Registers, Version};
use super::report::{Cycle, CycleEdge, Dependency, Finding, TransactionReport};
use crate::hash::FastMap;
use crate::value::Value;

/// A level that is decided here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WeakLevel {
    /// Nobody reads what was not committed, or goes back within a transaction.
    ReadCommitted,
    /// Transactions are seen as a whole or not at all.
    ReadAtomic,
    /// Whoever sees a transaction sees all that it depends on.
    Causal,
}

impl WeakLevel {
    /// All, from the weakest.
    pub const ALL: [WeakLevel; 3] = [WeakLevel::ReadCommitted, WeakLevel::ReadAtomic, WeakLevel::Causal];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            WeakLevel::ReadCommitted => "read-committed",
            WeakLevel::ReadAtomic => "read-atomic",
            WeakLevel::Causal => "causal",
        }
    }
}

impl WeakLevel {
    /// The strongest of these that one of `levels` implies.
    #[must_use]
    pub fn strongest_below(levels: &[Level]) -> Option<WeakLevel> {
        let implied = |weak: &&WeakLevel| {
            levels.iter().any(|level| level.implied().iter().any(|below| below.name() == weak.name()))
        };
        WeakLevel::ALL.iter().rev().find(implied).copied()
    }
}

/// Decides all levels up to `asked`, and reports which of all three hold.
pub fn check(transactions: &Transactions, asked: Option<WeakLevel>) -> Result<TransactionReport, Unfit> {
    let mut report = TransactionReport::default();
    let mut broken = Vec::new();
    for level in WeakLevel::ALL {
        if let Some(finding) = decide(transactions, level)? {
            if Some(level) <= asked && report.findings.is_empty() {
                report.counts.push((finding.anomaly, 1));
                report.findings.push(finding);
            }
            broken.push(level.name());
        }
    }
    let (excluded, stronger): (Vec<Level>, Vec<Level>) = Level::all()
        .filter(|level| level.implied().iter().any(|below| broken.contains(&below.name())))
        // Levels that do not know sessions may hold all the same.
        .filter(|level| broken.contains(&level.name()) || level.name().starts_with("str"))
        .partition(|level| Some(&level.name()) == broken.first());
    (report.excluded, report.also_excluded) = (excluded, stronger);
    Ok(report)
}

/// Decides a level, sessions being processes. The finding is why it does not hold.
pub fn decide(transactions: &Transactions, level: WeakLevel) -> Result<Option<Finding>, Unfit> {
    let registers = Registers::new(transactions)?;
    let weak = Weak::new(&registers);
    // What a transaction reads from nobody, from the aborted, or against itself, no level permits.
    let forbidden = |finding: &Finding| match finding.anomaly {
        Anomaly::G1A | Anomaly::G1B => true,
        Anomaly::INTERNAL => weak.contradicts_itself(finding, level),
        _ => false,
    };
    let at_once = register::thin_air(&registers).or_else(|| register::read_ahead(&registers));
    if let Some(finding) = at_once.or_else(|| register::find(&registers).into_iter().find(forbidden)) {
        return Ok(Some(finding));
    }
    let edges = weak.edges(level)?;
    let graph = Graph::new(transactions.list.len(), &edges);
    let mut place = vec![OUTSIDE; graph.nodes()];
    let mut smallest = graph.components(kind::ALL);
    smallest.sort_by_key(Vec::len);
    let Some(component) = smallest.first() else { return Ok(None) };
    let steps = cycle::shortest_of_any(&graph, component, &mut place);
    let next = |number: usize| steps[(number + 1) % steps.len()].0;
    let pairs: Vec<(Index, Index)> =
        steps.iter().enumerate().map(|(number, (from, _))| (*from, next(number))).collect();
    let reasons = weak.reasons(level, &pairs)?;
    let edge = |(number, (from, kind)): (usize, &(u32, u8))| {
        let to = next(number);
        CycleEdge {
            from: transactions.list[*from as usize].origin,
            to: transactions.list[to as usize].origin,
            steps: transactions.describe(*from),
            why: weak.why(*from, to, *kind, reasons[number], level),
        }
    };
    let edges = steps.iter().enumerate().map(edge).collect();
    Ok(Some(Finding::of_cycle(Anomaly::named(level.name()), Cycle { edges })))
}

/// Who precedes whom in what sessions.
struct Weak<'r, 't> {
    registers: &'r Registers<'t>,
    transactions: &'t Transactions,
    /// By transaction: its session and its place there; `NOBODY` if it did not commit.
    session: Vec<(u32, u32)>,
    /// The committed transactions of each session, in order.
    sessions: Vec<Vec<Index>>,
    /// By key: who wrote it, by session and in the order of each.
    writers: Vec<Vec<(u32, Vec<Index>)>>,
}

/// A read of another transaction's version: where in its transaction, of which key, from whom.
#[derive(Clone, Copy)]
struct Read {
    at: u32,
    key: u32,
    from: Index,
}

impl<'r, 't> Weak<'r, 't> {
    fn new(registers: &'r Registers<'t>) -> Self {
        let transactions = registers.transactions;
        let mut weak = Weak {
            registers,
            transactions,
            session: vec![(NOBODY, 0); transactions.list.len()],
            sessions: Vec::new(),
            writers: vec![Vec::new(); transactions.keys()],
        };
        // Who was read from did commit, whatever its client knows.
        let mut read_from = vec![false; transactions.list.len()];
        let mut reads = Vec::new();
        for index in 0..transactions.list.len() as Index {
            // Every read tells, also of a key that the transaction has read before.
            weak.reads(index, &mut reads);
            for read in reads.iter().filter(|read| read.from != NOBODY) {
                read_from[read.from as usize] = true;
            }
        }
        let mut numbers: FastMap<u64, u32> = FastMap::default();
        for index in by_call(transactions) {
            let transaction = &transactions.list[index as usize];
            if transaction.outcome != Outcome::Committed && !read_from[index as usize] {
                continue;
            }
            let next = numbers.len() as u32;
            let session = *numbers.entry(transaction.process).or_insert(next);
            if session == next {
                weak.sessions.push(Vec::new());
            }
            let members = &mut weak.sessions[session as usize];
            weak.session[index as usize] = (session, members.len() as u32);
            members.push(index);
            for write in registers.writes.of(index) {
                let writers = &mut weak.writers[registers.names[*write as usize].0 as usize];
                match writers.iter_mut().find(|(other, _)| *other == session) {
                    Some((_, list)) => list.push(index),
                    None => writers.push((session, vec![index])),
                }
            }
        }
        weak
    }

    /// A read against an own write breaks every level; one against an own read, those above read committed.
    fn contradicts_itself(&self, finding: &Finding, level: WeakLevel) -> bool {
        let Some(index) =
            self.transactions.list.iter().position(|one| Some(&one.origin) == finding.operations.first())
        else {
            return false;
        };
        if level > WeakLevel::ReadCommitted {
            return true;
        }
        let range = self.transactions.steps_of(index as Index);
        let steps = &self.transactions.steps[range.clone()];
        steps.iter().enumerate().any(|(number, step)| {
            let own = steps[..number].iter().rposition(|other| other.key == step.key && other.is_write());
            step.kind == StepKind::Read
                && own.is_some_and(|own| {
                    self.registers.of_step[range.start + own] != self.registers.of_step[range.start + number]
                })
        })
    }

    /// The reads of a transaction from others, in order.
    fn reads(&self, index: Index, into: &mut Vec<Read>) {
        into.clear();
        let range = self.transactions.steps_of(index);
        if self.transactions.list[index as usize].outcome != Outcome::Committed {
            return;
        }
        let steps: &[Step] = &self.transactions.steps[range.clone()];
        for (number, step) in steps.iter().enumerate().filter(|(_, step)| step.kind == StepKind::Read) {
            let version = self.registers.of_step[range.start + number];
            let from = self.registers.writer[version as usize];
            if from != index && !self.registers.is_between(version, index) {
                into.push(Read { at: number as u32, key: step.key, from });
            }
        }
    }

    /// What a transaction left behind of a key.
    fn write_of(&self, index: Index, key: u32) -> Option<Version> {
        let writes = self.registers.writes.of(index).iter().copied();
        writes.into_iter().find(|write| self.registers.names[*write as usize].0 == key)
    }

    /// All edges of a level.
    fn edges(&self, level: WeakLevel) -> Result<Edges, Unfit> {
        let mut edges = self.plain_edges();
        let mut ordered = Edges::default();
        self.ordered(level, &mut |known, reader, read| {
            if read.from == NOBODY {
                // The version before all: to know of any other is to come after it. A circle of two.
                ordered.add(known, reader, KNOWS);
                ordered.add(reader, known, kind::RW);
            } else {
                ordered.add(known, read.from, kind::WW);
            }
        })?;
        edges.append(ordered);
        Ok(edges)
    }

    /// The order of sessions, and who read from whom.
    fn plain_edges(&self) -> Edges {
        let mut edges = Edges::default();
        for members in &self.sessions {
            members.windows(2).for_each(|pair| edges.add(pair[0], pair[1], kind::PROCESS));
        }
        let mut reads = Vec::new();
        for index in self.sessions.iter().flatten() {
            self.reads(*index, &mut reads);
            for read in reads.iter().filter(|read| read.from != NOBODY) {
                edges.link(read.from, *index, kind::WR);
            }
        }
        edges
    }

    /// Calls `visit` with every pair of a transaction that wrote a key and a reader that knows of it and yet
    /// read the key from another.
    fn ordered(&self, level: WeakLevel, visit: &mut Visit<'_>) -> Result<(), Unfit> {
        match level {
            WeakLevel::ReadCommitted => self.known_by_reading(visit, true),
            WeakLevel::ReadAtomic => {
                self.known_by_reading(visit, false);
                self.known_by_session(visit);
            }
            WeakLevel::Causal => self.known_by_chains(visit)?,
        }
        Ok(())
    }

    /// Of each transaction read from: what else it wrote and the reader read elsewhere. `in_order`: only what
    /// was read later counts.
    fn known_by_reading(&self, visit: &mut Visit<'_>, in_order: bool) {
        let mut reads = Vec::new();
        let mut by_key: Vec<Read> = Vec::new();
        let mut seen = vec![NOBODY; self.transactions.list.len()];
        for index in self.sessions.iter().flatten() {
            self.reads(*index, &mut reads);
            by_key.clone_from(&reads);
            by_key.sort_by_key(|read| (read.key, read.at));
            for read in &reads {
                if read.from == NOBODY || std::mem::replace(&mut seen[read.from as usize], *index) == *index {
                    continue;
                }
                for write in self.registers.writes.of(read.from) {
                    let key = self.registers.names[*write as usize].0;
                    let from = by_key.partition_point(|other| other.key < key);
                    let of_key = by_key[from..].iter().take_while(|other| other.key == key);
                    for other in of_key.filter(|other| !in_order || other.at > read.at) {
                        must_precede(visit, read.from, *index, other);
                    }
                }
            }
        }
    }

    /// Of each session: the last one before that wrote what the reader read elsewhere.
    fn known_by_session(&self, visit: &mut Visit<'_>) {
        let mut last: FastMap<u32, Index> = FastMap::default();
        let mut reads = Vec::new();
        for members in &self.sessions {
            last.clear();
            for index in members {
                self.reads(*index, &mut reads);
                for read in &reads {
                    if let Some(known) = last.get(&read.key) {
                        must_precede(visit, *known, *index, read);
                    }
                }
                for write in self.registers.writes.of(*index) {
                    last.insert(self.registers.names[*write as usize].0, *index);
                }
            }
        }
    }

    /// Of each session: the last one that a chain leads from and that wrote what the reader read elsewhere.
    fn known_by_chains(&self, visit: &mut Visit<'_>) -> Result<(), Unfit> {
        let width = self.sessions.len();
        let count = self.transactions.list.len();
        if width.saturating_mul(count) > CLOCKS_MAX {
            let why = format!("{count} transactions of {width} sessions are too many to follow all chains");
            return Err(Unfit { transactions: Vec::new(), why });
        }
        let Some(order) = self.topological(&self.plain_edges()) else { return Ok(()) };
        // By transaction and session: how many of the session's transactions are known.
        let mut clocks = vec![0u32; width * count];
        let mut reads = Vec::new();
        let mut clock = vec![0u32; width];
        for index in order {
            clock.fill(0);
            self.reads(index, &mut reads);
            let (session, place) = self.session[index as usize];
            let before = place.checked_sub(1).map(|before| self.sessions[session as usize][before as usize]);
            for known in reads.iter().map(|read| read.from).chain(before).filter(|known| *known != NOBODY) {
                let (session, place) = self.session[known as usize];
                let other = &clocks[known as usize * width..][..width];
                clock.iter_mut().zip(other).for_each(|(mine, theirs)| *mine = (*mine).max(*theirs));
                clock[session as usize] = clock[session as usize].max(place + 1);
            }
            for read in &reads {
                for (session, writers) in &self.writers[read.key as usize] {
                    let known = clock[*session as usize];
                    let end = writers.partition_point(|writer| self.session[*writer as usize].1 < known);
                    if let Some(last) = end.checked_sub(1) {
                        must_precede(visit, writers[last], index, read);
                    }
                }
            }
            clocks[index as usize * width..][..width].copy_from_slice(&clock);
        }
        Ok(())
    }

    /// All transactions, each after those that it depends on; `None` if they depend on each other.
    fn topological(&self, edges: &Edges) -> Option<Vec<Index>> {
        let graph = Graph::new(self.transactions.list.len(), edges);
        let mut waits = vec![0u32; graph.nodes()];
        let members = || self.sessions.iter().flatten().copied();
        members().for_each(|node| graph.out(node).iter().for_each(|(to, _)| waits[*to as usize] += 1));
        let mut ready: Vec<Index> = members().filter(|node| waits[*node as usize] == 0).collect();
        let mut next = 0;
        while let Some(node) = ready.get(next).copied() {
            next += 1;
            for (to, _) in graph.out(node) {
                waits[*to as usize] -= 1;
                if waits[*to as usize] == 0 {
                    ready.push(*to);
                }
            }
        }
        (ready.len() == members().count()).then_some(ready)
    }

    /// The reads that made edges of these, where reads did.
    fn reasons(&self, level: WeakLevel, pairs: &[(Index, Index)]) -> Result<Vec<Option<Reason>>, Unfit> {
        let mut reasons = vec![None; pairs.len()];
        self.ordered(level, &mut |known, reader, read| {
            for (reason, (from, to)) in reasons.iter_mut().zip(pairs) {
                let later = if read.from == NOBODY { reader } else { read.from };
                if (known, later) == (*from, *to) || (read.from == NOBODY && (reader, known) == (*from, *to))
                {
                    *reason = Some(Reason { known, reader, key: read.key });
                }
            }
        })?;
        Ok(reasons)
    }

    fn why(&self, from: Index, to: Index, edge: u8, reason: Option<Reason>, level: WeakLevel) -> Dependency {
        let name = |version: Version| (self.registers.key(version).clone(), self.registers.value(version));
        if edge == kind::PROCESS {
            return Dependency::Process { process: self.transactions.list[from as usize].process };
        }
        if edge == kind::WR {
            let range = self.transactions.steps_of(to);
            let mut read = self.registers.of_step[range].iter().copied();
            let read = read.find(|version| self.registers.writer[*version as usize] == from);
            let (key, value) = name(read.expect("the edge was made for a read"));
            return Dependency::Read { key, value };
        }
        let reason = reason.expect("the edge was made for a read of another version");
        let known = self.write_of(reason.known, reason.key).expect("it is known for what it wrote");
        let (key, known) = name(known);
        match edge {
            KNOWS => Dependency::Knows { level: level.name() },
            kind::RW => Dependency::Missed { key, seen: Value::Nil, written: known },
            _ => Dependency::Ordered {
                key,
                known,
                read: self.write_of(to, reason.key).map_or(Value::Nil, |read| self.registers.value(read)),
                reader: self.transactions.list[reason.reader as usize].origin,
                level: level.name(),
            },
        }
    }
}

/// Called with a transaction, a reader that knows of it, and what that read from another.
type Visit<'v> = dyn FnMut(Index, Index, &Read) + 'v;

/// An edge to a transaction from one that it knows of. Real time has no meaning here.
const KNOWS: u8 = kind::REALTIME;

/// Why one transaction must precede another: a reader knew of it, and read the key from the other.
#[derive(Clone, Copy)]
struct Reason {
    known: Index,
    reader: Index,
    key: u32,
}

/// The reader knows of `known`, which wrote the key, and read another version.
fn must_precede(visit: &mut Visit<'_>, known: Index, reader: Index, read: &Read) {
    if known != read.from && known != reader {
        visit(known, reader, read);
    }
}

/// Numbers of known transactions to keep: half a gigabyte.
const CLOCKS_MAX: usize = 1 << 27;
