//! etcd, one node.

use anyhow::{Result, bail};
use futures::future::{BoxFuture, FutureExt as _};

use super::{Recipe, get, version_of};
use crate::place::Site;
use crate::spawn::Line;

pub(crate) struct Etcd;

impl Recipe for Etcd {
    fn prepare<'a>(&'a self, site: Site<'a>) -> BoxFuture<'a, Result<()>> {
        async move { site.place.make(&site.data()) }.boxed()
    }

    fn command(&self, site: Site<'_>) -> Result<Line> {
        let (client, peer) = (self.url(site)?, format!("http://{}", site.address("peer")?));
        Ok(Line::new(&site.program("etcd")?)
            .path("--data-dir", &site.data())
            .arg(format!("--name={}", site.node))
            .args([format!("--listen-client-urls={client}"), format!("--advertise-client-urls={client}")])
            .args([format!("--listen-peer-urls={peer}"), format!("--initial-advertise-peer-urls={peer}")])
            .arg(format!("--initial-cluster={}={peer}", site.node))
            .args(["--logger=zap", "--log-outputs=stderr", "--log-level=warn"]))
    }

    fn answers<'a>(&'a self, site: Site<'a>) -> BoxFuture<'a, Result<()>> {
        async move {
            let health = get(&site.address("client")?, "/health").await?;
            if !health.contains("\"true\"") {
                bail!("etcd says {health}");
            }
            Ok(())
        }
        .boxed()
    }

    fn variables(&self, sites: &[Site<'_>]) -> Result<Vec<(&'static str, String)>> {
        Ok(vec![("FX_TEST_ETCD", self.url(sites[0])?)])
    }

    fn version<'a>(&'a self, site: Site<'a>) -> BoxFuture<'a, Result<String>> {
        version_of(site, "etcd", "--version").boxed()
    }

    fn url(&self, site: Site<'_>) -> Result<String> {
        Ok(format!("http://{}", site.address("client")?))
    }
}
