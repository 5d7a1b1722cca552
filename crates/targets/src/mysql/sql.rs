//! Agents' statements: read with a parser, and only what is understood is run.
//!
//! What runs is not the agent's text but the parsed statement, printed again: comments (executable ones among
//! them) are gone, and the server cannot read it differently. Texts with quotes or backslashes in them become
//! parameters, so that no rule about escaping is left to disagree on.

use super::builtins;
use crate::{Error, Statement};
use mysql_async::Value;
use sqlparser::{
    ast::{
        Assignment, AssignmentTarget, BinaryOperator, Delete, Expr, FromTable, Insert, ObjectName, OnInsert,
        Query, Select, SetExpr, Statement as Ast, TableFactor, TableObject, TableWithJoins, Update,
        Visit as _, Visitor,
    },
    dialect::MySqlDialect,
    parser::Parser,
    tokenizer::{Token, Tokenizer},
};
use std::{collections::BTreeSet, ops::ControlFlow};

/// A statement that was understood. Its texts have placeholders `?0`, `?1`, …; see [`Parsed::bind`].
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) sql: String,
    pub(super) work: Work,
    /// Everything that it names where a table may stand.
    pub(super) relations: BTreeSet<(Option<String>, String)>,
    params: Vec<Value>,
}

/// What a statement does.
#[derive(Debug)]
pub(super) enum Work {
    Read,
    Update(Change),
    Delete(Change),
    Insert(Box<NewRows>),
}

/// An UPDATE or DELETE.
#[derive(Debug)]
pub(super) struct Change {
    /// The tables that are named, as they may be addressed.
    pub(super) tables: Vec<Named>,
    /// Those of `tables` that a DELETE empties; all of them in an UPDATE.
    pub(super) doomed: Vec<String>,
    /// `FROM …`, as in a SELECT of the same records.
    pub(super) from: String,
    /// `WHERE … ORDER BY … LIMIT …`.
    pub(super) tail: String,
    /// Columns that are assigned: by which name of a table, if said, and its name.
    pub(super) assigned: Vec<(Option<String>, String)>,
}

/// A table, and what it is called in the statement.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) schema: Option<String>,
    pub(super) table: String,
    /// How SQL refers to it: the alias, or the name.
    pub(super) alias: String,
}

/// An INSERT or REPLACE.
#[derive(Debug)]
pub(super) struct NewRows {
    pub(super) table: Named,
    pub(super) columns: Vec<String>,
    /// VALUES, each as SQL; none for INSERT … SELECT.
    pub(super) rows: Option<Vec<Vec<String>>>,
    /// The SELECT.
    pub(super) query: Option<String>,
    pub(super) replace: bool,
    /// ON DUPLICATE KEY UPDATE: the columns that it assigns.
    pub(super) updates: Option<Vec<String>>,
    pub(super) returning: bool,
}

impl Parsed {
    /// Reads one statement.
    ///
    /// # Errors
    /// [`Error::Unmeasurable`] for everything that is not known to be measurable.
    pub(super) fn read(statement: &Statement) -> Result<Self, Error> {
        let text = &statement.sql;
        if ["/*!", "/*M!", "/*m!", "/*+"].iter().any(|c| text.contains(c)) {
            return Err(refuse(
                "it has an executable comment or a hint, which the server reads as SQL; leave it out",
            ));
        }
        let mut params: Vec<Value> = statement.params.iter().map(super::value::param).collect();
        let tokens = tokens(text, &mut params)?;
        let dialect = MySqlDialect {};
        let mut parsed = Parser::new(&dialect)
            .with_recursion_limit(64)
            .with_tokens(tokens)
            .parse_statements()
            .map_err(|e| refuse(&format!("it cannot be parsed ({e}); simplify it")))?;
        let (Some(ast), true) = (parsed.pop(), parsed.is_empty()) else {
            return Err(refuse("it is not exactly one statement; send them one by one"));
        };
        let mut check = Check::default();
        if let ControlFlow::Break(why) = ast.visit(&mut check) {
            return Err(refuse(&why));
        }
        let work = work(&ast)?;
        let relations = check.relations.iter().map(|n| named_as(n, None).map(|n| (n.schema, n.table)));
        let relations = relations.collect::<Result<_, _>>()?;
        Ok(Self { sql: ast.to_string(), work, relations, params })
    }

    /// A text of this statement with the placeholders of the server, and the values for them.
    pub(super) fn bind(&self, text: &str) -> Result<(String, Vec<Value>), Error> {
        let (mut sql, mut params) = (String::with_capacity(text.len()), Vec::new());
        let mut quoted = None;
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            sql.push(c);
            match quoted {
                // No text or name that is printed holds a quote or backslash of its own.
                Some(quote) if c == quote => quoted = None,
                Some(_) => {}
                None if matches!(c, '\'' | '"' | '`') => quoted = Some(c),
                None if c == '?' => {
                    let mut number = 0_usize;
                    while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
                        number = number.saturating_mul(10).saturating_add(digit as usize);
                        chars.next();
                    }
                    let value = self.params.get(number).cloned();
                    params.push(value.ok_or_else(|| Error::Invalid("a parameter is missing".to_owned()))?);
                }
                None => {}
            }
        }
        Ok((sql, params))
    }
}

fn refuse(why: &str) -> Error {
    Error::Unmeasurable(format!("what this statement would do cannot be measured: {why}"))
}

/// The tokens, with numbered placeholders, also for texts that would have to be escaped.
fn tokens(text: &str, params: &mut Vec<Value>) -> Result<Vec<Token>, Error> {
    let dialect = MySqlDialect {};
    let tokens =
        Tokenizer::new(&dialect, text).tokenize().map_err(|e| refuse(&format!("it cannot be read ({e})")))?;
    let given = params.len();
    let mut used = 0;
    let mut introduced = false;
    let mut out = Vec::with_capacity(tokens.len());
    for token in tokens {
        let token = match token {
            Token::Placeholder(p) if p == "?" => {
                used += 1;
                Token::Placeholder(format!("?{}", used - 1))
            }
            Token::Placeholder(_) => return Err(refuse("its placeholders are not plain question marks")),
            Token::SingleQuotedString(s) | Token::DoubleQuotedString(s)
                if s.contains(['\'', '"', '\\', '\0', '`']) =>
            {
                if introduced {
                    return Err(refuse(
                        "a text with a character set before it has quotes or backslashes in it",
                    ));
                }
                params.push(Value::Bytes(s.into_bytes()));
                Token::Placeholder(format!("?{}", params.len() - 1))
            }
            Token::NationalStringLiteral(_)
            | Token::EscapedStringLiteral(_)
            | Token::DollarQuotedString(_)
            | Token::UnicodeStringLiteral(_) => return Err(refuse("a kind of text that is not known")),
            Token::Word(w) if w.value.contains(['`', '\\', '\'', '"']) => {
                return Err(refuse("a name with quotes or backslashes in it"));
            }
            other => other,
        };
        if !matches!(token, Token::Whitespace(_)) {
            introduced =
                matches!(&token, Token::Word(w) if w.quote_style.is_none() && w.value.starts_with('_'));
        }
        out.push(token);
    }
    if used != given {
        return Err(Error::Invalid(format!(
            "the statement has {used} placeholders, and {given} parameters were given"
        )));
    }
    Ok(out)
}

/// Looks for what must not be in any part of a statement.
#[derive(Default)]
struct Check {
    statements: usize,
    relations: Vec<ObjectName>,
}

impl Visitor for Check {
    type Break = String;

    fn pre_visit_statement(&mut self, statement: &Ast) -> ControlFlow<String> {
        self.statements += 1;
        let inner = matches!(statement, Ast::Query(_)) && self.statements == 2;
        if self.statements > 1 && !inner {
            return ControlFlow::Break("it has a statement within a statement".to_owned());
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<String> {
        self.relations.push(relation.clone());
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<String> {
        let known = matches!(
            *query.body,
            SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::SetOperation { .. } | SetExpr::Values(_)
        );
        if !known || query.for_clause.is_some() || query.settings.is_some() || query.format_clause.is_some() {
            return ControlFlow::Break("it has a query of a kind that is not known".to_owned());
        }
        if !query.locks.is_empty() {
            return ControlFlow::Break(
                "it locks what it reads; leave FOR UPDATE or LOCK IN SHARE MODE out".to_owned(),
            );
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<String> {
        if select.into.is_some() {
            return ControlFlow::Break("SELECT … INTO writes outside the database".to_owned());
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<String> {
        match factor {
            TableFactor::Table { args: None, version: None, sample: None, .. }
            | TableFactor::Derived { sample: None, .. }
            | TableFactor::NestedJoin { .. }
            | TableFactor::JsonTable { .. } => ControlFlow::Continue(()),
            _ => ControlFlow::Break(format!("it reads from something that is not known: {factor}")),
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<String> {
        match expr {
            Expr::Function(f) if !builtins::is_harmless(&f.name.to_string()) => ControlFlow::Break(format!(
                "it calls {}, of which nobody knows what it does; write its result instead",
                f.name
            )),
            Expr::BinaryOp { op: BinaryOperator::Assignment, .. } => {
                ControlFlow::Break("it assigns a variable".to_owned())
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

fn work(ast: &Ast) -> Result<Work, Error> {
    match ast {
        Ast::Query(_)
        | Ast::ShowTables { .. }
        | Ast::ShowColumns { .. }
        | Ast::ShowCreate { .. }
        | Ast::ShowDatabases { .. }
        | Ast::ExplainTable { .. } => Ok(Work::Read),
        Ast::Explain { analyze: false, statement, .. } if matches!(**statement, Ast::Query(_)) => {
            Ok(Work::Read)
        }
        Ast::Update(update) => update_of(update),
        Ast::Delete(delete) => delete_of(delete),
        Ast::Insert(insert) => insert_of(insert),
        _ => Err(refuse(
            "only SELECT, INSERT, UPDATE, DELETE and REPLACE can be; run others outside of Checkrein, by a person",
        )),
    }
}

fn tail(selection: Option<&Expr>, order: &[impl ToString], limit: Option<&Expr>) -> String {
    let mut tail = String::new();
    if let Some(condition) = selection {
        tail.push_str(&format!(" WHERE {condition}"));
    }
    if !order.is_empty() {
        let order: Vec<_> = order.iter().map(ToString::to_string).collect();
        tail.push_str(&format!(" ORDER BY {}", order.join(", ")));
    }
    if let Some(limit) = limit {
        tail.push_str(&format!(" LIMIT {limit}"));
    }
    tail
}

fn update_of(u: &Update) -> Result<Work, Error> {
    if u.from.is_some() || u.or.is_some() || u.output.is_some() || u.returning.is_some() {
        return Err(refuse("an UPDATE of a kind that MySQL and MariaDB do not have"));
    }
    let tables = named(std::slice::from_ref(&u.table))?;
    Ok(Work::Update(Change {
        doomed: Vec::new(),
        from: format!("FROM {}", u.table),
        tail: tail(u.selection.as_ref(), &u.order_by, u.limit.as_ref()),
        assigned: assigned(&u.assignments)?,
        tables,
    }))
}

fn assigned(list: &[Assignment]) -> Result<Vec<(Option<String>, String)>, Error> {
    list.iter()
        .map(|a| match &a.target {
            AssignmentTarget::ColumnName(name) => {
                let mut parts = parts(name)?;
                let column = parts.pop().ok_or_else(|| refuse("an assignment to nothing"))?;
                Ok((parts.pop(), column))
            }
            AssignmentTarget::Tuple(_) => Err(refuse("it assigns several columns at once")),
        })
        .collect()
}

fn delete_of(d: &Delete) -> Result<Work, Error> {
    if d.output.is_some() {
        return Err(refuse("a DELETE of a kind that MySQL and MariaDB do not have"));
    }
    let FromTable::WithFromKeyword(from) = &d.from else { return Err(refuse("DELETE without FROM")) };
    let names = |list: &[ObjectName]| -> Result<Vec<String>, Error> {
        list.iter().map(|n| parts(n)?.pop().ok_or_else(|| refuse("DELETE of nothing"))).collect()
    };
    let (tables, doomed, text) = match (&d.using, d.tables.is_empty()) {
        (Some(using), true) => {
            let doomed = named(from)?.into_iter().map(|n| n.alias).collect();
            (named(using)?, doomed, list_of(using))
        }
        (None, false) => (named(from)?, names(&d.tables)?, list_of(from)),
        (None, true) => {
            let tables = named(from)?;
            let doomed = tables.iter().map(|n| n.alias.clone()).collect();
            (tables, doomed, list_of(from))
        }
        (Some(_), false) => return Err(refuse("DELETE with both a list and USING")),
    };
    Ok(Work::Delete(Change {
        tables,
        doomed,
        from: format!("FROM {text}"),
        tail: tail(d.selection.as_ref(), &d.order_by, d.limit.as_ref()),
        assigned: Vec::new(),
    }))
}

fn list_of(tables: &[TableWithJoins]) -> String {
    tables.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The tables in a FROM, also those that are joined.
fn named(list: &[TableWithJoins]) -> Result<Vec<Named>, Error> {
    let mut names = Vec::new();
    let mut stack: Vec<&TableFactor> = Vec::new();
    for with_joins in list.iter().rev() {
        stack.extend(with_joins.joins.iter().rev().map(|j| &j.relation));
        stack.push(&with_joins.relation);
    }
    while let Some(factor) = stack.pop() {
        match factor {
            TableFactor::Table { name, alias, .. } => {
                names.push(named_as(name, alias.as_ref().map(|a| a.name.value.clone()))?);
            }
            TableFactor::NestedJoin { table_with_joins, .. } => {
                stack.extend(table_with_joins.joins.iter().rev().map(|j| &j.relation));
                stack.push(&table_with_joins.relation);
            }
            // What is derived cannot be changed.
            _ => {}
        }
    }
    Ok(names)
}

fn named_as(name: &ObjectName, alias: Option<String>) -> Result<Named, Error> {
    let mut parts = parts(name)?;
    let table = parts.pop().ok_or_else(|| refuse("a table without a name"))?;
    let schema = parts.pop();
    if !parts.is_empty() {
        return Err(refuse("a name of too many parts"));
    }
    Ok(Named { schema, alias: alias.unwrap_or_else(|| table.clone()), table })
}

fn parts(name: &ObjectName) -> Result<Vec<String>, Error> {
    name.0
        .iter()
        .map(|p| p.as_ident().map(|i| i.value.clone()).ok_or_else(|| refuse("a name that is computed")))
        .collect()
}

fn insert_of(i: &Insert) -> Result<Work, Error> {
    let TableObject::TableName(name) = &i.table else { return Err(refuse("INSERT into something computed")) };
    if i.or.is_some() || i.overwrite || i.partitioned.is_some() || i.output.is_some() {
        return Err(refuse("an INSERT of a kind that is not known"));
    }
    let updates = match &i.on {
        None => None,
        Some(OnInsert::DuplicateKeyUpdate(list)) => {
            Some(assigned(list)?.into_iter().map(|(_, column)| column).collect())
        }
        Some(_) => return Err(refuse("ON CONFLICT is not of MySQL or MariaDB")),
    };
    let ident = |n: &ObjectName| parts(n)?.pop().ok_or_else(|| refuse("a column without a name"));
    let mut columns = i.columns.iter().map(ident).collect::<Result<Vec<_>, _>>()?;
    let (mut rows, mut query) = (None, None);
    match &i.source {
        None => {
            let pairs = assigned(&i.assignments)?;
            columns = pairs.into_iter().map(|(_, column)| column).collect();
            rows = Some(vec![i.assignments.iter().map(|a| a.value.to_string()).collect()]);
        }
        Some(source) => match &*source.body {
            SetExpr::Values(values) if source.with.is_none() => {
                let row = |r: &[Expr]| r.iter().map(ToString::to_string).collect();
                rows = Some(values.rows.iter().map(|r| row(&r.content)).collect());
            }
            _ => query = Some(source.to_string()),
        },
    }
    Ok(Work::Insert(Box::new(NewRows {
        table: named_as(name, None)?,
        columns,
        rows,
        query,
        replace: i.replace_into,
        updates,
        returning: i.returning.is_some(),
    })))
}
