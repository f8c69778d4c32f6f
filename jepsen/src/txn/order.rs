//! The order of processes and of real time, as edges.
//!
//! One transaction precedes another in real time if it ended before the other began. That is up to n² pairs;
//! here every maximal run of ends makes one *moment*, moments form a chain, each transaction leads to the
//! moment of its end, and the last moment before its beginning leads to it. Three edges per transaction say
//! the same.

use super::graph::{Edges, kind};
use super::history::{Index, NOBODY, Outcome, Transactions};
use crate::hash::FastMap;

/// Adds an edge from each transaction to the next one of its process. Gives nothing for a process that does
/// two things at once: there is no order to speak of.
pub(super) fn process_order(transactions: &Transactions, edges: &mut Edges) {
    let mut last: FastMap<u64, Index> = FastMap::default();
    for index in by_call(transactions) {
        let transaction = &transactions.list[index as usize];
        if transaction.outcome == Outcome::Aborted {
            continue;
        }
        if let Some(before) = last.get(&transaction.process)
            && transactions.list[*before as usize].end <= transaction.call
        {
            edges.add(*before, index, kind::PROCESS);
        }
        if transaction.outcome == Outcome::Committed {
            last.insert(transaction.process, index);
        }
    }
}

/// Adds the order of real time. Returns how many nodes the graph has then: transactions and moments.
pub(super) fn real_time_order(transactions: &Transactions, edges: &mut Edges) -> usize {
    let list = &transactions.list;
    let mut ends: Vec<(u64, Index)> = list
        .iter()
        .enumerate()
        .filter(|(_, transaction)| transaction.outcome == Outcome::Committed)
        .map(|(index, transaction)| (transaction.end, index as Index))
        .collect();
    if !ends.is_sorted() {
        ends.sort_unstable();
    }
    let mut ends = ends.into_iter().peekable();
    let mut nodes = list.len();
    let mut moment = NOBODY;
    for index in by_call(transactions) {
        let transaction = &list[index as usize];
        if transaction.outcome == Outcome::Aborted {
            continue;
        }
        // Equal times are concurrent. All ends since the last call share a moment.
        let mut fresh = true;
        while let Some((_, ended)) = ends.next_if(|(end, _)| *end < transaction.call) {
            if std::mem::take(&mut fresh) {
                let next = nodes as u32;
                if moment != NOBODY {
                    edges.add(moment, next, kind::REALTIME);
                }
                moment = next;
                nodes += 1;
            }
            edges.add(ended, moment, kind::REALTIME);
        }
        if moment != NOBODY {
            edges.add(moment, index, kind::REALTIME);
        }
    }
    nodes
}

/// All transactions in the order of their calls.
pub(super) fn by_call(transactions: &Transactions) -> Vec<Index> {
    let list = &transactions.list;
    let mut indices: Vec<Index> = (0..list.len() as Index).collect();
    if !list.is_sorted_by_key(|transaction| transaction.call) {
        indices.sort_by_key(|index| list[*index as usize].call);
    }
    indices
}
