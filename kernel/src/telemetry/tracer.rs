//! Whose spans are kept: a bounded queue per service. What does not fit is dropped and counted; nobody waits.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter as Count;
use prometheus_client::metrics::gauge::Gauge as Level;
use tokio::sync::mpsc;

use super::metrics::{Label, Metrics};
use super::span::Record;
use super::trace::Trace;
use crate::clock::Clock;

/// Takes the spans of one service. Clones feed the same queue.
#[derive(Clone)]
pub(super) struct Tracer(Arc<Shared>);

struct Shared {
    clock: Clock,
    /// Traces whose identity is below this are kept.
    below: u64,
    queue: mpsc::Sender<Box<Record>>,
    measures: TraceMeasures,
}

impl Tracer {
    /// A tracer that keeps this share of the traces that begin here, and at most `queue` spans at once; and their other end.
    pub(super) fn new(
        clock: Clock,
        ratio: f64,
        queue: usize,
        measures: TraceMeasures,
    ) -> (Self, mpsc::Receiver<Box<Record>>) {
        let (queue, spans) = mpsc::channel(queue.max(1));
        (Self(Arc::new(Shared { clock, below: below(ratio), queue, measures })), spans)
    }

    /// Whether a trace that begins here is kept. Decided by its identity, so that all who ask decide alike.
    pub(super) fn samples(&self, trace: &Trace) -> bool {
        let low = trace.trace_id[8..].try_into().expect("the second half of sixteen bytes");
        u64::from_be_bytes(low) >> 1 < self.0.below
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Hands in a span that has ended.
    pub(super) fn take(&self, span: Box<Record>) {
        match self.0.queue.try_send(span) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => self.0.measures.ended(SpanEnd::QueueFull, 1),
            Err(mpsc::error::TrySendError::Closed(_)) => self.0.measures.ended(SpanEnd::Late, 1),
        }
    }
}

/// The same bound as OpenTelemetry's `TraceIdRatioBased`, so that neighbours with its libraries keep the same traces.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between zero and two to the 63rd")]
fn below(ratio: f64) -> u64 {
    const ALL: f64 = 9_223_372_036_854_775_808.0;
    (ratio.clamp(0.0, 1.0) * ALL) as u64
}

/// What became of spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SpanEnd {
    /// The collector took it.
    Exported,
    /// It came while the queue was full.
    QueueFull,
    /// The collector will not take it.
    Refused,
    /// The collector could not be reached for too long.
    Undelivered,
    /// The service ended before it was sent.
    Late,
}

/// Spans by what became of them, and how many wait.
#[derive(Clone, Debug)]
pub(super) struct TraceMeasures {
    exported: Count,
    queue_full: Count,
    refused: Count,
    undelivered: Count,
    late: Count,
    queued: Level,
}

impl TraceMeasures {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let spans = metrics.counter("trace_spans_total", "Spans by what became of them", ["outcome"]);
        let queued = metrics.gauge("trace_spans_queued", "Spans that wait to be sent", [] as [Label; 0]);
        Self {
            exported: spans.at(&["exported"]),
            queue_full: spans.at(&["queue_full"]),
            refused: spans.at(&["refused"]),
            undelivered: spans.at(&["undelivered"]),
            late: spans.at(&["late"]),
            queued: queued.at(&[]),
        }
    }

    /// So many spans ended like this.
    pub(super) fn ended(&self, end: SpanEnd, spans: usize) {
        let count = match end {
            SpanEnd::Exported => &self.exported,
            SpanEnd::QueueFull => &self.queue_full,
            SpanEnd::Refused => &self.refused,
            SpanEnd::Undelivered => &self.undelivered,
            SpanEnd::Late => &self.late,
        };
        count.inc_by(u64::try_from(spans).unwrap_or(u64::MAX));
    }

    /// So many wait now.
    #[cfg(feature = "otlp")]
    pub(super) fn queued(&self, spans: usize) {
        self.queued.set(i64::try_from(spans).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Member, Name, Role, Span, in_service};

    fn tracer(ratio: f64, queue: usize) -> (Tracer, mpsc::Receiver<Box<Record>>, Metrics) {
        let metrics = Metrics::new("one");
        let (tracer, spans) = Tracer::new(Clock::system(), ratio, queue, TraceMeasures::new(&metrics));
        (tracer, spans, metrics)
    }

    #[test]
    fn the_share_of_traces_that_is_kept_is_the_ratio_and_the_same_for_all_who_ask() {
        let traces: Vec<Trace> = (0..4000).map(|_| Trace::start_sampled(false)).collect();
        let kept = |ratio: f64| {
            let (one, other) = (tracer(ratio, 1).0, tracer(ratio, 1).0);
            assert!(traces.iter().all(|trace| one.samples(trace) == other.samples(trace)));
            traces.iter().filter(|trace| one.samples(trace)).count()
        };
        assert_eq!((kept(0.0), kept(1.0)), (0, traces.len()));
        // Six standard deviations of a fair draw of 4000.
        assert!((836..=1164).contains(&kept(0.25)), "{}", kept(0.25));
    }

    #[test]
    fn what_the_queue_cannot_hold_is_dropped_and_counted_at_once() {
        let (tracer, spans, metrics) = tracer(1.0, 2);
        let member = Member::new("one", Some(tracer));
        let five = async {
            for _ in 0..5 {
                let root = Trace::start();
                drop(Span::at(root, Trace::default(), Role::Internal, Name("step", "")));
            }
        };
        // Nobody takes from the queue: whoever waited for room would wait for ever.
        futures::executor::block_on(in_service(member, five));
        assert_eq!(spans.len(), 2);
        assert!(metrics.render().contains("trace_spans_total{service=\"one\",outcome=\"queue_full\"} 3\n"));
    }
}
