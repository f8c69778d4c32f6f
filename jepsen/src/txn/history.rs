//! Transactions as columns: what the checks run over.
//!
//! Keys are numbers from zero. Values are [`Code`]s: whole numbers stand for themselves, anything else is
//! numbered as it comes. All steps of all transactions are in one vector, and all values of all reads in
//! another, so that a million transactions are three allocations.

use std::ops::Range;

use crate::hash::FastMap;
use crate::value::Value;

/// A value: itself if it is a whole number that is not huge, otherwise a name.
pub type Code = i64;

/// A transaction: its number in [`Transactions::list`].
pub type Index = u32;

/// No transaction.
pub(super) const NOBODY: Index = Index::MAX;

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It took effect.
    Committed,
    /// It did not.
    Aborted,
    /// Nobody knows; what it read is not known either.
    Unknown,
}

/// One transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Whose: the session.
    pub process: u64,
    /// When it began.
    pub call: u64,
    /// When it ended; the end of time if its outcome is unknown.
    pub end: u64,
    /// How.
    pub outcome: Outcome,
    /// Where it stands in the history that it comes from.
    pub origin: usize,
    first: u32,
    last: u32,
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// Adds a value to the end of a list.
    Append,
    /// Writes a value.
    Write,
    /// Reads: the whole list, or one value, or (no values) nothing.
    Read,
    /// Reads without a known answer.
    Unread,
}

/// One step of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// What it does.
    pub kind: StepKind,
    /// With which key.
    pub key: u32,
    start: u32,
    length: u32,
}

impl Step {
    /// How many values there are.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.length as usize
    }

    /// Whether there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Whether it changes its key.
    #[inline]
    #[must_use]
    pub fn is_write(&self) -> bool {
        matches!(self.kind, StepKind::Append | StepKind::Write)
    }
}

/// All transactions of a history.
#[derive(Clone, Debug, Default)]
pub struct Transactions {
    /// The transactions, in the order of their calls if the history is.
    pub list: Vec<Transaction>,
    /// All steps, transaction by transaction.
    pub steps: Vec<Step>,
    values: Vec<Code>,
    names: Names,
}

/// What keys and values are called.
#[derive(Clone, Debug, Default)]
struct Names {
    keys: Vec<Value>,
    number_keys: FastMap<i64, u32>,
    other_keys: FastMap<Value, u32>,
    values: Vec<Value>,
    codes: FastMap<Value, Code>,
}

/// Codes from here on are names.
const NAMED: Code = 1 << 62;

impl Transactions {
    /// None yet.
    #[must_use]
    pub fn new() -> Transactions {
        Transactions::default()
    }

    /// Begins a transaction: the steps that follow are its own.
    pub fn begin(&mut self, process: u64, call: u64, end: u64, outcome: Outcome, origin: usize) {
        let first = self.steps.len() as u32;
        self.list.push(Transaction { process, call, end, outcome, origin, first, last: first });
    }

    /// Adds a step to the transaction that was begun last. A write has one value.
    ///
    /// # Panics
    /// If none was begun.
    pub fn step(&mut self, kind: StepKind, key: u32, values: impl IntoIterator<Item = Code>) {
        let start = self.values.len();
        self.values.extend(values);
        let length = (self.values.len() - start) as u32;
        self.steps.push(Step { kind, key, start: start as u32, length });
        self.list.last_mut().expect("a transaction was begun").last = self.steps.len() as u32;
    }

    /// The number of a key.
    pub fn key(&mut self, name: &Value) -> u32 {
        let names = &mut self.names;
        let next = names.keys.len() as u32;
        let number = match name {
            Value::Int(number) => *names.number_keys.entry(*number).or_insert(next),
            other => match names.other_keys.get(other) {
                Some(number) => *number,
                None => {
                    names.other_keys.insert(other.clone(), next);
                    next
                }
            },
        };
        if number == next {
            names.keys.push(name.clone());
        }
        number
    }

    /// The code of a value.
    pub fn code(&mut self, value: &Value) -> Code {
        match value {
            Value::Int(number) if (-NAMED..NAMED).contains(number) => *number,
            other => {
                if let Some(code) = self.names.codes.get(other) {
                    return *code;
                }
                let code = NAMED + self.names.values.len() as Code;
                self.names.values.push(other.clone());
                self.names.codes.insert(other.clone(), code);
                code
            }
        }
    }

    /// What a key is called.
    #[must_use]
    pub fn key_name(&self, key: u32) -> &Value {
        &self.names.keys[key as usize]
    }

    /// The value of a code.
    #[must_use]
    pub fn value(&self, code: Code) -> Value {
        if code >= NAMED { self.names.values[(code - NAMED) as usize].clone() } else { Value::Int(code) }
    }

    /// How many keys there are.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.names.keys.len()
    }

    /// Where the steps of a transaction are in [`Transactions::steps`].
    #[inline]
    #[must_use]
    pub fn steps_of(&self, transaction: Index) -> Range<usize> {
        let transaction = &self.list[transaction as usize];
        transaction.first as usize..transaction.last as usize
    }

    /// The values of a step.
    #[inline]
    #[must_use]
    pub fn values(&self, step: &Step) -> &[Code] {
        &self.values[step.start as usize..][..step.length as usize]
    }

    /// Every transaction with its steps.
    pub(super) fn each(&self) -> impl Iterator<Item = (Index, &Transaction, &[Step])> {
        self.list.iter().enumerate().map(|(index, transaction)| {
            let steps = &self.steps[transaction.first as usize..transaction.last as usize];
            (index as Index, transaction, steps)
        })
    }

    /// Some of these transactions, as if there had been no others: what was read from others is not known any
    /// more. Whatever level all of them have, so have these.
    #[must_use]
    pub fn part(&self, kept: &[Index]) -> Transactions {
        let mut mine = vec![false; self.list.len()];
        kept.iter().for_each(|index| mine[*index as usize] = true);
        let written = self.written(|index| mine[index as usize]);
        self.copy(kept, |key, code| written.get(&(key, code)) != Some(&false))
    }

    /// The same, but what was read of values that nobody wrote is not known: their writers may be missing from
    /// the record. Nothing, and zero, are what keys hold at first.
    #[must_use]
    pub fn without_strangers(&self) -> Transactions {
        let written = self.written(|_| true);
        let all: Vec<Index> = (0..self.list.len() as Index).collect();
        self.copy(&all, |key, code| code == 0 || written.contains_key(&(key, code)))
    }

    /// All values written to each key, and whether one of these did.
    fn written(&self, is_one: impl Fn(Index) -> bool) -> FastMap<(u32, Code), bool> {
        let mut written = FastMap::default();
        for (index, _, steps) in self.each() {
            for step in steps.iter().filter(|step| step.is_write()) {
                for code in self.values(step) {
                    *written.entry((step.key, *code)).or_default() |= is_one(index);
                }
            }
        }
        written
    }

    /// Some transactions; a read with a value that is not `known` becomes one without an answer.
    fn copy(&self, kept: &[Index], known: impl Fn(u32, Code) -> bool) -> Transactions {
        let mut part = Transactions::new();
        for index in kept {
            let one = &self.list[*index as usize];
            part.begin(one.process, one.call, one.end, one.outcome, one.origin);
            for step in &self.steps[self.steps_of(*index)] {
                let key = part.key(self.key_name(step.key));
                if step.kind == StepKind::Read && !self.values(step).iter().all(|code| known(step.key, *code))
                {
                    part.step(StepKind::Unread, key, []);
                    continue;
                }
                let codes: Vec<Code> =
                    self.values(step).iter().map(|code| part.code(&self.value(*code))).collect();
                part.step(step.kind, key, codes);
            }
        }
        part
    }

    /// A step in words.
    #[must_use]
    pub fn describe_step(&self, step: &Step) -> String {
        let key = self.key_name(step.key);
        let values: Vec<String> =
            self.values(step).iter().map(|code| self.value(*code).to_string()).collect();
        let values = values.join(" ");
        match step.kind {
            StepKind::Append => format!("append {key} {values}"),
            StepKind::Write => format!("write {key} {values}"),
            StepKind::Unread => format!("read {key} ?"),
            StepKind::Read if step.is_empty() => format!("read {key} nothing"),
            StepKind::Read => format!("read {key} [{values}]"),
        }
    }

    /// A transaction in words.
    #[must_use]
    pub fn describe(&self, transaction: Index) -> String {
        let steps: Vec<String> =
            self.steps[self.steps_of(transaction)].iter().map(|step| self.describe_step(step)).collect();
        let outcome = match self.list[transaction as usize].outcome {
            Outcome::Committed => "",
            Outcome::Aborted => " (aborted)",
            Outcome::Unknown => " (outcome unknown)",
        };
        format!("{}{outcome}", steps.join(", "))
    }
}
