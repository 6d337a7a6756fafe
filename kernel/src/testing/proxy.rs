//! A proxy between a store and its server that loses an answer at the worst moment.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// Forwards connections; once armed, it lets a COMMIT through but cuts the client off instead of giving it the answer.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    armed: Arc<AtomicBool>,
    _accepting: AbortOnDropHandle<()>,
}

impl Proxy {
    /// A proxy in front of the server at this address.
    pub async fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let (address, armed) = (listener.local_addr().expect("a bound port"), Arc::new(AtomicBool::new(false)));
        let cuts = armed.clone();
        let accepting = spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if let Ok(upstream) = TcpStream::connect(&server).await {
                    spawn(forward(client, upstream, cuts.clone()));
                }
            }
        });
        Self { address, armed, _accepting: AbortOnDropHandle::new(accepting) }
    }

    /// The next connection that says COMMIT does not hear the answer.
    pub fn cut_after_commit(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }

    /// Whether an answer has been withheld since.
    pub fn has_cut(&self) -> bool {
        !self.armed.load(Ordering::SeqCst)
    }
}

#[expect(clippy::disallowed_methods, reason = "ends with its connections, and they with the test")]
fn spawn(work: impl Future<Output = ()> + Send + 'static) -> tokio::task::JoinHandle<()> {
    tokio::spawn(work)
}

async fn forward(mut client: TcpStream, mut server: TcpStream, armed: Arc<AtomicBool>) {
    let (mut up, mut down) = ([0; 16_384], [0; 16_384]);
    let mut cut = false;
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let Ok(length @ 1..) = read else { return };
                cut |= up[..length].windows(6).any(|w| w == b"COMMIT") && armed.swap(false, Ordering::SeqCst);
                if server.write_all(&up[..length]).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut down) => {
                let Ok(length @ 1..) = read else { return };
                // The server has answered, so the commit has happened; the client never hears of it.
                if cut || client.write_all(&down[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}
