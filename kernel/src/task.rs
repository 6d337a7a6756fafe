//! Tasks that somebody answers for: one that dies is noticed, all are told to stop, and all are waited for.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::store::Scope;
use crate::telemetry;

/// A task that ended when it should have gone on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{task} {why}")]
pub struct Failure {
    /// The task's name.
    pub task: String,
    /// How it ended.
    pub why: String,
}

/// Tasks of one owner. When the last handle is dropped without [`Tasks::drain`], they are dropped where they stand.
#[derive(Clone, Debug)]
pub struct Tasks(Arc<Owner>);

#[derive(Debug)]
struct Owner(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    tracker: TaskTracker,
    stop: CancellationToken,
    /// Ends the tasks at their next await, asked or not.
    kill: CancellationToken,
    failure: watch::Sender<Option<Failure>>,
    running: Mutex<Running>,
}

#[derive(Debug, Default)]
struct Running {
    next: u64,
    names: BTreeMap<u64, String>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.kill.cancel();
    }
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

impl Tasks {
    /// No task yet.
    pub fn new() -> Self {
        Self::under(CancellationToken::new())
    }

    /// No task yet; they are also told to stop when `stop` is cancelled.
    pub fn under(stop: CancellationToken) -> Self {
        Self(Arc::new(Owner(Arc::new(Shared {
            tracker: TaskTracker::new(),
            stop,
            kill: CancellationToken::new(),
            failure: watch::Sender::new(None),
            running: Mutex::default(),
        }))))
    }

    /// What tells the tasks to stop.
    pub fn stopping(&self) -> CancellationToken {
        self.0.0.stop.clone()
    }

    /// Starts a task that has to live until it is told to stop. An earlier end, or a panic at any time, is a [`Failure`].
    pub fn spawn(&self, name: impl Into<String>, work: impl Future<Output = ()> + Send + 'static) {
        let (shared, name) = (self.0.0.clone(), name.into());
        let number = shared.enter(name.clone());
        self.start(async move {
            let ended = tokio::select! {
                ended = AssertUnwindSafe(work).catch_unwind() => ended,
                () = shared.kill.cancelled() => Ok(()),
            };
            let asked = shared.stop.is_cancelled() || shared.kill.is_cancelled();
            match ended {
                Ok(()) if asked => {}
                Ok(()) => shared.failed(Failure { task: name, why: "ended, and nobody asked it to".to_owned() }),
                Err(panic) => shared.failed(Failure { task: name, why: format!("panicked: {}", panic_text(&*panic)) }),
            }
            shared.running.lock().names.remove(&number);
        });
    }

    /// Starts a piece of work that ends by itself, even if whoever asked for it goes away. None means that it panicked.
    pub fn short<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<Option<T>> {
        let shared = self.0.0.clone();
        self.start(async move {
            tokio::select! {
                ended = AssertUnwindSafe(work).catch_unwind() => ended
                    .inspect_err(|panic| tracing::error!(task = name, error = %panic_text(&**panic), "a piece of work panicked"))
                    .ok(),
                () = shared.kill.cancelled() => None,
            }
        })
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that starts tasks, and it watches how they end")]
    fn start<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        // Whoever starts it may have said for whom it works; the new task works for the same.
        tokio::spawn(self.0.0.tracker.track_future(telemetry::carried(Scope::carried(work))))
    }

    /// Waits until a task fails; the first failure stays.
    pub async fn failure(&self) -> Failure {
        let mut seen = self.0.0.failure.subscribe();
        let failed = seen.wait_for(Option::is_some).await.ok().and_then(|failure| failure.clone());
        failed.unwrap_or_else(|| Failure { task: "supervisor".to_owned(), why: "is gone".to_owned() })
    }

    /// Tells all tasks to stop and waits for them; gives the names of those that were not done in time and were dropped.
    pub async fn drain(&self, within: Duration) -> Vec<String> {
        let shared = &self.0.0;
        shared.stop.cancel();
        shared.tracker.close();
        if tokio::time::timeout(within, shared.tracker.wait()).await.is_ok() {
            return Vec::new();
        }
        let late: Vec<String> = shared.running.lock().names.values().cloned().collect();
        shared.kill.cancel();
        tracing::warn!(tasks = ?late, "some tasks did not stop in time and were dropped");
        late
    }
}

impl Shared {
    fn enter(&self, name: String) -> u64 {
        let mut running = self.running.lock();
        running.next += 1;
        let number = running.next;
        running.names.insert(number, name);
        number
    }

    fn failed(&self, failure: Failure) {
        tracing::error!(task = failure.task, error = failure.why, "a task that has to live is dead");
        self.failure.send_if_modified(|first| {
            let news = first.is_none();
            first.get_or_insert(failure);
            news
        });
    }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a value that is not text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_end_that_nobody_asked_for_is_a_failure() {
        let tasks = Tasks::new();
        tasks.spawn("relay", async {});
        assert_eq!(tasks.failure().await.to_string(), "relay ended, and nobody asked it to");
    }

    #[tokio::test]
    async fn a_panic_is_a_failure_with_its_text() {
        let tasks = Tasks::new();
        tasks.spawn("relay", async { panic!("out of {}", "paper") });
        assert_eq!(tasks.failure().await.to_string(), "relay panicked: out of paper");
    }

    #[tokio::test]
    async fn tasks_stop_when_told_and_short_ones_finish_first() {
        let tasks = Tasks::new();
        let stop = tasks.stopping();
        tasks.spawn("relay", async move { stop.cancelled().await });
        let answer = tasks.short("answer", async {
            tokio::task::yield_now().await;
            42
        });
        assert_eq!(tasks.drain(Duration::from_secs(10)).await, Vec::<String>::new());
        assert_eq!(answer.await.unwrap(), Some(42));
    }

    #[tokio::test]
    async fn a_task_that_will_not_stop_is_named_and_dropped() {
        let tasks = Tasks::new();
        let (held, dropped) = tokio::sync::oneshot::channel::<()>();
        tasks.spawn("stubborn", async move {
            std::future::pending::<()>().await;
            drop(held);
        });
        assert_eq!(tasks.drain(Duration::from_millis(10)).await, ["stubborn"]);
        assert!(dropped.await.is_err());
    }

    #[tokio::test]
    async fn dropping_the_last_handle_drops_the_tasks() {
        let tasks = Tasks::new();
        let (held, dropped) = tokio::sync::oneshot::channel::<()>();
        tasks.spawn("relay", async move {
            std::future::pending::<()>().await;
            drop(held);
        });
        drop(tasks);
        assert!(dropped.await.is_err());
    }
}
