//! Keys and ranges: puts, deletes, reads of every shape, reads of the past, compaction.

use quorate_jepsen::etcd::{Delete, Keys, Put, Range, Request, SortOrder, SortTarget};

use super::{Context, numbered};

/// The prefix of this workload's keys; `BEYOND` is the first string after all of them.
const PREFIX: &str = "k";
const BEYOND: &str = "k0";

/// The workload has no state: each request stands alone.
#[derive(Debug)]
pub struct Kv;

impl Kv {
    pub(super) fn next(&mut self, context: &mut Context<'_>) -> Request {
        match context.random.below(100) {
            0..=39 => {
                let mut put = Put::new(context.key(PREFIX), context.value());
                put.prev_kv = context.random.chance(300_000);
                Request::Put(put)
            }
            40..=64 => {
                let key = context.key(PREFIX);
                Request::Range(Range { serializable: context.stale(), ..Range::key(key) })
            }
            65..=84 => Request::Range(range(context)),
            85..=96 => Request::Delete(Delete {
                keys: if context.random.chance(700_000) {
                    Keys::one(context.key(PREFIX))
                } else {
                    some_keys(context)
                },
                prev_kv: context.random.chance(300_000),
            }),
            _ => Request::Compact {
                revision: (context.known.revision - (context.load.kept + context.random.below(40)) as i64)
                    .max(1),
            },
        }
    }
}

/// A read of several keys, now, in the past, or in the future.
fn range(context: &mut Context<'_>) -> Range {
    let mut range = Range::of(some_keys(context));
    range.serializable = context.stale();
    if context.random.chance(300_000) {
        range.revision = (context.known.revision - context.random.below(20) as i64).max(1);
    } else if context.random.chance(50_000) {
        // What nobody has written yet, or has just.
        range.revision = context.known.revision + 1 + context.random.below(8) as i64;
    }
    match context.random.below(6) {
        0 => range.limit = 1 + context.random.below(3) as i64,
        1 => range.count_only = true,
        2 => range.keys_only = true,
        3 => {
            range.sort_order = context.random.pick(&[SortOrder::Ascend, SortOrder::Descend]);
            range.sort_target = context.random.pick(&[
                SortTarget::Key,
                SortTarget::Version,
                SortTarget::Create,
                SortTarget::Mod,
                SortTarget::Value,
            ]);
        }
        _ => {}
    }
    range
}

fn some_keys(context: &mut Context<'_>) -> Keys {
    let first = context.random.below(context.load.keys);
    if context.random.chance(500_000) {
        Keys::between(PREFIX, BEYOND)
    } else {
        Keys::between(numbered(PREFIX, first), numbered(PREFIX, first + 2))
    }
}
