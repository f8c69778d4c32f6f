//! Parsing transactions (etcd's `checkTxnRequest`), and flattening them: nested ones become branches of
//! the outermost.
//!
//! The recursion here is bounded by `Limits::txn_depth_max`, and before that by the decoder's own limit.

use quorate_proto::etcdserverpb as pb;
use quorate_proto::etcdserverpb::compare::{
    CompareResult as WireResult, CompareTarget as WireTarget, TargetUnion,
};
use quorate_proto::etcdserverpb::request_op;
use quorate_store::{Branch, Compare, CompareResult, CompareTarget, Operation, Txn};

use super::{duplicate_keys, kv};
use crate::config::Limits;
use crate::error::Error;

pub(crate) fn txn(request: &pb::TxnRequest, limits: &Limits) -> Result<Txn, Error> {
    let mut parser = Parser { branches: Vec::with_capacity(1), ops_left: limits.txn_ops_total_max };
    parser.branch(request, limits.txn_ops_max, limits.txn_depth_max)?;
    let txn = Txn { branches: parser.branches };
    duplicate_keys::check(&txn)?;
    Ok(txn)
}

struct Parser {
    branches: Vec<Branch>,
    /// What may still come, of the whole tree.
    ops_left: usize,
}

impl Parser {
    /// Adds a transaction and those nested in it; gives its place among the branches.
    fn branch(&mut self, request: &pb::TxnRequest, ops_max: usize, depth_left: usize) -> Result<u32, Error> {
        let ops = request.compare.len().max(request.success.len()).max(request.failure.len());
        let total = request.compare.len() + request.success.len() + request.failure.len();
        if ops > ops_max || total > self.ops_left || depth_left == 0 {
            return Err(Error::TooManyOps);
        }
        self.ops_left -= total;

        // The place is taken before those nested in it take theirs, so that they come after it.
        let place = self.branches.len();
        self.branches.push(Branch::default());
        let compares = request.compare.iter().map(compare).collect::<Result<_, _>>()?;
        // etcd's rule: what is nested has what its parent has left.
        let success = self.operations(&request.success, ops_max - ops, depth_left - 1)?;
        let failure = self.operations(&request.failure, ops_max - ops, depth_left - 1)?;
        self.branches[place] = Branch { compares, success, failure };
        Ok(u32::try_from(place).expect("bounded by the number of operations"))
    }

    fn operations(
        &mut self,
        requests: &[pb::RequestOp],
        ops_max: usize,
        depth_left: usize,
    ) -> Result<Vec<Operation>, Error> {
        let parse = |request: &pb::RequestOp| {
            Ok(match &request.request {
                Some(request_op::Request::RequestRange(range)) => Operation::Range(kv::range(range)?),
                Some(request_op::Request::RequestPut(put)) => Operation::Put(kv::put(put)?),
                Some(request_op::Request::RequestDeleteRange(delete)) => {
                    Operation::DeleteRange(kv::delete_range(delete)?)
                }
                Some(request_op::Request::RequestTxn(txn)) => {
                    Operation::Nested(self.branch(txn, ops_max, depth_left)?)
                }
                // Odd, but etcd's answer.
                None => return Err(Error::KeyNotFound),
            })
        };
        requests.iter().map(parse).collect()
    }
}

/// A compare whose operand is missing, or of another kind than its target, compares with zero or the
/// empty value; an unknown result always holds. etcd's `applyCompare` says so, if only by omission.
fn compare(request: &pb::Compare) -> Result<Compare, Error> {
    let range = kv::key_range(&request.key, &request.range_end)?;
    let result = match WireResult::try_from(request.result) {
        Ok(WireResult::Equal) => CompareResult::Equal,
        Ok(WireResult::Greater) => CompareResult::Greater,
        Ok(WireResult::Less) => CompareResult::Less,
        Ok(WireResult::NotEqual) => CompareResult::NotEqual,
        Err(_) => CompareResult::Always,
    };
    let operand = request.target_union.as_ref();
    let target = match WireTarget::try_from(request.target) {
        Ok(WireTarget::Version) => CompareTarget::Version(match operand {
            Some(TargetUnion::Version(version)) => *version,
            _ => 0,
        }),
        Ok(WireTarget::Create) => CompareTarget::Create(match operand {
            Some(TargetUnion::CreateRevision(revision)) => *revision,
            _ => 0,
        }),
        Ok(WireTarget::Mod) => CompareTarget::Mod(match operand {
            Some(TargetUnion::ModRevision(revision)) => *revision,
            _ => 0,
        }),
        Ok(WireTarget::Lease) => CompareTarget::Lease(match operand {
            Some(TargetUnion::Lease(lease)) => *lease,
            _ => 0,
        }),
        Ok(WireTarget::Value) => CompareTarget::Value(match operand {
            Some(TargetUnion::Value(value)) => value[..].into(),
            _ => Default::default(),
        }),
        Err(_) => return Ok(unknown_target(range, result)),
    };
    Ok(Compare { range, result, target })
}

/// etcd takes an unknown property for equal to whatever it is compared with.
fn unknown_target(range: quorate_store::KeyRange, result: CompareResult) -> Compare {
    match result {
        CompareResult::Equal | CompareResult::Always => {
            Compare { range, result: CompareResult::Always, target: CompareTarget::Version(0) }
        }
        // No version is less than the least number: this never holds.
        CompareResult::Greater | CompareResult::Less | CompareResult::NotEqual => {
            Compare { range, result: CompareResult::Less, target: CompareTarget::Version(i64::MIN) }
        }
    }
}
