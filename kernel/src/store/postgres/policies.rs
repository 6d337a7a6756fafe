//! Row-level security, made from the catalogue: every table with an `org_id` shows only rows of the transaction's scope.

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::store::error::StoreError;

use super::migrate::failed;

/// What the policy is called on every table.
const NAME: &str = "organisation";

/// `app.org` holds the scope: `*`, or the organisations of the transaction with commas between. It is empty or not
/// there when nobody set it, and after the transaction that did; then no row shows. A cast is tried only of a list.
const WITHIN: &str = "CASE current_setting('app.org', true) WHEN '*' THEN true ELSE org_id = ANY (string_to_array(NULLIF(current_setting('app.org', true), ''), ',')::uuid[]) END";

/// Tables with an `org_id` that are not, or not fully, under the policy. `$1` is the schema.
///
/// The text of a policy comes back from the catalogue rewritten, so a comment with its checksum tells whether it is ours.
pub(super) const BARE: &str = "SELECT c.relname::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relkind IN ('r', 'p') AND EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'org_id' AND NOT a.attisdropped) AND NOT (c.relrowsecurity AND c.relforcerowsecurity AND (SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid) = 1 AND EXISTS (SELECT 1 FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = 'organisation' AND p.polcmd = '*' AND p.polpermissive AND p.polroles = '{0}' AND p.polwithcheck IS NOT NULL AND obj_description(p.oid, 'pg_policy') = $2)) ORDER BY 1";

/// What marks a policy as the one of this program.
pub(super) fn mark() -> String {
    crate::store::migrate::checksum(WITHIN)
}

/// Views that would show rows by the rights of their owner.
const LOOSE_VIEWS: &str = "SELECT c.relname::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND (c.relkind = 'm' OR (c.relkind = 'v' AND NOT COALESCE(c.reloptions @> ARRAY['security_invoker=true'] OR c.reloptions @> ARRAY['security_invoker=on'], false))) ORDER BY 1";

/// Puts every table that needs it under the policy. Runs as the owner, in the transaction of the schema's last step.
pub(super) async fn set(client: &Client, schema: &str) -> Result<(), StoreError> {
    for table in names(client, BARE, schema, Some(&mark())).await? {
        let statements = format!(
            "ALTER TABLE \"{table}\" ENABLE ROW LEVEL SECURITY; ALTER TABLE \"{table}\" FORCE ROW LEVEL SECURITY; \
             DROP POLICY IF EXISTS {NAME} ON \"{table}\"; \
             CREATE POLICY {NAME} ON \"{table}\" USING ({WITHIN}) WITH CHECK ({WITHIN}); \
             COMMENT ON POLICY {NAME} ON \"{table}\" IS '{}'",
            mark()
        );
        client.batch_execute(&statements).await.map_err(failed)?;
    }
    refuse(names(client, BARE, schema, Some(&mark())).await?, "tables have policies beside ours")?;
    refuse(
        names(client, LOOSE_VIEWS, schema, None).await?,
        "views must be WITH (security_invoker = true), and materialised ones cannot be used",
    )
}

fn refuse(found: Vec<String>, why: &str) -> Result<(), StoreError> {
    if found.is_empty() {
        return Ok(());
    }
    Err(StoreError::Refused(format!("row-level security: {why}: {}", found.join(", "))))
}

async fn names(client: &Client, text: &str, schema: &str, mark: Option<&str>) -> Result<Vec<String>, StoreError> {
    let rows = match &mark {
        Some(mark) => client.query_typed(text, &[(&schema, Type::TEXT), (mark, Type::TEXT)]).await,
        None => client.query_typed(text, &[(&schema, Type::TEXT)]).await,
    };
    Ok(rows.map_err(failed)?.iter().map(|row| row.get(0)).collect())
}
