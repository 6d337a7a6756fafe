//! The service behind every proxy: one fixed answer at the least cost, and the keys that tokens are signed with.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Result;
use kernel::http::server::listen;
use kernel::task::Tasks;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::wire::end_of_head;

/// About as long as one order is.
const ANSWER: usize = 900;

/// A running upstream.
pub(super) struct Upstream {
    pub(super) address: SocketAddr,
    tasks: Tasks,
}

struct Answers {
    order: Vec<u8>,
    keys: Vec<u8>,
}

impl Upstream {
    /// Serves at any port.
    pub(super) async fn start(keys: String) -> Result<Self> {
        let listener = listen((Ipv4Addr::LOCALHOST, 0).into())?;
        let address = listener.local_addr()?;
        let order = format!("{{\"id\":\"{}\"}}", "x".repeat(ANSWER));
        let answers = Arc::new(Answers { order: answer(&order), keys: answer(&keys) });
        let tasks = Tasks::new();
        let stop = tasks.stopping();
        tasks.spawn("upstream", accept(listener, answers, stop));
        Ok(Self { address, tasks })
    }

    pub(super) async fn stop(self) {
        self.tasks.drain(std::time::Duration::from_secs(5)).await;
    }
}

fn answer(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

async fn accept(listener: TcpListener, answers: Arc<Answers>, stop: CancellationToken) {
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        if let Ok((stream, _)) = accepted {
            let (answers, stop) = (answers.clone(), stop.clone());
            let serving = async move {
                tokio::select! {
                    // A connection that breaks is the proxy's to notice.
                    ended = serve(stream, &answers) => drop(ended),
                    () = stop.cancelled() => {}
                }
            };
            drop(connections.spawn(serving));
        }
    }
}

/// Requests without bodies, one after another. Anything but HTTP/1.1 is hung up on: nothing is published here.
async fn serve(mut stream: TcpStream, answers: &Answers) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(4096);
    loop {
        while let Some(end) = end_of_head(&buffer) {
            if buffer.starts_with(b"PRI ") || buffer.starts_with(b"POST ") {
                return Ok(());
            }
            let keys = buffer.starts_with(b"GET /.well-known/jwks.json ");
            stream.write_all(if keys { &answers.keys } else { &answers.order }).await?;
            buffer.drain(..end);
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}
