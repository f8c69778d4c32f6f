//! Registers: what depends on what, if transactions write values that differ and read them.
//!
//! Who reads a value depends on who wrote it. The order of a key's versions is not visible; what is known of
//! it is what the caller assumes ([`VersionOrder`]), and that the empty version comes first. From a pair of
//! versions in order follow dependencies between their writers (write-write), and of the readers of the first
//! with the writer of the second (read-write). Source: Kingsbury & Alvaro, VLDB 2020, section 5.

use super::anomaly::Anomaly;
use super::check::{Limits, Unfit, VersionOrder};
use super::graph::{Edges, Graph, kind};
use super::history::{Code, Index, NOBODY, Outcome, Step, StepKind, Transactions};
use super::order::by_call;
use super::report::{Dependency, Finding};
use crate::hash::FastMap;
use crate::value::Value;

/// The number of a version. The first ones are the empty versions of all keys.
pub(super) type Version = u32;

/// Lists of versions, one per transaction, in one vector.
#[derive(Default)]
pub(super) struct PerTransaction {
    first: Vec<u32>,
    versions: Vec<Version>,
}

impl PerTransaction {
    fn end(&mut self) {
        self.first.push(self.versions.len() as u32);
    }

    pub fn of(&self, transaction: Index) -> &[Version] {
        let transaction = transaction as usize;
        let from = transaction.checked_sub(1).map_or(0, |before| self.first[before]);
        &self.versions[from as usize..self.first[transaction] as usize]
    }
}

/// Everything that is known of versions.
pub(super) struct Registers<'t> {
    pub transactions: &'t Transactions,
    /// By version: its key and value.
    pub names: Vec<(u32, Option<Code>)>,
    /// By step: the version that it wrote or found.
    pub of_step: Vec<Version>,
    /// By version: who left it behind.
    pub writer: Vec<Index>,
    /// By version: who wrote it and aborted; who wrote it and then wrote the key again.
    aborted: Vec<Index>,
    intermediate: Vec<Index>,
    /// What each transaction found before it wrote the key itself, and what it left behind.
    pub reads: PerTransaction,
    pub writes: PerTransaction,
    /// The order of versions, as far as it is known.
    order: Graph,
}

impl<'t> Registers<'t> {
    /// Finds all versions, and who read and wrote them.
    pub fn new(transactions: &'t Transactions) -> Result<Registers<'t>, Unfit> {
        let (names, of_step) = number_versions(transactions);
        let mut registers = Registers {
            transactions,
            of_step,
            writer: vec![NOBODY; names.len()],
            aborted: vec![NOBODY; names.len()],
            intermediate: vec![NOBODY; names.len()],
            reads: PerTransaction::default(),
            writes: PerTransaction::default(),
            order: Graph::new(0, &Edges::default()),
            names,
        };
        let twice = registers.find_writers();
        for (index, _, _) in transactions.each() {
            if let Some(version) = registers.reads.of(index).iter().find(|read| twice.contains_key(read)) {
                let (one, other) = twice[version];
                return Err(Unfit {
                    transactions: vec![index, one, other],
                    why: format!(
                        "key {} was read as {}, which two transactions wrote, so nobody can tell whose it was",
                        registers.key(*version),
                        registers.value(*version)
                    ),
                });
            }
        }
        Ok(registers)
    }

    /// The order of versions, as far as it is known.
    pub fn order(&self) -> &Graph {
        &self.order
    }

    pub fn key(&self, version: Version) -> &Value {
        self.transactions.key_name(self.names[version as usize].0)
    }

    pub fn value(&self, version: Version) -> Value {
        self.names[version as usize].1.map_or(Value::Nil, |code| self.transactions.value(code))
    }

    /// Whether anybody wrote it, if only to abort or to write again.
    pub fn is_written(&self, version: Version) -> bool {
        let writers = [&self.writer, &self.aborted, &self.intermediate];
        writers.iter().any(|writers| writers[version as usize] != NOBODY)
    }

    /// Whether another transaction wrote a version and left it behind.
    fn is_of_another(&self, version: Version, transaction: Index) -> bool {
        let writer = self.writer[version as usize];
        writer != NOBODY && writer != transaction
    }

    /// Whether a transaction wrote a version and then wrote its key again.
    pub fn is_between(&self, version: Version, transaction: Index) -> bool {
        self.intermediate[version as usize] == transaction
    }

    /// Returns the versions that two transactions wrote.
    fn find_writers(&mut self) -> FastMap<Version, (Index, Index)> {
        let mut twice = FastMap::default();
        let keys = self.transactions.keys();
        let (mut wrote, mut used) = (vec![NOBODY; keys], vec![NOBODY; keys]);
        for (index, transaction, steps) in self.transactions.each() {
            let begin = self.transactions.steps_of(index).start;
            for (number, step) in steps.iter().enumerate().rev().filter(|(_, step)| step.is_write()) {
                let version = self.of_step[begin + number];
                let is_last = std::mem::replace(&mut wrote[step.key as usize], index) != index;
                let place = match (transaction.outcome, is_last) {
                    (Outcome::Aborted, _) => &mut self.aborted,
                    (_, false) => &mut self.intermediate,
                    (_, true) => {
                        self.writes.versions.push(version);
                        &mut self.writer
                    }
                };
                let before = std::mem::replace(&mut place[version as usize], index);
                if is_last && transaction.outcome != Outcome::Aborted && before != NOBODY && before != index {
                    twice.insert(version, (before, index));
                }
            }
            self.writes.end();
            for (number, step) in steps.iter().enumerate() {
                let first = std::mem::replace(&mut used[step.key as usize], index) != index;
                if first && step.kind == StepKind::Read && transaction.outcome == Outcome::Committed {
                    self.reads.versions.push(self.of_step[begin + number]);
                }
            }
            self.reads.end();
        }
        twice
    }

    /// Orders versions by what may be assumed. An assumption that leads to a circle is a finding, and is not
    /// used.
    pub fn order_versions(&mut self, assumed: &VersionOrder) -> Vec<Finding> {
        let mut found = Vec::new();
        let mut known = self.after_nothing();
        let mut sources: Vec<(&str, Vec<(Version, Version)>)> = Vec::new();
        if !assumed.transactions.is_empty() {
            sources.push(("the order of transactions", self.by_transaction(assumed)));
        }
        if assumed.writes_follow_reads {
            sources.push(("writes following reads", self.writes_after_reads()));
        }
        if assumed.sequential_keys {
            sources.push(("the order of each process", self.by_process()));
        }
        if assumed.linearizable_keys {
            sources.push(("the order of real time", self.by_real_time()));
        }
        for (name, pairs) in sources {
            let before = known.len();
            known.extend(pairs);
            for circle in self.graph(&known).components(kind::ALL) {
                let first = *circle.iter().min().expect("a component has nodes");
                let values: Vec<String> =
                    circle.iter().map(|version| self.value(*version).to_string()).collect();
                let writers: Vec<Index> = circle
                    .iter()
                    .map(|version| self.writer[*version as usize])
                    .filter(|writer| *writer != NOBODY)
                    .collect();
                let sentence = format!(
                    "by {name}, the versions {} of key {} come after each other in a circle",
                    values.join(", "),
                    self.key(first)
                );
                found.push(Finding::new(self.transactions, Anomaly::CYCLIC_VERSIONS, &writers, sentence));
                known.truncate(before);
            }
        }
        self.order = self.graph(&known);
        found
    }

    fn graph(&self, pairs: &[(Version, Version)]) -> Graph {
        let mut edges = Edges::default();
        pairs.iter().for_each(|(earlier, later)| edges.link(*earlier, *later, kind::WW));
        Graph::new(self.names.len(), &edges)
    }

    /// Nothing comes before the empty version.
    fn after_nothing(&self) -> Vec<(Version, Version)> {
        let mut seen = vec![false; self.names.len()];
        let mut pairs = Vec::new();
        for version in self.reads.versions.iter().chain(&self.writes.versions) {
            let (key, value) = self.names[*version as usize];
            if value.is_some() && !std::mem::replace(&mut seen[*version as usize], true) {
                pairs.push((key, *version));
            }
        }
        pairs
    }

    fn writes_after_reads(&self) -> Vec<(Version, Version)> {
        let mut pairs = Vec::new();
        for index in 0..self.transactions.list.len() as Index {
            for read in self.reads.of(index) {
                let (key, value) = self.names[*read as usize];
                let write = self.writes.of(index).iter().find(|write| self.names[**write as usize].0 == key);
                pairs.extend(write.filter(|_| value.is_some()).map(|write| (*read, *write)));
            }
        }
        pairs
    }

    fn by_transaction(&self, assumed: &VersionOrder) -> Vec<(Version, Version)> {
        let mut writes: Vec<(u32, Option<i64>, Version)> = Vec::new();
        for (index, transaction, _) in self.transactions.each() {
            let place = assumed.transactions.get(&transaction.origin).copied();
            writes.extend(self.writes.of(index).iter().map(|write| {
                let key = self.names[*write as usize].0;
                (key, place, *write)
            }));
        }
        writes.sort_by_key(|(key, place, _)| (*key, *place));
        let same_key = writes.windows(2).filter(|pair| pair[0].0 == pair[1].0);
        same_key.map(|pair| (pair[0].2, pair[1].2)).collect()
    }

    /// What a transaction found first and left last of each key: key, first, last.
    fn touched(&self, index: Index) -> Vec<(u32, Version, Version)> {
        let key = |version: &Version| self.names[*version as usize].0;
        let mut touched: Vec<(u32, Version, Version)> =
            self.reads.of(index).iter().map(|read| (key(read), *read, *read)).collect();
        for write in self.writes.of(index) {
            match touched.iter_mut().find(|(other, _, _)| *other == key(write)) {
                Some((_, _, last)) => *last = *write,
                None => touched.push((key(write), *write, *write)),
            }
        }
        touched
    }

    fn by_process(&self) -> Vec<(Version, Version)> {
        let mut last: FastMap<(u64, u32), Version> = FastMap::default();
        let mut pairs = Vec::new();
        for index in by_call(self.transactions) {
            let transaction = &self.transactions.list[index as usize];
            for (key, first, left) in self.touched(index) {
                let place = (transaction.process, key);
                let before = last.get(&place).copied();
                // What may have happened may also happen only later.
                if transaction.outcome == Outcome::Committed {
                    last.insert(place, left);
                }
                pairs.extend(before.filter(|before| *before != first).map(|before| (before, first)));
            }
        }
        pairs
    }

    fn by_real_time(&self) -> Vec<(Version, Version)> {
        // By key: those of the transactions so far that no other one separates from what is to come.
        let mut frontier: FastMap<u32, Vec<(u64, u64, Version)>> = FastMap::default();
        let mut pairs = Vec::new();
        for index in by_call(self.transactions) {
            let transaction = &self.transactions.list[index as usize];
            for (key, first, left) in self.touched(index) {
                let seen = frontier.entry(key).or_default();
                let ended: Vec<(u64, u64, Version)> =
                    seen.iter().filter(|(_, end, _)| *end < transaction.call).copied().collect();
                let latest_call = ended.iter().map(|(call, _, _)| *call).max().unwrap_or(0);
                // Whoever ended before the call of one that has ended too is behind that one.
                seen.retain(|(_, end, _)| *end >= latest_call);
                let close = ended.iter().filter(|(_, end, version)| *end >= latest_call && *version != first);
                pairs.extend(close.map(|(_, _, version)| (*version, first)));
                seen.push((transaction.call, transaction.end, left));
            }
        }
        pairs
    }

    /// Adds all dependencies. False: there are too many of those that an unknown order gives, and some were
    /// left out.
    pub fn dependencies(&self, limits: &Limits, edges: &mut Edges) -> bool {
        let mut readers = Edges::default();
        for index in 0..self.transactions.list.len() as Index {
            for read in self.reads.of(index) {
                readers.add(*read, index, 0);
                let writer = self.writer[*read as usize];
                if writer != NOBODY {
                    edges.link(writer, index, kind::WR);
                }
            }
        }
        let readers = Graph::new(self.names.len(), &readers);
        let room = edges.len() + limits.unread_edges_max;
        for earlier in 0..self.names.len() as Version {
            for (later, _) in self.order.out(earlier) {
                let writer = self.writer[*later as usize];
                if writer == NOBODY {
                    continue;
                }
                if self.writer[earlier as usize] != NOBODY {
                    edges.link(self.writer[earlier as usize], writer, kind::WW);
                }
                if edges.len() + readers.out(earlier).len() > room {
                    return false;
                }
                readers.out(earlier).iter().for_each(|(reader, _)| edges.link(*reader, writer, kind::RW));
            }
        }
        true
    }

    /// Why one transaction comes before another, by an edge of a kind.
    pub fn why(&self, (from, to): (Index, Index), edge: u8) -> Option<Dependency> {
        if edge == kind::WR {
            let read = self.reads.of(to).iter().find(|read| self.writer[**read as usize] == from)?;
            return Some(Dependency::Read { key: self.key(*read).clone(), value: self.value(*read) });
        }
        let earlier = if edge == kind::WW { &self.writes } else { &self.reads }.of(from);
        earlier.iter().find_map(|earlier| {
            let mut later = self.order.out(*earlier).iter();
            let (later, _) = later.find(|(later, _)| self.writer[*later as usize] == to)?;
            let key = self.key(*later).clone();
            let (old, new) = (self.value(*earlier), self.value(*later));
            Some(match edge {
                kind::WW => Dependency::Overwrote { key, old, new },
                _ => Dependency::Missed { key, seen: old, written: new },
            })
        })
    }
}

fn number_versions(transactions: &Transactions) -> (Vec<(u32, Option<Code>)>, Vec<Version>) {
    let mut names: Vec<(u32, Option<Code>)> =
        (0..transactions.keys() as u32).map(|key| (key, None)).collect();
    let mut numbers: FastMap<(u32, Code), Version> = FastMap::default();
    let mut number = |step: &Step| match transactions.values(step) {
        [] => step.key,
        [code, ..] => *numbers.entry((step.key, *code)).or_insert_with(|| {
            names.push((step.key, Some(*code)));
            names.len() as Version - 1
        }),
    };
    let of_step = transactions.steps.iter().map(&mut number).collect();
    (names, of_step)
}

/// A read of what nobody wrote. Nothing, and a zero that nobody wrote, are what keys hold at first.
pub(super) fn thin_air(registers: &Registers<'_>) -> Option<Finding> {
    let transactions = registers.transactions;
    for (index, transaction, steps) in transactions.each() {
        if transaction.outcome != Outcome::Committed {
            continue;
        }
        let begin = transactions.steps_of(index).start;
        for (number, step) in steps.iter().enumerate().filter(|(_, step)| step.kind == StepKind::Read) {
            let version = registers.of_step[begin + number];
            let value = registers.value(version);
            if !registers.is_written(version) && !matches!(value, Value::Nil | Value::Int(0)) {
                let key = transactions.key_name(step.key);
                let sentence = format!("a transaction read {value} from key {key}, which nobody wrote");
                return Some(Finding::new(transactions, Anomaly::G1A, &[index], sentence));
            }
        }
    }
    None
}

/// A transaction that reads what it writes only later.
pub(super) fn read_ahead(registers: &Registers<'_>) -> Option<Finding> {
    let transactions = registers.transactions;
    for (index, transaction, steps) in transactions.each() {
        if transaction.outcome != Outcome::Committed {
            continue;
        }
        let versions = &registers.of_step[transactions.steps_of(index)];
        let is_ahead = |at: &usize| {
            let same = |other: usize| versions[other] == versions[*at] && steps[other].is_write();
            steps[*at].kind == StepKind::Read
                && !(0..*at).any(same)
                && (*at + 1..steps.len()).any(same)
                && !registers.is_of_another(versions[*at], index)
        };
        if let Some(at) = (0..steps.len()).find(is_ahead) {
            let (value, key) = (registers.value(versions[at]), registers.key(versions[at]));
            let sentence = format!("a transaction read {value} from key {key} before it wrote it itself");
            return Some(Finding::new(transactions, Anomaly::FUTURE_READ, &[index], sentence));
        }
    }
    None
}

/// All anomalies of registers that need no graph.
pub(super) fn find(registers: &Registers<'_>) -> Vec<Finding> {
    let transactions = registers.transactions;
    let mut found = Vec::new();
    let mut state: Vec<(Index, Version)> = vec![(NOBODY, 0); transactions.keys()];
    let mut report = |anomaly, shown: &[Index], sentence| {
        found.push(Finding::new(transactions, anomaly, shown, sentence));
    };
    for (index, transaction, steps) in transactions.each() {
        if transaction.outcome != Outcome::Committed {
            continue;
        }
        let begin = transactions.steps_of(index).start;
        let mut is_internal = false;
        for (number, step) in steps.iter().enumerate() {
            let version = registers.of_step[begin + number];
            let (key, value) = (registers.key(version), registers.value(version));
            let before = &mut state[step.key as usize];
            if step.kind == StepKind::Read {
                if before.0 == index && before.1 != version && !is_internal {
                    is_internal = true;
                    let expected = registers.value(before.1);
                    let sentence =
                        format!("a transaction found {value} in key {key}, not its own {expected}");
                    report(Anomaly::INTERNAL, &[index], sentence);
                }
                let place = version as usize;
                let live = registers.writer[place] != NOBODY || registers.intermediate[place] != NOBODY;
                if registers.aborted[place] != NOBODY && !live {
                    let sentence =
                        format!("a transaction read {value} from key {key}, whose write was aborted");
                    report(Anomaly::G1A, &[index, registers.aborted[place]], sentence);
                }
                let between = registers.intermediate[place];
                if between != NOBODY && between != index && registers.writer[place] == NOBODY {
                    let sentence = format!(
                        "a transaction read {value} from key {key}, whose writer then wrote it again"
                    );
                    report(Anomaly::G1B, &[index, between], sentence);
                }
            }
            if step.kind != StepKind::Unread {
                *before = (index, version);
            }
        }
    }
    found.extend(lost_updates(registers));
    found
}

fn lost_updates(registers: &Registers<'_>) -> Vec<Finding> {
    let transactions = registers.transactions;
    let mut updater = vec![NOBODY; registers.names.len()];
    let mut found = Vec::new();
    for index in 0..transactions.list.len() as Index {
        for read in registers.reads.of(index) {
            let key = registers.names[*read as usize].0;
            if !registers.writes.of(index).iter().any(|write| registers.names[*write as usize].0 == key) {
                continue;
            }
            let first = &mut updater[*read as usize];
            if *first == NOBODY {
                *first = index;
                continue;
            }
            let sentence = format!(
                "two transactions read {} from key {} and both wrote it",
                registers.value(*read),
                registers.key(*read)
            );
            found.push(Finding::new(transactions, Anomaly::LOST_UPDATE, &[*first, index], sentence));
        }
    }
    found
}
