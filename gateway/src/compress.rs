//! Smaller answers for those who ask: text of known length over a kilobyte, never a stream.

use std::io;

use async_compression::Level;
use async_compression::tokio::bufread::{BrotliEncoder, GzipEncoder};
use axum::body::Body;
use futures::TryStreamExt as _;
use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, VARY,
};
use http::{HeaderMap, HeaderValue, Response};
use tokio_util::io::{ReaderStream, StreamReader};

/// Below this a smaller body does not pay for the work.
const WORTH_IT: u64 = 1024;

/// A coding that the caller takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Brotli,
    Gzip,
}

/// The best coding that the caller takes, if any.
pub(crate) fn accepted(headers: &HeaderMap) -> Option<Coding> {
    let text = headers.get(ACCEPT_ENCODING)?.to_str().ok()?;
    let takes = |name: &str| {
        text.split(',').any(|item| {
            let (coding, weight) = item.split_once(';').unwrap_or((item, ""));
            let zero =
                weight.trim().strip_prefix("q=").is_some_and(|q| q.trim().parse::<f32>().is_ok_and(|q| q <= 0.0));
            coding.trim().eq_ignore_ascii_case(name) && !zero
        })
    };
    if takes("br") { Some(Coding::Brotli) } else { takes("gzip").then_some(Coding::Gzip) }
}

fn is_text(headers: &HeaderMap) -> bool {
    let Some(media) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return false };
    let media = media.split(';').next().unwrap_or_default().trim();
    let text = media.starts_with("text/") && media != "text/event-stream";
    text || media.ends_with("json")
        || media.ends_with("xml")
        || matches!(media, "application/javascript" | "application/graphql")
}

fn worth_it(headers: &HeaderMap) -> bool {
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let fixed =
        headers.get(CACHE_CONTROL).is_some_and(|value| value.to_str().is_ok_and(|text| text.contains("no-transform")));
    length.is_some_and(|length| length >= WORTH_IT)
        && !fixed
        && !headers.contains_key(CONTENT_ENCODING)
        && !headers.contains_key(CONTENT_RANGE)
        && is_text(headers)
}

/// Compresses the answer if that is worth it. The entity tag stays: it is the version of the row, which writers send back.
pub(crate) fn compress(mut response: Response<Body>, coding: Option<Coding>) -> Response<Body> {
    if !worth_it(response.headers()) {
        return response;
    }
    response.headers_mut().append(VARY, HeaderValue::from_static("accept-encoding"));
    let Some(coding) = coding else { return response };
    let (mut parts, body) = response.into_parts();
    let name = match coding {
        Coding::Brotli => "br",
        Coding::Gzip => "gzip",
    };
    parts.headers.insert(CONTENT_ENCODING, HeaderValue::from_static(name));
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.remove(ACCEPT_RANGES);
    let plain = StreamReader::new(body.into_data_stream().map_err(io::Error::other));
    let body = match coding {
        // Quality 4 of 11: most of the gain for a tenth of the time.
        Coding::Brotli => Body::from_stream(ReaderStream::new(BrotliEncoder::with_quality(plain, Level::Precise(4)))),
        Coding::Gzip => Body::from_stream(ReaderStream::new(GzipEncoder::with_quality(plain, Level::Precise(5)))),
    };
    Response::from_parts(parts, body)
}
