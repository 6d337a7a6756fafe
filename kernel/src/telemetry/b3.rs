//! B3, the headers of Zipkin's world: read at the edge from callers that know nothing else, never written.

use http::{HeaderMap, HeaderName};

use super::trace::{Trace, unhex};

// Names made once: nearly every request says none of them, and would pay for reading each name.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const SINGLE: HeaderName = HeaderName::from_static("b3");
const FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");
const SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const TRACE_ID: HeaderName = HeaderName::from_static("x-b3-traceid");
const SPAN_ID: HeaderName = HeaderName::from_static("x-b3-spanid");

/// What a caller says about the trace that its request belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum CallersTrace {
    /// Nothing.
    #[default]
    Silent,
    /// Only whether the spans of a trace that begins here are wanted.
    Decided(bool),
    /// This step of a trace made the request.
    Continues(Trace),
}

impl CallersTrace {
    /// Reads W3C's `traceparent`, or else B3: the single header before the many. What does not read says nothing.
    pub fn of(headers: &HeaderMap) -> Self {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        if let Some(trace) = text(TRACEPARENT).and_then(Trace::parse) {
            return Self::Continues(trace);
        }
        if let Some(single) = text(SINGLE).and_then(single) {
            return single;
        }
        let sampled = if text(FLAGS) == Some("1") { Some(true) } else { text(SAMPLED).and_then(state) };
        let ids = text(TRACE_ID).zip(text(SPAN_ID));
        ids.and_then(|(trace, span)| step(trace, span, sampled))
            .or_else(|| sampled.map(Self::Decided))
            .unwrap_or_default()
    }

    /// The step that made the request; an empty trace if the caller names none.
    pub fn step(self) -> Trace {
        if let Self::Continues(trace) = self { trace } else { Trace::default() }
    }

    /// The step that answers the request.
    pub fn answer(self) -> Trace {
        match self {
            Self::Silent => Trace::start(),
            Self::Decided(sampled) => Trace::start_sampled(sampled),
            Self::Continues(trace) => trace.child(),
        }
    }
}

/// `trace-span`, `trace-span-state`, `trace-span-state-parent`, or the state alone.
fn single(header: &str) -> Option<CallersTrace> {
    let mut parts = header.split('-');
    let first = parts.next()?;
    let Some(span) = parts.next() else { return state(first).map(CallersTrace::Decided) };
    let sampled = match parts.next() {
        Some(word) => Some(state(word)?),
        None => None,
    };
    step(first, span, sampled)
}

/// Who says nothing of sampling leaves it to us; a continued trace cannot ask twice, so it is kept.
fn step(trace: &str, span: &str, sampled: Option<bool>) -> Option<CallersTrace> {
    // B3 allows identities of half the size; W3C wants them padded.
    let trace_id = match trace.len() {
        16 => {
            let mut padded = [0; 16];
            padded[8..].copy_from_slice(&unhex::<8>(trace)?);
            padded
        }
        _ => unhex(trace)?,
    };
    Trace::of(trace_id, unhex(span)?, sampled.unwrap_or(true)).map(CallersTrace::Continues)
}

/// `d` asks for everything there is to know.
fn state(word: &str) -> Option<bool> {
    match word {
        "1" | "d" | "true" => Some(true),
        "0" | "false" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const TRACE: &str = "80f198ee56343ba864fe8b2a57d3eff7";
    const SPAN: &str = "e457b5a2e4d86bd1";

    fn heard(headers: &[(&str, &str)]) -> CallersTrace {
        let header = |(name, value): &(&str, &str)| {
            (HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap())
        };
        CallersTrace::of(&headers.iter().map(header).collect())
    }

    fn continues(trace: &str, sampled: bool) -> CallersTrace {
        CallersTrace::Continues(Trace::of(unhex(trace).unwrap(), unhex(SPAN).unwrap(), sampled).unwrap())
    }

    #[test]
    fn b3_is_read_in_both_forms_and_in_both_sizes() {
        let (half, padded) = (&TRACE[16..], format!("{:0>32}", &TRACE[16..]));
        for (header, means) in [
            (format!("{TRACE}-{SPAN}-1-05e3ac9a4f6e3b90"), continues(TRACE, true)),
            (format!("{TRACE}-{SPAN}-d"), continues(TRACE, true)),
            (format!("{TRACE}-{SPAN}-0"), continues(TRACE, false)),
            (format!("{TRACE}-{SPAN}"), continues(TRACE, true)),
            (format!("{half}-{SPAN}-1"), continues(&padded, true)),
            ("0".to_owned(), CallersTrace::Decided(false)),
            ("1".to_owned(), CallersTrace::Decided(true)),
            (format!("{TRACE}-{SPAN}-9"), CallersTrace::Silent),
            (format!("{TRACE}-00-1"), CallersTrace::Silent),
            (format!("{}-{SPAN}-1", "0".repeat(32)), CallersTrace::Silent),
            (TRACE.to_owned(), CallersTrace::Silent),
        ] {
            assert_eq!(heard(&[("b3", &header)]), means, "{header}");
        }
        let ids = [("X-B3-TraceId", TRACE), ("X-B3-SpanId", SPAN)];
        let with = |more| heard(&[ids[0], ids[1], more]);
        assert_eq!(heard(&ids), continues(TRACE, true));
        assert_eq!(with(("X-B3-Sampled", "0")), continues(TRACE, false));
        assert_eq!(with(("X-B3-Flags", "1")), continues(TRACE, true));
        assert_eq!(heard(&[("X-B3-Sampled", "0")]), CallersTrace::Decided(false));
        assert_eq!(heard(&[("X-B3-TraceId", TRACE)]), CallersTrace::Silent, "a trace without a step");
    }

    #[test]
    fn w3c_wins_over_b3_and_the_single_header_over_the_many() {
        let w3c = "00-4bf92f3577b34da6a3ce929d0e0e4736-e457b5a2e4d86bd1-00";
        let (b3, many) = (format!("{TRACE}-{SPAN}-1"), "463ac35c9f6413ad48485a3953bb6124");
        let all = [("x-b3-traceid", many), ("x-b3-spanid", SPAN), ("b3", &b3), ("traceparent", w3c)];
        assert_eq!(heard(&all), continues(&w3c[3..35], false));
        assert_eq!(heard(&all[..3]), continues(TRACE, true));
        assert_eq!(heard(&all[..2]), continues(many, true));
        assert_eq!(heard(&[("traceparent", "nonsense"), ("b3", &b3)]), continues(TRACE, true), "what does not read");
    }

    #[test]
    fn the_answering_step_keeps_the_decision_of_the_caller() {
        let caller = continues(TRACE, true);
        assert_eq!((caller.answer().trace_id, caller.answer().sampled), (caller.step().trace_id, true));
        assert!(!CallersTrace::Decided(false).answer().sampled && CallersTrace::Decided(true).answer().sampled);
        assert!(!CallersTrace::Silent.answer().is_none() && CallersTrace::Silent.step().is_none());
    }
}
