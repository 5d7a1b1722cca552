//! Which records a statement means: an UPDATE or DELETE turned into a SELECT over the same condition.
//!
//! The text that is built here is prepared under the authorizer, so a mistake in taking a statement apart can
//! make a count wrong or impossible, but cannot change anything.

use super::{
    connect::Fault,
    schema::{Catalog, Shape, quoted},
};
use crate::{Error, Statement};
use rusqlite::Connection;
use serde_json::Value;
use sqlparser::{
    ast::{
        self, AssignmentTarget, FromTable, SetExpr, TableFactor, TableObject, TableWithJoins,
        UpdateTableFromKind,
    },
    dialect::SQLiteDialect,
    parser::Parser,
    tokenizer::{Token, Tokenizer},
};
use std::collections::BTreeSet;

/// What is done to the records that are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Delete,
    /// These columns, in lower case, get other values.
    Update(BTreeSet<String>),
    /// They are made: the SELECT gives one row for each.
    Insert,
}

/// Records that a statement names itself.
#[derive(Debug)]
pub(super) struct Meant {
    pub(super) shape: Shape,
    pub(super) deed: Deed,
    /// What goes before SELECT: `WITH …`.
    with: String,
    /// What goes after it: `FROM … WHERE …`.
    from: String,
    /// How the table is called in there.
    alias: String,
    pub(super) params: Vec<Value>,
    /// Whether the SELECT may give a record more than once.
    pub(super) repeated: bool,
    /// Why the number may be too small.
    pub(super) at_least: Option<String>,
}

impl Meant {
    /// Records of a table under a condition over the alias `t`.
    pub(super) fn of(shape: Shape, condition: &str, params: Vec<Value>, delete: bool) -> Self {
        let deed = if delete { Deed::Delete } else { Deed::Update(BTreeSet::new()) };
        let from = format!("FROM main.{} AS t WHERE {condition}", shape.quoted());
        let (with, alias) = (String::new(), "t".to_owned());
        Self { shape, deed, with, from, alias, params, repeated: false, at_least: None }
    }

    /// A column that gets another value, of those by which records are recognised.
    pub(super) fn changes_key(&self) -> Option<&str> {
        let Deed::Update(columns) = &self.deed else { return None };
        columns.iter().map(String::as_str).find(|column| self.shape.names_records(column))
    }

    /// A SELECT of the cells that name the records.
    pub(super) fn keys(&self) -> String {
        format!("{} SELECT {} {}", self.with, key_names(&self.shape, &self.alias).join(", "), self.from)
    }

    /// A SELECT of their number.
    pub(super) fn number(&self) -> String {
        format!("{} SELECT count(*) {}", self.with, self.from)
    }
}

/// The cells that name a record, in SQL.
pub(super) fn key_names(shape: &Shape, alias: &str) -> Vec<String> {
    let names = shape.sql_names();
    let keys = match shape.rowid() {
        Some(rowid) => vec![rowid.to_owned()],
        None => shape.key.iter().filter_map(|k| names.get(*k).cloned()).collect(),
    };
    keys.into_iter().map(|name| format!("{alias}.{name}")).collect()
}

/// Takes a statement apart that writes.
pub(super) fn meant(
    connection: &Connection,
    catalog: &Catalog,
    statement: &Statement,
) -> Result<Meant, Fault> {
    let parsed = parse(&statement.sql)?;
    let (with, body) = match parsed {
        ast::Statement::Query(query) => {
            let query = *query;
            let with = query.with.map(|with| with.to_string()).unwrap_or_default();
            match *query.body {
                SetExpr::Insert(inner) | SetExpr::Update(inner) | SetExpr::Delete(inner) => (with, inner),
                _ => return Err(unknown("it is not an INSERT, UPDATE or DELETE")),
            }
        }
        other => (String::new(), other),
    };
    let shape = |name: &ast::ObjectName| -> Result<Shape, Fault> {
        let name = name.0.last().and_then(|part| part.as_ident()).map(|ident| ident.value.clone());
        catalog.shape(connection, &name.unwrap_or_default())
    };
    let params = statement.params.clone();
    match body {
        ast::Statement::Delete(delete) => {
            let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
            let [table] = from.as_slice() else { return Err(unknown("it names several tables")) };
            if delete.using.is_some() || delete.limit.is_some() || !delete.tables.is_empty() {
                return Err(unknown("it is not a DELETE of SQLite's kind"));
            }
            let (name, alias) = one(table)?;
            let from = format!("FROM {}{}", source(name, &alias), condition(delete.selection.as_ref()));
            let shape = shape(name)?;
            Ok(Meant {
                shape,
                deed: Deed::Delete,
                with,
                from,
                alias: called(name, alias),
                params,
                repeated: false,
                at_least: None,
            })
        }
        ast::Statement::Update(update) => {
            if update.limit.is_some() || !update.order_by.is_empty() {
                return Err(unknown("it has a LIMIT"));
            }
            let (name, alias) = one(&update.table)?;
            let mut columns = BTreeSet::new();
            for assignment in &update.assignments {
                let names = match &assignment.target {
                    AssignmentTarget::ColumnName(name) => std::slice::from_ref(name),
                    AssignmentTarget::Tuple(names) => names.as_slice(),
                };
                columns.extend(names.iter().filter_map(|name| {
                    name.0.last()?.as_ident().map(|ident| ident.value.to_ascii_lowercase())
                }));
            }
            let also = match &update.from {
                None => String::new(),
                Some(UpdateTableFromKind::AfterSet(tables) | UpdateTableFromKind::BeforeSet(tables)) => {
                    tables.iter().map(|table| format!(", {table}")).collect()
                }
            };
            let from = format!("FROM {}{also}{}", source(name, &alias), condition(update.selection.as_ref()));
            let shape = shape(name)?;
            let at_least = match update.or {
                Some(or) => Some(format!("{or} may remove or leave out records")),
                None => own_clause(connection, &shape)?,
            };
            let (alias, deed) = (called(name, alias), Deed::Update(columns));
            Ok(Meant { shape, deed, with, from, alias, params, repeated: update.from.is_some(), at_least })
        }
        ast::Statement::Insert(insert) => {
            let TableObject::TableName(name) = &insert.table else {
                return Err(unknown("it does not name a table"));
            };
            let from = match &insert.source {
                Some(query) => format!("FROM ({query})"),
                None => "FROM (SELECT 1)".to_owned(),
            };
            let replaces = insert.or.is_some() || insert.replace_into || insert.on.is_some();
            let shape = shape(name)?;
            let at_least = match replaces {
                true => {
                    Some("records that are in the way are replaced, updated or left as they are".to_owned())
                }
                false => own_clause(connection, &shape)?,
            };
            let (deed, alias) = (Deed::Insert, String::new());
            Ok(Meant { shape, deed, with, from, alias, params, repeated: false, at_least })
        }
        _ => Err(unknown("it is not an INSERT, UPDATE or DELETE")),
    }
}

/// What a conflict clause in the table's own definition may do.
fn own_clause(connection: &Connection, shape: &Shape) -> Result<Option<String>, Fault> {
    let sql =
        "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?1 AND sql LIKE '%conflict%'";
    let clause: bool = connection.query_row(sql, [&shape.name], |row| row.get(0))?;
    Ok(clause.then(|| "an ON CONFLICT of the table may remove or leave out records".to_owned()))
}

fn parse(sql: &str) -> Result<ast::Statement, Fault> {
    let dialect = SQLiteDialect {};
    let mut tokens = Vec::new();
    // A plain `?` gets its number now, because only a part of the statement is used.
    let mut number = 0;
    let tokenized = Tokenizer::new(&dialect, sql).tokenize_with_location_into_buf_with_mapper(
        &mut tokens,
        |mut token| {
            if let Token::Placeholder(name) = &mut token.token {
                let given = name.trim_start_matches(['?', '$']).parse::<u32>().ok();
                if name == "?" {
                    number += 1;
                    *name = format!("?{number}");
                } else if let Some(given) = given {
                    number = number.max(given);
                    *name = format!("?{given}");
                }
            }
            token
        },
    );
    tokenized.map_err(|e| unknown(&e.to_string()))?;
    let parsed = Parser::new(&dialect).with_tokens_with_locations(tokens).parse_statements();
    let mut statements = parsed.map_err(|e| unknown(&e.to_string()))?.into_iter();
    match (statements.next(), statements.next()) {
        (Some(statement), None) => Ok(statement),
        _ => Err(unknown("it is not exactly one statement")),
    }
}

fn unknown(why: &str) -> Fault {
    Error::Unmeasurable(format!(
        "the records that the statement means cannot be counted beforehand ({why}); a guarded execution measures them"
    ))
    .into()
}

/// The one table, with its alias.
fn one(table: &TableWithJoins) -> Result<(&ast::ObjectName, Option<String>), Fault> {
    match &table.relation {
        TableFactor::Table { name, alias, args: None, .. } if table.joins.is_empty() => {
            Ok((name, alias.as_ref().map(|alias| alias.name.value.clone())))
        }
        _ => Err(unknown("it names more than a table")),
    }
}

fn own_name(name: &ast::ObjectName) -> String {
    quoted(&name.0.last().and_then(|part| part.as_ident()).map(|i| i.value.clone()).unwrap_or_default())
}

fn source(name: &ast::ObjectName, alias: &Option<String>) -> String {
    let alias = alias.as_ref().map(|alias| format!(" AS {}", quoted(alias))).unwrap_or_default();
    format!("main.{}{alias}", own_name(name))
}

fn called(name: &ast::ObjectName, alias: Option<String>) -> String {
    alias.map_or_else(|| own_name(name), |alias| quoted(&alias))
}

fn condition(selection: Option<&ast::Expr>) -> String {
    selection.map(|condition| format!(" WHERE {condition}")).unwrap_or_default()
}
