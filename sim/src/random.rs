//! Randomness from one seed, in one stream per subsystem.
//!
//! A draw more in one subsystem must not reshuffle the others: with a stream each, a run whose disk asks
//! once more still meets the same network. Where a draw belongs to a place and a moment (this message on
//! this link, this start of this member), it is made from these alone ([`Random::keyed`]), so that leaving
//! out one request changes no more of the rest of a run than it must: minimising a failure lives on that.
//! Only integers are drawn, so that every machine draws the same.
//!
//! The generator is SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): a counter and a mixing function.

use std::time::Duration;

use crate::time::nanos;

/// Who draws.
#[derive(Clone, Copy, Debug)]
pub enum Stream {
    /// The options of the run.
    Options = 1,
    /// Which faults happen, when.
    Nemesis = 2,
    /// What links do to messages.
    Network = 3,
    /// How long disks take, and what a crash leaves on them.
    Disk = 4,
    /// How clocks go when nobody meddles with them.
    Clock = 5,
    /// What clients ask for.
    Workload = 6,
    /// When clients ask, and whom.
    Clients = 7,
    /// The seeds of the members.
    Members = 8,
    /// Which messages take the way through the codec.
    Codec = 9,
}

/// A source of random numbers.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The stream of one subsystem.
    #[must_use]
    pub fn new(seed: u64, stream: Stream) -> Random {
        Random(mix(mix(seed ^ 0x6a09_e667_f3bc_c908) ^ stream as u64))
    }

    /// The stream of one of many alike: one client's, one member's.
    #[must_use]
    pub fn numbered(seed: u64, stream: Stream, number: u64) -> Random {
        Random(mix(Random::new(seed, stream).0 ^ mix(number + 1)))
    }

    /// What is drawn at one place and moment: a stream's draw that depends on nothing else.
    #[must_use]
    pub fn keyed(seed: u64, stream: Stream, place: u64, moment: u64) -> Random {
        Random(mix(Random::numbered(seed, stream, place).0 ^ mix(!moment)))
    }

    /// A source that follows from this one's present state and a key, and does not change it.
    #[must_use]
    pub fn at(&self, key: u64) -> Random {
        Random(mix(self.0 ^ mix(key ^ 0x3c6e_f372_fe94_f82b)))
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number from zero, less than `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "there is no number below zero");
        // Multiply and shift; the bias is below 2⁻³² for the bounds used here.
        ((u128::from(self.any()) * u128::from(bound)) >> 64) as u64
    }

    /// A number of the range, both ends included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        assert!(low <= high, "an empty range to draw from");
        low + self.below(high - low + 1)
    }

    /// True so many times in a million.
    pub fn chance(&mut self, per_million: u32) -> bool {
        // Nothing is drawn for "never": most faults are off in most runs, and this is the hottest draw.
        per_million > 0 && self.below(1_000_000) < u64::from(per_million)
    }

    /// A duration of the range.
    pub fn duration(&mut self, low: Duration, high: Duration) -> Duration {
        Duration::from_nanos(self.between(nanos(low), nanos(high)))
    }

    /// A number that is often small and seldom large, with about this mean.
    ///
    /// The exponential distribution, drawn as straight lines between its points at powers of two: logarithms
    /// of floating point numbers differ between machines.
    pub fn exponential(&mut self, mean: u64) -> u64 {
        let bits = self.any();
        let halvings = u64::from((bits | 1 << 40).leading_zeros());
        let between = bits & 0xffff;
        // One halving is ln 2 of the mean: 45,426 / 65,536.
        let scaled = u128::from(mean) * u128::from((halvings << 16) + between) * 45_426;
        (scaled >> 32) as u64
    }

    /// A duration that is often short and seldom long, with about this mean.
    pub fn exponential_duration(&mut self, mean: Duration) -> Duration {
        Duration::from_nanos(self.exponential(nanos(mean)))
    }

    /// One of the items.
    pub fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len() as u64) as usize]
    }

    /// The index of one of the weights, each as likely as it is heavy; `None` if all are zero.
    pub fn weighted(&mut self, weights: &[u32]) -> Option<usize> {
        let total: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
        if total == 0 {
            return None;
        }
        let mut left = self.below(total);
        weights.iter().position(|&weight| {
            let hit = left < u64::from(weight);
            left = left.saturating_sub(u64::from(weight));
            hit
        })
    }

    /// Puts the items in any order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

/// The finishing function of SplitMix64: every bit of the word moves about half of the result's.
fn mix(mut word: u64) -> u64 {
    word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_one_seed_differ_and_repeat() {
        let draw = |seed, stream| Random::new(seed, stream).any();
        assert_eq!(draw(1, Stream::Disk), draw(1, Stream::Disk));
        assert_ne!(draw(1, Stream::Disk), draw(1, Stream::Network));
        assert_ne!(draw(1, Stream::Disk), draw(2, Stream::Disk));
        let keyed = |place, moment| Random::keyed(1, Stream::Disk, place, moment).any();
        assert_eq!(keyed(1, 2), keyed(1, 2));
        assert_ne!(keyed(1, 2), keyed(2, 1));
    }

    #[test]
    fn exponential_numbers_have_the_mean_asked_for() {
        let mut random = Random::new(7, Stream::Network);
        let sum: u64 = (0..100_000).map(|_| random.exponential(1_000)).sum();
        let mean = sum / 100_000;
        assert!((950..=1_100).contains(&mean), "mean is {mean}");
    }

    #[test]
    fn weights_of_zero_are_never_picked() {
        let mut random = Random::new(7, Stream::Nemesis);
        assert_eq!(random.weighted(&[0, 0]), None);
        for _ in 0..1_000 {
            assert_ne!(random.weighted(&[1, 0, 3]), Some(1));
        }
    }
}
