//! Taking requests apart: bodies with a size, a time and a shape, keyed calls, and the caller's API key.
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::{constant_time, digest};
use axum::body::{Bytes, to_bytes};
use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;
use serde::de::DeserializeOwned;

use crate::idempotency::Call;
use crate::network::Network;
use crate::problem::{Code, Problem};

const LARGEST_BODY: usize = 64 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(15);

/// A JSON body of the documented shape.
pub(crate) struct Body<T>(pub(crate) T);

/// A JSON body that came with an idempotency key.
pub(crate) struct Keyed<T> {
    pub(crate) call: Call,
    pub(crate) body: T,
}

/// The body of a call that needs none: nothing or `{}`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        Ok(Self(parse(&read_body(request).await?)?))
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Keyed<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let key = idempotency_key(request.headers())?;
        let route = format!("{} {}", request.method(), request.uri());
        let bytes = read_body(request).await?;
        let body = parse(&bytes)?;
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(route.as_bytes());
        hash.update(&[0]);
        hash.update(&bytes);
        let fingerprint = hash.finish().as_ref().iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        Ok(Self { call: Call { key, fingerprint }, body })
    }
}

async fn read_body(request: Request) -> Result<Bytes, Problem> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let is_json = kind.is_some_and(|kind| {
        kind.split(';').next().is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
    });
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    if announced.and_then(|length| length.parse::<usize>().ok()).is_some_and(|length| length > LARGEST_BODY) {
        return Err(Code::BodyTooLarge.into());
    }
    let reading = to_bytes(request.into_body(), LARGEST_BODY);
    let bytes = tokio::time::timeout(BODY_TIMEOUT, reading).await.map_err(|_| Code::RequestTimeout)?;
    let bytes = bytes.map_err(|_| Code::BodyTooLarge)?;
    if bytes.is_empty() {
        return Ok(Bytes::from_static(b"{}"));
    }
    if is_json { Ok(bytes) } else { Err(Code::UnsupportedMediaType.into()) }
}

/// Names the place of a mistake, never the text found there: it may be a card number.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| {
        let place = format!("at line {} column {}", error.line(), error.column());
        let code = if error.is_data() { Code::InvalidBody } else { Code::MalformedJson };
        Problem::with_detail(code, place)
    })
}

fn idempotency_key(headers: &HeaderMap) -> Result<String, Problem> {
    let mut given = headers.get_all("idempotency-key").iter();
    let first = given.next().ok_or(Code::IdempotencyKeyRequired)?;
    if given.any(|other| other != first) {
        return Err(Problem::with_detail(Code::IdempotencyKeyInvalid, "two different keys were given"));
    }
    match first.to_str() {
        Ok(key) if (1..=255).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic()) => Ok(key.to_owned()),
        _ => Err(Code::IdempotencyKeyInvalid.into()),
    }
}

/// Lets only callers with the API key pass.
pub(crate) async fn require_api_key(
    State(network): State<Arc<Network>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let key = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    let fits = |good: &String| constant_time::verify_slices_are_equal(key.as_bytes(), good.as_bytes()).is_ok();
    if !network.api_key.accepted().iter().any(fits) {
        return Err(Code::Unauthorized.into());
    }
    Ok(next.run(request).await)
}
