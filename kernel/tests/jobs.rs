//! Jobs that are declared wrongly; what jobs and timers promise stands in `conformance`.

use kernel::clock::Clock;
use kernel::jobs::{self, Job, Trigger, Tz};
use kernel::store::{Engine, Options, Store};
use tokio_util::sync::CancellationToken;

fn idle(name: &'static str, trigger: Trigger) -> Job {
    Job::new(name, trigger, || async { Ok(()) })
}

#[tokio::test]
async fn a_declaration_that_makes_no_sense_ends_at_once_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::Sqlite { path: folder.path().join("jobs.db") };
    let store = Store::open(Options::new(engine, Clock::system()), &[]).await.unwrap();
    let woken = Trigger::Woken { sweep: std::time::Duration::from_secs(3600) };
    let run = |jobs| jobs::run(store.clone(), "a".to_owned(), jobs, vec![], CancellationToken::new());
    let twice = run(vec![idle("pay", woken), idle("pay", woken)]).await.unwrap_err();
    assert_eq!(twice.to_string(), "job pay is declared twice");
    let often = idle("pay", Trigger::Cron { expr: "often", zone: Tz::UTC });
    assert!(run(vec![often]).await.unwrap_err().to_string().starts_with("job pay has a cron expression"));
}
