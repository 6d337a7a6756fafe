//! One order at a time: from the post to the message that says it is confirmed, in units of three flushes.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use contracts::notifications::NotificationSent;
use kernel::clock::Clock;
use kernel::events::{Envelope, Follower, Received};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::customers::{Customers, order_id};
use super::figures::{Spread, Times};
use super::town::{Mode, Town, unhurt};
use super::{Row, Site, flush};
use crate::client::Insider;

/// The message that ends the saga's first half: paid, accepted, told.
pub(super) const CONFIRMED: &str = "order_confirmed";
/// Longer is not an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two orders, so that the rest of one's saga is not in the next one's way.
const PAUSE: Duration = Duration::from_millis(60);

/// Of which orders customers were told one thing, and when we heard.
pub(super) struct Told {
    template: &'static str,
    at: Mutex<HashMap<Uuid, Instant>>,
    news: Notify,
}

impl Told {
    pub(super) fn of(template: &'static str) -> Self {
        Self { template, at: Mutex::default(), news: Notify::new() }
    }

    /// When we heard of this order, if we have.
    pub(super) fn at(&self, order: Uuid) -> Option<Instant> {
        self.at.lock().get(&order).copied()
    }

    /// How many orders we heard of.
    pub(super) fn count(&self) -> usize {
        self.at.lock().len()
    }

    pub(super) fn note(&self, envelope: &Envelope) {
        let now = Instant::now();
        let Ok(message) = Received::<NotificationSent>::open(envelope) else { return };
        if message.template == self.template {
            self.at.lock().entry(message.subject_id).or_insert(now);
            self.news.notify_waiters();
        }
    }

    async fn until(&self, order: Uuid) -> Instant {
        loop {
            let news = self.news.notified();
            if let Some(at) = self.at.lock().get(&order) {
                return *at;
            }
            news.await;
        }
    }
}

pub(super) async fn measure(site: &Site<'_>) -> Result<Vec<Row>> {
    site.watch.stage("saga: starting a city");
    let (folder, count) = (site.folder("saga")?, site.size.pick(400, 60, 3));
    let town = Town::start(&folder, Mode::OneProcess, &unhurt()).await?;
    site.watch.stage(&format!("saga: {count} orders, one at a time"));
    let flushes = site.size.pick(200, 100, 5);
    let before = flush::flush_ms(&folder, flushes).await?;
    let walked = watched(&town, count).await;
    let after = flush::flush_ms(&folder, flushes).await?;
    town.stop().await?;
    let times = Times::new(walked?);
    let flush = f64::midpoint(before.median, after.median);
    let unit = 3.0 * flush;
    let ratio = |percent: usize| Spread::of(vec![times.percentile_ms(percent) / unit]);
    let against = format!(
        "3 flushes of {flush:.3} ms each, measured before ({:.3}) and after ({:.3})",
        before.median, after.median
    );
    let note = |percent: usize| {
        format!(
            "{:.1} ms over {count} orders, gateway to stored message; the end is taken from the message's own event, one hop later than stored",
            times.percentile_ms(percent)
        )
    };
    Ok(vec![
        Row::measured("saga_p50", "x", ratio(50)).against(&against).budget(4.0, 2.0).note(note(50)),
        Row::measured("saga_p99", "x", ratio(99)).against(&against).note(note(99)),
    ])
}

async fn watched(town: &Town, count: usize) -> Result<Vec<Duration>> {
    let signer = Insider::of(&town.data, &town.map).await?.signer();
    let follower = Follower::new("tools", town.map.directory(), signer, Clock::system());
    let (told, stop) = (Told::of(CONFIRMED), CancellationToken::new());
    let watching = follower.every::<NotificationSent>(|envelope| told.note(envelope), stop.clone());
    let walking = async {
        let walked = walk(town, &told, count).await;
        stop.cancel();
        walked
    };
    tokio::join!(watching, walking).1
}

async fn walk(town: &Town, told: &Told, count: usize) -> Result<Vec<Duration>> {
    let (customers, first) = Customers::gather(town).await?;
    for order in first {
        until_told(told, &order).await?;
    }
    let mut times = Vec::with_capacity(count);
    for number in 0..count {
        tokio::time::sleep(PAUSE).await;
        let request = customers.order(number);
        let began = Instant::now();
        let order = order_id(&customers.wires().ask(&request).await?)?;
        times.push(until_told(told, &order).await?.duration_since(began));
    }
    Ok(times)
}

async fn until_told(told: &Told, order: &str) -> Result<Instant> {
    let id = order.parse().context("an order's id is a UUID")?;
    match tokio::time::timeout(PATIENCE, told.until(id)).await {
        Ok(at) => Ok(at),
        Err(_) => bail!("nobody was told within {PATIENCE:?} that order {order} is confirmed"),
    }
}
