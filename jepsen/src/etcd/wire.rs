//! Requests as files have them, with their keys spelled out. What serde derives for a flattened field keeps
//! every other field aside first, which takes longer than all the rest of reading.

use serde::Deserialize;

use super::outcome::bytes_as_text;
use super::request::{self, Bytes, Keys, Relation, SortOrder, SortTarget, Target};

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Range {
    #[serde(with = "bytes_as_text")]
    key: Bytes,
    #[serde(with = "bytes_as_text")]
    range_end: Bytes,
    limit: i64,
    revision: i64,
    sort_order: SortOrder,
    sort_target: SortTarget,
    serializable: bool,
    keys_only: bool,
    count_only: bool,
    min_mod_revision: i64,
    max_mod_revision: i64,
    min_create_revision: i64,
    max_create_revision: i64,
}

impl From<Range> for request::Range {
    fn from(range: Range) -> Self {
        request::Range {
            keys: Keys { key: range.key, range_end: range.range_end },
            limit: range.limit,
            revision: range.revision,
            sort_order: range.sort_order,
            sort_target: range.sort_target,
            serializable: range.serializable,
            keys_only: range.keys_only,
            count_only: range.count_only,
            min_mod_revision: range.min_mod_revision,
            max_mod_revision: range.max_mod_revision,
            min_create_revision: range.min_create_revision,
            max_create_revision: range.max_create_revision,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Delete {
    #[serde(with = "bytes_as_text")]
    key: Bytes,
    #[serde(with = "bytes_as_text")]
    range_end: Bytes,
    prev_kv: bool,
}

impl From<Delete> for request::Delete {
    fn from(delete: Delete) -> Self {
        let keys = Keys { key: delete.key, range_end: delete.range_end };
        request::Delete { keys, prev_kv: delete.prev_kv }
    }
}

#[derive(Deserialize)]
pub(super) struct Compare {
    #[serde(default, with = "bytes_as_text")]
    key: Bytes,
    #[serde(default, with = "bytes_as_text")]
    range_end: Bytes,
    result: Relation,
    target: Target,
}

impl From<Compare> for request::Compare {
    fn from(compare: Compare) -> Self {
        let keys = Keys { key: compare.key, range_end: compare.range_end };
        request::Compare { keys, result: compare.result, target: compare.target }
    }
}
