//! Orders at a fixed rate, each with its whole saga: how long the post takes, and what an order costs in CPU time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use kernel::store::Engine;
use rusqlite::{Connection, OpenFlags};

use super::customers::{Customers, order_id};
use super::figures::{Spread, Times, float, ms_each};
use super::pace::open_loop;
use super::town::{Mode, Town, unhurt};
use super::{Row, Site, flush};
use crate::audit::audit;
use crate::city::DataFolder;
use crate::client::Insider;

/// How long the sagas of a round may take to end, and the books to agree after that.
pub(super) const PATIENCE: Duration = Duration::from_secs(180);

/// What one round came to.
struct Round {
    p50: f64,
    p95: f64,
    cpu_ms: f64,
    card_network_ms: f64,
    all_delivered_after: Duration,
}

/// The rate of the budget.
pub(super) const RATE: usize = 500;

pub(super) async fn measure(site: &Site<'_>) -> Result<Vec<Row>> {
    let (mut rate, seconds, rounds) = site.size.pick((RATE, 10, 3), (RATE, 4, 1), (10, 1, 1));
    let flush = flush::flush_ms(&site.folder("orders")?, site.size.pick(200, 100, 5)).await?.median;
    let mut unborne = None;
    loop {
        // A city of its own for each try: what a failed one left half done is no part of the next.
        site.watch.stage(&format!("orders: starting a city for {rate} a second"));
        let town = Town::start(&site.folder(&format!("orders/{rate}"))?, Mode::OneProcess, &unhurt()).await?;
        let measured = under_load(site, &town, rate, seconds, rounds).await;
        town.stop().await?;
        match measured {
            Ok(rounds) => {
                let load = format!(
                    "{rate} orders/s for {seconds} s, open loop, counted from when each was due; flush {flush:.2} ms"
                );
                return Ok(rows(&rounds, &load, unborne.as_deref()));
            }
            Err(Ended::Overload(why)) if rate > 10 => {
                unborne.get_or_insert(format!(
                    "{rate} orders/s are more than this machine bears ({why}); halved until it did"
                ));
                rate /= 2;
            }
            Err(Ended::Overload(why)) => bail!("not even {rate} orders/s are borne: {why}"),
            Err(Ended::Broken(error)) => return Err(error),
        }
    }
}

/// Why a run has no figures.
pub(super) enum Ended {
    /// Somebody was turned away, or not served in time: too much for this machine.
    Overload(String),
    /// Anything else.
    Broken(anyhow::Error),
}

impl From<anyhow::Error> for Ended {
    fn from(error: anyhow::Error) -> Self {
        Self::Broken(error)
    }
}

fn rows(rounds: &[Round], load: &str, unborne: Option<&str>) -> Vec<Row> {
    let spread = |of: fn(&Round) -> f64| Spread::of(rounds.iter().map(of).collect());
    let slowest = rounds.iter().map(|r| r.all_delivered_after).max().unwrap_or_default().as_secs_f64();
    let note = format!(
        "{load}; load from this process on the same cores; last order delivered {slowest:.1} s after the last post; books audited{}",
        unborne.map(|why| format!("; {why}")).unwrap_or_default()
    );
    let network = spread(|r| r.card_network_ms).median;
    let mut p95 = Row::measured("order_intake_p95", "ms", spread(|r| r.p95)).budget(50.0, 10.0).note(&note);
    // The budget is one at its own rate.
    p95.ok = p95.ok.map(|kept| kept && unborne.is_none());
    vec![
        Row::measured("order_intake_p50", "ms", spread(|r| r.p50)).note(&note),
        p95,
        Row::measured("cpu_per_order", "ms", spread(|r| r.cpu_ms)).budget(5.0, 2.0).note(format!(
            "post to delivered and told, all processes; of it {network:.2} ms in the card network, which stands for somebody else's; {load}"
        )),
    ]
}

async fn under_load(
    site: &Site<'_>,
    town: &Town,
    rate: usize,
    seconds: usize,
    rounds: usize,
) -> Result<Vec<Round>, Ended> {
    let (customers, first) = Customers::gather(town).await?;
    let customers = Arc::new(customers);
    let mut acknowledged: BTreeSet<String> = first.into_iter().collect();
    all_delivered(&town.data, acknowledged.len()).await?;
    let mut done = Vec::new();
    for number in 1..=rounds {
        site.watch.stage(&format!("orders: round {number} of {rounds}"));
        done.push(round(town, &customers, &mut acknowledged, rate, seconds).await?);
    }
    site.watch.stage("orders: audit");
    clean_books(town, &acknowledged).await?;
    Ok(done)
}

async fn round(
    town: &Town,
    customers: &Arc<Customers>,
    acknowledged: &mut BTreeSet<String>,
    rate: usize,
    seconds: usize,
) -> Result<Round, Ended> {
    let count = rate * seconds;
    let before = (town.cpu(), town.card_network_cpu());
    let sender = customers.clone();
    let shots = open_loop(float(rate), count, move |number| {
        let customers = sender.clone();
        async move { customers.wires().ask(&customers.order(number)).await }
    });
    let shots = shots.await?;
    let posted = Instant::now();
    let mut times = Vec::with_capacity(count);
    for shot in shots {
        times.push(shot.took);
        let acknowledgement = shot.result.and_then(|reply| order_id(&reply));
        acknowledged.insert(acknowledgement.map_err(|why| Ended::Overload(format!("{why:#}")))?);
    }
    all_delivered(&town.data, acknowledged.len()).await?;
    let all_delivered_after = posted.elapsed();
    // The last messages go out after the last delivery.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (cpu, network) = (town.cpu().since(&before.0), town.card_network_cpu().since(&before.1));
    let times = Times::new(times);
    Ok(Round {
        p50: times.percentile_ms(50),
        p95: times.percentile_ms(95),
        cpu_ms: ms_each(cpu, count),
        card_network_ms: ms_each(network, count),
        all_delivered_after,
    })
}

/// Waits until this many orders are delivered. Asks the database itself: asking the city would count as its work.
async fn all_delivered(data: &DataFolder, wanted: usize) -> Result<()> {
    let began = Instant::now();
    loop {
        let found = delivered(data)?;
        if found >= wanted {
            return Ok(());
        }
        if began.elapsed() > PATIENCE {
            bail!("{found} of {wanted} orders were delivered after {PATIENCE:?}");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn delivered(data: &DataFolder) -> Result<usize> {
    let Engine::Sqlite { path } = data.engine("orders") else { bail!("the city keeps its orders elsewhere") };
    let orders = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).context("opening the orders")?;
    orders.busy_timeout(Duration::from_secs(5))?;
    let count: i64 =
        orders.query_row("SELECT COUNT(*) FROM orders WHERE status = 'DELIVERED'", [], |row| row.get(0))?;
    Ok(usize::try_from(count)?)
}

/// A run that lost or doubled an order has no figure.
pub(super) async fn clean_books(town: &Town, acknowledged: &BTreeSet<String>) -> Result<()> {
    let insider = Insider::of(&town.data, &town.map).await?;
    let began = Instant::now();
    loop {
        let found = audit(&insider, acknowledged).await?;
        if found.is_clean() {
            ensure!(
                found.orders == acknowledged.len(),
                "{} orders of {} acknowledged ones",
                found.orders,
                acknowledged.len()
            );
            return Ok(());
        }
        if began.elapsed() > PATIENCE {
            bail!("the books do not agree: {}", found.findings.iter().take(3).cloned().collect::<Vec<_>>().join("; "));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
