//! Judging watch streams, black box: by their own shape and against the order of changes that the operations
//! give.
//!
//! etcd promises that events are *ordered* by revision, *unique*, *atomic* (all events of one revision in one
//! response), *reliable* (no gap between the first and the last), *resumable* (from any revision that is
//! still kept) and *bookmarkable* (a progress notification says that nothing up to its revision is missing).
//! Each property is a file of its own:
//!
//! | property | needs | file |
//! |---|---|---|
//! | Filter: only what was asked for | the stream | `filter` |
//! | Ordered: by revision | the stream | `ordered` |
//! | Unique: no event twice | the stream | `unique` |
//! | Atomic: a revision in one response | the stream | `atomic` |
//! | Bookmarkable: nothing older after a notification | the stream | `bookmarkable` |
//! | Resumable: from the revision asked for | both | `resumable` |
//! | Reliable: no gap, nothing invented | both | `reliable` |
//! | IsCreate: the first version of a key says so | both | `is_create` |
//! | PrevKV: the version before is the version before | both | `prev_kv` |
//!
//! Sources: etcd's API guarantees (<https://etcd.io/docs/v3.5/learning/api_guarantees/>); etcd's
//! `tests/robustness/validate/watch.go`, which has the same nine but takes the order from the servers' logs.

mod atomic;
mod bookmarkable;
mod filter;
mod is_create;
mod ordered;
mod prev_kv;
mod reliable;
mod resumable;
mod unique;

use serde::{Deserialize, Serialize};

use super::outcome::KeyValue;
use super::request::{Bytes, Keys};
use crate::Violation;

/// What a watch asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WatchRequest {
    /// Which keys.
    #[serde(flatten)]
    pub keys: Keys,
    /// The first revision of interest; zero is what comes next.
    pub start_revision: i64,
    /// Events carry the version before.
    pub prev_kv: bool,
    /// Leave out puts.
    pub no_put: bool,
    /// Leave out deletions.
    pub no_delete: bool,
}

/// A watch and everything that its client received, in the order of arrival.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WatchStream {
    /// Which client.
    pub process: u64,
    /// What was asked for.
    pub request: WatchRequest,
    /// What was received.
    pub responses: Vec<WatchResponse>,
}

/// One response. Without events, not created and not canceled, it is a progress notification.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WatchResponse {
    /// When it arrived.
    pub at: u64,
    /// The revision in its header.
    pub revision: i64,
    /// The first response of a watch.
    pub created: bool,
    /// The last response of a watch.
    pub canceled: bool,
    /// With `canceled`: why, if history was compacted.
    pub compact_revision: i64,
    /// More parts of the same response follow.
    pub fragment: bool,
    /// The changes.
    pub events: Vec<Event>,
}

/// One change of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Event {
    /// A deletion: `kv` has a key and a mod revision only.
    pub deleted: bool,
    /// The new version.
    pub kv: KeyValue,
    /// The version before, if it was asked for and there was one.
    pub previous: Option<KeyValue>,
}

impl Event {
    pub(super) fn revision(&self) -> i64 {
        self.kv.mod_revision
    }

    /// Whether it made its key.
    fn is_create(&self) -> bool {
        !self.deleted && self.kv.create_revision == self.kv.mod_revision
    }
}

impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.deleted {
            write!(f, "deletion of {} at revision {}", self.kv.key, self.kv.mod_revision)
        } else {
            write!(f, "put {}", self.kv)
        }
    }
}

impl WatchRequest {
    fn wants(&self, event: &Event) -> bool {
        let kind = if event.deleted { !self.no_delete } else { !self.no_put };
        kind && self.keys.contains(event.kv.key.as_slice())
    }
}

impl WatchResponse {
    /// A progress notification.
    pub(super) fn is_progress(&self) -> bool {
        !self.created && !self.canceled && self.events.is_empty()
    }

    /// The greatest revision that exists because of this response.
    pub(super) fn reach(&self) -> i64 {
        self.events.last().map_or(0, Event::revision).max(self.revision)
    }
}

/// The order of changes that explains a history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// One per revision, ascending without gaps.
    pub changes: Vec<Change>,
    /// Whether history may have been compacted at some time.
    pub compacted: bool,
}

/// All that one revision changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The revision.
    pub revision: i64,
    /// When the operation that made it was called.
    pub since: u64,
    /// What it changed, in its order.
    pub events: Vec<Event>,
}

impl Log {
    /// What a revision did to a key.
    fn change_of(&self, key: &Bytes, revision: i64) -> Option<&Event> {
        let [change] = self.between(revision, revision) else { return None };
        change.events.iter().find(|event| event.kv.key == *key)
    }

    /// The changes of revisions `first` to `last`.
    fn between(&self, first: i64, last: i64) -> &[Change] {
        let start = self.changes.partition_point(|change| change.revision < first);
        let end = self.changes.partition_point(|change| change.revision <= last);
        &self.changes[start..end.max(start)]
    }
}

/// The greatest revision that a stream shows.
pub(super) fn last_revision(stream: &WatchStream) -> i64 {
    stream.responses.iter().map(WatchResponse::reach).max().unwrap_or(0)
}

/// Judges one watch stream against a known order of changes.
pub fn check_watch(stream: &WatchStream, log: &Log) -> Result<(), Violation> {
    check_shape(0, stream)?;
    check_content(0, stream, log)
}

/// The rules that need nothing but the stream.
pub(super) fn check_shape(index: usize, stream: &WatchStream) -> Result<(), Violation> {
    let judge = Judge { index, stream };
    filter::check(&judge)?;
    ordered::check(&judge)?;
    unique::check(&judge)?;
    atomic::check(&judge)?;
    resumable::check_shape(&judge)?;
    bookmarkable::check(&judge)
}

/// The rules that need the order of changes.
pub(super) fn check_content(index: usize, stream: &WatchStream, log: &Log) -> Result<(), Violation> {
    let judge = Judge { index, stream };
    is_create::check(&judge, log)?;
    reliable::check(&judge, log)?;
    prev_kv::check(&judge, log)
}

/// A stream and its number, for messages.
struct Judge<'s> {
    index: usize,
    stream: &'s WatchStream,
}

impl<'s> Judge<'s> {
    fn refute(&self, rule: &'static str, what: &str) -> Violation {
        let WatchStream { process, request, .. } = self.stream;
        let start = match request.start_revision {
            0 => String::new(),
            start => format!(" from revision {start}"),
        };
        let sentence =
            format!("watch {} of process {process} on {}{start}: {what}", self.index, request.keys);
        Violation { rule, sentence, operations: Vec::new() }
    }

    /// All events, in the order of arrival.
    fn events(&self) -> impl Iterator<Item = &'s Event> {
        self.stream.responses.iter().flat_map(|response| &response.events)
    }

    /// The last revision that is of no interest any more when the watch begins.
    fn before(&self) -> i64 {
        match (self.stream.request.start_revision, first_created(self.stream)) {
            (0, Some(created)) => created.revision,
            (start, _) => start.saturating_sub(1),
        }
    }
}

fn first_created(stream: &WatchStream) -> Option<&WatchResponse> {
    stream.responses.iter().find(|response| response.created)
}

/// The revisions that a stream covers: it must show every matching event of them, and no other.
pub(super) struct Window<'s> {
    stream: &'s WatchStream,
    first: i64,
    last: i64,
    /// In order of revision, which [`check_shape`] has made sure of.
    received: Vec<&'s Event>,
}

impl<'s> Window<'s> {
    /// None if nothing was received that ends the window.
    pub fn of(stream: &'s WatchStream) -> Option<Window<'s>> {
        let received: Vec<&Event> = stream.responses.iter().flat_map(|response| &response.events).collect();
        let first = match (stream.request.start_revision, first_created(stream)) {
            (0, Some(created)) => created.revision.saturating_add(1),
            (0, None) => received.first()?.revision(),
            (start, _) => start,
        };
        let ends = stream.responses.iter().filter_map(|response| {
            if response.is_progress() {
                Some(response.revision)
            } else {
                response.events.last().map(Event::revision)
            }
        });
        Some(Window { stream, first, last: ends.max()?, received })
    }

    /// Whether the stream shows just these events of a revision, as far as it covers it.
    pub fn agrees(&self, revision: i64, events: &[Event]) -> bool {
        if revision < self.first || self.last < revision {
            return true;
        }
        let wanted = events.iter().filter(|event| self.stream.request.wants(event));
        let start = self.received.partition_point(|event| event.revision() < revision);
        let received = self.received[start..].iter().take_while(|event| event.revision() == revision);
        wanted.map(|event| (event.deleted, &event.kv)).eq(received.map(|event| (event.deleted, &event.kv)))
    }
}
