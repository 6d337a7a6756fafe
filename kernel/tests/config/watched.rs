//! Files that change under a running process.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kernel::clock::Clock;
use kernel::config::{Configuration, History, Live, Watch, changes};
use kernel::health::Health;
use kernel::task::Tasks;
use kernel::telemetry::Metrics;

use super::{Bank, Till, recipe, refused, tables, until};

struct Running {
    folder: tempfile::TempDir,
    configuration: Configuration,
    till: Live<Till>,
    history: History,
    _tasks: Tasks,
}

impl Running {
    async fn start(environment: &[(&str, &str)], text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("city.toml"), text).unwrap();
        let (recipe, kept) = (recipe(folder.path(), environment), folder.path().join("config"));
        let started = Watch::start(recipe, tables(), None, &kept, Clock::system(), true).await;
        let (watch, configuration) = started.unwrap();
        let (tasks, till) = (Tasks::new(), configuration.live("till").unwrap());
        tasks.spawn("config", watch.run(tasks.stopping()));
        Self { history: History::new(&kept, 50), folder, configuration, till, _tasks: tasks }
    }

    /// As editors do it: written aside, moved into place.
    fn write(&self, text: &str) {
        let draft = self.folder.path().join("draft");
        fs::write(&draft, text).unwrap();
        fs::rename(draft, self.folder.path().join("city.toml")).unwrap();
    }

    fn pay_within_s(&self) -> u64 {
        self.till.get().pay_within_s
    }
}

#[tokio::test]
async fn a_file_that_is_replaced_or_removed_takes_effect_and_is_a_version() {
    let city = Running::start(&[], "[till]\npay_within_s = 70").await;
    assert_eq!(city.pay_within_s(), 70);
    city.write("[till]\npay_within_s = 80");
    until("80", || city.pay_within_s() == 80).await;
    fs::remove_file(city.folder.path().join("city.toml")).unwrap();
    until("what the city works out by itself", || city.pay_within_s() == 60).await;
    city.write("[till]\npay_within_s = 80");
    until("80 again", || city.pay_within_s() == 80).await;
    until("four versions", || city.history.list().unwrap().len() == 4).await;
    let versions = city.history.list().unwrap();
    let told: Vec<(u64, usize)> = versions.iter().map(|v| (v.sequence, v.changes.len())).collect();
    assert_eq!(told, [(1, 0), (2, 1), (3, 1), (4, 1)]);
    assert_eq!((&versions[1].hash, &versions[1].changes[0].origin), (&versions[3].hash, &"city.toml".to_owned()));
    assert_ne!(versions[0].hash, versions[1].hash);
    assert_eq!(versions[2].values["till.pay_within_s"].origin, "the city");
    let between = changes(&versions[0].values, &versions[1].values);
    assert_eq!((between.len(), &between[0].from, &between[0].to), (1, &70.into(), &80.into()));
}

#[tokio::test]
async fn what_is_wrong_keeps_the_old_and_says_so_everywhere_until_it_is_mended() {
    let city = Running::start(&[], "[till]\npay_within_s = 70").await;
    let (metrics, health) = (Metrics::new("till"), Health::new());
    city.configuration.report(&metrics, &health);
    health.started();
    for (text, says) in [
        ("[till]\npay_within = 80", "unknown key till.pay_within in city.toml; known here: drawer"),
        ("[tills]\npay_within_s = 80", "unknown key tills in city.toml"),
        ("[till]\npay_within_s = 'soon'", "till.pay_within_s in city.toml: invalid type"),
        ("[till]\npay_within_s = 2000", "till.pay_within_s is at most 1000"),
        ("[till\n", "city.toml: TOML parse error"),
        (
            "[bank]\nretry_ms = 60000",
            "till.pay_within_s = 60 (the city) must be longer than bank.retry_ms = 60000 (city.toml)",
        ),
    ] {
        city.write(text);
        until(says, || refused(&city.configuration).contains(says)).await;
        assert_eq!(city.pay_within_s(), 70);
        let found = health.ready().await;
        assert!(found.is_up() && found.checks["config"].detail.contains(says), "{found:?}");
        until("the command sees it", || city.history.running().unwrap().standing.refused.is_some()).await;
    }
    let text = metrics.render();
    assert!(text.contains("config_refused{service=\"till\"} 1\n"), "{text}");
    assert!(text.contains("config_offers_total{service=\"till\",outcome=\"refused\"} 6\n"), "{text}");
    city.write("[till]\npay_within_s = 90");
    until("mended", || city.pay_within_s() == 90).await;
    assert_eq!(city.configuration.standing().refused, None);
    assert_eq!(health.ready().await.checks["config"].detail, "in force");
    assert!(metrics.render().contains("config_refused{service=\"till\"} 0\n"));
}

#[tokio::test]
async fn what_is_read_at_start_stays_and_waits_while_the_rest_changes() {
    let city = Running::start(&[], "[till]\npay_within_s = 70\ndrawer = 1").await;
    city.write("[till]\npay_within_s = 80\ndrawer = 2");
    until("80", || city.pay_within_s() == 80).await;
    assert_eq!(city.till.get().drawer, 1);
    assert_eq!(city.configuration.standing().needs_restart, ["till.drawer"]);
    assert_eq!(city.configuration.effective().shown()["till.drawer"].value, 1);
    city.write("[till]\npay_within_s = 80\ndrawer = 1");
    until("nothing waits", || city.configuration.standing().needs_restart.is_empty()).await;
}

#[tokio::test]
async fn a_file_of_the_environment_is_stronger_and_a_variable_stronger_still() {
    let city =
        Running::start(&[("FX_CONFIG__ENVIRONMENT", "staging"), ("FX_BANK__RETRY_MS", "7")], "[bank]\nretry_ms = 5")
            .await;
    fs::write(city.folder.path().join("city.staging.toml"), "[till]\npay_within_s = 99\n[bank]\nretry_ms = 6").unwrap();
    until("99", || city.pay_within_s() == 99).await;
    let shown = city.configuration.effective().shown();
    assert_eq!(shown["till.pay_within_s"].origin, "city.staging.toml");
    assert_eq!((&shown["bank.retry_ms"].value, &*shown["bank.retry_ms"].origin), (&7.into(), "FX_BANK__RETRY_MS"));
}

#[tokio::test]
async fn a_value_that_must_not_show_does_not_although_its_change_takes_effect() {
    let city = Running::start(&[], "[till]\npin = 'kanarienvogel-1'").await;
    city.write("[till]\npin = 'kanarienvogel-2'\npay_within_s = 61");
    until("the new pin", || city.till.get().pin == "kanarienvogel-2").await;
    until("two versions", || city.history.list().unwrap().len() == 2).await;
    for file in fs::read_dir(city.folder.path().join("config")).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        assert!(!text.contains("kanarienvogel"), "{text}");
    }
    assert!(!format!("{:?}", city.configuration).contains("kanarienvogel"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_one_state_or_the_other_and_never_half() {
    let city = Running::start(&[], "[till]\npay_within_s = 100\npin = '100'").await;
    let (till, read) = (city.till.clone(), Arc::new(AtomicU64::new(0)));
    let (count, tasks) = (read.clone(), Tasks::new());
    let stop = tasks.stopping();
    tasks.spawn("reader", async move {
        while !stop.is_cancelled() {
            let seen = till.get();
            assert_eq!(seen.pay_within_s.to_string(), seen.pin);
            count.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    });
    for figure in 101..106_u64 {
        city.write(&format!("[till]\npay_within_s = {figure}\npin = '{figure}'"));
        until("the next figure", || city.pay_within_s() == figure).await;
    }
    assert!(tasks.drain(std::time::Duration::from_secs(5)).await.is_empty());
    assert!(read.load(Ordering::Relaxed) > 100);
}

#[tokio::test]
async fn only_the_newest_versions_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (history, clock) = (History::new(folder.path(), 3), Clock::system());
    for retry_ms in 0..5 {
        let sources =
            kernel::config::Sources::new("FX").set("bank.retry_ms", retry_ms.to_string()).set("till.pay_within_s", "9");
        let configuration = Configuration::of(tables(), sources).unwrap();
        configuration.live::<Bank>("bank").unwrap();
        for _ in 0..2 {
            history.record(&configuration.effective(), &configuration.standing(), clock.now()).unwrap();
        }
    }
    let kept: Vec<u64> = history.list().unwrap().iter().map(|version| version.sequence).collect();
    assert_eq!(kept, [3, 4, 5]);
    assert_eq!(history.running().unwrap().sequence, 5);
}
