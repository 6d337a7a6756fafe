//! Consul keeps the list: services of the agent with a check that dies of silence, and blocking queries of the catalogue.

use std::net::SocketAddr;
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::{Backend, Instance, Mark, PATIENCE, Seen, Trouble, WATCH};
use crate::consul::Agent;

const KIND: &str = "consul";
/// After which an instance that gave no sign of life is forgotten; Consul takes no less. It is off the list long before.
const FORGET: &str = "1m";

/// The registry in Consul, by the agent beside us.
#[derive(Clone, Debug)]
pub struct Consul {
    agent: Agent,
    prefix: String,
}

impl Consul {
    /// The registry behind the agent at `url`; our services are called `PREFIX-SERVICE` there.
    pub fn new(url: &str, prefix: &str, token: Option<String>) -> Self {
        Self { agent: Agent::new(url, token), prefix: prefix.to_owned() }
    }

    fn trouble(&self, why: impl Into<String>) -> Trouble {
        Trouble { kind: KIND, at: self.agent.url.clone(), why: why.into() }
    }

    fn name(&self, service: &str) -> String {
        format!("{}-{service}", self.prefix)
    }

    /// The instance's name at the agent; nothing in it has to be escaped in a path.
    fn id(&self, who: &Instance) -> String {
        let address = who.address.ip().to_string().replace(':', "-");
        format!("{}-{address}-{}", self.name(&who.service), who.address.port())
    }

    async fn put(&self, path: &str, body: Option<&Value>) -> Result<(http::StatusCode, String), Trouble> {
        self.agent.put(path, body, PATIENCE).await.map_err(|why| self.trouble(why))
    }

    async fn register(&self, who: &Instance, ttl: Duration) -> Result<(), Trouble> {
        let id = self.id(who);
        let body = json!({
            "ID": id,
            "Name": self.name(&who.service),
            "Address": who.address.ip().to_string(),
            "Port": who.address.port(),
            "Check": {
                "CheckID": check(&id),
                "TTL": format!("{}ms", ttl.as_millis()),
                "Status": "passing",
                "DeregisterCriticalServiceAfter": FORGET,
            },
        });
        let (status, text) = self.put("agent/service/register?replace-existing-checks=true", Some(&body)).await?;
        if status.is_success() { Ok(()) } else { Err(self.trouble(format!("{status}: {text}"))) }
    }

    async fn enter(&self, who: &Instance, ttl: Duration) -> Result<(), Trouble> {
        let (status, text) = self.put(&format!("agent/check/pass/{}", check(&self.id(who))), None).await?;
        // A check that is not there is a 404 today and was a 500 in older versions, which is also what no leader looks like.
        let unknown = status == http::StatusCode::NOT_FOUND || text.to_lowercase().contains("unknown check");
        match status.is_success() {
            true => Ok(()),
            false if unknown => self.register(who, ttl).await,
            false => Err(self.trouble(format!("{status}: {text}"))),
        }
    }
}

fn check(id: &str) -> String {
    format!("{id}-alive")
}

impl Backend for Consul {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn announce<'a>(&'a self, who: &'a Instance, ttl: Duration) -> BoxFuture<'a, Result<(), Trouble>> {
        Box::pin(self.enter(who, ttl))
    }

    fn withdraw<'a>(&'a self, who: &'a Instance) -> BoxFuture<'a, Result<(), Trouble>> {
        Box::pin(async move {
            let (status, text) = self.put(&format!("agent/service/deregister/{}", self.id(who)), None).await?;
            let gone = status.is_success() || status == http::StatusCode::NOT_FOUND;
            if gone { Ok(()) } else { Err(self.trouble(format!("{status}: {text}"))) }
        })
    }

    fn watch<'a>(&'a self, service: &'a str, since: Mark) -> BoxFuture<'a, Result<Seen, Trouble>> {
        Box::pin(async move {
            let path = format!("health/service/{}?passing=true", self.name(service));
            let answer = self.agent.blocking(&path, since.index, WATCH).await.map_err(|why| self.trouble(why))?;
            if answer.status == http::StatusCode::NOT_FOUND {
                return Err(self.trouble("there is no catalogue at this address; is this Consul?"));
            }
            let entries =
                answer.body.as_array().ok_or_else(|| self.trouble("its answer is no list; is this Consul?"))?;
            let mut instances: Vec<SocketAddr> = entries.iter().filter_map(address).collect();
            instances.sort_unstable();
            Ok(Seen { instances, mark: Mark { origin: 0, index: answer.index } })
        })
    }
}

/// Where an entry of the catalogue listens; a service without an address of its own has its node's.
fn address(entry: &Value) -> Option<SocketAddr> {
    let own = entry["Service"]["Address"].as_str().filter(|own| !own.is_empty());
    let ip = own.or_else(|| entry["Node"]["Address"].as_str())?.parse().ok()?;
    let port = u16::try_from(entry["Service"]["Port"].as_u64()?).ok()?;
    Some(SocketAddr::new(ip, port))
}
