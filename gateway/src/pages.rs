//! Pages of the gateway itself: is it alive, is it ready, what did it count.

use axum::body::Body;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use kernel::telemetry::Metrics;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// The page, if the request is for one of ours.
pub(crate) async fn own<B>(
    request: &Request<B>,
    why_not_ready: impl FnOnce() -> Option<&'static str>,
    metrics: &Metrics,
) -> Option<Response<Body>> {
    let path = request.uri().path();
    if !matches!(path, "/livez" | "/readyz" | "/metrics") || request.method() != Method::GET {
        return None;
    }
    Some(match path {
        "/livez" => text(StatusCode::OK, TEXT, "ok\n"),
        "/readyz" => match why_not_ready() {
            None => text(StatusCode::OK, TEXT, "ok\n"),
            Some(why_not) => text(StatusCode::SERVICE_UNAVAILABLE, TEXT, why_not),
        },
        _ => {
            let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok());
            let (kind, page) = metrics.page(accept).await;
            text(StatusCode::OK, HeaderValue::from_static(kind), page)
        }
    })
}

fn text(status: StatusCode, kind: HeaderValue, words: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(words.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
