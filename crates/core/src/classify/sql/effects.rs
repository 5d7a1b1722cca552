//! The effects of parsed statements, found in one walk over their syntax trees.

use super::{
    Analysis, Rows, SqlEffect,
    conditions::selected,
    settings::{acts, harmless_setting, is_harmless},
};
use crate::action::Category::{self, Admin, Delete, Execute, Outbound, Read, Write};
use sqlparser::ast::{
    AlterTableOperation, CopySource, CopyTarget, Expr, FromTable, Function, MergeAction, ObjectName,
    ObjectNamePart, ObjectType, OnConflictAction, OnInsert, Query, Reset, Select, SetExpr, Statement,
    TableFactor, TableObject, TableWithJoins, UpdateTableFromKind, Visit, Visitor,
};
use std::{
    collections::{HashMap, HashSet},
    ops::ControlFlow,
};

/// The effects of `statements`.
pub(super) fn of(statements: &[Statement]) -> Analysis {
    let mut walk = Walk::default();
    for statement in statements {
        let _complete = statement.visit(&mut walk);
    }
    walk.finish()
}

/// Whether `FROM`, a keyword in every database, was taken for a column.
pub(super) fn mistakes_a_keyword(statements: &[Statement]) -> bool {
    struct Names;
    impl Visitor for Names {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            match expr {
                Expr::Identifier(name)
                    if name.quote_style.is_none() && name.value.eq_ignore_ascii_case("from") =>
                {
                    ControlFlow::Break(())
                }
                _ => ControlFlow::Continue(()),
            }
        }
    }
    statements.iter().any(|statement| statement.visit(&mut Names).is_break())
}

/// Whether a statement reads rows from what follows it.
pub(super) fn copies_in(statement: &Statement) -> bool {
    matches!(statement, Statement::Copy { to: false, target: CopyTarget::Stdin, .. })
}

#[derive(Default)]
struct Walk {
    effects: Vec<SqlEffect>,
    seen: HashSet<SqlEffect>,
    written: HashSet<String>,
    relations: Vec<String>,
    rows: Option<Rows>,
    /// Depth within statements that are only explained, not run.
    explained: usize,
    scopes: Vec<Scope>,
    /// What unqualified tables are in, after `USE`.
    database: Option<String>,
}

/// The common table expressions of a query, whose names are no tables within it.
struct Scope {
    query: usize,
    /// By name, their order.
    names: HashMap<String, usize>,
    /// By the address of their query, their order.
    queries: HashMap<usize, usize>,
    recursive: bool,
    /// The one that is being walked.
    inside: Option<usize>,
}

fn address<T>(of: &T) -> usize {
    std::ptr::from_ref(of).addr()
}

impl Walk {
    fn add(
        &mut self,
        verb: &'static str,
        canonical: &'static str,
        category: Category,
        table: Option<String>,
    ) {
        if self.explained > 0 {
            return;
        }
        if category != Read
            && let Some(table) = &table
        {
            self.written.insert(table.clone());
        }
        let effect = SqlEffect { verb, canonical, category, table };
        if self.seen.insert(effect.clone()) {
            self.effects.push(effect);
        }
    }

    fn rows(&mut self, rows: Rows) {
        if self.explained == 0 {
            self.rows = Some(self.rows.map_or(rows, |so_far| so_far.plus(rows)));
        }
    }

    fn path(&self, name: &ObjectName) -> String {
        let mut path = String::new();
        if let (Some(database), [_]) = (&self.database, name.0.as_slice()) {
            path.push_str(database);
        }
        for part in &name.0 {
            if !path.is_empty() {
                path.push('.');
            }
            match part {
                ObjectNamePart::Identifier(ident) => path.push_str(&ident.value.to_lowercase()),
                ObjectNamePart::Function(function) => path.push_str(&function.to_string().to_lowercase()),
            }
        }
        path
    }

    fn table_of(&self, factor: &TableFactor) -> Vec<String> {
        match factor {
            TableFactor::Table { name, .. } => vec![self.path(name)],
            TableFactor::NestedJoin { table_with_joins, .. } => self.tables_of(table_with_joins),
            _ => Vec::new(),
        }
    }

    fn tables_of(&self, table: &TableWithJoins) -> Vec<String> {
        let mut tables = self.table_of(&table.relation);
        tables.extend(table.joins.iter().flat_map(|join| self.table_of(&join.relation)));
        tables
    }

    fn each(&mut self, verb: &'static str, canonical: &'static str, category: Category, tables: Vec<String>) {
        if tables.is_empty() {
            self.add(verb, canonical, category, None);
        }
        for table in tables {
            self.add(verb, canonical, category, Some(table));
        }
    }

    fn finish(mut self) -> Analysis {
        let relations = std::mem::take(&mut self.relations);
        self.explained = 0;
        for table in relations {
            if !self.written.contains(&table) {
                self.add("select", "read", Read, Some(table));
            }
        }
        if self.effects.is_empty() {
            self.add("select", "read", Read, None);
        }
        let rows = self.rows.unwrap_or(Rows::Known(0));
        Analysis { effects: self.effects, rows, unparsed: None }
    }

    fn function(&mut self, name: &ObjectName) {
        let last = name.0.last().map(ToString::to_string).unwrap_or_default();
        if acts(last.trim_matches(['"', '`', '[', ']']).to_ascii_lowercase().as_str()) {
            self.add("call", "execute", Execute, None);
            self.rows(Rows::Unbounded);
        }
    }

    /// A name that stands for a common table expression where it is used.
    fn is_common(&self, name: &str) -> bool {
        self.scopes.iter().rev().any(|scope| {
            scope.names.get(name).is_some_and(|order| match scope.inside {
                Some(inside) => *order < inside || scope.recursive,
                None => true,
            })
        })
    }

    fn statement(&mut self, statement: &Statement) {
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
                let looks = super::words::pragma_looks(name);
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

    fn insert(&mut self, insert: &sqlparser::ast::Insert) {
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

impl Visitor for Walk {
    type Break = ();

    fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<()> {
        self.statement(statement);
        if self.explained > 0 || explains_only(statement) {
            self.explained += 1;
        }
        ControlFlow::Continue(())
    }

    fn post_visit_statement(&mut self, _statement: &Statement) -> ControlFlow<()> {
        self.explained = self.explained.saturating_sub(1);
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if let Some(scope) = self.scopes.last_mut()
            && scope.inside.is_none()
        {
            scope.inside = scope.queries.get(&address(query)).copied();
        }
        let mut scope = Scope {
            query: address(query),
            names: HashMap::new(),
            queries: HashMap::new(),
            recursive: false,
            inside: None,
        };
        if let Some(with) = &query.with {
            scope.recursive = with.recursive;
            for (order, cte) in with.cte_tables.iter().enumerate() {
                scope.names.insert(cte.alias.name.value.to_lowercase(), order);
                scope.queries.insert(address(&*cte.query), order);
            }
        }
        self.scopes.push(scope);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if self.scopes.last().is_some_and(|scope| scope.query == address(query)) {
            self.scopes.pop();
        }
        if let Some(scope) = self.scopes.last_mut()
            && scope.queries.contains_key(&address(query))
        {
            scope.inside = None;
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        if let Some(into) = &select.into {
            for target in &into.targets {
                let table = match target {
                    Expr::Identifier(ident) => Some(ident.value.to_lowercase()),
                    Expr::CompoundIdentifier(idents) => {
                        Some(idents.iter().map(|i| i.value.to_lowercase()).collect::<Vec<_>>().join("."))
                    }
                    _ => None,
                };
                self.add("select_into", "create", Write, table);
                self.rows(Rows::Unbounded);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        let path = self.path(relation);
        let bare = relation.0.len() == 1;
        let common = bare
            && self.is_common(&relation.0.last().map_or(String::new(), |p| match p {
                ObjectNamePart::Identifier(ident) => ident.value.to_lowercase(),
                ObjectNamePart::Function(function) => function.to_string().to_lowercase(),
            }));
        // What is explained is looked at too: the plan tells of its tables.
        if !common {
            self.relations.push(path);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } => {
                self.function(name);
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Function(Function { name, .. }) = expr {
            self.function(name);
        }
        ControlFlow::Continue(())
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

/// `EXPLAIN` shows a plan and runs nothing, unless it is to `ANALYZE`.
fn explains_only(statement: &Statement) -> bool {
    let Statement::Explain { analyze, options, .. } = statement else { return false };
    let off = |expr: &Expr| {
        let text = expr.to_string().to_ascii_lowercase();
        matches!(text.trim_matches(['\'', '"']), "false" | "off" | "0" | "no")
    };
    let option = options.iter().flatten().any(|option| {
        option.name.value.eq_ignore_ascii_case("analyze") && !option.arg.as_ref().is_some_and(off)
    });
    !analyze && !option
}
