//! Alertmanager: takes alerts and shows them; it tells nobody.

use std::path::PathBuf;

use anyhow::Result;
use futures::future::{BoxFuture, FutureExt as _};
use serde_json::json;

use super::{Recipe, get, version_of};
use crate::place::Site;
use crate::spawn::Line;

pub(crate) struct Alertmanager;

impl Recipe for Alertmanager {
    fn prepare<'a>(&'a self, site: Site<'a>) -> BoxFuture<'a, Result<()>> {
        async move {
            site.place.make(&site.data())?;
            // JSON is YAML, too.
            let settings = json!({ "route": { "receiver": "nobody" }, "receivers": [{ "name": "nobody" }] });
            site.place.write(&settings_file(site), &format!("{settings:#}\n"))
        }
        .boxed()
    }

    /// Without the empty address of a cluster it would listen on a fixed port for other Alertmanagers.
    fn command(&self, site: Site<'_>) -> Result<Line> {
        Ok(Line::new(&site.program("prometheus-alertmanager")?)
            .path("--config.file", &settings_file(site))
            .path("--storage.path", &site.data())
            .arg(format!("--web.listen-address={}", site.address("http")?))
            .args(["--cluster.listen-address=", "--log.level=warn"]))
    }

    fn answers<'a>(&'a self, site: Site<'a>) -> BoxFuture<'a, Result<()>> {
        async move { get(&site.address("http")?, "/-/ready").await.map(drop) }.boxed()
    }

    fn variables(&self, sites: &[Site<'_>]) -> Result<Vec<(&'static str, String)>> {
        let amtool = sites[0].program("amtool")?.display().to_string();
        Ok(vec![("FX_TEST_ALERTMANAGER", self.url(sites[0])?), ("FX_TEST_AMTOOL", amtool)])
    }

    fn version<'a>(&'a self, site: Site<'a>) -> BoxFuture<'a, Result<String>> {
        version_of(site, "prometheus-alertmanager", "--version").boxed()
    }

    fn url(&self, site: Site<'_>) -> Result<String> {
        Ok(format!("http://{}", site.address("http")?))
    }
}

fn settings_file(site: Site<'_>) -> PathBuf {
    site.folder().join("alertmanager.yml")
}
