//! The gateway beside other proxies: the same requests, the same upstream, in turns of A-B-B-A.

mod mint;
mod proxy;
mod upstream;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, ensure};

use super::figures::{Spread, Times, float, ms_each};
use super::pace::{closed_loop, open_loop};
use super::wire::{Wires, request};
use super::{Row, Site};
use mint::Mint;
use proxy::{Program, Proxy};
use upstream::Upstream;

/// Connections of the closed loops, the same to every proxy.
const WIDTH: usize = 8;
/// The gateway's other tiers keep their limits here, so that the limiter is shown to be at work.
const LIMITED: &str = "premium";
/// More than any bucket of that tier holds, by far.
const FLOOD: usize = 20_000;

/// The stage: an upstream, the gateway before it, and callers.
struct Stage<'a> {
    site: &'a Site<'a>,
    upstream: Upstream,
    mint: Arc<Mint>,
    /// With one thread, as the other proxies: threads that wake each other cost any of them something.
    door: Proxy,
    /// As it comes, with a thread for each core.
    whole: Proxy,
    /// Requests of callers whose tokens the gateway has seen.
    warm: Arc<Vec<Vec<u8>>>,
}

pub(super) async fn measure(site: &Site<'_>) -> Result<Vec<Row>> {
    site.watch.stage("gateway: starting it before an upstream of our own");
    let folder = site.folder("gateway")?;
    let mint = Arc::new(Mint::new()?);
    let upstream = Upstream::start(mint.keys()).await?;
    let door = Proxy::gateway(&folder.join("gateway"), upstream.address, 1).await?;
    let whole = Proxy::gateway(&folder.join("whole"), upstream.address, 0).await?;
    let warm = (0..16).map(|_| get(Some(&mint.token("free")))).collect();
    let stage = Stage { site, upstream, mint, door, whole, warm: Arc::new(warm) };
    let measured = rows(&stage, &folder).await;
    let Stage { door, whole, upstream, .. } = stage;
    door.stop().await?;
    whole.stop().await?;
    upstream.stop().await;
    measured
}

async fn rows(stage: &Stage<'_>, folder: &std::path::Path) -> Result<Vec<Row>> {
    parity(stage).await.context("before measuring")?;
    let mut rows = vec![against_nginx(stage, &folder.join("nginx")).await?];
    rows.push(every_token_new(stage, &folder.join("haproxy")).await?);
    rows.push(added_time(stage).await.context("at a fixed rate")?);
    Ok(rows)
}

fn get(token: Option<&str>) -> Vec<u8> {
    let bearer = token.map(|token| format!("Bearer {token}"));
    let headers: Vec<(&str, &str)> = bearer.iter().map(|bearer| ("authorization", bearer.as_str())).collect();
    request("GET", "/api/v1/orders/0190a1b2-0000-7000-8000-000000000001", &headers, b"")
}

/// Before any figure: the gateway checks what it is said to check.
async fn parity(stage: &Stage<'_>) -> Result<()> {
    let door = Wires::to(stage.door.address);
    let status = async |request: Vec<u8>| door.ask(&request).await.map(|reply| reply.status);
    ensure!(status(get(Some(&stage.mint.token("free")))).await? == 200, "a good token is let in");
    ensure!(status(get(Some(&Mint::forged()))).await? == 401, "a bad signature is refused with 401");
    ensure!(status(get(None)).await? == 401, "no token is refused with 401");
    let limited = Arc::new(get(Some(&stage.mint.token(LIMITED))));
    let (refused, asked) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (count, all, wires) = (refused.clone(), asked.clone(), door.clone());
    let flood = stage.site.size.pick(FLOOD, FLOOD, 0);
    closed_loop(WIDTH, flood, move |_| {
        let (count, all, wires, limited) = (count.clone(), all.clone(), wires.clone(), limited.clone());
        async move {
            // Once one was refused the rest need not be asked.
            if count.load(Ordering::Relaxed) == 0 {
                all.fetch_add(1, Ordering::Relaxed);
                count.fetch_add(usize::from(wires.ask(&limited).await?.status == 429), Ordering::Relaxed);
            }
            Ok(())
        }
    })
    .await?;
    let (refused, asked) = (refused.load(Ordering::Relaxed), asked.load(Ordering::Relaxed));
    ensure!(flood == 0 || refused > 0, "{asked} requests of a limited caller were let in");
    Ok(())
}

/// CPU time per request of one proxy, in milliseconds; anything but 200 ends it.
async fn cost(proxy: &Proxy, requests: &Arc<Vec<Vec<u8>>>, count: usize) -> Result<f64> {
    let (wires, requests) = (Wires::to(proxy.address), requests.clone());
    let one = move |number: usize| {
        let (wires, requests) = (wires.clone(), requests.clone());
        async move {
            let reply = wires.ask(&requests[number % requests.len()]).await?;
            ensure!(reply.status == 200, "a request was answered with {}", reply.status);
            Ok(())
        }
    };
    let before = proxy.cpu();
    closed_loop(WIDTH, count, one).await?;
    Ok(ms_each(proxy.cpu().since(&before), count))
}

async fn against_nginx(stage: &Stage<'_>, folder: &std::path::Path) -> Result<Row> {
    const NAME: &str = "gateway_cpu_vs_nginx";
    let Some(nginx) = Proxy::nginx(folder, stage.upstream.address).await? else {
        return Ok(Row::skipped(NAME, "x", Program::Nginx.how_to_get()).budget(1.3, 1.0));
    };
    let (count, turns) = stage.site.size.pick((50_000, 3), (20_000, 1), (50, 1));
    // The first requests fill caches and connection pools on both sides.
    for door in [&stage.door, &stage.whole] {
        cost(door, &stage.warm, count.min(2000)).await.context("the gateway's first requests")?;
    }
    cost(&nginx, &stage.warm, count.min(2000)).await.context("nginx's first requests")?;
    let (mut ours, mut theirs, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 1..=turns {
        stage.site.watch.stage(&format!("gateway: beside nginx, turn {turn} of {turns}"));
        ours.push(cost(&stage.door, &stage.warm, count).await?);
        theirs.push(cost(&nginx, &stage.warm, count).await?);
        theirs.push(cost(&nginx, &stage.warm, count).await?);
        ours.push(cost(&stage.door, &stage.warm, count).await?);
        whole.push(cost(&stage.whole, &stage.warm, count).await?);
    }
    nginx.stop().await?;
    let (ours, theirs, whole) = (Spread::of(ours), Spread::of(theirs), Spread::of(whole));
    let us = |figure: f64| figure * 1000.0;
    let against = format!(
        "nginx as a plain proxy: {:.1} µs/request ({:.1} to {:.1})",
        us(theirs.median),
        us(theirs.min),
        us(theirs.max)
    );
    let note = format!(
        "gateway {:.1} µs/request ({:.1} to {:.1}), tokens known, limits, headers, metrics and traces on; one thread each, and \
         with one for each core the gateway {:.1} ({:.1} to {:.1}); {count} requests a round, {WIDTH} connections, CPU of the \
         proxies' processes alone; bad signature 401 and 429 over the limit checked first",
        us(ours.median),
        us(ours.min),
        us(ours.max),
        us(whole.median),
        us(whole.min),
        us(whole.max)
    );
    Ok(Row::measured(NAME, "x", ours.over(theirs)).against(against).budget(1.3, 1.0).note(note))
}

async fn every_token_new(stage: &Stage<'_>, folder: &std::path::Path) -> Result<Row> {
    const NAME: &str = "gateway_cpu_new_tokens_vs_haproxy";
    let (count, turns) = stage.site.size.pick((10_000, 2), (4000, 1), (20, 1));
    let haproxy = Proxy::haproxy(folder, stage.upstream.address, &stage.mint.pem()).await?;
    if let Some(haproxy) = &haproxy {
        let refused = Wires::to(haproxy.address).ask(&get(Some(&Mint::forged()))).await?;
        ensure!(refused.status == 401, "HAProxy checks signatures too");
    }
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for turn in 1..=turns {
        for _ in 0..2 {
            stage.site.watch.stage(&format!("gateway: every token new, turn {turn} of {turns}"));
            let fresh = new_tokens(&stage.mint, count).await?;
            ours.push(cost(&stage.door, &fresh, count).await?);
            if let Some(haproxy) = &haproxy {
                theirs.push(cost(haproxy, &fresh, count).await?);
            }
        }
    }
    let ours = Spread::of(ours);
    let note = format!("gateway {:.1} µs/request with every token new; one thread each", ours.median * 1000.0);
    let Some(haproxy) = haproxy else {
        return Ok(Row::skipped(NAME, "x", format!("{}; {note}", Program::Haproxy.how_to_get())).budget(1.0, 0.75));
    };
    haproxy.stop().await?;
    let theirs = Spread::of(theirs);
    let against = format!("HAProxy checking RS256: {:.1} µs/request", theirs.median * 1000.0);
    Ok(Row::measured(NAME, "x", ours.over(theirs)).against(against).budget(1.0, 0.75).note(note))
}

/// Requests with tokens that nobody has seen; signing is work for both cores, and done before anything is measured.
async fn new_tokens(mint: &Arc<Mint>, count: usize) -> Result<Arc<Vec<Vec<u8>>>> {
    let half = |count: usize| {
        let mint = mint.clone();
        tokio::task::spawn_blocking(move || (0..count).map(|_| get(Some(&mint.token("free")))).collect::<Vec<_>>())
    };
    let (first, second) = tokio::join!(half(count / 2), half(count - count / 2));
    let mut all = first?;
    all.extend(second?);
    Ok(Arc::new(all))
}

async fn added_time(stage: &Stage<'_>) -> Result<Row> {
    let (probe, highest, seconds, turns) =
        stage.site.size.pick((20_000, 10_000.0, 5, 2), (8000, 10_000.0, 2, 1), (50, 50.0, 1, 1));
    stage.site.watch.stage("gateway: finding a rate that this machine bears");
    let wires = Wires::to(stage.whole.address);
    let requests = stage.warm.clone();
    let took = closed_loop(WIDTH, probe, move |number| {
        let (wires, requests) = (wires.clone(), requests.clone());
        async move { wires.ask(&requests[number % requests.len()]).await.map(drop) }
    });
    let most = float(probe) / took.await?.as_secs_f64();
    // Client and upstream share the cores: above this the queue for them is what one would measure.
    let rate = (most * 0.35).min(highest).round();
    let count = (1..1_000_000).find(|n| float(*n) >= rate).unwrap_or(1) * seconds;
    let (mut through, mut direct) = (Vec::new(), Vec::new());
    for turn in 1..=turns {
        stage.site.watch.stage(&format!("gateway: {rate} requests/s, turn {turn} of {turns}"));
        through.push(p99(stage.whole.address, &stage.warm, rate, count).await?);
        direct.push(p99(stage.upstream.address, &stage.warm, rate, count).await?);
        direct.push(p99(stage.upstream.address, &stage.warm, rate, count).await?);
        through.push(p99(stage.whole.address, &stage.warm, rate, count).await?);
    }
    let (through, direct) = (Spread::of(through), Spread::of(direct));
    let added = Spread {
        median: through.median - direct.median,
        min: through.min - direct.max,
        max: through.max - direct.min,
        rounds: through.rounds,
    };
    let note = format!(
        "open loop at {rate} requests/s (this machine bears {most:.0} with client and upstream on the same cores); p99 through the gateway with a thread for each core {:.2} ms",
        through.median
    );
    Ok(Row::measured("gateway_p99_added", "ms", added)
        .against(format!("the upstream itself: p99 {:.2} ms", direct.median))
        .budget(2.0, 1.0)
        .note(note))
}

async fn p99(address: std::net::SocketAddr, requests: &Arc<Vec<Vec<u8>>>, rate: f64, count: usize) -> Result<f64> {
    let (wires, requests) = (Wires::to(address), requests.clone());
    let (opening, first) = (wires.clone(), requests.clone());
    // Connections are opened before anything is timed.
    closed_loop(WIDTH * 4, WIDTH * 8, move |number| {
        let (wires, requests) = (opening.clone(), first.clone());
        async move { wires.ask(&requests[number % requests.len()]).await.map(drop) }
    })
    .await?;
    let shots = open_loop(rate, count, move |number| {
        let (wires, requests) = (wires.clone(), requests.clone());
        async move {
            let reply = wires.ask(&requests[number % requests.len()]).await?;
            ensure!(reply.status == 200, "a request was answered with {}", reply.status);
            Ok(())
        }
    });
    let mut times = Vec::with_capacity(count);
    for shot in shots.await? {
        shot.result?;
        times.push(shot.took);
    }
    Ok(Times::new(times).percentile_ms(99))
}
