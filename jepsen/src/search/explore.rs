//! The search over configurations.
//!
//! A configuration is: which return comes next, the state, and which pending operations have taken effect.
//! From it, the operation that returns next must take effect if it has not: either at once, or after some
//! other pending write (*just in time*: nothing takes effect before some return demands it). Depth first, the
//! pending operation with the earliest return first. When the last return is passed, the order of effects is
//! a linearization.
//!
//! Five reductions, all of them sound on their own and together, each of which can be switched off to prove
//! it:
//!
//! * *eager reads*: a read that is legal now takes effect now. It changes nothing, so it can be moved here
//!   from wherever it stands in any linearization.
//! * *symmetry*: of pending operations that are equal in input and output, the one that returns first goes
//!   first. In any linearization two equal operations can trade places if the later place suits the one that
//!   returns later. Needs the order by returns: with another order it is wrong.
//! * *dominance*: two configurations that agree in all but reads and unknown writes: the one with more reads
//!   done and fewer unknown writes spent can do all that the other can.
//! * *look-ahead*: a pending read that no remaining write can make legal ends the branch.
//! * *observation*: states that no read of the history can see, now or later, are one, if the model says so.
//!
//! Sources: Wing & Gong 1993; Lowe, "Testing for linearizability", 2017; Horn & Kroening 2015 for the
//! partitions.

use std::hash::Hasher;

use super::look_ahead::Producers;
use super::seen::Seen;
use super::states::{FORBIDDEN, StateId, States};
use super::window::{Member, Window};
use super::{Exhausted, Limits};
use crate::hash::FastHasher;
use crate::model::Model;

/// Which reductions a search uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "five independent switches")]
pub struct Reductions {
    /// A read that is legal now takes effect now.
    pub eager_reads: bool,
    /// Of equal pending operations the one that returns first goes first.
    pub symmetry: bool,
    /// A configuration that can do all that another can makes the other superfluous.
    pub dominance: bool,
    /// A pending read that cannot become legal any more ends the branch.
    pub look_ahead: bool,
    /// States that no read can see any more are one.
    pub observation: bool,
}

impl Reductions {
    /// All of them.
    pub const ALL: Reductions = Reductions {
        eager_reads: true,
        symmetry: true,
        dominance: true,
        look_ahead: true,
        observation: true,
    };
}

impl Default for Reductions {
    fn default() -> Self {
        Reductions::ALL
    }
}

/// The widest configuration that is compiled in.
pub(super) const SLOTS_MAX: usize = 1 << 16;

/// What a search found.
pub(super) enum Outcome {
    /// A linearization exists.
    Linearizable,
    /// None does.
    Refuted(Deepest),
    /// The search gave up.
    GaveUp(Exhausted),
}

/// The furthest that any branch came.
#[derive(Clone, Debug, Default)]
pub(super) struct Deepest {
    /// The return that could not be passed.
    pub at: usize,
    /// The states in which branches were stuck there: a few of them.
    pub states: Vec<StateId>,
}

/// What a search has used.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Used {
    pub configurations: u64,
    pub bytes: u64,
}

impl Used {
    /// Adds what another search has used.
    pub fn add(&mut self, other: Used) {
        self.configurations += other.configurations;
        self.bytes = self.bytes.max(other.bytes);
    }
}

/// Searches a prepared partition for a linearization.
pub(super) fn explore<M: Model>(
    model: &M,
    window: &Window<'_, M>,
    states: &mut States<'_, M>,
    limits: &Limits<'_>,
    used: &mut Used,
) -> Outcome {
    match window.width() {
        0..=64 => Explorer::<M, 1>::new(model, window, states, limits, used).run(),
        65..=128 => Explorer::<M, 2>::new(model, window, states, limits, used).run(),
        129..=256 => Explorer::<M, 4>::new(model, window, states, limits, used).run(),
        257..=512 => Explorer::<M, 8>::new(model, window, states, limits, used).run(),
        513..=1024 => Explorer::<M, 16>::new(model, window, states, limits, used).run(),
        1025..=8192 => Explorer::<M, 128>::new(model, window, states, limits, used).run(),
        8193..=SLOTS_MAX => Explorer::<M, 1024>::new(model, window, states, limits, used).run(),
        width => Outcome::GaveUp(Exhausted::Width(width)),
    }
}

/// Which operations have taken effect.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Mask<const W: usize>([u64; W]);

impl<const W: usize> Mask<W> {
    const EMPTY: Self = Mask([0; W]);

    fn has(&self, slot: u32) -> bool {
        self.0[slot as usize / 64] >> (slot % 64) & 1 == 1
    }

    fn set(&mut self, slot: u32) {
        self.0[slot as usize / 64] |= 1 << (slot % 64);
    }

    fn clear(&mut self, slot: u32) {
        self.0[slot as usize / 64] &= !(1 << (slot % 64));
    }

    fn zip(&self, other: &Self, combine: impl Fn(u64, u64) -> u64) -> Self {
        Mask(std::array::from_fn(|word| combine(self.0[word], other.0[word])))
    }

    /// Whether all its bits are set in `other` as well.
    pub fn is_within(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(mine, theirs)| mine & !theirs == 0)
    }

    /// The bits of `count` slots from `start` on.
    fn of(start: usize, count: usize) -> Self {
        let mut mask = Mask::EMPTY;
        (start..start + count).for_each(|slot| mask.set(slot as u32));
        mask
    }
}

/// A configuration.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Configuration<const W: usize> {
    /// The next return.
    at: u32,
    state: StateId,
    done: Mask<W>,
}

impl<const W: usize> Configuration<W> {
    /// Half of a hash.
    pub fn hash(&self) -> u32 {
        let mut hasher = FastHasher::default();
        hasher.write_u64(u64::from(self.at) << 32 | u64::from(self.state));
        self.done.0.iter().for_each(|word| hasher.write_u64(*word));
        hasher.finish() as u32
    }
}

struct Explorer<'a, 'm, M: Model, const W: usize> {
    window: &'a Window<'a, M>,
    states: &'a mut States<'m, M>,
    limits: &'a Limits<'a>,
    used: &'a mut Used,
    /// Bits of returning writes: all of a configuration that is not an advantage.
    writes: Mask<W>,
    /// Bits of unknown writes, which are an advantage while they are not set.
    unknown: Mask<W>,
    seen: Seen<W>,
    stack: Vec<Configuration<W>>,
    /// By class: the last configuration in which a member of it was considered.
    considered: Vec<u64>,
    /// If look-ahead is used.
    producers: Option<Producers<'a, M>>,
    deepest: Deepest,
}

impl<'a, 'm, M: Model, const W: usize> Explorer<'a, 'm, M, W> {
    fn new(
        model: &'a M,
        window: &'a Window<'a, M>,
        states: &'a mut States<'m, M>,
        limits: &'a Limits<'a>,
        used: &'a mut Used,
    ) -> Self {
        let [writes, reads, unknown] = window.slots;
        let looks_ahead = limits.reductions.look_ahead && limits.reductions.eager_reads;
        Explorer {
            considered: vec![0; window.classes.len()],
            window,
            states,
            limits,
            used,
            writes: Mask::of(0, writes),
            unknown: Mask::of(writes + reads, unknown),
            seen: Seen::default(),
            stack: Vec::with_capacity(32),
            producers: looks_ahead.then(|| Producers::new(model, window)).flatten(),
            deepest: Deepest { at: 0, states: Vec::with_capacity(STATES_SHOWN) },
        }
    }

    fn run(mut self) -> Outcome {
        let start = Configuration { at: 0, state: States::<M>::INITIAL, done: Mask::EMPTY };
        if self.push(start) {
            return Outcome::Linearizable;
        }
        while let Some(configuration) = self.stack.pop() {
            if let Some(exhausted) = self.exhausted() {
                return Outcome::GaveUp(exhausted);
            }
            if self.expand(configuration) {
                return Outcome::Linearizable;
            }
        }
        Outcome::Refuted(self.deepest)
    }

    fn exhausted(&mut self) -> Option<Exhausted> {
        self.used.configurations += 1;
        if self.used.configurations > self.limits.configurations {
            return Some(Exhausted::Configurations);
        }
        // A wide configuration is as much work as many narrow ones.
        if !self.used.configurations.is_multiple_of((1024 / W as u64).max(16)) {
            return None;
        }
        let bytes = self.window.bytes()
            + self.seen.bytes()
            + self.stack.capacity() * size_of::<Configuration<W>>()
            + self.states.bytes();
        self.used.bytes = self.used.bytes.max(bytes as u64);
        if bytes as u64 > self.limits.bytes {
            return Some(Exhausted::Bytes);
        }
        self.limits.stop.is_some_and(|stop| stop()).then_some(Exhausted::Stopped)
    }

    /// Puts all successors of a configuration on the stack, the most promising on top. True if one is final.
    fn expand(&mut self, configuration: Configuration<W>) -> bool {
        let at = configuration.at as usize;
        let window = self.window;
        let first = self.stack.len();
        let reads = if self.limits.reductions.eager_reads { &[][..] } else { window.reads(at) };
        for member in window.writes(at).iter().chain(reads).chain(window.unknown(at)) {
            if configuration.done.has(member.slot) || self.is_equal_to_earlier(*member) {
                continue;
            }
            let state = self.states.step(configuration.state, member.class);
            if state == FORBIDDEN {
                continue;
            }
            let mut next = Configuration { state, ..configuration };
            next.done.set(member.slot);
            if self.push(next) {
                return true;
            }
        }
        self.stack[first..].reverse();
        false
    }

    /// Whether an equal operation that returns earlier was considered in this configuration.
    fn is_equal_to_earlier(&mut self, member: Member) -> bool {
        let considered = &mut self.considered[member.class as usize];
        let earlier = *considered == self.used.configurations;
        *considered = self.used.configurations;
        earlier && self.limits.reductions.symmetry
    }

    /// Lets everything happen that needs no choice, and puts what comes of it on the stack unless it is
    /// known. True if it is final.
    fn push(&mut self, mut configuration: Configuration<W>) -> bool {
        loop {
            let at = configuration.at as usize;
            let Some(next) = self.window.returns.get(at) else { return true };
            if self.limits.reductions.eager_reads {
                self.absorb_reads(&mut configuration);
            }
            if !configuration.done.has(next.member.slot) {
                break;
            }
            configuration.done.clear(next.member.slot);
            configuration.at += 1;
        }
        let at = configuration.at as usize;
        if at > self.deepest.at {
            self.deepest.at = at;
            self.deepest.states.clear();
        }
        if at == self.deepest.at
            && self.deepest.states.len() < STATES_SHOWN
            && !self.states.is_unseen(configuration.state)
            && !self.deepest.states.contains(&configuration.state)
        {
            self.deepest.states.push(configuration.state);
        }
        if self.is_new(&configuration) && !self.is_hopeless(&configuration) {
            self.stack.push(configuration);
        }
        false
    }

    fn absorb_reads(&mut self, configuration: &mut Configuration<W>) {
        for read in self.window.reads(configuration.at as usize) {
            if !configuration.done.has(read.slot)
                && self.states.step(configuration.state, read.class) != FORBIDDEN
            {
                configuration.done.set(read.slot);
            }
        }
    }

    /// Whether nothing at least as good as this configuration was met before.
    fn is_new(&mut self, configuration: &Configuration<W>) -> bool {
        if !self.limits.reductions.dominance {
            return self.seen.insert(*configuration, Mask::EMPTY);
        }
        let advantage = configuration.done.zip(&self.unknown, |done, unknown| done ^ unknown);
        let advantage = advantage.zip(&self.writes, |advantage, writes| advantage & !writes);
        let done = configuration.done.zip(&self.writes, |done, writes| done & writes);
        self.seen.insert(Configuration { done, ..*configuration }, advantage)
    }

    /// Whether some pending read can never become legal.
    fn is_hopeless(&mut self, configuration: &Configuration<W>) -> bool {
        let Some(producers) = &mut self.producers else { return false };
        let at = configuration.at as usize;
        let window = self.window;
        window.reads(at).iter().any(|read| {
            !configuration.done.has(read.slot)
                && !window.writes(at).iter().chain(window.unknown(at)).any(|write| {
                    !configuration.done.has(write.slot) && producers.produces(write.class, read.class)
                })
                && !producers.may_come_after(at, *read)
                && !self.states.is_on_the_way(configuration.state, read.class)
        })
    }
}

/// How many states of the deepest point are kept for the explanation.
const STATES_SHOWN: usize = 8;
