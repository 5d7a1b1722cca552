//! The effects of parsed statements, found in one walk over their syntax trees.

mod statement;

use super::{Analysis, Rows, SqlEffect, settings::acts};
use crate::action::Category::{self, Execute, Read, Write};
use sqlparser::ast::{
    CopyTarget, Expr, Function, ObjectName, ObjectNamePart, Query, Select, Statement, TableFactor,
    TableWithJoins, Visit, Visitor,
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
