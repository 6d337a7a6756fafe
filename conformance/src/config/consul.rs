//! The layer in Consul.

use kernel::clock::Clock;
use kernel::config::{Configuration, Watch};
use kernel::task::Tasks;
use kernel::testing::registry::Cut;

use super::{Till, recipe, refused, tables};
use crate::place::Place;

/// Keys of one case in Consul.
pub(super) struct Keys {
    pub(super) url: String,
    pub(super) prefix: String,
    http: reqwest::Client,
}

impl Keys {
    pub(super) fn new(url: &str) -> Self {
        let prefix = format!("t{}", kernel::ids::fresh().simple());
        Self { url: url.trim_end_matches('/').to_owned(), prefix, http: reqwest::Client::new() }
    }

    pub(super) async fn put(&self, key: &str, text: &str) {
        let url = format!("{}/v1/kv/{}/{key}", self.url, self.prefix);
        self.http
            .put(url)
            .body(text.to_owned())
            .send()
            .await
            .expect("Consul answers")
            .error_for_status()
            .expect("Consul answers");
    }

    pub(super) async fn delete(&self, key: &str) {
        let url = format!("{}/v1/kv/{}/{key}", self.url, self.prefix);
        self.http.delete(url).send().await.expect("Consul answers").error_for_status().expect("Consul answers");
    }
}

pub(super) async fn absence(place: Place) -> String {
    let store = Keys::new(place.address("FX_TEST_CONSUL"));
    let prefix = store.prefix.clone();
    let wire = Cut::before(store.url.trim_start_matches("http://").parse().expect("Consul answers")).await;
    let folder = tempfile::tempdir().expect("Consul answers");
    std::fs::write(folder.path().join("city.toml"), "[till]\npay_within_s = 70\ndrawer = 7").expect("Consul answers");
    let at = format!("http://{}", wire.address);
    let environment = [
        ("FX_CONFIG__CONSUL_URL", &*at),
        ("FX_CONFIG__CONSUL_PREFIX", &*prefix),
        ("FX_CONFIG__ENVIRONMENT", "staging"),
    ];
    let start = || {
        let recipe = recipe(folder.path(), &environment);
        let kept = folder.path().join("config");
        async move { Watch::start(recipe, tables(), None, &kept, Clock::system(), false).await }
    };
    let (watch, configuration) = start().await.expect("Consul answers");
    let (tasks, till) = (Tasks::new(), configuration.live::<Till>("till").expect("Consul answers"));
    tasks.spawn("config", watch.run(tasks.stopping()));
    let origin = |of: &Configuration| of.effective().shown()["till.pay_within_s"].origin.clone();
    store.put("city.toml", "[till]\npay_within_s = 80").await;
    place.until("what Consul says", async || till.get().pay_within_s == 80).await;
    assert_eq!(origin(&configuration), format!("consul {prefix}/city.toml"));
    store.put("staging.toml", "[till]\npay_within_s = 81").await;
    store.put("production.toml", "[till]\nnonsense = 1").await;
    place.until("what it says for this environment", async || till.get().pay_within_s == 81).await;
    store.put("staging.toml", "[till]\npay_within_s = 'late'").await;
    place.until("a refusal", async || refused(&configuration).contains(&format!("consul {prefix}/staging.toml"))).await;
    store.put("staging.toml", "[secrets]\nprovider = 'env'").await;
    place
        .until("a refusal of what is needed sooner", async || {
            refused(&configuration).contains("[secrets] is read before")
        })
        .await;
    assert_eq!(till.get().pay_within_s, 81);
    store.put("staging.toml", "[till]\npay_within_s = 82").await;
    place.until("82", async || till.get().pay_within_s == 82).await;

    wire.cut(!place.seeded);
    let (_, again) = start().await.expect("the copy is enough to start");
    assert_eq!(again.settings::<Till>("till").expect("Consul answers").pay_within_s, 82);
    store.delete("staging.toml").await;
    std::fs::write(folder.path().join("city.toml"), "[till]\npay_within_s = 70\n[bank]\nretry_ms = 3")
        .expect("Consul answers");
    place.until("files count meanwhile", async || configuration.effective().shown()["bank.retry_ms"].value == 3).await;
    assert_eq!(till.get().pay_within_s, 82, "what Consul said last stays");
    wire.cut(false);
    place.until("the key is gone", async || till.get().pay_within_s == 80).await;

    wire.cut(true);
    std::fs::remove_file(folder.path().join("config/consul.json")).expect("Consul answers");
    let said = start().await.map(drop).expect_err("neither Consul nor a copy").to_string();
    assert!(said.contains(&at) && said.contains("config.consul_url"), "{said}");
    "6 changes in force, away 3 times, nothing lost".to_owned()
}
