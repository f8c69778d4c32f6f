//! Transactions: compare, then do one of two lists of operations, as one revision.
//!
//! A transaction is done in three steps, so that one that fails has done nothing:
//! 1. its *shape* is checked (it comes from the log, and a log can be hostile);
//! 2. the *path* is chosen: all compares, those of nested transactions too, read the state before the
//!    transaction. What the path will do is laid out as a flat list of steps and checked: leases and
//!    keys that puts rely on first, revisions of ranges then. This is where a range of a compacted
//!    revision is found, before anything is written (etcd #18667, #18799);
//! 3. the steps are done. None can fail any more. Ranges see what was written before them.
//!
//! Beyond etcd's rules, which the API layer checks before proposing, one thing is refused here:
//! a path that writes a key twice, be it two puts, or a put of a key that a delete covers. It would
//! break the invariant that a key has one version per revision. Deletes may overlap: the second finds
//! nothing left.

use alloc::vec;
use alloc::vec::Vec;

use crate::command::{Compare, CompareResult, CompareTarget, Operation, Put, Txn};
use crate::error::Error;
use crate::key::KeyRange;
use crate::key_value::KeyValue;
use crate::mvcc::Mvcc;
use crate::response::Response;
use crate::revision::LeaseId;

/// What a transaction will do, in order.
pub(crate) struct Path<'a> {
    steps: Vec<Step<'a>>,
}

/// One step of a path.
enum Step<'a> {
    /// A (nested) transaction begins, with this outcome of its compares.
    Enter(bool),
    /// An operation that is not a transaction.
    Do(&'a Operation),
    /// A transaction ends.
    Leave,
}

impl<'a> Path<'a> {
    /// Checks the shape of a transaction and chooses its path.
    pub(crate) fn choose(txn: &'a Txn, mvcc: &Mvcc) -> Result<Path<'a>, Error> {
        check_shape(txn)?;
        let mut steps = Vec::with_capacity(4);
        // The branches entered and not yet left, with what is left of their operations.
        let mut entered = Vec::with_capacity(1);
        let enter = |index: u32, steps: &mut Vec<Step<'a>>| {
            let branch = &txn.branches[index as usize];
            let succeeded = branch.compares.iter().all(|compare| holds(compare, mvcc));
            steps.push(Step::Enter(succeeded));
            if succeeded { branch.success.iter() } else { branch.failure.iter() }
        };
        entered.push(enter(0, &mut steps));
        while let Some(operations) = entered.last_mut() {
            match operations.next() {
                Some(Operation::Nested(index)) => entered.push(enter(*index, &mut steps)),
                Some(operation) => steps.push(Step::Do(operation)),
                None => {
                    steps.push(Step::Leave);
                    entered.pop();
                }
            }
        }
        let path = Path { steps };
        path.check_single_writes()?;
        Ok(path)
    }

    /// The operations, in order.
    pub(crate) fn operations(&self) -> impl Iterator<Item = &'a Operation> + '_ {
        self.steps.iter().filter_map(|step| match step {
            Step::Do(operation) => Some(*operation),
            Step::Enter(_) | Step::Leave => None,
        })
    }

    /// Finds out whether all operations can be done; etcd's order: puts before ranges.
    pub(crate) fn check(
        &self,
        mvcc: &Mvcc,
        lease_exists: impl Fn(LeaseId) -> bool + Copy,
    ) -> Result<(), Error> {
        for operation in self.operations() {
            if let Operation::Put(put) = operation {
                check_put(put, mvcc, lease_exists)?;
            }
        }
        for operation in self.operations() {
            if let Operation::Range(query) = operation {
                mvcc.check_revision(query.revision)?;
            }
        }
        Ok(())
    }

    /// Does every operation and collects the answers.
    pub(crate) fn run(&self, mut operate: impl FnMut(&Operation) -> Response) -> Response {
        let mut entered = Vec::with_capacity(1);
        for step in &self.steps {
            match step {
                Step::Enter(succeeded) => {
                    // Of most transactions, the first branch is the only one.
                    let room = if entered.is_empty() { self.steps.len() - 2 } else { 0 };
                    entered.push((*succeeded, Vec::with_capacity(room)));
                }
                Step::Do(operation) => {
                    let (_, responses) = entered.last_mut().expect(ENTERED);
                    responses.push(operate(operation));
                }
                Step::Leave => {
                    let (succeeded, responses) = entered.pop().expect(ENTERED);
                    let response = Response::Txn { succeeded, responses };
                    match entered.last_mut() {
                        Some((_, outer)) => outer.push(response),
                        None => return response,
                    }
                }
            }
        }
        unreachable!("the last step leaves the first branch")
    }

    /// Refuses a path that writes a key twice.
    fn check_single_writes(&self) -> Result<(), Error> {
        let writes = |it: &&Operation| matches!(it, Operation::Put(_) | Operation::DeleteRange(_));
        if self.operations().filter(writes).count() < 2 {
            return Ok(());
        }
        let (mut puts, mut deletes) = (Vec::new(), Vec::new());
        for operation in self.operations() {
            match operation {
                Operation::Put(put) => puts.push(&put.key),
                Operation::DeleteRange(delete) => deletes.push(&delete.range),
                Operation::Range(_) | Operation::Nested(_) => {}
            }
        }
        puts.sort_unstable();
        let put_twice = puts.windows(2).any(|pair| pair[0] == pair[1]);
        let put_and_deleted = |range: &&KeyRange| {
            let first = puts.partition_point(|key| **key < range.start);
            puts.get(first).is_some_and(|key| range.contains(key))
        };
        if put_twice || deletes.iter().any(put_and_deleted) {
            return Err(Error::MalformedTxn);
        }
        Ok(())
    }
}

/// Whether a put can be done: what it keeps must be there, and so must its lease.
pub(crate) fn check_put(put: &Put, mvcc: &Mvcc, lease_exists: impl Fn(LeaseId) -> bool) -> Result<(), Error> {
    if (put.value.is_none() || put.lease.is_none()) && mvcc.get(&put.key).is_none() {
        return Err(Error::KeyNotFound);
    }
    match put.lease {
        Some(id) if id != LeaseId::NONE && !lease_exists(id) => Err(Error::LeaseNotFound),
        _ => Ok(()),
    }
}

/// Checks that the branches form a tree, numbered from the root, and not too deep a one: a response
/// is as deep as its transaction, and whoever walks or drops it may recurse.
fn check_shape(txn: &Txn) -> Result<(), Error> {
    const UNSEEN: u32 = u32::MAX;
    if let [branch] = &txn.branches[..] {
        let mut operations = branch.success.iter().chain(&branch.failure);
        let refers = operations.any(|operation| matches!(operation, Operation::Nested(_)));
        return if refers { Err(Error::MalformedTxn) } else { Ok(()) };
    }
    let mut depths = vec![UNSEEN; txn.branches.len()];
    *depths.first_mut().ok_or(Error::MalformedTxn)? = 0;
    for (index, branch) in txn.branches.iter().enumerate() {
        let depth = depths[index];
        // A branch that nobody before it has referred to can only be reached in a circle, or not at all.
        if depth >= DEPTH_MAX {
            return Err(Error::MalformedTxn);
        }
        for operation in branch.success.iter().chain(&branch.failure) {
            let Operation::Nested(inner) = operation else { continue };
            let inner = *inner as usize;
            match depths.get_mut(inner) {
                Some(unseen) if inner > index && *unseen == UNSEEN => *unseen = depth + 1,
                _ => return Err(Error::MalformedTxn),
            }
        }
    }
    Ok(())
}

/// Whether a compare holds for every key of its range, or for the missing key if there is none.
fn holds(compare: &Compare, mvcc: &Mvcc) -> bool {
    if compare.range.is_single() {
        return holds_for(compare, mvcc.get(&compare.range.start).map(|kv| &**kv));
    }
    let mut keys = mvcc.iter(&compare.range).peekable();
    match keys.peek() {
        None => holds_for(compare, None),
        Some(_) => keys.all(|kv| holds_for(compare, Some(kv))),
    }
}

/// Whether a compare holds for one key. Of a missing key every number is zero, and the value compares
/// with nothing.
fn holds_for(compare: &Compare, kv: Option<&KeyValue>) -> bool {
    let property = |of: fn(&KeyValue) -> i64| kv.map_or(0, of);
    let order = match &compare.target {
        CompareTarget::Version(target) => property(|kv| kv.version).cmp(target),
        CompareTarget::Create(target) => property(|kv| kv.create_revision.0).cmp(target),
        CompareTarget::Mod(target) => property(|kv| kv.mod_revision.0).cmp(target),
        CompareTarget::Lease(target) => property(|kv| kv.lease.0).cmp(target),
        CompareTarget::Value(target) => match kv {
            Some(kv) => kv.value.cmp(target),
            None => return false,
        },
    };
    match compare.result {
        CompareResult::Equal => order.is_eq(),
        CompareResult::NotEqual => order.is_ne(),
        CompareResult::Greater => order.is_gt(),
        CompareResult::Less => order.is_lt(),
        CompareResult::Always => true,
    }
}

/// How deep transactions may be nested. No client gets here: etcd's protobuf decoders stop at 100
/// messages within each other, which is 50 transactions.
const DEPTH_MAX: u32 = 128;

const ENTERED: &str = "steps lie between an enter and its leave";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Branch, Command};
    use crate::store::Store;

    /// Nobody who walks or drops an answer may run out of stack, so the depth is bounded.
    #[test]
    fn a_chain_of_transactions_has_a_greatest_depth() {
        let chain = |depth: u32| {
            let nested = |index| Branch { success: vec![Operation::Nested(index)], ..Branch::default() };
            let mut branches: Vec<Branch> = (1..depth).map(nested).collect();
            branches.push(Branch::default());
            Command::Txn(Txn { branches })
        };
        let mut store = Store::new();
        assert!(store.apply(&chain(DEPTH_MAX)).result.is_ok());
        assert_eq!(store.apply(&chain(DEPTH_MAX + 1)).result, Err(Error::MalformedTxn));
        assert_eq!(store.apply(&chain(1_000_000)).result, Err(Error::MalformedTxn));
    }
}
