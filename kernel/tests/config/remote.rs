//! The layer in Consul: a real one where `FX_TEST_CONSUL` names it.

use kernel::clock::Clock;
use kernel::config::{Configuration, Watch};
use kernel::task::Tasks;
use kernel::testing::registry::Cut;

use super::{Till, recipe, refused, tables, until};

#[expect(clippy::disallowed_methods, reason = "a test finds its engines by the environment")]
fn consul() -> Option<String> {
    let told = std::env::var("FX_TEST_CONSUL").ok().filter(|url| !url.is_empty());
    if told.is_none() {
        assert!(
            std::env::var("FX_TEST_REQUIRE_ENGINES").is_err(),
            "FX_TEST_CONSUL is not set; start Consul for the tests"
        );
        println!("skipped: FX_TEST_CONSUL is not set, so there is no Consul");
    }
    told
}

struct Store {
    url: String,
    prefix: String,
    http: reqwest::Client,
}

impl Store {
    async fn put(&self, key: &str, text: &str) {
        let url = format!("{}/v1/kv/{}/{key}", self.url, self.prefix);
        self.http.put(url).body(text.to_owned()).send().await.unwrap().error_for_status().unwrap();
    }

    async fn delete(&self, key: &str) {
        let url = format!("{}/v1/kv/{}/{key}", self.url, self.prefix);
        self.http.delete(url).send().await.unwrap().error_for_status().unwrap();
    }
}

#[tokio::test]
async fn keys_in_consul_are_layers_between_file_and_variables_and_survive_its_absence() {
    let Some(url) = consul() else { return };
    let prefix = format!("t{}", kernel::ids::fresh().simple());
    let store =
        Store { url: url.trim_end_matches('/').to_owned(), prefix: prefix.clone(), http: reqwest::Client::new() };
    let wire = Cut::before(url.trim_start_matches("http://").trim_end_matches('/').parse().unwrap()).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("city.toml"), "[till]\npay_within_s = 70\ndrawer = 7").unwrap();
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
    let (watch, configuration) = start().await.unwrap();
    let (tasks, till) = (Tasks::new(), configuration.live::<Till>("till").unwrap());
    tasks.spawn("config", watch.run(tasks.stopping()));
    let origin = |of: &Configuration| of.effective().shown()["till.pay_within_s"].origin.clone();
    store.put("city.toml", "[till]\npay_within_s = 80").await;
    until("what Consul says", || till.get().pay_within_s == 80).await;
    assert_eq!(origin(&configuration), format!("consul {prefix}/city.toml"));
    store.put("staging.toml", "[till]\npay_within_s = 81").await;
    store.put("production.toml", "[till]\nnonsense = 1").await;
    until("what it says for this environment", || till.get().pay_within_s == 81).await;
    store.put("staging.toml", "[till]\npay_within_s = 'late'").await;
    until("a refusal", || refused(&configuration).contains(&format!("consul {prefix}/staging.toml"))).await;
    store.put("staging.toml", "[secrets]\nprovider = 'env'").await;
    until("a refusal of what is needed sooner", || refused(&configuration).contains("[secrets] is read before")).await;
    assert_eq!(till.get().pay_within_s, 81);
    store.put("staging.toml", "[till]\npay_within_s = 82").await;
    until("82", || till.get().pay_within_s == 82).await;

    wire.cut(true);
    let (_, again) = start().await.expect("the copy is enough to start");
    assert_eq!(again.settings::<Till>("till").unwrap().pay_within_s, 82);
    store.delete("staging.toml").await;
    std::fs::write(folder.path().join("city.toml"), "[till]\npay_within_s = 70\n[bank]\nretry_ms = 3").unwrap();
    until("files count meanwhile", || configuration.effective().shown()["bank.retry_ms"].value == 3).await;
    assert_eq!(till.get().pay_within_s, 82, "what Consul said last stays");
    wire.cut(false);
    until("the key is gone", || till.get().pay_within_s == 80).await;

    wire.cut(true);
    std::fs::remove_file(folder.path().join("config/consul.json")).unwrap();
    let said = start().await.map(drop).expect_err("neither Consul nor a copy").to_string();
    assert!(said.contains(&at) && said.contains("config.consul_url"), "{said}");
}
