//! Judging watch streams, black box: by their own shape and against the order of changes that the operations
//! give.
//!
//! etcd promises that events are *ordered* by revision, *unique*, *atomic* (all events of one revision in one
//! response), *reliable* (no gap between the first and the last), *resumable* (from any revision that is
//! still kept) and *bookmarkable* (a progress notification says that nothing up to its revision is missing).
//! Sources: etcd's API guarantees; `tests/robustness/validate/watch.go`; issues 15220, 15271, 17247, 17529,
//! 18089, 19179, 20221, each of which broke one of these.

use std::collections::BTreeSet;

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
    fn revision(&self) -> i64 {
        self.kv.mod_revision
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
    fn is_progress(&self) -> bool {
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

/// A stream and its number, for messages.
struct Judge<'s> {
    index: usize,
    stream: &'s WatchStream,
}

impl Judge<'_> {
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
}

/// The rules that need nothing but the stream.
pub(super) fn check_shape(index: usize, stream: &WatchStream) -> Result<(), Violation> {
    let judge = Judge { index, stream };
    let event = stream.request.start_revision.saturating_sub(1);
    let mut reached = Reached { event, progress: 0, any: false, open: false, over: false };
    if let (0, Some(created)) = (stream.request.start_revision, first_created(stream)) {
        reached.event = created.revision;
    }
    for response in &stream.responses {
        if reached.over {
            return Err(judge.refute("watch-canceled", "a response arrived after it was canceled"));
        }
        reached.over = response.canceled;
        if response.is_progress() {
            reached.progress(response.revision).map_err(|what| judge.refute("watch-bookmarkable", &what))?;
        }
        check_events(&judge, response, &mut reached)?;
        if response.canceled && response.compact_revision > 0 {
            check_cancel(&judge, response)?;
        }
    }
    Ok(())
}

fn first_created(stream: &WatchStream) -> Option<&WatchResponse> {
    stream.responses.iter().find(|response| response.created)
}

/// How far a stream has come.
struct Reached {
    /// The revision of the last event, or the one before the first of interest.
    event: i64,
    /// The last progress notification.
    progress: i64,
    /// Whether any event has arrived.
    any: bool,
    /// Whether the last response with events was a fragment.
    open: bool,
    /// Whether it was canceled.
    over: bool,
}

impl Reached {
    fn progress(&mut self, revision: i64) -> Result<(), String> {
        let least = self.event.max(self.progress);
        if revision < least {
            return Err(format!("progress to revision {revision} was notified after revision {least}"));
        }
        self.progress = revision;
        Ok(())
    }
}

fn check_events(judge: &Judge<'_>, response: &WatchResponse, reached: &mut Reached) -> Result<(), Violation> {
    let (request, first) = (&judge.stream.request, response.events.first());
    let Some(first) = first else { return Ok(()) };
    if reached.any && !reached.open && first.revision() == reached.event {
        let what = format!("revision {} is split over two responses", reached.event);
        return Err(judge.refute("watch-atomic", &what));
    }
    let mut in_revision: BTreeSet<&Bytes> = BTreeSet::new();
    let mut newest = if reached.any { reached.event } else { i64::MIN };
    for event in &response.events {
        let revision = event.revision();
        if !request.wants(event) {
            return Err(judge.refute("watch-filter", &format!("nobody asked for the {event}")));
        }
        if revision < newest {
            return Err(
                judge.refute("watch-ordered", &format!("the {event} arrived after revision {newest}"))
            );
        }
        if newest == i64::MIN && revision <= reached.event {
            let what = format!("the {event} is older than what was asked for");
            return Err(judge.refute("watch-resumable", &what));
        }
        if revision <= reached.progress {
            let what = format!("the {event} arrived after progress to {} was notified", reached.progress);
            return Err(judge.refute("watch-bookmarkable", &what));
        }
        if revision != newest {
            in_revision.clear();
        }
        if !in_revision.insert(&event.kv.key) {
            return Err(judge.refute("watch-unique", &format!("the {event} arrived twice")));
        }
        newest = revision;
    }
    if response.revision > 0 && response.revision < newest {
        let what = format!("a header of revision {} brought revision {newest}", response.revision);
        return Err(judge.refute("watch-header", &what));
    }
    reached.event = newest;
    reached.any = true;
    reached.open = response.fragment;
    Ok(())
}

/// A watch is canceled for compaction only if it still needs what was compacted.
fn check_cancel(judge: &Judge<'_>, response: &WatchResponse) -> Result<(), Violation> {
    let start = judge.stream.request.start_revision;
    if start == 0 || start < response.compact_revision {
        return Ok(());
    }
    let what =
        format!("canceled for a compaction to revision {}, which it did not need", response.compact_revision);
    Err(judge.refute("watch-resumable", &what))
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

/// The rules that need the order of changes: nothing missing, nothing invented, nothing too early.
pub(super) fn check_content(index: usize, stream: &WatchStream, log: &Log) -> Result<(), Violation> {
    let judge = Judge { index, stream };
    let Some(window) = Window::of(stream) else { return Ok(()) };
    let expected = log.between(window.first, window.last);
    let mut expected = expected
        .iter()
        .flat_map(|change| change.events.iter().map(move |event| (event, change.since)))
        .filter(|(event, _)| stream.request.wants(event));
    let mut any = false;
    for response in &stream.responses {
        for event in &response.events {
            let rule = if any { "watch-reliable" } else { "watch-resumable" };
            any = true;
            let Some((due, since)) = expected.next() else {
                return Err(judge.refute(rule, &format!("the {event} never happened")));
            };
            if (due.deleted, &due.kv) != (event.deleted, &event.kv) {
                return Err(judge.refute(rule, &format!("expected the {due}, received the {event}")));
            }
            if response.at < since {
                return Err(
                    judge.refute("watch-premature", &format!("the {event} arrived before it was asked for"))
                );
            }
            check_previous(&judge, event, due, log)?;
        }
    }
    match expected.next() {
        Some((due, _)) => {
            let what = format!("the {due} is missing, though revision {} was reached", window.last);
            Err(judge.refute("watch-reliable", &what))
        }
        None => Ok(()),
    }
}

fn check_previous(judge: &Judge<'_>, event: &Event, due: &Event, log: &Log) -> Result<(), Violation> {
    let right = match &event.previous {
        Some(_) => judge.stream.request.prev_kv && event.previous == due.previous,
        None => !judge.stream.request.prev_kv || due.previous.is_none() || log.compacted,
    };
    if right {
        return Ok(());
    }
    let show = |kv: &Option<KeyValue>| kv.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string);
    let what =
        format!("the {event} came with {} before it, not {}", show(&event.previous), show(&due.previous));
    Err(judge.refute("watch-previous", &what))
}
