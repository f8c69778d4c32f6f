//! Bodies of replies.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

use super::status::Status;

/// What follows the headers of a reply.
pub(crate) enum ReplyBody {
    /// Nothing.
    Empty,
    /// Plain bytes.
    Plain(Bytes),
    /// One gRPC message, then the status OK.
    Message(Bytes),
    /// The status OK.
    Trailers,
    /// Any number of gRPC messages, then a status.
    Stream(Box<StreamBody>),
}

/// The messages of a streaming reply, and the code that makes them: it runs within the task of the
/// reply, so that no other task has to be woken, and only as fast as the client takes them.
pub(crate) struct StreamBody {
    frames: mpsc::Receiver<Bytes>,
    /// Sends into `frames` until the reply ends; `None` when it has.
    driver: Option<Pin<Box<dyn Future<Output = Status> + Send>>>,
    /// How it ended, until that is sent.
    status: Option<Status>,
}

/// Messages that may be made before the first of them is taken.
const STREAM_BUFFER: usize = 16;

impl ReplyBody {
    /// A streaming reply made by what `drive` returns.
    pub(super) fn stream<D>(drive: impl FnOnce(mpsc::Sender<Bytes>) -> D) -> ReplyBody
    where
        D: Future<Output = Status> + Send + 'static,
    {
        let (sender, frames) = mpsc::channel(STREAM_BUFFER);
        let driver = Some(Box::pin(drive(sender)) as Pin<Box<dyn Future<Output = Status> + Send>>);
        ReplyBody::Stream(Box::new(StreamBody { frames, driver, status: None }))
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let ReplyBody::Stream(stream) = &mut *self {
            return stream.poll_frame(context).map(|frame| frame.map(Ok));
        }
        let (frame, rest) = match std::mem::replace(&mut *self, ReplyBody::Empty) {
            ReplyBody::Plain(bytes) => (Frame::data(bytes), ReplyBody::Empty),
            ReplyBody::Message(bytes) => (Frame::data(bytes), ReplyBody::Trailers),
            ReplyBody::Trailers => (Frame::trailers(Status::OK.to_headers()), ReplyBody::Empty),
            ReplyBody::Empty | ReplyBody::Stream(_) => return Poll::Ready(None),
        };
        *self = rest;
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ReplyBody::Empty => true,
            ReplyBody::Stream(stream) => stream.driver.is_none() && stream.status.is_none(),
            ReplyBody::Plain(_) | ReplyBody::Message(_) | ReplyBody::Trailers => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ReplyBody::Empty => SizeHint::with_exact(0),
            ReplyBody::Plain(bytes) => SizeHint::with_exact(bytes.len() as u64),
            ReplyBody::Message(_) | ReplyBody::Trailers | ReplyBody::Stream(_) => SizeHint::default(),
        }
    }
}

impl StreamBody {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Frame<Bytes>>> {
        loop {
            // Before the driver is polled, so that it finds room; and after, should it have ended.
            match self.frames.poll_recv(context) {
                Poll::Ready(Some(bytes)) => return Poll::Ready(Some(Frame::data(bytes))),
                // The driver has dropped its sender: it is about to end, or has.
                Poll::Ready(None) | Poll::Pending => {}
            }
            let Some(driver) = &mut self.driver else {
                let status = self.status.take();
                return Poll::Ready(status.map(|status| Frame::trailers(status.to_headers())));
            };
            match driver.as_mut().poll(context) {
                Poll::Ready(status) => {
                    self.driver = None;
                    self.status = Some(status);
                }
                // Tokio bounds what a task may receive in one go: then `poll_recv` says `Pending` although
                // there is something, and to call it again would go on for ever. `try_recv` is not bounded,
                // and if there is nothing, both the driver and the channel will wake the task.
                Poll::Pending => {
                    return self
                        .frames
                        .try_recv()
                        .map_or(Poll::Pending, |bytes| Poll::Ready(Some(Frame::data(bytes))));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// More messages than tokio lets a task receive without a pause.
    #[test]
    fn a_burst_of_messages_comes_whole_and_in_order() {
        const MESSAGES: u32 = 10_000;
        let mut body = ReplyBody::stream(|frames| async move {
            for number in 0..MESSAGES {
                frames.send(Bytes::copy_from_slice(&number.to_be_bytes())).await.expect("the body is read");
                // Others may wake the task between two messages.
                if number % 64 == 0 {
                    tokio::task::yield_now().await;
                }
            }
            Status::OK
        });
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime can be made");
        let frames = runtime.block_on(async {
            let mut frames = Vec::new();
            while let Some(Ok(frame)) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
                frames.push(frame);
            }
            frames
        });
        let (trailers, data) = frames.split_last().expect("there are frames");
        assert!(trailers.is_trailers());
        assert_eq!(data.len(), MESSAGES as usize);
        for (number, frame) in (0..MESSAGES).zip(data) {
            assert_eq!(frame.data_ref().map(|bytes| &bytes[..]), Some(&number.to_be_bytes()[..]));
        }
    }
}
