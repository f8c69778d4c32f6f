//! Sorting what is nearly sorted: the ends of operations in the order of their beginnings, say.

/// Sorts by a key, in a time that grows with how far things are from their places: once that has cost a few
/// moves per item, as any other sort.
pub(crate) fn sort_nearly<T: Copy, K: Ord>(items: &mut [T], key: impl Fn(&T) -> K) {
    let mut moves = items.len().saturating_mul(MOVES);
    for at in 1..items.len() {
        let item = items[at];
        let mut place = at;
        while place > 0 && key(&item) < key(&items[place - 1]) {
            items[place] = items[place - 1];
            place -= 1;
        }
        items[place] = item;
        moves = moves.saturating_sub(at - place);
        if moves == 0 {
            items.sort_unstable_by_key(key);
            return;
        }
    }
}

/// How many moves per item are still less work than another sort.
const MOVES: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_order_becomes_the_right_one() {
        for length in [0_u32, 1, 2, 10, 1000] {
            for step in [1_u32, 3, 7, 333, 999] {
                let mut items: Vec<u32> = (0..length).map(|at| at.wrapping_mul(step) % 1009).collect();
                let mut expected = items.clone();
                expected.sort_unstable();
                sort_nearly(&mut items, |item| *item);
                assert_eq!(items, expected, "{length} items in steps of {step}");
            }
        }
    }
}
