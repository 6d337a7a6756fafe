//! A request on its way to an instance: head and body in as few writes as may be, and no more read than was sent.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use http::Method;
use hyper::body::Body as _;
use kernel::http::body::BodyError;
use tokio::io::AsyncWrite as _;
use tokio::net::TcpStream;

use super::Asked;
use super::head::{self, Framed};
use crate::outbound::Outbound;
use crate::upstream::Instance;

/// So much waits to be sent before the client is not read any further.
const WAITING: usize = 64 * 1024;

/// Why the rest cannot be sent.
pub(super) enum Unsent {
    Client(BodyError),
    Line(io::Error),
}

/// The part of a request that was not handed to the system yet.
#[derive(Debug)]
pub(super) struct Sending {
    body: Outbound,
    framed: Framed,
    whole: bool,
}

impl Sending {
    pub(super) fn new(asked: &Asked<'_>, instance: &Instance, body: Outbound, out: &mut BytesMut) -> Self {
        let means_nothing = matches!(*asked.method, Method::GET | Method::HEAD);
        let framed = match body.size_hint().exact() {
            Some(0) if means_nothing => Framed::Not,
            Some(length) => Framed::Length(length),
            None => Framed::Chunks,
        };
        head::write(asked, instance.host(), framed, out);
        let whole = matches!(framed, Framed::Not | Framed::Length(0));
        Self { body, framed, whole }
    }

    /// Sends on until all is sent.
    pub(super) fn poll(
        &mut self,
        stream: &mut TcpStream,
        out: &mut BytesMut,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Unsent>> {
        loop {
            self.fill(out, context).map_err(Unsent::Client)?;
            if out.is_empty() {
                return if self.whole { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
            match ready!(Pin::new(&mut *stream).poll_write(context, out)) {
                Ok(0) => return Poll::Ready(Err(Unsent::Line(io::ErrorKind::WriteZero.into()))),
                Ok(written) => out.advance(written),
                Err(error) => return Poll::Ready(Err(Unsent::Line(error))),
            }
        }
    }

    /// Takes from the client what is there, as long as there is room.
    fn fill(&mut self, out: &mut BytesMut, context: &mut Context<'_>) -> Result<(), BodyError> {
        while !self.whole && out.len() < WAITING {
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Pending => break,
                // Trailers concern one hop here: nobody was told that they would come.
                Poll::Ready(Some(frame)) => frame?.into_data().map_or(Ok(()), |data| self.push(&data, out))?,
                Poll::Ready(None) => self.end(out)?,
            }
        }
        Ok(())
    }

    fn push(&mut self, data: &Bytes, out: &mut BytesMut) -> Result<(), BodyError> {
        match &mut self.framed {
            Framed::Chunks if data.is_empty() => {}
            Framed::Chunks => {
                out.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
                out.extend_from_slice(data);
                out.extend_from_slice(b"\r\n");
            }
            // More than was announced would be read as another request.
            Framed::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(BodyError::Broken)?;
                out.extend_from_slice(data);
                self.whole = *left == 0;
            }
            Framed::Not => return Err(BodyError::Broken),
        }
        Ok(())
    }

    fn end(&mut self, out: &mut BytesMut) -> Result<(), BodyError> {
        match self.framed {
            Framed::Chunks => out.extend_from_slice(b"0\r\n\r\n"),
            Framed::Length(1..) => return Err(BodyError::Broken),
            Framed::Length(0) | Framed::Not => {}
        }
        self.whole = true;
        Ok(())
    }
}
