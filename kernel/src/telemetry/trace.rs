//! W3C trace context: which trace a step belongs to, as it is read and written in headers, rows and events.

use rand::Rng as _;

use super::context::tracer;

/// Identity of a trace and of the span that is open in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
pub struct Trace {
    /// The same for everything one request sets off.
    pub trace_id: [u8; 16],
    /// The step that is at work.
    pub span_id: [u8; 8],
    /// Whether whoever began the trace wants its spans kept.
    pub sampled: bool,
}

impl Trace {
    /// The start of a new trace, sampled as the service at work samples; where nobody keeps spans, not at all.
    pub fn start() -> Self {
        let mut trace = Self::start_sampled(false);
        trace.sampled = tracer().is_some_and(|tracer| tracer.samples(&trace));
        trace
    }

    /// The start of a new trace about whose spans somebody else has decided.
    pub fn start_sampled(sampled: bool) -> Self {
        let mut trace = Self { sampled, ..Self::default() };
        rand::rng().fill_bytes(&mut trace.trace_id);
        rand::rng().fill_bytes(&mut trace.span_id);
        trace
    }

    /// Whether it is no trace at all.
    pub fn is_none(self) -> bool {
        self.trace_id == [0; 16]
    }

    /// A further step of the same trace; without a trace, a new one.
    #[must_use]
    pub fn child(self) -> Self {
        if self.is_none() {
            return Self::start();
        }
        let mut child = self;
        rand::rng().fill_bytes(&mut child.span_id);
        child
    }

    /// The `traceparent` header.
    pub fn traceparent(self) -> String {
        // One per event and per forwarded request: written in place, not formatted.
        text(&self.traceparent_bytes())
    }

    /// The same as bytes, for who needs no text of their own.
    pub fn traceparent_bytes(self) -> [u8; 55] {
        let mut header = *b"00-................................-................-00";
        hex_into(&mut header[3..35], &self.trace_id);
        hex_into(&mut header[36..52], &self.span_id);
        header[54] += u8::from(self.sampled);
        header
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
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let ([version], [flags]) = (unhex(version)?, unhex(flags)?);
        // Later versions may add fields; the first one has none more, and ff is no version.
        if version == 0xff || (version == 0 && parts.next().is_some()) {
            return None;
        }
        Self::of(unhex(trace)?, unhex(span)?, flags & 1 == 1)
    }

    /// The trace of these identities, neither of which may be zero.
    pub(super) fn of(trace_id: [u8; 16], span_id: [u8; 8], sampled: bool) -> Option<Self> {
        (trace_id != [0; 16] && span_id != [0; 8]).then_some(Self { trace_id, span_id, sampled })
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

pub(super) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_survives_its_round_trip_and_nonsense_does_not() {
        for trace in [Trace::start(), Trace::start_sampled(true)] {
            assert_eq!(Trace::parse(&trace.traceparent()), Some(trace));
            assert_eq!((trace.child().trace_id, trace.child().sampled), (trace.trace_id, trace.sampled));
        }
        let trace_id = *b"\x00\x01\x0f\x10\x7f\x80\xaa\xff01234567";
        let known = Trace { trace_id, span_id: [0xde; 8], sampled: true };
        assert_eq!(known.traceparent(), "00-00010f107f80aaff3031323334353637-dededededededede-01");
        assert_eq!(known.traceparent(), format!("00-{}-{}-01", known.trace_hex(), known.span_hex()));
        let (capital, more) = (known.traceparent().to_uppercase(), known.traceparent() + "-more");
        let (later, none) = (more.replacen("00", "cc", 1), more.replacen("00", "ff", 1));
        assert_eq!(Trace::parse(&later), Some(known), "a later version may say more");
        let zero = "00-00000000000000000000000000000000-0000000000000001-01";
        for bad in [&capital, &more, &none, "", "00-00-00-00", zero, &known.traceparent()[..53], "zz"] {
            assert_eq!(Trace::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn where_nobody_keeps_spans_no_trace_asks_others_to() {
        assert!(Trace::start().traceparent().ends_with("-00"));
        let asked = Trace::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
        assert!(asked.child().traceparent().ends_with("-01"), "what the caller decided goes on");
    }
}
