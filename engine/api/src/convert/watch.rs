//! Parsing watch requests (etcd's `serverWatchStream.recvLoop`).

use quorate_proto::etcdserverpb as pb;
use quorate_proto::etcdserverpb::watch_create_request::FilterType;
use quorate_store::{KeyRange, RangeEnd, Revision, WatchRequest};

use crate::error::Error;

/// Why no watcher is made. The reason is text within a response; the stream goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// The range holds no key.
    EmptyRange,
    /// The id is taken.
    DuplicateId,
    /// The revision to start from is negative.
    NegativeRevision,
    /// The stream has as many watchers as it may.
    TooManyWatchers,
}

impl Rejection {
    /// etcd's words.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Rejection::EmptyRange => "mvcc: watcher range is empty",
            Rejection::DuplicateId => "mvcc: duplicate watch ID provided on the WatchStream",
            Rejection::NegativeRevision => Error::Compacted.message(),
            Rejection::TooManyWatchers => Error::TooManyRequests.message(),
        }
    }
}

pub(crate) fn watch(request: &pb::WatchCreateRequest) -> Result<WatchRequest, Rejection> {
    // The least key there is stands in for none: with an end of "\0" that means all keys.
    let key: &[u8] = if request.key.is_empty() { b"\0" } else { &request.key };
    let range = KeyRange::from_wire(key, &request.range_end);
    if let RangeEnd::Before(end) = &range.end
        && range.start >= *end
    {
        return Err(Rejection::EmptyRange);
    }
    if request.start_revision < 0 {
        return Err(Rejection::NegativeRevision);
    }
    let leaves_out = |filter: FilterType| request.filters.contains(&filter.into());
    Ok(WatchRequest {
        range,
        start: (request.start_revision > 0).then_some(Revision(request.start_revision)),
        previous: request.prev_kv,
        no_put: leaves_out(FilterType::Noput),
        no_delete: leaves_out(FilterType::Nodelete),
    })
}
