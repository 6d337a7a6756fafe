//! Request bodies that cannot be endless: bounded in size, in silence and in total time.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::problem::Problem;
use super::server::Limits;

/// Why a body could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It is longer than allowed.
    #[error("the body is too large")]
    TooLarge,
    /// Its bytes come too slowly.
    #[error("the body came too slowly")]
    TooSlow,
    /// The connection broke or the framing is wrong.
    #[error("the body ended early")]
    Broken,
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge => Self::new(413, "body_too_large", "the body is larger than this route takes"),
            BodyError::TooSlow => Self::new(408, "body_too_slow", "the body did not arrive in time"),
            BodyError::Broken => Self::new(400, "body_broken", "the body ended before it was complete"),
        }
    }
}

/// A body that fails once it is too large or too slow.
#[derive(Debug)]
pub struct GuardedBody<B> {
    inner: B,
    left: u64,
    idle: Duration,
    ends: Instant,
    silent_since: Option<Instant>,
    // Most bodies are there at once; only one that makes us wait pays for a timer.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<B: Body> GuardedBody<B> {
    /// Guards `body`; one that says it is too large is refused before it is read.
    pub fn new(body: B, limits: &Limits) -> Result<Self, BodyError> {
        if body.size_hint().lower() > limits.max_body {
            return Err(BodyError::TooLarge);
        }
        let ends = Instant::now() + limits.body_total;
        Ok(Self { inner: body, left: limits.max_body, idle: limits.body_idle, ends, silent_since: None, timer: None })
    }
}

impl<B> GuardedBody<B> {
    fn poll_timer(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let since = *self.silent_since.get_or_insert_with(Instant::now);
        let deadline = self.ends.min(since + self.idle);
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(context)
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for GuardedBody<B> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.inner).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                this.silent_since = None;
                let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                match this.left.checked_sub(length) {
                    Some(left) => this.left = left,
                    None => return Poll::Ready(Some(Err(BodyError::TooLarge))),
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(_))) => Poll::Ready(Some(Err(BodyError::Broken))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => this.poll_timer(context).map(|()| Some(Err(BodyError::TooSlow))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Reads a whole body within the limits.
pub async fn read_body<B: Body<Data = Bytes> + Unpin>(body: B, limits: &Limits) -> Result<Bytes, BodyError> {
    GuardedBody::new(body, limits)?.collect().await.map(http_body_util::Collected::to_bytes)
}
