//! Consul, one server that elects itself and keeps its data. Built from source: no package has it.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use futures::future::{BoxFuture, FutureExt as _};
use serde_json::json;

use super::postgres::shown;
use super::{Recipe, get};
use crate::build::go::GoProgram;
use crate::cache::{Cache, Say};
use crate::place::Site;
use crate::spawn::Line;

pub(crate) const VERSION: &str = "1.20.6";

const PROGRAM: GoProgram = GoProgram {
    name: "consul",
    module: "github.com/hashicorp/consul",
    version: VERSION,
    package: "github.com/hashicorp/consul",
};

pub(crate) struct Consul;

impl Recipe for Consul {
    fn prepare<'a>(&'a self, site: Site<'a>) -> BoxFuture<'a, Result<()>> {
        async move {
            site.place.make(&site.data())?;
            site.place.write(&settings_file(site), &format!("{:#}\n", settings(site)?))
        }
        .boxed()
    }

    fn command(&self, site: Site<'_>) -> Result<Line> {
        Ok(Line::new(&PROGRAM.program(site.place.cache.root())).args([
            "agent",
            "-config-file",
            &shown(&settings_file(site)),
        ]))
    }

    fn answers<'a>(&'a self, site: Site<'a>) -> BoxFuture<'a, Result<()>> {
        async move {
            let address = site.address("http")?;
            if get(&address, "/v1/status/leader").await?.len() < 4 {
                bail!("consul has no leader yet");
            }
            // The leader is there before the node has entered itself, and services can only be registered on a node.
            if get(&address, "/v1/catalog/node-services/fx").await?.trim() == "null" {
                bail!("consul has not entered its own node yet");
            }
            Ok(())
        }
        .boxed()
    }

    fn variables(&self, sites: &[Site<'_>]) -> Result<Vec<(&'static str, String)>> {
        Ok(vec![("FX_TEST_CONSUL", self.url(sites[0])?), ("FX_TEST_CONSUL_DNS", sites[0].address("dns")?)])
    }

    fn version<'a>(&'a self, _: Site<'a>) -> BoxFuture<'a, Result<String>> {
        async { Ok(VERSION.to_owned()) }.boxed()
    }

    fn url(&self, site: Site<'_>) -> Result<String> {
        Ok(format!("http://{}", site.address("http")?))
    }

    fn is_built(&self, cache: &Path) -> bool {
        PROGRAM.is_built(cache)
    }

    fn build<'a>(&'a self, cache: &'a Cache, say: &'a Say) -> BoxFuture<'a, Result<()>> {
        PROGRAM.build(cache, say).boxed()
    }
}

fn settings_file(site: Site<'_>) -> PathBuf {
    site.folder().join("consul.json")
}

/// Not `-dev`, which forgets everything at its end; the rest is as quick. A port of -1 is off.
fn settings(site: Site<'_>) -> Result<serde_json::Value> {
    Ok(json!({
        "server": true,
        "bootstrap_expect": 1,
        "data_dir": site.data(),
        "node_name": "fx",
        "datacenter": "fx",
        "bind_addr": "127.0.0.1",
        "client_addr": "127.0.0.1",
        "ports": {
            "http": site.port("http")?,
            "dns": site.port("dns")?,
            "server": site.port("server")?,
            "serf_lan": site.port("serf")?,
            "serf_wan": -1,
            "https": -1,
            "grpc": -1,
            "grpc_tls": -1,
        },
        "performance": { "raft_multiplier": 1 },
        // All members of a city are one client to an agent on their machine, and each watches the list of every service.
        "limits": { "http_max_conns_per_client": 2000 },
        // An ended server must not take itself out of its own cluster: it comes back.
        "leave_on_terminate": false,
        "skip_leave_on_interrupt": true,
        "connect": { "enabled": false },
        "disable_update_check": true,
        "log_level": "warn",
    }))
}
