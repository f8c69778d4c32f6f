//! Compact graphs, and their strongly connected components in linear time.
//!
//! Nodes are numbers; the first are transactions, the others *moments*: a moment stands between all
//! transactions that ended before it and all that began after, so that the order of real time takes a few
//! edges per transaction, whatever the concurrency. Source of the algorithm: Tarjan, "Depth-first search and
//! linear graph algorithms", SIAM J. Comput. 1 (1972).

/// What an edge says. One bit each.
pub(super) mod kind {
    /// The target overwrote what the source wrote.
    pub const WW: u8 = 1;
    /// The target read what the source wrote.
    pub const WR: u8 = 2;
    /// The target overwrote what the source read.
    pub const RW: u8 = 4;
    /// The target came after the source in one process.
    pub const PROCESS: u8 = 8;
    /// The target began after the source ended.
    pub const REALTIME: u8 = 16;
    /// All.
    pub const ALL: u8 = 31;
}

/// Edges as they are found.
#[derive(Default)]
pub(super) struct Edges {
    list: Vec<(u32, u32, u8)>,
}

impl Edges {
    #[inline]
    pub fn add(&mut self, from: u32, to: u32, kind: u8) {
        self.list.push((from, to, kind));
    }

    /// Adds an edge unless it would lead back to where it starts.
    #[inline]
    pub fn link(&mut self, from: u32, to: u32, kind: u8) {
        if from != to {
            self.list.push((from, to, kind));
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, u32, u8)> {
        self.list.iter().copied()
    }

    pub fn append(&mut self, mut other: Edges) {
        self.list.append(&mut other.list);
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }
}

/// A graph: the edges of each node in one slice.
pub(super) struct Graph {
    first: Vec<u32>,
    edges: Vec<(u32, u8)>,
}

impl Graph {
    /// Sorts edges by their source, keeping their order otherwise.
    pub fn new(nodes: usize, edges: &Edges) -> Graph {
        assert!(edges.len() < u32::MAX as usize, "edges are numbered by 32 bits");
        let mut first = vec![0u32; nodes + 1];
        for (from, _, _) in &edges.list {
            first[*from as usize + 1] += 1;
        }
        for node in 0..nodes {
            first[node + 1] += first[node];
        }
        let mut sorted = vec![(0, 0); edges.len()];
        // While the edges are placed, `first[n]` moves from the beginning of n's slice to its end.
        for (from, to, kind) in &edges.list {
            let place = &mut first[*from as usize];
            sorted[*place as usize] = (*to, *kind);
            *place += 1;
        }
        first.rotate_right(1);
        first[0] = 0;
        Graph { first, edges: sorted }
    }

    pub fn nodes(&self) -> usize {
        self.first.len() - 1
    }

    /// The edges out of a node: target and kind.
    #[inline]
    pub fn out(&self, node: u32) -> &[(u32, u8)] {
        &self.edges[self.first[node as usize] as usize..self.first[node as usize + 1] as usize]
    }

    /// The strongly connected components of more than one node, by the edges of these kinds.
    pub fn components(&self, kinds: u8) -> Vec<Vec<u32>> {
        let mut search = Tarjan {
            graph: self,
            kinds,
            order: vec![0; self.nodes()],
            next: 1,
            low: vec![0; self.nodes()],
            stack: Vec::new(),
            found: Vec::new(),
        };
        for node in 0..self.nodes() as u32 {
            if search.order[node as usize] == 0 {
                search.visit(node);
            }
        }
        search.found
    }

    /// All nodes, each after those that lead to it; `None` if there is a circle.
    pub fn topological(&self) -> Option<Vec<u32>> {
        let mut waits = vec![0u32; self.nodes()];
        self.edges.iter().for_each(|(to, _)| waits[*to as usize] += 1);
        let mut order: Vec<u32> =
            (0..self.nodes() as u32).filter(|node| waits[*node as usize] == 0).collect();
        let mut next = 0;
        while let Some(node) = order.get(next).copied() {
            next += 1;
            for (to, _) in self.out(node) {
                waits[*to as usize] -= 1;
                if waits[*to as usize] == 0 {
                    order.push(*to);
                }
            }
        }
        (order.len() == self.nodes()).then_some(order)
    }

    /// The part of the graph that these nodes span. The result's nodes are places in `nodes`.
    pub fn part(&self, nodes: &[u32], place: &mut [u32]) -> Graph {
        for (index, node) in nodes.iter().enumerate() {
            place[*node as usize] = index as u32;
        }
        let mut first = vec![0];
        let mut edges = Vec::new();
        for node in nodes {
            for (to, kind) in self.out(*node) {
                if place[*to as usize] != OUTSIDE {
                    edges.push((place[*to as usize], *kind));
                }
            }
            first.push(edges.len() as u32);
        }
        nodes.iter().for_each(|node| place[*node as usize] = OUTSIDE);
        Graph { first, edges }
    }
}

/// The place of a node that is not part of a part.
pub(super) const OUTSIDE: u32 = u32::MAX;

struct Tarjan<'g> {
    graph: &'g Graph,
    kinds: u8,
    /// When a node was visited first; zero: not yet. `DONE`: its component is complete.
    order: Vec<u32>,
    next: u32,
    /// The earliest visit that can be reached.
    low: Vec<u32>,
    /// Visited nodes whose component is not complete.
    stack: Vec<u32>,
    found: Vec<Vec<u32>>,
}

const DONE: u32 = u32::MAX;

impl Tarjan<'_> {
    /// Depth first, with a stack of our own: node and how many of its edges were followed.
    fn visit(&mut self, root: u32) {
        let mut path = vec![(root, 0)];
        self.enter(root);
        while let Some((node, followed)) = path.last_mut() {
            let node = *node;
            match self.graph.out(node).get(*followed) {
                Some((to, kind)) => {
                    *followed += 1;
                    if kind & self.kinds == 0 {
                        continue;
                    }
                    match self.order[*to as usize] {
                        0 => {
                            self.enter(*to);
                            path.push((*to, 0));
                        }
                        DONE => {}
                        order => self.low[node as usize] = self.low[node as usize].min(order),
                    }
                }
                None => {
                    path.pop();
                    if let Some((above, _)) = path.last() {
                        let above = *above as usize;
                        self.low[above] = self.low[above].min(self.low[node as usize]);
                    }
                    if self.low[node as usize] == self.order[node as usize] {
                        self.complete(node);
                    }
                }
            }
        }
    }

    fn enter(&mut self, node: u32) {
        self.order[node as usize] = self.next;
        self.low[node as usize] = self.next;
        self.next += 1;
        self.stack.push(node);
    }

    /// Everything above `root` on the stack is its component.
    fn complete(&mut self, root: u32) {
        let mut size = 0;
        for node in self.stack.iter().rev() {
            size += 1;
            self.order[*node as usize] = DONE;
            if *node == root {
                break;
            }
        }
        let component = self.stack.split_off(self.stack.len() - size);
        if size > 1 {
            self.found.push(component);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_the_circles_and_nothing_else() {
        let mut edges = Edges::default();
        for (from, to) in [(0, 1), (1, 2), (2, 0), (2, 3), (3, 4), (4, 3), (5, 0)] {
            edges.add(from, to, kind::WW);
        }
        edges.add(4, 5, kind::RW);
        let graph = Graph::new(6, &edges);
        let sorted = |mut components: Vec<Vec<u32>>| {
            components.iter_mut().for_each(|component| component.sort_unstable());
            components.sort();
            components
        };
        assert_eq!(sorted(graph.components(kind::WW)), [vec![0, 1, 2], vec![3, 4]]);
        assert_eq!(sorted(graph.components(kind::ALL)), [vec![0, 1, 2, 3, 4, 5]]);
    }

    #[test]
    fn depth_is_no_recursion() {
        let mut edges = Edges::default();
        let nodes = 300_000;
        (0..nodes).for_each(|node| edges.add(node, (node + 1) % nodes, kind::WR));
        assert_eq!(Graph::new(nodes as usize, &edges).components(kind::ALL).len(), 1);
    }
}
