//! How often each job ran, how it ended and how long it took; timers count under the names of their steps.

use std::sync::Arc;
use std::time::Instant;

use super::{Job, Timer};
use crate::telemetry::{Counter, Histogram, Metrics};

/// Counts runs of jobs and timers.
#[derive(Clone)]
pub(crate) struct JobMeasures {
    runs: Counter,
    duration: Histogram,
}

/// One run; dropped before it said how it ended, it was cut short: it panicked, or its lease was lost.
struct Run<'a> {
    measures: &'a JobMeasures,
    name: &'static str,
    since: Instant,
    outcome: &'static str,
}

impl JobMeasures {
    /// Declares the metrics.
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self {
            runs: metrics.counter("job_runs_total", "Runs of jobs and timers by how they ended", ["job", "outcome"]),
            duration: metrics.histogram("job_duration_seconds", "How long runs of jobs and timers took", ["job"]),
        }
    }

    /// The job with its runs counted.
    pub(crate) fn watch_job(&self, job: Job) -> Job {
        let (measures, inner, name) = (self.clone(), job.run, job.name);
        let run = move || {
            let (measures, inner) = (measures.clone(), inner.clone());
            async move {
                let mut run = measures.begun(name);
                let ended = inner().await;
                run.outcome = outcome(ended.is_ok());
                ended
            }
        };
        Job::new(name, job.trigger, run)
    }

    /// The timer with its runs counted.
    pub(crate) fn watch_timer(&self, timer: Timer) -> Timer {
        let (measures, inner, step) = (self.clone(), timer.run, timer.step);
        Timer {
            step,
            run: Arc::new(move |tx, due| {
                let (measures, inner) = (measures.clone(), inner.clone());
                Box::pin(async move {
                    let mut run = measures.begun(step);
                    let ended = inner(tx, due).await;
                    run.outcome = outcome(ended.is_ok());
                    ended
                })
            }),
        }
    }

    fn begun(&self, name: &'static str) -> Run<'_> {
        Run { measures: self, name, since: Instant::now(), outcome: "cut_short" }
    }
}

const fn outcome(well: bool) -> &'static str {
    if well { "ok" } else { "failed" }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        self.measures.runs.count(&[self.name, self.outcome]);
        self.measures.duration.observe(&[self.name], self.since.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use std::panic::AssertUnwindSafe;
    use std::time::Duration;

    use futures::FutureExt as _;

    use super::*;
    use crate::jobs::{JobError, Trigger};

    #[tokio::test]
    async fn runs_are_counted_by_how_they_ended_and_panics_too() {
        let metrics = Metrics::new("one");
        let measures = JobMeasures::new(&metrics);
        let job = |name, ends: fn() -> Result<(), JobError>| {
            let job = Job::new(name, Trigger::Every(Duration::from_secs(1)), move || async move { ends() });
            measures.watch_job(job).run
        };
        assert!(job("tidy", || Ok(()))().await.is_ok());
        assert!(job("tidy", || Err(JobError::new("no")))().await.is_err());
        assert!(AssertUnwindSafe(job("tidy", || panic!("oh"))()).catch_unwind().await.is_err());
        let text = metrics.render();
        for outcome in ["ok", "failed", "cut_short"] {
            let line = format!("job_runs_total{{service=\"one\",job=\"tidy\",outcome=\"{outcome}\"}} 1\n");
            assert!(text.contains(&line), "{line} in\n{text}");
        }
        assert!(text.contains("job_duration_seconds_count{service=\"one\",job=\"tidy\"} 3\n"), "{text}");
    }
}
