//! The body of an answer on its way to the client; its connection serves the next request as soon as it is whole.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Response, StatusCode};
use hyper::body::{Body, Frame, SizeHint};

use super::chunks::{Came, Chunks, up_to};
use super::head::{Ends, Head};
use super::sending::Sending;
use super::{Line, LineError, MUCH_ROOM, ROOM};
use crate::upstream::Instance;

/// What is left of an answer.
#[derive(Debug)]
pub(crate) struct Inbound {
    /// Gone once the body is whole.
    line: Option<Box<Line>>,
    left: Left,
    /// An answer may come before the request is sent.
    sending: Option<Sending>,
    /// Where the connection goes afterwards; none if it ends with the body.
    home: Option<Arc<Instance>>,
}

#[derive(Debug)]
enum Left {
    Bytes(u64),
    Chunks(Chunks),
    ToTheEnd,
    /// Another protocol begins here.
    Switched,
}

impl Inbound {
    pub(super) fn after(
        head: Head,
        to_head: bool,
        line: Box<Line>,
        sending: Option<Sending>,
        instance: &Arc<Instance>,
    ) -> Result<Response<Self>, LineError> {
        let ends = head.ends(to_head).map_err(LineError::Malformed)?;
        let left = match ends {
            _ if head.status == StatusCode::SWITCHING_PROTOCOLS => Left::Switched,
            Ends::After(length) => Left::Bytes(length),
            Ends::WithChunks => Left::Chunks(Chunks::default()),
            Ends::WithConnection => Left::ToTheEnd,
        };
        let home =
            (head.stays_open() && !matches!(left, Left::ToTheEnd | Left::Switched)).then(|| Arc::clone(instance));
        let mut body = Self { line: Some(line), left, sending, home };
        if matches!(body.left, Left::Bytes(0)) {
            body.part();
        }
        let mut response = Response::new(body);
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers;
        Ok(response)
    }

    /// The connection, if the instance changed its protocol.
    pub(crate) fn into_switched(self) -> Option<Box<Line>> {
        self.line.filter(|_| matches!(self.left, Left::Switched))
    }

    /// The body is whole: its connection is free again, or closed if anything of this exchange is left on it.
    fn part(&mut self) {
        let (line, home) = (self.line.take(), self.home.take());
        if let (Some(mut line), Some(home), None) = (line, home, self.sending.take())
            && line.is_clean()
        {
            line.shrink();
            home.idle.put(line);
        }
    }

    /// What the buffer gives.
    fn take(&mut self) -> Result<Came, LineError> {
        let Some(line) = &mut self.line else { return Ok(Came::Over) };
        let came = match &mut self.left {
            Left::Bytes(0) | Left::Switched => Came::Over,
            Left::Bytes(_) | Left::ToTheEnd if line.came.is_empty() => Came::More,
            Left::Bytes(left) => {
                let data = up_to(*left, &mut line.came);
                *left -= data.len() as u64;
                Came::Data(data)
            }
            Left::ToTheEnd => Came::Data(line.came.split().freeze()),
            Left::Chunks(chunks) => chunks.next(&mut line.came).map_err(LineError::Malformed)?,
        };
        // Whoever has the trailers, or all that was announced, asks for no more.
        if matches!(self.left, Left::Bytes(0) | Left::Chunks(Chunks::Over)) || came == Came::Over {
            self.part();
        }
        Ok(came)
    }

    /// Reads on; says whether there was anything.
    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<Result<bool, LineError>> {
        let Some(line) = &mut self.line else { return Poll::Ready(Ok(false)) };
        let long = !matches!(self.left, Left::Bytes(left) if left < ROOM as u64);
        let read = ready!(line.poll_more(if long { MUCH_ROOM } else { ROOM }, context))?;
        if read > 0 {
            return Poll::Ready(Ok(true));
        }
        self.line = None;
        match self.left {
            Left::ToTheEnd => Poll::Ready(Ok(false)),
            _ => Poll::Ready(Err(LineError::Broken(io::ErrorKind::UnexpectedEof.into()))),
        }
    }
}

impl Body for Inbound {
    type Data = Bytes;
    type Error = LineError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, LineError>>> {
        let this = self.get_mut();
        if let Some(line) = &mut this.line {
            // That the instance takes no more does not keep it from telling the rest.
            drop(line.poll_send(&mut this.sending, context)?);
        }
        loop {
            match this.take()? {
                Came::Data(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Came::Trailers(fields) => return Poll::Ready(Some(Ok(Frame::trailers(fields)))),
                Came::Over => return Poll::Ready(None),
                Came::More if ready!(this.poll_more(context))? => {}
                Came::More => return Poll::Ready(None),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.line.is_none() || matches!(self.left, Left::Switched)
    }

    fn size_hint(&self) -> SizeHint {
        match self.left {
            Left::Bytes(left) => SizeHint::with_exact(left),
            Left::Chunks(_) | Left::ToTheEnd => SizeHint::default(),
            Left::Switched => SizeHint::with_exact(0),
        }
    }
}
