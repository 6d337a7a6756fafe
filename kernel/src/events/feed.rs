//! The consumer's end of a stream: one connection per attempt, and how long to wait before the next.

use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use http::HeaderMap;
use rand::RngExt as _;
use tonic::metadata::MetadataMap;
use tonic::transport::Endpoint;
use tonic::{Code, Request, Status, Streaming};
use uuid::Uuid;

use super::Envelope;
use super::wire::{LARGEST_MESSAGE, envelope, proto};
use crate::registry::Directory;

/// Headers that prove to a publisher who is calling.
pub(crate) type Authorize = Arc<dyn Fn(&str) -> HeaderMap + Send + Sync>;

/// Why a stream did not open, or ended.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum FeedError {
    /// The publisher will go on refusing until somebody decides.
    #[error("{0}")]
    Refused(String),
    /// The publisher is not there, or left in an orderly way; it will be back.
    #[error("{0}")]
    Away(String),
    /// The connection; trying again is right.
    #[error("{0}")]
    Broken(String),
}

/// How a service reaches the outboxes of others.
#[derive(Clone)]
pub(crate) struct Link {
    /// The reading service.
    pub(crate) consumer: &'static str,
    /// Where the publishers listen.
    pub(crate) directory: Directory,
    /// Proof of who is calling.
    pub(crate) authorize: Authorize,
}

/// Everything wanted in the range (after, upto] of one outbox.
#[derive(Debug)]
pub(crate) struct Stretch {
    pub(crate) epoch: Uuid,
    pub(crate) after: i64,
    pub(crate) upto: i64,
    pub(crate) head: i64,
    pub(crate) events: Vec<Envelope>,
}

/// An open stream from one publisher.
pub(crate) struct Feed {
    publisher: String,
    stream: Streaming<proto::Batch>,
}

impl Link {
    /// Opens a stream from a publisher's instance; a nil epoch takes whatever outbox is there.
    pub(crate) async fn open(
        &self,
        publisher: &str,
        epoch: Uuid,
        after: i64,
        types: Vec<String>,
    ) -> Result<Feed, FeedError> {
        let instances = self.directory.instances(publisher);
        if instances.is_empty() {
            return Err(FeedError::Away(format!("no instance of {publisher} is listed")));
        }
        let instance = instances[rand::rng().random_range(0..instances.len())];
        // A channel of our own each time: one that reconnects by itself would hide a gap from us.
        let channel = Endpoint::from_shared(format!("http://{instance}"))
            .map_err(|e| FeedError::Broken(e.to_string()))?
            .connect_timeout(Duration::from_secs(1))
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(3))
            .keep_alive_while_idle(true)
            .connect()
            .await
            .map_err(|e| FeedError::Away(format!("{publisher} at {instance}: {}", with_cause(&e))))?;
        let epoch = if epoch.is_nil() { String::new() } else { epoch.to_string() };
        let wanted = proto::SubscribeRequest { consumer: self.consumer.to_owned(), epoch, after, types };
        let headers = MetadataMap::from_headers((self.authorize)(publisher));
        let request = Request::from_parts(headers, tonic::Extensions::default(), wanted);
        let response = proto::outbox_client::OutboxClient::new(channel)
            .max_decoding_message_size(LARGEST_MESSAGE)
            .subscribe(request)
            .await
            .map_err(|status| sort(publisher, &status))?;
        Ok(Feed { publisher: publisher.to_owned(), stream: response.into_inner() })
    }
}

fn with_cause(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {}", with_cause(cause)))
}

fn sort(publisher: &str, status: &Status) -> FeedError {
    let why = format!("{publisher}: {}", status.message());
    match status.code() {
        Code::FailedPrecondition | Code::Unauthenticated | Code::PermissionDenied | Code::InvalidArgument => {
            FeedError::Refused(why)
        }
        // Also what tonic says of a connection that closed under a stream.
        Code::Unavailable | Code::Cancelled => FeedError::Away(why),
        _ => FeedError::Broken(why),
    }
}

impl Feed {
    /// Waits for the next stretch.
    pub(crate) async fn next(&mut self) -> Result<Stretch, FeedError> {
        let batch = self.stream.next().await;
        self.read(batch)
    }

    /// The next stretch if it has been received already.
    pub(crate) fn received(&mut self) -> Option<Result<Stretch, FeedError>> {
        let batch = self.stream.next().now_or_never()?;
        Some(self.read(batch))
    }

    fn read(&self, batch: Option<Result<proto::Batch, Status>>) -> Result<Stretch, FeedError> {
        let ended = || FeedError::Away(format!("{} ended the stream", self.publisher));
        let batch = batch.ok_or_else(ended)?.map_err(|status| sort(&self.publisher, &status))?;
        let malformed = |why: String| FeedError::Broken(format!("{}: {why}", self.publisher));
        let epoch = batch.epoch.parse().map_err(|e| malformed(format!("epoch of a batch: {e}")))?;
        let events = batch.events.into_iter().map(|event| envelope(&self.publisher, event));
        let events = events.collect::<Result<Vec<_>, _>>().map_err(malformed)?;
        Ok(Stretch { epoch, after: batch.after, upto: batch.upto, head: batch.head, events })
    }
}

/// Growing waits between attempts, spread out so that consumers do not come back all at once.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, next: first }
    }

    /// The next wait, ±25 %.
    pub(crate) fn wait(&mut self) -> Duration {
        let wait = self.next.mul_f64(rand::rng().random_range(0.75..=1.25));
        self.next = (self.next * 2).min(self.most);
        wait
    }

    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}
