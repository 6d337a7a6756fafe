//! One connection to an instance, driven by whoever asks over it: no task of its own, no channel to one.

mod chunks;
mod head;
mod inbound;
mod sending;

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, Method, Response};
use kernel::http::body::BodyError;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_util::io::poll_read_buf;

use crate::outbound::Content;
use crate::upstream::Instance;
use head::{Head, Interim};
pub(crate) use inbound::Inbound;
use sending::{Sending, Unsent};

/// Read at once; one answer of ours fits, so that one read takes it and the next is not tried for nothing.
const ROOM: usize = 8 * 1024;
/// The same inside a long body.
const MUCH_ROOM: usize = 64 * 1024;
/// A buffer that grew beyond this is not kept with an idle connection.
const KEPT_ROOM: usize = 16 * 1024;

/// Why there is no answer, or no whole one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LineError {
    /// Nobody listens, or nobody took the call in time.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// It was closed before anything of an answer came.
    #[error("the connection was closed before the answer")]
    Closed,
    /// It broke off in the middle.
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    /// What came is not HTTP, or can be read in two ways.
    #[error("the answer does not read: {0}")]
    Malformed(&'static str),
    /// The client's side of the request broke.
    #[error(transparent)]
    Client(#[from] BodyError),
}

/// The head of a request.
pub(crate) struct Asked<'r> {
    pub(crate) method: &'r Method,
    pub(crate) target: &'r str,
    pub(crate) headers: &'r HeaderMap,
    /// Further headers, of our own making.
    pub(crate) own: &'r [(HeaderName, &'r [u8])],
    /// Further lines, whole and of our own making.
    pub(crate) ours: &'r [u8],
}

/// Asks an instance at this moment, over a kept connection if there is one; gives the head of the answer and its body to come.
pub(crate) async fn ask(
    instance: &Arc<Instance>,
    asked: &Asked<'_>,
    content: &mut Content,
    at: Instant,
    connect: Duration,
) -> Result<Response<Inbound>, LineError> {
    if let Some(mut line) = instance.idle.take(at) {
        line.used = at;
        match line.exchange(instance, asked, content).await {
            // The instance hung up while our request was under way. That is no sign of its health, and what may be
            // repeated is asked again at once; of the rest nobody knows whether it was heard.
            Err(LineError::Closed) if content.repeatable() => {}
            done => return done,
        }
    }
    Line::open(instance.address, connect, at).await?.exchange(instance, asked, content).await
}

/// A connection between two requests.
#[derive(Debug)]
pub(crate) struct Line {
    stream: TcpStream,
    /// What came and nobody took yet.
    came: BytesMut,
    /// What waits to be sent.
    goes: BytesMut,
    /// When the last request on it began: to ask again at its end would cost more than it tells.
    pub(crate) used: Instant,
}

impl Line {
    async fn open(address: SocketAddr, within: Duration, at: Instant) -> Result<Box<Self>, LineError> {
        let connected = timeout(within, TcpStream::connect(address)).await;
        let stream = connected.unwrap_or_else(|late| Err(late.into())).map_err(LineError::Connect)?;
        // Requests are written whole; waiting to fill a packet would only delay them.
        stream.set_nodelay(true)?;
        // On the heap, where it stays from request to request.
        Ok(Box::new(Self { stream, came: BytesMut::new(), goes: BytesMut::new(), used: at }))
    }

    /// Whether the instance has neither hung up nor said anything unasked. Costs no system call where it has not.
    pub(crate) fn is_quiet(&self) -> bool {
        let nothing = self.stream.try_read(&mut [0]);
        nothing.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    async fn exchange(
        mut self: Box<Self>,
        instance: &Arc<Instance>,
        asked: &Asked<'_>,
        content: &mut Content,
    ) -> Result<Response<Inbound>, LineError> {
        // Only what may be repeated is there a second time, and only that is asked for again.
        let body = content.take().ok_or(LineError::Closed)?;
        let mut sending = Some(Sending::new(asked, instance, body, &mut self.goes));
        let mut interim = Interim::default();
        let head = poll_fn(|context| {
            let sent = self.poll_send(&mut sending, context)?;
            match (self.poll_head(&mut interim, context), sent) {
                // An answer that came in spite of it says more than a broken pipe.
                (Poll::Pending, Some(error)) => Poll::Ready(Err(self.broken(error, &interim))),
                (done, _) => done,
            }
        });
        let head = head.await?;
        Inbound::after(head, *asked.method == Method::HEAD, self, sending, instance)
    }

    /// Sends on. A failure of the client is the exchange's; one of the line is given back, for an answer may have come.
    fn poll_send(
        &mut self,
        sending: &mut Option<Sending>,
        context: &mut Context<'_>,
    ) -> Result<Option<io::Error>, LineError> {
        let Some(under_way) = sending else { return Ok(None) };
        let Poll::Ready(ended) = under_way.poll(&mut self.stream, &mut self.goes, context) else { return Ok(None) };
        // What could not be sent stays in the buffer, so that nobody takes the line for a whole one.
        *sending = None;
        match ended {
            Ok(()) => Ok(None),
            Err(Unsent::Client(error)) => Err(error.into()),
            Err(Unsent::Line(error)) => Ok(Some(error)),
        }
    }

    fn poll_head(&mut self, interim: &mut Interim, context: &mut Context<'_>) -> Poll<Result<Head, LineError>> {
        loop {
            if let Some(head) = interim.read(&mut self.came).map_err(LineError::Malformed)? {
                return Poll::Ready(Ok(head));
            }
            match ready!(self.poll_more(ROOM, context)) {
                Ok(0) => return Poll::Ready(Err(self.broken(io::ErrorKind::UnexpectedEof.into(), interim))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(self.broken(error, interim))),
            }
        }
    }

    /// However it ended: before the first byte of an answer it is the instance hanging up.
    fn broken(&self, error: io::Error, interim: &Interim) -> LineError {
        if self.came.is_empty() && interim.is_none() { LineError::Closed } else { LineError::Broken(error) }
    }

    /// Reads on; zero is the end.
    fn poll_more(&mut self, room: usize, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.came.reserve(room);
        poll_read_buf(Pin::new(&mut self.stream), context, &mut self.came)
    }

    /// Whether nothing of this exchange is left on it, in either direction.
    fn is_clean(&self) -> bool {
        self.came.is_empty() && self.goes.is_empty()
    }

    /// Gives back what a long body needed.
    fn shrink(&mut self) {
        for buffer in [&mut self.came, &mut self.goes] {
            if buffer.capacity() > KEPT_ROOM {
                *buffer = BytesMut::new();
            }
        }
    }

    /// The connection itself, and what came with the answer that changed its protocol.
    pub(crate) fn into_parts(self) -> (TcpStream, BytesMut) {
        (self.stream, self.came)
    }
}
