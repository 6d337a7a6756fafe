//! What only an administrator does: a schema per service, a role that owns it, and roles that log in and own nothing.

use std::path::Path;
use std::time::{Duration, Instant};

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::store::engine::Login;
use crate::store::error::StoreError;
use crate::store::migrate::{self, Migration};

use super::connect::Target;
use super::lane::Lane;
use super::migrate::{failed, in_lock, refuse_loose_commits};
use super::ready::refuse_old_server;
use super::{Roles, migrate as steps};

/// All role work of a database happens under one lock.
const ROLES: &str = "roles of all services";
/// How often it is tried again when another database of the cluster touched the same catalogue row.
const TRIES: u32 = 5;

/// A direct connection as somebody who may make roles and schemas.
pub struct Admin {
    lane: Lane,
}

/// What was made for one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provisioned {
    /// Schema steps that ran.
    pub steps: usize,
    /// Whether the role that logs in is new.
    pub login_is_new: bool,
}

/// A login that takes over from another.
#[derive(Clone, Debug)]
pub struct Rotated {
    /// What logs in from now on; store it where services look.
    pub login: Login,
    /// The role that goes out of use; [`Admin::retire`] it when everybody has the new one.
    pub old: Option<String>,
}

impl Admin {
    /// Logs in.
    ///
    /// # Errors
    /// An address that does not read, a server that is too old, does not answer or does not let this administrator in.
    pub async fn connect(url: &str, ca_file: Option<&Path>) -> Result<Self, StoreError> {
        let lane = Target::read(url, None, ca_file)?.connect().await?;
        let version = "SELECT current_setting('server_version_num')::int";
        refuse_old_server(lane.client.query_typed_one(version, &[]).await.map_err(failed)?.get(0))?;
        // What a migration may take is its own affair, but it waits for nobody longer than this.
        lane.client.batch_execute("SET lock_timeout = '60s'").await.map_err(failed)?;
        Ok(Self { lane })
    }

    /// Makes a service's roles and schema and runs its schema steps after the kernel's own. Safe to do again and to do
    /// at once: a second time it changes nothing. `login` is made if it is not there; its password stays if it is.
    ///
    /// # Errors
    /// A name that needs quoting, rights that the administrator lacks, a schema that somebody else owns, a failing step.
    pub async fn provision(
        &self,
        schema: &str,
        migrations: &[Migration],
        login: Option<&Login>,
    ) -> Result<Provisioned, StoreError> {
        let all: Vec<Migration> = migrate::KERNEL.iter().chain(migrations).copied().collect();
        self.provision_all(schema, &all, login).await
    }

    pub(super) async fn provision_all(
        &self,
        schema: &str,
        all: &[Migration],
        login: Option<&Login>,
    ) -> Result<Provisioned, StoreError> {
        let (roles, client) = (Roles::of(schema)?, &self.lane.client);
        refuse_loose_commits(client).await?;
        let login_is_new = self.patiently(|| make_roles(client, &roles, login)).await?;
        let steps = steps::run(client, &roles, all).await?;
        self.patiently(|| grant(client, &roles)).await?;
        Ok(Provisioned { steps, login_is_new })
    }

    /// Gives the other one of a service's two logins a new password, so that two are valid until the old one retires.
    ///
    /// # Errors
    /// A service that was not provisioned, or what the server says.
    pub async fn rotate(&self, schema: &str, now: Option<&Login>) -> Result<Rotated, StoreError> {
        let roles = Roles::of(schema)?;
        let [first, second] = roles.logins();
        let old = now.map(|login| login.user.clone());
        let user = if old.as_ref() == Some(&first) { second } else { first };
        let login = Login { user, password: Login::password() };
        let client = &self.lane.client;
        self.patiently(|| async {
            in_lock(client, ROLES, None, async {
                if !exists(client, &roles.app).await? {
                    return Err(StoreError::Refused(format!("{schema} was not made yet; run `migrate` first")));
                }
                make_login(client, &roles, &login).await?;
                let password = scram(&login);
                let change = format!("ALTER ROLE \"{}\" LOGIN PASSWORD '{password}'", login.user);
                client.batch_execute(&change).await.map_err(failed)
            })
            .await
        })
        .await?;
        Ok(Rotated { login, old })
    }

    /// Ends a login that was replaced: waits up to `patience` for its sessions to go, then lets nobody in by it.
    /// Says whether sessions were left.
    ///
    /// # Errors
    /// What the server says.
    pub async fn retire(&self, role: &str, patience: Duration) -> Result<bool, StoreError> {
        super::refuse_odd_name(role)?;
        let sessions = "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE usename = $1)";
        let began = Instant::now();
        let left = loop {
            let row = self.lane.client.query_typed_one(sessions, &[(&role, Type::TEXT)]).await.map_err(failed)?;
            let left = row.get::<_, bool>(0);
            if !left || began.elapsed() > patience {
                break left;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        let end = format!("ALTER ROLE \"{role}\" NOLOGIN PASSWORD NULL");
        self.patiently(|| async { self.lane.client.batch_execute(&end).await.map_err(failed) }).await?;
        Ok(left)
    }

    /// Removes everything of a service, data and roles.
    ///
    /// # Errors
    /// What the server says.
    pub async fn remove(&self, schema: &str) -> Result<(), StoreError> {
        let (roles, client) = (Roles::of(schema)?, &self.lane.client);
        let work = || async {
            in_lock(client, ROLES, None, async {
                client.batch_execute(&format!("DROP SCHEMA IF EXISTS \"{schema}\" CASCADE")).await.map_err(failed)?;
                for role in roles.logins().iter().chain([&roles.app, &roles.owner]) {
                    if exists(client, role).await? {
                        let gone = format!("DROP OWNED BY \"{role}\"; DROP ROLE \"{role}\"");
                        client.batch_execute(&gone).await.map_err(failed)?;
                    }
                }
                Ok(())
            })
            .await
        };
        self.patiently(work).await
    }

    /// Roles and databases are rows that other transactions of the cluster change as well, and such a change is not
    /// waited for: it fails.
    async fn patiently<T, F>(&self, work: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut tries = 1;
        loop {
            match work().await {
                Err(StoreError::Engine(why)) if why.contains("concurrently") && tries < TRIES => {
                    tokio::time::sleep(Duration::from_millis(20) * tries).await;
                    tries += 1;
                }
                done => return done,
            }
        }
    }

    /// The connection itself, for statements that nobody else may send.
    pub(super) fn lane(&self) -> &Lane {
        &self.lane
    }
}

impl Login {
    /// A new password: 256 random bits in hex.
    pub fn password() -> String {
        crate::ids::secret_bytes::<32>().iter().map(|b| format!("{b:02x}")).collect()
    }
}

/// What the server keeps instead of the password, so that the password itself gets into no log of statements.
fn scram(login: &Login) -> String {
    postgres_protocol::password::scram_sha_256(login.password.as_bytes())
}

async fn exists(client: &Client, role: &str) -> Result<bool, StoreError> {
    let text = "SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = $1)";
    client.query_typed_one(text, &[(&role, Type::TEXT)]).await.map(|row| row.get(0)).map_err(failed)
}

async fn holds(client: &Client, text: &str, role: &str) -> Result<bool, StoreError> {
    client.query_typed_one(text, &[(&role, Type::TEXT)]).await.map(|row| row.get(0)).map_err(failed)
}

async fn make_login(client: &Client, roles: &Roles, login: &Login) -> Result<bool, StoreError> {
    if exists(client, &login.user).await? {
        return Ok(false);
    }
    super::refuse_odd_name(&login.user)?;
    let (user, app) = (&login.user, &roles.app);
    // What a transaction sets for itself is undone when it fails, and a failed one may be left open as well.
    let made = format!(
        "CREATE ROLE \"{user}\" LOGIN PASSWORD '{}' IN ROLE \"{app}\"; \
         ALTER ROLE \"{user}\" SET idle_in_transaction_session_timeout = '15s'",
        scram(login)
    );
    client.batch_execute(&made).await.map_err(failed)?;
    Ok(true)
}

/// Owner, group and login, the schema, and a database that lets in nobody else. Says whether the login is new.
async fn make_roles(client: &Client, roles: &Roles, login: Option<&Login>) -> Result<bool, StoreError> {
    in_lock(client, ROLES, None, async {
        for role in [&roles.owner, &roles.app] {
            if !exists(client, role).await? {
                client.batch_execute(&format!("CREATE ROLE \"{role}\" NOLOGIN")).await.map_err(failed)?;
            }
        }
        if !holds(client, "SELECT pg_has_role(current_user, $1, 'MEMBER')", &roles.owner).await? {
            client.batch_execute(&format!("GRANT \"{}\" TO CURRENT_USER", roles.owner)).await.map_err(failed)?;
        }
        let is_new = match login {
            Some(login) => make_login(client, roles, login).await?,
            None => false,
        };
        make_schema(client, roles).await?;
        Ok(is_new)
    })
    .await
}

async fn make_schema(client: &Client, roles: &Roles) -> Result<(), StoreError> {
    let owner = "SELECT COALESCE((SELECT pg_get_userbyid(nspowner)::text FROM pg_namespace WHERE nspname = $1), '')";
    let found = client.query_typed_one(owner, &[(&roles.schema, Type::TEXT)]).await.map_err(failed)?;
    let (found, schema): (String, &str) = (found.get(0), &roles.schema);
    if found.is_empty() {
        let made = format!("CREATE SCHEMA \"{schema}\" AUTHORIZATION \"{}\"", roles.owner);
        return client.batch_execute(&made).await.map_err(failed);
    }
    if found == roles.owner {
        return Ok(());
    }
    Err(StoreError::Refused(format!(
        "the schema {schema} belongs to {found}, not to {}; choose another prefix for this city",
        roles.owner
    )))
}

/// The app role may use what is there; nobody else gets into the database or finds a place in it.
async fn grant(client: &Client, roles: &Roles) -> Result<(), StoreError> {
    let Roles { schema, app, owner } = roles;
    in_lock(client, ROLES, None, async {
        let open = "SELECT has_database_privilege('public', current_database(), 'CONNECT') OR has_database_privilege('public', current_database(), 'TEMPORARY') OR has_schema_privilege('public', 'public', 'USAGE')";
        if client.query_typed_one(open, &[]).await.map_err(failed)?.get(0) {
            close_database(client, open).await?;
        }
        if !holds(client, "SELECT has_database_privilege($1, current_database(), 'CONNECT')", app).await? {
            on_database(client, "GRANT CONNECT ON DATABASE", &format!("TO \"{app}\"")).await?;
        }
        client
            .batch_execute(&format!(
                "SET LOCAL ROLE \"{owner}\"; \
                 GRANT USAGE ON SCHEMA \"{schema}\" TO \"{app}\"; \
                 GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA \"{schema}\" TO \"{app}\"; \
                 REVOKE INSERT, UPDATE, DELETE ON \"{schema}\".schema_steps FROM \"{app}\""
            ))
            .await
            .map_err(failed)
    })
    .await
}

/// Nobody connects who was not let in by name, and nobody makes tables beside the services'.
async fn close_database(client: &Client, open: &str) -> Result<(), StoreError> {
    client.batch_execute("REVOKE ALL ON SCHEMA public FROM PUBLIC").await.map_err(failed)?;
    on_database(client, "REVOKE CONNECT, TEMPORARY ON DATABASE", "FROM PUBLIC").await?;
    if client.query_typed_one(open, &[]).await.map_err(failed)?.get(0) {
        return Err(StoreError::Refused(
            "this database lets everybody in, and the administrator may not change that; make a database that the administrator owns".into(),
        ));
    }
    Ok(())
}

async fn on_database(client: &Client, verb: &str, tail: &str) -> Result<(), StoreError> {
    let name = client.query_typed_one("SELECT quote_ident(current_database())", &[]).await.map_err(failed)?;
    client.batch_execute(&format!("{verb} {} {tail}", name.get::<_, String>(0))).await.map_err(failed)
}
