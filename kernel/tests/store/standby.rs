//! Reads that may be old go to a standby, as long as it is known how old they are; everything else never does.

use std::time::{Duration, Instant};

use kernel::store::{Away, Scalar, Server, Store, StoreError, WriteError};
use kernel::testing::scratch;
use kernel::{params, sql};

use crate::cluster::{Cluster, options};
use crate::world::{STEPS, spawn, write_note};

const LONG: Duration = Duration::from_secs(50);
const SHORT: Duration = Duration::from_millis(400);

async fn glance(store: &Store, max_age: Duration) -> i64 {
    let sql = sql!(Scalar<i64>, "SELECT COUNT(*) AS value FROM note");
    store.read_stale(max_age).one(sql, params![]).await.unwrap().0
}

async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < Duration::from_secs(20), "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_answers_within_its_bound_and_never_beyond_it() {
    let Some(mut cluster) = Cluster::start("").await else { return };
    cluster.follow().await;
    let schema = scratch::fresh_schema();
    let server = cluster.engine(&[&cluster.primary], &schema);
    let standby_url = Some(server.url.replace(&cluster.primary.port.to_string(), &cluster.standby().port.to_string()));
    let standby_url = standby_url.map(|url| url.replace("target_session_attrs=read-write", "target_session_attrs=any"));
    let store = Store::open(options(Server { standby_url, ..server }), STEPS).await.unwrap();
    write_note(&store, 1).await.unwrap();
    let behind = cluster.standby().admin().await;
    until("the standby has the row", async || {
        let there = format!("SELECT count(*) FROM {schema}.note");
        behind.query_one(&there, &[]).await.is_ok_and(|row| row.get::<_, i64>(0) == 1)
    })
    .await;
    // The first looks make marks; from then on the standby is known to be fresh.
    glance(&store, LONG).await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    behind.batch_execute("SELECT pg_wal_replay_pause()").await.unwrap();
    until("replay is paused", async || {
        behind.query_one("SELECT pg_get_wal_replay_pause_state() = 'paused'", &[]).await.unwrap().get(0)
    })
    .await;
    write_note(&store, 2).await.unwrap();
    // A long bound lets the standby answer without the row, which shows that it was asked; a decision never does.
    assert_eq!(glance(&store, LONG).await, 1, "the standby did not answer");
    assert_eq!(crate::world::notes(&store).await, [1, 2]);
    // Once the pause is longer than the bound, the primary answers, again and again.
    tokio::time::sleep(SHORT + Duration::from_millis(300)).await;
    for _ in 0..10 {
        assert_eq!(glance(&store, SHORT).await, 2, "an answer beyond its bound");
    }
    behind.batch_execute("SELECT pg_wal_replay_resume()").await.unwrap();
    until("the standby catches up", async || glance(&store, LONG).await == 2).await;
    // A standby that is gone costs nothing but its answers.
    cluster.standby.take().unwrap().kill();
    write_note(&store, 3).await.unwrap();
    until("the primary answers", async || glance(&store, LONG).await == 3).await;
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_whose_address_leads_to_a_standby_neither_writes_nor_decides() {
    let Some(mut cluster) = Cluster::start("").await else { return };
    let schema = scratch::fresh_schema();
    let server = cluster.engine(&[&cluster.primary], &schema);
    Store::open(options(server.clone()), STEPS).await.unwrap().close().await;
    cluster.follow().await;
    // As if somebody had pointed the name of the primary at the standby.
    let url = server.url.replace(&cluster.primary.port.to_string(), &cluster.standby().port.to_string());
    let url = url.replace("target_session_attrs=read-write", "target_session_attrs=any");
    let opened = Store::open(options(Server { url, admin_url: None, ..server }), STEPS).await;
    assert!(
        matches!(opened.as_ref().err(), Some(StoreError::Lost(Away::Gone(why))) if why.contains("follows")),
        "{:?}",
        opened.err()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_go_on_by_themselves_when_the_primary_is_killed_and_the_standby_promoted() {
    let Some(mut cluster) = Cluster::start("synchronous_standby_names = '*'\nsynchronous_commit = local").await else {
        return;
    };
    let schema = scratch::fresh_schema();
    cluster.follow().await;
    // From here on a commit is acknowledged when the standby has it too: what is promoted has all that was promised.
    let on = "ALTER SYSTEM SET synchronous_commit = on";
    cluster.primary.admin().await.batch_execute(on).await.unwrap();
    cluster.primary.admin().await.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let server = cluster.engine(&[&cluster.primary, cluster.standby()], &schema);
    let store = Store::open(options(server), STEPS).await.unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let writer = |client: i64| {
        let (store, stop) = (store.clone(), stop.clone());
        async move {
            let (mut acknowledged, mut unknown, mut id) = (Vec::new(), Vec::new(), client);
            while !stop.is_cancelled() {
                id += 100;
                match store.write(move |tx: kernel::store::Tx| async move { pair(&tx, id).await }).await {
                    Ok(()) => acknowledged.push(id),
                    Err(WriteError::Unknown) => unknown.push(id),
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
            (acknowledged, unknown)
        }
    };
    let writers: Vec<_> = (1..=8).map(|client| spawn(writer(client))).collect();
    tokio::time::sleep(Duration::from_millis(700)).await;
    cluster.primary.kill();
    let before = Instant::now();
    cluster.standby().promote().await;
    let took = before.elapsed();
    cluster.standby().admin().await.batch_execute("ALTER SYSTEM SET synchronous_standby_names = ''").await.unwrap();
    cluster.standby().admin().await.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    stop.cancel();
    let ends: Vec<_> = futures::future::join_all(writers).await.into_iter().map(Result::unwrap).collect();
    let (acknowledged, unknown): (Vec<_>, Vec<_>) = ends.into_iter().unzip();
    let (acknowledged, unknown) = (acknowledged.concat(), unknown.concat());
    let there = crate::world::notes(&store).await;
    let after = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1";
    assert!(cluster.standby().admin().await.query_one(after, &[&schema]).await.unwrap().get::<_, i64>(0) > 0);
    let lost: Vec<_> = acknowledged.iter().filter(|id| !there.contains(id)).collect();
    assert_eq!(lost, Vec::<&i64>::new(), "acknowledged and lost");
    let made_up: Vec<_> = there.iter().filter(|id| !acknowledged.contains(id) && !unknown.contains(id)).collect();
    assert_eq!(made_up, Vec::<&i64>::new(), "failed and there");
    let halves = sql!(Scalar<i64>, "SELECT COUNT(*) AS value FROM tally");
    assert_eq!(
        store.read().one(halves, params![]).await.unwrap().0,
        i64::try_from(there.len()).unwrap(),
        "half a unit"
    );
    println!(
        "promoted in {took:?}; {} acknowledged, {} unknown, {} there",
        acknowledged.len(),
        unknown.len(),
        there.len()
    );
    assert!(there.len() > 16);
    store.close().await;
}

/// A unit of two rows: half of it would show.
async fn pair(tx: &kernel::store::Tx, id: i64) -> Result<(), StoreError> {
    tx.insert(&crate::world::note(id)).await?;
    tx.insert(&crate::world::Tally { name: id.to_string(), n: id }).await
}
