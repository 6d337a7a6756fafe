//! W3C trace context and the service's name, carried by the task that works on a request or an event.

use std::fmt::Write as _;
use std::sync::Arc;

use rand::Rng as _;

tokio::task_local! {
    static CURRENT: Context;
}

/// What a task knows about the work it does. Several services may share a process, so a global cannot say this.
#[derive(Clone, Default)]
struct Context {
    service: Option<Arc<str>>,
    trace: Trace,
}

fn context() -> Context {
    CURRENT.try_with(Clone::clone).unwrap_or_default()
}

/// Identity of a trace and of the span that is open in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
pub struct Trace {
    /// The same for everything one request sets off.
    pub trace_id: [u8; 16],
    /// The step that is at work.
    pub span_id: [u8; 8],
}

impl Trace {
    /// The start of a new trace.
    pub fn start() -> Self {
        let mut trace = Self::default();
        rand::rng().fill_bytes(&mut trace.trace_id);
        rand::rng().fill_bytes(&mut trace.span_id);
        trace
    }

    /// A further step of the same trace; without a trace, a new one.
    #[must_use]
    pub fn child(self) -> Self {
        if self.trace_id == [0; 16] {
            return Self::start();
        }
        let mut child = self;
        rand::rng().fill_bytes(&mut child.span_id);
        child
    }

    /// The `traceparent` header.
    pub fn traceparent(self) -> String {
        format!("00-{}-{}-01", self.trace_hex(), hex(&self.span_id))
    }

    /// The trace's identity as 32 hex digits.
    pub fn trace_hex(self) -> String {
        hex(&self.trace_id)
    }

    /// The span's identity as 16 hex digits.
    pub fn span_hex(self) -> String {
        hex(&self.span_id)
    }

    /// Reads a `traceparent`; anything that is not one is none.
    pub fn parse(header: &str) -> Option<Self> {
        let mut parts = header.trim().split('-');
        let (version, trace, span, _flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let parsed = Self { trace_id: unhex(trace)?, span_id: unhex(span)? };
        (version.len() == 2 && version != "ff" && parsed.trace_id != [0; 16] && parsed.span_id != [0; 8])
            .then_some(parsed)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        write!(out, "{byte:02x}").expect("writing to a string cannot fail");
        out
    })
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != N * 2 || !text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        return None;
    }
    let mut out = [0; N];
    for (byte, at) in out.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(out)
}

/// The trace this task works in; an empty one outside of any.
pub fn current_trace() -> Trace {
    CURRENT.try_with(|context| context.trace).unwrap_or_default()
}

/// The service this task works for; none outside of any.
pub fn current_service() -> Option<Arc<str>> {
    CURRENT.try_with(|context| context.service.clone()).ok().flatten()
}

/// Runs `work` in a trace, for the same service as before.
pub async fn in_trace<F: Future>(trace: Trace, work: F) -> F::Output {
    CURRENT.scope(Context { trace, ..context() }, work).await
}

/// Runs `work` for a service, in the same trace as before.
pub async fn in_service<F: Future>(service: impl Into<Arc<str>>, work: F) -> F::Output {
    CURRENT.scope(Context { service: Some(service.into()), ..context() }, work).await
}

/// `work` bound to the service and trace of the task that calls this, for a task of its own.
pub(crate) fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
    CURRENT.scope(context(), work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_survives_its_round_trip_and_nonsense_does_not() {
        let trace = Trace::start();
        assert_eq!(Trace::parse(&trace.traceparent()), Some(trace));
        assert_eq!(trace.child().trace_id, trace.trace_id);
        for bad in ["", "00-00-00-00", "00-00000000000000000000000000000000-0000000000000001-01", "zz"] {
            assert_eq!(Trace::parse(bad), None, "{bad}");
        }
    }

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
