//! Prometheus: scrapes what files in its folder name, judges the rules that lie there.

use std::path::PathBuf;

use anyhow::Result;
use futures::future::{BoxFuture, FutureExt as _};
use serde_json::json;

use super::{Recipe, get, version_of};
use crate::place::Site;
use crate::spawn::Line;

pub(crate) struct Prometheus;

impl Recipe for Prometheus {
    fn prepare<'a>(&'a self, site: Site<'a>) -> BoxFuture<'a, Result<()>> {
        async move {
            for folder in ["data", "targets", "rules"] {
                site.place.make(&site.folder().join(folder))?;
            }
            // JSON is YAML, too.
            site.place.write(&settings_file(site), &format!("{:#}\n", settings(site)?))
        }
        .boxed()
    }

    fn command(&self, site: Site<'_>) -> Result<Line> {
        Ok(Line::new(&site.program("prometheus")?)
            .path("--config.file", &settings_file(site))
            .path("--storage.tsdb.path", &site.data())
            .arg(format!("--web.listen-address={}", site.address("http")?))
            .args(["--web.enable-lifecycle", "--log.level=warn"]))
    }

    fn answers<'a>(&'a self, site: Site<'a>) -> BoxFuture<'a, Result<()>> {
        async move { get(&site.address("http")?, "/-/ready").await.map(drop) }.boxed()
    }

    fn variables(&self, sites: &[Site<'_>]) -> Result<Vec<(&'static str, String)>> {
        let promtool = sites[0].program("promtool")?.display().to_string();
        Ok(vec![("FX_TEST_PROMETHEUS", self.url(sites[0])?), ("FX_TEST_PROMTOOL", promtool)])
    }

    fn version<'a>(&'a self, site: Site<'a>) -> BoxFuture<'a, Result<String>> {
        version_of(site, "prometheus", "--version").boxed()
    }

    fn url(&self, site: Site<'_>) -> Result<String> {
        Ok(format!("http://{}", site.address("http")?))
    }
}

fn settings_file(site: Site<'_>) -> PathBuf {
    site.folder().join("prometheus.yml")
}

/// Targets are found within a second of their file being written; rules are read at `POST /-/reload`.
fn settings(site: Site<'_>) -> Result<serde_json::Value> {
    let folder = site.folder();
    let alertmanager = site.beside("alertmanager")?;
    let listening: Vec<String> =
        if site.place.ports("alertmanager").is_some() { vec![alertmanager.address("http")?] } else { Vec::new() };
    Ok(json!({
        "global": { "scrape_interval": "1s", "evaluation_interval": "1s" },
        "rule_files": [folder.join("rules/*.yml")],
        "alerting": { "alertmanagers": [{ "static_configs": [{ "targets": listening }] }] },
        "scrape_configs": [{
            "job_name": "foodexpress",
            "file_sd_configs": [{ "files": [folder.join("targets/*.json")], "refresh_interval": "1s" }],
        }],
    }))
}
