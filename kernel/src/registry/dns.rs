//! DNS keeps the list, and the platform enters instances: SRV records with ports, or bare addresses with one port for all.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, try_join_all};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{RData, RecordType};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use super::settings::RegistrySettings;
use super::{Backend, Instance, Mark, Seen, Trouble, WATCH};

const KIND: &str = "dns";

/// The registry in DNS.
#[derive(Clone)]
pub struct Dns {
    resolver: TokioResolver,
    server: String,
    name: String,
    port: Option<u16>,
    every: Duration,
    /// DNS tells no story, so the places in it are ours.
    known: Arc<Mutex<BTreeMap<String, Seen>>>,
}

impl std::fmt::Debug for Dns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dns").field("server", &self.server).field("name", &self.name).finish_non_exhaustive()
    }
}

impl Dns {
    /// The registry that these settings name.
    ///
    /// # Errors
    /// No DNS server is named, and the system names none either.
    pub fn new(settings: &RegistrySettings) -> Result<Self, String> {
        let mut builder = match settings.dns_server {
            Some(server) => TokioResolver::builder_with_config(only(server), TokioRuntimeProvider::default()),
            None => TokioResolver::builder_tokio().map_err(|e| {
                format!("the system's DNS servers cannot be read: {e}; name one as registry.dns_server")
            })?,
        };
        let options = builder.options_mut();
        // Our own looks are rare, and an answer kept here would keep the dead alive.
        options.cache_size = 0;
        options.timeout = Duration::from_secs(2);
        options.attempts = 1;
        let resolver = builder.build().map_err(|e| format!("registry.dns_server: {e}"))?;
        Ok(Self {
            resolver,
            server: settings.dns_server.map_or_else(|| "the system's servers".to_owned(), |at| at.to_string()),
            name: settings.dns_name.clone(),
            port: settings.dns_port,
            every: Duration::from_millis(settings.dns_every_ms.max(50)),
            known: Arc::default(),
        })
    }

    fn trouble(&self, name: &str, error: &NetError) -> Trouble {
        Trouble { kind: KIND, at: self.server.clone(), why: format!("{name}: {error} (registry.dns_server)") }
    }

    /// The records of a name; none if it does not exist, which is an answer.
    async fn records(&self, name: &str, kind: RecordType) -> Result<Vec<RData>, Trouble> {
        match self.resolver.lookup(name, kind).await {
            Ok(found) => Ok(found.answers().iter().map(|record| record.data.clone()).collect()),
            Err(NetError::Dns(DnsError::NoRecordsFound(none)))
                if matches!(none.response_code, ResponseCode::NXDomain | ResponseCode::NoError) =>
            {
                Ok(Vec::new())
            }
            Err(error) => Err(self.trouble(name, &error)),
        }
    }

    async fn addresses(&self, name: &str, port: u16) -> Result<Vec<SocketAddr>, Trouble> {
        let (v4, v6) = tokio::try_join!(self.records(name, RecordType::A), self.records(name, RecordType::AAAA))?;
        let ips = v4.into_iter().chain(v6).filter_map(|record| match record {
            RData::A(a) => Some(a.0.into()),
            RData::AAAA(a) => Some(a.0.into()),
            _ => None,
        });
        Ok(ips.map(|ip| SocketAddr::new(ip, port)).collect())
    }

    async fn look(&self, service: &str) -> Result<Vec<SocketAddr>, Trouble> {
        let name = self.name.replace("{service}", service);
        let mut found = match self.port {
            Some(port) => self.addresses(&name, port).await?,
            None => {
                let places =
                    self.records(&name, RecordType::SRV).await?.into_iter().filter_map(|record| match record {
                        RData::SRV(srv) => Some((srv.target.to_string(), srv.port)),
                        _ => None,
                    });
                let each = places.map(|(target, port)| async move { self.addresses(&target, port).await });
                try_join_all(each).await?.concat()
            }
        };
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// Gives a list its place: the known one if nothing changed, else the next.
    fn place(&self, service: &str, instances: Vec<SocketAddr>) -> Seen {
        let mut known = self.known.lock();
        let before = known.get(service);
        if let Some(same) = before.filter(|before| before.instances == instances) {
            return same.clone();
        }
        let index = before.map_or(1, |before| before.mark.index + 1);
        let seen = Seen { instances, mark: Mark { origin: 0, index } };
        known.insert(service.to_owned(), seen.clone());
        seen
    }
}

fn only(server: SocketAddr) -> ResolverConfig {
    let at = |mut connection: ConnectionConfig| {
        connection.port = server.port();
        connection
    };
    let connections = vec![at(ConnectionConfig::udp()), at(ConnectionConfig::tcp())];
    ResolverConfig::from_name_servers(vec![NameServerConfig::new(server.ip(), true, connections)])
}

impl Backend for Dns {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn takes_entries(&self) -> bool {
        false
    }

    fn announce<'a>(&'a self, _who: &'a Instance, _ttl: Duration) -> BoxFuture<'a, Result<(), Trouble>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn withdraw<'a>(&'a self, _who: &'a Instance) -> BoxFuture<'a, Result<(), Trouble>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn watch<'a>(&'a self, service: &'a str, since: Mark) -> BoxFuture<'a, Result<Seen, Trouble>> {
        Box::pin(async move {
            let end = Instant::now() + WATCH;
            loop {
                let seen = self.place(service, self.look(service).await?);
                if seen.mark != since || Instant::now() >= end {
                    return Ok(seen);
                }
                sleep(self.every).await;
            }
        })
    }
}
