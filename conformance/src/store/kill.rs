//! kill -9 in the middle of the load: what was acknowledged is there, and no unit is there by half.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::Stdio;

use futures::future::join_all;
use kernel::clock::Clock;
use kernel::store::{Engine, Options, Scalar, Server, Store, StoreError, Tx};
use kernel::testing::world::{STEPS, Tally, World, changed, note, notes, outbox_count};
use kernel::{params, sql};

use super::tamper;
use crate::place::Place;

/// The part that is killed.
pub(crate) const WRITER: &str = "store.writer";

/// The engine as the child gets it: fields separated by line ends, which no address holds.
fn encode(engine: &Engine) -> String {
    match engine {
        Engine::Sqlite { path } => path.display().to_string(),
        Engine::Postgres(server) => {
            let admin = server.admin_url.as_deref().expect("the store works");
            format!("{}\n{admin}\n{}\n{}", server.url, server.schema, server.direct)
        }
    }
}

fn decode(text: &str) -> Engine {
    match text.split('\n').collect::<Vec<_>>()[..] {
        [url, admin, schema, direct] => Engine::Postgres(Server {
            direct: direct == "true",
            admin_url: Some(admin.into()),
            ..Server::new(url, schema)
        }),
        _ => Engine::Sqlite { path: PathBuf::from(text) },
    }
}

/// The killed part: 32 clients write, and every acknowledgement is printed.
pub(crate) async fn write_for_ever(engine: &str) {
    let mut options = Options::new(decode(engine), Clock::system());
    options.claims = vec!["thing.changed"];
    let store = Store::open(options, STEPS).await.expect("a store opens");
    let client = |client: i64| {
        let store = store.clone();
        async move {
            for round in 0.. {
                let id = round * 32 + client;
                let refuses = id % 10 == 9;
                let unit = move |tx: Tx| async move {
                    tx.insert(&note(id)).await?;
                    tx.emit(changed(kernel::ids::fresh(), id + 1))?;
                    tx.insert(&Tally { name: id.to_string(), n: id }).await?;
                    if refuses { Err(StoreError::NoRow) } else { Ok(()) }
                };
                if store.write(unit).await.is_ok() {
                    writeln!(std::io::stdout(), "acknowledged {id}").expect("somebody reads it");
                }
            }
        }
    };
    join_all((0..32).map(client)).await;
}

pub(super) async fn acknowledged(place: &Place, world: &World) -> String {
    let mut acknowledged = Vec::new();
    world.open().await.close().await;
    for kill in 1..=3 {
        let (place, engine) = (place.clone(), world.engine.clone());
        // Aside: what other cases wait for may be what the writer waits for.
        let killing = tokio::task::spawn_blocking(move || write_and_kill(&place, &engine, kill * 150));
        acknowledged.extend(killing.await.expect("the writer writes until it is killed"));
    }
    let store = world.open().await;
    if place.seeded {
        tamper(&store, sql!("DELETE FROM note WHERE id = 0")).await;
    }
    let there = notes(&store).await;
    acknowledged.sort_unstable();
    let lost: Vec<&i64> = acknowledged.iter().filter(|id| there.binary_search(id).is_err()).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    assert!(there.iter().all(|id| id % 10 != 9), "a refused unit left a row");
    let tallied = sql!(Scalar<i64>, "SELECT n AS value FROM tally ORDER BY n");
    let tallied = store.read().all(tallied, params![]).await.expect("the store works");
    let tallied: Vec<i64> = tallied.into_iter().map(|Scalar(n)| n).collect();
    assert_eq!(tallied, there, "half a unit is there");
    assert_eq!(outbox_count(&store).await, i64::try_from(there.len()).expect("a count"), "an event for each");
    format!("3 kills, {} acknowledged, 0 lost, 0 by half", acknowledged.len())
}

/// Starts the writer, kills it after so many acknowledgements, and gives all that it got out before it died.
fn write_and_kill(place: &Place, engine: &Engine, enough: usize) -> Vec<i64> {
    let mut writer = place.start(&format!("{WRITER}|{}", encode(engine)), Stdio::piped());
    let mut output = BufReader::new(writer.0.stdout.take().expect("it is piped"));
    let (mut acknowledged, mut line) = (Vec::new(), String::new());
    while output.read_line(&mut line).expect("it writes text") > 0 {
        // The first line may follow words of a test runner; the last one may be cut, and then has no end.
        let whole = line.strip_suffix('\n').and_then(|line| line.split_once("acknowledged "));
        acknowledged.extend(whole.and_then(|(_, id)| id.parse::<i64>().ok()));
        line.clear();
        if acknowledged.len() == enough {
            writer.kill();
        }
    }
    assert!(acknowledged.len() >= enough, "the writer ended by itself");
    acknowledged
}
