//! Waiting for the word to stop: a signal, or the end of the process that started this one.

use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{SignalKind, signal};

/// Resolves on Ctrl-C or SIGTERM; with a parent also when standard input ends, which it does when the parent is gone.
pub(super) async fn told_to_stop(with_parent: bool) {
    let mut terminate = signal(SignalKind::terminate()).expect("a process may listen for its signals");
    let orphaned = async {
        if !with_parent {
            return std::future::pending().await;
        }
        let mut nothing = [0_u8; 64];
        while tokio::io::stdin().read(&mut nothing).await.is_ok_and(|read| read > 0) {}
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
        () = orphaned => {}
    }
}
