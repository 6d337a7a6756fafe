//! `events`: the bus by hand. Follow it, see what is parked, drive it again, read it again.

use anyhow::{Context as _, Result};
use clap::Subcommand;
use kernel::clock::{Clock, Timestamp};
use kernel::events::{Envelope, Follower};
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
        /// Read it where the relay wrote it, on Kafka, instead of in the outbox.
        #[arg(long)]
        kafka: bool,
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
        after_help = "Example: foodexpress events replay notifications --of orders --from 1\nor:      foodexpress events replay notifications --of orders --from 2026-11-21T12:00:00Z\nWhat took effect takes no second one, unless --again says so."
    )]
    Replay {
        /// The service that reads again.
        service: String,
        /// The publisher.
        #[arg(long)]
        of: String,
        /// From this position on, or from this time, such as 2026-11-21T12:00:00Z.
        #[arg(long, default_value = "0")]
        from: From,
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

/// Where a replay begins.
#[derive(Clone, Copy, Debug)]
pub(super) enum From {
    Position(i64),
    Time(Timestamp),
}

impl std::str::FromStr for From {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(position) = text.parse() {
            return Ok(Self::Position(position));
        }
        text.parse().map(Self::Time).map_err(|_| format!("{text}: a position, or a time such as 2026-11-21T12:00:00Z"))
    }
}

pub(super) async fn run(what: Events, data: &DataFolder, out: Output) -> Result<()> {
    let map = data.must_run()?;
    let insider = Insider::of(data, &map).await?;
    match what {
        Events::Tail { of, from, kafka: true } => tail_kafka(data, of.as_deref(), from, out).await?,
        Events::Tail { of, from, kafka: false } => {
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
            let (position, time) = match from {
                From::Position(position) => (position, None),
                From::Time(time) => (position_at(&insider, &of, time).await?, Some(time)),
            };
            let body = json!({"publisher": of, "position": position, "time": time, "again": again});
            out.result(&insider.command(&service, "/internal/replay", &body).await?);
        }
        Events::Adopt { service, of } => {
            out.result(&insider.command(&service, "/internal/adopt", &json!({"publisher": of})).await?);
        }
    }
    Ok(())
}

/// The position of the first event of a publisher that happened at this time or later.
async fn position_at(insider: &Insider, publisher: &str, time: Timestamp) -> Result<i64> {
    // Written without an offset from UTC: a plus sign would be a space in a query.
    let path = format!("/internal/position-at?time={time}");
    let told = insider.internal(publisher, &path).await?;
    told["position"].as_i64().with_context(|| format!("{publisher} has published nothing since {time}"))
}

#[cfg(feature = "kafka")]
async fn tail_kafka(data: &DataFolder, of: Option<&str>, from: i64, out: Output) -> Result<()> {
    use kernel::events::kafka;

    let settings = data.kafka()?;
    anyhow::ensure!(settings.is_on(), "kafka.brokers is not set");
    let connection =
        kafka::Connection::new(&settings, "admin", &data.own_secrets().await?).map_err(anyhow::Error::msg)?;
    let manifests = services::manifests();
    let wanted = manifests.iter().filter(|m| !m.publishes.is_empty() && of.is_none_or(|of| of == m.name));
    let follow: Vec<_> = wanted
        .map(|m| Box::pin(kafka::tail(&connection, m.name, &m.publishes, from, move |event| show_event(out, event))))
        .collect();
    anyhow::ensure!(!follow.is_empty(), "no such publisher; see docs/generated/events.md");
    tokio::select! {
        (ended, ..) = futures::future::select_all(follow) => ended.map_err(anyhow::Error::msg),
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

#[cfg(not(feature = "kafka"))]
async fn tail_kafka(_: &DataFolder, _: Option<&str>, _: i64, _: Output) -> Result<()> {
    anyhow::bail!("this program was built without the feature `kafka`")
}

fn show_event(out: Output, event: &Envelope) {
    let text = format!("{} {:>6} {:<24} {} v{}", event.time, event.position, event.kind, event.subject, event.version);
    out.row(text, event);
}

async fn tail(follower: &Follower, of: Option<String>, from: i64, out: Output) -> Result<()> {
    let publishers: Vec<String> = services::manifests()
        .iter()
        .filter(|m| !m.publishes.is_empty() && of.as_deref().is_none_or(|wanted| wanted == m.name))
        .map(|m| m.name.to_owned())
        .collect();
    anyhow::ensure!(!publishers.is_empty(), "no such publisher; see docs/generated/events.md");
    let follow = publishers
        .iter()
        .map(|publisher| Box::pin(follower.tail(publisher, from, move |event| show_event(out, event))));
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
        for part in state["partitions"].as_array().into_iter().flatten() {
            let (next, end, lag) = (&part["next"], &part["end"], &part["lag"]);
            let name = format!("{}/{}", part["topic"].as_str().unwrap_or_default(), part["partition"]);
            out.say(format!("{:<31} {name} at {next} of {end}, {lag} behind", ""));
        }
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
