//! Redis: everything appended to a log that is flushed every second, users kept in a file of their own.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use futures::future::{BoxFuture, FutureExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::postgres::shown;
use super::{Recipe, version_of};
use crate::place::Site;
use crate::spawn::Line;

pub(crate) struct Redis;

impl Recipe for Redis {
    fn prepare<'a>(&'a self, site: Site<'a>) -> BoxFuture<'a, Result<()>> {
        async move { prepare(site) }.boxed()
    }

    fn command(&self, site: Site<'_>) -> Result<Line> {
        Ok(Line::new(&site.program("redis-server")?).arg(shown(&site.folder().join("redis.conf"))))
    }

    fn answers<'a>(&'a self, site: Site<'a>) -> BoxFuture<'a, Result<()>> {
        answers(site).boxed()
    }

    fn variables(&self, sites: &[Site<'_>]) -> Result<Vec<(&'static str, String)>> {
        let (password, address) = (sites[0].place.password(), sites[0].address("redis")?);
        Ok(vec![("FX_TEST_REDIS", format!("redis://:{password}@{address}"))])
    }

    fn version<'a>(&'a self, site: Site<'a>) -> BoxFuture<'a, Result<String>> {
        version_of(site, "redis-server", "--version").boxed()
    }

    fn url(&self, site: Site<'_>) -> Result<String> {
        Ok(format!("redis://{}", site.address("redis")?))
    }

    fn credentials(&self, site: Site<'_>) -> Option<PathBuf> {
        Some(password_file(site))
    }
}

fn password_file(site: Site<'_>) -> PathBuf {
    site.place.path("secrets").join("redis")
}

/// Users that a service is given live in the file of users after `ACL SAVE`; the first one is the administrator.
fn prepare(site: Site<'_>) -> Result<()> {
    site.place.write(&password_file(site), site.place.password())?;
    site.place.make(&site.data())?;
    let users = site.folder().join("users.acl");
    if !users.exists() {
        site.place.write(&users, &format!("user default on >{} ~* &* +@all\n", site.place.password()))?;
    }
    let (port, data, users) = (site.port("redis")?, shown(&site.data()), shown(&users));
    let settings = format!(
        "bind 127.0.0.1
port {port}
dir \"{data}\"
aclfile \"{users}\"
appendonly yes
appendfsync everysec
save \"\"
daemonize no
"
    );
    site.place.write(&site.folder().join("redis.conf"), &settings)
}

async fn answers(site: Site<'_>) -> Result<()> {
    let mut stream = TcpStream::connect(site.address("redis")?).await?;
    stream.write_all(format!("AUTH {}\r\nPING\r\n", site.place.password()).as_bytes()).await?;
    let wanted = b"+OK\r\n+PONG\r\n";
    let mut said = Vec::new();
    while said.len() < wanted.len() {
        let read = stream.read_buf(&mut said).await.context("redis hung up")?;
        if read == 0 || said.starts_with(b"-") {
            break;
        }
    }
    if said != wanted {
        bail!("redis says {}", String::from_utf8_lossy(&said).trim());
    }
    Ok(())
}
