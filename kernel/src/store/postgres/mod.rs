//! PostgreSQL: unnamed statements in one round trip, right through a pooler in transaction mode.

pub(super) mod admin;
mod cells;
mod check;
mod connect;
mod lane;
mod migrate;
mod policies;
mod pool;
mod reader;
mod ready;
mod runner;
mod siblings;
mod stale;
mod tls;
mod unit;

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use super::engine::Server;
use super::error::{Away, StoreError};
use super::job::{End, Job};
use super::migrate::Migration;
use super::row::Statement;
use super::space::Space;
use super::{AfterCommit, Options};
use admin::Admin;
use connect::Target;
use lane::{Lane, Settings};
use pool::Pool;
pub(crate) use reader::PgRead;
use runner::Runner;
use siblings::Siblings;
pub(crate) use stale::PgStale;
use stale::Standby;
pub(crate) use unit::PgUnit;

pub(crate) struct Postgres {
    runner: Arc<Runner>,
    reader: Arc<PgRead>,
    standby: Option<Arc<Standby>>,
    server: Server,
    siblings: parking_lot::Mutex<Option<Siblings>>,
    /// A connection for checking statements, opened by the first check.
    checker: tokio::sync::Mutex<Option<Checker>>,
}

enum Checker {
    Own(Lane),
    Admin(Admin),
}

impl Checker {
    fn lane(&self) -> &Lane {
        match self {
            Self::Own(lane) => lane,
            Self::Admin(admin) => admin.lane(),
        }
    }
}

/// The names of a service's roles, made from that of its schema.
pub(crate) struct Roles {
    schema: String,
    /// Owns schema and tables, and never logs in.
    owner: String,
    /// May use the tables; both logins are members.
    app: String,
}

impl Roles {
    /// The roles of a schema; its name stands inside statements, so it is held to what needs no quoting.
    pub(crate) fn of(schema: &str) -> Result<Self, StoreError> {
        // The longest suffix is six characters, and a name has 63.
        if schema.len() > 57 {
            return Err(StoreError::Refused(format!("a schema's name has at most 57 characters, not {schema:?}")));
        }
        refuse_odd_name(schema)?;
        Ok(Self { schema: schema.to_owned(), owner: format!("{schema}_owner"), app: format!("{schema}_app") })
    }

    /// The two roles of which one logs in.
    pub(crate) fn logins(&self) -> [String; 2] {
        ["a", "b"].map(|which| format!("{}_{which}", self.schema))
    }
}

impl Postgres {
    pub(crate) async fn open(
        server: &Server,
        options: &Options,
        all: &[Migration],
        after: Arc<AfterCommit>,
        space: Arc<Space>,
    ) -> Result<Self, StoreError> {
        Roles::of(&server.schema)?;
        let mut target = Target::read(&server.url, server.login.clone(), server.ca_file.as_deref())?;
        if server.direct {
            target = target.direct(&server.schema);
        }
        if let Some(url) = &server.admin_url {
            let named = target.named_login();
            let login = match &server.login {
                Some(logins) => logins.current().ok(),
                None => named,
            };
            let admin = Admin::connect(url, server.ca_file.as_deref()).await?;
            admin.provision_all(&server.schema, all, login.as_ref()).await?;
        }
        let pool = Arc::new(Pool::new(target, server.connections));
        let first = pool.lane().await.map_err(named)?;
        ready::check(&first, &server.schema, all).await?;
        pool.put(first);
        let settings = Arc::new(Settings::new(&server.schema, options.deadline));
        let reader = Arc::new(PgRead::new(pool.clone(), settings.clone(), options.deadline));
        let standby = standby(server, &pool, &settings, options.deadline)?.map(Arc::new);
        let siblings = parking_lot::Mutex::new(siblings(server, &after)?);
        let runner = Arc::new(Runner { pool, settings, deadline: options.deadline, after, space });
        let (server, checker) = (server.clone(), tokio::sync::Mutex::default());
        Ok(Self { runner, reader, standby, server, siblings, checker })
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

    pub(crate) fn stale(&self, max_age: Duration) -> Arc<PgStale> {
        Arc::new(PgStale { primary: self.reader.clone(), standby: self.standby.clone(), max_age })
    }

    pub(crate) async fn prepare(&self, statement: &Statement) -> Result<(), StoreError> {
        let mut checker = self.checker.lock().await;
        let kept = checker.take().filter(|checker| !checker.lane().client.is_closed());
        let ready = match kept {
            Some(ready) => ready,
            None => self.open_checker().await?,
        };
        check::check(checker.insert(ready).lane(), statement).await
    }

    async fn open_checker(&self) -> Result<Checker, StoreError> {
        let Server { url, direct, schema, login, ca_file, admin_url, .. } = &self.server;
        let checker = match admin_url {
            Some(url) => Checker::Admin(Admin::connect(url, ca_file.as_deref()).await?),
            None if !direct => {
                return Err(StoreError::Refused(
                    "statements are checked over a direct connection, not a pooler".into(),
                ));
            }
            None => Checker::Own(Target::read(url, login.clone(), ca_file.as_deref())?.connect().await?),
        };
        let path = format!("SET search_path = \"{schema}\"");
        checker.lane().client.batch_execute(&path).await.map_err(|e| engine_error(&e))?;
        Ok(checker)
    }

    pub(crate) async fn close(&self) {
        self.siblings.lock().take();
        if let Some(standby) = &self.standby {
            standby.close().await;
        }
        self.runner.pool.close().await;
        self.checker.lock().await.take();
    }
}

/// Says which setting leads to where nobody answers.
fn named(error: StoreError) -> StoreError {
    match error {
        StoreError::Lost(Away::Gone(why)) => {
            StoreError::gone(format!("postgres.url: {why}; is the address right, and does a server run there?"))
        }
        other => other,
    }
}

/// Company for instances that can reach the server itself.
fn siblings(server: &Server, after: &Arc<AfterCommit>) -> Result<Option<Siblings>, StoreError> {
    let Some(url) = server.direct_url.as_deref().or(server.direct.then_some(server.url.as_str())) else {
        return Ok(None);
    };
    let target = Target::read(url, server.login.clone(), server.ca_file.as_deref())?.direct(&server.schema);
    Ok(Some(Siblings::meet(target, &server.schema, after.clone())))
}

fn standby(
    server: &Server,
    primary: &Arc<Pool>,
    settings: &Arc<Settings>,
    deadline: Duration,
) -> Result<Option<Standby>, StoreError> {
    let Some(url) = &server.standby_url else { return Ok(None) };
    let target = Target::read(url, server.login.clone(), server.ca_file.as_deref())?.of_any_age();
    let pool = Arc::new(Pool::new(target, server.connections));
    Ok(Some(Standby::new(pool, primary.clone(), settings.clone(), deadline)))
}

/// A name that stands inside statements.
fn refuse_odd_name(name: &str) -> Result<(), StoreError> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if (1..=63).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with("pg_") {
        return Ok(());
    }
    Err(StoreError::Refused(format!("a schema's or role's name is 1 to 63 of a-z, 0-9 and _, not {name:?}")))
}

pub(crate) fn engine_error(error: &tokio_postgres::Error) -> StoreError {
    let Some(said) = error.as_db_error() else {
        let why = error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
        // Not every error without a code is a lost connection: a statement that is too long is none, and fails again.
        return if error.is_closed() { StoreError::gone(why) } else { StoreError::Engine(why) };
    };
    let text = format!("{} ({})", said.message(), said.code().code());
    match said.code().code() {
        "40001" | "40P01" => StoreError::Conflict(text),
        "55P03" => StoreError::LockTimeout,
        // 25006: a server that follows another one; the next connection looks for the one that takes writes.
        "53300" | "57P01" | "57P02" | "57P03" | "25006" => StoreError::gone(text),
        // The disk of the server; the next unit may need no more of it than there is.
        "53100" => StoreError::full(text),
        // A row of an organisation outside the scope, or a table of another service: trying again does not help.
        "42501" => StoreError::Refused(text),
        code if code.starts_with("23") => StoreError::Constraint(text),
        code if code.starts_with("08") => StoreError::gone(text),
        _ => StoreError::Engine(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_name_that_needs_quoting_is_refused() {
        assert_eq!(Roles::of("orders_2").unwrap().logins(), ["orders_2_a", "orders_2_b"]);
        for odd in ["", "Orders", "a\"b", "a b", "pg_catalog", &"x".repeat(58)] {
            assert!(Roles::of(odd).is_err(), "{odd}");
        }
    }
}
