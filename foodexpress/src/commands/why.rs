//! `why`: the saga of one order, told from events alone: what happened, what it waits for, what would undo it.

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::{Value, json};

use crate::city::DataFolder;
use crate::client::Insider;
use crate::output::Output;
use crate::services;

/// The saga of one order.
#[derive(Debug, Args)]
#[command(after_help = "Example: foodexpress why 0190a1b2-… --data city")]
pub(super) struct Why {
    /// The order's id.
    order: uuid::Uuid,
}

impl Why {
    pub(super) async fn run(self, data: &DataFolder, out: Output) -> Result<()> {
        let map = data.must_run()?;
        let insider = Insider::of(data, &map).await?;
        let mut events = Vec::new();
        let mut waits = Vec::new();
        for manifest in services::manifests() {
            let told = insider.internal(manifest.name, &format!("/internal/history?entity={}", self.order)).await?;
            let of_service = |list: &Value| list.as_array().cloned().unwrap_or_default();
            events.extend(of_service(&told["events"]).into_iter().map(|e| (manifest.name, e)));
            waits.extend(of_service(&told["timers"]).into_iter().map(|t| (manifest.name, t)));
        }
        events.sort_by_key(|(_, e)| e["time"].as_str().unwrap_or("").to_owned());
        anyhow::ensure!(
            !events.is_empty(),
            "no service has published anything about {}; is it an order of this city?",
            self.order
        );
        for (service, event) in &events {
            show(out, service, event);
        }
        for (service, timer) in &waits {
            let (step, due) = (&timer["step"], &timer["due_at"]);
            let text = format!("  … {service} waits for the deadline {step} at {due}").replace('"', "");
            out.row(text, &json!({"service": service, "waits_for_deadline": step, "due_at": due}));
        }
        let history = insider.read("orders", &format!("/api/v1/orders/{}/history", self.order)).await?;
        let trace = events.iter().find(|(_, e)| e["type"] == "order.created").and_then(|(_, e)| trace_of(e));
        out.say(
            format!(
                "stands at {}, waits for {}, until {}; ending it now would undo {}",
                history["status"], history["waits_for"], history["deadline_at"], history["would_undo"]
            )
            .replace('"', ""),
        );
        out.result(&json!({
            "order_id": self.order, "status": history["status"], "trace_id": trace.context("the order was created by an event")?,
            "waits_for": history["waits_for"], "until": history["deadline_at"], "would_undo": history["would_undo"], "events": events.len(),
        }));
        Ok(())
    }
}

fn trace_of(event: &Value) -> Option<String> {
    event["traceparent"].as_str()?.split('-').nth(1).map(str::to_owned)
}

fn show(out: Output, service: &str, event: &Value) {
    let time = event["time"].as_str().and_then(|t| t.get(11..23)).unwrap_or("");
    let status = event["data"]["status"].as_str().map_or_else(String::new, |s| format!(" → {s}"));
    let reason = event["data"]["reason"].as_str().map_or_else(String::new, |r| format!(" ({r})"));
    let trace = trace_of(event).unwrap_or_default();
    let kind = event["type"].as_str().unwrap_or("");
    let text = format!("{time}  {kind:<22} by {service:<14}{status}{reason}  trace {}", trace.get(..8).unwrap_or(""));
    out.row(
        text,
        &json!({"time": event["time"], "type": kind, "by": service, "subject": event["subject"],
        "version": event["version"], "trace_id": trace, "status": event["data"]["status"]}),
    );
}
