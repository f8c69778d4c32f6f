//! Judging a history while it goes on, in bounded memory.
//!
//! An *online* judge is fed operation by operation, in the order of the calls, and holds only what later operations may need. Its
//! verdict is that of the check of the whole history, or unknown with the bound that was hit.
//!
//! * [`etcd::online`](crate::etcd::online) judges etcd's own operations by the order of revisions, with watches and leases;
//! * [`etcd::OnlineLock`](crate::etcd::OnlineLock) judges what the order of changes says of a lock;
//! * [`Search`](crate::Search) judges any sequential object, by what is possible at the present moment;
//! * [`txn::Lists`](crate::txn::Lists) judges transactions that append to lists.

use crate::{Verdict, Violation};

/// What an online judge may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Operations that come before a part is judged.
    pub part: usize,
    /// Operations that are held for what may tell which write of unknown outcome happened: some happen late.
    pub lag: usize,
    /// Operations that are held because something about them is not certain.
    pub operations: usize,
    /// Writes of unknown outcome that may still happen.
    pub open: usize,
    /// Leases.
    pub leases: usize,
    /// Memory for what was: states that stale reads and slow watches may show.
    pub past_bytes: usize,
    /// States and orders of pending operations that are possible at once.
    pub configurations: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds {
            part: 4096,
            lag: 4096,
            operations: 1 << 18,
            open: 1 << 16,
            leases: 4096,
            past_bytes: 16 << 20,
            configurations: 1 << 16,
        }
    }
}

/// What names operations by their places.
pub(crate) trait Numbered {
    /// The same, with the places of the whole history for those of a part.
    fn renumbered(self, place: impl Fn(usize) -> usize) -> Self;
}

impl Numbered for Violation {
    fn renumbered(self, place: impl Fn(usize) -> usize) -> Violation {
        let mut sentence = String::with_capacity(self.sentence.len());
        let mut rest = self.sentence.as_str();
        // Sentences name operations as `[#5]`.
        while let Some(begin) = rest.find("[#") {
            let (before, behind) = rest.split_at(begin + 2);
            sentence.push_str(before);
            let digits = behind.bytes().take_while(u8::is_ascii_digit).count();
            match behind[..digits].parse::<usize>() {
                Ok(number) if behind[digits..].starts_with(']') => sentence += &place(number).to_string(),
                _ => sentence.push_str(&behind[..digits]),
            }
            rest = &behind[digits..];
        }
        sentence.push_str(rest);
        let operations = self.operations.into_iter().map(place).collect();
        Violation { sentence, operations, ..self }
    }
}

impl Numbered for Verdict {
    fn renumbered(self, place: impl Fn(usize) -> usize) -> Verdict {
        match self {
            Verdict::Invalid(violation) => Verdict::Invalid(violation.renumbered(place)),
            other => other,
        }
    }
}
