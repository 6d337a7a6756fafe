//! Every case on every engine of this test run, and every case against its planted fault. Those of the bus are played by
//! the kernel's own tests.

use std::process::Command;
use std::sync::Arc;

use conformance::{Addresses, Cell, Choice, ENGINES, FAMILIES, Played, play, play_part};
use kernel::testing::scratch;

/// The cases start this program again, as the process that they kill.
fn again() -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["a_part_is_played_when_a_case_asks_for_it", "--exact", "--nocapture", "--test-threads=1"]);
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_is_played_when_a_case_asks_for_it() {
    play_part().await;
}

async fn played(family: &str, seeded: bool) {
    let choice = Choice::new(&[format!("{family}.*")], &[]).unwrap();
    let variables = choice.needs().into_iter().map(|(_, variable)| variable);
    let addresses: Addresses =
        variables.filter_map(|variable| Some((variable.to_owned(), scratch::address(variable)?))).collect();
    let told = |played: &Played| println!("{} on {}: {:?}", played.case, played.engine, played.cell);
    let all = play(&choice, &Arc::new(addresses), &Addresses::new(), seeded, again, told).await;
    let broken: Vec<_> = all.iter().filter(|played| matches!(played.cell, Cell::Broken(_))).collect();
    assert!(broken.is_empty(), "{broken:#?}");
    let seen = all.iter().any(|played| matches!(played.cell, Cell::Seen(_)));
    let needs_redis = ["limits", "locks", "redis"].contains(&family);
    let may_be_missing = needs_redis && scratch::told("FX_TEST_REQUIRE_ENGINES").as_deref() != Some("1");
    assert!(seen || may_be_missing, "nothing was played: {all:#?}");
}

macro_rules! families {
    ($($family:ident),*) => {
        $(mod $family {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn every_promise_is_kept() {
                super::played(stringify!($family), false).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn every_planted_fault_is_found() {
                super::played(stringify!($family), true).await;
            }
        })*

        const PLAYED: &[&str] = &[$(stringify!($family)),*];
    };
}

families!(store, idempotency, jobs, config, secrets, registry, limits, locks, cache, redis);

#[test]
fn every_family_is_played_somewhere() {
    let all: Vec<&str> = FAMILIES.iter().map(|family| family.name).filter(|name| *name != "bus").collect();
    for family in &all {
        assert!(PLAYED.contains(family), "{family}");
    }
    assert_eq!(all.len(), PLAYED.len());
    assert!(ENGINES.iter().all(|engine| FAMILIES.iter().any(|f| f.engines().any(|column| column.name == engine.name))));
}
