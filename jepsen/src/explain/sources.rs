//! Which write a read needs: what keeps the search for an order on the way to one.

use crate::history::Operation;
use crate::model::Model;

/// For every operation that is an answered read: the writes that can lead to its answer.
pub(super) struct Sources {
    of_read: Vec<Vec<u32>>,
    /// By operation: when it must have happened at the latest, if every answer has one source.
    pub due: Vec<u64>,
    /// Whether every answer has one source.
    pub unique: bool,
    /// Whether an operation is nobody's source.
    pub unread: Vec<bool>,
}

impl Sources {
    /// None if the model cannot tell, or if there are too many pairs to look at.
    pub fn new<M: Model>(model: &M, operations: &[&Operation<M::Input, M::Output>]) -> Option<Sources> {
        let is_read = |operation: &Operation<_, _>| model.is_read(&operation.input, operation.output());
        let (reads, writes): (Vec<u32>, Vec<u32>) =
            (0..operations.len() as u32).partition(|index| is_read(operations[*index as usize]));
        if !model.looks_ahead() || reads.len().saturating_mul(writes.len()) > PAIRS_MAX {
            return None;
        }
        let mut sources = Sources {
            of_read: vec![Vec::new(); operations.len()],
            due: operations.iter().map(|operation| operation.return_time()).collect(),
            unique: true,
            unread: vec![true; operations.len()],
        };
        for read in reads {
            let operation = operations[read as usize];
            let Some(output) = operation.output() else { continue };
            for write in &writes {
                let other = operations[*write as usize];
                if operation.precedes(other)
                    || !model.produces((&other.input, other.output()), (&operation.input, output))
                {
                    continue;
                }
                sources.of_read[read as usize].push(*write);
                sources.unread[*write as usize] = false;
                let due = &mut sources.due[*write as usize];
                *due = (*due).min(operation.return_time());
            }
            sources.unique &= sources.of_read[read as usize].len() <= 1;
        }
        Some(sources)
    }

    /// The writes that can lead to what `read` was answered.
    pub fn of(&self, read: u32) -> &[u32] {
        &self.of_read[read as usize]
    }
}

/// Pairs of a read and a write to look at.
const PAIRS_MAX: usize = 8_000_000;
