//! Load: at a fixed rate whatever becomes of it, or by so many who each wait for their answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use parking_lot::Mutex;
use tokio_util::task::TaskTracker;

use super::figures::float;

/// What came of one piece of work, and how long after it was due.
pub(super) struct Shot<T> {
    pub(super) took: Duration,
    pub(super) result: Result<T>,
}

/// Begins `count` pieces of work, `rate` a second. A piece that has to wait for its turn counts that as its time: what a
/// slow server does to those behind is part of what people feel.
pub(super) async fn open_loop<T, F, Fut>(rate: f64, count: usize, one: F) -> Result<Vec<Shot<T>>>
where
    T: Send + 'static,
    F: Fn(usize) -> Fut + Send + 'static,
    Fut: Future<Output = Result<T>> + Send + 'static,
{
    let shots = Arc::new(Mutex::new(Vec::with_capacity(count)));
    let (tracker, runtime) = (TaskTracker::new(), tokio::runtime::Handle::current());
    let (tasks, into) = (tracker.clone(), shots.clone());
    // A thread of its own: timers of the runtime are good to a millisecond only.
    let scheduling = tokio::task::spawn_blocking(move || {
        let began = Instant::now() + Duration::from_millis(5);
        for number in 0..count {
            let due = began + Duration::from_secs_f64(float(number) / rate);
            if let Some(early) = due.checked_duration_since(Instant::now()) {
                std::thread::sleep(early);
            }
            let (work, into) = (one(number), into.clone());
            let timed = async move {
                let result = work.await;
                into.lock().push(Shot { took: due.elapsed(), result });
            };
            drop(tasks.spawn_on(timed, &runtime));
        }
        tasks.close();
    });
    scheduling.await?;
    tracker.wait().await;
    let shots = std::mem::take(&mut *shots.lock());
    Ok(shots)
}

/// `count` pieces of work by `width` workers, each of whom waits for the one before; the first error ends it.
pub(super) async fn closed_loop<F, Fut>(width: usize, count: usize, one: F) -> Result<Duration>
where
    F: Fn(usize) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    let (next, one, began) = (Arc::new(AtomicUsize::new(0)), Arc::new(one), Instant::now());
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..width {
        let (next, one) = (next.clone(), one.clone());
        workers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok(());
                }
                one(number).await?;
            }
        });
    }
    while let Some(worker) = workers.join_next().await {
        let ended: Result<()> = worker?;
        ended?;
    }
    Ok(began.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_slow_answer_holds_nobody_up_and_every_piece_is_done_once() {
        let stuck = Arc::new(tokio::sync::Notify::new());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (gate, all) = (stuck.clone(), seen.clone());
        let shots = open_loop(2000.0, 50, move |number| {
            let (gate, all) = (gate.clone(), all.clone());
            async move {
                all.lock().push(number);
                // The first is answered only after the last was asked: closed loops would wait here for ever.
                match number {
                    0 => gate.notified().await,
                    49 => gate.notify_one(),
                    _ => {}
                }
                Ok(number)
            }
        });
        let shots = shots.await.unwrap();
        let mut numbers: Vec<usize> = shots.iter().map(|s| *s.result.as_ref().unwrap()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..50).collect::<Vec<_>>());
        assert_eq!(seen.lock().len(), 50);
    }

    #[tokio::test]
    async fn a_closed_loop_ends_with_the_first_error() {
        let ended = closed_loop(3, 100, |number| async move {
            anyhow::ensure!(number < 10, "the eleventh fails");
            Ok(())
        });
        assert!(ended.await.unwrap_err().to_string().contains("eleventh"));
    }
}
