//! W3C trace context and the service's name, carried by the task that works on a request or an event.

use std::sync::Arc;

use rand::Rng as _;

tokio::task_local! {
    static CURRENT: Context;
}

/// What a task knows about the work it does. Several services may share a process, so a global cannot say this.
#[derive(Clone, Default)]
pub(crate) struct Context {
    service: Option<Arc<str>>,
    trace: Trace,
}

impl Context {
    /// That of the task that calls this.
    pub(crate) fn here() -> Self {
        CURRENT.try_with(Clone::clone).unwrap_or_default()
    }

    /// `work` with this around it, wherever it is polled.
    pub(crate) fn around<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        CURRENT.scope(self.clone(), work)
    }

    /// Runs `work`, which is a thread's whole life, with this around it.
    pub(crate) fn run<R>(self, work: impl FnOnce() -> R) -> R {
        CURRENT.sync_scope(self, work)
    }
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
        // One per event and per forwarded request: written in place, not formatted.
        let mut header = *b"00-................................-................-01";
        hex_into(&mut header[3..35], &self.trace_id);
        hex_into(&mut header[36..52], &self.span_id);
        text(&header)
    }

    /// The trace's identity as 32 hex digits.
    pub fn trace_hex(self) -> String {
        let mut digits = [0; 32];
        hex_into(&mut digits, &self.trace_id);
        text(&digits)
    }

    /// The span's identity as 16 hex digits.
    pub fn span_hex(self) -> String {
        let mut digits = [0; 16];
        hex_into(&mut digits, &self.span_id);
        text(&digits)
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

/// Both digits of every byte.
const PAIRS: [[u8; 2]; 256] = {
    let (digits, mut pairs, mut byte) = (b"0123456789abcdef", [[0; 2]; 256], 0);
    while byte < pairs.len() {
        pairs[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    pairs
};

fn hex_into(digits: &mut [u8], bytes: &[u8]) {
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&PAIRS[usize::from(*byte)]);
    }
}

fn text(ascii: &[u8]) -> String {
    str::from_utf8(ascii).expect("hex digits and dashes are text").to_owned()
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != N * 2 {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = (digit(pair[0])? << 4) | digit(pair[1])?;
    }
    Some(out)
}

/// Capital letters are refused: the standard wants small ones.
fn digit(letter: u8) -> Option<u8> {
    match letter {
        b'0'..=b'9' => Some(letter - b'0'),
        b'a'..=b'f' => Some(letter - b'a' + 10),
        _ => None,
    }
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
    CURRENT.scope(Context { trace, ..Context::here() }, work).await
}

/// Runs `work` for a service, in the same trace as before.
pub async fn in_service<F: Future>(service: impl Into<Arc<str>>, work: F) -> F::Output {
    CURRENT.scope(Context { service: Some(service.into()), ..Context::here() }, work).await
}

/// `work` bound to the service and trace of the task that calls this, for a task of its own.
pub(crate) fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
    Context::here().around(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_survives_its_round_trip_and_nonsense_does_not() {
        let trace = Trace::start();
        assert_eq!(Trace::parse(&trace.traceparent()), Some(trace));
        assert_eq!(trace.child().trace_id, trace.trace_id);
        let known = Trace { trace_id: *b"\x00\x01\x0f\x10\x7f\x80\xaa\xff01234567", span_id: [0xde; 8] };
        assert_eq!(known.traceparent(), "00-00010f107f80aaff3031323334353637-dededededededede-01");
        assert_eq!(known.traceparent(), format!("00-{}-{}-01", known.trace_hex(), known.span_hex()));
        let capital = known.traceparent().to_uppercase();
        for bad in [&capital, "", "00-00-00-00", "00-00000000000000000000000000000000-0000000000000001-01", "zz"] {
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
