//! One connection under watch: closes it when the peer is slow to ask, idle for long, or does not read its answers.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::server::Limits;

/// What the service side of a connection tells its reading side.
#[derive(Debug)]
pub(super) struct Watch {
    opened: Instant,
    active: AtomicU32,
    // Microseconds after opening when the last answer was sent.
    answered: AtomicU64,
    ambiguous: AtomicBool,
}

impl Watch {
    pub(super) fn new() -> Self {
        let opened = Instant::now();
        Self { opened, active: AtomicU32::new(0), answered: AtomicU64::new(0), ambiguous: AtomicBool::new(false) }
    }

    /// A request begins; it lasts until the guard goes.
    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        self.active.fetch_add(1, Ordering::AcqRel);
        Busy(Arc::clone(self))
    }

    /// Whether the head named both a length and chunks, so that two readers may disagree where it ends.
    pub(super) fn ambiguous(&self) -> bool {
        self.ambiguous.load(Ordering::Acquire)
    }

    fn busy(&self) -> bool {
        self.active.load(Ordering::Acquire) > 0
    }
}

/// Keeps the connection busy while a request is worked on or its answer is sent.
#[derive(Debug)]
pub(super) struct Busy(Arc<Watch>);

impl Busy {
    /// The connection changed its protocol: no request will ever end on it.
    pub(super) fn forever(self) {
        std::mem::forget(self);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let micros = u64::try_from(self.0.opened.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.0.answered.fetch_max(micros, Ordering::AcqRel);
        self.0.active.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A socket with deadlines.
pub(super) struct WatchedStream {
    stream: TcpStream,
    watch: Arc<Watch>,
    multiplexed: bool,
    keep_alive: Duration,
    header_read: Duration,
    write_stall: Duration,
    in_head: bool,
    since: Instant,
    answered: u64,
    timer: Pin<Box<Sleep>>,
    stalled_since: Option<Instant>,
    write_timer: Option<Pin<Box<Sleep>>>,
    head: Option<HeadScan>,
}

impl WatchedStream {
    pub(super) fn new(stream: TcpStream, watch: Arc<Watch>, multiplexed: bool, limits: &Limits) -> Self {
        let since = Instant::now();
        Self {
            stream,
            watch,
            multiplexed,
            keep_alive: limits.keep_alive,
            header_read: limits.header_read,
            write_stall: limits.write_stall,
            in_head: !multiplexed,
            since,
            answered: 0,
            timer: Box::pin(tokio::time::sleep_until(since + limits.header_read)),
            stalled_since: None,
            write_timer: None,
            head: (limits.strict_framing && !multiplexed).then(HeadScan::default),
        }
    }

    /// A finished request starts a new wait.
    fn notice_answers(&mut self) {
        let answered = self.watch.answered.load(Ordering::Acquire);
        if answered != self.answered {
            self.answered = answered;
            self.in_head = false;
            self.since = self.watch.opened + Duration::from_micros(answered);
            if let Some(head) = &mut self.head {
                *head = HeadScan::default();
            }
        }
    }

    fn received(&mut self, bytes: &[u8]) {
        if self.multiplexed || bytes.is_empty() || self.watch.busy() {
            return;
        }
        self.notice_answers();
        if !self.in_head {
            self.in_head = true;
            self.since = Instant::now();
        }
        if let Some(head) = &mut self.head
            && head.feed(bytes)
        {
            self.watch.ambiguous.store(true, Ordering::Release);
        }
    }

    /// Ready when the peer has kept us waiting for too long.
    fn poll_patience(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.watch.busy() {
            // Nobody polls us when the answer is sent; this ring, never later than the idle deadline, makes it so. The
            // time is asked for only when it rings: this is on the way of every request.
            let early_enough = self.since + self.keep_alive;
            if self.timer.deadline() > early_enough {
                self.timer.as_mut().reset(early_enough);
            }
            while self.timer.as_mut().poll(context).is_ready() {
                self.timer.as_mut().reset(Instant::now() + self.keep_alive);
            }
            return Poll::Pending;
        }
        self.notice_answers();
        let deadline = self.since + if self.in_head { self.header_read } else { self.keep_alive };
        poll_deadline(&mut self.timer, deadline, context)
    }

    fn watch_write<T>(&mut self, result: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.stalled_since = None;
            return result;
        }
        let deadline = *self.stalled_since.get_or_insert_with(Instant::now) + self.write_stall;
        let timer = self.write_timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        poll_deadline(timer, deadline, context).map(|()| Err(timed_out("the peer does not read")))
    }
}

fn timed_out(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, why)
}

/// Moves a timer only to an earlier moment; a later one is reached by looking again when it rings.
/// So a busy connection does not touch the runtime's timer wheel for each request.
fn poll_deadline(timer: &mut Pin<Box<Sleep>>, deadline: Instant, context: &mut Context<'_>) -> Poll<()> {
    if timer.deadline() > deadline {
        timer.as_mut().reset(deadline);
    }
    loop {
        ready!(timer.as_mut().poll(context));
        if Instant::now() >= deadline {
            return Poll::Ready(());
        }
        timer.as_mut().reset(deadline);
    }
}

impl AsyncRead for WatchedStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        match Pin::new(&mut this.stream).poll_read(context, buffer) {
            Poll::Ready(Ok(())) => {
                this.received(&buffer.filled()[before..]);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => this.poll_patience(context).map(|()| Err(timed_out("the peer does not ask"))),
        }
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.watch_write(result, context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        this.watch_write(result, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

const LENGTH: &[u8] = b"content-length";
const CODING: &[u8] = b"transfer-encoding";

/// Looks for a head with two framings. The parser silently prefers one, so it must be seen in the bytes.
#[derive(Debug, Default)]
struct HeadScan {
    line: [u8; CODING.len() + 1],
    length: usize,
    lines: usize,
    sizes: u32,
    codings: u32,
    over: bool,
}

impl HeadScan {
    /// Takes further bytes of the head; true once its framing is ambiguous.
    fn feed(&mut self, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        while !self.over && !rest.is_empty() {
            let end = memchr::memchr(b'\n', rest);
            let part = &rest[..end.unwrap_or(rest.len())];
            let room = (self.line.len() - self.length).min(part.len());
            self.line[self.length..self.length + room].copy_from_slice(&part[..room]);
            self.length += room;
            rest = end.map_or(&[], |end| &rest[end + 1..]);
            if end.is_some() {
                self.line_ends();
            }
        }
        (self.sizes > 0 && self.codings > 0) || self.sizes > 1 || self.codings > 1
    }

    fn line_ends(&mut self) {
        let line = &self.line[..self.length];
        self.lines += 1;
        if self.lines > 1 {
            self.over = matches!(line, [] | [b'\r']);
            let named = |name: &[u8]| {
                line.len() > name.len() && line[..name.len()].eq_ignore_ascii_case(name) && line[name.len()] == b':'
            };
            self.sizes += u32::from(named(LENGTH));
            self.codings += u32::from(named(CODING));
        }
        self.length = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_framings_are_seen_however_the_head_is_cut() {
        let clear = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\n\r\nx\r\nTransfer-Encoding: chunked\r\n";
        let mixed = b"POST / HTTP/1.1\r\ncontent-LENGTH: 4\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n";
        let twice = b"POST / HTTP/1.1\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\n";
        for step in [1, 2, 7, 1000] {
            let seen = |head: &[u8]| {
                let mut scan = HeadScan::default();
                head.chunks(step).any(|chunk| scan.feed(chunk))
            };
            assert!(!seen(clear), "a body is not a head, cut by {step}");
            assert!(seen(mixed), "cut by {step}");
            assert!(seen(twice), "cut by {step}");
        }
    }
}
