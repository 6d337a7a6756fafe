//! One statement to one of the run's own `PostgreSQL` servers or its pool.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio_postgres::{Config, NoTls, SimpleQueryMessage};

use crate::place::Site;
use crate::recipes::postgres::ADMIN;

/// Asks as the administrator, by the simple protocol; the first value of the first row, if there is one.
pub(crate) async fn ask(site: Site<'_>, database: &str, statement: &str) -> Result<Option<String>> {
    let mut login = Config::new();
    login.host("127.0.0.1").port(site.port("sql")?).user(ADMIN).password(site.place.password()).dbname(database);
    login.connect_timeout(Duration::from_secs(2)).application_name("foodexpress engines");
    let (client, connection) = login.connect(NoTls).await.with_context(|| format!("cannot reach {}", site.node))?;
    let answer = tokio::select! {
        answer = client.simple_query(statement) => answer,
        ended = connection => match ended {
            Ok(()) => bail!("{} hung up", site.node),
            Err(error) => return Err(error).context("the connection broke"),
        },
    };
    let answer = answer.with_context(|| format!("{} refuses: {statement}", site.node))?;
    Ok(answer.iter().find_map(|m| match m {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}
