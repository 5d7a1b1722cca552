//! A statement that changes rows, turned into a query for the rows that it would change.

use super::guard::verb;
use crate::Error;
use sqlparser::{
    ast::{
        Assignment, AssignmentTarget, Delete, FromTable, Ident, Insert, ObjectName, ObjectNamePart, Query,
        SetExpr, Statement, TableFactor, TableObject, TableWithJoins, Update, UpdateTableFromKind,
    },
    dialect::PostgreSqlDialect,
    parser::Parser,
};

/// How deep a statement may nest. Deeper is run, not counted.
const DEPTH: usize = 50;
/// The longest text that is parsed, in bytes.
const LONGEST: usize = 1 << 20;

/// What a statement would do, as a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Derived {
    /// Changes or removes rows of `table`, found by a query for their `rel` (table) and `place`.
    Rows { table: String, query: String, delete: bool, columns: Vec<String> },
    /// Adds the rows that a query returns to `table`.
    Insert { table: String, source: Source },
    /// Returns the rows of a query.
    Read { query: String },
}

/// Where inserted rows come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// This many are written in the statement.
    Literal(u64),
    /// A query returns them.
    Query(String),
}

fn parse(sql: &str) -> Option<Statement> {
    if sql.len() > LONGEST {
        return None;
    }
    let parser = Parser::new(&PostgreSqlDialect {}).with_recursion_limit(DEPTH);
    let mut statements = parser.try_with_sql(sql).ok()?.parse_statements().ok()?;
    let only = statements.pop()?;
    statements.is_empty().then_some(only)
}

fn unknown(why: &str) -> Error {
    Error::Unmeasurable(format!("it cannot be counted before it runs: {why}"))
}

/// The last part of the name of the table that a statement changes, folded as the server does.
pub(super) fn target(sql: &str) -> Option<String> {
    let statement = parse(sql)?;
    let (statement, _) = peel(&statement)?;
    let name = match statement {
        Statement::Update(update) => table_name(&update.table)?,
        Statement::Delete(delete) => table_name(deleted_from(delete)?)?,
        Statement::Insert(Insert { table: TableObject::TableName(name), .. }) => name.clone(),
        _ => return None,
    };
    name.0.last()?.as_ident().map(folded)
}

/// The statement with a clause that tells where the rows are that it changes: `tableoid` and `ctid`. None
/// where it returns something already, changes all rows, which are found faster without, or is not understood.
pub(super) fn telling(sql: &str) -> Option<String> {
    let statement = parse(sql)?;
    let (statement, _) = peel(&statement)?;
    let silent = match statement {
        Statement::Update(update) => update.returning.is_none() && update.selection.is_some(),
        Statement::Delete(delete) => delete.returning.is_none() && delete.selection.is_some(),
        Statement::Insert(insert) => insert.returning.is_none(),
        _ => false,
    };
    // On a line of its own: the text may end in a comment.
    let sql = sql.trim_end().trim_end_matches(';');
    silent.then(|| format!("{sql}\nRETURNING tableoid, ctid"))
}

fn folded(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

/// The statement below a WITH, and that WITH.
fn peel(statement: &Statement) -> Option<(&Statement, Option<String>)> {
    let Statement::Query(query) = statement else { return Some((statement, None)) };
    match query.body.as_ref() {
        SetExpr::Update(inner) | SetExpr::Delete(inner) | SetExpr::Insert(inner) | SetExpr::Merge(inner) => {
            Some((inner, query.with.as_ref().map(ToString::to_string)))
        }
        _ => Some((statement, None)),
    }
}

/// The query for what `sql` would change.
///
/// # Errors
/// [`Error::Unmeasurable`] when that cannot be told from its text.
pub(super) fn derive(sql: &str) -> Result<Derived, Error> {
    let Some(statement) = parse(sql) else {
        return plain_query(sql).ok_or_else(|| unknown("its text is not understood"));
    };
    let (statement, with) = peel(&statement).ok_or_else(|| unknown("its text is not understood"))?;
    let with = with.unwrap_or_default();
    match statement {
        Statement::Update(update) => updated(update, &with),
        Statement::Delete(delete) => deleted(delete, &with),
        Statement::Insert(insert) => inserted(insert, &with),
        // What the parser makes of TABLE is not what the server does.
        Statement::Query(query) if !has_word(sql, &["table"]) => {
            Ok(Derived::Read { query: query.to_string() })
        }
        Statement::Query(_) => plain_query(sql).ok_or_else(|| unknown("its text is not understood")),
        Statement::Merge(_) => Err(unknown("which of its rows match is known only when it runs")),
        _ => Err(unknown("it is neither INSERT, UPDATE, DELETE nor SELECT")),
    }
}

/// A query that the parser does not know, such as `TABLE users`, as it stands: the server has taken it for one
/// statement, and takes nothing but a query for a part of another.
fn plain_query(sql: &str) -> Option<Derived> {
    let query = sql.trim_end().trim_end_matches(';');
    let changes = ["insert", "update", "delete", "merge", "into"];
    let verb = verb(sql)?;
    let reads = ["select", "table", "values", "with"].contains(&verb.as_str());
    // On a line of its own: the text may end in a comment.
    (reads && !has_word(sql, &changes)).then(|| Derived::Read { query: format!("{query}\n") })
}

fn has_word(sql: &str, words: &[&str]) -> bool {
    let mut found = sql.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$'));
    found.any(|found| words.iter().any(|word| found.eq_ignore_ascii_case(word)))
}

fn updated(update: &Update, with: &str) -> Result<Derived, Error> {
    let more = match &update.from {
        None => &[],
        Some(UpdateTableFromKind::AfterSet(from)) => from.as_slice(),
        Some(UpdateTableFromKind::BeforeSet(_)) => return Err(unknown("its FROM stands before its SET")),
    };
    let columns = update.assignments.iter().flat_map(assigned).collect();
    let condition = update.selection.as_ref().map(ToString::to_string);
    rows(&update.table, more, condition, with, false, columns)
}

fn assigned(assignment: &Assignment) -> Vec<String> {
    let names = match &assignment.target {
        AssignmentTarget::ColumnName(name) => std::slice::from_ref(name),
        AssignmentTarget::Tuple(names) => names.as_slice(),
    };
    // Of `column.field` and `column[1]` the column comes first.
    names.iter().filter_map(|name| name.0.first()?.as_ident().map(folded)).collect()
}

fn deleted_from(delete: &Delete) -> Option<&TableWithJoins> {
    let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
    match from.as_slice() {
        [table] if delete.tables.is_empty() => Some(table),
        _ => None,
    }
}

fn deleted(delete: &Delete, with: &str) -> Result<Derived, Error> {
    let table = deleted_from(delete).ok_or_else(|| unknown("it names several tables"))?;
    if !delete.order_by.is_empty() || delete.limit.is_some() {
        return Err(unknown("it has an ORDER BY or LIMIT"));
    }
    let condition = delete.selection.as_ref().map(ToString::to_string);
    rows(table, delete.using.as_deref().unwrap_or_default(), condition, with, true, Vec::new())
}

fn rows(
    table: &TableWithJoins,
    more: &[TableWithJoins],
    condition: Option<String>,
    with: &str,
    delete: bool,
    columns: Vec<String>,
) -> Result<Derived, Error> {
    let strange = || unknown("the table that it changes is not named plainly");
    let name = table_name(table).ok_or_else(strange)?;
    let TableFactor::Table { alias, .. } = &table.relation else { return Err(strange()) };
    let known_as = match alias {
        Some(alias) => alias.name.to_string(),
        None => name.0.last().and_then(ObjectNamePart::as_ident).ok_or_else(strange)?.to_string(),
    };
    let mut from = vec![table.relation.to_string()];
    from.extend(more.iter().map(ToString::to_string));
    let distinct = if more.is_empty() { "" } else { "DISTINCT " };
    let condition = condition.map_or_else(String::new, |condition| format!(" WHERE {condition}"));
    let query = format!(
        "{with} SELECT {distinct}{known_as}.tableoid AS rel, {known_as}.ctid AS place FROM {}{condition}",
        from.join(", ")
    );
    Ok(Derived::Rows { table: name.to_string(), query, delete, columns })
}

fn inserted(insert: &Insert, with: &str) -> Result<Derived, Error> {
    let TableObject::TableName(name) = &insert.table else {
        return Err(unknown("the table that it changes is not named plainly"));
    };
    let source = match insert.source.as_deref() {
        None => Source::Literal(1),
        Some(query) => match literal(query) {
            Some(rows) => Source::Literal(rows),
            None => Source::Query(format!("{with} {query}")),
        },
    };
    Ok(Derived::Insert { table: name.to_string(), source })
}

/// How many rows `VALUES (…), (…)` has. A DEFAULT in it makes sense in an INSERT only.
fn literal(query: &Query) -> Option<u64> {
    match query.body.as_ref() {
        SetExpr::Values(values) if query.limit_clause.is_none() && query.fetch.is_none() => {
            u64::try_from(values.rows.len()).ok()
        }
        _ => None,
    }
}

fn table_name(table: &TableWithJoins) -> Option<ObjectName> {
    let TableFactor::Table { name, alias, args: None, sample: None, .. } = &table.relation else {
        return None;
    };
    if !table.joins.is_empty() {
        return None;
    }
    // The parser takes `ONLY t` for a table `only` that is called `t`; there can be none of that name.
    match (name.0.as_slice(), alias) {
        ([only], Some(alias)) if is_only(only) => Some(ObjectName::from(vec![alias.name.clone()])),
        ([only], None) if is_only(only) => None,
        _ => Some(name.clone()),
    }
}

fn is_only(part: &ObjectNamePart) -> bool {
    part.as_ident()
        .is_some_and(|ident| ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("only"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(sql: &str) -> String {
        match derive(sql) {
            Ok(Derived::Rows { query, .. }) => query.trim().to_owned(),
            other => panic!("{sql}: {other:?}"),
        }
    }

    #[test]
    fn changes_become_queries_for_their_rows() {
        assert_eq!(
            rows("UPDATE shop.users SET a = $1 WHERE b = $2"),
            "SELECT users.tableoid AS rel, users.ctid AS place FROM shop.users WHERE b = $2"
        );
        assert_eq!(
            rows("update \"Users\" u set a = 1 from teams t where t.id = u.team"),
            "SELECT DISTINCT u.tableoid AS rel, u.ctid AS place FROM \"Users\" u, teams t WHERE t.id = u.team"
        );
        assert_eq!(rows("update only t set a = 1"), "SELECT t.tableoid AS rel, t.ctid AS place FROM only t");
        assert_eq!(rows("delete from t"), "SELECT t.tableoid AS rel, t.ctid AS place FROM t");
        assert_eq!(
            rows("with old as (select 1 as id) delete from t using old where old.id = t.id returning *"),
            "WITH old AS (SELECT 1 AS id) SELECT DISTINCT t.tableoid AS rel, t.ctid AS place FROM t, old WHERE old.id = t.id"
        );
    }

    #[test]
    fn inserts_become_the_number_of_their_rows() {
        let source = |sql| match derive(sql) {
            Ok(Derived::Insert { source, .. }) => source,
            other => panic!("{sql}: {other:?}"),
        };
        assert_eq!(source("insert into t values (1, default), (2, 3)"), Source::Literal(2));
        assert_eq!(source("insert into t default values"), Source::Literal(1));
        assert_eq!(source("insert into t select * from u"), Source::Query(" SELECT * FROM u".into()));
    }

    #[test]
    fn a_query_that_the_parser_does_not_know_stays_as_it_is() {
        for sql in [
            "TABLE users",
            "(TABLE users)",
            "with x as (table users) select * from x -- all",
            "select 1 union table items limit 5",
            "select * from users * where id = 1",
        ] {
            assert_eq!(derive(sql), Ok(Derived::Read { query: format!("{sql}\n") }), "{sql}");
        }
        for sql in ["with d as (delete from a *) table b", "select * into c from users *"] {
            assert!(derive(sql).is_err(), "{sql}");
        }
    }

    #[test]
    fn what_is_not_understood_is_unknown() {
        for sql in [
            "delete from t where current of c",
            "merge into t using u on true when matched then delete",
            "call p()",
            "delete from t; delete from u",
            "nonsense",
        ] {
            assert!(matches!(derive(sql), Err(Error::Unmeasurable(_))), "{sql}");
        }
        let deep = format!("delete from t where {}a{}", "(".repeat(3000), ")".repeat(3000));
        assert!(derive(&deep).is_err());
    }

    #[test]
    fn targets_are_named_as_the_server_folds_them() {
        assert_eq!(target("UPDATE Shop.Users SET a = 1").as_deref(), Some("users"));
        assert_eq!(target("delete from \"Users\"").as_deref(), Some("Users"));
        assert_eq!(target("with x as (select 1) insert into T select * from x").as_deref(), Some("t"));
        assert_eq!(target("select 1"), None);
    }
}
