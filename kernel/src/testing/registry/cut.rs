//! A wire that a test can cut: a listener that passes bytes on, or hangs up on everybody.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::task::Tasks;

/// A wire to somebody. While it is cut, running connections are dropped and new ones are too.
#[derive(Debug)]
pub struct Cut {
    /// Where to connect to.
    pub address: SocketAddr,
    cut: Arc<watch::Sender<bool>>,
    _tasks: Tasks,
}

impl Cut {
    /// A whole wire to `to`.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn before(to: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("a bound port has an address");
        let (cut, tasks) = (Arc::new(watch::Sender::new(false)), Tasks::new());
        let (state, owner) = (cut.clone(), tasks.clone());
        tasks.spawn("wire", async move {
            loop {
                let Ok((from, _)) = listener.accept().await else { continue };
                let mut state = state.subscribe();
                drop(owner.short("connection", async move {
                    tokio::select! {
                        _ = state.wait_for(|cut| *cut) => {}
                        () = pass(from, to) => {}
                    }
                }));
            }
        });
        Self { address, cut, _tasks: tasks }
    }

    /// Cuts the wire, or mends it.
    pub fn cut(&self, cut: bool) {
        self.cut.send_replace(cut);
    }
}

async fn pass(mut from: TcpStream, to: SocketAddr) {
    if let Ok(mut there) = TcpStream::connect(to).await {
        // Either side may hang up at any time; that is what wires are for.
        drop(copy_bidirectional(&mut from, &mut there).await);
    }
}
