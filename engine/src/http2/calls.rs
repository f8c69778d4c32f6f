//! The calls of one connection: futures that are polled within the connection's own task.
//!
//! A call that can go on puts its slot into a list, and only the first of a list wakes the task. So
//! a thousand answers that arrive together cost one wake-up and no task of their own.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// A call on its way to a result.
pub(super) type Running<R> = Pin<Box<dyn Future<Output = R> + Send>>;

/// All calls that are being answered, each for a stream.
pub(super) struct Calls<R> {
    slots: Vec<Slot<R>>,
    free: Vec<usize>,
    /// Slots to be polled in this turn.
    batch: Vec<usize>,
    ready: Arc<Mutex<Ready>>,
}

struct Slot<R> {
    /// The stream and its call.
    call: Option<(u32, Running<R>)>,
    signal: Arc<Signal>,
    waker: Waker,
}

/// Slots to be polled in the next turn.
#[derive(Default)]
struct Ready {
    slots: Vec<usize>,
    /// The connection's task, if it is to be woken.
    task: Option<Waker>,
}

/// Wakes one slot. It outlives the call it was made for: then it wakes in vain.
struct Signal {
    slot: usize,
    /// Whether the slot is in a list already.
    queued: AtomicBool,
    ready: Arc<Mutex<Ready>>,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut ready = lock(&self.ready);
        ready.slots.push(self.slot);
        let task = ready.task.take();
        drop(ready);
        if let Some(task) = task {
            task.wake();
        }
    }
}

fn lock(ready: &Mutex<Ready>) -> MutexGuard<'_, Ready> {
    ready.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<R> Calls<R> {
    pub(super) fn new() -> Calls<R> {
        Calls { slots: Vec::new(), free: Vec::new(), batch: Vec::new(), ready: Arc::default() }
    }

    /// Begins a call, to be polled in this turn, and says where it is.
    pub(super) fn start(&mut self, stream: u32, call: Running<R>) -> usize {
        let slot = self.free.pop().unwrap_or_else(|| self.add_slot());
        self.slots[slot].call = Some((stream, call));
        self.poll_soon(slot);
        slot
    }

    fn add_slot(&mut self) -> usize {
        let slot = self.slots.len();
        let signal =
            Arc::new(Signal { slot, queued: AtomicBool::new(false), ready: Arc::clone(&self.ready) });
        self.slots.push(Slot { call: None, waker: Waker::from(Arc::clone(&signal)), signal });
        slot
    }

    /// Has a call polled in this turn or, if it is awaited anyway, in the next.
    pub(super) fn poll_soon(&mut self, slot: usize) {
        if !self.slots[slot].signal.queued.swap(true, Ordering::AcqRel) {
            self.batch.push(slot);
        }
    }

    /// Drops a call.
    pub(super) fn cancel(&mut self, slot: usize) {
        if self.slots[slot].call.take().is_some() {
            self.free.push(slot);
        }
    }

    /// Whether no call is being answered.
    pub(super) fn is_idle(&self) -> bool {
        self.free.len() == self.slots.len()
    }

    /// Begins a turn: gathers what can go on and has the task woken when there is more.
    pub(super) fn gather(&mut self, context: &Context<'_>) {
        let mut ready = lock(&self.ready);
        self.batch.append(&mut ready.slots);
        if !ready.task.as_ref().is_some_and(|task| task.will_wake(context.waker())) {
            ready.task = Some(context.waker().clone());
        }
    }

    /// Polls the next call of this turn: its stream, its slot and how it is.
    pub(super) fn poll_next(&mut self) -> Option<(u32, usize, Poll<R>)> {
        while let Some(at) = self.batch.pop() {
            let slot = &mut self.slots[at];
            // Before the call is polled, which may want to be polled again.
            slot.signal.queued.store(false, Ordering::Release);
            let Some((stream, call)) = &mut slot.call else { continue };
            let stream = *stream;
            let polled = call.as_mut().poll(&mut Context::from_waker(&slot.waker));
            if polled.is_ready() {
                slot.call = None;
                self.free.push(at);
            }
            return Some((stream, at, polled));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::sync::oneshot;

    use super::*;

    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn many_answers_wake_the_connection_once() {
        let task = Arc::new(Task::default());
        let waker = Waker::from(Arc::clone(&task));
        let context = Context::from_waker(&waker);
        let mut calls = Calls::new();
        let mut senders = Vec::new();
        for stream in [1, 3, 5] {
            let (sender, receiver) = oneshot::channel::<u32>();
            senders.push(sender);
            calls.start(stream, Box::pin(receiver));
        }
        calls.gather(&context);
        while let Some((_, _, polled)) = calls.poll_next() {
            assert!(polled.is_pending());
        }
        for (sender, answer) in senders.into_iter().zip([10, 30, 50]) {
            sender.send(answer).expect("it is awaited");
        }
        assert_eq!(task.0.load(Ordering::Relaxed), 1);
        calls.gather(&context);
        let mut answers = Vec::new();
        while let Some((stream, _, Poll::Ready(answer))) = calls.poll_next() {
            answers.push((stream, answer.expect("it was sent")));
        }
        answers.sort_unstable();
        assert_eq!(answers, [(1, 10), (3, 30), (5, 50)]);
    }

    #[test]
    fn a_call_that_was_cancelled_leaves_its_slot_to_the_next() {
        let context = Context::from_waker(Waker::noop());
        let mut calls = Calls::new();
        let (old, receiver) = oneshot::channel::<u32>();
        let slot = calls.start(1, Box::pin(receiver));
        calls.gather(&context);
        assert!(calls.poll_next().is_some_and(|(_, _, polled)| polled.is_pending()));
        calls.cancel(slot);
        assert!(old.is_closed(), "the call is dropped");
        let (new, receiver) = oneshot::channel::<u32>();
        assert_eq!(calls.start(3, Box::pin(receiver)), slot);
        new.send(7).expect("it is awaited");
        calls.gather(&context);
        assert!(matches!(calls.poll_next(), Some((3, _, Poll::Ready(Ok(7))))));
        assert!(calls.poll_next().is_none());
    }
}
