//! The body of a request on its way to an instance, and the pooled client that carries it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kernel::http::body::{BodyError, GuardedBody};

/// The client that keeps connections to instances.
pub(crate) type Pool = Client<HttpConnector, Outbound>;

/// Half of what a service keeps an idle connection, so that we rarely use one that it is just closing.
const IDLE: Duration = Duration::from_secs(30);

pub(crate) fn pool(connect: Duration) -> Pool {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(connect));
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(256)
        .build(connector)
}

/// Nothing, something short that can be sent again, or a stream that can be sent once.
pub(crate) enum Outbound {
    Kept(Bytes),
    Once(GuardedBody<Incoming>, Arc<Fault>),
}

/// Remembers why a stream from the client ended: the client library tells only that it did.
#[derive(Debug, Default)]
pub(crate) struct Fault(AtomicU8);

impl Fault {
    fn note(&self, error: BodyError) {
        let code = match error {
            BodyError::TooLarge => 1,
            BodyError::TooSlow => 2,
            BodyError::Broken => 3,
        };
        self.0.store(code, Ordering::Release);
    }

    pub(crate) fn get(&self) -> Option<BodyError> {
        match self.0.load(Ordering::Acquire) {
            1 => Some(BodyError::TooLarge),
            2 => Some(BodyError::TooSlow),
            3 => Some(BodyError::Broken),
            _ => None,
        }
    }
}

impl Body for Outbound {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Kept(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Kept(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Once(body, fault) => Pin::new(body).poll_frame(context).map_err(|error| {
                fault.note(error);
                error
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Kept(bytes) => bytes.is_empty(),
            Self::Once(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Kept(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Once(body, _) => body.size_hint(),
        }
    }
}
