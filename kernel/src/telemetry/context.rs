//! What a task knows about the work it does: for which service, in which trace. Threads and tasks take it along.

use std::sync::Arc;

use super::trace::Trace;
use super::tracer::Tracer;

tokio::task_local! {
    static CURRENT: Context;
}

/// A service as its telemetry knows it. Several may share a process, so no global can say this.
#[derive(Clone)]
pub struct Member(Arc<Known>);

struct Known {
    name: Arc<str>,
    tracer: Option<Tracer>,
}

impl Member {
    /// A service and what becomes of its spans.
    pub(super) fn new(name: &str, tracer: Option<Tracer>) -> Self {
        Self(Arc::new(Known { name: name.into(), tracer }))
    }

    /// The service that the calling task works for; none outside of any.
    pub fn here() -> Option<Self> {
        CURRENT.try_with(|context| context.member.clone()).ok().flatten()
    }
}

impl From<&str> for Member {
    /// The service of this name: the one at work if it is that, else one whose spans go nowhere.
    fn from(name: &str) -> Self {
        Self::here().filter(|here| &*here.0.name == name).unwrap_or_else(|| Self::new(name, None))
    }
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Member({})", self.0.name)
    }
}

/// Service and trace of a task.
#[derive(Clone, Default)]
pub(crate) struct Context {
    member: Option<Member>,
    trace: Trace,
}

impl Context {
    /// That of the task that calls this.
    pub(crate) fn here() -> Self {
        CURRENT.try_with(Clone::clone).unwrap_or_default()
    }

    /// The same service in another trace.
    pub(crate) fn in_trace(self, trace: Trace) -> Self {
        Self { trace, ..self }
    }

    /// `work` with this around it, wherever it is polled.
    pub(crate) fn around<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        CURRENT.scope(self.clone(), work)
    }

    /// Runs `work` with this around it.
    pub(crate) fn run<R>(self, work: impl FnOnce() -> R) -> R {
        CURRENT.sync_scope(self, work)
    }
}

/// What keeps the spans of the service at work, if anything does, and the trace it works in.
pub(super) fn tracing_here() -> (Option<Tracer>, Trace) {
    let both = |context: &Context| (context.member.as_ref().and_then(|m| m.0.tracer.clone()), context.trace);
    CURRENT.try_with(both).unwrap_or_default()
}

/// What keeps the spans of the service at work, if anything does.
pub(super) fn tracer() -> Option<Tracer> {
    tracing_here().0
}

/// The trace this task works in; an empty one outside of any.
pub fn current_trace() -> Trace {
    CURRENT.try_with(|context| context.trace).unwrap_or_default()
}

/// The service this task works for; none outside of any.
pub fn current_service() -> Option<Arc<str>> {
    Member::here().map(|member| member.0.name.clone())
}

/// Runs `work` in a trace, for the same service as before.
pub async fn in_trace<F: Future>(trace: Trace, work: F) -> F::Output {
    Context::here().in_trace(trace).around(work).await
}

/// Runs `work` for a service, in the same trace as before.
pub async fn in_service<F: Future>(member: impl Into<Member>, work: F) -> F::Output {
    Context { member: Some(member.into()), ..Context::here() }.around(work).await
}

/// `work` bound to the service and trace of the task that calls this, for a task of its own.
pub(crate) fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
    Context::here().around(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn service_and_trace_nest_and_go_along_into_a_carried_task() {
        let trace = Trace::start();
        in_service(
            "orders",
            in_trace(trace, async {
                assert_eq!((current_service().as_deref(), current_trace()), (Some("orders"), trace));
                let bound = carried(async { (current_service(), current_trace()) });
                let (service, seen) = in_service("other", bound).await;
                assert_eq!((service.as_deref(), seen), (Some("orders"), trace));
            }),
        )
        .await;
        assert_eq!(current_service(), None);
    }
}
