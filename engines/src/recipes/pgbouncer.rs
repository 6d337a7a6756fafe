//! `PgBouncer` in transaction mode before whichever `PostgreSQL` is the primary.

use anyhow::Result;
use futures::future::{BoxFuture, FutureExt as _};

use super::postgres::{ADMIN, shown, url_with_password};
use super::{Recipe, version_of};
use crate::place::Site;
use crate::spawn::Line;
use crate::sql;

pub(crate) struct PgBouncer;

impl Recipe for PgBouncer {
    fn prepare<'a>(&'a self, site: Site<'a>) -> BoxFuture<'a, Result<()>> {
        async move { write_settings(site) }.boxed()
    }

    fn command(&self, site: Site<'_>) -> Result<Line> {
        Ok(Line::new(&site.program("pgbouncer")?).arg(shown(&site.folder().join("pgbouncer.ini"))))
    }

    /// Its own console: whether the store behind it answers is another question.
    fn answers<'a>(&'a self, site: Site<'a>) -> BoxFuture<'a, Result<()>> {
        async move { sql::ask(site, "pgbouncer", "show version").await.map(drop) }.boxed()
    }

    fn variables(&self, sites: &[Site<'_>]) -> Result<Vec<(&'static str, String)>> {
        Ok(vec![("FX_TEST_PGBOUNCER", url_with_password(sites[0])?)])
    }

    fn version<'a>(&'a self, site: Site<'a>) -> BoxFuture<'a, Result<String>> {
        version_of(site, "pgbouncer", "-V").boxed()
    }

    fn url(&self, site: Site<'_>) -> Result<String> {
        Ok(format!("postgres://{ADMIN}@{}/postgres", site.address("sql")?))
    }

    fn credentials(&self, site: Site<'_>) -> Option<std::path::PathBuf> {
        Some(super::postgres::password_file(site))
    }
}

/// Roles and databases appear while tests run: the wildcard and `auth_query` find them. Four server connections make
/// clients contend, without which nothing that goes wrong in transaction mode shows. Idle ones are let go soon, because
/// they count against `max_connections` once per database and stand in the way of DROP DATABASE. After a failed login it
/// tries again after a second, else clients wait for fifteen when a primary comes back.
pub(crate) fn write_settings(site: Site<'_>) -> Result<()> {
    let primary = site.beside(site.place.primary())?;
    let users = site.folder().join("users");
    site.place.write(&users, &format!("\"{ADMIN}\" \"{}\"\n", site.place.password()))?;
    let (server, port, users) = (primary.port("sql")?, site.port("sql")?, shown(&users));
    let settings = format!(
        "[databases]
* = host=127.0.0.1 port={server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
pool_mode = transaction
default_pool_size = 4
max_client_conn = 500
auth_type = scram-sha-256
auth_file = {users}
auth_user = {ADMIN}
auth_query = SELECT usename, passwd FROM pg_catalog.pg_shadow WHERE usename = $1
admin_users = {ADMIN}
ignore_startup_parameters = extra_float_digits
server_login_retry = 1
server_idle_timeout = 5
autodb_idle_timeout = 60
"
    );
    site.place.write(&site.folder().join("pgbouncer.ini"), &settings)
}
