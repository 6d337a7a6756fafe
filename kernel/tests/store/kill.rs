//! kill -9 in the middle of the load: what was acknowledged is there, and no unit is there by half.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use futures::future::join_all;
use kernel::clock::Clock;
use kernel::store::{Engine, Options, Scalar, Server, Store, StoreError, Tx};
use kernel::{params, sql};

use crate::world::{STEPS, Tally, changed, note, notes, on_every_engine, outbox_count};

const WRITER: &str = "FX_TEST_WRITER_ENGINE";

/// The engine as the child gets it: fields separated by line ends, which no address holds.
fn encode(engine: &Engine) -> String {
    match engine {
        Engine::Sqlite { path } => path.display().to_string(),
        Engine::Postgres(server) => {
            let admin = server.admin_url.as_deref().unwrap();
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

/// What the child does until it is killed: 32 clients write, and every acknowledgement is printed.
async fn write_for_ever(engine: Engine) {
    let mut options = Options::new(engine, Clock::system());
    options.claims = vec!["thing.changed"];
    let store = Store::open(options, STEPS).await.unwrap();
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
                    println!("acknowledged {id}");
                }
            }
        }
    };
    join_all((0..32).map(client)).await;
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the test starts itself a second time, as the process that is killed")]
fn acknowledged_units_survive_kill_minus_nine() {
    if let Ok(engine) = std::env::var(WRITER) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        return runtime.block_on(write_for_ever(decode(&engine)));
    }
    on_every_engine(async |world| {
        let mut acknowledged = Vec::new();
        world.open().await.close().await;
        for kill in 1..=3 {
            acknowledged.extend(write_and_kill(&world.engine, kill * 150));
        }
        let store = world.open().await;
        let there = notes(&store).await;
        acknowledged.sort_unstable();
        let lost: Vec<&i64> = acknowledged.iter().filter(|id| there.binary_search(id).is_err()).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        assert!(there.iter().all(|id| id % 10 != 9), "a refused unit left a row");
        let tallied = sql!(Scalar<i64>, "SELECT n AS value FROM tally ORDER BY n");
        let tallied: Vec<i64> = store.read().all(tallied, params![]).await.unwrap().into_iter().map(|v| v.0).collect();
        assert_eq!(tallied, there, "half a unit is there");
        assert_eq!(outbox_count(&store).await, i64::try_from(there.len()).unwrap());
        println!("{} acknowledged, {} there, 3 kills", acknowledged.len(), there.len());
    });
}

/// Starts the child, kills it after `enough` acknowledgements, and gives all that it got out before it died.
fn write_and_kill(engine: &Engine, enough: usize) -> Vec<i64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::acknowledged_units_survive_kill_minus_nine", "--nocapture"])
        .env(WRITER, encode(engine))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let (mut acknowledged, mut line) = (Vec::new(), String::new());
    while output.read_line(&mut line).unwrap() > 0 {
        // The first line may follow the test runner's own words; the last one may be cut, and then has no end.
        let whole = line.strip_suffix('\n').and_then(|line| line.split_once("acknowledged "));
        acknowledged.extend(whole.and_then(|(_, id)| id.parse::<i64>().ok()));
        line.clear();
        if acknowledged.len() == enough {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(acknowledged.len() >= enough, "the writer ended by itself");
    acknowledged
}
