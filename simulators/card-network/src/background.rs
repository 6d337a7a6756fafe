//! What runs without a caller: sending webhooks and expiring authorisations; both sleep until there is work.
use std::sync::Arc;
use std::time::Duration;

use reqwest::Client;
use reqwest::redirect::Policy;
use rusqlite::OptionalExtension;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::authorizations;
use crate::network::{Network, Work};
use crate::problem::Problem;
use crate::webhooks::{self, Delivery, Next, signature};

const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends events for as long as the store lives.
pub(crate) async fn send_webhooks(network: Arc<Network>) -> Result<(), Problem> {
    let client = Client::builder().no_proxy().redirect(Policy::none()).timeout(SEND_TIMEOUT).build();
    let client = client.expect("a plain HTTP client needs nothing from the machine");
    loop {
        let url = network.webhook_url.read().clone();
        let Some(url) = url else {
            network.events_ready.notified().await;
            continue;
        };
        match network.read(None, webhooks::next).await? {
            Next::Send(due) => send_burst(&network, &client, &url, due).await?,
            Next::WaitMs(wait) => pause(&network.events_ready, Some(wait)).await,
            Next::Idle => pause(&network.events_ready, None).await,
        }
    }
}

async fn send_burst(network: &Network, client: &Client, url: &str, due: Vec<Delivery>) -> Result<(), Problem> {
    let mut sending = JoinSet::new();
    let secret = network.webhook_secret.current();
    for delivery in due {
        let timestamp = network.clock.now_ms() / 1_000;
        let request = client
            .post(url)
            .header("content-type", "application/json")
            .header("webhook-id", &delivery.event)
            .header("webhook-timestamp", timestamp.to_string())
            .header("webhook-signature", signature(&secret, &delivery.event, timestamp, &delivery.body))
            .body(delivery.body.clone());
        sending.spawn(async move {
            let accepted = request.send().await.is_ok_and(|answer| answer.status().is_success());
            (delivery, accepted)
        });
    }
    let outcomes = sending.join_all().await;
    let settle_all = move |work: &Work<'_>| {
        outcomes.iter().try_for_each(|(delivery, accepted)| webhooks::settle(work, delivery, *accepted))
    };
    network.read(None, settle_all).await
}

/// Expires authorisations when their time is up.
pub(crate) async fn expire_authorizations(network: Arc<Network>) -> Result<(), Problem> {
    loop {
        let wait = network.read(None, expire_next).await?;
        match wait {
            Some(0) => network.events_ready.notify_one(),
            wait => pause(&network.deadlines_changed, wait).await,
        }
    }
}

/// Expires the one that is due, or says how long until the next is.
fn expire_next(work: &Work<'_>) -> Result<Option<i64>, Problem> {
    let mut query = work.conn.prepare_cached(
        "SELECT id, expires_at FROM authorizations WHERE status IN ('authorized', 'requires_action')
         ORDER BY expires_at LIMIT 1",
    )?;
    let next = query.query_row([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)));
    let Some((id, expires_at)) = next.optional()? else { return Ok(None) };
    if expires_at <= work.now {
        authorizations::find(work, &id)?;
    }
    Ok(Some((expires_at - work.now).max(0)))
}

async fn pause(wake: &Notify, wait_ms: Option<i64>) {
    // Never longer than a minute: a machine that slept must not oversleep a deadline.
    let wait = wait_ms.and_then(|ms| u64::try_from(ms.min(60_000)).ok()).map(Duration::from_millis);
    match wait {
        Some(wait) => tokio::select! {
            () = wake.notified() => {}
            () = tokio::time::sleep(wait) => {}
        },
        None => wake.notified().await,
    }
}
