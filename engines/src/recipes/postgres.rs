//! `PostgreSQL`: the primary, until a standby is promoted. Both nodes start alike, by the role they have.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use futures::future::{BoxFuture, FutureExt as _};

use super::{Recipe, standby, version_of};
use crate::place::Site;
use crate::spawn::Line;
use crate::sql;

/// The administrator of a run.
pub(crate) const ADMIN: &str = "fx_test";

pub(crate) struct Postgres;

impl Recipe for Postgres {
    fn prepare<'a>(&'a self, site: Site<'a>) -> BoxFuture<'a, Result<()>> {
        prepare(site).boxed()
    }

    fn command(&self, site: Site<'_>) -> Result<Line> {
        let port = site.port("sql")?.to_string();
        // Told here, so that a copy of the cluster brings no port along.
        Ok(Line::new(&site.program("postgres")?).args(["-D", &shown(&site.data()), "-p", &port]))
    }

    fn answers<'a>(&'a self, site: Site<'a>) -> BoxFuture<'a, Result<()>> {
        answers(site).boxed()
    }

    fn variables(&self, sites: &[Site<'_>]) -> Result<Vec<(&'static str, String)>> {
        Ok(vec![("FX_TEST_POSTGRES", url_with_password(sites[0])?)])
    }

    fn version<'a>(&'a self, site: Site<'a>) -> BoxFuture<'a, Result<String>> {
        version_of(site, "postgres", "-V").boxed()
    }

    fn url(&self, site: Site<'_>) -> Result<String> {
        Ok(format!("postgres://{ADMIN}@{}/postgres", site.address("sql")?))
    }

    fn credentials(&self, site: Site<'_>) -> Option<PathBuf> {
        Some(password_file(site))
    }

    /// Clients are cut off, the rest is written down.
    fn ends_by(&self) -> &'static str {
        "INT"
    }

    /// At once and without a checkpoint, but its shared memory is given back, which a kill would leave lying.
    fn is_thrown_away_by(&self) -> &'static str {
        "QUIT"
    }
}

async fn prepare(site: Site<'_>) -> Result<()> {
    let (data, primary) = (site.data(), site.place.primary());
    let there = data.join("PG_VERSION").exists();
    if primary != site.node {
        if !there {
            return standby::copy_primary(site).await;
        }
        // Started as it is, it would take writes beside the new primary and give out the same numbers.
        if !data.join("standby.signal").exists() {
            bail!("{primary} was promoted over it; `foodexpress engines rejoin {}` makes it follow", site.node);
        }
        return Ok(());
    }
    if there {
        return Ok(());
    }
    site.place.write(&password_file(site), &format!("127.0.0.1:*:*:{ADMIN}:{}\n", site.place.password()))?;
    make_cluster(site).await
}

async fn answers(site: Site<'_>) -> Result<()> {
    sql::ask(site, "postgres", "select 1").await?;
    if site.place.primary() != site.node && !standby::follows(site).await? {
        bail!("{} does not stream from {} yet", site.node, site.place.primary());
    }
    Ok(())
}

/// For `PGPASSFILE`: whoever may read it is administrator of every server of the run.
pub(crate) fn password_file(site: Site<'_>) -> PathBuf {
    site.place.path("secrets").join("pgpass")
}

pub(crate) fn url_with_password(site: Site<'_>) -> Result<String> {
    Ok(format!("postgres://{ADMIN}:{}@{}/postgres", site.place.password(), site.address("sql")?))
}

pub(crate) fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// The C collation sorts text by bytes, as `SQLite` does. initdb need not flush what is thrown away; the server does.
async fn make_cluster(site: Site<'_>) -> Result<()> {
    let password = site.folder().join("password");
    site.place.write(&password, site.place.password())?;
    let draft = site.folder().join("draft");
    let initdb = Line::new(&site.program("initdb")?)
        .path("--pgdata", &draft)
        .arg(format!("--username={ADMIN}"))
        .path("--pwfile", &password)
        .args(["--auth-local=scram-sha-256", "--auth-host=scram-sha-256", "--data-checksums"])
        .args(["--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"]);
    site.run(&initdb).await?;
    std::fs::remove_file(&password)?;
    let settings = draft.join("postgresql.conf");
    let defaults = std::fs::read_to_string(&settings)?;
    site.place.write(&settings, &format!("{defaults}\n{SETTINGS}"))?;
    // Under its name only when it is whole: a crash in between leaves no half cluster behind.
    Ok(std::fs::rename(&draft, site.data())?)
}

/// The socket lies beside the data, named from there: a path of a deep folder would be too long for one.
/// The last lines let a standby follow, and a former primary be rewound to it.
const SETTINGS: &str = "\
listen_addresses = '127.0.0.1'
unix_socket_directories = '..'
max_connections = 200
password_encryption = 'scram-sha-256'
fsync = on
shared_buffers = 64MB
timezone = 'UTC'
wal_level = replica
max_wal_senders = 10
max_replication_slots = 10
hot_standby = on
wal_keep_size = 256MB
";
