//! Streams that last longer than a check of their token: they end when the token does.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Response};
use hyper::body::{Body as HttpBody, Frame};
use kernel::clock::Clock;

use crate::Revocations;
use crate::tokens::Principal;

/// The right of one caller to keep a stream open.
#[derive(Clone)]
pub(crate) struct Lease {
    pub(crate) principal: Arc<Principal>,
    pub(crate) revocations: Revocations,
    pub(crate) clock: Clock,
    pub(crate) every: Duration,
}

impl Lease {
    /// Returns once the token has expired or was revoked.
    pub(crate) async fn over(self) {
        while self.principal.stands(&self.revocations, self.clock.now()).is_ok() {
            tokio::time::sleep(self.every).await;
        }
    }

    /// Puts an event stream under this lease; other answers end by themselves.
    pub(crate) fn cover(self, response: Response<Body>) -> Response<Body> {
        if !is_event_stream(response.headers()) {
            return response;
        }
        response.map(|body| Body::new(Leased { body, over: Box::pin(self.over()) }))
    }
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|media| media.as_bytes().starts_with(b"text/event-stream"))
}

struct Leased {
    body: Body,
    over: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl HttpBody for Leased {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.over.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.body).poll_frame(context)
    }
}
