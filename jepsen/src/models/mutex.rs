//! A lock that anybody may hold and whoever holds it may release.
//!
//! Acquisitions and releases alternate, so in any stretch of time there are at most one more of the ones than of the
//! others. Where more acquisitions lie inside a stretch than releases touch it, by two, no order is left; that is the
//! simplest way to show it. Mostly it is two acquisitions with no release between them.

use crate::history::Operation;
use crate::model::{Model, Refutation};

/// A lock, free at first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mutex;

/// What can be asked of a lock. The only answer is that it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MutexInput {
    /// Takes the lock, which must be free.
    Acquire,
    /// Frees the lock, which must be held.
    Release,
}

impl Model for Mutex {
    type Input = MutexInput;
    type Output = ();
    type State = bool;

    fn init(&self) -> bool {
        false
    }

    fn step(&self, held: &bool, input: &MutexInput, _: Option<&()>) -> Option<bool> {
        match input {
            MutexInput::Acquire => (!held).then_some(true),
            MutexInput::Release => held.then_some(false),
        }
    }

    fn simplest(&self, operations: &[&MutexOperation]) -> Option<Refutation> {
        // Two holders at once say more than two releases in a row.
        let [acquired, released] =
            [MutexInput::Acquire, MutexInput::Release].map(|more| crowded(operations, more));
        let is_short = |stretch: &Stretch| stretch.len() <= SHORT;
        let shortest = || acquired.iter().chain(&released).min_by_key(|stretch| stretch.len());
        let shown = acquired.as_ref().filter(|stretch| is_short(stretch)).or_else(shortest)?;
        Some(shown.refutation())
    }

    fn describe(&self, input: &MutexInput, output: Option<&()>) -> String {
        let may = if output.is_some() { "" } else { "may have " };
        match input {
            MutexInput::Acquire => format!("{may}acquired the lock"),
            MutexInput::Release => format!("{may}released the lock"),
        }
    }

    fn describe_state(&self, held: &bool) -> String {
        if *held { "held" } else { "free" }.to_owned()
    }
}

type MutexOperation = Operation<MutexInput, ()>;

/// A stretch of time in which there is more of one kind than the other kind leaves room for.
struct Stretch {
    from: u64,
    to: u64,
    more: MutexInput,
    /// Operations of the one kind that happened in it for certain.
    inside: Vec<usize>,
    /// Operations of the other kind that may have happened in it.
    touching: Vec<usize>,
}

/// The stretch that shows it with the fewest operations.
fn crowded(operations: &[&MutexOperation], more: MutexInput) -> Option<Stretch> {
    if operations.len() > OPERATIONS_MAX {
        return None;
    }
    let of = |input: MutexInput| (0..operations.len()).filter(move |at| operations[*at].input == input);
    let mut ones: Vec<usize> = of(more).filter(|at| operations[*at].returned.is_some()).collect();
    ones.sort_unstable_by_key(|at| operations[*at].return_time());
    let mut others: Vec<usize> =
        of(if more == MutexInput::Acquire { MutexInput::Release } else { MutexInput::Acquire }).collect();
    others.sort_unstable_by_key(|at| operations[*at].call);
    // At the very beginning the lock is free: then not even one release may come first.
    let begins =
        ones.iter().map(|at| (operations[*at].call, 1)).chain([(0, i64::from(more == MutexInput::Acquire))]);
    let mut best: Option<(usize, u64, u64)> = None;
    for (from, room) in begins {
        let (mut inside, mut touching, mut next) = (0, 0, 0);
        for one in ones.iter().filter(|at| operations[**at].call >= from) {
            let to = operations[*one].return_time();
            inside += 1;
            while let Some(other) = others.get(next).filter(|at| operations[**at].call <= to) {
                touching += i64::from(operations[*other].return_time() >= from);
                next += 1;
            }
            let count = usize::try_from(inside + touching).unwrap_or(usize::MAX);
            if inside > touching + room && best.is_none_or(|(least, ..)| count < least) {
                best = Some((count, from, to));
            }
        }
    }
    let (_, from, to) = best?;
    let is_inside = |at: &usize| operations[*at].call >= from && operations[*at].return_time() <= to;
    let touches = |at: &usize| operations[*at].call <= to && operations[*at].return_time() >= from;
    let (inside, touching) =
        (ones.into_iter().filter(is_inside).collect(), others.into_iter().filter(touches).collect());
    Some(Stretch { from, to, more, inside, touching })
}

impl Stretch {
    fn len(&self) -> usize {
        self.inside.len() + self.touching.len()
    }

    fn refutation(&self) -> Refutation {
        let (ones, others) = match self.more {
            MutexInput::Acquire => ("acquired", "released"),
            MutexInput::Release => ("released", "acquired"),
        };
        let times = |count: usize| match count {
            0 => "not at all".to_owned(),
            1 => "once".to_owned(),
            2 => "twice".to_owned(),
            count => format!("{count} times"),
        };
        let (inside, touching) = (times(self.inside.len()), times(self.touching.len()));
        let at_most = if self.touching.is_empty() { "" } else { " at most" };
        Refutation {
            operations: self.inside.iter().rev().chain(&self.touching).copied().collect(),
            sentence: format!(
                "between {} and {} the lock was {ones} {inside} and {others} {touching}{at_most}",
                self.from, self.to
            ),
        }
    }
}

/// With more operations, counting every stretch takes too long.
const OPERATIONS_MAX: usize = 5_000;
/// So few operations are easy to look at.
const SHORT: usize = 12;
