//! The body of a request on its way to an instance.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use kernel::http::body::{BodyError, GuardedBody};

/// What a request brings along: something short that can be sent again, or a stream that can be sent once.
pub(crate) enum Content {
    Kept(Bytes),
    Once(Option<GuardedBody<Incoming>>),
}

impl Content {
    /// Whether it can be sent more than once.
    pub(crate) const fn repeatable(&self) -> bool {
        matches!(self, Self::Kept(_))
    }

    /// The body for one try; a stream that was used is none any more.
    pub(crate) fn take(&mut self) -> Option<Outbound> {
        match self {
            Self::Kept(bytes) => Some(Outbound::Kept(bytes.clone())),
            Self::Once(body) => body.take().map(Outbound::Once),
        }
    }
}

/// The body of one try.
#[derive(Debug)]
pub(crate) enum Outbound {
    Kept(Bytes),
    Once(GuardedBody<Incoming>),
}

impl Body for Outbound {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Kept(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Kept(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Once(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Kept(bytes) => bytes.is_empty(),
            Self::Once(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Kept(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Once(body) => body.size_hint(),
        }
    }
}
