//! PostgreSQL: unnamed statements in one round trip, right through a pooler in transaction mode.

mod cells;
mod check;
mod connect;
mod lane;
mod migrate;
mod pool;
mod reader;
mod runner;
mod unit;

use std::error::Error as _;
use std::sync::Arc;

use tokio_postgres::Config;

use super::error::StoreError;
use super::job::{End, Job};
use super::migrate::Migration;
use super::row::Statement;
use super::{AfterCommit, Engine, Options};
use lane::{Lane, Settings};
use pool::Pool;
pub(crate) use reader::PgRead;
use runner::Runner;
pub(crate) use unit::PgUnit;

pub(crate) struct Postgres {
    runner: Arc<Runner>,
    reader: Arc<PgRead>,
    direct: Config,
    schema: String,
    /// A direct connection for checking statements, opened by the first check.
    checker: tokio::sync::Mutex<Option<Lane>>,
}

impl Postgres {
    pub(crate) async fn open(
        options: &Options,
        all: &[Migration],
        after: Arc<AfterCommit>,
    ) -> Result<Self, StoreError> {
        let Engine::Postgres { url, direct_url, schema, direct } = &options.engine else {
            return Err(StoreError::Refused("not a PostgreSQL address".into()));
        };
        refuse_odd_schema(schema)?;
        let (mut pooled, direct_config) = (connect::address(url)?, connect::address(direct_url)?);
        // Behind a pooler each service's own name would cost a statement whenever a connection changes hands.
        if *direct && pooled.get_application_name().is_none() {
            pooled.application_name(schema);
        }
        let lane = connect::connect(&direct_config, false).await?;
        migrate::run(&lane, schema, all).await?;
        let pool = Arc::new(Pool::new(pooled, *direct));
        let settings = Arc::new(Settings::new(schema, options.deadline));
        let reader = Arc::new(PgRead::new(pool.clone(), settings.clone(), options.deadline));
        let runner = Arc::new(Runner { pool, settings, deadline: options.deadline, after });
        Ok(Self {
            runner,
            reader,
            direct: direct_config,
            schema: schema.clone(),
            checker: tokio::sync::Mutex::default(),
        })
    }

    /// Starts a unit. It runs in a task of its own: a caller that goes away does not stop it.
    #[expect(
        clippy::disallowed_methods,
        reason = "a panic of the unit is caught and answered; the caller waits for the answer"
    )]
    pub(crate) async fn submit(&self, job: Box<dyn Job>) {
        match self.runner.pool.slot().await {
            Ok(slot) => {
                let runner = self.runner.clone();
                tokio::spawn(async move {
                    runner.run(job).await;
                    drop(slot);
                });
            }
            Err(error) => job.finish(End::Store(error)),
        }
    }

    pub(crate) fn reader(&self) -> Arc<PgRead> {
        self.reader.clone()
    }

    pub(crate) async fn prepare(&self, statement: &Statement) -> Result<(), StoreError> {
        let mut checker = self.checker.lock().await;
        let lane = if let Some(lane) = checker.take().filter(|lane| !lane.client.is_closed()) {
            lane
        } else {
            let lane = connect::connect(&self.direct, false).await?;
            let path = format!("SET search_path = \"{}\"", self.schema);
            lane.client.batch_execute(&path).await.map_err(|e| engine_error(&e))?;
            lane
        };
        check::check(checker.insert(lane), statement).await
    }

    pub(crate) async fn close(&self) {
        self.runner.pool.close().await;
        self.checker.lock().await.take();
    }
}

/// The schema's name stands inside statements, so it is held to what needs no quoting.
fn refuse_odd_schema(schema: &str) -> Result<(), StoreError> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if (1..=63).contains(&schema.len()) && schema.bytes().all(plain) && !schema.starts_with("pg_") {
        return Ok(());
    }
    Err(StoreError::Refused(format!("a schema's name is 1 to 63 of a-z, 0-9 and _, not {schema:?}")))
}

pub(crate) fn engine_error(error: &tokio_postgres::Error) -> StoreError {
    let Some(said) = error.as_db_error() else {
        let why = error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
        // Not every error without a code is a lost connection: a statement that is too long is none, and fails again.
        return if error.is_closed() { StoreError::Lost(why) } else { StoreError::Engine(why) };
    };
    let text = format!("{} ({})", said.message(), said.code().code());
    match said.code().code() {
        "40001" | "40P01" => StoreError::Conflict(text),
        "55P03" => StoreError::LockTimeout,
        "53300" | "57P01" | "57P02" | "57P03" => StoreError::Lost(text),
        code if code.starts_with("23") => StoreError::Constraint(text),
        code if code.starts_with("08") => StoreError::Lost(text),
        _ => StoreError::Engine(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_name_that_needs_quoting_is_refused() {
        refuse_odd_schema("orders_2").unwrap();
        for odd in ["", "Orders", "a\"b", "a b", "pg_catalog", &"x".repeat(64)] {
            assert!(refuse_odd_schema(odd).is_err(), "{odd}");
        }
    }
}
