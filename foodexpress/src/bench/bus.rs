//! From the commit that publishes an event to the commit that holds its effect, over a real socket at a fixed rate.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use kernel::clock::Clock;
use kernel::events::{Event as _, EventDef, Fault, Payload, Reaction, Received, Subject};
use kernel::registry::Directory;
use kernel::store::{Engine, Options, Store, StoreError, Tx};
use kernel::testing::station::Station;
use tokio::sync::watch;
use uuid::Uuid;

use super::figures::{Spread, Times, float};
use super::pace::open_loop;
use super::{Row, Site, flush};

/// Longer means lost.
const PATIENCE: Duration = Duration::from_secs(60);

/// Something that one service tells and another hears.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[expect(unreachable_pub, reason = "the macro makes public event types, and what they carry must be as public")]
pub struct Notice {
    /// Whose it is.
    pub org: Uuid,
    /// Which one.
    pub id: Uuid,
    /// As long as the state of an order.
    pub text: String,
}

impl Payload for Notice {
    fn subject(&self) -> Subject {
        Subject { org: self.org, id: self.id, version: 1 }
    }
}

mod teller {
    kernel::events! {
        publisher "bench-teller", topic "bench-teller.events", aggregate "notice";
        /// Something was said.
        "notice.told" v 1 [] => NoticeTold(super::Notice);
    }
}

mod hearer {
    kernel::events! {
        publisher "bench-hearer", topic "bench-hearer.events", aggregate "echo";
        /// It was heard: the effect whose commit ends the measurement.
        "notice.heard" v 1 [] => NoticeHeard(super::Notice);
    }
}

pub(super) async fn measure(site: &Site<'_>) -> Result<Vec<Row>> {
    let (rate, seconds, rounds) = site.size.pick((500, 10, 3), (500, 4, 1), (50, 1, 1));
    let (mut p50, mut p99) = (Vec::new(), Vec::new());
    let folder = site.folder("bus")?;
    let flush = flush::flush_ms(&folder, site.size.pick(200, 100, 5)).await?;
    for number in 1..=rounds {
        site.watch.stage(&format!("bus: round {number} of {rounds}"));
        let times = round(&site.folder(&format!("bus/{number}"))?, rate, seconds).await?;
        p50.push(times.percentile_ms(50));
        p99.push(times.percentile_ms(99));
    }
    let note = format!(
        "{rate} events/s for {seconds} s, two services with a database each over a socket in this process; \
         each commit is timed when its store reports it durable; flush {:.2} ms",
        flush.median
    );
    Ok(vec![
        Row::measured("bus_p50", "ms", Spread::of(p50)).note(&note),
        Row::measured("bus_p99", "ms", Spread::of(p99)).budget(50.0, 20.0).note(&note),
    ])
}

async fn round(folder: &Path, rate: usize, seconds: usize) -> Result<Times> {
    let directory = Directory::default();
    let teller = station("bench-teller", teller::NoticeTold::DEF, folder, &directory).await?;
    let mut hearer = station("bench-hearer", hearer::NoticeHeard::DEF, folder, &directory).await?;
    hearer.hear(&directory, vec![Reaction::new(hear)], 3);
    let count = rate * seconds;
    // The first one finds out when the two are connected, and is not counted.
    tell(teller.store.clone()).await?;
    tokio::time::timeout(PATIENCE, commits(hearer.store.head(), 1)).await.context("nothing is heard")??;
    let (told, heard) = (commits(teller.store.head(), count + 1), commits(hearer.store.head(), count + 1));
    let store = teller.store.clone();
    let telling = open_loop(float(rate), count, move |_| tell(store.clone()));
    let all = async { tokio::join!(telling, told, heard) };
    let (shots, told, heard) = tokio::time::timeout(PATIENCE, all).await.context("not every event was heard")?;
    shots?.into_iter().try_for_each(|shot| shot.result)?;
    let times =
        told?.into_iter().zip(heard?).skip(1).map(|(told, heard)| heard.saturating_duration_since(told)).collect();
    hearer.stop().await;
    teller.stop().await;
    Ok(Times::new(times))
}

async fn tell(store: Store) -> Result<()> {
    let notice = Notice { org: Uuid::nil(), id: kernel::ids::fresh(), text: "x".repeat(800) };
    let unit = move |tx: Tx| {
        let notice = notice.clone();
        async move { tx.emit(teller::NoticeTold(notice)).map_err(Fault::from) }
    };
    store.write(unit).await.map_err(|e| anyhow!("a notice was not told: {e}"))
}

async fn station(name: &'static str, claim: EventDef, folder: &Path, directory: &Directory) -> Result<Station> {
    let engine = Engine::Sqlite { path: folder.join(format!("{name}.sqlite")) };
    let options = Options { claims: vec![claim.name], ..Options::new(engine, Clock::system()) };
    let station = Station::start(name, options, &[], SocketAddr::from(([127, 0, 0, 1], 0))).await;
    let station = station.map_err(|e| anyhow!("{name}: {e}"))?;
    directory.set(name, vec![station.address]);
    Ok(station)
}

async fn hear(tx: Tx, event: Received<teller::NoticeTold>) -> Result<(), Fault> {
    tx.emit(hearer::NoticeHeard(event.event.0)).map_err(|e: StoreError| Fault::from(e))
}

/// When the first, second, … event of an outbox became durable. Both outboxes number the same events alike: one writer
/// each, one event for an event, in order.
async fn commits(mut head: watch::Receiver<i64>, count: usize) -> Result<Vec<Instant>> {
    let mut times = Vec::with_capacity(count);
    loop {
        let durable = usize::try_from(*head.borrow_and_update())?.min(count);
        let now = Instant::now();
        times.resize(durable.max(times.len()), now);
        if times.len() == count {
            return Ok(times);
        }
        head.changed().await?;
    }
}
