//! The city's own tools: they hold the city's secret, so they may ask each service directly, as support would.

use anyhow::{Context as _, Result, anyhow};
use kernel::clock::Clock;
use kernel::http::{Identity, Signer};
use serde_json::Value;

use crate::city::{CityMap, DataFolder};

/// A tool inside the city.
#[derive(Clone)]
pub(crate) struct Insider {
    http: reqwest::Client,
    map: CityMap,
    signer: Signer,
    clock: Clock,
    api_key: String,
}

impl Insider {
    /// A tool for the city that runs in this folder.
    pub(crate) async fn of(data: &DataFolder, map: &CityMap) -> Result<Self> {
        let secrets = data.own_secrets().await?;
        let signer = Signer::of(&secrets.pair("internal")?);
        let http = reqwest::Client::builder().no_proxy().timeout(std::time::Duration::from_secs(20)).build()?;
        let api_key = secrets.get("card-network-api-key")?.reveal_text();
        Ok(Self { http, map: map.clone(), signer, clock: Clock::system(), api_key })
    }

    /// The signer that proves the tool to services.
    pub(crate) fn signer(&self) -> Signer {
        self.signer.clone()
    }

    /// Reads from a service with the eyes of support.
    pub(crate) async fn read(&self, service: &str, path: &str) -> Result<Value> {
        let support = contracts::demo::accounts().pop().context("the demo city's last account is support")?;
        let identity = Identity {
            user_id: support.user_id,
            email: "tools@city.invalid".into(),
            roles: vec![contracts::permissions::SUPPORT.to_owned()],
            orgs: Vec::new(),
            auth_time: self.clock.now().seconds(),
            session: None,
        };
        let headers = self.signer.sign("tools", service, Some(&identity), self.clock.now());
        self.get(&self.map.urls(service), path, |r| r.headers(headers.clone())).await
    }

    /// Asks a service's own administration.
    pub(crate) async fn internal(&self, service: &str, path: &str) -> Result<Value> {
        let headers = self.signer.sign("tools", service, None, self.clock.now());
        self.get(&self.map.urls(service), path, |r| r.headers(headers.clone())).await
    }

    /// Tells a service's own administration to do something.
    pub(crate) async fn command(&self, service: &str, path: &str, body: &Value) -> Result<Value> {
        let headers = self.signer.sign("tools", service, None, self.clock.now());
        let url = format!("{}{path}", self.map.url(service)?);
        let answer = self.http.post(&url).headers(headers).json(body).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        anyhow::ensure!(status.is_success(), "{url}: {status} {text}");
        serde_json::from_str(&text).with_context(|| format!("{url} does not answer in JSON"))
    }

    /// Reads the provider's books, with the provider's key.
    pub(crate) async fn network(&self, path: &str) -> Result<Value> {
        self.get(&[self.map.card_network()?], path, |r| r.bearer_auth(&self.api_key)).await
    }

    /// Sets the provider's faults.
    pub(crate) async fn set_faults(&self, faults: &Value) -> Result<()> {
        let url = format!("{}/v1/faults", self.map.card_network()?);
        self.http.put(&url).bearer_auth(&self.api_key).json(faults).send().await?.error_for_status()?;
        Ok(())
    }

    /// Asks the first instance that can be reached.
    async fn get(
        &self,
        instances: &[String],
        path: &str,
        with: impl Fn(reqwest::RequestBuilder) -> reqwest::RequestBuilder,
    ) -> Result<Value> {
        let mut silent = anyhow!("this city has nobody to ask for {path}");
        for base in instances {
            let url = format!("{base}{path}");
            let answer = match with(self.http.get(&url)).send().await {
                Ok(answer) => answer,
                Err(error) => {
                    silent = anyhow!(error).context(format!("no answer from {url}"));
                    continue;
                }
            };
            let status = answer.status();
            let text = answer.text().await?;
            anyhow::ensure!(status.is_success(), "{url}: {status} {text}");
            return serde_json::from_str(&text).with_context(|| format!("{url} does not answer in JSON"));
        }
        Err(silent)
    }

    /// Every item of a paged list.
    pub(crate) async fn every(&self, service: &str, path: &str) -> Result<Vec<Value>> {
        let (mut all, mut token) = (Vec::new(), None::<String>);
        loop {
            let more = token.as_ref().map_or_else(String::new, |t| format!("&page_token={t}"));
            let page = self.read(service, &format!("{path}?page_size=100{more}")).await?;
            all.extend(page["items"].as_array().cloned().unwrap_or_default());
            match page["next_page_token"].as_str() {
                Some(next) => token = Some(next.to_owned()),
                None => return Ok(all),
            }
        }
    }
}
