//! Sets and maps of members. A cluster has a handful, and a leader looks them up for every acknowledgement: in a sorted
//! row that is looked through from its begin, they lie next to each other and nothing is searched by halves.

use alloc::vec::Vec;
use core::ops::Deref;

use serde::{Deserialize, Serialize};

use crate::types::NodeId;

/// Some members, in ascending order. (As a slice, it has a slice's methods.)
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "Vec<NodeId>")]
pub struct NodeSet(Vec<NodeId>);

impl NodeSet {
    /// Nobody.
    #[must_use]
    pub const fn new() -> NodeSet {
        NodeSet(Vec::new())
    }

    /// Puts a member in. Returns whether it was not there.
    pub fn insert(&mut self, id: NodeId) -> bool {
        let Err(at) = self.0.binary_search(&id) else { return false };
        self.0.insert(at, id);
        true
    }

    /// Takes a member out. Returns whether it was there.
    pub fn remove(&mut self, id: &NodeId) -> bool {
        let Ok(at) = self.0.binary_search(id) else { return false };
        self.0.remove(at);
        true
    }

    /// Whether nobody is in both.
    #[must_use]
    pub fn is_disjoint(&self, other: &NodeSet) -> bool {
        !self.iter().any(|id| other.contains(id))
    }

    /// How many are in one of both and not in the other.
    #[must_use]
    pub fn differences(&self, other: &NodeSet) -> usize {
        let lacks = |one: &NodeSet, other: &NodeSet| one.iter().filter(|id| !other.contains(id)).count();
        lacks(self, other) + lacks(other, self)
    }
}

impl Deref for NodeSet {
    type Target = [NodeId];

    fn deref(&self) -> &[NodeId] {
        &self.0
    }
}

/// Whatever the order, and however often somebody is named.
impl From<Vec<NodeId>> for NodeSet {
    fn from(mut ids: Vec<NodeId>) -> NodeSet {
        ids.sort_unstable();
        ids.dedup();
        NodeSet(ids)
    }
}

impl<const N: usize> From<[NodeId; N]> for NodeSet {
    fn from(ids: [NodeId; N]) -> NodeSet {
        ids.into_iter().collect()
    }
}

impl FromIterator<NodeId> for NodeSet {
    fn from_iter<I: IntoIterator<Item = NodeId>>(ids: I) -> NodeSet {
        ids.into_iter().collect::<Vec<_>>().into()
    }
}

impl IntoIterator for NodeSet {
    type Item = NodeId;
    type IntoIter = alloc::vec::IntoIter<NodeId>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a NodeSet {
    type Item = &'a NodeId;
    type IntoIter = core::slice::Iter<'a, NodeId>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// Something about each of some members, in their ascending order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NodeMap<V>(Vec<(NodeId, V)>);

impl<V> NodeMap<V> {
    pub(crate) const fn new() -> NodeMap<V> {
        NodeMap(Vec::new())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn get(&self, id: NodeId) -> Option<&V> {
        self.0.iter().find(|(it, _)| *it == id).map(|(_, value)| value)
    }

    pub(crate) fn get_mut(&mut self, id: NodeId) -> Option<&mut V> {
        self.0.iter_mut().find(|(it, _)| *it == id).map(|(_, value)| value)
    }

    /// Puts this there if there is nothing.
    pub(crate) fn insert_new(&mut self, id: NodeId, value: impl FnOnce() -> V) {
        if let Err(at) = self.0.binary_search_by_key(&id, |(it, _)| *it) {
            self.0.insert(at, (id, value()));
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (NodeId, &V)> {
        self.0.iter().map(|(id, value)| (*id, value))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (NodeId, &mut V)> {
        self.0.iter_mut().map(|(id, value)| (*id, value))
    }

    pub(crate) fn retain(&mut self, mut stays: impl FnMut(NodeId) -> bool) {
        self.0.retain(|(id, _)| stays(*id));
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;
    use alloc::vec;

    use super::*;

    fn ids(ids: &[u64]) -> NodeSet {
        ids.iter().copied().map(NodeId).collect()
    }

    #[test]
    fn a_set_is_in_order_and_has_everybody_once() {
        let mut set = ids(&[3, 1, 3, 2]);
        assert_eq!(set, NodeSet::from(vec![NodeId(1), NodeId(2), NodeId(3)]));
        assert!(!set.insert(NodeId(2)) && set.insert(NodeId(0)) && set.remove(&NodeId(3)));
        assert!(!set.remove(&NodeId(3)));
        assert_eq!(set, ids(&[0, 1, 2]));
        assert!(set.is_disjoint(&ids(&[3, 4])) && !set.is_disjoint(&ids(&[2, 4])));
        assert!(NodeSet::new().is_disjoint(&NodeSet::new()));
        assert_eq!((set.differences(&set), set.differences(&ids(&[2, 3, 4]))), (0, 4));
    }

    #[test]
    fn a_map_does_what_a_larger_one_does() {
        let (mut map, mut model) = (NodeMap::new(), BTreeMap::new());
        for (id, value) in [(5, 'a'), (2, 'b'), (9, 'c'), (2, 'd'), (1, 'e')] {
            map.insert_new(NodeId(id), || value);
            model.entry(NodeId(id)).or_insert(value);
        }
        assert!(map.iter().eq(model.iter().map(|(id, value)| (*id, value))));
        assert_eq!((map.get(NodeId(9)), map.get(NodeId(3))), (Some(&'c'), None));
        map.retain(|id| id.0 % 2 == 1);
        assert!(map.iter().map(|(id, _)| id.0).eq([1, 5, 9]));
        assert!(!map.is_empty() && NodeMap::<()>::new().is_empty());
    }
}
