//! The one shape of an error answer: RFC 9457 with a stable code and the trace it belongs to.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use axum::body::Body;
use axum::response::IntoResponse;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::telemetry::{Trace, current_trace};

/// The media type of every error.
pub const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// What is wrong with one field of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// JSON pointer to the field, such as `/lines/0/quantity`.
    pub pointer: String,
    /// What is wrong with it.
    pub message: String,
}

/// A refusal or a failure, as the caller sees it.
#[derive(Clone, Debug)]
pub struct Problem {
    /// HTTP status.
    pub status: u16,
    /// Stable code; callers branch on it.
    pub code: Cow<'static, str>,
    /// The status in words.
    pub title: Cow<'static, str>,
    /// What happened, for people.
    pub detail: Cow<'static, str>,
    /// Fields that are wrong.
    pub errors: Vec<FieldError>,
    /// When to come back.
    pub retry_after: Option<Duration>,
    /// Further members of the document.
    pub extra: Map<String, Value>,
    /// Further headers of the answer.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The trace it belongs to; without one, that of the task.
    pub trace: Option<Trace>,
}

impl Problem {
    /// A problem with this status, code and explanation.
    pub fn new(status: u16, code: impl Into<Cow<'static, str>>, detail: impl Into<Cow<'static, str>>) -> Self {
        let title = StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or("Error");
        Self {
            status,
            code: code.into(),
            title: Cow::Borrowed(title),
            detail: detail.into(),
            errors: Vec::new(),
            retry_after: None,
            extra: Map::new(),
            headers: Vec::new(),
            trace: None,
        }
    }

    /// A failure that is nobody else's business: 500 and nothing but the trace.
    pub fn internal() -> Self {
        Self::new(500, "internal", "something went wrong on our side; the trace id finds it in the log")
    }

    /// Tells the caller when to come back, in whole seconds rounded up.
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Adds a member to the document.
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.extra.insert(key.to_owned(), value.into());
        self
    }

    /// Names a field that is wrong.
    pub fn field(mut self, pointer: impl Into<String>, message: impl Into<String>) -> Self {
        self.errors.push(FieldError { pointer: pointer.into(), message: message.into() });
        self
    }

    /// Adds a header to the answer.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Says which trace it belongs to, where no task carries one.
    pub fn traced(mut self, trace: Trace) -> Self {
        self.trace = Some(trace);
        self
    }

    /// The document, as it goes over the wire.
    pub fn to_json(&self) -> Value {
        let mut document = self.extra.clone();
        document.insert("type".to_owned(), format!("/problems/{}", self.code).into());
        document.insert("title".to_owned(), self.title.as_ref().into());
        document.insert("status".to_owned(), self.status.into());
        document.insert("code".to_owned(), self.code.as_ref().into());
        document.insert("detail".to_owned(), self.detail.as_ref().into());
        let trace = self.trace.unwrap_or_else(current_trace);
        if trace != Trace::default() {
            document.insert("trace_id".to_owned(), trace.trace_hex().into());
        }
        if !self.errors.is_empty() {
            document.insert("errors".to_owned(), serde_json::json!(self.errors));
        }
        Value::Object(document)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.to_json().to_string()));
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, PROBLEM_JSON);
        // An error describes this moment; a cache that keeps it would lie later.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(after) = self.retry_after {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        headers.extend(self.headers);
        response
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.status, self.code, self.detail)
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_shows_its_code_its_fields_and_when_to_come_back() {
        let trace = Trace::start();
        let problem = Problem::new(422, "invalid", "look at the fields")
            .field("/lines/0", "is empty")
            .with("current", "PLACED")
            .retry_after(Duration::from_millis(1200))
            .traced(trace);
        let document = problem.to_json();
        assert_eq!(document["type"], "/problems/invalid");
        assert_eq!(document["title"], "Unprocessable Entity");
        assert_eq!(document["errors"][0]["pointer"], "/lines/0");
        assert_eq!(document["current"], "PLACED");
        assert_eq!(document["trace_id"], trace.trace_hex());
        let response = problem.into_response();
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        assert_eq!(response.headers()[RETRY_AFTER], "2");
    }
}
