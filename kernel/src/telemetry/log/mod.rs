//! Log lines: one JSON object each, with the same seven fields everywhere, and nothing in them that must stay secret.

mod record;
mod sink;

use std::collections::BTreeSet;
use std::io::{IsTerminal as _, Write};
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::{EnvFilter, Registry};

use crate::task::panic_text;
use record::{Fields, Record};
use sink::Sink;

/// Field names that are safe and useful anywhere; a service adds its own with [`Options::fields`].
const PLAIN: &[&str] = &[
    "address",
    "after",
    "again_in_s",
    "aggregate",
    "attempt",
    "attempts",
    "breaker",
    "bytes",
    "caller",
    "check",
    "clean",
    "code",
    "consumer",
    "count",
    "database",
    "detail",
    "duration_ms",
    "entity",
    "epoch",
    "error",
    "event",
    "event_id",
    "event_type",
    "failure",
    "file",
    "halt",
    "header",
    "job",
    "kind",
    "last4",
    "lease",
    "left",
    "limit",
    "method",
    "open",
    "org",
    "outcome",
    "owner",
    "peer",
    "pid",
    "place",
    "position",
    "problem",
    "publisher",
    "reason",
    "retry_after_s",
    "route",
    "seq",
    "shard",
    "signal",
    "statement",
    "status",
    "step",
    "subject",
    "task",
    "tasks",
    "topic",
    "upstream",
    "version",
    "waited_ms",
    "why",
];

/// Where lines go.
#[derive(Clone)]
pub enum Output {
    /// Standard error of the process.
    Stderr,
    /// A file for each service in this folder.
    Folder(PathBuf),
    /// Anything else that takes bytes.
    Writer(Arc<Mutex<dyn Write + Send>>),
}

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people on a terminal, JSON everywhere else.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// One short line for people.
    Human,
}

/// How a process logs.
#[derive(Clone)]
pub struct Options {
    /// What lines from outside of any service say.
    pub service: String,
    /// What is logged, such as `info` or `info,kernel::jobs=debug`.
    pub level: String,
    /// Where to.
    pub output: Output,
    /// How.
    pub format: Format,
    /// Names of further fields that may stand in the context; others are withheld, and named as such.
    pub fields: Vec<&'static str>,
}

impl Options {
    /// Lines of level `info` to standard error.
    pub fn new(service: impl Into<String>) -> Self {
        Self {
            service: service.into(),
            level: "info".to_owned(),
            output: Output::Stderr,
            format: Format::Auto,
            fields: Vec::new(),
        }
    }
}

/// The logger could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The level does not read.
    #[error("the log level {level}: {why}")]
    Level {
        /// As it was given.
        level: String,
        /// What is wrong with it.
        why: String,
    },
    /// There is one logger per process, and it is there already.
    #[error("this process has a logger already")]
    Twice,
}

/// Makes this process log, its panics included. It is one logger for all its services; each line says whose it is.
pub fn install(options: Options) -> Result<(), InstallError> {
    let filter = EnvFilter::try_new(&options.level)
        .map_err(|e| InstallError::Level { level: options.level.clone(), why: e.to_string() })?;
    let subscriber = Registry::default().with(filter).with(Log::new(options));
    tracing::subscriber::set_global_default(subscriber).map_err(|_| InstallError::Twice)?;
    // What a panic says goes through the same rules as any line, and is read by the same programs.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        tracing::error!(error = panic_text(panic.payload()), place, "a thread panicked");
    }));
    Ok(())
}

/// The layer that writes the lines.
pub struct Log {
    service: Arc<str>,
    human: bool,
    plain: BTreeSet<String>,
    sink: Sink,
}

impl Log {
    /// A layer that ignores the options' level: filtering is another layer's.
    pub fn new(options: Options) -> Self {
        let human = match options.format {
            Format::Json => false,
            Format::Human => true,
            Format::Auto => matches!(options.output, Output::Stderr) && std::io::stderr().is_terminal(),
        };
        let plain = PLAIN.iter().copied().chain(options.fields).map(record::camel).collect();
        Self { service: options.service.into(), human, plain, sink: Sink::new(options.output) }
    }
}

impl<S: Subscriber> Layer<S> for Log {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::new(&self.plain);
        event.record(&mut fields);
        let service = super::current_service().unwrap_or_else(|| self.service.clone());
        let record = Record::new(event.metadata(), &service, fields);
        let line = if self.human { record.for_people() } else { record.json() };
        self.sink.write(&service, &line);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::telemetry::{Trace, in_service, in_trace};

    type Written = Arc<Mutex<Vec<u8>>>;

    fn logging(options: Options) -> tracing::subscriber::DefaultGuard {
        tracing::subscriber::set_default(Registry::default().with(Log::new(options)))
    }

    fn to_memory() -> (Options, Written) {
        let written = Written::default();
        let mut options = Options::new("city");
        options.output = Output::Writer(written.clone());
        options.fields = vec!["order_id", "amount", "currency", "masked_card", "email", "phone"];
        (options, written)
    }

    fn lines(written: &Written) -> Vec<Value> {
        let bytes = written.lock();
        std::str::from_utf8(&bytes).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[tokio::test]
    async fn a_line_has_exactly_the_seven_fields_and_knows_service_and_trace() {
        let (options, written) = to_memory();
        let _guard = logging(options);
        let trace = Trace::start();
        let work = async {
            tracing::info!(
                order_id = "o-1",
                amount = 1250,
                currency = "EUR",
                masked_card = "****4242",
                "order {} placed",
                7
            );
        };
        in_service("orders", in_trace(trace, work)).await;
        let mut line = lines(&written).remove(0);
        let at: crate::clock::Timestamp = line["timestamp"].take().as_str().unwrap().parse().unwrap();
        assert!(at.seconds() > 1_700_000_000);
        assert_eq!(
            line,
            json!({"timestamp": null, "level": "INFO", "service": "orders", "traceId": trace.trace_hex(),
                "spanId": trace.span_hex(), "message": "order 7 placed",
                "context": {"orderId": "o-1", "amount": 1250, "currency": "EUR", "maskedCard": "****4242"}})
        );
    }

    #[test]
    fn a_planted_secret_never_reaches_the_output() {
        let (options, written) = to_memory();
        let _guard = logging(options);
        let (pan, token) = ("4242424242424242", "tok_hush");
        tracing::error!(token, password = token, pan, cvc = 123, api_key = token, "card {pan} with token={token}");
        tracing::error!(error = %format!("Authorization: Bearer {token} for {pan}"), reason = ?vec![pan], "failed");
        tracing::error!(count = 4_242_424_242_424_242_u64, unheard_of = token, body = pan, "failed");
        tracing::error!(email = "anna@example.com", phone = "0170 1234567", "told anna@example.com");
        let output = String::from_utf8(written.lock().clone()).unwrap();
        for secret in [pan, token, "123,", "anna", "1234567"] {
            assert!(!output.contains(secret), "{secret} in {output}");
        }
        let seen = lines(&written);
        assert_eq!(seen[0]["message"], "card ****4242 with token=[redacted]");
        assert_eq!(seen[0]["context"]["token"], "[redacted]");
        assert_eq!(seen[2]["context"], json!({"count": "****4242", "withheld": ["unheardOf", "body"]}));
    }

    #[test]
    fn people_get_a_short_line_under_the_same_rules() {
        let (mut options, written) = to_memory();
        options.format = Format::Human;
        let _guard = logging(options);
        tracing::warn!(order_id = "o-1", token = "hush", "slow");
        let output = String::from_utf8(written.lock().clone()).unwrap();
        assert!(output.ends_with(" WARN city slow orderId=o-1 token=[redacted]\n"), "{output}");
    }

    #[tokio::test]
    async fn each_service_has_its_own_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut options = Options::new("city");
        options.output = Output::Folder(folder.path().to_owned());
        let _guard = logging(options);
        in_service("orders", async { tracing::info!("one") }).await;
        in_service("../payments", async { tracing::info!("two") }).await;
        tracing::info!("three");
        for (file, message) in [("orders.log", "one"), ("payments.log", "two"), ("city.log", "three")] {
            let line = std::fs::read_to_string(folder.path().join(file)).unwrap();
            assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["message"], message);
        }
    }

    #[test]
    fn a_closed_pipe_does_not_hurt_the_process() {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut options = Options::new("city");
        options.output = Output::Writer(Arc::new(Mutex::new(writer)));
        let _guard = logging(options);
        tracing::info!("nobody listens");
    }

    #[test]
    fn a_level_that_does_not_read_is_refused() {
        let mut options = Options::new("city");
        options.level = "kernel=loud".to_owned();
        assert!(install(options).unwrap_err().to_string().starts_with("the log level kernel=loud"));
    }
}
