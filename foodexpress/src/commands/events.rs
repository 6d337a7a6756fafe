//! `events`: the bus by hand. Follow it, see what is parked, drive it again, read it again.

use anyhow::{Context as _, Result};
use clap::Subcommand;
use kernel::clock::Clock;
use kernel::events::Follower;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::city::DataFolder;
use crate::client::Insider;
use crate::output::Output;
use crate::services;

/// What to do with the bus.
#[derive(Debug, Subcommand)]
pub(super) enum Events {
    /// Follow what a service publishes, or all of them, until Ctrl-C.
    #[command(after_help = "Example: foodexpress events tail --of orders --from 0")]
    Tail {
        /// Only this service.
        #[arg(long)]
        of: Option<String>,
        /// From after this position on; 0 is the beginning.
        #[arg(long, default_value_t = 0)]
        from: i64,
    },
    /// How far each consumer is with each publisher.
    Lag,
    /// What could not be handled, and what waits behind it.
    Parked,
    /// Handle parked events again, in their order.
    #[command(after_help = "Example: foodexpress events redrive orders --aggregate 0190a1b2-…")]
    Redrive {
        /// The service that parked them.
        service: String,
        /// Only those of this thing.
        #[arg(long)]
        aggregate: Option<Uuid>,
    },
    /// Give up on one parked event.
    Drop {
        /// The service that parked it.
        service: String,
        /// The event.
        event: Uuid,
        /// Why, for the record.
        #[arg(long)]
        reason: String,
    },
    /// Let a service read a publisher's outbox again.
    #[command(
        after_help = "Example: foodexpress events replay notifications --of orders --from 1\nWhat took effect takes no second one, unless --again says so."
    )]
    Replay {
        /// The service that reads again.
        service: String,
        /// The publisher.
        #[arg(long)]
        of: String,
        /// From this position on.
        #[arg(long, default_value_t = 0)]
        from: i64,
        /// Forget what took effect: every event has its effect again.
        #[arg(long)]
        again: bool,
    },
    /// Accept that a publisher's database was made anew, and read it from its beginning.
    Adopt {
        /// The service that refuses the publisher now.
        service: String,
        /// The publisher.
        #[arg(long)]
        of: String,
    },
}

pub(super) async fn run(what: Events, data: &DataFolder, out: Output) -> Result<()> {
    let map = data.must_run()?;
    let insider = Insider::of(data, &map).await?;
    match what {
        Events::Tail { of, from } => {
            let follower = Follower::new("tools", map.directory(), insider.signer(), Clock::system());
            tail(&follower, of, from, out).await?;
        }
        Events::Lag => every_service(&insider, "/internal/bus", out, show_lag).await?,
        Events::Parked => every_service(&insider, "/internal/parked", out, show_parked).await?,
        Events::Redrive { service, aggregate } => {
            out.result(&insider.command(&service, "/internal/redrive", &json!({"aggregate": aggregate})).await?);
        }
        Events::Drop { service, event, reason } => out.result(
            &insider.command(&service, "/internal/drop-parked", &json!({"event_id": event, "reason": reason})).await?,
        ),
        Events::Replay { service, of, from, again } => {
            let body = json!({"publisher": of, "position": from, "again": again});
            out.result(&insider.command(&service, "/internal/replay", &body).await?);
        }
        Events::Adopt { service, of } => {
            out.result(&insider.command(&service, "/internal/adopt", &json!({"publisher": of})).await?);
        }
    }
    Ok(())
}

async fn tail(follower: &Follower, of: Option<String>, from: i64, out: Output) -> Result<()> {
    let publishers: Vec<String> = services::manifests()
        .iter()
        .filter(|m| !m.publishes.is_empty() && of.as_deref().is_none_or(|wanted| wanted == m.name))
        .map(|m| m.name.to_owned())
        .collect();
    anyhow::ensure!(!publishers.is_empty(), "no such publisher; see docs/generated/events.md");
    let follow = publishers.iter().map(|publisher| {
        Box::pin(follower.tail(publisher, from, move |event| {
            let text =
                format!("{} {:>6} {:<24} {} v{}", event.time, event.position, event.kind, event.subject, event.version);
            out.row(text, event);
        }))
    });
    let first = futures::future::select_all(follow);
    tokio::select! {
        (ended, ..) = first => ended.map_err(anyhow::Error::msg).context("the stream ended"),
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

async fn every_service(insider: &Insider, path: &str, out: Output, show: fn(Output, &Value)) -> Result<()> {
    let mut all = Vec::new();
    for manifest in services::manifests() {
        let told = insider.internal(manifest.name, path).await?;
        show(out, &told);
        all.push(told);
    }
    out.result(&json!({"services": all}));
    Ok(())
}

fn show_lag(out: Output, told: &Value) {
    for (publisher, state) in told["publishers"].as_object().into_iter().flatten() {
        let line = format!(
            "{:<14} ← {publisher:<14} {} at {} of {}, {} behind",
            told["service"], state["flow"], state["position"], state["head"], state["lag"]
        );
        out.say(line.replace('"', ""));
    }
}

fn show_parked(out: Output, told: &Value) {
    for event in told["parked"].as_array().into_iter().flatten() {
        let line = format!(
            "{:<14} {} {} v{} of {}: {}",
            told["service"], event["event_id"], event["type"], event["version"], event["publisher"], event["reason"]
        );
        out.say(line.replace('"', ""));
    }
}
