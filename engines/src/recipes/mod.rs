//! How each engine starts: one file per engine.

pub(crate) mod alertmanager;
pub(crate) mod consul;
pub(crate) mod etcd;
pub(crate) mod jaeger;
pub(crate) mod kafka;
pub(crate) mod pgbouncer;
pub(crate) mod postgres;
pub(crate) mod prometheus;
pub(crate) mod redis;
pub(crate) mod standby;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures::future::{BoxFuture, FutureExt as _};

use crate::cache::{Cache, Say};
use crate::place::Site;
use crate::spawn::Line;

/// How one engine starts.
pub(crate) trait Recipe: Send + Sync {
    /// Makes the node's folder ready: settings anew each time, data only where there is none.
    fn prepare<'a>(&'a self, site: Site<'a>) -> BoxFuture<'a, Result<()>>;

    /// What to run in the node's folder; it stays in the foreground.
    fn command(&self, site: Site<'_>) -> Result<Line>;

    /// Asks it once whether it does its work.
    fn answers<'a>(&'a self, site: Site<'a>) -> BoxFuture<'a, Result<()>>;

    /// What tests are told, by variable; `sites` are the engine's nodes.
    fn variables(&self, sites: &[Site<'_>]) -> Result<Vec<(&'static str, String)>>;

    /// The version of the program.
    fn version<'a>(&'a self, site: Site<'a>) -> BoxFuture<'a, Result<String>>;

    /// Where its clients go, as a URL without secrets.
    fn url(&self, site: Site<'_>) -> Result<String>;

    /// Whether the cache has what must be built or fetched.
    fn is_built(&self, _cache: &Path) -> bool {
        true
    }

    /// Builds or fetches what the cache lacks.
    fn build<'a>(&'a self, _cache: &'a Cache, _say: &'a Say) -> BoxFuture<'a, Result<()>> {
        async { Ok(()) }.boxed()
    }

    /// A file that holds what its administrator signs in with.
    fn credentials(&self, _site: Site<'_>) -> Option<PathBuf> {
        None
    }

    /// The signal for ending it properly.
    fn ends_by(&self) -> &'static str {
        "TERM"
    }

    /// The signal for ending it when its data is thrown away anyhow.
    fn is_thrown_away_by(&self) -> &'static str {
        "KILL"
    }
}

/// What a GET of this address answers.
pub(crate) async fn get(address: &str, path: &str) -> Result<String> {
    // A proxy of the machine has no business between us and our own engines.
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build()?;
    let answer = http.get(format!("http://{address}{path}")).send().await?;
    let status = answer.status();
    let text = answer.text().await?;
    if !status.is_success() {
        bail!("{path} answers {status}: {text}");
    }
    Ok(text)
}

/// The version that a program of this engine names.
pub(crate) async fn version_of(site: Site<'_>, program: &str, flag: &str) -> Result<String> {
    let program = site.program(program)?;
    crate::program::version(&program, flag).await.context("an engine's program must tell its version")
}
