//! Threads that each serve a share of the connections with a runtime of their own: what one request sets off is done by
//! the thread that read it, and none is woken to look for work that another has.

use std::cell::Cell;
use std::sync::LazyLock;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

thread_local! {
    static HERE: Cell<usize> = const { Cell::new(0) };
}

/// Which lane the calling thread is; 0 where it is none.
pub(crate) fn here() -> usize {
    HERE.get()
}

/// Lanes, until they are dropped.
pub(crate) struct Lanes {
    handles: Vec<Handle>,
    closing: CancellationToken,
}

impl Lanes {
    /// Opens so many, at most one for each core; 0 is one for each.
    pub(crate) fn open(wanted: usize) -> Self {
        let closing = CancellationToken::new();
        let many = if wanted == 0 { count() } else { wanted.min(count()) };
        let handles = (1..=many).map(|number| lane(number, closing.clone())).collect();
        Self { handles, closing }
    }

    /// Where a connection may be served.
    pub(crate) fn handles(&self) -> &[Handle] {
        &self.handles
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

/// As many as there were cores when somebody asked first: what is kept by lane has a place for each.
pub(crate) fn count() -> usize {
    static COUNT: LazyLock<usize> = LazyLock::new(|| thread::available_parallelism().map_or(1, usize::from));
    *COUNT
}

fn lane(number: usize, closing: CancellationToken) -> Handle {
    let runtime = Builder::new_current_thread().enable_all().build().expect("the system gives a process its sockets");
    let handle = runtime.handle().clone();
    let drive = move || {
        HERE.set(number);
        runtime.block_on(closing.cancelled());
        // A page of metrics that is still being made holds nobody up.
        runtime.shutdown_background();
    };
    let thread = thread::Builder::new().name(format!("door {number}")).spawn(drive);
    drop(thread.expect("the system gives a process its threads"));
    handle
}
