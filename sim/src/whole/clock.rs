//! Time, true and as each member's clock tells it.
//!
//! Of madsim only tasks and virtual time are used. Its own file system loses nothing, its network passes no
//! bytes, and its one clock cannot be skewed; [`quorate_sim::env`] stands in their place (see also `disk.rs` and
//! `network.rs`).

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use madsim::time::{Sleep, TimeHandle};
use quorate_node::Clock;
use quorate_raft::Instant;
use quorate_sim::env::clock::NodeClock;
use quorate_sim::time::Time;

/// True simulated time.
pub fn now() -> Time {
    Time(u64::try_from(TimeHandle::current().elapsed().as_nanos()).expect("a run is shorter than centuries"))
}

/// Waits until a true time.
pub fn until(time: Time) -> Sleep {
    madsim::time::sleep(time.since(now()))
}

/// A lock that cannot be poisoned in a single thread that ends at the first panic.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A member's clock. The nemesis may change it while somebody sleeps by it.
#[derive(Clone, Default)]
pub struct SimClock {
    inner: Arc<Mutex<ClockInner>>,
}

#[derive(Default)]
struct ClockInner {
    clock: NodeClock,
    sleepers: Vec<Waker>,
}

impl SimClock {
    /// Changes the clock; whoever sleeps by it looks again.
    pub fn change(&self, change: impl FnOnce(&mut NodeClock, Time)) {
        let mut inner = lock(&self.inner);
        change(&mut inner.clock, now());
        let sleepers = std::mem::take(&mut inner.sleepers);
        drop(inner);
        sleepers.into_iter().for_each(Waker::wake);
    }
}

impl SimClock {
    /// What it reads, through restarts.
    pub fn reading(&self) -> u64 {
        lock(&self.inner).clock.reading(now())
    }
}

impl Clock for SimClock {
    fn now(&self) -> Instant {
        lock(&self.inner).clock.now(now())
    }

    fn sleep_until(&self, at: Instant) -> impl Future<Output = ()> + Send {
        Alarm { clock: self.clone(), at, sleep: None }
    }
}

/// Completes when a clock reads at least `at`.
struct Alarm {
    clock: SimClock,
    at: Instant,
    /// When that will be if nobody changes the clock.
    sleep: Option<(Time, Pin<Box<Sleep>>)>,
}

impl Future for Alarm {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let time = now();
        let at = self.at;
        let reaches = {
            let mut inner = lock(&self.clock.inner);
            if inner.clock.now(time) >= at {
                return Poll::Ready(());
            }
            if inner.sleepers.iter().all(|waker| !waker.will_wake(context.waker())) {
                inner.sleepers.push(context.waker().clone());
            }
            inner.clock.reaches(time, at)
        };
        let Some(reaches) = reaches else { return Poll::Pending }; // Frozen: a change of the clock wakes us.
        if self.sleep.as_ref().is_none_or(|(planned, _)| *planned != reaches) {
            self.sleep = Some((reaches, Box::pin(until(reaches))));
        }
        let (_, sleep) = self.sleep.as_mut().expect("just set");
        // The executor's time is a little beyond the deadline when it wakes us; what it reads then is late
        // enough.
        match sleep.as_mut().poll(context) {
            Poll::Ready(()) => {
                self.sleep = None;
                if lock(&self.clock.inner).clock.now(now()) >= at {
                    return Poll::Ready(());
                }
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }
}
