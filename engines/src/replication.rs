//! Failover of `PostgreSQL` and the way back.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::time::sleep;

use crate::fleet::Fleet;
use crate::node::{Node, State};
use crate::place::Site;
use crate::process::signal;
use crate::recipes::postgres::{ADMIN, password_file};
use crate::recipes::{pgbouncer, standby};
use crate::spawn::Line;
use crate::sql::ask;

/// How long a replay may take to stop.
const PAUSES_WITHIN: Duration = Duration::from_secs(10);

impl Fleet {
    /// The standby of the two, if the node is it.
    fn must_be_standby<'a>(&'a self, node: &Node) -> Result<Site<'a>> {
        match self.role(node).as_deref() {
            Some("standby") => Ok(node.site(&self.place)),
            Some(_) => bail!("{} is the primary already", node.name),
            None => bail!("{} is no PostgreSQL", node.name),
        }
    }

    pub(crate) async fn promote(&self, node: &Node) -> Result<()> {
        let site = self.must_be_standby(node)?;
        node.must_live()?;
        let done = ask(site, "postgres", "select pg_promote(true, 30)").await?;
        if done.as_deref() != Some("t") {
            bail!("{} was not promoted within 30 s; its log: {}", node.name, site.log().display());
        }
        self.place.set_primary(node.name);
        let Some(pool) = self.node("pgbouncer") else { return Ok(()) };
        pgbouncer::write_settings(pool.site(&self.place))?;
        if pool.state() == State::Ended { Ok(()) } else { signal(&[pool.pid()], "HUP").await }
    }

    pub(crate) async fn rejoin(&self, node: &Node) -> Result<()> {
        let site = self.must_be_standby(node)?;
        let primary = site.beside(self.place.primary())?;
        node.end(node.engine.recipe.ends_by()).await?;
        // Until its first checkpoint the new primary still says that it is on the old timeline.
        ask(primary, "postgres", "checkpoint").await?;
        standby::make_slot(primary, node.name).await?;
        let server = format!(
            "host=127.0.0.1 port={} user={ADMIN} dbname=postgres passfile='{}'",
            primary.port("sql")?,
            password_file(site).display()
        );
        let rewind = Line::new(&site.program("pg_rewind")?)
            .path("--target-pgdata", &site.data())
            .arg(format!("--source-server={server}"))
            .arg("--no-sync");
        site.run(&rewind).await.with_context(|| format!("cannot rewind {}", node.name))?;
        // The rewind brought the other one's settings along.
        standby::follow(site, &site.data())?;
        self.launch(&[node]).await
    }

    pub(crate) async fn synchronize(&self, node: &Node) -> Result<()> {
        let site = node.site(&self.place);
        match self.role(node).as_deref() {
            Some("primary") => {}
            Some(_) => bail!("{} is the standby; the primary is {}", node.name, self.place.primary()),
            None => bail!("{} is no PostgreSQL", node.name),
        }
        if self.node("standby").is_none() {
            bail!("{} has no standby; without one it would acknowledge nothing", node.name);
        }
        ask(site, "postgres", "alter system set synchronous_standby_names = '*'").await?;
        ask(site, "postgres", "select pg_reload_conf()").await.map(drop)
    }

    pub(crate) async fn pause(&self, node: &Node) -> Result<()> {
        let site = self.must_be_standby(node)?;
        ask(site, "postgres", "select pg_wal_replay_pause()").await?;
        let began = Instant::now();
        // It was only asked to pause; it does before its next record.
        while ask(site, "postgres", "select pg_get_wal_replay_pause_state()").await?.as_deref() != Some("paused") {
            if began.elapsed() > PAUSES_WITHIN {
                bail!("{} does not pause", node.name);
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    pub(crate) async fn resume(&self, node: &Node) -> Result<()> {
        ask(self.must_be_standby(node)?, "postgres", "select pg_wal_replay_resume()").await.map(drop)
    }
}
