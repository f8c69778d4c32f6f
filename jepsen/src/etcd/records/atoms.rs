//! Keys and values as numbers.
//!
//! Every distinct byte string is kept once, behind the others in one arena, and has a number: comparing two of
//! them is comparing two numbers, and a record of a history needs four bytes for each. The table is open
//! addressing with linear probing; a slot keeps half of the hash, so that bytes are compared once per lookup
//! and growing reads no bytes at all.

use std::hash::Hasher;

use crate::hash::FastHasher;

/// The number of a byte string.
pub(in crate::etcd) type Atom = u32;

/// No byte string.
pub(in crate::etcd) const NO_ATOM: Atom = u32::MAX;

/// All byte strings of a history.
#[derive(Clone, Debug, Default)]
pub(in crate::etcd) struct Atoms {
    bytes: Vec<u8>,
    /// Where each ends; it begins where the one before it ends.
    ends: Vec<usize>,
    /// Hash and number. At most half of the slots are taken.
    table: Vec<Slot>,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    hash: u32,
    atom: Atom,
}

const FREE: Slot = Slot { hash: 0, atom: NO_ATOM };

impl Atoms {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The memory that they take.
    pub fn memory(&self) -> usize {
        self.bytes.capacity()
            + self.ends.capacity() * size_of::<usize>()
            + self.table.capacity() * size_of::<Slot>()
    }

    /// The bytes of a number.
    pub fn get(&self, atom: Atom) -> &[u8] {
        let start = (atom as usize).checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[atom as usize]]
    }

    /// The number of some bytes, if they have one.
    pub fn find(&self, bytes: &[u8]) -> Option<Atom> {
        if self.table.is_empty() {
            return None;
        }
        self.probe(bytes, hash_of(bytes)).ok()
    }

    /// The number of some bytes, a new one if they have none.
    pub fn intern(&mut self, bytes: &[u8]) -> Atom {
        if self.ends.len() * 2 >= self.table.len() {
            self.grow();
        }
        let hash = hash_of(bytes);
        match self.probe(bytes, hash) {
            Ok(atom) => atom,
            Err(place) => {
                let atom = Atom::try_from(self.ends.len()).expect("fewer byte strings than operations");
                self.bytes.extend_from_slice(bytes);
                self.ends.push(self.bytes.len());
                self.table[place] = Slot { hash, atom };
                atom
            }
        }
    }

    /// The number of some bytes, or the slot where it belongs.
    fn probe(&self, bytes: &[u8], hash: u32) -> Result<Atom, usize> {
        let mask = self.table.len() - 1;
        let mut place = hash as usize & mask;
        loop {
            let slot = self.table[place];
            if slot.atom == NO_ATOM {
                return Err(place);
            }
            if slot.hash == hash && self.get(slot.atom) == bytes {
                return Ok(slot.atom);
            }
            place = (place + 1) & mask;
        }
    }

    #[cold]
    fn grow(&mut self) {
        let size = (self.table.len() * 2).max(64);
        let old = std::mem::replace(&mut self.table, vec![FREE; size]);
        for slot in old.into_iter().filter(|slot| slot.atom != NO_ATOM) {
            let mut place = slot.hash as usize & (size - 1);
            while self.table[place].atom != NO_ATOM {
                place = (place + 1) & (size - 1);
            }
            self.table[place] = slot;
        }
    }
}

fn hash_of(bytes: &[u8]) -> u32 {
    let mut hasher = FastHasher::default();
    hasher.write(bytes);
    (hasher.finish() >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_bytes_have_one_number_and_different_ones_have_different_numbers() {
        let mut atoms = Atoms::default();
        let texts: Vec<String> =
            (0..5000).map(|number| "x".repeat(number % 7) + &number.to_string()).collect();
        let numbers: Vec<Atom> = texts.iter().map(|text| atoms.intern(text.as_bytes())).collect();
        assert_eq!(numbers, (0..5000).collect::<Vec<Atom>>());
        for (text, number) in texts.iter().zip(numbers) {
            assert_eq!(atoms.intern(text.as_bytes()), number);
            assert_eq!(atoms.find(text.as_bytes()), Some(number));
            assert_eq!(atoms.get(number), text.as_bytes());
        }
        assert_eq!((atoms.len(), atoms.find(b"other"), Atoms::default().find(b"")), (5000, None, None));
    }
}
