//! What a service looks at before it works on a schema: that it may, that it may not too much, that nothing is missing.

use tokio_postgres::types::Type;

use crate::store::error::StoreError;
use crate::store::migrate::{self, Migration};

use super::lane::Lane;
use super::policies;
use super::{Roles, engine_error};

const LOOK: &str = "SELECT COALESCE((SELECT has_schema_privilege(n.oid, 'USAGE') FROM pg_namespace n WHERE n.nspname = $1), false) AS may, EXISTS (SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = 'schema_steps') AS made, COALESCE((SELECT r.rolsuper OR r.rolbypassrls FROM pg_roles r WHERE r.rolname = current_user), true) OR EXISTS (SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND pg_has_role(c.relowner, 'MEMBER')) AS unbound, current_setting('synchronous_commit') IN ('off', 'local') OR current_setting('fsync') = 'off' AS loose, current_user::text AS me, CAST(current_setting('server_version_num') AS INTEGER) AS version";

/// Before this everybody could make tables in the schema `public`, and what `migrate` sets up rests on that being over.
const OLDEST: i32 = 150_000;

/// Refuses a schema that this program must not work on, with what to do.
pub(super) async fn check(lane: &Lane, schema: &str, all: &[Migration]) -> Result<(), StoreError> {
    let text = |e: tokio_postgres::Error| engine_error(&e);
    let row = lane.client.query_typed_one(LOOK, &[(&schema, Type::TEXT)]).await.map_err(text)?;
    let (may, made, unbound, loose): (bool, bool, bool, bool) = (row.get(0), row.get(1), row.get(2), row.get(3));
    refuse_old_server(row.get(5))?;
    if loose {
        return Err(super::migrate::loose_commits());
    }
    if !may || !made {
        return Err(StoreError::Refused(format!(
            "there is no schema {schema} for {}; run `migrate` with an administrator's address first",
            row.get::<_, String>(4)
        )));
    }
    if unbound {
        return Err(StoreError::Refused(format!(
            "{} owns the tables of {schema} or is above row-level security; log in as {}, which `migrate` makes",
            row.get::<_, String>(4),
            Roles::of(schema)?.logins().join(" or ")
        )));
    }
    let steps = format!("SELECT name, checksum FROM \"{schema}\".schema_steps");
    let rows = lane.client.query_typed(&steps, &[]).await.map_err(text)?;
    let applied: Vec<(String, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    if let Some(missing) = migrate::pending(all, &applied)?.first() {
        return Err(StoreError::Refused(format!(
            "schema {schema} lacks the step {}; run `migrate` with an administrator's address first",
            missing.name
        )));
    }
    let mark = policies::mark();
    let bare = lane.client.query_typed(policies::BARE, &[(&schema, Type::TEXT), (&mark, Type::TEXT)]).await;
    match bare.map_err(text)?.first() {
        None => Ok(()),
        Some(row) => Err(StoreError::Refused(format!(
            "the table {} of {schema} is not under row-level security; run `migrate` again",
            row.get::<_, String>(0)
        ))),
    }
}

pub(super) fn refuse_old_server(version: i32) -> Result<(), StoreError> {
    if version >= OLDEST {
        return Ok(());
    }
    Err(StoreError::Refused(format!(
        "the server that postgres.url names is PostgreSQL {}; it must be {} or newer",
        version / 10_000,
        OLDEST / 10_000
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_server_is_refused_by_setting_and_version() {
        let said = refuse_old_server(140_009).unwrap_err().to_string();
        assert!(
            said.contains("postgres.url") && said.contains("PostgreSQL 14") && said.contains("15 or newer"),
            "{said}"
        );
        refuse_old_server(150_018).unwrap();
    }
}
