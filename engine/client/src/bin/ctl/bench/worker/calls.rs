//! The calls under way: what an answer means for its slot, and for what is measured.

use super::super::generator::{Call, Generator, Kind};
use super::super::http2::{Event, StreamId};
use super::super::tally::{Meaning, Tally, Watched, meaning, read_watch_response};

/// Marks a connection's watch stream among the tokens of calls.
pub const WATCH_TOKEN: u32 = u32::MAX;

/// The calls under way and what has become of earlier ones.
pub struct Calls {
    pub generator: Generator,
    pub slots: Vec<Slot>,
    pub tally: Tally,
    /// Slots whose call has ended and has not been replaced.
    pub ended: Vec<u32>,
    pub measure_from: u64,
    pub wants_revision: bool,
    pub watchers_created: u32,
    pub events_received: u64,
    /// Events to come for the puts that were answered.
    pub events_expected: u64,
    pub watch_spread: WatchSpread,
}

/// Watchers are dealt to keys in turn, so that all keys have as many, or one more.
#[derive(Clone, Copy)]
pub struct WatchSpread {
    pub watchers: u64,
    pub keys: u64,
}

impl WatchSpread {
    fn watchers_of(self, key: u64) -> u64 {
        self.watchers / self.keys + u64::from(key < self.watchers % self.keys)
    }
}

pub struct Slot {
    pub link: u32,
    pub call: Call,
    /// When the call was started, or was due.
    pub since: u64,
    pub busy: bool,
    /// Lease keep-alive: the slot's stream.
    pub stream: Option<StreamId>,
}

impl Calls {
    /// Takes what a connection reports.
    pub fn on_event(&mut self, event: Event<'_>, now: u64) {
        match event {
            Event::Message { token: WATCH_TOKEN, body } => self.on_watch_response(body, now),
            Event::Message { token, body } => self.on_message(token, body, now),
            Event::End { token: WATCH_TOKEN, result } => {
                self.tally
                    .failed(result.err().unwrap_or_else(|| "the server ended a watch stream".to_owned()));
            }
            Event::End { token, result } => self.on_end(token, result, now),
        }
    }

    fn on_message(&mut self, token: u32, body: &[u8], now: u64) {
        let call = self.slots[token as usize].call;
        match meaning(call, body, self.wants_revision) {
            Meaning::Done => {}
            Meaning::Revision(revision) => self.generator.saw_revision(call.key, revision),
            Meaning::Conflict(revision) => {
                self.generator.saw_revision(call.key, revision);
                self.tally.conflicts += 1;
            }
            Meaning::Missing => self.tally.missing += 1,
            Meaning::Lease(id) => self.generator.leases.push(id),
            Meaning::Expired => self.tally.failed("a lease expired although it was kept alive".to_owned()),
        }
        if call.kind == Kind::LeaseKeepAlive {
            // Its stream stays open: the message is the end of the call.
            self.answered(token, now);
        }
    }

    fn on_end(&mut self, token: u32, result: Result<(), String>, now: u64) {
        let slot = &mut self.slots[token as usize];
        let kept_alive = slot.stream.take().is_some();
        match result {
            Ok(()) if kept_alive => self.lost(token, "the server ended a keep-alive stream"),
            Ok(()) => self.answered(token, now),
            Err(text) => self.lost(token, &text),
        }
    }

    fn answered(&mut self, token: u32, now: u64) {
        let slot = &mut self.slots[token as usize];
        if !std::mem::take(&mut slot.busy) {
            return;
        }
        if slot.since >= self.measure_from {
            self.tally.latency.saturating_record(now.saturating_sub(slot.since));
        }
        if slot.call.kind == Kind::Put {
            self.events_expected += self.watch_spread.watchers_of(slot.call.key);
        }
        self.ended.push(token);
    }

    /// A call ends without an answer.
    pub fn lost(&mut self, token: u32, text: &str) {
        let slot = &mut self.slots[token as usize];
        if std::mem::take(&mut slot.busy) {
            self.tally.failed(text.to_owned());
            self.ended.push(token);
        }
    }

    fn on_watch_response(&mut self, body: &[u8], now: u64) {
        let Self { tally, measure_from, events_received, .. } = self;
        let read = read_watch_response(body, |stamp| {
            *events_received += 1;
            if stamp >= *measure_from {
                tally.event_latency.saturating_record(now.saturating_sub(stamp));
            }
        });
        match read {
            Ok(Watched::Created) => self.watchers_created += 1,
            Ok(Watched::Events) => {}
            Err(text) => self.tally.failed(text),
        }
    }
}
