//! `bus`: which bus carries what, and moving a consumer from one to the other.

use anyhow::Result;
use clap::Subcommand;
use kernel::events::{Road, access_lines};
use serde_json::{Value, json};

use crate::city::DataFolder;
use crate::client::Insider;
use crate::output::Output;
use crate::services;

/// What to do about the buses.
#[derive(Debug, Subcommand)]
pub(super) enum Bus {
    /// By which bus each service reads each publisher, and what its Kafka clients are set to.
    Show {
        /// Also the properties of producer and consumer.
        #[arg(long)]
        properties: bool,
    },
    /// Move what a service hears to the other bus, while the city runs.
    #[command(after_help = "Example: foodexpress bus move orders --to kafka --data city")]
    Move {
        /// The service that hears.
        service: String,
        /// `kafka` or `stream`.
        #[arg(long)]
        to: Road,
        /// Only what it hears of this publisher.
        #[arg(long)]
        of: Option<String>,
    },
    /// The lines that give each service its rights on a cluster with users (SASL) and an authorizer.
    #[command(
        after_help = "Example: foodexpress bus acl --data city | sh\nThe lines call kafka-acls of the Kafka distribution; give it an administrator's --command-config by KAFKA_ADMIN_CONFIG."
    )]
    Acl,
}

pub(super) async fn run(what: Bus, data: &DataFolder, out: Output) -> Result<()> {
    if matches!(what, Bus::Acl) {
        let settings = data.kafka()?;
        let lines = access_lines(&settings, &services::manifests());
        lines.iter().for_each(|line| out.say(line.clone()));
        out.result(&json!({"lines": lines}));
        return Ok(());
    }
    let insider = Insider::of(data, &data.must_run()?).await?;
    match what {
        Bus::Show { properties } => show(&insider, properties, out).await?,
        Bus::Move { service, to, of } => {
            let body = json!({"to": to, "publisher": of});
            out.result(&insider.command(&service, "/internal/bus-move", &body).await?);
        }
        Bus::Acl => {}
    }
    Ok(())
}

async fn show(insider: &Insider, properties: bool, out: Output) -> Result<()> {
    let mut all = Vec::new();
    for manifest in services::manifests() {
        let stands = insider.internal(manifest.name, "/internal/bus").await?;
        for (publisher, road) in stands["roads"].as_object().into_iter().flatten() {
            out.say(format!("{:<14} ← {publisher:<14} {}", manifest.name, road.as_str().unwrap_or_default()));
        }
        for (relay, stood) in stands["relays"].as_object().into_iter().flatten() {
            let trouble = stood["last_error"].as_str().map(|why| format!(": {why}")).unwrap_or_default();
            out.say(format!(
                "{:<14} → kafka          relay {relay} at {} of {}{trouble}",
                manifest.name, stood["upto"], stands["head"]
            ));
        }
        let settings = insider.internal(manifest.name, "/internal/bus-settings").await?;
        if properties {
            for side in ["producer", "consumer"] {
                for (name, value) in settings["settings"][side].as_object().into_iter().flatten() {
                    out.say(format!("{:<14} {side} {name} = {}", manifest.name, value.as_str().unwrap_or_default()));
                }
            }
        }
        all.push(json!({"service": manifest.name, "roads": stands["roads"], "relays": stands["relays"], "settings": settings["settings"]}));
    }
    out.result(&json!({"services": Value::Array(all)}));
    Ok(())
}
