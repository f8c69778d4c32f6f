//! Both directions of a streaming call, between its connection and the code that answers it.
//!
//! The two run in one task and never at the same time, so neither registers wakers: the connection polls
//! the call after it has put something in or taken something out.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use bytes::Bytes;
use quorate_api::Code;

use super::frame::Messages;
use super::status::Status;

/// Messages that may be made before the first of them is taken.
const RESPONSES_MAX: usize = 16;

/// Requests in, responses out.
#[derive(Debug)]
pub(crate) struct Pipe(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    requests: Messages,
    /// Bytes that the client may not send again yet.
    held_bytes: usize,
    /// The client has said all.
    ended: bool,
    responses: VecDeque<Bytes>,
}

impl Pipe {
    pub(super) fn new(bytes_max: usize) -> Pipe {
        Pipe(Mutex::new(Inner {
            requests: Messages::new(bytes_max),
            held_bytes: 0,
            ended: false,
            responses: VecDeque::new(),
        }))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next request and its length on the wire, or `None` when the client will send no more. Cancel safe.
    pub(super) async fn next(&self) -> Result<Option<Bytes>, Status> {
        poll_fn(|_| {
            let mut inner = self.inner();
            match inner.requests.next() {
                Ok(None) if !inner.ended => Poll::Pending,
                Ok(None) if inner.requests.is_torn() => {
                    Poll::Ready(Err(Status::new(Code::Internal, "unexpected EOF")))
                }
                next => Poll::Ready(next),
            }
        })
        .await
    }

    /// Hands a response over, when the client has taken enough of those before it.
    pub(super) async fn send(&self, response: Bytes) {
        let mut response = Some(response);
        poll_fn(|_| {
            let mut inner = self.inner();
            if inner.responses.len() >= RESPONSES_MAX {
                return Poll::Pending;
            }
            inner.responses.extend(response.take());
            Poll::Ready(())
        })
        .await;
    }

    /// Takes what has arrived.
    pub(crate) fn push(&self, data: &[u8], ended: bool) {
        let mut inner = self.inner();
        inner.requests.push(data);
        inner.held_bytes += data.len();
        inner.ended |= ended;
    }

    /// How many bytes more the client may send: none while there are whole requests that nobody has taken.
    pub(crate) fn take_credit(&self) -> usize {
        let mut inner = self.inner();
        if inner.requests.wants_more() { std::mem::take(&mut inner.held_bytes) } else { 0 }
    }

    /// Takes the next response.
    pub(crate) fn pop(&self) -> Option<Bytes> {
        self.inner().responses.pop_front()
    }
}
