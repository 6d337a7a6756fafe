//! A standby of `PostgreSQL` by streaming replication: a base backup of the primary that follows it from then on.

use std::path::{Path, PathBuf};

use anyhow::Result;
use futures::future::BoxFuture;

use super::Recipe;
use super::postgres::{ADMIN, Postgres, password_file, shown, url_with_password};
use crate::place::Site;
use crate::spawn::Line;
use crate::sql;

pub(crate) struct Standby;

impl Recipe for Standby {
    fn prepare<'a>(&'a self, site: Site<'a>) -> BoxFuture<'a, Result<()>> {
        Postgres.prepare(site)
    }

    fn command(&self, site: Site<'_>) -> Result<Line> {
        Postgres.command(site)
    }

    fn answers<'a>(&'a self, site: Site<'a>) -> BoxFuture<'a, Result<()>> {
        Postgres.answers(site)
    }

    fn variables(&self, sites: &[Site<'_>]) -> Result<Vec<(&'static str, String)>> {
        Ok(vec![("FX_TEST_STANDBY", url_with_password(sites[0])?)])
    }

    fn version<'a>(&'a self, site: Site<'a>) -> BoxFuture<'a, Result<String>> {
        Postgres.version(site)
    }

    fn url(&self, site: Site<'_>) -> Result<String> {
        Postgres.url(site)
    }

    fn credentials(&self, site: Site<'_>) -> Option<PathBuf> {
        Postgres.credentials(site)
    }

    fn ends_by(&self) -> &'static str {
        Postgres.ends_by()
    }

    fn is_thrown_away_by(&self) -> &'static str {
        Postgres.is_thrown_away_by()
    }
}

/// Whether it streams; with the primary gone it serves reads all the same, and that is what it is for.
pub(crate) async fn follows(site: Site<'_>) -> Result<bool> {
    let receiver = sql::ask(site, "postgres", "select status from pg_stat_wal_receiver").await?;
    let primary = site.beside(site.place.primary())?;
    Ok(receiver.as_deref() == Some("streaming") || sql::ask(primary, "postgres", "select 1").await.is_err())
}

/// The slot that a node follows by.
pub(crate) fn slot(node: &str) -> String {
    format!("fx_{node}")
}

/// Makes a base backup of the present primary.
pub(crate) async fn copy_primary(site: Site<'_>) -> Result<()> {
    let primary = site.beside(site.place.primary())?;
    make_slot(primary, site.node).await?;
    let draft = site.folder().join("draft");
    let copy = Line::new(&site.program("pg_basebackup")?)
        .path("--pgdata", &draft)
        .args(["--wal-method=stream", "--checkpoint=fast", "--no-sync", "--no-password"])
        .arg(format!("--slot={}", slot(site.node)))
        .args(["--host=127.0.0.1", &format!("--port={}", primary.port("sql")?), &format!("--username={ADMIN}")])
        .variable("PGPASSFILE", shown(&password_file(site)));
    site.run(&copy).await?;
    follow(site, &draft)?;
    Ok(std::fs::rename(&draft, site.data())?)
}

/// A slot of this name on the primary keeps what the standby has not read yet.
pub(crate) async fn make_slot(primary: Site<'_>, node: &str) -> Result<()> {
    let slot = slot(node);
    let make = format!(
        "select pg_create_physical_replication_slot('{slot}', true)
         where not exists (select 1 from pg_replication_slots where slot_name = '{slot}')"
    );
    sql::ask(primary, "postgres", &make).await.map(drop)
}

/// Makes the cluster in `data` a standby of the present primary. The whole file is written anew, because a cluster
/// copied from a former standby brings the address of that one's primary along.
pub(crate) fn follow(site: Site<'_>, data: &Path) -> Result<()> {
    let primary = site.beside(site.place.primary())?;
    let (port, node, slot) = (primary.port("sql")?, site.node, slot(site.node));
    let passwords = shown(&password_file(site));
    site.place.write(
        &data.join("postgresql.auto.conf"),
        &format!(
            "primary_conninfo = 'host=127.0.0.1 port={port} user={ADMIN} passfile=''{passwords}'' \
             application_name={node}'\nprimary_slot_name = '{slot}'\n"
        ),
    )?;
    site.place.write(&data.join("standby.signal"), "")
}
