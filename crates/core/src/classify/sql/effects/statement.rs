//! What each kind of statement does by itself; what is below it the walk finds.

use super::Walk;
use crate::{
    action::Category::{Admin, Delete, Execute, Outbound, Write},
    classify::sql::{
        Rows,
        conditions::selected,
        settings::{harmless_setting, is_harmless},
        words,
    },
};
use sqlparser::ast::{
    AlterTableOperation, CopySource, CopyTarget, FromTable, Insert, MergeAction, ObjectType,
    OnConflictAction, OnInsert, Reset, SetExpr, Statement, TableFactor, TableObject, TableWithJoins,
    UpdateTableFromKind,
};
use std::collections::HashSet;

impl Walk {
    pub(super) fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::Query(_)
            | Statement::ShowFunctions { .. }
            | Statement::ShowVariable { .. }
            | Statement::ShowStatus { .. }
            | Statement::ShowVariables { .. }
            | Statement::ShowCreate { .. }
            | Statement::ShowColumns { .. }
            | Statement::ShowCatalogs { .. }
            | Statement::ShowDatabases { .. }
            | Statement::ShowProcessList { .. }
            | Statement::ShowSchemas { .. }
            | Statement::ShowCharset(_)
            | Statement::ShowObjects(_)
            | Statement::ShowTables { .. }
            | Statement::ShowViews { .. }
            | Statement::ShowCollation { .. }
            | Statement::List(_)
            // Transactions, cursors and control flow do nothing but what stands in them.
            | Statement::StartTransaction { .. }
            | Statement::Commit { .. }
            | Statement::Rollback { .. }
            | Statement::Savepoint { .. }
            | Statement::ReleaseSavepoint { .. }
            | Statement::Open(_)
            | Statement::Close { .. }
            | Statement::Fetch { into: None, .. }
            | Statement::Deallocate { .. }
            | Statement::Discard { .. }
            | Statement::LISTEN { .. }
            | Statement::UNLISTEN { .. }
            | Statement::UnlockTables
            | Statement::Case(_)
            | Statement::If(_)
            | Statement::While(_)
            | Statement::Raise(_)
            | Statement::RaisError { .. }
            | Statement::Throw(_)
            | Statement::Print(_)
            | Statement::Return(_)
            | Statement::WaitFor(_)
            | Statement::Assert { .. }
            | Statement::Declare { .. } => {}
            Statement::ExplainTable { table_name, .. } => {
                let table = self.path(table_name);
                self.relations.push(table);
            }
            Statement::Explain { .. } => {}
            Statement::Use(name) => {
                let text = name.to_string();
                let name = text.rsplit(' ').next().unwrap_or_default().trim_matches(['"', '`', '[', ']', '\'']);
                self.database = Some(name.to_lowercase());
            }
            Statement::Insert(insert) => self.insert(insert),
            Statement::Update(update) => {
                // MySQL may set columns of every joined table: count them all.
                let mut tables = self.tables_of(&update.table);
                if let Some(UpdateTableFromKind::BeforeSet(from)) = &update.from {
                    tables.extend(from.iter().flat_map(|t| self.tables_of(t)));
                }
                self.each("update", "update", Write, tables);
                self.rows(selected(update.selection.as_ref(), update.limit.as_ref()));
            }
            Statement::Delete(delete) => {
                // MySQL names what it deletes from, by table or alias, before what it joins: count all of it.
                let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
                let mut tables: Vec<String> = from.iter().flat_map(|t| self.tables_of(t)).collect();
                let aliases = aliases(from);
                let named = delete.tables.iter().map(|name| self.path(name));
                tables.extend(named.filter(|name| !aliases.contains(name)));
                self.each("delete", "delete", Delete, tables);
                self.rows(selected(delete.selection.as_ref(), delete.limit.as_ref()));
            }
            Statement::Merge(merge) => {
                let tables = self.table_of(&merge.table);
                self.each("merge", "update", Write, tables.clone());
                let deletes = merge.clauses.iter().any(|clause| match &clause.action {
                    MergeAction::Delete { .. } => true,
                    MergeAction::Update(update) => update.delete_predicate.is_some(),
                    MergeAction::Insert(_) | MergeAction::DoNothing { .. } => false,
                });
                if deletes {
                    self.each("delete", "delete", Delete, tables);
                }
                self.rows(Rows::Selected);
            }
            Statement::Truncate(truncate) => {
                let tables = truncate.table_names.iter().map(|t| self.path(&t.name)).collect();
                self.each("truncate", "delete", Delete, tables);
                self.rows(Rows::Unbounded);
            }
            Statement::Copy { source, to, target, .. } => self.copy(source, *to, target),
            Statement::LoadData { table_name, .. } => {
                let table = self.path(table_name);
                self.add("load", "create", Write, Some(table));
                self.rows(Rows::Unbounded);
            }
            Statement::CreateTable(create) => {
                let table = self.path(&create.name);
                if create.query.is_some() {
                    self.add("create", "create", Write, Some(table.clone()));
                    self.rows(Rows::Unbounded);
                }
                if !create.temporary {
                    self.admin("create", "create", Some(table.clone()));
                }
                if create.or_replace {
                    self.add("replace", "delete", Delete, Some(table));
                }
            }
            // The structure goes, and with it every record: both kinds of policy must see it.
            Statement::Drop { object_type, names, .. } => {
                let tables: Vec<String> = names.iter().map(|name| self.path(name)).collect();
                if matches!(
                    object_type,
                    ObjectType::Table | ObjectType::Schema | ObjectType::Database | ObjectType::MaterializedView
                ) {
                    self.each("drop", "delete", Delete, tables.clone());
                }
                self.each("drop", "configure", Admin, tables);
                self.rows(Rows::Unbounded);
            }
            Statement::AlterTable(alter) => {
                let table = self.path(&alter.name);
                let loses = alter.operations.iter().any(|operation| {
                    matches!(
                        operation,
                        AlterTableOperation::DropColumn { .. } | AlterTableOperation::DropPartitions { .. }
                    )
                });
                if loses {
                    self.add("drop", "delete", Delete, Some(table.clone()));
                }
                self.admin("alter", "configure", Some(table));
            }
            Statement::CreateView(view) => {
                let path = self.path(&view.name);
                self.admin("create", "create", Some(path));
            }
            Statement::CreateIndex(index) => {
                let path = self.path(&index.table_name);
                self.admin("create", "create", Some(path));
            }
            Statement::Grant(_) => self.admin("grant", "grant", None),
            Statement::Revoke(_) | Statement::Deny(_) => self.admin("revoke", "revoke", None),
            Statement::CreateVirtualTable { name, .. }
            | Statement::CreateSequence { name, .. }
            | Statement::CreateType { name, .. }
            | Statement::CreateMacro { name, .. }
            | Statement::CreateProcedure { name, .. } => {
                let path = self.path(name);
                self.admin("create", "create", Some(path));
            }
            Statement::CreateSchema { .. }
            | Statement::CreateDatabase { .. }
            | Statement::CreateFunction(_)
            | Statement::CreateTrigger(_)
            | Statement::CreateRole(_)
            | Statement::CreateUser(_)
            | Statement::CreateExtension(_) => self.admin("create", "create", None),
            Statement::DropFunction(_)
            | Statement::DropTrigger(_)
            | Statement::DropPolicy(_)
            | Statement::DropExtension(_)
            | Statement::DropProcedure { .. } => self.admin("drop", "configure", None),
            Statement::Comment { object_name, .. } => {
                let path = self.path(object_name);
                self.admin("comment", "configure", Some(path));
            }
            Statement::RenameTable(renames) => {
                let tables: Vec<String> = renames.iter().map(|r| self.path(&r.old_name)).collect();
                self.each("rename", "configure", Admin, tables);
                self.rows(Rows::Unbounded);
            }
            Statement::Set(set) => {
                if !harmless_setting(set) {
                    self.admin("set", "configure", None);
                }
            }
            Statement::Reset(reset) => match &reset.reset {
                Reset::ConfigurationParameter(name) if is_harmless(&name.to_string()) => {}
                _ => self.admin("reset", "configure", None),
            },
            Statement::Pragma { name, value, .. } => {
                let name = name.to_string().to_ascii_lowercase();
                let name = name.rsplit('.').next().unwrap_or_default();
                let looks = words::pragma_looks(name);
                let acts = matches!(
                    name,
                    "optimize" | "wal_checkpoint" | "incremental_vacuum" | "shrink_memory" | "writable_schema"
                );
                if !looks && (value.is_some() || acts) {
                    self.admin("pragma", "configure", None);
                }
            }
            Statement::Call(_) | Statement::Execute { .. } | Statement::Prepare { .. } => {
                self.execute("execute");
            }
            Statement::Directory { .. } | Statement::Install { .. } | Statement::Load { .. } => {
                self.execute("load");
            }
            Statement::NOTIFY { .. } => self.add("notify", "send", Outbound, None),
            Statement::Unload { .. } | Statement::ExportData(_) | Statement::CopyIntoSnowflake { .. } => {
                self.add("export", "send", Outbound, None);
                self.rows(Rows::Unbounded);
            }
            Statement::Put { .. } => {
                self.add("put", "create", Write, None);
                self.rows(Rows::Unbounded);
            }
            Statement::Remove(_) => {
                self.add("remove", "delete", Delete, None);
                self.rows(Rows::Unbounded);
            }
            // Structure, rights, settings and upkeep in all their forms; also whatever the parser learns later.
            _ => self.admin("alter", "configure", None),
        }
    }

    fn admin(&mut self, verb: &'static str, canonical: &'static str, table: Option<String>) {
        self.add(verb, canonical, Admin, table);
        self.rows(Rows::Unbounded);
    }

    fn execute(&mut self, verb: &'static str) {
        self.add(verb, "execute", Execute, None);
        self.rows(Rows::Unbounded);
    }

    fn insert(&mut self, insert: &Insert) {
        let mut tables = Vec::new();
        match &insert.table {
            TableObject::TableName(name) => tables.push(self.path(name)),
            TableObject::TableFunction(_) => {
                self.execute("insert");
                return;
            }
            TableObject::TableQuery(_) => {}
        }
        let whens = insert.multi_table_when_clauses.iter().flat_map(|when| &when.into_clauses);
        let elses = insert.multi_table_else_clause.iter().flatten();
        for clause in insert.multi_table_into_clauses.iter().chain(whens).chain(elses) {
            tables.push(self.path(&clause.table_name));
        }
        let updates = match &insert.on {
            Some(OnInsert::DuplicateKeyUpdate(_)) => true,
            Some(OnInsert::OnConflict(conflict)) => !matches!(conflict.action, OnConflictAction::DoNothing),
            Some(_) => true,
            None => false,
        };
        if insert.overwrite {
            self.each("overwrite", "delete", Delete, tables.clone());
        }
        if insert.replace_into || insert.or.is_some() {
            self.each("replace", "update", Write, tables.clone());
        }
        if updates {
            self.each("upsert", "update", Write, tables.clone());
        }
        self.each("insert", "create", Write, tables.clone());
        let per_table = match insert.source.as_ref().map(|source| &*source.body) {
            Some(SetExpr::Values(values)) => {
                Rows::Known(u64::try_from(values.rows.len()).unwrap_or(u64::MAX))
            }
            None if !insert.assignments.is_empty() || insert.columns.is_empty() => Rows::Known(1),
            _ => Rows::Selected,
        };
        let per_table = if insert.overwrite { Rows::Unbounded } else { per_table };
        for _ in 0..tables.len().max(1) {
            self.rows(per_table);
        }
    }

    fn copy(&mut self, source: &CopySource, to: bool, target: &CopyTarget) {
        let table = match source {
            CopySource::Table { table_name, .. } => Some(self.path(table_name)),
            CopySource::Query(_) => None,
        };
        if !to {
            self.add("copy", "create", Write, table);
            self.rows(Rows::Selected);
        } else if let Some(table) = table {
            self.relations.push(table);
        }
        // A program on the server, or a file of its to be overwritten. Reading one of its files is no better.
        if matches!(target, CopyTarget::Program { .. } | CopyTarget::File { .. }) {
            self.execute("copy");
        }
    }
}

/// What the tables of a `FROM` are called in the statement.
fn aliases(from: &[TableWithJoins]) -> HashSet<String> {
    let factors =
        from.iter().flat_map(|t| std::iter::once(&t.relation).chain(t.joins.iter().map(|j| &j.relation)));
    let alias = |factor: &TableFactor| match factor {
        TableFactor::Table { alias, .. } => alias.as_ref().map(|a| a.name.value.to_lowercase()),
        _ => None,
    };
    factors.filter_map(alias).collect()
}
