//! The task that sends spans to a collector: OTLP over HTTP, in batches, tried again as the protocol says.

#![expect(clippy::vec_box, reason = "a span is boxed once, where it ends, and moves on as one word")]

mod encode;

use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::exporting::{About, ExportError};
use super::settings::TraceSettings;
use super::span::Record;
use super::tracer::{SpanEnd, TraceMeasures};
use encode::Source;

/// Between tries of one batch; doubled up to the second figure.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A batch that nobody took for this long is given up, so that newer spans get their turn.
const GIVE_UP: Duration = Duration::from_secs(60);

/// How a collector took a batch.
enum Taken {
    /// All but so many.
    But(u64, String),
    /// It will not take it, ever.
    Never(String),
    /// It may take it later.
    Later(Option<Duration>, String),
}

/// Sends the spans of one service.
pub(super) struct Exporter {
    client: Client,
    target: String,
    source: Source,
    settings: TraceSettings,
    measures: TraceMeasures,
    /// The last trouble that was told, so that it is told once.
    told: Option<String>,
}

impl Exporter {
    pub(super) fn new(
        about: &About,
        settings: &TraceSettings,
        target: &str,
        measures: TraceMeasures,
    ) -> Result<Self, ExportError> {
        let client = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(settings.timeout())
            .connect_timeout(settings.timeout().min(Duration::from_secs(1)))
            .build()
            .map_err(|e| ExportError::Client(e.to_string()))?;
        let (source, settings) = (Source::of(about), settings.clone());
        Ok(Self { client, target: target.to_owned(), source, settings, measures, told: None })
    }

    /// Sends until `stop`, then what is left within the time of one request.
    pub(super) async fn run(mut self, mut spans: mpsc::Receiver<Box<Record>>, stop: CancellationToken) {
        let mut batch = Vec::new();
        while !stop.is_cancelled() {
            self.gather(&mut spans, &mut batch, &stop).await;
            self.measures.queued(spans.len());
            if !batch.is_empty() && !stop.is_cancelled() {
                self.deliver(&mut batch, &stop).await;
            }
        }
        spans.close();
        let until = Instant::now() + self.settings.timeout();
        if timeout_at(until, self.send_rest(&mut spans, &mut batch)).await.is_err() {
            self.tell("it did not answer before the service had to end");
        }
        let left = batch.len() + spans.len();
        self.measures.ended(SpanEnd::Late, left);
        self.measures.queued(0);
    }

    /// Waits for a first span, and then for company.
    async fn gather(
        &self,
        spans: &mut mpsc::Receiver<Box<Record>>,
        batch: &mut Vec<Box<Record>>,
        stop: &CancellationToken,
    ) {
        let mut until = None;
        while batch.len() < self.settings.batch {
            let room = self.settings.batch - batch.len();
            let due = async {
                match until {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = due => return,
                // Nobody is left to send spans only if the service is gone.
                taken = spans.recv_many(batch, room) => if taken == 0 { return stop.cancelled().await },
            }
            until = until.or_else(|| Some(Instant::now() + self.settings.every()));
        }
    }

    /// Sends a batch, again and again if need be; it is empty afterwards unless the service is stopping.
    async fn deliver(&mut self, batch: &mut Vec<Box<Record>>, stop: &CancellationToken) {
        let body = self.source.request(batch);
        let (began, mut pause) = (Instant::now(), FIRST_PAUSE);
        loop {
            let taken = tokio::select! {
                biased;
                taken = self.send(body.clone()) => taken,
                () = stopped_and_overdue(stop, self.settings.timeout()) => return,
            };
            let Taken::Later(wait, why) = taken else { return self.account(taken, batch) };
            self.tell(&why);
            let wait = wait.unwrap_or(pause).min(LONGEST_PAUSE);
            if began.elapsed() + wait > GIVE_UP {
                self.measures.ended(SpanEnd::Undelivered, batch.len());
                return batch.clear();
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(wait) => {}
            }
        }
    }

    /// One try for everything that is left.
    async fn send_rest(&mut self, spans: &mut mpsc::Receiver<Box<Record>>, batch: &mut Vec<Box<Record>>) {
        loop {
            while batch.len() < self.settings.batch
                && let Ok(span) = spans.try_recv()
            {
                batch.push(span);
            }
            if batch.is_empty() {
                return;
            }
            match self.send(self.source.request(batch)).await {
                Taken::Later(_, why) => return self.tell(&why),
                taken => self.account(taken, batch),
            }
        }
    }

    fn account(&mut self, taken: Taken, batch: &mut Vec<Box<Record>>) {
        let all = batch.len();
        let (refused, why) = match taken {
            Taken::But(refused, why) => (usize::try_from(refused).unwrap_or(all).min(all), why),
            Taken::Never(why) | Taken::Later(_, why) => (all, why),
        };
        self.measures.ended(SpanEnd::Exported, all - refused);
        self.measures.ended(SpanEnd::Refused, refused);
        batch.clear();
        if refused > 0 {
            self.tell(&why);
        } else if self.told.take().is_some() {
            tracing::info!(address = self.target, "the collector takes spans again");
        }
    }

    fn tell(&mut self, why: &str) {
        if self.told.as_deref() != Some(why) {
            tracing::warn!(address = self.target, %why, "the collector does not take spans; what the queue cannot hold is dropped");
            self.told = Some(why.to_owned());
        }
    }

    async fn send(&self, body: Vec<u8>) -> Taken {
        let request = self.client.post(&self.target).header(CONTENT_TYPE, "application/x-protobuf").body(body);
        // The client's own time limit ends with the head of an answer that then never comes.
        match timeout(self.settings.timeout(), async { judge(request.send().await?).await }).await {
            Ok(Ok(taken)) => taken,
            Ok(Err(error)) if error.is_connect() => Taken::Later(None, "no connection".to_owned()),
            Ok(Err(error)) if !error.is_timeout() => Taken::Later(None, "the connection broke off".to_owned()),
            Ok(Err(_)) | Err(_) => Taken::Later(None, "no answer in time".to_owned()),
        }
    }
}

/// A request under way when the service stops may still end, but not take longer than any other.
async fn stopped_and_overdue(stop: &CancellationToken, patience: Duration) {
    stop.cancelled().await;
    sleep(patience).await;
}

/// What the answer means; source: OTLP 1.9, "OTLP/HTTP Response".
async fn judge(answer: Response) -> Result<Taken, reqwest::Error> {
    let status = answer.status();
    let after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    if status.is_success() {
        let told = ExportTraceServiceResponse::decode(answer.bytes().await?).unwrap_or_default();
        let partial = told.partial_success.unwrap_or_default();
        let refused = u64::try_from(partial.rejected_spans).unwrap_or(0);
        return Ok(Taken::But(refused, format!("it refuses some of them: {}", partial.error_message)));
    }
    let why = format!("it answers {status}");
    Ok(match status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Taken::Later(after.map(Duration::from_secs), why),
        _ => Taken::Never(why),
    })
}
