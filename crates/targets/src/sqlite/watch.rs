//! What an agent's statement may do, and which records it touches.
//!
//! SQLite asks the authorizer about every single thing while it prepares a statement, triggers and foreign-key
//! actions included; only what is on the list here is allowed. While the statement runs, the update hook
//! names the rowid of each record that is written.
//!
//! The hook does not see everything: not WITHOUT ROWID tables, not records that REPLACE removes, not the
//! old rowid of a record that gets another. [`Watch::touched`] says where that may be so, and then the whole
//! table is compared. The truncate optimisation, which the hook does not see either, is switched off by
//! answering "ignore" to a DELETE; that is documented to do just this.

use super::{
    connect::Fault,
    schema::{Catalog, Sort},
};
use crate::Error;
use rusqlite::{
    Connection,
    hooks::{AuthAction, AuthContext, Authorization},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Rowids that are kept of one table; beyond them the whole table is compared. 16 MiB.
const MOST_KEYS: usize = 1 << 21;

/// Pragmas that only tell something.
const TELLING: &[&str] = &[
    "collation_list",
    "compile_options",
    "data_version",
    "encoding",
    "foreign_key_check",
    "foreign_key_list",
    "function_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "module_list",
    "page_count",
    "page_size",
    "pragma_list",
    "schema_version",
    "table_info",
    "table_list",
    "table_xinfo",
];

/// Whose statements are prepared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mode {
    /// Our own.
    #[default]
    Trusted,
    /// The agent's, which may write into ordinary tables.
    Writing,
    /// The agent's, which may only read.
    Reading,
    /// Ours with conditions of the agent's in them: reading, and writing into our temporary tables.
    Counting,
}

#[derive(Default)]
struct State {
    mode: Mode,
    denied: Option<String>,
    read: Option<String>,
    wrote: Vec<(String, Option<String>)>,
    catalog: Option<Arc<Catalog>>,
    calls: u64,
    /// By table; the one that was written last is most likely the next.
    keys: Vec<(String, Keys)>,
    last: usize,
}

#[derive(Default)]
struct Keys {
    list: Vec<i64>,
    overflow: bool,
}

/// What is known of the writes to one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Touched {
    /// The columns that UPDATEs name.
    pub(super) columns: BTreeSet<String>,
    /// Rowids that were written, in order; none when there were too many.
    pub(super) keys: Option<Vec<i64>>,
}

/// Watches one connection.
#[derive(Clone, Default)]
pub(super) struct Watch(Arc<Mutex<State>>);

impl Watch {
    /// Watches `connection` from now on.
    pub(super) fn start(connection: &Connection) -> Result<Self, Fault> {
        let watch = Self::default();
        let (asked, told) = (watch.clone(), watch.clone());
        connection.authorizer(Some(move |context: AuthContext<'_>| asked.state().answer(&context)))?;
        connection.update_hook(Some(move |_, database: &str, table: &str, rowid| {
            if database == "main" {
                told.state().wrote_record(table, rowid);
            }
        }))?;
        Ok(watch)
    }

    /// What the names in statements mean.
    pub(super) fn names(&self, catalog: Arc<Catalog>) {
        self.state().catalog = Some(catalog);
    }

    /// Prepares something in `mode`, and returns it with the first table that it writes (or else reads).
    pub(super) fn prepare<'c>(
        &self,
        connection: &'c Connection,
        mode: Mode,
        sql: &str,
    ) -> Result<(rusqlite::Statement<'c>, Option<String>), Fault> {
        let known = {
            let mut state = self.state();
            (state.mode, state.denied, state.read) = (mode, None, None);
            state.wrote.len()
        };
        let prepared = connection.prepare(sql);
        let mut state = self.state();
        state.mode = Mode::Trusted;
        match (prepared, state.denied.take()) {
            (Err(_), Some(why)) => Err(Error::Unmeasurable(why).into()),
            (Err(error), None) if super::connect::is_nonsense(&error) => {
                let words = words(&error);
                Err(match words.contains("may not be modified") {
                    true => {
                        Error::Unmeasurable(format!("{words}: it belongs to SQLite or to a virtual table"))
                    }
                    false => Error::Invalid(words),
                }
                .into())
            }
            (Err(error), None) => Err(error.into()),
            (Ok(statement), _) => {
                let first = state.wrote.get(known).map(|(table, _)| table.clone());
                let agents = matches!(mode, Mode::Writing | Mode::Reading);
                if agents && statement.readonly() && statement.column_count() == 0 {
                    return Err(Error::Invalid("there is no statement in the text".to_owned()).into());
                }
                // SQLite asks nobody about VACUUM.
                if agents && !statement.readonly() && first.is_none() {
                    return Err(Error::Unmeasurable(
                        "the statement works on the whole file, which cannot be measured; ask the operator to run it"
                            .to_owned(),
                    )
                    .into());
                }
                Ok((statement, first.or_else(|| state.read.clone())))
            }
        }
    }

    /// How often the hook was called.
    pub(super) fn calls(&self) -> u64 {
        self.state().calls
    }

    /// The tables that may have been written to, by name.
    pub(super) fn touched(&self) -> BTreeMap<String, Touched> {
        let mut state = self.state();
        let mut touched: BTreeMap<String, Touched> = BTreeMap::new();
        for (table, column) in &state.wrote {
            let entry = touched.entry(table.clone()).or_default();
            entry.columns.extend(column.clone());
            entry.keys.get_or_insert_default();
        }
        for (table, mut keys) in state.keys.drain(..) {
            keys.tidy();
            touched.entry(table).or_default().keys = (!keys.overflow).then_some(keys.list);
        }
        touched
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn words(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    }
}

impl Keys {
    fn push(&mut self, rowid: i64) {
        if self.overflow || self.list.last() == Some(&rowid) {
            return;
        }
        if self.list.len() >= MOST_KEYS {
            self.tidy();
            if self.list.len() > MOST_KEYS / 2 {
                *self = Self { list: Vec::new(), overflow: true };
                return;
            }
        }
        self.list.push(rowid);
    }

    fn tidy(&mut self) {
        self.list.sort_unstable();
        self.list.dedup();
    }
}

impl State {
    fn wrote_record(&mut self, table: &str, rowid: i64) {
        self.calls += 1;
        if self.keys.get(self.last).is_none_or(|(name, _)| name != table) {
            let known = self.keys.iter().position(|(name, _)| name == table);
            self.last = known.unwrap_or_else(|| {
                self.keys.push((table.to_owned(), Keys::default()));
                self.keys.len() - 1
            });
        }
        if let Some((_, keys)) = self.keys.get_mut(self.last) {
            keys.push(rowid);
        }
    }

    fn answer(&mut self, context: &AuthContext<'_>) -> Authorization {
        if self.mode == Mode::Trusted {
            return Authorization::Allow;
        }
        match self.judge(context) {
            Ok(answer) => answer,
            Err(why) => {
                self.denied.get_or_insert(why);
                Authorization::Deny
            }
        }
    }

    fn judge(&mut self, context: &AuthContext<'_>) -> Result<Authorization, String> {
        match context.action {
            AuthAction::Select | AuthAction::Recursive => Ok(Authorization::Allow),
            AuthAction::Read { table_name, .. } => {
                self.read.get_or_insert_with(|| table_name.to_owned());
                Ok(Authorization::Allow)
            }
            // Only what is built into SQLite exists on this connection; these two could run foreign code.
            AuthAction::Function { function_name }
                if ["load_extension", "fts3_tokenizer"].iter().any(|f| f.eq_ignore_ascii_case(function_name)) =>
            {
                Err(format!("{function_name} loads code into the database, which nothing could undo"))
            }
            AuthAction::Function { .. } => Ok(Authorization::Allow),
            AuthAction::Insert { table_name } => self.write(context, table_name, None),
            AuthAction::Update { table_name, column_name } => self.write(context, table_name, Some(column_name)),
            AuthAction::Delete { table_name } => {
                // "Ignore" does not ignore a DELETE: it deletes record by record.
                self.write(context, table_name, None).map(|_| Authorization::Ignore)
            }
            AuthAction::Pragma { pragma_name, pragma_value } => {
                let told = TELLING.iter().any(|p| p.eq_ignore_ascii_case(pragma_name));
                let sets = pragma_value.is_some()
                    && ["encoding", "page_size", "schema_version", "data_version", "page_count"]
                        .iter()
                        .any(|p| p.eq_ignore_ascii_case(pragma_name));
                if told && !sets {
                    Ok(Authorization::Allow)
                } else {
                    Err(format!(
                        "PRAGMA {pragma_name} can change the database in ways that cannot be measured; ask the operator to run it"
                    ))
                }
            }
            AuthAction::Transaction { .. } | AuthAction::Savepoint { .. } => Err(
                "transactions are opened and closed by Checkrein; send the statements without BEGIN, COMMIT and SAVEPOINT, several of them as a list"
                    .to_owned(),
            ),
            AuthAction::Attach { .. } | AuthAction::Detach { .. } => {
                Err("ATTACH and DETACH reach other files; each file is a target of its own".to_owned())
            }
            other => Err(format!(
                "{} changes the shape of the database, which cannot be measured or undone record by record; ask the operator to run it",
                verb(&other)
            )),
        }
    }

    fn write(
        &mut self,
        context: &AuthContext<'_>,
        table: &str,
        column: Option<&str>,
    ) -> Result<Authorization, String> {
        let database = context.database_name.unwrap_or_default();
        match self.mode {
            Mode::Counting if database == "temp" => return Ok(Authorization::Allow),
            Mode::Writing if database == "main" => {}
            Mode::Writing => return Err(format!("{database}.{table} is not in this target's file")),
            _ => {
                return Err(format!("the statement writes into {table}; only reading is allowed here"));
            }
        }
        match self.catalog.as_ref().and_then(|catalog| catalog.sort(table)) {
            Some(Sort::Table | Sort::View) => {
                self.wrote.push((table.to_owned(), column.map(str::to_owned)));
                Ok(Authorization::Allow)
            }
            _ => Err(format!(
                "{table} is a virtual table (or keeps the data of one, or is SQLite's own): its changes cannot be undone record by record"
            )),
        }
    }
}

const fn verb(action: &AuthAction<'_>) -> &'static str {
    match action {
        AuthAction::CreateTable { .. } | AuthAction::CreateTempTable { .. } => "CREATE TABLE",
        AuthAction::CreateIndex { .. } | AuthAction::CreateTempIndex { .. } => "CREATE INDEX",
        AuthAction::CreateTrigger { .. } | AuthAction::CreateTempTrigger { .. } => "CREATE TRIGGER",
        AuthAction::CreateView { .. } | AuthAction::CreateTempView { .. } => "CREATE VIEW",
        AuthAction::CreateVtable { .. } => "CREATE VIRTUAL TABLE",
        AuthAction::DropTable { .. } | AuthAction::DropTempTable { .. } | AuthAction::DropVtable { .. } => {
            "DROP TABLE"
        }
        AuthAction::DropIndex { .. } | AuthAction::DropTempIndex { .. } => "DROP INDEX",
        AuthAction::DropTrigger { .. } | AuthAction::DropTempTrigger { .. } => "DROP TRIGGER",
        AuthAction::DropView { .. } | AuthAction::DropTempView { .. } => "DROP VIEW",
        AuthAction::AlterTable { .. } => "ALTER TABLE",
        AuthAction::Reindex { .. } => "REINDEX",
        AuthAction::Analyze { .. } => "ANALYZE",
        _ => "this statement",
    }
}
