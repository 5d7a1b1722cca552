//! What the account needs, as statements to run, and whether it has it.

use super::{
    Postgres,
    sql::{ask, ask_list, ask_one, ident},
    values::Trouble,
};
use crate::{Place, Privilege, Report};
use secrecy::ExposeSecret as _;
use std::fmt::Write as _;

const SCHEMAS: &str = "SELECT nspname FROM pg_catalog.pg_namespace WHERE nspname NOT LIKE 'pg\\_%' \
    AND nspname <> 'information_schema' ORDER BY nspname";

impl Postgres {
    /// See [`crate::Target::grants`].
    pub(super) async fn granted(&self, account: &str) -> String {
        let named = tokio::time::timeout(self.limits().execute, self.named()).await;
        let (database, schemas, version) = named.ok().and_then(Result::ok).unwrap_or_else(|| {
            let Place::Postgres(url) = &self.config.place else { return Default::default() };
            let url = url::Url::parse(url.expose_secret()).ok();
            let database = url.map(|url| url.path().trim_start_matches('/').to_owned()).unwrap_or_default();
            (database, vec!["public".to_owned()], 150_000)
        });
        let (who, database) = (ident(account), ident(&database));
        let mut text = String::from(
            "-- Run as a superuser or the owner of the tables. Leave out what the agents are not to touch:\n\
             -- what this account may not change, nobody changes through Checkrein.\n",
        );
        let mut line = |line: String| {
            let _infallible = writeln!(text, "{line}");
        };
        line(format!("CREATE ROLE {who} LOGIN PASSWORD 'choose one';"));
        line("-- to connect; and temporary tables, in which rows are counted and compared".to_owned());
        line(format!("GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {who};"));
        for schema in schemas.iter().map(|schema| ident(schema)) {
            line(format!("GRANT USAGE ON SCHEMA {schema} TO {who};"));
            line(
                "-- SELECT to count and to take snapshots, the others for executions and rollbacks"
                    .to_owned(),
            );
            line(format!("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {who};"));
            line("-- for columns that the database numbers".to_owned());
            line(format!("GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA {schema} TO {who};"));
        }
        line("-- so that rows that a policy of a table (row-level security) hides are counted and put back too".to_owned());
        line(format!("ALTER ROLE {who} BYPASSRLS;"));
        line(
            "-- so that triggers and foreign keys do not act a second time while records are put back"
                .to_owned(),
        );
        if version >= 150_000 {
            line(format!("GRANT SET ON PARAMETER session_replication_role TO {who};"));
        } else {
            line("-- (before PostgreSQL 15 this cannot be granted: only a superuser may put back records of tables with".to_owned());
            line(
                "-- triggers or foreign keys, so to another account's executions there Checkrein says no)"
                    .to_owned(),
            );
        }
        text
    }

    async fn named(&self) -> Result<(String, Vec<String>, u32), Trouble> {
        let session = self.connections.watch().await?;
        let database = ask_one(&session, "SELECT pg_catalog.current_database()").await?.unwrap_or_default();
        let schemas = ask_list(&session, SCHEMAS).await?;
        Ok((database, schemas, session.version()))
    }

    /// See [`crate::Target::test`].
    pub(super) async fn tested(&self) -> Result<Report, Trouble> {
        let session = self.connections.watch().await?;
        let version = ask_one(&session, "SHOW server_version").await?.unwrap_or_default();
        let system = format!("PostgreSQL {}", version.split(' ').next().unwrap_or_default());
        let mut privileges = Vec::new();
        let mut add = |needed_for: &str, ok: bool, good: &str, bad: String| {
            let message = if ok { good.to_owned() } else { bad };
            privileges.push(Privilege { needed_for: needed_for.to_owned(), ok, message });
        };
        let facts = ask(
            &session,
            "SELECT pg_catalog.quote_ident(current_user), pg_catalog.current_setting('track_counts'), \
             pg_catalog.has_database_privilege(pg_catalog.current_database(), 'TEMPORARY'), \
             (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user), \
             pg_catalog.pg_is_in_recovery(), pg_catalog.quote_ident(pg_catalog.current_database()), \
             pg_catalog.current_setting('transaction_read_only')",
        )
        .await?;
        let cells: Vec<&str> = facts.first().map_or_else(Vec::new, |row| {
            row.iter().map(|cell| cell.as_deref().unwrap_or_default()).collect()
        });
        let cell = |i: usize| cells.get(i).copied().unwrap_or_default();
        let (account, superuser) = (cell(0), cell(3) == "t");
        add(
            "execute",
            cell(4) == "f" && cell(6) == "off",
            "the server takes writes",
            "this is a standby, or it is set to read only: name the primary server".to_owned(),
        );
        add(
            "execute",
            cell(1) == "on",
            "the server counts what transactions change",
            "the server does not count what transactions change: set track_counts = on".to_owned(),
        );
        let pid = ask_one(&session, "SELECT pg_catalog.pg_backend_pid()").await?;
        add(
            "execute",
            pid.as_deref() == Some(session.pid()),
            "the connection is a direct one",
            "a pooler changes connections between transactions: connect to PostgreSQL directly".to_owned(),
        );
        add(
            "count",
            cell(2) == "t",
            "temporary tables may be made",
            format!("GRANT TEMPORARY ON DATABASE {} TO {account}", cell(5)),
        );
        let missing = |privilege: &str| {
            format!(
                "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c \
                 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') \
                 AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' \
                 AND NOT (pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, '{privilege}')) \
                 ORDER BY 1"
            )
        };
        for (needed_for, privilege) in
            [("snapshot", "SELECT"), ("rollback", "INSERT"), ("rollback", "UPDATE"), ("rollback", "DELETE")]
        {
            let tables = ask_list(&session, &missing(privilege)).await?;
            let some = tables.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
            add(
                needed_for,
                tables.is_empty(),
                &format!("{privilege} on all tables"),
                format!(
                    "{} tables cannot be used, such as {some}: GRANT {privilege} ON {some} TO {account}",
                    tables.len()
                ),
            );
        }
        let hidden = "SELECT c.oid::pg_catalog.regclass FROM pg_catalog.pg_class c \
             WHERE c.relkind IN ('r', 'p') AND c.relrowsecurity AND pg_catalog.row_security_active(c.oid) ORDER BY 1";
        let hidden = ask_list(&session, hidden).await?;
        let some = hidden.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
        add(
            "snapshot",
            hidden.is_empty(),
            "no policy of a table hides rows",
            format!("policies may hide rows of {some}: ALTER ROLE {account} BYPASSRLS"),
        );
        let replica = superuser
            || session.version() >= 150_000
                && ask_one(
                    &session,
                    "SELECT pg_catalog.has_parameter_privilege('session_replication_role', 'SET')",
                )
                .await?
                .as_deref()
                    == Some("t");
        add(
            "rollback",
            replica,
            "triggers and foreign keys can be kept from acting twice",
            format!(
                "records of tables with triggers or foreign keys cannot be put back: GRANT SET ON PARAMETER session_replication_role TO {account}"
            ),
        );
        Ok(Report { system, privileges })
    }
}
