//! Schema steps on PostgreSQL: one transaction each, as the schema's owner, under a lock that other instances wait for.

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::store::error::StoreError;
use crate::store::migrate::{self, Migration};

use super::{Roles, engine_error, policies};

pub(super) fn failed(error: tokio_postgres::Error) -> StoreError {
    match engine_error(&error) {
        lost @ StoreError::Lost(_) => lost,
        other => StoreError::Engine(format!("schema: {other}")),
    }
}

/// Brings a schema up to date; says how many steps ran.
pub(super) async fn run(client: &Client, roles: &Roles, all: &[Migration]) -> Result<usize, StoreError> {
    let ledger = async {
        client.batch_execute(migrate::LEDGER).await.map_err(failed)?;
        pending(client, all).await
    };
    let mut ran = 0;
    for step in as_owner(client, roles, ledger).await? {
        ran += usize::from(as_owner(client, roles, apply(client, step, all)).await?);
    }
    as_owner(client, roles, finish(client, &roles.schema)).await?;
    Ok(ran)
}

async fn as_owner<T>(
    client: &Client,
    roles: &Roles,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    in_lock(client, &format!("schema steps of {}", roles.schema), Some(roles), work).await
}

/// An acknowledged commit is on disk.
pub(super) async fn refuse_loose_commits(client: &Client) -> Result<(), StoreError> {
    let loose = "SELECT current_setting('synchronous_commit') IN ('off', 'local') OR current_setting('fsync') = 'off'";
    let row = client.query_typed_one(loose, &[]).await.map_err(failed)?;
    if row.get(0) { Err(loose_commits()) } else { Ok(()) }
}

pub(super) fn loose_commits() -> StoreError {
    StoreError::Refused(
        "the database acknowledges commits before they are safe; set synchronous_commit and fsync to on".into(),
    )
}

/// Runs `work` in a transaction that only one instance at a time is in: as somebody's owner, in the schema, over rows
/// of every organisation, or as the administrator.
pub(super) async fn in_lock<T>(
    client: &Client,
    what: &str,
    owner: Option<&Roles>,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    client.batch_execute("BEGIN").await.map_err(failed)?;
    let result = async {
        let lock = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))";
        client.query_typed(lock, &[(&what, Type::TEXT)]).await.map_err(failed)?;
        if let Some(Roles { owner, schema, .. }) = owner {
            let become_owner =
                format!("SET LOCAL ROLE \"{owner}\"; SET LOCAL search_path = \"{schema}\"; SET LOCAL app.org = '*'");
            client.batch_execute(&become_owner).await.map_err(failed)?;
        }
        work.await
    }
    .await;
    let end = if result.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = client.batch_execute(end).await.map_err(failed);
    result.and_then(|value| ended.map(|()| value))
}

async fn pending(client: &Client, all: &[Migration]) -> Result<Vec<Migration>, StoreError> {
    let rows = client.query_typed("SELECT name, checksum FROM schema_steps", &[]).await.map_err(failed)?;
    let applied: Vec<(String, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    migrate::pending(all, &applied)
}

async fn apply(client: &Client, step: Migration, all: &[Migration]) -> Result<bool, StoreError> {
    // Another instance may have run it while this one waited for the lock.
    if !pending(client, all).await?.iter().any(|m| m.name == step.name) {
        return Ok(false);
    }
    let in_step =
        |e: tokio_postgres::Error| StoreError::Engine(format!("schema step {}: {}", step.name, engine_error(&e)));
    client.batch_execute(step.sql).await.map_err(in_step)?;
    let note = "INSERT INTO schema_steps (name, checksum, applied_at) VALUES ($1, $2, now())";
    let sum = migrate::checksum(step.sql);
    client.execute_typed(note, &[(&step.name, Type::TEXT), (&sum, Type::TEXT)]).await.map_err(in_step)?;
    Ok(true)
}

async fn finish(client: &Client, schema: &str) -> Result<(), StoreError> {
    policies::set(client, schema).await?;
    let epoch = "INSERT INTO outbox_epoch (id, epoch) VALUES (1, $1) ON CONFLICT DO NOTHING";
    client.execute_typed(epoch, &[(&crate::ids::fresh(), Type::UUID)]).await.map_err(failed)?;
    // The driver would look such a type up by a named statement, which fails behind a pooler now and then.
    let made = "SELECT c.relname || '.' || a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v', 'm') AND a.attnum > 0 AND NOT a.attisdropped AND a.atttypid >= 16384 ORDER BY 1";
    let made = client.query_typed(made, &[(&schema, Type::TEXT)]).await.map_err(failed)?;
    if made.is_empty() {
        return Ok(());
    }
    let columns: Vec<String> = made.iter().map(|row| row.get(0)).collect();
    Err(StoreError::Refused(format!(
        "columns of types that this database defines itself cannot be read through a pooler; use TEXT with CHECK: {}",
        columns.join(", ")
    )))
}
