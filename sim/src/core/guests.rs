//! Guests: clients whose code is somebody else's ([`crate::own`]).
//!
//! A guest is a future without an executor. Whenever something has come that it may be waiting for, it is polled once, and
//! leaves a note of what it waits for next; so its wakers need not do anything.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Waker};

use quorate_raft::NodeId;

use super::calm::Phase;
use super::{Event, Simulation};
use crate::invariants::Violation;
use crate::own::client::{Desk, Handle};
use crate::workload::Outcome;

/// The guests of a run.
#[derive(Debug, Default)]
pub struct Guests(Vec<Guest>);

struct Guest {
    desk: Rc<RefCell<Desk>>,
    /// Until it has come to its end.
    task: Option<Pin<Box<dyn Future<Output = ()>>>>,
    /// How often it has gone to another member.
    moved: u64,
}

impl Guests {
    /// One guest more.
    pub fn invite<F: Future<Output = ()> + 'static>(&mut self, client: impl FnOnce(Handle) -> F) {
        let desk = Rc::new(RefCell::new(Desk::default()));
        let handle = Handle::new(self.0.len() as u64, Rc::clone(&desk));
        let task: Pin<Box<dyn Future<Output = ()>>> = Box::pin(client(handle));
        self.0.push(Guest { desk, task: Some(task), moved: 0 });
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guest").field("desk", &self.desk).finish_non_exhaustive()
    }
}

impl Simulation {
    /// A guest goes on until it waits for something.
    pub(super) fn guest_runs(&mut self, slot: u32) {
        let Some(guest) = self.guests.0.get_mut(slot as usize) else { return };
        let Some(task) = &mut guest.task else { return };
        guest.desk.borrow_mut().now = self.time;
        if task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            guest.task = None;
        }
        let (asked, sleeps, broken) = {
            let mut desk = guest.desk.borrow_mut();
            (desk.asked.take(), desk.sleeps.take(), desk.broken.take())
        };
        let place = (u64::from(slot) + guest.moved) % self.options.members + 1;
        if let Some(detail) = broken {
            self.demand(Err(Violation { invariant: "what the clients demand", detail }));
        }
        if let Some(time) = sleeps {
            self.queue.push(self.time + time, Event::Guest { slot });
        }
        // Later, what is asked is only to find out how everything has settled.
        if let Some(request) = asked.filter(|_| matches!(self.phase, Phase::Storm | Phase::Calm)) {
            let member = self.operator.occupant(NodeId(place));
            self.ask_patiently(slot, member, request);
        }
    }

    /// A guest has slept.
    pub(super) fn guest_wakes(&mut self, slot: u32) {
        if let Some(guest) = self.guests.0.get(slot as usize) {
            guest.desk.borrow_mut().awake = true;
        }
        self.guest_runs(slot);
    }

    /// A guest's request has come to something.
    pub(super) fn guest_told(&mut self, slot: u32, outcome: Outcome) {
        let Some(guest) = self.guests.0.get_mut(slot as usize) else { return };
        if !matches!(outcome, Outcome::Answered(_)) {
            guest.moved += 1;
        }
        guest.desk.borrow_mut().outcome = Some(outcome);
        self.guest_runs(slot);
    }
}
