//! Locks that know their holder: reentrant ones, ones with fencing tokens, and semaphores.
//!
//! Sources: Jepsen's tests of Hazelcast (2020) for reentrant and fenced locks and semaphores; Kleppmann, "How
//! to do distributed locking" (2016), for what fencing tokens are for.

use std::collections::BTreeMap;

use crate::model::Model;

/// What can be asked of a lock, and by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LockInput {
    /// Takes it.
    Acquire {
        /// Who.
        process: u64,
    },
    /// Gives it back.
    Release {
        /// Who.
        process: u64,
    },
}

/// The answer to an acquisition may be a fencing token; other answers are `None`.
pub type LockOutput = Option<i64>;

/// A lock that its holder may take again, up to `depth` times, and that only its holder may give back.
#[derive(Clone, Copy, Debug)]
pub struct OwnedLock {
    /// How often it may be held at once by its holder: 1 is a lock that is not reentrant.
    pub depth: u32,
    /// Whether acquisitions answer with tokens that must grow from holder to holder.
    pub fenced: bool,
}

impl Default for OwnedLock {
    fn default() -> Self {
        OwnedLock { depth: 1, fenced: false }
    }
}

/// Who holds a lock, how often, and the greatest token so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Held {
    /// Who, if anybody.
    pub by: Option<u64>,
    /// How often.
    pub times: u32,
    /// The token of the last acquisition that had one.
    pub token: i64,
}

impl Model for OwnedLock {
    type Input = LockInput;
    type Output = LockOutput;
    type State = Held;

    fn init(&self) -> Held {
        Held { by: None, times: 0, token: i64::MIN }
    }

    fn step(&self, held: &Held, input: &LockInput, output: Option<&LockOutput>) -> Option<Held> {
        match input {
            LockInput::Acquire { process } => {
                let again = held.by == Some(*process);
                if held.by.is_some() && !again || held.times >= self.depth {
                    return None;
                }
                let token = match output.copied().flatten().filter(|_| self.fenced) {
                    // Whoever takes it again keeps the token; a new holder's is greater.
                    Some(token) if again && token != held.token => return None,
                    Some(token) if !again && token <= held.token => return None,
                    Some(token) => token,
                    None => held.token,
                };
                Some(Held { by: Some(*process), times: held.times + 1, token })
            }
            LockInput::Release { process } => {
                let times = held.times.checked_sub(1).filter(|_| held.by == Some(*process))?;
                Some(Held { by: held.by.filter(|_| times > 0), times, ..*held })
            }
        }
    }

    fn describe(&self, input: &LockInput, output: Option<&LockOutput>) -> String {
        describe(input, output, ["acquired the lock", "released the lock"])
    }

    fn describe_state(&self, held: &Held) -> String {
        match held.by {
            Some(process) if held.times > 1 => format!("held {} times by process {process}", held.times),
            Some(process) => format!("held by process {process}"),
            None => "free".to_owned(),
        }
    }
}

/// A semaphore: so many permits, each of which a process may take and only who has one may give back.
#[derive(Clone, Copy, Debug)]
pub struct Semaphore {
    /// How many there are.
    pub permits: u32,
}

impl Default for Semaphore {
    fn default() -> Self {
        Semaphore { permits: 2 }
    }
}

impl Model for Semaphore {
    type Input = LockInput;
    type Output = LockOutput;
    /// How many permits each process has.
    type State = BTreeMap<u64, u32>;

    fn init(&self) -> BTreeMap<u64, u32> {
        BTreeMap::new()
    }

    fn step(
        &self,
        held: &BTreeMap<u64, u32>,
        input: &LockInput,
        _: Option<&LockOutput>,
    ) -> Option<BTreeMap<u64, u32>> {
        let mut held = held.clone();
        match input {
            LockInput::Acquire { process } => {
                if held.values().sum::<u32>() >= self.permits {
                    return None;
                }
                *held.entry(*process).or_default() += 1;
            }
            LockInput::Release { process } => {
                let count = held.get_mut(process)?;
                *count -= 1;
                if *count == 0 {
                    held.remove(process);
                }
            }
        }
        Some(held)
    }

    fn describe(&self, input: &LockInput, output: Option<&LockOutput>) -> String {
        describe(input, output, ["acquired a permit", "released a permit"])
    }

    fn describe_state(&self, held: &BTreeMap<u64, u32>) -> String {
        format!("{} of {} permits taken", held.values().sum::<u32>(), self.permits)
    }
}

fn describe(input: &LockInput, output: Option<&LockOutput>, [acquired, released]: [&str; 2]) -> String {
    let may = if output.is_some() { "" } else { "may have " };
    match (input, output.copied().flatten()) {
        (LockInput::Acquire { .. }, Some(token)) => format!("{may}{acquired} with token {token}"),
        (LockInput::Acquire { .. }, None) => format!("{may}{acquired}"),
        (LockInput::Release { .. }, _) => format!("{may}{released}"),
    }
}
