//! Look-ahead: a pending read that no remaining write can make legal ends the branch.

use super::states::Class;
use super::window::{Alike, Member, Window};
use crate::model::Model;

/// Which writes can make which reads legal, and when they are called. Found out when first asked about: in short
/// searches most pairs never are.
pub(super) struct Producers<'a, M: Model> {
    model: &'a M,
    window: &'a Window<'a, M>,
    /// Row by class of read, column by class of write.
    table: Vec<u8>,
    /// By class of read: before which returns its producers are called, ascending.
    calls: Vec<Option<Vec<u32>>>,
}

/// What the table says. Zeros, which cost nothing to make, come first.
const UNTRIED: u8 = 0;
const YES: u8 = 1;
const NO: u8 = 2;

impl<'a, M: Model> Producers<'a, M> {
    /// None if they are of no use.
    pub fn new(model: &'a M, window: &'a Window<'a, M>) -> Option<Self> {
        let classes = window.classes.len();
        let pairs = classes.checked_pow(2).filter(|pairs| model.looks_ahead() && *pairs <= PAIRS_MAX)?;
        Some(Producers { model, window, table: vec![UNTRIED; pairs], calls: Vec::new() })
    }

    /// Whether a producer is called after the return `at` and before the read returns.
    pub fn may_come_after(&mut self, at: usize, read: Member) -> bool {
        let window = self.window;
        let between = window.calls_between(at, read.last);
        if between.len() <= FEW {
            return between.iter().any(|(write, _)| self.produces(*write, read.class));
        }
        if self.calls.is_empty() {
            self.calls.resize(window.classes.len(), None);
        }
        let calls = match self.calls[read.class as usize].take() {
            Some(calls) => calls,
            None => self.all_calls(read.class),
        };
        let next = calls.partition_point(|before| *before as usize <= at);
        let may_come = calls.get(next).is_some_and(|before| *before <= read.last);
        self.calls[read.class as usize] = Some(calls);
        may_come
    }

    #[cold]
    fn all_calls(&mut self, read: Class) -> Vec<u32> {
        let calls = &self.window.write_calls;
        calls.iter().filter(|(write, _)| self.produces(*write, read)).map(|(_, before)| *before).collect()
    }

    /// Whether a write can make a read legal.
    #[inline]
    pub fn produces(&mut self, write: Class, read: Class) -> bool {
        let cell = read as usize * self.window.classes.len() + write as usize;
        match self.table[cell] {
            YES => true,
            NO => false,
            _ => self.try_pair(write, read, cell),
        }
    }

    fn try_pair(&mut self, write: Class, read: Class, cell: usize) -> bool {
        let Alike { input, output, .. } = &self.window.classes[read as usize];
        let write = &self.window.classes[write as usize];
        let produces =
            output.is_some_and(|output| self.model.produces((write.input, write.output), (input, output)));
        self.table[cell] = if produces { YES } else { NO };
        produces
    }
}

/// Look-ahead compares reads with writes: with many it would cost more than it saves.
const PAIRS_MAX: usize = 1 << 18;
/// So many calls are looked at one by one.
const FEW: usize = 16;
