//! The table `[registry]`, and the backend that it names.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Backend, Consul, Dns, Etcd, Own};
use crate::clock::Clock;
use crate::config::Settings;
use crate::http::Signer;

/// Which backend keeps the list of instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The city's own registrar, in the process that supervises it.
    #[default]
    Own,
    /// DNS, where the platform enters instances, as Kubernetes does for headless services.
    Dns,
    /// Consul, by the agent beside us.
    Consul,
    /// etcd 3.4 or newer, by its JSON gateway.
    Etcd,
}

/// Where instances enter themselves and find each other.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RegistrySettings {
    /// Who keeps the list: `own`, `dns`, `consul` or `etcd`.
    #[schemars(extend("x-restart" = true))]
    pub kind: Kind,
    /// Address of Consul's agent or of etcd, such as `http://127.0.0.1:8500`; plain HTTP only.
    #[schemars(extend("x-restart" = true))]
    pub url: String,
    /// Milliseconds after which an instance that gives no sign of life is off the list; at least 2000.
    #[schemars(extend("x-restart" = true))]
    pub ttl_ms: u64,
    /// Stands before the names of our services in Consul and before our keys in etcd, so that cities can share one.
    #[schemars(extend("x-restart" = true))]
    pub prefix: String,
    /// The name to ask DNS for, with `{service}` in it.
    #[schemars(extend("x-restart" = true))]
    pub dns_name: String,
    /// The port of instances if DNS answers with bare addresses; without it only SRV records are asked for.
    #[schemars(extend("x-restart" = true))]
    pub dns_port: Option<u16>,
    /// The DNS server, such as `10.96.0.10:53`; without it those of the system.
    #[schemars(extend("x-restart" = true))]
    pub dns_server: Option<SocketAddr>,
    /// Milliseconds between two looks at DNS.
    #[schemars(extend("x-restart" = true))]
    pub dns_every_ms: u64,
}

impl Default for RegistrySettings {
    fn default() -> Self {
        Self {
            kind: Kind::Own,
            url: "http://127.0.0.1:8500".to_owned(),
            ttl_ms: 10_000,
            prefix: "city".to_owned(),
            dns_name: "_http._tcp.{service}.city.svc.cluster.local.".to_owned(),
            dns_port: None,
            dns_server: None,
            dns_every_ms: 2_000,
        }
    }
}

/// The secret that opens a Consul with access control.
pub const TOKEN_SECRET: &str = "registry-token";

impl Settings for RegistrySettings {
    /// Refuses what no backend could work with.
    fn check(&self) -> Result<(), String> {
        if self.ttl_ms < 2_000 {
            return Err("registry.ttl_ms must be at least 2000, the least that etcd keeps".to_owned());
        }
        let plain = self.url.starts_with("http://");
        if matches!(self.kind, Kind::Consul | Kind::Etcd) && !plain {
            return Err("registry.url must begin with http://; TLS is for the agent beside us to speak".to_owned());
        }
        if self.kind == Kind::Dns && !self.dns_name.contains("{service}") {
            return Err("registry.dns_name must have {service} in it".to_owned());
        }
        Ok(())
    }
}

impl RegistrySettings {
    /// The time to live.
    pub fn ttl(&self) -> Duration {
        Duration::from_millis(self.ttl_ms)
    }

    /// The backend. The city's own registrar is asked at `registrar`, where its supervisor opened it; `token` opens a
    /// Consul with access control.
    ///
    /// # Errors
    /// Settings that [`RegistrySettings::check`] refuses, no registrar, or DNS servers that the system does not name.
    pub fn backend(
        &self,
        registrar: Option<SocketAddr>,
        signer: &Signer,
        clock: &Clock,
        token: Option<String>,
    ) -> Result<Arc<dyn Backend>, String> {
        self.check()?;
        Ok(match self.kind {
            Kind::Own => {
                let at = registrar.ok_or("this city has no registrar; start it again with this program")?;
                Arc::new(Own::new(at, signer.clone(), clock.clone()))
            }
            Kind::Dns => Arc::new(Dns::new(self)?),
            Kind::Consul => Arc::new(Consul::new(&self.url, &self.prefix, token)),
            Kind::Etcd => Arc::new(Etcd::new(&self.url, &self.prefix)),
        })
    }
}
