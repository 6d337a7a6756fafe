//! HTTP/1.1 by hand: the least that a load generator can spend on the cores it shares with what it measures.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// Heads of answers are far shorter.
const LONGEST_HEAD: usize = 16 * 1024;

/// An answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

/// One connection that is kept.
struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    async fn to(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("no connection to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(4096) })
    }

    async fn ask(&mut self, request: &[u8]) -> Result<Reply> {
        self.buffer.clear();
        self.stream.write_all(request).await?;
        let end = loop {
            if let Some(end) = end_of_head(&self.buffer) {
                break end;
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 || self.buffer.len() > LONGEST_HEAD {
                bail!("the connection ended before the answer's head did");
            }
        };
        let head = std::str::from_utf8(&self.buffer[..end]).context("the head is not text")?;
        let (status, length) = read_head(head)?;
        while self.buffer.len() < end + length {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                bail!("the connection ended before the answer did");
            }
        }
        Ok(Reply { status, body: self.buffer[end..end + length].to_vec() })
    }
}

/// Where the body begins, once the head is complete.
pub(super) fn end_of_head(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

fn read_head(head: &str) -> Result<(u16, usize)> {
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|s| s.parse().ok());
    let status = status.with_context(|| format!("no status in {head}"))?;
    let length =
        lines.filter_map(|line| line.split_once(':')).find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    match length.map(|(_, value)| value.trim().parse()) {
        Some(length) => Ok((status, length.context("a length that is no number")?)),
        None if status == 204 => Ok((status, 0)),
        None => bail!("an answer without a length: {head}"),
    }
}

/// Connections to one address at once, below what a gateway allows one address; who comes after them waits.
const MOST: usize = 512;

/// Connections to one address: an idle one is used again, otherwise another is opened.
#[derive(Clone)]
pub(super) struct Wires {
    address: SocketAddr,
    idle: Arc<Mutex<Vec<Wire>>>,
    seats: Arc<Semaphore>,
}

impl Wires {
    pub(super) fn to(address: SocketAddr) -> Self {
        Self { address, idle: Arc::default(), seats: Arc::new(Semaphore::new(MOST)) }
    }

    /// Sends a whole request and reads the whole answer.
    pub(super) async fn ask(&self, request: &[u8]) -> Result<Reply> {
        let _seat = self.seats.acquire().await.context("the seats are never closed")?;
        let idle = self.idle.lock().pop();
        let mut wire = match idle {
            Some(wire) => wire,
            None => Wire::to(self.address).await?,
        };
        let reply = wire.ask(request).await.with_context(|| format!("asking {}", self.address))?;
        self.idle.lock().push(wire);
        Ok(reply)
    }
}

/// The bytes of a request.
pub(super) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: bench\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        text.push_str(&format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_gives_status_and_length_however_it_is_written() {
        let head = "HTTP/1.1 201 Created\r\nDate: x\r\nContent-Length: 12\r\n\r\n";
        assert_eq!(end_of_head(head.as_bytes()), Some(head.len()));
        assert_eq!(read_head(head).unwrap(), (201, 12));
        assert_eq!(read_head("HTTP/1.1 204 No Content\r\n\r\n").unwrap(), (204, 0));
        assert!(read_head("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
        assert_eq!(end_of_head(b"HTTP/1.1 200 OK\r\n"), None);
    }
}
