//! The memory of a search: which configurations it has met, and how good they were.

use super::explore::{Configuration, Mask};

/// What was met: by everything but advantages, the best advantages. Small when it begins: most searches are short.
pub(super) struct Seen<const W: usize> {
    /// What was met, each with its advantages and the one of the same configuration that was met before it.
    met: Vec<Met<W>>,
    /// Half of the hash of a configuration, and the last of its like in `met`. Open addressing, at most two
    /// thirds full.
    slots: Vec<(u32, u32)>,
    taken: usize,
}

struct Met<const W: usize> {
    configuration: Configuration<W>,
    advantage: Mask<W>,
    before: u32,
}

impl<const W: usize> Default for Seen<W> {
    fn default() -> Self {
        Seen { met: Vec::with_capacity(64), slots: vec![FREE; 128], taken: 0 }
    }
}

impl<const W: usize> Seen<W> {
    /// Remembers a configuration; false if one with all its advantages was known.
    pub fn insert(&mut self, configuration: Configuration<W>, advantage: Mask<W>) -> bool {
        if self.taken * 3 > self.slots.len() * 2 {
            self.grow();
        }
        let hash = configuration.hash();
        let mask = self.slots.len() - 1;
        let mut place = hash as usize & mask;
        let before = loop {
            let (known, last) = self.slots[place];
            if last == END {
                self.taken += 1;
                break END;
            }
            if known == hash && self.met[last as usize].configuration == configuration {
                break last;
            }
            place = (place + 1) & mask;
        };
        let mut at = before;
        while at != END {
            let met = &self.met[at as usize];
            if advantage.is_within(&met.advantage) {
                return false;
            }
            at = met.before;
        }
        self.slots[place] = (hash, self.met.len() as u32);
        self.met.push(Met { configuration, advantage, before });
        true
    }

    #[cold]
    fn grow(&mut self) {
        let size = self.slots.len() * 2;
        let old = std::mem::replace(&mut self.slots, vec![FREE; size]);
        for slot in old.into_iter().filter(|(_, last)| *last != END) {
            let mut place = slot.0 as usize & (size - 1);
            while self.slots[place].1 != END {
                place = (place + 1) & (size - 1);
            }
            self.slots[place] = slot;
        }
    }

    pub fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<(u32, u32)>() + self.met.capacity() * size_of::<Met<W>>()
    }
}

const END: u32 = u32::MAX;
const FREE: (u32, u32) = (0, END);
