//! Units of work a second: by many who share their commits, and by one who waits for each.

use std::time::Duration;

use anyhow::{Result, anyhow};
use kernel::clock::Clock;
use kernel::events::{Fault, Payload, Subject};
use kernel::store::{Engine, Options, Store, Tx};
use uuid::Uuid;

use super::figures::{Spread, float};
use super::pace::closed_loop;
use super::{Row, Site, flush};

/// How many share commits.
const CLIENTS: usize = 32;

/// What each unit writes.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[expect(unreachable_pub, reason = "the macro makes public event types, and what they carry must be as public")]
pub struct Entry {
    /// Whose it is.
    pub org: Uuid,
    /// Which one.
    pub id: Uuid,
    /// As long as the state of an order.
    pub text: String,
}

impl Payload for Entry {
    fn subject(&self) -> Subject {
        Subject { org: self.org, id: self.id, version: 1 }
    }
}

kernel::events! {
    publisher "bench-store", topic "bench-store.events", aggregate "entry";
    /// Something was written.
    "entry.made" v 1 [] => EntryMade(Entry);
}

pub(super) async fn measure(site: &Site<'_>) -> Result<Vec<Row>> {
    let folder = site.folder("store")?;
    let (many, few, rounds) = site.size.pick((40_000, 2000, 3), (5000, 300, 2), (100, 5, 1));
    let engine = Engine::Sqlite { path: folder.join("bench-store.sqlite") };
    let claims = EVENTS.iter().map(|event| event.name).collect();
    let store = Store::open(Options { claims, ..Options::new(engine, Clock::system()) }, &[]).await?;
    let (mut together, mut alone, mut flushes) = (Vec::new(), Vec::new(), Vec::new());
    for number in 1..=rounds {
        site.watch.stage(&format!("store: round {number} of {rounds}"));
        flushes.push(flush::flush_ms(&folder, site.size.pick(200, 100, 5)).await?.median);
        together.push(per_second(many, write(&store, CLIENTS, many).await?));
        alone.push(per_second(few, write(&store, 1, few).await?));
    }
    store.close().await;
    let flush = Spread::of(flushes).median;
    let against = format!("one flush of {flush:.3} ms, so at most {:.0} of them a second", 1000.0 / flush);
    let note = "units with one event each (one row, four indexes), SQLite, every one durable when answered";
    Ok(vec![
        Row::measured("store_units_32_clients", "units/s", Spread::of(together)).against(&against).note(note),
        Row::measured("store_units_one_by_one", "units/s", Spread::of(alone)).against(&against).note(note),
    ])
}

async fn write(store: &Store, clients: usize, count: usize) -> Result<Duration> {
    let store = store.clone();
    closed_loop(clients, count, move |_| {
        let store = store.clone();
        async move {
            let entry = Entry { org: Uuid::nil(), id: kernel::ids::fresh(), text: "x".repeat(800) };
            let unit = move |tx: Tx| {
                let entry = entry.clone();
                async move { tx.emit(EntryMade(entry)).map_err(Fault::from) }
            };
            store.write(unit).await.map_err(|e| anyhow!("a unit did not commit: {e}"))
        }
    })
    .await
}

fn per_second(count: usize, took: Duration) -> f64 {
    float(count) / took.as_secs_f64()
}
