//! `secrets`: what there is, and replacing one while the city runs.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use kernel::clock::Clock;
use kernel::http::Signer;
use kernel::secrets::{Secret, Secrets as All};
use kernel::store::PostgresSettings;
use serde_json::json;

use crate::city::{CARD_NETWORK, CityMap, DataFolder, GATEWAY};
use crate::output::Output;

/// List secrets, or replace one while the city runs.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example: foodexpress secrets rotate internal --data city")]
pub(super) enum Secrets {
    /// Names and how each stands; never a value.
    List,
    /// Replace a secret: lay the next one beside it, wait until every member accepts it, put it in place.
    Rotate {
        /// Its name, such as `internal`.
        name: String,
    },
}

/// Secrets that running members take up by themselves.
const LIVE: [&str; 3] = ["internal", API_KEY, "card-network-webhook-secret"];
const API_KEY: &str = "card-network-api-key";
/// How long members may take to accept the next secret.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn run(what: Secrets, data: &DataFolder, out: Output) -> Result<()> {
    let (secrets, look_every) = data.secrets(&data.own_recipe()).await?;
    match what {
        Secrets::List => list(&secrets, out),
        Secrets::Rotate { name } => rotate(data, &secrets, look_every, &name, out).await,
    }
}

fn list(secrets: &All, out: Output) -> Result<()> {
    let (kind, names) = (secrets.provider().kind(), secrets.provider().names()?);
    for name in &names {
        let pair = secrets.pair(name)?;
        let beside = match (&pair.next, &pair.previous) {
            (Some(_), _) => "rotation begun: the next one is accepted",
            (None, Some(_)) => "rotated: the one before is accepted still",
            (None, None) => "never rotated",
        };
        let live = LIVE.contains(&name.as_str());
        let taken = if live { "" } else { "; read at start" };
        out.row(format!("{name:<30} {beside}{taken}"), &json!({"name": name, "state": beside, "live": live}));
    }
    out.result(&json!({"provider": kind, "secrets": names.len()}));
    Ok(())
}

async fn rotate(data: &DataFolder, secrets: &All, look_every: Duration, name: &str, out: Output) -> Result<()> {
    if !secrets.provider().names()?.iter().any(|known| known == name) {
        bail!("there is no secret {name}; `foodexpress secrets list` names them");
    }
    if name.starts_with(PostgresSettings::SECRETS) {
        bail!(
            "{name} is a role and its password, which only the database can change: `foodexpress migrate --rotate-secrets`"
        );
    }
    let running = data.running();
    let next = secrets.lay_next(name).await.with_context(|| format!("the next {name} cannot be laid"))?;
    out.say("the next one is laid beside it; both are accepted");
    if let Some(map) = &running {
        // Who cannot be asked gets the time to look twice.
        let settle = look_every * 2 + Duration::from_secs(1);
        tokio::time::sleep(settle).await;
        until_accepted(map, name, &next).await?;
        out.say("every running member accepts it");
    }
    secrets.promote(name).await.with_context(|| format!("the next {name} cannot take its place"))?;
    if running.is_some() {
        // Until all use it, another rotation would take away what some still use.
        tokio::time::sleep(look_every * 2 + Duration::from_secs(1)).await;
    }
    let live = LIVE.contains(&name);
    if running.is_some() && !live {
        out.say(format!("running services read {name} at start: restart those that use it before the next rotation"));
    }
    out.result(&json!({"rotated": name, "running": running.is_some(), "restart": running.is_some() && !live}));
    Ok(())
}

/// Asks every member that can be asked whether it takes the next secret. If one does not, nothing has changed yet: the
/// rotation can be tried again.
async fn until_accepted(map: &CityMap, name: &str, next: &Secret) -> Result<()> {
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build()?;
    let began = Instant::now();
    for (member, place) in &map.members {
        loop {
            let at = format!("http://{}", place.address);
            let request = match (name, place.service.as_str()) {
                ("internal", GATEWAY | CARD_NETWORK) => break,
                ("internal", service) => {
                    let proof = Signer::new(next.reveal()).sign("tools", service, None, Clock::system().now());
                    http.get(format!("{at}/internal/bus")).headers(proof)
                }
                (API_KEY, CARD_NETWORK) => http.get(format!("{at}/v1/faults")).bearer_auth(next.reveal_text()),
                _ => break,
            };
            let refused = match request.send().await {
                Ok(answer) if answer.status().as_u16() != 401 => break,
                Ok(_) => "refuses it".to_owned(),
                Err(error) => error.to_string(),
            };
            if began.elapsed() > PATIENCE {
                bail!(
                    "{member} does not accept the next {name}: {refused}; the old one is still in use, so mend that and run this again"
                );
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(())
}
