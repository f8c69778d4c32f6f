//! Which watchers an event concerns: an index from keys and ranges to watchers.
//!
//! Watchers of one key are found in a map. Watchers of ranges are found in an interval tree: a search
//! tree ordered by range, in which every node knows the furthest end of any range below it (Cormen et
//! al., "Introduction to Algorithms", the chapter on augmenting data structures). Looking up a key skips
//! every subtree that ends before the key and everything that starts after it, which takes
//! O(log n + matches) steps. Watchers of the same range share a node.
//!
//! The tree is a treap (Seidel and Aragon 1996): nodes have pseudo-random priorities, parents higher
//! ones than children, which balances it whatever the order of insertion. Its shape does not affect
//! what it answers, so it is no concern of replication.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::key::{Key, KeyRange, RangeEnd};

use super::Slot;

/// The index.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Subjects {
    singles: BTreeMap<Key, Vec<Slot>>,
    /// The interval tree's nodes, in no order.
    nodes: Vec<Node>,
    /// Nodes not in use.
    free: Vec<Link>,
    root: Link,
    /// How many nodes have been made; priorities come from it.
    made: u64,
}

/// A range that is watched.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Node {
    range: KeyRange,
    slots: Vec<Slot>,
    priority: u64,
    left: Link,
    right: Link,
    /// The furthest end in this subtree, as [`RangeEnd`] orders ends: any key before no end at all.
    furthest: RangeEnd,
}

/// The number of a node, or `NIL`.
type Link = u32;

const NIL: Link = Link::MAX;

impl Default for Subjects {
    fn default() -> Subjects {
        Subjects { singles: BTreeMap::new(), nodes: Vec::new(), free: Vec::new(), root: NIL, made: 0 }
    }
}

impl Subjects {
    /// Adds a watcher of a range.
    pub(super) fn add(&mut self, range: &KeyRange, slot: Slot) {
        let slots = if range.is_single() {
            self.singles.entry(range.start.clone()).or_default()
        } else {
            let node = self.find(range).unwrap_or_else(|| self.grow(range));
            &mut self.nodes[node as usize].slots
        };
        let at = slots.partition_point(|other| *other < slot);
        slots.insert(at, slot);
    }

    /// Removes a watcher of a range.
    pub(super) fn remove(&mut self, range: &KeyRange, slot: Slot) {
        let node = if range.is_single() { None } else { self.find(range) };
        let slots = match node {
            Some(node) => &mut self.nodes[node as usize].slots,
            None => self.singles.get_mut(&range.start).expect(ADDED),
        };
        slots.remove(slots.binary_search(&slot).expect(ADDED));
        if slots.is_empty() {
            match node {
                Some(node) => {
                    self.root = self.without(self.root, range);
                    self.free.push(node);
                }
                None => drop(self.singles.remove(&range.start)),
            }
        }
    }

    /// Calls `found` for every watcher of a key.
    pub(super) fn for_each(&self, key: &[u8], mut found: impl FnMut(Slot)) {
        if let Some(slots) = self.singles.get(key) {
            slots.iter().copied().for_each(&mut found);
        }
        self.stab(self.root, key, &mut found);
    }

    fn stab(&self, node: Link, key: &[u8], found: &mut impl FnMut(Slot)) {
        if node == NIL {
            return;
        }
        let Node { range, slots, left, right, furthest, .. } = &self.nodes[node as usize];
        if matches!(furthest, RangeEnd::Before(end) if end.as_slice() <= key) {
            return;
        }
        self.stab(*left, key, found);
        if range.start.as_slice() <= key {
            if !range.ends_before(key) {
                slots.iter().copied().for_each(&mut *found);
            }
            self.stab(*right, key, found);
        }
    }

    // --- The treap ---

    fn find(&self, range: &KeyRange) -> Option<Link> {
        let mut link = self.root;
        while link != NIL {
            let node = &self.nodes[link as usize];
            link = match range.cmp(&node.range) {
                core::cmp::Ordering::Less => node.left,
                core::cmp::Ordering::Greater => node.right,
                core::cmp::Ordering::Equal => return Some(link),
            };
        }
        None
    }

    /// Makes a node for a range and puts it into the tree.
    fn grow(&mut self, range: &KeyRange) -> Link {
        self.made += 1;
        let node = Node {
            range: range.clone(),
            slots: Vec::new(),
            priority: scramble(self.made),
            left: NIL,
            right: NIL,
            furthest: range.end.clone(),
        };
        let link = match self.free.pop() {
            Some(link) => {
                self.nodes[link as usize] = node;
                link
            }
            None => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as Link
            }
        };
        self.root = self.with(self.root, link);
        link
    }

    /// The tree `root` with a node added.
    fn with(&mut self, root: Link, new: Link) -> Link {
        if root == NIL {
            return new;
        }
        let (at, priority) = (root as usize, self.nodes[new as usize].priority);
        if priority > self.nodes[at].priority {
            let range = self.nodes[new as usize].range.clone();
            let (left, right) = self.split(root, &range);
            return self.join(left, new, right);
        }
        let (left, right) = (self.nodes[at].left, self.nodes[at].right);
        if self.nodes[new as usize].range < self.nodes[at].range {
            let left = self.with(left, new);
            self.join(left, root, right)
        } else {
            let right = self.with(right, new);
            self.join(left, root, right)
        }
    }

    /// The tree `root` without the node of a range, which is in it.
    fn without(&mut self, root: Link, range: &KeyRange) -> Link {
        assert!(root != NIL, "{ADDED}");
        let (left, right) = (self.nodes[root as usize].left, self.nodes[root as usize].right);
        match range.cmp(&self.nodes[root as usize].range) {
            core::cmp::Ordering::Less => {
                let left = self.without(left, range);
                self.join(left, root, right)
            }
            core::cmp::Ordering::Greater => {
                let right = self.without(right, range);
                self.join(left, root, right)
            }
            core::cmp::Ordering::Equal => self.merge(left, right),
        }
    }

    /// The nodes of a tree below a range, and the others.
    fn split(&mut self, root: Link, range: &KeyRange) -> (Link, Link) {
        if root == NIL {
            return (NIL, NIL);
        }
        let (left, right) = (self.nodes[root as usize].left, self.nodes[root as usize].right);
        if self.nodes[root as usize].range < *range {
            let (low, high) = self.split(right, range);
            (self.join(left, root, low), high)
        } else {
            let (low, high) = self.split(left, range);
            (low, self.join(high, root, right))
        }
    }

    /// One tree of two, all of whose ranges are in order.
    fn merge(&mut self, low: Link, high: Link) -> Link {
        if low == NIL || high == NIL {
            return if low == NIL { high } else { low };
        }
        if self.nodes[low as usize].priority > self.nodes[high as usize].priority {
            let (left, right) = (self.nodes[low as usize].left, self.nodes[low as usize].right);
            let right = self.merge(right, high);
            self.join(left, low, right)
        } else {
            let (left, right) = (self.nodes[high as usize].left, self.nodes[high as usize].right);
            let left = self.merge(low, left);
            self.join(left, high, right)
        }
    }

    /// Gives a node its children, and brings what it knows of them up to date.
    fn join(&mut self, left: Link, node: Link, right: Link) -> Link {
        let mut furthest = self.nodes[node as usize].range.end.clone();
        for child in [left, right] {
            if child != NIL && self.nodes[child as usize].furthest > furthest {
                furthest = self.nodes[child as usize].furthest.clone();
            }
        }
        let at = &mut self.nodes[node as usize];
        (at.left, at.right, at.furthest) = (left, right, furthest);
        node
    }
}

/// A number that looks random: the finalizer of splitmix64.
fn scramble(number: u64) -> u64 {
    let mut x = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

const ADDED: &str = "who is removed has been added";

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    /// Ranges that nest, overlap and coincide, added and removed in some order, are found exactly as
    /// a look at each of them would.
    #[test]
    fn finds_what_a_search_through_all_ranges_finds() {
        let mut subjects = Subjects::default();
        let mut all: Vec<(KeyRange, Slot)> = Vec::new();
        for slot in 0..2000 {
            let random = scramble(slot);
            let (start, end) = (vec![(random % 16) as u8], vec![(random / 16 % 18) as u8]);
            let range = match random / 1000 % 8 {
                0 => KeyRange::single(start.as_slice()),
                _ => KeyRange::from_wire(&start, &end),
            };
            subjects.add(&range, slot as Slot);
            all.push((range, slot as Slot));
            if (random / 10_000).is_multiple_of(3) {
                let (range, slot) = all.swap_remove((random / 100_000) as usize % all.len());
                subjects.remove(&range, slot);
            }
            for key in [[0], [7], [15], [17]] {
                let mut found = Vec::new();
                subjects.for_each(&key, |slot| found.push(slot));
                found.sort_unstable();
                let concerned = all.iter().filter(|(range, _)| range.contains(&key));
                let mut expected: Vec<Slot> = concerned.map(|(_, slot)| *slot).collect();
                expected.sort_unstable();
                assert_eq!(found, expected, "at key {key:?} after {slot} steps");
            }
        }
    }
}
