//! Bring your own client: any code that talks to a cluster of Quorate, under this simulator's faults.
//!
//! A client is an async function. What it awaits are the answers of the simulated cluster ([`Handle::ask`]) and the passing of
//! simulated time ([`Handle::sleep`]); what must hold, it says itself ([`Handle::must`]), of whatever the clients of a run share.
//! All that is checked of the cluster is checked as well. `sim/examples/lock_client.rs` is a client with a bug.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::ops::Range;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use quorate_jepsen::etcd::{Reply, Request};

use crate::core::{self, Guests, Plan, Watch};
use crate::options::Options;
use crate::report::{Failure, Summary};
use crate::time::Time;
use crate::workload::Outcome;

/// A client's way to the cluster. It does one thing at a time.
#[derive(Debug)]
pub struct Handle {
    id: u64,
    desk: Rc<RefCell<Desk>>,
}

/// Where a client and the simulation leave each other notes.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    pub now: Time,
    pub asked: Option<Request>,
    pub outcome: Option<Outcome>,
    pub sleeps: Option<Duration>,
    pub awake: bool,
    pub broken: Option<String>,
}

impl Handle {
    pub(crate) fn new(id: u64, desk: Rc<RefCell<Desk>>) -> Handle {
        Handle { id, desk }
    }

    /// The client's number, from zero.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The time since the run began, by a clock that is right.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.desk.borrow().now.since(Time::ZERO)
    }

    /// Asks a member, and waits as long as clients wait. A client that was refused, or heard nothing, asks another member
    /// the next time; what it heard nothing of may yet happen.
    pub async fn ask(&self, request: Request) -> Outcome {
        self.desk.borrow_mut().asked = Some(request);
        poll_fn(|_| self.desk.borrow_mut().outcome.take().map_or(Poll::Pending, Poll::Ready)).await
    }

    /// Asks, for those to whom it is all one why there is no reply.
    pub async fn reply(&self, request: Request) -> Option<Reply> {
        match self.ask(request).await {
            Outcome::Answered(response) => response.result.ok(),
            Outcome::Refused | Outcome::Unknown => None,
        }
    }

    /// Lets time pass.
    pub async fn sleep(&self, duration: Duration) {
        self.desk.borrow_mut().sleeps = Some(duration);
        let awake = || std::mem::take(&mut self.desk.borrow_mut().awake);
        poll_fn(|_| if awake() { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    /// What must hold, now; the run ends if it does not, and tells this.
    pub fn must(&self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.desk.borrow_mut().broken.get_or_insert_with(otherwise);
        }
    }
}

/// Runs one seed with so many clients. What they share, nobody but they knows of.
///
/// # Errors
/// Something does not hold, of the cluster or of what the clients demand.
pub fn run_clients<T, F>(
    options: &Options,
    count: u64,
    client: impl Fn(Handle, Rc<T>) -> F,
) -> Result<Summary, Box<Failure>>
where
    T: Default,
    F: Future<Output = ()> + 'static,
{
    let mut options = options.clone();
    options.load.clients = count;
    options.load.watchers = 0;
    let shared = Rc::new(T::default());
    let mut guests = Guests::default();
    for _ in 0..count {
        guests.invite(|handle| client(handle, Rc::clone(&shared)));
    }
    core::host(&Plan::Drawn(&options), Watch::default(), guests).into_result()
}

/// Runs many seeds, until one fails. Returns how many there were.
///
/// # Errors
/// The first failure.
pub fn sweep_clients<T, F>(
    seeds: Range<u64>,
    count: u64,
    client: impl Fn(Handle, Rc<T>) -> F,
) -> Result<usize, Box<Failure>>
where
    T: Default,
    F: Future<Output = ()> + 'static,
{
    let run = |seed| run_clients(&Options::draw(seed), count, &client);
    seeds.map(run).try_fold(0, |runs, run| run.map(|_| runs + 1))
}
