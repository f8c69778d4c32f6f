//! Registers: read, write and compare-and-set of single keys, as in Jepsen's etcd test.
//!
//! Every value is written once, so that a register's history can be checked in linear time (Gibbons and
//! Korach, "Testing shared memories", 1997).

use std::collections::BTreeMap;

use quorate_jepsen::etcd::{Bytes, Compare, Keys, Put, Range, Relation, Reply, Request, Target, Txn};

use super::{Context, value_read};

/// The prefix of this workload's keys.
pub const PREFIX: &str = "r";

/// What one client knows of the registers.
#[derive(Debug, Default)]
pub struct Register {
    /// The value it last saw in each.
    seen: BTreeMap<Bytes, Bytes>,
}

impl Register {
    pub(super) fn next(&mut self, context: &mut Context<'_>) -> Request {
        let key = context.key(PREFIX);
        match (context.random.below(10), self.seen.get(&key)) {
            (0..=4, _) | (8..=9, None) => {
                Request::Range(Range { serializable: context.stale(), ..Range::key(key) })
            }
            (8..=9, Some(seen)) => Request::Txn(Txn {
                compares: vec![Compare {
                    keys: Keys::one(key.clone()),
                    result: Relation::Equal,
                    target: Target::Value(seen.clone()),
                }],
                success: vec![Request::Put(Put::new(key, context.value()))],
                failure: vec![],
            }),
            _ => Request::Put(Put::new(key, context.value())),
        }
    }

    pub(super) fn done(&mut self, request: &Request, reply: &Reply) {
        match request {
            Request::Range(range) => {
                if let Some(value) = value_read(reply) {
                    self.seen.insert(range.keys.key.clone(), value.clone());
                }
            }
            Request::Put(put) => {
                self.seen.insert(put.key.clone(), put.value.clone());
            }
            _ => {}
        }
    }
}
