//! Who precedes whom: rows of bits, kept closed under "precedes", which can be taken back.

use super::super::graph::Graph;

/// All pairs of nodes of which one precedes the other.
pub(super) struct Closure {
    words: usize,
    /// By node: those after it, and those before it.
    after: Vec<u64>,
    before: Vec<u64>,
    /// Rows as they were, the latest last.
    trail: Vec<(Row, Box<[u64]>)>,
    /// Words looked at.
    pub work: u64,
}

#[derive(Clone, Copy)]
enum Row {
    After(u32),
    Before(u32),
}

/// Where the trail was: what came later can be taken back.
#[derive(Clone, Copy)]
pub(super) struct Mark(usize);

impl Closure {
    /// How many bytes the rows of so many nodes take.
    pub fn bytes(nodes: usize) -> u64 {
        2 * 8 * (nodes as u64) * (nodes as u64).div_ceil(64)
    }

    /// Follows all edges of a graph whose nodes come in topological order.
    pub fn new(graph: &Graph, order: &[u32]) -> Closure {
        let words = graph.nodes().div_ceil(64);
        let rows = vec![0; words * graph.nodes()];
        let mut closure = Closure { words, after: rows.clone(), before: rows, trail: Vec::new(), work: 0 };
        for node in order.iter().rev() {
            for (to, _) in graph.out(*node) {
                merge(&mut closure.after, words, *node, *to);
            }
        }
        for node in order {
            for (to, _) in graph.out(*node) {
                merge(&mut closure.before, words, *to, *node);
            }
        }
        closure
    }

    /// Those after a node.
    pub fn after(&self, node: u32) -> &[u64] {
        &self.after[node as usize * self.words..][..self.words]
    }

    /// Those before a node.
    pub fn before(&self, node: u32) -> &[u64] {
        &self.before[node as usize * self.words..][..self.words]
    }

    /// Whether one node precedes another.
    pub fn precedes(&self, from: u32, to: u32) -> bool {
        has(self.after(from), to)
    }

    /// Puts one node before another. The caller has made sure that this closes no circle.
    pub fn add(&mut self, from: u32, to: u32) {
        debug_assert!(from != to && !self.precedes(to, from), "a circle is for the caller to find");
        let above = members(self.before(from), from);
        let below = members(self.after(to), to);
        let gain = self.with(Row::After(to), to);
        for node in above {
            if !self.precedes(node, to) {
                self.widen(Row::After(node), &gain);
            }
        }
        let gain = self.with(Row::Before(from), from);
        for node in below {
            if !has(self.before(node), from) {
                self.widen(Row::Before(node), &gain);
            }
        }
        self.work += 2 * self.words as u64;
    }

    /// Where we are.
    pub fn mark(&self) -> Mark {
        Mark(self.trail.len())
    }

    /// Takes back everything since.
    pub fn undo(&mut self, mark: Mark) {
        while self.trail.len() > mark.0 {
            let (row, words) = self.trail.pop().expect("it is longer than the mark");
            self.row(row).copy_from_slice(&words);
        }
    }

    /// Forgets how to go back.
    pub fn settle(&mut self) {
        self.trail = Vec::new();
    }

    /// How many bytes it takes to go back.
    pub fn trail_bytes(&self) -> u64 {
        (self.trail.len() * (self.words * 8 + 32)) as u64
    }

    fn row(&mut self, row: Row) -> &mut [u64] {
        let (rows, node) = match row {
            Row::After(node) => (&mut self.after, node),
            Row::Before(node) => (&mut self.before, node),
        };
        &mut rows[node as usize * self.words..][..self.words]
    }

    fn with(&mut self, row: Row, node: u32) -> Vec<u64> {
        let mut words = self.row(row).to_vec();
        words[node as usize / 64] |= 1 << (node % 64);
        words
    }

    fn widen(&mut self, row: Row, gain: &[u64]) {
        let words = self.row(row);
        let saved: Box<[u64]> = words.into();
        words.iter_mut().zip(gain).for_each(|(word, gain)| *word |= gain);
        self.trail.push((row, saved));
        self.work += 2 * gain.len() as u64;
    }
}

/// Whether a row has a node.
pub(super) fn has(row: &[u64], node: u32) -> bool {
    row[node as usize / 64] >> (node % 64) & 1 == 1
}

/// Adds to one row another and its node.
fn merge(rows: &mut [u64], words: usize, to: u32, from: u32) {
    let (to_at, from_at) = (to as usize * words, from as usize * words);
    for word in 0..words {
        rows[to_at + word] |= rows[from_at + word];
    }
    rows[to_at + from as usize / 64] |= 1 << (from % 64);
}

/// The nodes of a row, and one more.
fn members(row: &[u64], also: u32) -> Vec<u32> {
    let mut nodes = vec![also];
    for (at, word) in row.iter().enumerate() {
        nodes.extend(bits(*word).map(|bit| at as u32 * 64 + bit));
    }
    nodes
}

/// The places of the ones of a word.
pub(super) fn bits(mut word: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros())?;
        word &= word - 1;
        Some(bit)
    })
}
