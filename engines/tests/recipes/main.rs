//! Every engine of the table: it starts from nothing, answers, and after a kill and a restart has what it promised to keep.
//! What this machine lacks is said; with `FX_TEST_REQUIRE_ENGINES=1` it is a failure.

mod asking;

use std::path::PathBuf;

use asking::World;
use engines::{Action, Fleet, Setup, State, chosen, default_cache};
use tempfile::TempDir;

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Engines of a test's own, unless this machine cannot run them. Only where they are required, slow builds are made.
async fn world(names: &[&str]) -> Option<(World, TempDir)> {
    let folder = tempfile::tempdir().unwrap();
    let cache = variable("FX_ENGINE_CACHE").map_or_else(|| default_cache().unwrap(), PathBuf::from);
    let setup = Setup { folder: folder.path().to_owned(), cache };
    let engines = chosen(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).unwrap();
    let mut reasons: Vec<String> = setup.missing(&engines).iter().map(ToString::to_string).collect();
    if !variable("FX_TEST_REQUIRE_ENGINES").is_some_and(|v| v == "1") {
        let unbuilt = engines.iter().filter(|e| !setup.is_built(e));
        reasons.extend(
            unbuilt.map(|e| format!("{} is not built yet: `foodexpress engines build --only {}`", e.name, e.name)),
        );
        if !reasons.is_empty() {
            println!("skipped: {}", reasons.join("; "));
            return None;
        }
    }
    let fleet = Fleet::up(&setup, &engines, &|text| println!("{text}")).await.unwrap();
    Some((World::new(fleet), folder))
}

fn all_run(fleet: &Fleet) {
    for node in fleet.status() {
        assert_eq!(node.state, State::Running, "{node:?}");
        assert!(node.version.contains('.'), "{node:?}");
        assert!(node.address.starts_with("127.0.0.1:"), "{node:?}");
        let port: u16 = node.address.rsplit(':').next().unwrap().parse().unwrap();
        assert!((20_000..32_000).contains(&port), "{port} is not below the ports that the system hands out");
        let owner = std::fs::metadata(format!("/proc/{}", node.pid)).unwrap();
        assert_ne!(std::os::unix::fs::MetadataExt::uid(&owner), 0, "{} runs as root", node.name);
    }
}

/// Writes, kills, starts again, reads; then down, after which nothing of it is left but its log.
async fn keeps_its_promise(names: &[&str], name: &str) {
    let Some((world, folder)) = world(names).await else { return };
    all_run(&world.fleet);
    let keeps = engines::named(name).unwrap().keeps_data;
    world.put(name, "before").await;
    assert_eq!(world.get(name).await.as_deref(), Some("before"), "{name} answers");
    world.fleet.act(Action::Kill, name).await.unwrap();
    assert!(world.fleet.status().iter().filter(|n| n.engine == name).all(|n| n.state == State::Ended));
    world.fleet.act(Action::Restart, name).await.unwrap();
    all_run(&world.fleet);
    assert_eq!(world.get(name).await.as_deref(), keeps.then_some("before"), "{name} after a kill");
    let pids: Vec<u32> = world.fleet.status().iter().map(|n| n.pid).collect();
    world.fleet.down().await;
    for pid in pids {
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "{pid} is left");
    }
    let run = folder.path();
    assert!(!run.join("engines.json").exists() && !run.join("engines.env").exists());
    assert!(run.join(format!("engines/logs/{name}.log")).exists() || name == "kafka3", "the log stays");
    assert!(!run.join("engines").join(name).exists(), "the data goes");
}

#[tokio::test]
async fn postgres_keeps_what_was_committed() {
    keeps_its_promise(&["postgres"], "postgres").await;
}

#[tokio::test]
async fn pgbouncer_leads_to_the_store_again() {
    keeps_its_promise(&["postgres", "pgbouncer"], "pgbouncer").await;
}

#[tokio::test]
async fn redis_keeps_what_it_was_told() {
    keeps_its_promise(&["redis"], "redis").await;
}

#[tokio::test]
async fn etcd_keeps_its_keys() {
    keeps_its_promise(&["etcd"], "etcd").await;
}

#[tokio::test]
async fn consul_keeps_its_keys() {
    keeps_its_promise(&["consul"], "consul").await;
}

#[tokio::test]
async fn kafka_keeps_what_it_acknowledged() {
    keeps_its_promise(&["kafka"], "kafka").await;
}

#[tokio::test]
async fn three_brokers_keep_what_they_acknowledged() {
    if variable("FX_TEST_SLOW").is_none_or(|v| v != "1") {
        println!("left out: FX_TEST_SLOW is not 1");
        return;
    }
    keeps_its_promise(&["kafka3"], "kafka3").await;
}

#[tokio::test]
async fn jaeger_gives_a_trace_back_and_forgets_it_when_killed() {
    keeps_its_promise(&["jaeger"], "jaeger").await;
}

#[tokio::test]
async fn prometheus_keeps_what_it_scraped() {
    keeps_its_promise(&["prometheus"], "prometheus").await;
}

#[tokio::test]
async fn alertmanager_shows_an_alert_until_it_is_killed() {
    keeps_its_promise(&["alertmanager"], "alertmanager").await;
}

#[tokio::test]
async fn a_frozen_engine_keeps_its_connections_and_answers_nothing_until_it_is_thawed() {
    let Some((world, _folder)) = world(&["postgres", "redis"]).await else { return };
    for name in ["postgres", "redis"] {
        world.put(name, "warm").await;
        world.fleet.act(Action::Freeze, name).await.unwrap();
        let state = |wanted| world.fleet.status().iter().any(|n| n.name == name && n.state == wanted);
        assert!(state(State::Frozen));
        let asked = tokio::time::timeout(std::time::Duration::from_millis(300), world.get(name)).await;
        assert!(asked.is_err(), "{name} answers while it is frozen");
        world.fleet.act(Action::Thaw, name).await.unwrap();
        assert!(state(State::Running));
        assert_eq!(world.get(name).await.as_deref(), Some("warm"));
    }
    // What is frozen can be killed all the same.
    world.fleet.act(Action::Freeze, "postgres").await.unwrap();
    world.fleet.act(Action::Kill, "postgres").await.unwrap();
    world.fleet.act(Action::Restart, "postgres").await.unwrap();
    assert_eq!(world.get("postgres").await.as_deref(), Some("warm"));
    world.fleet.down().await;
}

#[tokio::test]
async fn a_wiped_engine_is_there_and_empty() {
    let Some((world, _folder)) = world(&["redis"]).await else { return };
    world.put("redis", "gone").await;
    let before = world.fleet.cards().unwrap();
    world.fleet.act(Action::Wipe, "redis").await.unwrap();
    assert_eq!(world.get("redis").await, None);
    let after = world.fleet.cards().unwrap();
    assert_eq!(before["redis"].addresses, after["redis"].addresses, "it is where it was");
    world.fleet.down().await;
}

#[tokio::test]
async fn a_standby_follows_is_paused_is_promoted_and_the_old_primary_comes_back_behind_it() {
    let Some((world, _folder)) = world(&["postgres", "standby", "pgbouncer"]).await else { return };
    let fleet = &world.fleet;
    world.put("postgres", "one").await;
    world.until("standby", "one").await;
    fleet.act(Action::Pause, "standby").await.unwrap();
    world.put("postgres", "two").await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(world.get("standby").await.as_deref(), Some("one"), "a paused standby grows old");
    fleet.act(Action::Resume, "standby").await.unwrap();
    world.until("standby", "two").await;
    let refused = fleet.act(Action::Wipe, "postgres").await.unwrap_err().to_string();
    assert!(refused.contains("is the primary"), "{refused}");

    fleet.act(Action::Kill, "postgres").await.unwrap();
    fleet.act(Action::Promote, "standby").await.unwrap();
    world.put("pgbouncer", "three").await;
    assert_eq!(world.get("standby").await.as_deref(), Some("three"), "the pool leads to the new primary");
    let refused = format!("{:#}", fleet.act(Action::Restart, "postgres").await.unwrap_err());
    assert!(refused.contains("engines rejoin postgres"), "{refused}");
    fleet.act(Action::Rejoin, "postgres").await.unwrap();
    world.until("postgres", "three").await;
    let role = |name: &str| fleet.status().iter().find(|n| n.name == name).unwrap().role.clone().unwrap();
    assert_eq!((role("postgres").as_str(), role("standby").as_str()), ("standby", "primary"));

    // And back: what was copied from a former standby must not follow that one's own primary, itself.
    fleet.act(Action::Kill, "standby").await.unwrap();
    fleet.act(Action::Promote, "postgres").await.unwrap();
    fleet.act(Action::Rejoin, "standby").await.unwrap();
    world.put("pgbouncer", "four").await;
    world.until("standby", "four").await;
    world.fleet.down().await;
}

#[tokio::test]
async fn a_folder_takes_one_run_at_a_time() {
    let Some((world, folder)) = world(&["redis"]).await else { return };
    let setup = Setup { folder: folder.path().to_owned(), cache: default_cache().unwrap() };
    let refused = Fleet::up(&setup, &chosen(&["redis".into()]).unwrap(), &|_| ()).await.unwrap_err().to_string();
    assert!(refused.contains("engines run in") && refused.contains("engines down --data"), "{refused}");
    all_run(&world.fleet);
    world.fleet.down().await;
}
