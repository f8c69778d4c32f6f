//! Parsing the single-operation requests of the KV service (etcd's `v3rpc/key.go`, `check…Request`).

use quorate_proto::etcdserverpb as pb;
use quorate_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use quorate_store::{
    DeleteRange, KeyRange, LeaseId, Put, RangeQuery, Revision, RevisionFilter, Sort, SortBy,
};

use crate::error::Error;

/// The keys that a pair of `key` and `range_end` means; the key must not be empty.
pub(super) fn key_range(key: &[u8], range_end: &[u8]) -> Result<KeyRange, Error> {
    if key.is_empty() {
        return Err(Error::EmptyKey);
    }
    Ok(KeyRange::from_wire(key, range_end))
}

pub(crate) fn range(request: &pb::RangeRequest) -> Result<RangeQuery, Error> {
    let range = key_range(&request.key, &request.range_end)?;
    let filter = RevisionFilter {
        min_mod: request.min_mod_revision,
        max_mod: request.max_mod_revision,
        min_create: request.min_create_revision,
        max_create: request.max_create_revision,
    };
    let filter = (filter != RevisionFilter::default()).then_some(filter);
    Ok(RangeQuery {
        range,
        revision: (request.revision > 0).then_some(Revision(request.revision)),
        limit: u64::try_from(request.limit).unwrap_or(0),
        sort: sort(request, filter.is_some())?,
        keys_only: request.keys_only,
        count_only: request.count_only,
        filter,
    })
}

/// The order asked for; `None` where it is the store's own.
fn sort(request: &pb::RangeRequest, filtered: bool) -> Result<Option<Sort>, Error> {
    let order = SortOrder::try_from(request.sort_order).map_err(|_| Error::InvalidSortOption)?;
    let target = SortTarget::try_from(request.sort_target).map_err(|_| Error::InvalidSortOption)?;
    let by = match target {
        SortTarget::Key if order != SortOrder::Descend => return Ok(None),
        SortTarget::Key => SortBy::Key,
        SortTarget::Version => SortBy::Version,
        SortTarget::Create => SortBy::Create,
        SortTarget::Mod => SortBy::Mod,
        SortTarget::Value => SortBy::Value,
    };
    // etcd reads without a limit when an order or a filter is given, and sorts a target without an order
    // ascending: then the limit has cut the result, in the order of keys, before it is sorted.
    let limit_first = order == SortOrder::None && !filtered;
    Ok(Some(Sort { by, descending: order == SortOrder::Descend, limit_first }))
}

pub(crate) fn put(request: &pb::PutRequest) -> Result<Put, Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(Error::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Error::LeaseProvided);
    }
    Ok(Put {
        key: request.key[..].into(),
        value: (!request.ignore_value).then(|| request.value[..].into()),
        lease: (!request.ignore_lease).then_some(LeaseId(request.lease)),
        previous: request.prev_kv,
    })
}

pub(crate) fn delete_range(request: &pb::DeleteRangeRequest) -> Result<DeleteRange, Error> {
    Ok(DeleteRange { range: key_range(&request.key, &request.range_end)?, previous: request.prev_kv })
}

pub(crate) fn compact(request: &pb::CompactionRequest) -> Result<Revision, Error> {
    // The store's revisions are never negative; what is before all of them has been forgotten.
    if request.revision < 0 {
        return Err(Error::Compacted);
    }
    Ok(Revision(request.revision))
}
