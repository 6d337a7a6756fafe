//! etcd keeps the list: one key per instance, held by a lease, and a watch of the keys of a service, by the JSON gateway.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{Backend, Instance, Mark, PATIENCE, Seen, Trouble, WATCH, http_client, with_causes};

const KIND: &str = "etcd";

/// The registry in etcd.
#[derive(Clone, Debug)]
pub struct Etcd {
    url: String,
    prefix: String,
    http: reqwest::Client,
    leases: Arc<Mutex<BTreeMap<Instance, String>>>,
}

impl Etcd {
    /// The registry in the etcd at `url`; our keys are `PREFIX/instances/SERVICE/ADDRESS`.
    pub fn new(url: &str, prefix: &str) -> Self {
        let url = url.trim_end_matches('/').to_owned();
        Self { url, prefix: prefix.to_owned(), http: http_client(), leases: Arc::default() }
    }

    fn trouble(&self, why: impl Into<String>) -> Trouble {
        Trouble { kind: KIND, at: self.url.clone(), why: why.into() }
    }

    fn folder(&self, service: &str) -> String {
        format!("{}/instances/{service}/", self.prefix)
    }

    fn key(&self, who: &Instance) -> String {
        format!("{}{}", self.folder(&who.service), who.address)
    }

    async fn send(&self, path: &str, body: &Value, within: Duration) -> Result<reqwest::Response, Trouble> {
        let request = self.http.post(format!("{}/v3/{path}", self.url)).json(body).timeout(within);
        let answer = request.send().await.map_err(|e| self.trouble(with_causes(&e)))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        Err(self.trouble(format!("{status}: {}", answer.text().await.unwrap_or_default())))
    }

    async fn ask(&self, path: &str, body: Value) -> Result<Value, Trouble> {
        let text = self.send(path, &body, PATIENCE).await?.text().await.map_err(|e| self.trouble(with_causes(&e)))?;
        serde_json::from_str(&text).map_err(|e| self.trouble(format!("its answer does not read: {e}; is this etcd?")))
    }

    /// Keeps the lease of an instance alive, or puts the key under a new one. A lease left over by an instance that was
    /// killed and is back takes nothing away when it ends: the key belongs to the newest lease.
    async fn enter(&self, who: &Instance, ttl: Duration) -> Result<(), Trouble> {
        let held = self.leases.lock().get(who).cloned();
        if let Some(lease) = held {
            let kept = self.ask("lease/keepalive", json!({ "ID": lease })).await?;
            if number(&kept["result"]["TTL"]).is_some_and(|left| left > 0) && self.is_there(who).await? {
                return Ok(());
            }
        }
        // Whole seconds, rounded up: etcd knows no others.
        let seconds = ttl.as_millis().div_ceil(1000).to_string();
        let granted = self.ask("lease/grant", json!({ "TTL": seconds })).await?;
        let lease =
            granted["ID"].as_str().ok_or_else(|| self.trouble("it granted no lease; is this etcd?"))?.to_owned();
        let put = json!({ "key": coded(&self.key(who)), "value": coded("1"), "lease": lease });
        self.ask("kv/put", put).await?;
        self.leases.lock().insert(who.clone(), lease);
        Ok(())
    }

    /// Whether the key still stands: a lease outlives the key if a hand deleted it.
    async fn is_there(&self, who: &Instance) -> Result<bool, Trouble> {
        let found = self.ask("kv/range", json!({ "key": coded(&self.key(who)), "count_only": true })).await?;
        Ok(number(&found["count"]).is_some_and(|count| count > 0))
    }

    async fn leave(&self, who: &Instance) -> Result<(), Trouble> {
        self.ask("kv/deleterange", json!({ "key": coded(&self.key(who)) })).await?;
        let lease = self.leases.lock().remove(who);
        if let Some(lease) = lease {
            // The key is gone, which is what counts; a lease that is gone already is no trouble either.
            drop(self.ask("lease/revoke", json!({ "ID": lease })).await);
        }
        Ok(())
    }

    async fn list(&self, service: &str) -> Result<Seen, Trouble> {
        let folder = self.folder(service);
        let range = json!({ "key": coded(&folder), "range_end": coded(&after(&folder)), "keys_only": true });
        let found = self.ask("kv/range", range).await?;
        let header = &found["header"];
        let mark = header_mark(header).ok_or_else(|| self.trouble("its answer has no header; is this etcd?"))?;
        let keys = found["kvs"].as_array().into_iter().flatten();
        let mut instances: Vec<SocketAddr> = keys.filter_map(|pair| listed(&pair["key"], &folder)).collect();
        instances.sort_unstable();
        Ok(Seen { instances, mark })
    }

    /// Waits until a key of the service has changed after `since`, or the story is another one, or nothing happens.
    async fn changed(&self, service: &str, since: Mark) -> Result<(), Trouble> {
        let folder = self.folder(service);
        let watch = json!({ "create_request": {
            "key": coded(&folder),
            "range_end": coded(&after(&folder)),
            "start_revision": (since.index + 1).to_string(),
        }});
        let mut stream = self.send("watch", &watch, WATCH + PATIENCE).await?.bytes_stream();
        let mut pending = Vec::new();
        let news = async {
            while let Some(chunk) = stream.next().await {
                pending.extend_from_slice(&chunk.map_err(|e| self.trouble(with_causes(&e)))?);
                while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = pending.drain(..=end).collect();
                    if tells_news(&line, since) {
                        return Ok(());
                    }
                }
            }
            Err(self.trouble("it ended the watch"))
        };
        timeout(WATCH, news).await.unwrap_or(Ok(()))
    }
}

/// Whether a line of a watch is a reason to read the list again: events, a cancelled watch, or another story.
fn tells_news(line: &[u8], since: Mark) -> bool {
    let Ok(line) = serde_json::from_slice::<Value>(line) else { return true };
    let result = &line["result"];
    let plain = result["events"].as_array().is_none_or(Vec::is_empty) && result["canceled"] != true;
    let same = header_mark(&result["header"]).is_some_and(|m| m.origin == since.origin && m.index >= since.index);
    !(plain && same)
}

fn header_mark(header: &Value) -> Option<Mark> {
    Some(Mark { origin: number(&header["cluster_id"])?, index: number(&header["revision"])? })
}

/// 64-bit numbers travel as text; source: the JSON mapping of protobuf.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

fn coded(text: &str) -> String {
    STANDARD.encode(text)
}

/// The first key behind all that begin with this folder, which ends in a slash.
fn after(folder: &str) -> String {
    format!("{}0", folder.trim_end_matches('/'))
}

fn listed(key: &Value, folder: &str) -> Option<SocketAddr> {
    let key = String::from_utf8(STANDARD.decode(key.as_str()?).ok()?).ok()?;
    key.strip_prefix(folder)?.parse().ok()
}

impl Backend for Etcd {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn announce<'a>(&'a self, who: &'a Instance, ttl: Duration) -> BoxFuture<'a, Result<(), Trouble>> {
        Box::pin(self.enter(who, ttl))
    }

    fn withdraw<'a>(&'a self, who: &'a Instance) -> BoxFuture<'a, Result<(), Trouble>> {
        Box::pin(self.leave(who))
    }

    fn watch<'a>(&'a self, service: &'a str, since: Mark) -> BoxFuture<'a, Result<Seen, Trouble>> {
        Box::pin(async move {
            if since.index > 0 {
                self.changed(service, since).await?;
            }
            self.list(service).await
        })
    }
}
