//! The promises about watch streams, with the servers' log where one is needed.

use super::record::{OperationKind, Watch, WatchEvent, WatchRequest};
use super::replay::{Change, Replay};

/// A broken promise: its rule, and how.
pub(super) type Broken = (&'static str, String);

/// Judges one stream. `unique_revisions`: the clients wrote one key per revision.
pub(super) fn check(watch: &Watch, replay: Option<&Replay>, unique_revisions: bool) -> Result<(), Broken> {
    filter(watch)?;
    ordered(watch)?;
    unique(watch, unique_revisions)?;
    atomic(watch)?;
    bookmarkable(watch)?;
    let Some(replay) = replay else { return Ok(()) };
    resumable(watch, replay)?;
    reliable(watch, replay)?;
    is_create(watch, replay)?;
    previous(watch, replay)
}

fn events(watch: &Watch) -> impl Iterator<Item = &WatchEvent> {
    watch.responses.iter().flat_map(|response| &response.events)
}

fn matches(request: &WatchRequest, key: &str) -> bool {
    if request.with_prefix { key.starts_with(&request.key) } else { key == request.key }
}

fn name(event: &WatchEvent) -> String {
    let what = if event.kind == OperationKind::Delete { "deletion" } else { "put" };
    format!("{what} of {} at revision {}", event.key, event.revision)
}

fn filter(watch: &Watch) -> Result<(), Broken> {
    match events(watch).find(|event| !matches(&watch.request, &event.key)) {
        Some(event) => Err(("watch-filter", format!("the {} was not asked for", name(event)))),
        None => Ok(()),
    }
}

fn ordered(watch: &Watch) -> Result<(), Broken> {
    let mut last = 0;
    for event in events(watch) {
        if event.revision < last {
            return Err(("watch-ordered", format!("the {} came after revision {last}", name(event))));
        }
        last = event.revision;
    }
    Ok(())
}

/// Events are ordered, so twins stand in one run of equal revisions.
fn unique(watch: &Watch, unique_revisions: bool) -> Result<(), Broken> {
    let mut run: Vec<&WatchEvent> = Vec::new();
    for event in events(watch) {
        if run.first().is_some_and(|first| first.revision != event.revision) {
            run.clear();
        }
        if run.iter().any(|other| unique_revisions || other.key == event.key) {
            return Err(("watch-unique", format!("the {} came twice", name(event))));
        }
        run.push(event);
    }
    Ok(())
}

fn atomic(watch: &Watch) -> Result<(), Broken> {
    let mut last = None;
    for response in watch.responses.iter().filter(|response| !response.events.is_empty()) {
        let first = response.events.first().map(|event| event.revision);
        if first == last {
            let revision = first.unwrap_or_default();
            return Err(("watch-atomic", format!("revision {revision} is split over two responses")));
        }
        last = response.events.last().map(|event| event.revision);
    }
    Ok(())
}

fn bookmarkable(watch: &Watch) -> Result<(), Broken> {
    let (mut notified, mut last) = (0, 0);
    for response in &watch.responses {
        for event in &response.events {
            if event.revision <= notified {
                let why = format!("the {} came after a notification of revision {notified}", name(event));
                return Err(("watch-bookmarkable", why));
            }
            last = event.revision;
        }
        if response.is_progress_notify {
            if response.revision < notified.max(last) {
                let why = format!("notified of revision {} after {}", response.revision, notified.max(last));
                return Err(("watch-bookmarkable", why));
            }
            notified = response.revision;
        }
    }
    Ok(())
}

fn resumable(watch: &Watch, replay: &Replay) -> Result<(), Broken> {
    let start = watch.request.revision;
    let Some(first) = events(watch).next().filter(|_| start > 0) else { return Ok(()) };
    let mut due = replay.changes.iter().filter(|change| change.revision >= start);
    match due.find(|change| matches(&watch.request, &change.key)) {
        Some(change) if change.key == first.key && change.revision == first.revision => Ok(()),
        Some(change) => {
            let why = format!("begins with the {}, not at revision {}", name(first), change.revision);
            Err(("watch-resumable", why))
        }
        None => Err(("watch-resumable", format!("begins with the {}, which never happened", name(first)))),
    }
}

fn reliable(watch: &Watch, replay: &Replay) -> Result<(), Broken> {
    let Some((first, last)) = window(watch) else { return Ok(()) };
    let mut due = replay
        .changes
        .iter()
        .filter(|change| (first..=last).contains(&change.revision) && matches(&watch.request, &change.key));
    let same = |change: &Change, event: &WatchEvent| {
        (change.kind, &change.key, change.revision, &change.value)
            == (event.kind, &event.key, event.revision, &event.value)
    };
    for event in events(watch) {
        match due.next() {
            Some(change) if same(change, event) => {}
            Some(change) => {
                let why = format!("the {} came where revision {} was due", name(event), change.revision);
                return Err(("watch-reliable", why));
            }
            None => return Err(("watch-reliable", format!("the {} never happened", name(event)))),
        }
    }
    match due.next() {
        Some(change) => {
            let why = format!("the change of {} at revision {} is missing", change.key, change.revision);
            Err(("watch-reliable", why))
        }
        None => Ok(()),
    }
}

/// The first and the last revision that a stream vouches for.
fn window(watch: &Watch) -> Option<(i64, i64)> {
    let first = watch.responses.first()?;
    let begin = match (watch.request.revision, first.events.first()) {
        (0, Some(event)) => event.revision,
        (0, None) if first.is_progress_notify => first.revision + 1,
        (0, None) => return None,
        (start, _) => start,
    };
    let reached = watch.responses.iter().rev().find_map(|response| match response.events.last() {
        Some(event) => Some(event.revision),
        None => response.is_progress_notify.then_some(response.revision),
    });
    Some((begin, reached?))
}

fn is_create(watch: &Watch, replay: &Replay) -> Result<(), Broken> {
    for event in events(watch) {
        let existed = replay.before(&event.key, event.revision).is_some();
        if existed == event.is_create {
            let was = if existed { "existed" } else { "did not exist" };
            return Err((
                "watch-is-create",
                format!("the {} says otherwise, but the key {was}", name(event)),
            ));
        }
    }
    Ok(())
}

fn previous(watch: &Watch, replay: &Replay) -> Result<(), Broken> {
    for event in events(watch).filter(|_| watch.request.with_previous) {
        // After a compaction it may be missing.
        let Some(shown) = &event.prev_value else { continue };
        let right = replay.before(&event.key, event.revision).is_some_and(|before| {
            (&before.value, before.mod_revision) == (&shown.value, shown.mod_revision)
                && (shown.version == 0 || shown.version == before.version)
        });
        if !right {
            return Err((
                "watch-previous",
                format!("the {} came with another version before it", name(event)),
            ));
        }
    }
    Ok(())
}
