//! Which pages of other sites may call us, and what they may see.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
    HeaderMap, HeaderValue, VARY,
};

/// The rule for pages of other sites; without origins, none may call.
#[derive(Clone, Debug)]
pub struct Cors {
    /// Origins such as `https://console.example`; `*` is any.
    pub origins: Vec<String>,
    /// Whether such pages may send cookies; not for `*`.
    pub credentials: bool,
    /// Headers that such pages may send.
    pub headers: String,
    /// How long a browser may remember this, in seconds.
    pub max_age: u32,
}

impl Default for Cors {
    fn default() -> Self {
        Self {
            origins: Vec::new(),
            credentials: false,
            headers:
                "authorization, content-type, idempotency-key, if-match, if-none-match, x-correlation-id, traceparent"
                    .to_owned(),
            max_age: 600,
        }
    }
}

const EXPOSED: HeaderValue = HeaderValue::from_static(
    "etag, location, retry-after, ratelimit, ratelimit-policy, x-correlation-id, traceparent, idempotent-replayed",
);

impl Cors {
    fn allowed(&self, origin: &HeaderValue) -> Option<HeaderValue> {
        let any = !self.credentials && self.origins.iter().any(|known| known == "*");
        if any {
            return Some(HeaderValue::from_static("*"));
        }
        self.origins.iter().any(|known| known.as_bytes() == origin.as_bytes()).then(|| origin.clone())
    }

    /// Replaces whatever an upstream said with what we say.
    pub(crate) fn apply(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        for name in [ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_EXPOSE_HEADERS] {
            headers.remove(name);
        }
        if self.origins.is_empty() {
            return;
        }
        headers.append(VARY, HeaderValue::from_static("origin"));
        if let Some(allowed) = origin.and_then(|origin| self.allowed(origin)) {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
            if self.credentials {
                headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            }
        }
    }

    /// Adds to an answer to OPTIONS what a browser asks before it lets a page call.
    pub(crate) fn preflight(
        &self,
        asked: &HeaderMap,
        origin: Option<&HeaderValue>,
        allow: &HeaderValue,
        headers: &mut HeaderMap,
    ) {
        let known = origin.is_some_and(|origin| self.allowed(origin).is_some());
        if !known || !asked.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
            return;
        }
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, allow.clone());
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(self.max_age));
        if let Ok(names) = HeaderValue::from_str(&self.headers) {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names);
        }
    }
}
