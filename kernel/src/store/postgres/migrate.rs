//! Schema steps on PostgreSQL: one transaction each, under a lock that other instances wait for.

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::store::error::StoreError;
use crate::store::migrate::{self, Migration};

use super::engine_error;
use super::lane::Lane;

fn failed(error: tokio_postgres::Error) -> StoreError {
    StoreError::Engine(format!("schema: {}", engine_error(&error)))
}

/// Brings `schema` up to date. The connection must be a direct one.
pub(super) async fn run(lane: &Lane, schema: &str, all: &[Migration]) -> Result<(), StoreError> {
    let client = &lane.client;
    refuse_loose_commits(client).await?;
    client.batch_execute("SET lock_timeout = '60s'").await.map_err(failed)?;
    let mut steps = prepare_ledger(client, schema, all).await?.into_iter();
    for step in steps.by_ref() {
        in_lock(client, schema, apply(client, step, all)).await?;
    }
    in_lock(client, schema, finish(client, schema)).await
}

/// An acknowledged commit is on disk.
async fn refuse_loose_commits(client: &Client) -> Result<(), StoreError> {
    let loose = "SELECT current_setting('synchronous_commit') IN ('off', 'local') OR current_setting('fsync') = 'off'";
    let row = client.query_typed_one(loose, &[]).await.map_err(failed)?;
    if row.get(0) {
        return Err(StoreError::Refused(
            "the database acknowledges commits before they are safe; set synchronous_commit and fsync to on".into(),
        ));
    }
    Ok(())
}

/// Runs `work` in a transaction that only one instance at a time is in.
async fn in_lock<T>(
    client: &Client,
    schema: &str,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    client.batch_execute("BEGIN").await.map_err(failed)?;
    let result = async {
        let lock = "SELECT pg_advisory_xact_lock(hashtextextended('schema steps of ' || $1, 0)), set_config('search_path', $2, true)";
        let path = format!("\"{schema}\"");
        client.query_typed(lock, &[(&schema, Type::TEXT), (&path, Type::TEXT)]).await.map_err(failed)?;
        work.await
    }
    .await;
    let end = if result.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = client.batch_execute(end).await.map_err(failed);
    result.and_then(|value| ended.map(|()| value))
}

async fn prepare_ledger(client: &Client, schema: &str, all: &[Migration]) -> Result<Vec<Migration>, StoreError> {
    let work = async {
        let there = "SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)";
        let there = client.query_typed_one(there, &[(&schema, Type::TEXT)]).await.map_err(failed)?;
        // Even IF NOT EXISTS asks for the right to create, which a service need not have.
        if !there.get::<_, bool>(0) {
            client.batch_execute(&format!("CREATE SCHEMA \"{schema}\"")).await.map_err(failed)?;
        }
        client.batch_execute(migrate::LEDGER).await.map_err(failed)?;
        pending(client, all).await
    };
    in_lock(client, schema, work).await
}

async fn pending(client: &Client, all: &[Migration]) -> Result<Vec<Migration>, StoreError> {
    let rows = client.query_typed("SELECT name, checksum FROM schema_steps", &[]).await.map_err(failed)?;
    let applied: Vec<(String, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    migrate::pending(all, &applied)
}

async fn apply(client: &Client, step: Migration, all: &[Migration]) -> Result<(), StoreError> {
    // Another instance may have run it while this one waited for the lock.
    if !pending(client, all).await?.iter().any(|m| m.name == step.name) {
        return Ok(());
    }
    let in_step =
        |e: tokio_postgres::Error| StoreError::Engine(format!("schema step {}: {}", step.name, engine_error(&e)));
    client.batch_execute(step.sql).await.map_err(in_step)?;
    let note = "INSERT INTO schema_steps (name, checksum, applied_at) VALUES ($1, $2, now())";
    let sum = migrate::checksum(step.sql);
    client.execute_typed(note, &[(&step.name, Type::TEXT), (&sum, Type::TEXT)]).await.map_err(in_step)?;
    Ok(())
}

async fn finish(client: &Client, schema: &str) -> Result<(), StoreError> {
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
