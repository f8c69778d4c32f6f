//! Cycles: the shortest one of each shape, and the worst shapes first.
//!
//! Within a strongly connected component every shape of [`Shape`] is searched for, without and with the order
//! of processes or real time, unless one that implies it was found already. The searches are breadth first,
//! from the target of an edge that the shape must have back to its source, so what they find is minimal.
//!
//! That shapes are searched from the worst to the subtlest makes each search simple. If there is no cycle
//! with exactly one read-write edge, for example, then *any* way back over a read-write edge has another one
//! on it. Moments of real time cost nothing on the way, so that a cycle's length is its transactions.

use std::collections::{BTreeSet, VecDeque};

use super::anomaly::{Anomaly, Needs, Shape};
use super::graph::{Graph, OUTSIDE, kind};

/// A cycle by the nodes of the whole graph.
pub(super) struct Found {
    pub anomaly: Anomaly,
    /// Each transaction, and the kind of the edge to the next one.
    pub steps: Vec<(u32, u8)>,
    /// The same transactions show a cycle that needs no order of processes or of real time: it says more.
    pub is_subsumed: bool,
}

impl Found {
    /// Whether this is a cycle of data only that has all these transactions.
    fn covers(&self, steps: &[(u32, u8)]) -> bool {
        let data = self.steps.iter().all(|(_, kind)| kind & (kind::PROCESS | kind::REALTIME) == 0);
        data && steps.iter().all(|(node, _)| self.steps.iter().any(|(other, _)| other == node))
    }
}

/// Searches one component. `budget` bounds the edges that may be looked at; what is found when it is used up
/// is given, though perhaps not the shortest.
pub(super) fn search(
    graph: &Graph,
    component: &[u32],
    transactions: usize,
    place: &mut [u32],
    budget: &mut u64,
) -> Vec<Found> {
    let mut search = Search::new(graph, component, transactions, place, budget);
    let mut found: Vec<Found> = Vec::new();
    let mut redundant: BTreeSet<Anomaly> = BTreeSet::new();
    for (needs, extra) in
        [(Needs::Nothing, 0), (Needs::Process, kind::PROCESS), (Needs::Realtime, kind::REALTIME)]
    {
        if needs != Needs::Nothing && !search.has(extra) {
            continue;
        }
        for shape in Shape::ALL {
            let anomaly = Anomaly::of_cycle(shape, needs);
            if redundant.contains(&anomaly) {
                continue;
            }
            if let Some(steps) = search.shortest(shape, extra) {
                redundant.extend(anomaly.implied());
                let steps: Vec<(u32, u8)> =
                    steps.into_iter().map(|(node, kind)| (component[node as usize], kind)).collect();
                let is_subsumed = needs != Needs::Nothing && found.iter().any(|other| other.covers(&steps));
                found.push(Found { anomaly, steps, is_subsumed });
            }
        }
    }
    found
}

/// The shortest cycle of a component, whatever its edges are. Gives one that is not the shortest if that takes
/// too long.
pub(super) fn shortest_of_any(graph: &Graph, component: &[u32], place: &mut [u32]) -> Vec<(u32, u8)> {
    let mut budget = SHORTEST_STEPS;
    let mut search = Search::new(graph, component, usize::MAX, place, &mut budget);
    let group = vec![0; component.len()];
    let mut starts = search.starts(kind::ALL, &group);
    starts.sort_unstable();
    let mut best: Option<Vec<(u32, u8)>> = None;
    for sources in starts.chunk_by(|one, other| one.0 == other.0) {
        let limit = best.as_ref().map_or(u32::MAX, |best| best.len() as u32 - 1);
        if limit < 2 || (*search.budget == 0 && best.is_some()) {
            break;
        }
        // The first search may take what it needs: there is a way back.
        let spent = best.is_none().then(|| std::mem::replace(search.budget, u64::MAX));
        if let Some(cycle) = search.back(sources, 0, kind::ALL, false, &group, limit) {
            best = Some(cycle);
        }
        if let Some(spent) = spent {
            *search.budget = spent;
        }
    }
    let cycle = best.expect("everything in a component is on a cycle");
    // The searches know the kinds of all edges but the first one.
    let kind = |from: u32, to: u32| {
        let edge = search.part.out(from).iter().find(|(target, _)| *target == to);
        edge.expect("the cycle follows edges").1
    };
    let last = cycle.len() - 1;
    let closing = kind(cycle[last].0, cycle[0].0);
    let named = cycle.iter().enumerate();
    named
        .map(|(at, (node, kind))| (component[*node as usize], if at == last { closing } else { *kind }))
        .collect()
}

/// Edges to look at in search of the shortest cycle.
const SHORTEST_STEPS: u64 = 20_000_000;

struct Search<'b> {
    part: Graph,
    is_moment: Vec<bool>,
    /// By node, and whether the edge to it was a read-write edge where that matters: the round in which it
    /// was reached, in how many transactions, and from where.
    seen: Vec<u32>,
    round: u32,
    depth: Vec<u32>,
    parent: Vec<(u32, u8)>,
    budget: &'b mut u64,
}

/// Where a search stands: a node twice, plus one if it was reached by a read-write edge.
type State = u32;

impl<'b> Search<'b> {
    fn new(
        graph: &Graph,
        component: &[u32],
        transactions: usize,
        place: &mut [u32],
        budget: &'b mut u64,
    ) -> Self {
        Search {
            is_moment: component.iter().map(|node| *node as usize >= transactions).collect(),
            seen: vec![0; component.len() * 2],
            round: 0,
            depth: vec![0; component.len() * 2],
            parent: vec![(0, 0); component.len() * 2],
            part: graph.part(component, place),
            budget,
        }
    }

    fn has(&self, kinds: u8) -> bool {
        (0..self.part.nodes() as u32)
            .any(|node| self.part.out(node).iter().any(|(_, kind)| kind & kinds != 0))
    }

    /// The shortest cycle of a shape that may also use edges of the kinds `extra`.
    fn shortest(&mut self, shape: Shape, extra: u8) -> Option<Vec<(u32, u8)>> {
        let (first, path) = match shape {
            Shape::WriteCycle => (kind::WW, kind::WW),
            Shape::Information => (kind::WR, kind::WW | kind::WR),
            Shape::Single | Shape::Nonadjacent => (kind::RW, kind::WW | kind::WR),
            Shape::Several => (kind::RW, kind::WW | kind::WR | kind::RW),
        };
        let alternates = shape == Shape::Nonadjacent;
        let kinds = first | path | extra;
        let mut group = vec![OUTSIDE; self.part.nodes()];
        for (number, members) in self.part.components(kinds).into_iter().enumerate() {
            members.iter().for_each(|node| group[*node as usize] = number as u32);
        }
        let mut starts = self.starts(first, &group);
        // The targets whose edges come from many sources are the most promising.
        starts.sort_unstable();
        let mut best: Option<Vec<(u32, u8)>> = None;
        for sources in starts.chunk_by(|one, other| one.0 == other.0) {
            let limit = best.as_ref().map_or(u32::MAX, |best| best.len() as u32 - 1);
            if limit < 2 || *self.budget == 0 {
                break;
            }
            if let Some(cycle) = self.back(sources, first, path | extra, alternates, &group, limit) {
                best = Some(cycle);
            }
        }
        best
    }

    /// Edges that a cycle may begin with, as target and source.
    fn starts(&self, kinds: u8, group: &[u32]) -> Vec<(u32, u32)> {
        let mut starts = Vec::new();
        for source in 0..self.part.nodes() as u32 {
            if group[source as usize] == OUTSIDE {
                continue;
            }
            for (target, kind) in self.part.out(source) {
                if kind & kinds != 0 && group[*target as usize] == group[source as usize] {
                    starts.push((*target, source));
                }
            }
        }
        starts
    }

    /// The shortest way from a target back to one of its sources, of at most `limit` transactions in all.
    fn back(
        &mut self,
        sources: &[(u32, u32)],
        first: u8,
        path: u8,
        alternates: bool,
        group: &[u32],
        limit: u32,
    ) -> Option<Vec<(u32, u8)>> {
        let target = sources[0].0;
        self.round += 1;
        let start: State = target * 2 + u32::from(alternates);
        self.reach(start, 1, (start, first));
        let mut queue = VecDeque::from([start]);
        while let Some(state) = queue.pop_front() {
            let (node, after_rw) = (state / 2, alternates && state % 2 == 1);
            let depth = self.depth[state as usize];
            let arrived = !after_rw && sources.binary_search(&(target, node)).is_ok();
            if arrived && depth >= 2 {
                let cycle = self.walk(state, start, first);
                if is_simple(&cycle) {
                    return Some(cycle);
                }
            }
            let allowed = if alternates && !after_rw { path | kind::RW } else { path };
            *self.budget = self.budget.saturating_sub(1 + self.part.out(node).len() as u64);
            if *self.budget == 0 {
                return None;
            }
            for edge in 0..self.part.out(node).len() {
                let (to, kind) = self.part.out(node)[edge];
                if kind & allowed == 0 || group[to as usize] != group[target as usize] {
                    continue;
                }
                let next = to * 2 + u32::from(alternates && kind == kind::RW);
                let is_moment = self.is_moment[to as usize];
                let next_depth = depth + u32::from(!is_moment);
                let known = self.seen[next as usize] == self.round && self.depth[next as usize] <= next_depth;
                if known || next_depth > limit {
                    continue;
                }
                self.reach(next, next_depth, (state, kind));
                if is_moment { queue.push_front(next) } else { queue.push_back(next) }
            }
        }
        None
    }

    fn reach(&mut self, state: State, depth: u32, parent: (State, u8)) {
        self.seen[state as usize] = self.round;
        self.depth[state as usize] = depth;
        self.parent[state as usize] = parent;
    }

    /// The cycle that ends at `state`: transactions with the kind of the edge to the next one.
    fn walk(&self, end: State, start: State, first: u8) -> Vec<(u32, u8)> {
        // The last edge is the one that the search began with.
        let mut steps = vec![(end / 2, first)];
        let mut state = end;
        while state != start {
            let (before, kind) = self.parent[state as usize];
            if !self.is_moment[before as usize / 2] {
                steps.push((before / 2, kind));
            }
            state = before;
        }
        steps.reverse();
        steps
    }
}

fn is_simple(cycle: &[(u32, u8)]) -> bool {
    let mut nodes: Vec<u32> = cycle.iter().map(|(node, _)| *node).collect();
    nodes.sort_unstable();
    nodes.windows(2).all(|pair| pair[0] != pair[1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::txn::graph::Edges;

    fn cycles(nodes: usize, list: &[(u32, u32, u8)]) -> Vec<(String, usize)> {
        let mut edges = Edges::default();
        list.iter().for_each(|(from, to, kind)| edges.add(*from, *to, *kind));
        let graph = Graph::new(nodes, &edges);
        let mut place = vec![OUTSIDE; nodes];
        let mut all = Vec::new();
        for component in graph.components(kind::ALL) {
            let found = search(&graph, &component, nodes, &mut place, &mut 10_000);
            all.extend(found.into_iter().map(|found| (found.anomaly.to_string(), found.steps.len())));
        }
        all
    }

    #[test]
    fn the_shortest_cycle_of_the_worst_shape_is_found() {
        use kind::{RW, WR, WW};
        let long = [(0, 1, WW), (1, 2, WW), (2, 3, WW), (3, 0, WW)];
        assert_eq!(cycles(4, &long), [("G0".to_owned(), 4)]);
        let short = [(0, 1, WW), (1, 2, WW), (2, 3, WW), (3, 0, WW), (2, 1, WW)];
        assert_eq!(cycles(4, &short), [("G0".to_owned(), 2)]);
        assert_eq!(cycles(2, &[(0, 1, WW), (1, 0, WR)]), [("G1c".to_owned(), 2)]);
        assert_eq!(cycles(2, &[(0, 1, WR), (1, 0, RW)]), [("G-single-item".to_owned(), 2)]);
        assert_eq!(cycles(2, &[(0, 1, RW), (1, 0, RW)]), [("G2-item".to_owned(), 2)]);
        let fork = [(0, 1, RW), (1, 2, WR), (2, 3, RW), (3, 0, WR)];
        assert_eq!(cycles(4, &fork), [("G-nonadjacent-item".to_owned(), 4)]);
    }

    #[test]
    fn order_is_needed_only_where_data_does_not_do() {
        use kind::{PROCESS, RW, WR, WW};
        assert_eq!(cycles(2, &[(0, 1, PROCESS), (1, 0, RW)]), [("G-single-item-process".to_owned(), 2)]);
        assert_eq!(cycles(2, &[(0, 1, PROCESS), (0, 1, WW), (1, 0, WR)]), [("G1c".to_owned(), 2)]);
    }
}
