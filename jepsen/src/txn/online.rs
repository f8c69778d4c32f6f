//! Judging transactions over lists while they come, in bounded memory.
//!
//! Transactions come in the order of their calls, and strict serializability is what must hold. So whoever is called after
//! another transaction has ended comes behind it, and once everything that a transaction appended has been read, and
//! everybody who did not see it yet has ended, nothing that comes can stand before it. Its elements are then *settled*: a
//! beginning of their lists that every later read must show. What is left is a smaller history of the same kind, of lists
//! that begin behind what is settled, and is judged by [`check`]. Transactions stay for one more part after they are settled,
//! so that whoever contradicts them is told in the usual words.
//!
//! A list is forgotten when nobody has used it for a long time; a transaction that uses it again is not judged.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::check::{Options, Workload, check};
use super::history::{Outcome, StepKind, Transactions};
use super::level::Level;
use super::named;
use crate::format::jepsen::{Answer, Ask};
use crate::history::{History, Operation};
use crate::online::Bounds;
use crate::value::Value;
use crate::{Verdict, Violation};

/// Judges transactions that append to lists, as they come.
pub struct Lists {
    options: Options,
    bounds: Bounds,
    /// Transactions that are settled since the last part, those that are not, and those that aborted or may still happen.
    held: Vec<Held>,
    lists: BTreeMap<Value, List>,
    /// Lists that were forgotten, the latest of them.
    forgotten: VecDeque<Value>,
    known_forgotten: BTreeSet<Value>,
    pushed: usize,
    last_call: u64,
    next_check: usize,
    doubts: Vec<String>,
    verdict: Option<Verdict>,
    peak: usize,
}

/// A transaction and its place in the history.
struct Held {
    index: usize,
    call: u64,
    end: u64,
    outcome: Outcome,
    process: u64,
    steps: Vec<Step>,
    is_settled: bool,
}

/// A step: what, with which list, and what was appended or read.
struct Step {
    kind: StepKind,
    key: Value,
    values: Vec<Value>,
}

/// A list as far as it is settled.
#[derive(Default)]
struct List {
    settled: Vec<Value>,
    /// How much of that is from before the transactions that are held.
    before: usize,
    /// The last transaction that used it.
    used: usize,
    /// Whether something was appended to it that nobody read before it was let go.
    is_unread: bool,
}

impl Lists {
    /// Before the first transaction.
    #[must_use]
    pub fn new(bounds: Bounds) -> Lists {
        Lists {
            options: Options { levels: vec![Level::strict_serializable()], ..Options::default() },
            next_check: bounds.part,
            bounds,
            held: Vec::new(),
            lists: BTreeMap::new(),
            forgotten: VecDeque::new(),
            known_forgotten: BTreeSet::new(),
            pushed: 0,
            last_call: 0,
            doubts: Vec::new(),
            verdict: None,
            peak: 0,
        }
    }

    /// The next transaction, in the order of their calls. It is whole: what has not ended yet will not be told of.
    pub fn push(&mut self, operation: Operation<Ask, Answer>) {
        if self.verdict.is_some() {
            return;
        }
        let index = self.pushed;
        self.pushed += 1;
        if operation.call < self.last_call {
            let why = format!("transaction {index} was called before the one that came before it");
            return self.end(Verdict::Unknown(why));
        }
        self.last_call = operation.call;
        let one: History<Ask, Answer> = std::iter::once(operation).collect();
        match named::bind(&one, Workload::ListAppend) {
            Ok(transactions) => self.add(index, &transactions),
            Err((_, why)) => return self.end(Verdict::Unknown(format!("transaction {index}: {why}"))),
        }
        self.peak = self.peak.max(self.held.len());
        if self.held.len() >= self.next_check {
            self.settle(self.last_call);
        }
    }

    fn add(&mut self, index: usize, transactions: &Transactions) {
        let one = &transactions.list[0];
        let mut steps = Vec::new();
        let mut forgotten = false;
        for step in &transactions.steps {
            let key = transactions.key_name(step.key).clone();
            forgotten |= self.known_forgotten.contains(&key);
            let values = transactions.values(step).iter().map(|code| transactions.value(*code)).collect();
            let list = self.lists.entry(key.clone()).or_default();
            list.used = index;
            forgotten |= list.is_unread;
            steps.push(Step { kind: step.kind, key, values });
        }
        if forgotten {
            self.doubts.push(format!("transaction {index} uses a list that was forgotten"));
            return;
        }
        if one.outcome != Outcome::Committed && !steps.iter().any(|step| step.kind == StepKind::Append) {
            return; // It did nothing, and nobody knows what it saw.
        }
        self.held.push(Held {
            index,
            call: one.call,
            end: one.end,
            outcome: one.outcome,
            process: one.process,
            steps,
            is_settled: false,
        });
    }

    /// Judges what has come, given that what comes is called at `now` or later.
    pub fn settle(&mut self, now: u64) {
        if self.verdict.is_some() {
            return;
        }
        if let Err(violation) = self.judge() {
            return self.end(Verdict::Invalid(violation));
        }
        self.let_go(now);
        self.next_check = self.held.len() + self.bounds.part.max(self.held.len() / 2);
        if self.held.len() > self.bounds.operations {
            self.end(Verdict::Unknown(format!(
                "{} transactions are held: what they appended was never read",
                self.held.len()
            )));
        }
    }

    /// The verdict on everything, when nothing comes any more.
    pub fn conclude(&mut self) -> Verdict {
        if self.verdict.is_none()
            && let Err(violation) = self.judge()
        {
            self.end(Verdict::Invalid(violation));
        }
        match (&self.verdict, self.doubts.first()) {
            (Some(verdict), _) => verdict.clone(),
            (None, Some(doubt)) => Verdict::Unknown(doubt.clone()),
            (None, None) => Verdict::Valid,
        }
    }

    /// The verdict so far: `None` while nothing is wrong.
    #[must_use]
    pub fn verdict(&self) -> Option<&Verdict> {
        self.verdict.as_ref()
    }

    /// How many transactions have come, and how many are held.
    #[must_use]
    pub fn progress(&self) -> (usize, usize) {
        (self.pushed, self.held.len())
    }

    /// How many were held at most.
    #[must_use]
    pub fn peak(&self) -> usize {
        self.peak
    }

    fn end(&mut self, verdict: Verdict) {
        self.verdict.get_or_insert(verdict);
    }

    /// Judges what is held, on lists that begin behind what was settled before.
    fn judge(&self) -> Result<(), Violation> {
        let mut transactions = Transactions::new();
        for held in &self.held {
            transactions.begin(held.process, held.call, held.end, held.outcome, held.index);
            for step in &held.steps {
                let mut values = &step.values[..];
                if step.kind == StepKind::Read {
                    let list = &self.lists[&step.key];
                    let before = &list.settled[..list.before];
                    let Some(rest) = values.strip_prefix(before) else {
                        return Err(self.contradicted(held, step, before));
                    };
                    values = rest;
                }
                let key = transactions.key(&step.key);
                let codes: Vec<i64> = values.iter().map(|value| transactions.code(value)).collect();
                transactions.step(step.kind, key, codes);
            }
        }
        match check(&transactions, Workload::ListAppend, &self.options) {
            Ok(report) => match report.verdict() {
                Verdict::Invalid(violation) => Err(violation),
                // Nothing to judge is nothing wrong, and more may come.
                Verdict::Valid | Verdict::Unknown(_) => Ok(()),
            },
            Err(unfit) => {
                let operations = unfit.transactions.iter().map(|index| self.held[*index as usize].index);
                Err(Violation { rule: "unfit", sentence: unfit.why, operations: operations.collect() })
            }
        }
    }

    /// A read that does not begin with what everybody must see.
    fn contradicted(&self, held: &Held, step: &Step, before: &[Value]) -> Violation {
        let same = step.values.iter().zip(before).take_while(|(shown, settled)| shown == settled).count();
        let what = match step.values.get(same) {
            Some(shown) => format!("shows {shown} in the place of {}", before[same]),
            None => format!("does not show {}", before[same]),
        };
        let sentence = format!(
            "T{} read key {}, and {what}, which had been appended and read long before it was called",
            held.index, step.key
        );
        Violation { rule: "G-single-item-realtime", sentence, operations: vec![held.index] }
    }

    /// Settles what nothing can come before any more, and forgets what was settled before.
    fn let_go(&mut self, now: u64) {
        let mut ends: Vec<u64> =
            self.held.iter().filter(|held| !held.is_settled && held.end < now).map(|held| held.end).collect();
        ends.sort_unstable();
        // The later the better; a few attempts will do.
        for part in 0..ATTEMPTS {
            let Some(at) = (ends.len() * (ATTEMPTS - part) / ATTEMPTS).checked_sub(1) else { break };
            let until = ends[at].saturating_add(1).min(now);
            if let Some(lengths) = self.settled_at(until) {
                self.keep(until, lengths);
                break;
            }
        }
        self.forget();
    }

    /// How long the settled beginnings of all lists are if everything that ended before `until` is settled; none if
    /// something else may still come before some of that.
    fn settled_at(&self, until: u64) -> Option<BTreeMap<Value, usize>> {
        let is_early = |held: &Held| held.outcome == Outcome::Committed && held.end < until;
        // The longest reads, and where elements stand in them.
        let mut longest: BTreeMap<&Value, &[Value]> = BTreeMap::new();
        let reads = |held: &'_ Held| held.outcome == Outcome::Committed;
        for held in self.held.iter().filter(|held| reads(held)) {
            for step in held.steps.iter().filter(|step| step.kind == StepKind::Read) {
                let known = longest.entry(&step.key).or_insert(&[]);
                if known.len() < step.values.len() {
                    *known = &step.values;
                }
            }
        }
        let places: BTreeMap<&Value, BTreeMap<&Value, usize>> = longest
            .iter()
            .map(|(key, values)| {
                let from = self.lists[*key].before.min(values.len());
                (*key, values.iter().enumerate().skip(from).map(|(place, value)| (value, place)).collect())
            })
            .collect();
        let place = |step: &Step| places.get(&step.key)?.get(step.values.first()?).copied();
        let mut lengths: BTreeMap<Value, usize> = BTreeMap::new();
        for held in self.held.iter().filter(|held| is_early(held)) {
            self.lengthen(held, &place, &mut lengths)?;
        }
        // Who may have happened has, if an append of its stands before what is settled: then all of them must.
        let mut grows = true;
        while std::mem::take(&mut grows) {
            for held in self.held.iter().filter(|held| held.outcome == Outcome::Unknown) {
                let happened = held.steps.iter().any(|step| {
                    step.kind == StepKind::Append
                        && place(step)
                            .is_some_and(|place| place < lengths.get(&step.key).copied().unwrap_or(0))
                });
                if happened {
                    grows |= self.lengthen(held, &place, &mut lengths)?;
                }
            }
        }
        for held in self.held.iter().filter(|held| held.outcome == Outcome::Committed && !is_early(held)) {
            for step in &held.steps {
                let settled = lengths.get(&step.key).copied().unwrap_or(0);
                let agrees = match step.kind {
                    StepKind::Append => place(step).is_none_or(|place| place >= settled),
                    StepKind::Read => step.values.len() >= settled,
                    StepKind::Write | StepKind::Unread => true,
                };
                if !agrees {
                    return None;
                }
            }
        }
        Some(lengths)
    }

    /// Makes settled beginnings as long as a transaction needs them. None if some append of it was not read yet. Gives
    /// whether one has grown.
    fn lengthen(
        &self,
        held: &Held,
        place: &impl Fn(&Step) -> Option<usize>,
        lengths: &mut BTreeMap<Value, usize>,
    ) -> Option<bool> {
        let mut grows = false;
        for step in &held.steps {
            let length = match step.kind {
                StepKind::Append if self.is_settled(step) => continue,
                StepKind::Append if self.is_idle(&step.key) && place(step).is_none() => continue,
                StepKind::Append => place(step)? + 1,
                StepKind::Read => step.values.len(),
                StepKind::Write | StepKind::Unread => continue,
            };
            let known = lengths.entry(step.key.clone()).or_default();
            grows |= *known < length;
            *known = (*known).max(length);
        }
        Some(grows)
    }

    /// Whether an append is settled.
    fn is_settled(&self, step: &Step) -> bool {
        step.values.first().is_some_and(|value| self.lists[&step.key].settled.contains(value))
    }

    /// Whether nobody has used a list for a long time.
    fn is_idle(&self, key: &Value) -> bool {
        self.lists[key].used + self.bounds.part < self.pushed
    }

    /// Settles these beginnings.
    fn keep(&mut self, until: u64, lengths: BTreeMap<Value, usize>) {
        let mut grown: BTreeMap<Value, Vec<Value>> = BTreeMap::new();
        for (key, length) in lengths {
            let mut reads =
                self.held.iter().filter(|held| held.outcome == Outcome::Committed).flat_map(|held| {
                    held.steps.iter().filter(|step| step.kind == StepKind::Read && step.key == key)
                });
            if let Some(read) = reads.find(|step| step.values.len() >= length) {
                let settled = read.values[..length].to_vec();
                grown.insert(key, settled);
            }
        }
        // What was settled the last time goes, and so do writes of unknown outcome that were seen.
        self.held.retain(|held| !held.is_settled);
        for (key, settled) in grown {
            let list = self.lists.get_mut(&key).expect("lists that are used are known");
            if list.settled.len() < settled.len() {
                list.settled = settled;
            }
        }
        let lists = &mut self.lists;
        let mut unread: BTreeSet<Value> = BTreeSet::new();
        for held in self.held.iter_mut().filter(|held| held.outcome != Outcome::Aborted) {
            let seen = |step: &Step| match (step.kind, step.values.first()) {
                (StepKind::Append, Some(value)) => lists[&step.key].settled.contains(value),
                _ => true,
            };
            held.is_settled = match held.outcome {
                Outcome::Committed if held.end < until => {
                    for step in held.steps.iter().filter(|step| !seen(step)) {
                        unread.insert(step.key.clone());
                    }
                    true
                }
                Outcome::Committed => false,
                _ => {
                    let mut appends = held.steps.iter().filter(|step| step.kind == StepKind::Append);
                    appends.clone().next().is_none() || appends.all(seen)
                }
            };
        }
        for key in unread {
            lists.get_mut(&key).expect("lists that are used are known").is_unread = true;
        }
        // The beginnings that the transactions that stay are judged behind: shorter than all that they read, and all
        // that they appended.
        let mut before: BTreeMap<Value, usize> = BTreeMap::new();
        for held in self.held.iter().filter(|held| held.outcome != Outcome::Aborted) {
            for step in &held.steps {
                let settled = &lists[&step.key].settled;
                let least = match (step.kind, step.values.first()) {
                    (StepKind::Read, _) => step.values.len(),
                    (StepKind::Append, Some(value)) => {
                        settled.iter().rposition(|other| other == value).unwrap_or(settled.len())
                    }
                    _ => continue,
                };
                let known = before.entry(step.key.clone()).or_insert(settled.len());
                *known = (*known).min(least);
            }
        }
        for (key, list) in lists.iter_mut() {
            list.before = before.get(key).copied().unwrap_or(list.settled.len()).min(list.settled.len());
        }
    }

    /// Forgets lists that nobody uses any more, with what aborted and what may still happen to them.
    fn forget(&mut self) {
        let in_use: BTreeSet<&Value> = self
            .held
            .iter()
            .filter(|held| held.outcome == Outcome::Committed)
            .flat_map(|held| held.steps.iter().map(|step| &step.key))
            .collect();
        let idle: Vec<Value> =
            self.lists.keys().filter(|key| self.is_idle(key) && !in_use.contains(key)).cloned().collect();
        for key in idle {
            self.lists.remove(&key);
            self.known_forgotten.insert(key.clone());
            self.forgotten.push_back(key);
        }
        while self.forgotten.len() > FORGOTTEN_MAX {
            self.forgotten.pop_front().inspect(|key| {
                self.known_forgotten.remove(key);
            });
        }
        let lists = &self.lists;
        self.held.retain_mut(|held| {
            held.steps.retain(|step| lists.contains_key(&step.key));
            !held.steps.is_empty()
        });
    }
}

/// How many places are tried to settle.
const ATTEMPTS: usize = 8;
/// How many forgotten lists are known by name.
const FORGOTTEN_MAX: usize = 1 << 16;
