//! Headers that do not pass: what only we may say, and what concerns one hop only. And the trace they begin.

use http::header::{
    AUTHORIZATION, CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use kernel::telemetry::Trace;

/// W3C trace context.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The caller's own name for a request.
pub(crate) const CORRELATION: HeaderName = HeaderName::from_static("x-correlation-id");
/// The address a request came from.
pub(crate) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The scheme a request came by.
pub(crate) const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const B3: HeaderName = HeaderName::from_static("b3");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Names that only we may say, by prefix.
const OURS: [&str; 5] = ["x-user-", "x-org-", "x-internal-", "x-forwarded-", "x-b3-"];
/// Names that only we may say.
const OURS_EXACT: [&str; 8] =
    ["forwarded", "x-real-ip", "baggage", "x-auth-time", "x-session-id", "b3", "tracestate", "traceparent"];

fn is_ours(name: &str) -> bool {
    // Nearly all names stop here; the rest is for names that could be one of ours.
    if !matches!(name.as_bytes().first(), Some(b'x' | b'f' | b'b' | b't')) {
        return false;
    }
    let dashed = if name.contains('_') { name.replace('_', "-") } else { return is_ours_dashed(name) };
    is_ours_dashed(&dashed)
}

fn is_ours_dashed(name: &str) -> bool {
    OURS.iter().any(|prefix| name.starts_with(prefix)) || OURS_EXACT.contains(&name)
}

fn concerns_one_hop(name: &HeaderName) -> bool {
    [
        &CONNECTION,
        &KEEP_ALIVE,
        &PROXY_CONNECTION,
        &PROXY_AUTHENTICATE,
        &PROXY_AUTHORIZATION,
        &TE,
        &TRAILER,
        &TRANSFER_ENCODING,
        &UPGRADE,
    ]
    .contains(&name)
}

/// Removes what concerns one hop only, also what the peer named as such.
pub(crate) fn strip_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // A peer must not talk us out of these.
        .filter(|name| *name != HOST && *name != AUTHORIZATION)
        .collect();
    remove_all(headers, concerns_one_hop);
    for name in named {
        headers.remove(name);
    }
}

/// Removes what only we may say, however it is spelt.
pub(crate) fn strip_ours(headers: &mut HeaderMap) {
    remove_all(headers, |name| is_ours(name.as_str()));
}

fn remove_all(headers: &mut HeaderMap, unwanted: impl Fn(&HeaderName) -> bool) {
    let names: Vec<HeaderName> = headers.keys().filter(|name| unwanted(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// Whether the peer asks for another protocol that we pass through.
pub(crate) fn wants_websocket(headers: &HeaderMap) -> bool {
    headers.get(UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
        && headers
            .get(CONNECTION)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.split(',').any(|token| token.trim().eq_ignore_ascii_case("upgrade")))
}

/// The trace a request belongs to: W3C or a single B3 header if it brings one, else a new one.
pub(crate) fn trace_of(headers: &HeaderMap) -> Trace {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    text(&TRACEPARENT)
        .and_then(Trace::parse)
        .or_else(|| text(&B3).and_then(from_b3))
        .map_or_else(Trace::start, Trace::child)
}

fn from_b3(header: &str) -> Option<Trace> {
    let mut parts = header.split('-');
    let (trace, span) = (parts.next()?, parts.next()?);
    // B3 allows half-size trace ids; W3C wants them padded.
    Trace::parse(&format!("00-{trace:0>32}-{span}-01"))
}

/// The `traceparent` of this trace.
pub(crate) fn traceparent(trace: Trace) -> HeaderValue {
    let mut text = *b"00-00000000000000000000000000000000-0000000000000000-01";
    write_hex(&trace.trace_id, &mut text[3..35]);
    write_hex(&trace.span_id, &mut text[36..52]);
    HeaderValue::from_bytes(&text).expect("digits and dashes")
}

fn write_hex(bytes: &[u8], out: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, pair) in bytes.iter().zip(out.chunks_exact_mut(2)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

/// The caller's name for this request if it is a harmless one, else the trace's.
pub(crate) fn correlation(headers: &HeaderMap, trace: Trace) -> HeaderValue {
    let harmless = |value: &&HeaderValue| {
        (1..=64).contains(&value.len())
            && value
                .as_bytes()
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':'))
    };
    headers.get(CORRELATION).filter(harmless).cloned().unwrap_or_else(|| {
        let mut text = [0; 32];
        write_hex(&trace.trace_id, &mut text);
        HeaderValue::from_bytes(&text).expect("digits")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_our_headers_goes_and_others_stay() {
        let mut headers = HeaderMap::new();
        for name in [
            "X-User-Id",
            "x_user_id",
            "X-User_Roles",
            "x-org-ids",
            "X_ORG_IDS",
            "x-internal-assertion",
            "x-forwarded-for",
            "X_Forwarded_Host",
            "forwarded",
            "x-real-ip",
            "x_real_ip",
            "baggage",
            "x-auth-time",
            "x_session_id",
            "b3",
            "x-b3-traceid",
            "traceparent",
        ] {
            headers.insert(HeaderName::try_from(name).unwrap(), HeaderValue::from_static("forged"));
        }
        headers.insert("x-userid", HeaderValue::from_static("stays"));
        headers.insert("accept", HeaderValue::from_static("stays"));
        strip_ours(&mut headers);
        assert_eq!(headers.len(), 2, "{headers:?}");
    }

    #[test]
    fn a_peer_names_further_headers_of_one_hop_but_not_host() {
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, HeaderValue::from_static("close, X-Mine, Host"));
        headers.insert("x-mine", HeaderValue::from_static("1"));
        headers.insert(HOST, HeaderValue::from_static("a"));
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        strip_hop(&mut headers);
        assert_eq!(headers.keys().collect::<Vec<_>>(), [&HOST]);
    }

    #[test]
    fn a_trace_is_continued_from_either_format() {
        let mut headers = HeaderMap::new();
        headers.insert(B3, HeaderValue::from_static("463ac35c9f6413ad-0020000000000001-1"));
        assert_eq!(trace_of(&headers).trace_hex(), "0000000000000000463ac35c9f6413ad");
        let parent = Trace::start();
        headers.insert(TRACEPARENT, traceparent(parent));
        assert_eq!(traceparent(parent), parent.traceparent());
        assert_eq!(trace_of(&headers).trace_id, parent.trace_id);
    }
}
