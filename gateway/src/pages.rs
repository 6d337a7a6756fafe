//! Pages of the gateway itself: is it alive, is it ready, what did it count.

use axum::body::Body;
use axum::response::IntoResponse as _;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use kernel::http::problem::Problem;
use prometheus_client::registry::Registry;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const METRICS: HeaderValue = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// The page, if the request is for one of ours.
pub(crate) fn own<B>(
    request: &Request<B>,
    why_not_ready: impl FnOnce() -> Option<&'static str>,
    registry: &Registry,
) -> Option<Response<Body>> {
    let path = request.uri().path();
    if !matches!(path, "/livez" | "/readyz" | "/metrics") || request.method() != Method::GET {
        return None;
    }
    Some(match path {
        "/livez" => text(StatusCode::OK, "ok\n"),
        "/readyz" => match why_not_ready() {
            None => text(StatusCode::OK, "ok\n"),
            Some(why_not) => text(StatusCode::SERVICE_UNAVAILABLE, why_not),
        },
        _ => metrics(registry),
    })
}

fn text(status: StatusCode, words: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(words));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    response
}

fn metrics(registry: &Registry) -> Response<Body> {
    let mut page = String::new();
    if prometheus_client::encoding::text::encode(&mut page, registry).is_err() {
        return Problem::internal().into_response();
    }
    let mut response = Response::new(Body::from(page));
    response.headers_mut().insert(CONTENT_TYPE, METRICS);
    response
}
