//! Headers that do not pass: what only we may say, and what concerns one hop only.

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
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Names that only we may say, by prefix.
const OURS: [&str; 5] = ["x-user-", "x-org-", "x-internal-", "x-forwarded-", "x-b3-"];
/// Names that only we may say.
const OURS_EXACT: [&str; 9] = [
    "forwarded",
    "x-real-ip",
    "baggage",
    "x-auth-time",
    "x-session-id",
    "b3",
    "tracestate",
    "traceparent",
    "x-correlation-id",
];

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
    strip(headers, concerns_one_hop);
}

/// Removes the same from a request, and what only we may say, however it is spelt.
pub(crate) fn strip_request(headers: &mut HeaderMap) {
    strip(headers, |name| concerns_one_hop(name) || is_ours(name.as_str()));
}

fn strip(headers: &mut HeaderMap, unwanted: impl Fn(&HeaderName) -> bool) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // A peer must not talk us out of these.
        .filter(|name| *name != HOST && *name != AUTHORIZATION)
        .collect();
    let unwanted: Vec<HeaderName> = headers.keys().filter(|name| unwanted(name)).cloned().collect();
    for name in unwanted.into_iter().chain(named) {
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

/// The `traceparent` of this trace.
pub(crate) fn traceparent(trace: Trace) -> HeaderValue {
    HeaderValue::from_bytes(&trace.traceparent_bytes()).expect("digits and dashes")
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
    headers
        .get(CORRELATION)
        .filter(harmless)
        .cloned()
        .unwrap_or_else(|| HeaderValue::from_bytes(&trace.traceparent_bytes()[3..35]).expect("digits"))
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
            "x-correlation-id",
            "x_correlation_id",
        ] {
            headers.insert(HeaderName::try_from(name).unwrap(), HeaderValue::from_static("forged"));
        }
        headers.insert("x-userid", HeaderValue::from_static("stays"));
        headers.insert("accept", HeaderValue::from_static("stays"));
        strip_request(&mut headers);
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
}
