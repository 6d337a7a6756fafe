//! Settings that change under a running process.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kernel::clock::Clock;
use kernel::config::{Configuration, History, Live, Watch, changes};
use kernel::health::Health;
use kernel::task::Tasks;
use kernel::telemetry::Metrics;

use super::consul::Keys;
use super::{Bank, Till, recipe, refused, tables};
use crate::place::Place;

struct Running {
    folder: tempfile::TempDir,
    place: Place,
    /// Where its settings are kept, if not in a file.
    keys: Option<Keys>,
    configuration: Configuration,
    till: Live<Till>,
    history: History,
    _tasks: Tasks,
}

impl Running {
    async fn start(place: &Place, environment: &[(&str, &str)], text: &str) -> Self {
        let folder = tempfile::tempdir().expect("settings of a case");
        let keys = (place.engine.name == "consul").then(|| Keys::new(place.address("FX_TEST_CONSUL")));
        let mut variables: Vec<(&str, &str)> = environment.to_vec();
        match &keys {
            Some(keys) => {
                keys.put("city.toml", text).await;
                variables.extend([("FX_CONFIG__CONSUL_URL", &*keys.url), ("FX_CONFIG__CONSUL_PREFIX", &*keys.prefix)]);
            }
            None => fs::write(folder.path().join("city.toml"), text).expect("settings of a case"),
        }
        let (recipe, kept) = (recipe(folder.path(), &variables), folder.path().join("config"));
        let started = Watch::start(recipe, tables(), None, &kept, Clock::system(), true).await;
        let (watch, configuration) = started.expect("settings of a case");
        let (tasks, till) = (Tasks::new(), configuration.live("till").expect("settings of a case"));
        tasks.spawn("config", watch.run(tasks.stopping()));
        let (history, place) = (History::new(&kept, 50), place.clone());
        Self { folder, place, keys, configuration, till, history, _tasks: tasks }
    }

    /// As editors do it: written aside, moved into place.
    async fn write(&self, text: &str) {
        if let Some(keys) = &self.keys {
            return keys.put("city.toml", text).await;
        }
        let draft = self.folder.path().join("draft");
        fs::write(&draft, text).expect("settings of a case");
        fs::rename(draft, self.folder.path().join("city.toml")).expect("settings of a case");
    }

    async fn remove(&self) {
        match &self.keys {
            Some(keys) => keys.delete("city.toml").await,
            None => fs::remove_file(self.folder.path().join("city.toml")).expect("settings of a case"),
        }
    }

    /// What its settings are called where they come from.
    fn origin(&self) -> String {
        self.keys.as_ref().map_or_else(|| "city.toml".to_owned(), |keys| format!("consul {}/city.toml", keys.prefix))
    }

    fn pay_within_s(&self) -> u64 {
        self.till.get().pay_within_s
    }

    async fn until(&self, what: &str, so: impl Fn() -> bool) {
        self.place.until(what, async || so()).await;
    }
}

pub(super) async fn reload(place: Place) -> String {
    let city = Running::start(&place, &[], "[till]\npay_within_s = 70").await;
    assert_eq!(city.pay_within_s(), 70);
    if !place.seeded {
        city.write("[till]\npay_within_s = 80").await;
    }
    city.until("80", || city.pay_within_s() == 80).await;
    city.remove().await;
    city.until("what the city works out by itself", || city.pay_within_s() == 60).await;
    city.write("[till]\npay_within_s = 80").await;
    city.until("80 again", || city.pay_within_s() == 80).await;
    city.until("four versions", || city.history.list().expect("settings of a case").len() == 4).await;
    let versions = city.history.list().expect("settings of a case");
    let told: Vec<(u64, usize)> = versions.iter().map(|v| (v.sequence, v.changes.len())).collect();
    assert_eq!(told, [(1, 0), (2, 1), (3, 1), (4, 1)]);
    assert_eq!((&versions[1].hash, &versions[1].changes[0].origin), (&versions[3].hash, &city.origin()));
    assert_ne!(versions[0].hash, versions[1].hash);
    assert_eq!(versions[2].values["till.pay_within_s"].origin, "the city");
    let between = changes(&versions[0].values, &versions[1].values);
    assert_eq!((between.len(), &between[0].from, &between[0].to), (1, &70.into(), &80.into()));
    "3 changes in force, 4 versions".to_owned()
}

pub(super) async fn refusals(place: Place) -> String {
    let city = Running::start(&place, &[], "[till]\npay_within_s = 70").await;
    let (metrics, health) = (Metrics::new("till"), Health::new());
    city.configuration.report(&metrics, &health);
    health.started();
    let origin = city.origin();
    for (text, says) in [
        ("[till]\npay_within = 80", "unknown key till.pay_within in ORIGIN; known here: drawer"),
        ("[tills]\npay_within_s = 80", "unknown key tills in ORIGIN"),
        ("[till]\npay_within_s = 'soon'", "till.pay_within_s in ORIGIN: invalid type"),
        ("[till]\npay_within_s = 2000", "till.pay_within_s is at most 1000"),
        ("[till\n", "ORIGIN: TOML parse error"),
        (
            "[bank]\nretry_ms = 60000",
            "till.pay_within_s = 60 (the city) must be longer than bank.retry_ms = 60000 (ORIGIN)",
        ),
    ] {
        let says = &*says.replace("ORIGIN", &origin);
        // The planted fault: what is told to be wrong is not.
        city.write(if place.seeded { "[till]\npay_within_s = 70" } else { text }).await;
        city.until(says, || refused(&city.configuration).contains(says)).await;
        assert_eq!(city.pay_within_s(), 70);
        let found = health.ready().await;
        assert!(found.is_up() && found.checks["config"].detail.contains(says), "{found:?}");
        city.until("the command sees it", || {
            city.history.running().expect("settings of a case").standing.refused.is_some()
        })
        .await;
    }
    let text = metrics.render();
    assert!(text.contains("config_refused{service=\"till\"} 1\n"), "{text}");
    assert!(text.contains("config_offers_total{service=\"till\",outcome=\"refused\"} 6\n"), "{text}");
    city.write("[till]\npay_within_s = 90").await;
    city.until("mended", || city.pay_within_s() == 90).await;
    assert_eq!(city.configuration.standing().refused, None);
    assert_eq!(health.ready().await.checks["config"].detail, "in force");
    assert!(metrics.render().contains("config_refused{service=\"till\"} 0\n"));
    "6 refused with their reasons, 0 in force, 1 mended".to_owned()
}

pub(super) async fn restart(place: Place) -> String {
    let city = Running::start(&place, &[], "[till]\npay_within_s = 70\ndrawer = 1").await;
    city.write(&format!("[till]\npay_within_s = 80\ndrawer = {}", if place.seeded { 1 } else { 2 })).await;
    city.until("80", || city.pay_within_s() == 80).await;
    assert_eq!(city.till.get().drawer, 1);
    assert_eq!(city.configuration.standing().needs_restart, ["till.drawer"]);
    assert_eq!(city.configuration.effective().shown()["till.drawer"].value, 1);
    city.write("[till]\npay_within_s = 80\ndrawer = 1").await;
    city.until("nothing waits", || city.configuration.standing().needs_restart.is_empty()).await;
    "1 changed, 1 waits for a restart".to_owned()
}

pub(super) async fn layers(place: Place) -> String {
    let variable = if place.seeded { "OTHER_BANK__RETRY_MS" } else { "FX_BANK__RETRY_MS" };
    let city =
        Running::start(&place, &[("FX_CONFIG__ENVIRONMENT", "staging"), (variable, "7")], "[bank]\nretry_ms = 5").await;
    fs::write(city.folder.path().join("city.staging.toml"), "[till]\npay_within_s = 99\n[bank]\nretry_ms = 6")
        .expect("settings of a case");
    city.until("99", || city.pay_within_s() == 99).await;
    let shown = city.configuration.effective().shown();
    assert_eq!(shown["till.pay_within_s"].origin, "city.staging.toml");
    assert_eq!((&shown["bank.retry_ms"].value, &*shown["bank.retry_ms"].origin), (&7.into(), "FX_BANK__RETRY_MS"));
    "3 layers, each with its origin".to_owned()
}

pub(super) async fn hidden(place: Place) -> String {
    let city = Running::start(&place, &[], "[till]\npin = 'kanarienvogel-1'").await;
    city.write("[till]\npin = 'kanarienvogel-2'\npay_within_s = 61").await;
    city.until("the new pin", || city.till.get().pin == "kanarienvogel-2").await;
    city.until("two versions", || city.history.list().expect("settings of a case").len() == 2).await;
    if place.seeded {
        fs::write(city.folder.path().join("config/leak"), "kanarienvogel-2").expect("settings of a case");
    }
    for file in fs::read_dir(city.folder.path().join("config")).expect("settings of a case") {
        let text = fs::read_to_string(file.expect("settings of a case").path()).expect("settings of a case");
        assert!(!text.contains("kanarienvogel"), "{text}");
    }
    assert!(!format!("{:?}", city.configuration).contains("kanarienvogel"));
    "2 versions, 0 files that tell it".to_owned()
}

pub(super) async fn whole(place: Place) -> String {
    let city = Running::start(&place, &[], "[till]\npay_within_s = 100\npin = '100'").await;
    let (till, read, torn) = (city.till.clone(), Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
    let (count, half, tasks) = (read.clone(), torn.clone(), Tasks::new());
    let stop = tasks.stopping();
    tasks.spawn("reader", async move {
        while !stop.is_cancelled() {
            let seen = till.get();
            half.fetch_add(u64::from(seen.pay_within_s.to_string() != seen.pin), Ordering::Relaxed);
            count.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    });
    for figure in 101..106_u64 {
        let pin = if place.seeded { 0 } else { figure };
        city.write(&format!("[till]\npay_within_s = {figure}\npin = '{pin}'")).await;
        city.until("the next figure", || city.pay_within_s() == figure).await;
    }
    assert!(tasks.drain(std::time::Duration::from_secs(5)).await.is_empty());
    assert_eq!(torn.load(Ordering::Relaxed), 0, "half of one state and half of another");
    assert!(read.load(Ordering::Relaxed) > 100);
    format!("{} looks during 5 changes, 0 of them half", read.load(Ordering::Relaxed))
}

pub(super) async fn history(place: Place) -> String {
    let folder = tempfile::tempdir().expect("settings of a case");
    let (history, clock) = (History::new(folder.path(), if place.seeded { 30 } else { 3 }), Clock::system());
    for retry_ms in 0..5 {
        let sources =
            kernel::config::Sources::new("FX").set("bank.retry_ms", retry_ms.to_string()).set("till.pay_within_s", "9");
        let configuration = Configuration::of(tables(), sources).expect("settings of a case");
        configuration.live::<Bank>("bank").expect("settings of a case");
        for _ in 0..2 {
            history
                .record(&configuration.effective(), &configuration.standing(), clock.now())
                .expect("settings of a case");
        }
    }
    let kept: Vec<u64> = history.list().expect("settings of a case").iter().map(|version| version.sequence).collect();
    assert_eq!(kept, [3, 4, 5]);
    assert_eq!(history.running().expect("settings of a case").sequence, 5);
    "5 versions, the newest 3 kept".to_owned()
}
