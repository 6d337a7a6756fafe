//! The city's own registrar: a small list over HTTP, kept by whoever supervises the city, open to those who hold its secret.
//!
//! `PUT /registry/v1/SERVICE/ADDRESS?ttl_ms=N` enters an instance or keeps it in, `DELETE` of the same takes it out, and
//! `GET /registry/v1/SERVICE?origin=O&index=I&wait_ms=N` answers once the list is not the one at that mark any more.

mod registrar;

use std::net::SocketAddr;
use std::time::Duration;

use futures::future::BoxFuture;
use http::Method;
use serde::{Deserialize, Serialize};

pub use registrar::Registrar;

use super::{Backend, Instance, Mark, PATIENCE, Seen, Trouble, WATCH, http_client, with_causes};
use crate::clock::Clock;
use crate::http::Signer;

/// Whom calls of the registrar are signed for.
const AUDIENCE: &str = "registry";
const KIND: &str = "own";

/// A list as it travels.
#[derive(Serialize, Deserialize)]
struct Page {
    origin: u64,
    index: u64,
    instances: Vec<SocketAddr>,
}

/// The registrar, asked from another process.
#[derive(Clone, Debug)]
pub struct Own {
    at: String,
    http: reqwest::Client,
    signer: Signer,
    clock: Clock,
}

impl Own {
    /// The registrar that listens at this address.
    pub fn new(at: SocketAddr, signer: Signer, clock: Clock) -> Self {
        Self { at: format!("http://{at}"), http: http_client(), signer, clock }
    }

    fn trouble(&self, why: String) -> Trouble {
        Trouble { kind: KIND, at: self.at.clone(), why }
    }

    async fn call(&self, method: Method, path: String, within: Duration) -> Result<reqwest::Response, Trouble> {
        let proof = self.signer.sign("member", AUDIENCE, None, self.clock.now());
        let asked = self.http.request(method, format!("{}/registry/v1/{path}", self.at)).headers(proof).timeout(within);
        let answer = asked.send().await.map_err(|e| self.trouble(with_causes(&e)))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        Err(self.trouble(format!("{status}: {}", answer.text().await.unwrap_or_default())))
    }
}

impl Backend for Own {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn announce<'a>(&'a self, who: &'a Instance, ttl: Duration) -> BoxFuture<'a, Result<(), Trouble>> {
        let path = format!("{}/{}?ttl_ms={}", who.service, who.address, ttl.as_millis());
        Box::pin(async move { self.call(Method::PUT, path, PATIENCE).await.map(drop) })
    }

    fn withdraw<'a>(&'a self, who: &'a Instance) -> BoxFuture<'a, Result<(), Trouble>> {
        let path = format!("{}/{}", who.service, who.address);
        Box::pin(async move { self.call(Method::DELETE, path, PATIENCE).await.map(drop) })
    }

    fn watch<'a>(&'a self, service: &'a str, since: Mark) -> BoxFuture<'a, Result<Seen, Trouble>> {
        let wait_ms = WATCH.as_millis();
        let path = format!("{service}?origin={}&index={}&wait_ms={wait_ms}", since.origin, since.index);
        Box::pin(async move {
            let answer = self.call(Method::GET, path, WATCH + PATIENCE).await?;
            let page: Page = answer.json().await.map_err(|e| self.trouble(with_causes(&e)))?;
            Ok(Seen { instances: page.instances, mark: Mark { origin: page.origin, index: page.index } })
        })
    }
}
