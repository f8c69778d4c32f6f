//! Variants of an input, the same every time.

/// A variant of `input`: a few random edits, as `seed` has it.
#[must_use]
pub fn variant(input: &[u8], seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let mut bytes = input.to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len());
        match random.below(6) {
            _ if bytes.is_empty() => bytes.push(random.byte()),
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.byte(),
            2 => bytes[at] = [0, 1, 0x7f, 0x80, 0xfa, 0xfb, 0xfc, 0xfd, 0xff][random.below(9)],
            3 => bytes.truncate(at),
            4 => bytes.insert(at, random.byte()),
            _ => {
                let end = at + random.below(bytes.len() - at + 1);
                bytes.extend_from_within(at..end);
            }
        }
    }
    bytes
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Less than `bound`, or zero.
    fn below(&mut self, bound: usize) -> usize {
        self.next().checked_rem(bound as u64).unwrap_or(0) as usize
    }

    fn byte(&mut self) -> u8 {
        self.next() as u8
    }
}
