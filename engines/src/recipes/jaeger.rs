//! Jaeger: takes traces by OTLP, keeps them in memory, gives them back by id. Built from source: no package has it.

use std::path::{Path, PathBuf};

use anyhow::Result;
use futures::future::{BoxFuture, FutureExt as _};
use serde_json::json;

use super::postgres::shown;
use super::{Recipe, get};
use crate::build::go::GoProgram;
use crate::cache::{Cache, Say};
use crate::place::Site;
use crate::spawn::Line;

pub(crate) const VERSION: &str = "1.76.0";

const PROGRAM: GoProgram = GoProgram {
    name: "jaeger",
    module: "github.com/jaegertracing/jaeger",
    version: VERSION,
    package: "github.com/jaegertracing/jaeger/cmd/jaeger",
};

pub(crate) struct Jaeger;

impl Recipe for Jaeger {
    fn prepare<'a>(&'a self, site: Site<'a>) -> BoxFuture<'a, Result<()>> {
        // JSON is YAML, too.
        async move { site.place.write(&settings_file(site), &format!("{:#}\n", settings(site)?)) }.boxed()
    }

    fn command(&self, site: Site<'_>) -> Result<Line> {
        Ok(Line::new(&PROGRAM.program(site.place.cache.root())).args(["--config", &shown(&settings_file(site))]))
    }

    fn answers<'a>(&'a self, site: Site<'a>) -> BoxFuture<'a, Result<()>> {
        async move {
            get(&site.address("query")?, "/api/services").await?;
            // The collector opens its port after the query side; a GET is refused there, but answered.
            let http = reqwest::Client::builder().no_proxy().build()?;
            http.get(format!("http://{}/v1/traces", site.address("otlp")?)).send().await?;
            Ok(())
        }
        .boxed()
    }

    fn variables(&self, sites: &[Site<'_>]) -> Result<Vec<(&'static str, String)>> {
        let query = format!("http://{}", sites[0].address("query")?);
        Ok(vec![("FX_TEST_JAEGER", self.url(sites[0])?), ("FX_TEST_JAEGER_QUERY", query)])
    }

    fn version<'a>(&'a self, _: Site<'a>) -> BoxFuture<'a, Result<String>> {
        async { Ok(VERSION.to_owned()) }.boxed()
    }

    fn url(&self, site: Site<'_>) -> Result<String> {
        Ok(format!("http://{}", site.address("otlp")?))
    }

    fn is_built(&self, cache: &Path) -> bool {
        PROGRAM.is_built(cache)
    }

    fn build<'a>(&'a self, cache: &'a Cache, say: &'a Say) -> BoxFuture<'a, Result<()>> {
        PROGRAM.build(cache, say).boxed()
    }
}

fn settings_file(site: Site<'_>) -> PathBuf {
    site.folder().join("jaeger.yaml")
}

/// No batching: a test asks for a trace right after it was sent. No metrics of its own: they would want a fixed port.
fn settings(site: Site<'_>) -> Result<serde_json::Value> {
    Ok(json!({
        "service": {
            "extensions": ["jaeger_storage", "jaeger_query"],
            "pipelines": { "traces": { "receivers": ["otlp"], "exporters": ["jaeger_storage_exporter"] } },
            "telemetry": { "metrics": { "level": "none" }, "logs": { "level": "warn" } },
        },
        "extensions": {
            "jaeger_storage": { "backends": { "memory": { "memory": { "max_traces": 100_000 } } } },
            "jaeger_query": {
                "storage": { "traces": "memory" },
                "http": { "endpoint": site.address("query")? },
                "grpc": { "endpoint": site.address("query_grpc")? },
            },
        },
        "receivers": { "otlp": { "protocols": { "http": { "endpoint": site.address("otlp")? } } } },
        "exporters": { "jaeger_storage_exporter": { "trace_storage": "memory" } },
    }))
}
