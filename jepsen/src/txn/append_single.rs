//! What lists show without following dependencies from transaction to transaction: reads of what was undone
//! or not finished, reads that contradict each other, updates that were lost.

use super::anomaly::Anomaly;
use super::append::{Shown, Versions};
use super::history::{Index, NOBODY, Outcome, Step, StepKind, Transaction, Transactions};
use super::report::Finding;
use crate::hash::FastMap;

/// All anomalies of lists that need no graph.
pub(super) fn find(transactions: &Transactions, versions: &Versions) -> Vec<Finding> {
    let mut checks = Checks {
        transactions,
        versions,
        found: Vec::new(),
        before: vec![(NOBODY, 0); transactions.keys()],
        chain: Vec::new(),
        updater: vec![NOBODY; versions.elements.len() + transactions.keys()],
    };
    for (index, transaction, steps) in transactions.each() {
        if transaction.outcome != Outcome::Aborted {
            checks.transaction(index, transaction, steps);
        }
    }
    checks.aborted_reads();
    checks.dirty_updates();
    checks.found
}

struct Checks<'t> {
    transactions: &'t Transactions,
    versions: &'t Versions,
    found: Vec<Finding>,
    /// By key: the last transaction that used it, and its last step that did.
    before: Vec<(Index, u32)>,
    /// By step of the present transaction: the step before on the same key, or `NOBODY`.
    chain: Vec<u32>,
    /// By version: the first transaction that read it and then appended.
    updater: Vec<Index>,
}

impl Checks<'_> {
    fn transaction(&mut self, index: Index, transaction: &Transaction, steps: &[Step]) {
        self.chain.clear();
        for (number, step) in steps.iter().enumerate() {
            let before = &mut self.before[step.key as usize];
            let same = before.0 == index;
            self.chain.push(if same { before.1 } else { NOBODY });
            *before = (index, number as u32);
        }
        let committed = transaction.outcome == Outcome::Committed;
        let (mut internal, mut future) = (false, false);
        for (number, step) in steps.iter().enumerate() {
            match step.kind {
                StepKind::Read => {
                    self.read(index, step, committed);
                    if committed && !internal && self.chain[number] != NOBODY {
                        internal = self.internal(index, steps, number);
                    }
                }
                StepKind::Append if self.chain[number] != NOBODY => {
                    internal = internal || self.own_order(index, steps, number);
                    if !committed {
                        continue;
                    }
                    if !future {
                        future = self.future(index, steps, number);
                    }
                    self.lost_update(index, steps, number);
                }
                _ => {}
            }
        }
    }

    fn report(&mut self, anomaly: Anomaly, transactions: &[Index], sentence: String) {
        self.found.push(Finding::new(self.transactions, anomaly, transactions, sentence));
    }

    fn name(&self, step: &Step) -> String {
        self.transactions.key_name(step.key).to_string()
    }

    fn read(&mut self, index: Index, step: &Step, committed: bool) {
        let values = self.transactions.values(step);
        match self.versions.shown(step.key, values) {
            Shown::Version => {}
            Shown::Duplicates => {
                let sentence = format!("a read of key {} shows an element twice", self.name(step));
                self.report(Anomaly::DUPLICATE_ELEMENTS, &[index], sentence);
            }
            Shown::Incompatible => {
                let other = self.longest_reader(step.key);
                let sentence = format!(
                    "a read of key {} is no beginning of its longest read, which begins [{}]",
                    self.name(step),
                    self.beginning(step.key, values.len())
                );
                let shown: Vec<Index> = std::iter::once(index).chain(other).collect();
                self.report(Anomaly::INCOMPATIBLE_ORDER, &shown, sentence);
            }
        }
        let Some(last) = values.last().filter(|_| committed) else { return };
        let Some(place) = self.versions.place(step.key, *last) else { return };
        let place = self.versions.range(step.key).start + place;
        let writer = self.versions.writer[place];
        if writer != NOBODY && writer != index && !self.versions.is_last[place] {
            let sentence = format!(
                "key {} was read up to {}, which its transaction did not stop at",
                self.name(step),
                self.transactions.value(*last)
            );
            self.report(Anomaly::G1B, &[index, writer], sentence);
        }
    }

    fn beginning(&self, key: u32, length: usize) -> String {
        let elements = self.versions.of(key);
        let shown = &elements[..elements.len().min(length.clamp(1, 8))];
        let shown: Vec<String> =
            shown.iter().map(|code| self.transactions.value(*code).to_string()).collect();
        shown.join(" ")
    }

    fn longest_reader(&self, key: u32) -> Option<Index> {
        let elements = self.versions.of(key);
        let shows = |(_, _, steps): &(Index, &Transaction, &[Step])| {
            let all = |step: &Step| step.key == key && step.kind == StepKind::Read;
            steps.iter().any(|step| all(step) && self.transactions.values(step) == elements)
        };
        self.transactions.each().find(shows).map(|(index, _, _)| index)
    }

    /// Whether a read contradicts what its own transaction did before.
    fn internal(&mut self, index: Index, steps: &[Step], number: usize) -> bool {
        let read = &steps[number];
        let values = self.transactions.values(read);
        // Backwards: own appends must be at the end of the list, and the last read before them.
        let mut rest = values.len();
        let mut before = self.chain[number];
        while before != NOBODY {
            let step = &steps[before as usize];
            let expected = self.transactions.values(step);
            match step.kind {
                StepKind::Append if rest > 0 && values[rest - 1] == expected[0] => rest -= 1,
                StepKind::Read if values[..rest] == *expected => return false,
                StepKind::Unread => {}
                _ => {
                    let sentence = format!(
                        "a transaction read key {} without what it {} before",
                        self.name(read),
                        if step.kind == StepKind::Append { "appended itself" } else { "had read" }
                    );
                    self.report(Anomaly::INTERNAL, &[index], sentence);
                    return true;
                }
            }
            before = self.chain[before as usize];
        }
        false
    }

    /// Whether the list shows an append before or without an earlier one of the same transaction.
    fn own_order(&mut self, index: Index, steps: &[Step], number: usize) -> bool {
        let append = &steps[number];
        let mut before = self.chain[number];
        while before != NOBODY && steps[before as usize].kind != StepKind::Append {
            before = self.chain[before as usize];
        }
        if before == NOBODY {
            return false;
        }
        let place = |step: &Step| self.versions.place(step.key, self.transactions.values(step)[0]);
        let (earlier, later) = (place(&steps[before as usize]), place(append));
        let wrong = later.is_some() && earlier.is_none_or(|earlier| Some(earlier) > later);
        if wrong {
            let sentence = format!(
                "a transaction's appends to key {} are not in the list in the order in which it made them",
                self.name(append)
            );
            self.report(Anomaly::INTERNAL, &[index], sentence);
        }
        wrong
    }

    /// Whether an append was read by its own transaction before.
    fn future(&mut self, index: Index, steps: &[Step], number: usize) -> bool {
        let append = &steps[number];
        let code = self.transactions.values(append)[0];
        let before = &steps[self.chain[number] as usize];
        // Earlier reads are beginnings of the last one, or found to be internally wrong.
        let shown = before.kind == StepKind::Read && self.transactions.values(before).contains(&code);
        if shown {
            let sentence = format!("a transaction read its own later append to key {}", self.name(append));
            self.report(Anomaly::FUTURE_READ, &[index], sentence);
        }
        shown
    }

    /// Whether an append follows a read of a version that another transaction replaced as well.
    fn lost_update(&mut self, index: Index, steps: &[Step], number: usize) {
        let before = self.chain[number] as usize;
        let read = &steps[before];
        // Only the first read counts, and only the first append after it.
        let is_first = read.kind == StepKind::Read && self.chain[before] == NOBODY;
        if !is_first {
            let mut at = before;
            while steps[at].kind == StepKind::Read && self.chain[at] != NOBODY {
                at = self.chain[at] as usize;
            }
            if steps[at].kind != StepKind::Read || self.chain[at] != NOBODY {
                return;
            }
            return self.updated(index, &steps[at]);
        }
        self.updated(index, read);
    }

    fn updated(&mut self, index: Index, read: &Step) {
        let Some(place) = self.versions.last_shown(read.key, self.transactions.values(read)) else { return };
        // Each key has one version more than it has elements: the empty one.
        let slot = self.versions.range(read.key).start as isize + read.key as isize + place + 1;
        let first = &mut self.updater[slot as usize];
        if *first == NOBODY {
            *first = index;
        } else if *first != index {
            let first = *first;
            let sentence = format!(
                "two transactions read the same version of key {} and both appended",
                self.name(read)
            );
            self.report(Anomaly::LOST_UPDATE, &[first, index], sentence);
        }
    }

    /// Committed reads of elements whose transaction aborted.
    fn aborted_reads(&mut self) {
        let mut aborted: FastMap<(u32, i64), Index> = FastMap::default();
        for (index, transaction, steps) in self.transactions.each() {
            if transaction.outcome == Outcome::Aborted {
                for step in steps.iter().filter(|step| step.kind == StepKind::Append) {
                    aborted.insert((step.key, self.transactions.values(step)[0]), index);
                }
            }
        }
        // An append that was tried again by a transaction that committed is not aborted.
        aborted.retain(|(key, code), index| {
            let place = self.versions.place(*key, *code);
            place.is_none_or(|place| self.versions.writer[self.versions.range(*key)][place] == *index)
        });
        if aborted.is_empty() {
            return;
        }
        // The earliest of each key. A read that is a beginning of the order shows it by its length alone.
        let mut earliest = vec![usize::MAX; self.transactions.keys()];
        for (key, code) in aborted.keys() {
            let earliest = &mut earliest[*key as usize];
            *earliest = self.versions.place(*key, *code).unwrap_or(usize::MAX).min(*earliest);
        }
        let wrong = [Anomaly::DUPLICATE_ELEMENTS, Anomaly::INCOMPATIBLE_ORDER];
        let all_are_versions = !self.found.iter().any(|finding| wrong.contains(&finding.anomaly));
        for (index, transaction, steps) in self.transactions.each() {
            if transaction.outcome != Outcome::Committed {
                continue;
            }
            for step in steps.iter().filter(|step| step.kind == StepKind::Read) {
                let values = self.transactions.values(step);
                if all_are_versions && values.len() <= earliest[step.key as usize] {
                    continue;
                }
                let read = values.iter().find_map(|code| Some((*code, *aborted.get(&(step.key, *code))?)));
                if let Some((code, writer)) = read {
                    let value = self.transactions.value(code);
                    let sentence = format!(
                        "a transaction read {value} from key {}, whose append was aborted",
                        self.name(step)
                    );
                    self.report(Anomaly::G1A, &[index, writer], sentence);
                    break;
                }
            }
        }
    }

    /// Committed appends on top of aborted ones.
    fn dirty_updates(&mut self) {
        for key in 0..self.transactions.keys() as u32 {
            let mut aborted: Option<Index> = None;
            for place in self.versions.range(key) {
                let writer = self.versions.writer[place];
                if writer == NOBODY {
                    aborted = None;
                    continue;
                }
                match (self.transactions.list[writer as usize].outcome, aborted) {
                    (Outcome::Aborted, None) => aborted = Some(writer),
                    (Outcome::Committed, Some(below)) => {
                        let name = self.transactions.key_name(key);
                        let sentence =
                            format!("a committed append to key {name} came on top of an aborted one");
                        self.report(Anomaly::DIRTY_UPDATE, &[writer, below], sentence);
                        aborted = None;
                    }
                    (Outcome::Committed, None) | (_, _) => {}
                }
            }
        }
    }
}
