//! What a watcher must be told, checked update by update.

use quorate_store::{Event, Revision, WatchRequest, WatchUpdate};

use crate::reference::Model;

/// A watcher as its owner sees it.
pub struct Watching {
    request: WatchRequest,
    /// The revision at which it was added, until it has been told.
    created: Option<i64>,
    /// All its events before this revision have been delivered.
    next: i64,
    credit: i64,
    /// How often progress has been asked for, less the answers. One answer may serve several.
    asked: u32,
    /// Whether an answer is owed that surely has not been given yet.
    owed: bool,
    /// Whether progress has been asked for since the last compaction. Answers are made when they are
    /// polled, and by a compaction: only one that was asked for since may be older than the question.
    asked_since_compaction: bool,
    /// Whether progress has been told since nobody had an update.
    answered: bool,
    /// Whether it can only be lost to a compaction by an event of its own that it has not got: it has
    /// been at the head. Before, it needs every revision from its start on.
    at_head: bool,
    /// The revision of the last update.
    last: Revision,
}

impl Watching {
    pub fn new(request: WatchRequest, model: &Model) -> Watching {
        let start = request.start.map_or(model.revision() + 1, |start| start.0);
        Watching {
            at_head: start > model.revision(),
            created: Some(model.revision()),
            next: start,
            credit: 0,
            asked: 0,
            owed: false,
            asked_since_compaction: false,
            answered: false,
            last: Revision(0),
            request,
        }
    }

    pub fn add_credit(&mut self, events: u32) {
        self.credit += i64::from(events);
    }

    pub fn ask_progress(&mut self) {
        self.asked += 1;
        self.owed = true;
        self.asked_since_compaction = true;
    }

    /// History may be compacted: what can be told is made ready before.
    pub fn on_compact(&mut self) {
        self.asked_since_compaction = false;
    }

    /// The contents have been replaced: what was missed must be looked for.
    pub fn on_replace(&mut self) {
        self.at_head = false;
    }

    /// Holds an update against the model. False if the watcher is gone.
    pub fn check(&mut self, update: WatchUpdate, model: &Model) -> bool {
        if let WatchUpdate::Created { revision } = update {
            assert_eq!(Some(revision.0), self.created.take(), "creation is told once, as of then");
            return true;
        }
        assert_eq!(self.created, None, "creation is told first");
        match update {
            WatchUpdate::Created { .. } => unreachable!("handled above"),
            WatchUpdate::Events { revision, events } => {
                assert!(!events.is_empty(), "an update has events");
                self.check_revision(revision, model);
                let mut events = events.as_slice();
                while !events.is_empty() {
                    assert!(self.credit > 0, "no revision is begun without credit");
                    let due = self.due(model).expect("there are events to deliver");
                    let expected = model.events_for(&self.request, due);
                    assert!(due <= revision.0, "nothing is told before it happens");
                    assert!(events.len() >= expected.len(), "a revision is not split");
                    let (found, rest) = events.split_at(expected.len());
                    if due > model.compacted {
                        assert_eq!(found, expected, "events of revision {due}");
                    } else {
                        // What was read before the compaction may know the version before.
                        let kinds =
                            |events: &[Event]| events.iter().map(|e| e.kind.clone()).collect::<Vec<_>>();
                        assert_eq!(kinds(found), kinds(&expected), "events of revision {due}");
                    }
                    events = rest;
                    self.credit -= expected.len() as i64;
                    self.next = due + 1;
                }
                true
            }
            WatchUpdate::Progress { revision } => {
                assert!(self.asked > 0, "progress is told when asked for");
                let begun = self.request.start.is_none_or(|start| start <= revision);
                assert!(begun, "no progress before the start");
                self.check_revision(revision, model);
                assert!(self.due(model).is_none_or(|due| due > revision.0), "progress follows all events");
                self.asked -= 1;
                self.owed &= self.asked_since_compaction;
                self.answered = true;
                true
            }
            WatchUpdate::Compacted { compact_revision, revision } => {
                self.check_revision(revision, model);
                assert!(compact_revision.0 <= model.compacted);
                let needed = if self.at_head { self.due(model) } else { Some(self.next) };
                assert!(needed.is_some_and(|needed| needed < model.compacted), "nothing needed is gone");
                false
            }
        }
    }

    /// Checks that nothing that should have been told is left, when nobody has an update any more.
    pub fn check_idle(&mut self, model: &Model) {
        assert_eq!(self.created, None, "creation is told at once");
        let due = self.due(model);
        assert!(due.is_none_or(|due| due >= model.compacted), "a lost watcher is told");
        if self.credit > 0 {
            assert_eq!(due, None, "with credit, everything is delivered");
            self.at_head = true;
            self.next = self.next.max(model.revision() + 1);
        }
        if due.is_none() && self.has_begun(model) {
            assert!(!self.owed || self.answered, "progress is told as soon as it can be");
            (self.asked, self.owed) = (0, false);
        }
        self.answered = false;
    }

    /// An update tells the revision at which it was made: the present one, unless a compaction came
    /// between.
    fn check_revision(&mut self, revision: Revision, model: &Model) {
        assert!(revision >= self.last && revision.0 <= model.revision());
        assert!(revision.0 == model.revision() || revision.0 <= model.compacted_at);
        self.last = revision;
    }

    /// The next revision that has events for it.
    fn due(&self, model: &Model) -> Option<i64> {
        (self.next.max(0)..=model.revision())
            .find(|revision| !model.events_for(&self.request, *revision).is_empty())
    }

    fn has_begun(&self, model: &Model) -> bool {
        self.request.start.is_none_or(|start| start.0 <= model.revision())
    }
}
