//! The page that Prometheus reads: in the format it asks for, with what is only looked up when somebody reads it.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::timeout;

use super::metrics::Metrics;

/// What a reader gets who asks for it, as Prometheus itself does.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// What everybody else gets: `promtool check metrics` and older readers know no other.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// A look that takes longer shows what the last one found.
const PATIENCE: Duration = Duration::from_secs(2);

impl Metrics {
    /// Has `look` set what it finds each time the page is read, so that nobody counts what nobody reads.
    pub fn ask_when_read<F, Fut>(&self, look: F)
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.asks.lock().push(Arc::new(move || Box::pin(look())));
    }

    /// The content type and text for a reader with this `Accept` header.
    pub async fn page(&self, accept: Option<&str>) -> (&'static str, String) {
        self.page_within(PATIENCE, accept).await
    }

    async fn page_within(&self, patience: Duration, accept: Option<&str>) -> (&'static str, String) {
        let asks = self.asks.lock().clone();
        // What takes too long is told by readiness; here it only leaves old figures.
        drop(join_all(asks.iter().map(|ask| timeout(patience, ask()))).await);
        if accept.is_some_and(|accept| accept.contains("application/openmetrics-text")) {
            return (OPENMETRICS, self.render());
        }
        (TEXT, plain(&self.render()))
    }
}

/// `OpenMetrics` in the older format: counters bear their ending in the comments, too, and nothing says that it is the end.
fn plain(openmetrics: &str) -> String {
    let mut counter = None;
    let mut out = String::with_capacity(openmetrics.len());
    let mut lines = openmetrics.lines().peekable();
    while let Some(line) = lines.next() {
        let mut words = line.splitn(4, ' ');
        let comment = (words.next(), words.next(), words.next(), words.next());
        match comment {
            (Some("#"), Some("HELP"), Some(name), Some(text)) => {
                let kind = lines.peek().and_then(|next| next.strip_prefix("# TYPE ")?.strip_prefix(name));
                let ending = if kind == Some(" counter") { "_total" } else { "" };
                out.push_str(&format!("# HELP {name}{ending} {text}\n"));
            }
            (Some("#"), Some("TYPE"), Some(name), Some("counter")) => {
                counter = Some(name);
                out.push_str(&format!("# TYPE {name}_total counter\n"));
            }
            (Some("#"), Some("EOF" | "UNIT"), ..) => {}
            (Some("#"), Some("TYPE"), Some(name), Some(kind)) => {
                counter = None;
                let kind = if kind == "unknown" { "untyped" } else { kind };
                out.push_str(&format!("# TYPE {name} {kind}\n"));
            }
            _ => {
                debug_assert!(counter.is_none_or(|name| line.starts_with(name)), "{line} stands under {counter:?}");
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Label;

    #[tokio::test]
    async fn a_reader_gets_the_format_it_asks_for() {
        let metrics = Metrics::new("orders");
        metrics.counter("order_created_total", "Orders placed", ["shop"]).count(&["a"]);
        metrics.gauge("queue_length", "Waiting", [] as [Label; 0]);
        metrics.histogram("wait_seconds", "Time", [] as [Label; 0]);
        let (kind, text) = metrics.page(Some("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")).await;
        assert_eq!(kind, OPENMETRICS);
        assert!(text.contains("# TYPE order_created counter\n") && text.ends_with("# EOF\n"), "{text}");
        for accept in [None, Some("*/*"), Some("text/plain")] {
            let (kind, text) = metrics.page(accept).await;
            assert_eq!(kind, TEXT);
            for line in [
                "# HELP order_created_total Orders placed.\n# TYPE order_created_total counter\n",
                "order_created_total{service=\"orders\",shop=\"a\"} 1\n",
                "# HELP queue_length Waiting.\n# TYPE queue_length gauge\nqueue_length{service=\"orders\"} 0\n",
                "# TYPE wait_seconds histogram\n",
            ] {
                assert!(text.contains(line), "{line} in\n{text}");
            }
            assert!(!text.contains("EOF"), "{text}");
        }
    }

    #[tokio::test]
    async fn figures_are_looked_up_when_somebody_reads_and_a_look_that_hangs_holds_up_nobody() {
        let metrics = Metrics::new("orders");
        let level = metrics.gauge("looks", "Looks", [] as [Label; 0]).at(&[]);
        let seen = level.clone();
        metrics.ask_when_read(move || {
            seen.inc();
            std::future::ready(())
        });
        metrics.ask_when_read(std::future::pending);
        assert_eq!(level.get(), 0);
        for reads in 1..=2 {
            let (_, page) = metrics.page_within(Duration::from_millis(20), None).await;
            assert!(page.contains(&format!("looks{{service=\"orders\"}} {reads}\n")));
        }
    }
}
