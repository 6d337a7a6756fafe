//! Orders at a fixed rate on the cluster profile, beside the same orders on files and streams: times of the post and of the
//! saga under that load, and what an order costs in each process.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use contracts::notifications::NotificationSent;
use kernel::clock::Clock;
use kernel::events::Follower;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::cpu::Used;
use super::customers::{Customers, order_id};
use super::figures::{Spread, Times, float, ms_each};
use super::intake::{Ended, PATIENCE, RATE, clean_books};
use super::pace::open_loop;
use super::saga::{CONFIRMED, Told};
use super::town::{Mode, Town, unhurt};
use super::{Row, Site};
use crate::client::Insider;

/// How soon after the last post the last order of a load that is borne is delivered.
const SOON: Duration = Duration::from_secs(10);

/// What one city came to.
struct Figures {
    rate: usize,
    /// Why a higher rate has no figures.
    unborne: Option<String>,
    intake: Times,
    saga: Times,
    ours_ms: f64,
    engines_ms: BTreeMap<String, f64>,
}

pub(super) async fn measure(site: &Site<'_>) -> Result<Vec<Row>> {
    let wanted = site.size.pick(RATE, RATE, 5);
    let cluster = borne(site, Mode::Cluster, wanted).await?;
    // At the rate that the cluster bore, so that both are compared at the same.
    let files = borne(site, Mode::OneProcess, cluster.rate).await?;
    Ok(rows(&cluster, &files, site.size.pick(20, 8, 1)))
}

/// The figures at this rate, or at the first of its quarters that the machine bears.
async fn borne(site: &Site<'_>, mode: Mode, mut rate: usize) -> Result<Figures> {
    let mut unborne = None;
    loop {
        site.watch.stage(&format!("cluster: {mode:?}, {rate} orders a second"));
        let town = Town::start(&site.folder(&format!("cluster/{mode:?}-{rate}"))?, mode, &unhurt()).await?;
        let measured = under_load(&town, mode, rate, rate * site.size.pick(20, 8, 1)).await;
        town.stop().await?;
        match measured {
            Ok(figures) => return Ok(Figures { unborne, ..figures }),
            Err(Ended::Overload(why)) if rate >= 4 => {
                unborne.get_or_insert(format!("{rate}/s were more than this machine bears ({why})"));
                rate /= 4;
            }
            Err(Ended::Overload(why)) => bail!("not even {rate} orders/s are borne: {why}"),
            Err(Ended::Broken(error)) => return Err(error),
        }
    }
}

async fn under_load(town: &Town, mode: Mode, rate: usize, count: usize) -> Result<Figures, Ended> {
    let signer = Insider::of(&town.data, &town.map).await?.signer();
    let follower = Follower::new("tools", town.map.directory(), signer, Clock::system());
    let (confirmed, delivered, stop) = (Told::of(CONFIRMED), Told::of("order_delivered"), CancellationToken::new());
    let hear = |envelope: &kernel::events::Envelope| {
        confirmed.note(envelope);
        delivered.note(envelope);
    };
    let watching = follower.every::<NotificationSent>(hear, stop.clone());
    let loading = async {
        let figures = load(town, mode, (rate, count), (&confirmed, &delivered)).await;
        stop.cancel();
        figures
    };
    tokio::join!(watching, loading).1
}

async fn load(
    town: &Town,
    mode: Mode,
    (rate, count): (usize, usize),
    (confirmed, delivered): (&Told, &Told),
) -> Result<Figures, Ended> {
    let (customers, first) = Customers::gather(town).await?;
    let customers = Arc::new(customers);
    let mut acknowledged: BTreeSet<String> = first.into_iter().collect();
    until_count(delivered, acknowledged.len(), PATIENCE).await?;
    let before = (town.cpu(), engines(town, mode)?);
    let shots = open_loop(float(rate), count, move |number| {
        let (customers, due) = (customers.clone(), Instant::now());
        async move { Ok((due, customers.wires().ask(&customers.order(number)).await?)) }
    });
    let (mut intake, mut due) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for shot in shots.await? {
        intake.push(shot.took);
        let answered = shot.result.and_then(|(due, reply)| Ok((due, order_id(&reply)?)));
        let (when, id) = answered.map_err(|why| Ended::Overload(format!("{why:#}")))?;
        due.push((when, id.parse::<Uuid>().context("an order's id is a UUID")?));
        acknowledged.insert(id);
    }
    // What is borne is what leaves no growing heap behind: the last order is delivered soon after it was posted.
    until_count(delivered, acknowledged.len(), SOON).await?;
    let after = engines(town, mode)?;
    let used = |(engine, now): (&String, &Used)| {
        let then = before.1.get(engine).cloned().unwrap_or_default();
        (engine.clone(), ms_each(now.since(&then), count))
    };
    let (ours_ms, engines_ms) = (ms_each(town.cpu().since(&before.0), count), after.iter().map(used).collect());
    clean_books(town, &acknowledged).await?;
    let told = |(due, id): &(Instant, Uuid)| confirmed.at(*id).map(|at| at.duration_since(*due));
    let saga = due.iter().map(told).collect::<Option<Vec<Duration>>>().context("a delivered order was confirmed")?;
    Ok(Figures { rate, unborne: None, intake: Times::new(intake), saga: Times::new(saga), ours_ms, engines_ms })
}

fn engines(town: &Town, mode: Mode) -> Result<BTreeMap<String, Used>> {
    if mode == Mode::Cluster { town.engines_cpu() } else { Ok(BTreeMap::new()) }
}

async fn until_count(told: &Told, wanted: usize, patience: Duration) -> Result<(), Ended> {
    let began = Instant::now();
    while told.count() < wanted {
        if began.elapsed() > patience {
            let delivered = told.count();
            return Err(Ended::Overload(format!(
                "{delivered} of {wanted} orders were delivered {patience:?} after the last post"
            )));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

fn rows(cluster: &Figures, files: &Figures, seconds: usize) -> Vec<Row> {
    let one = |value: f64| Spread::of(vec![value]);
    let rate = cluster.rate;
    let note = format!(
        "{rate} orders/s for {seconds} s, open loop, two instances of everything, saga running, books audited; load from this process on the same cores{}",
        cluster.unborne.as_ref().map(|why| format!("; {why}")).unwrap_or_default()
    );
    let time = |name, of: &dyn Fn(&Figures) -> f64| {
        let beside = format!("{:.1} ms in one process on files", of(files));
        Row::measured(name, "ms", one(of(cluster))).against(beside).note(&note)
    };
    let mut all = vec![
        time("cluster_intake_p95", &|f| f.intake.percentile_ms(95)),
        time("cluster_saga_p50", &|f| f.saga.percentile_ms(50)),
        time("cluster_saga_p99", &|f| f.saga.percentile_ms(99)),
        Row::measured("cluster_cpu_ours", "ms", one(cluster.ours_ms))
            .against(format!("{:.2} ms in one process on files", files.ours_ms))
            .note("a paid order, all processes of the city, the card network among them"),
    ];
    let engine = |names: &[&str]| names.iter().filter_map(|name| cluster.engines_ms.get(*name)).sum::<f64>();
    for (name, engines) in [
        ("cluster_cpu_postgres", &["postgres", "standby", "pgbouncer"][..]),
        ("cluster_cpu_kafka", &["kafka", "kafka3"]),
        ("cluster_cpu_others", &["redis", "consul", "etcd", "jaeger"]),
    ] {
        all.push(Row::measured(name, "ms", one(engine(engines))).note(format!("a paid order: {}", engines.join(", "))));
    }
    all
}

/// Engines run as another user, who must be able to pass through the folder of the bench.
pub(crate) fn let_engines_pass(folder: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o711))
        .context("cannot open the folder to engines")
}
