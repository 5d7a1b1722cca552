//! Whether the account could put back what it has changed. What it could not, it must not commit.

use super::{connect::Session, values::Trouble};
use crate::Error;
use std::sync::LazyLock;
use tokio_postgres::types::Type;

/// From here on the setting that keeps triggers from acting twice can be granted.
const GRANTED: u32 = 150_000;

/// What is missing on these tables, each as what follows GRANT.
static MISSING: LazyLock<String> =
    LazyLock::new(|| asked("pg_catalog.has_parameter_privilege('session_replication_role', 'SET')"));
/// The same, before it could be granted.
static BEFORE: LazyLock<String> =
    LazyLock::new(|| asked("(SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)"));

fn asked(replica: &str) -> String {
    format!(
        "SELECT p || ' ON ' || pg_catalog.string_agg(c.oid::pg_catalog.regclass::text, ', ') FROM pg_catalog.pg_class c, \
           pg_catalog.unnest('{{SELECT,INSERT,UPDATE,DELETE}}'::pg_catalog.text[]) p \
         WHERE c.oid = ANY ($1) AND c.relkind IN ('r', 'p') AND NOT pg_catalog.has_table_privilege(c.oid, p) GROUP BY p \
         UNION ALL SELECT pg_catalog.format('TEMPORARY ON DATABASE %I', pg_catalog.current_database()) \
         WHERE NOT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'TEMPORARY') \
         UNION ALL SELECT 'SET ON PARAMETER session_replication_role' WHERE NOT {replica} \
           AND EXISTS (SELECT 1 FROM pg_catalog.pg_trigger WHERE tgrelid = ANY ($1) AND tgenabled <> 'D') \
         UNION ALL SELECT 'BYPASSRLS' WHERE EXISTS (SELECT 1 FROM pg_catalog.pg_class c WHERE c.oid = ANY ($1) \
           AND pg_catalog.row_security_active(c.oid)) ORDER BY 1"
    )
}

/// Refuses what the account could not put back of these tables, and names what it lacks.
pub(super) async fn check(watch: &Session, tables: &[u32]) -> Result<(), Trouble> {
    let missing = if watch.version() >= GRANTED { &MISSING } else { &BEFORE };
    let rows = watch.look_up(missing, &[(&tables, Type::OID_ARRAY)]).await?;
    if rows.is_empty() {
        return Ok(());
    }
    let mut missing = Vec::with_capacity(rows.len());
    for row in rows {
        let what: String = row.try_get(0)?;
        missing.push(match what.as_str() {
            "BYPASSRLS" => "ALTER ROLE … BYPASSRLS (row-level security hides rows from it)".to_owned(),
            "SET ON PARAMETER session_replication_role" if watch.version() < GRANTED => {
                "session_replication_role, which before PostgreSQL 15 only a superuser may set".to_owned()
            }
            what => format!("GRANT {what}"),
        });
    }
    Err(Error::Forbidden(format!(
        "the account could not put back what this changes, so it does not run; it lacks {}. `checkrein target grants` prints all that it needs",
        missing.join("; ")
    ))
    .into())
}
