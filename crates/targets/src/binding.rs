//! What an approval of an execution is bound to beside the records as they were: values that a statement takes from
//! somewhere else.
//!
//! A statement that is run again over the same records writes the same values, unless it takes them from other records
//! (`SET plan = (SELECT …)`, `UPDATE … FROM`, `INSERT … SELECT`, a function of the operator's own): those may have
//! been changed since a person said yes. So what it leaves in such columns takes part in the digest. Values that are made
//! anew each time and come from nowhere (`now()`, `random()`, numbers of sequences) do not: no approval could ever be
//! used. Whatever is not understood takes part.

use crate::{Cell, RowsDigest, Statement};
use sqlparser::{
    ast::{
        Assignment, AssignmentTarget, Expr, Function, Insert, ObjectName, OnConflictAction, OnInsert, Query,
        SelectItem, SetExpr, Statement as Parsed, TableFactor, TableObject, Visit, Visitor,
    },
    dialect::Dialect,
    parser::Parser,
};
use std::{collections::BTreeSet, ops::ControlFlow};

/// How deep a statement may nest. What is deeper is not understood.
const DEPTH: usize = 50;
/// The longest text that is parsed, in bytes.
const LONGEST: usize = 1 << 20;

/// Functions of the databases themselves that read no records: those that give another value each time, and what is
/// wrapped around them.
const OWN: &[&str] = &[
    "abs",
    "cast",
    "ceil",
    "ceiling",
    "char_length",
    "clock_timestamp",
    "coalesce",
    "concat",
    "concat_ws",
    "convert",
    "curdate",
    "current_date",
    "current_time",
    "current_timestamp",
    "current_user",
    "curtime",
    "date",
    "date_add",
    "date_format",
    "date_part",
    "date_sub",
    "date_trunc",
    "datetime",
    "extract",
    "floor",
    "format",
    "from_unixtime",
    "gen_random_bytes",
    "gen_random_uuid",
    "greatest",
    "hex",
    "if",
    "ifnull",
    "iif",
    "julianday",
    "last_insert_rowid",
    "least",
    "left",
    "length",
    "localtime",
    "localtimestamp",
    "lower",
    "lpad",
    "make_interval",
    "md5",
    "mod",
    "nextval",
    "now",
    "nullif",
    "printf",
    "rand",
    "random",
    "randomblob",
    "replace",
    "right",
    "round",
    "rpad",
    "session_user",
    "statement_timestamp",
    "strftime",
    "substr",
    "substring",
    "sysdate",
    "time",
    "timeofday",
    "timestamp",
    "timezone",
    "to_char",
    "to_timestamp",
    "transaction_timestamp",
    "trim",
    "trunc",
    "unix_timestamp",
    "unixepoch",
    "upper",
    "user",
    "utc_date",
    "utc_time",
    "utc_timestamp",
    "uuid",
    "uuid_generate_v1",
    "uuid_generate_v4",
    "uuid_short",
    "uuidv4",
    "uuidv7",
];

/// The columns that get values from somewhere else; all names in lower case, tables without their schema.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Binding {
    /// All that is left in any table.
    everything: bool,
    /// Tables that statements name and write such values into.
    tables: BTreeSet<String>,
    /// In whatever table: what a trigger copies into one of the same name takes part as well, which does no harm.
    columns: BTreeSet<String>,
}

impl Binding {
    /// Of these statements together.
    pub(crate) fn of(dialect: &dyn Dialect, statements: &[Statement]) -> Self {
        let mut binding = Self::default();
        for statement in statements {
            match parse(dialect, &statement.sql) {
                Some(parsed) => binding.add(&parsed),
                None => binding.everything = true,
            }
        }
        binding
    }

    /// Compares it with the tables that were changed, each with its columns. A name that stands for something else there
    /// (a view, a table with partitions) is not understood.
    pub(crate) fn settle<'n, N: Iterator<Item = &'n str>>(
        mut self,
        changed: impl Iterator<Item = (&'n str, N)>,
    ) -> Self {
        let (mut tables, mut columns) = (self.tables.clone(), self.columns.clone());
        for (table, names) in changed {
            if tables.remove(&table.to_lowercase()) {
                for name in names {
                    columns.remove(&name.to_lowercase());
                }
            }
        }
        self.everything |= !tables.is_empty() || !columns.is_empty();
        self
    }

    /// Which columns of a table take part, by place among `names`; those of `key` too, which tell whose values they are
    /// (of a key that the database makes up none do). Without a key (None) all do. None: nothing does.
    pub(crate) fn places<'n>(
        &self,
        names: impl ExactSizeIterator<Item = &'n str>,
        key: Option<&[usize]>,
    ) -> Option<Vec<usize>> {
        let all = (0..names.len()).collect();
        if self.everything {
            return Some(all);
        }
        let named = names.enumerate().filter(|(_, name)| self.columns.contains(&name.to_lowercase()));
        let mut places: BTreeSet<_> = named.map(|(place, _)| place).collect();
        if places.is_empty() {
            return None;
        }
        let Some(key) = key else { return Some(all) };
        places.extend(key);
        Some(places.into_iter().collect())
    }

    fn add(&mut self, statement: &Parsed) {
        // Whatever changes something beside what the statement is about.
        if inner_changes(statement) > 0 {
            self.everything = true;
        }
        match statement {
            Parsed::Update(update) => {
                let joined = update.from.is_some() || !update.table.joins.is_empty();
                match (&update.table.relation, joined && !update.table.joins.is_empty()) {
                    (TableFactor::Table { name, .. }, false) => {
                        self.assigned(name, &update.assignments, joined);
                    }
                    // Which of several tables a column is in is for the database to say.
                    _ => self.everything |= update.assignments.iter().any(|a| elsewhere(&a.value, true)),
                }
            }
            Parsed::Insert(insert) => self.inserted(insert),
            Parsed::Delete(_) => {}
            Parsed::Query(query) => match query.body.as_ref() {
                SetExpr::Update(inner) | SetExpr::Insert(inner) | SetExpr::Delete(inner) => self.add(inner),
                // What changes anything then is a function.
                _ => self.everything = true,
            },
            _ => self.everything = true,
        }
    }

    fn assigned(&mut self, table: &ObjectName, assignments: &[Assignment], joined: bool) {
        for assignment in assignments {
            if elsewhere(&assignment.value, joined) {
                let names = match &assignment.target {
                    AssignmentTarget::ColumnName(name) => std::slice::from_ref(name),
                    AssignmentTarget::Tuple(names) => names.as_slice(),
                };
                self.named(table, names);
            }
        }
    }

    fn inserted(&mut self, insert: &Insert) {
        let TableObject::TableName(table) = &insert.table else {
            self.everything = true;
            return;
        };
        let before = self.clone();
        self.assigned(table, &insert.assignments, false);
        match insert.source.as_deref() {
            None => {}
            Some(source) => self.sourced(table, &insert.columns, source),
        }
        let from_elsewhere = *self != before;
        match &insert.on {
            None => {}
            Some(OnInsert::DuplicateKeyUpdate(assignments)) => {
                self.assigned(table, assignments, from_elsewhere);
            }
            Some(OnInsert::OnConflict(conflict)) => {
                if let OnConflictAction::DoUpdate(update) = &conflict.action {
                    self.assigned(table, &update.assignments, from_elsewhere);
                }
            }
            Some(_) => self.everything = true,
        }
    }

    /// Rows that are inserted: each of their columns.
    fn sourced(&mut self, table: &ObjectName, columns: &[ObjectName], source: &Query) {
        let column = |binding: &mut Self, place: usize, from_elsewhere: bool| {
            if from_elsewhere {
                match columns.get(place) {
                    Some(name) => binding.named(table, std::slice::from_ref(name)),
                    // Which column this is is for the database to say.
                    None => binding.everything = true,
                }
            }
        };
        match source.body.as_ref() {
            SetExpr::Values(values) => {
                for row in &values.rows {
                    for (place, value) in row.iter().enumerate() {
                        column(self, place, elsewhere(value, false));
                    }
                }
            }
            SetExpr::Select(select) => {
                for (place, item) in select.projection.iter().enumerate() {
                    match item {
                        SelectItem::UnnamedExpr(value) | SelectItem::ExprWithAlias { expr: value, .. } => {
                            column(self, place, elsewhere(value, !select.from.is_empty()));
                        }
                        _ => return self.listed(table, columns),
                    }
                }
            }
            _ => self.listed(table, columns),
        }
    }

    fn listed(&mut self, table: &ObjectName, columns: &[ObjectName]) {
        self.everything |= columns.is_empty();
        self.named(table, columns);
    }

    fn named(&mut self, table: &ObjectName, names: &[ObjectName]) {
        self.tables.insert(last(table));
        for name in names {
            match name.0.as_slice() {
                [only] => self.columns.extend(only.as_ident().map(|ident| ident.value.to_lowercase())),
                // `table.column` or `column.field`.
                _ => self.everything = true,
            }
        }
    }
}

/// Takes the after-image of one record in.
pub(crate) fn bind(digest: &mut RowsDigest, resource: &str, places: &[usize], row: &[Cell<'_>]) {
    let mut piece = b"=".to_vec();
    for place in places {
        let Some(cell) = row.get(*place) else { continue };
        piece.push(cell.tag);
        piece.extend_from_slice(&(cell.bytes.len() as u64).to_le_bytes());
        piece.extend_from_slice(cell.bytes);
    }
    digest.add(resource, &piece);
}

fn parse(dialect: &dyn Dialect, sql: &str) -> Option<Parsed> {
    // Comments that MySQL runs hide from the parser what is in them.
    if sql.len() > LONGEST || sql.contains("/*!") || sql.contains("/*M!") {
        return None;
    }
    let parser = Parser::new(dialect).with_recursion_limit(DEPTH);
    let mut statements = parser.try_with_sql(sql).ok()?.parse_statements().ok()?;
    let only = statements.pop()?;
    statements.is_empty().then_some(only)
}

fn last(name: &ObjectName) -> String {
    name.0
        .last()
        .and_then(|part| part.as_ident())
        .map_or_else(String::new, |ident| ident.value.to_lowercase())
}

/// How many statements in `statement`, itself left out, are more than queries.
fn inner_changes(statement: &Parsed) -> usize {
    struct Changes(usize);
    impl Visitor for Changes {
        type Break = ();
        fn pre_visit_statement(&mut self, statement: &Parsed) -> ControlFlow<()> {
            self.0 += usize::from(!matches!(statement, Parsed::Query(_)));
            ControlFlow::Continue(())
        }
    }
    let mut changes = Changes(0);
    let _complete = statement.visit(&mut changes);
    changes.0.saturating_sub(1)
}

/// Whether the value of `expr` may come from somewhere else than the record itself; `joined`: a name in it may be
/// another table's column.
fn elsewhere(expr: &Expr, joined: bool) -> bool {
    struct Reads {
        joined: bool,
    }
    impl Visitor for Reads {
        type Break = ();
        fn pre_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
            ControlFlow::Break(())
        }
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            let reads = match expr {
                Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::CompoundFieldAccess { .. } => {
                    self.joined
                }
                Expr::Function(Function { name, .. }) => !is_own(name),
                _ => false,
            };
            if reads { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    }
    expr.visit(&mut Reads { joined }).is_break()
}

fn is_own(name: &ObjectName) -> bool {
    let own = |name: &ObjectName| OWN.binary_search(&last(name).as_str()).is_ok();
    match name.0.as_slice() {
        [_] => own(name),
        [schema, _] => {
            schema.as_ident().is_some_and(|s| s.value.eq_ignore_ascii_case("pg_catalog")) && own(name)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlparser::dialect::{MySqlDialect, PostgreSqlDialect, SQLiteDialect};

    const NAMES: [&str; 4] = ["id", "plan", "note", "seen"];

    fn of_users(binding: Binding) -> Option<Vec<usize>> {
        binding.settle([("Users", NAMES.into_iter())].into_iter()).places(NAMES.into_iter(), Some(&[0]))
    }

    /// The columns of `users` that take part, its key `id` left out.
    fn bound(sql: &str) -> Option<Vec<&'static str>> {
        let statement = Statement { sql: sql.to_owned(), params: Vec::new() };
        let dialects: [&dyn Dialect; 3] = [&PostgreSqlDialect {}, &MySqlDialect {}, &SQLiteDialect {}];
        let mut all = dialects.map(|dialect| {
            let binding = Binding::of(dialect, std::slice::from_ref(&statement));
            let places = of_users(binding)?;
            Some(places.into_iter().filter(|p| *p > 0).map(|p| NAMES[p]).collect::<Vec<_>>())
        });
        all.sort();
        assert!(all[0] == all[1] && all[1] == all[2], "{sql}: {all:?}");
        all[0].clone()
    }

    #[test]
    fn what_comes_from_elsewhere_is_bound_and_what_comes_from_nowhere_is_not() {
        assert!(OWN.is_sorted());
        for sql in [
            "UPDATE users SET plan = 'x', seen = now() WHERE id IN (SELECT id FROM other)",
            "UPDATE users SET plan = plan || '!', note = coalesce(note, current_timestamp)",
            "INSERT INTO users (id, seen) VALUES (1, now()), (2, random())",
            "INSERT INTO users VALUES (1, 'a', 'b', current_timestamp)",
            "INSERT INTO users (id, plan) SELECT 1, now()",
            "DELETE FROM users WHERE id IN (SELECT id FROM other)",
        ] {
            assert_eq!(bound(sql), None, "{sql}");
        }
        for (sql, columns) in [
            ("UPDATE users SET plan = (SELECT v FROM s), seen = now()", vec!["plan"]),
            ("UPDATE shop.users SET note = 'a', plan = operators_own(1)", vec!["plan"]),
            ("UPDATE view_of_users SET plan = (SELECT v FROM s)", vec!["plan", "note", "seen"]),
            ("UPDATE users SET other = (SELECT v FROM s)", vec!["plan", "note", "seen"]),
            ("UPDATE users SET plan = coalesce((SELECT v FROM s), 'a') || now()", vec!["plan"]),
            (
                "UPDATE users SET plan = CASE WHEN EXISTS (SELECT 1 FROM s) THEN 'a' ELSE 'b' END",
                vec!["plan"],
            ),
            ("INSERT INTO users (id, plan, seen) SELECT id, v, now() FROM s", vec!["plan"]),
            ("INSERT INTO users (id, plan, note) VALUES (1, 'a', (SELECT v FROM s))", vec!["note"]),
            ("INSERT INTO users (id, plan) SELECT * FROM s", vec!["plan"]),
            ("INSERT INTO users SELECT * FROM s", vec!["plan", "note", "seen"]),
            ("INSERT INTO users SELECT id, 'a', 'b', 'c' FROM s", vec!["plan", "note", "seen"]),
        ] {
            assert_eq!(bound(sql), Some(columns), "{sql}");
        }
    }

    #[test]
    fn what_is_not_understood_is_bound() {
        for sql in [
            "CALL tidy()",
            "SELECT tidy()",
            "UPDATE users SET",
            "MERGE INTO users u USING s ON u.id = s.id WHEN MATCHED THEN DELETE",
        ] {
            assert_eq!(bound(sql), Some(vec!["plan", "note", "seen"]), "{sql}");
        }
        let of = |dialect: &dyn Dialect, sql: &str| {
            let statement = Statement { sql: sql.to_owned(), params: Vec::new() };
            of_users(Binding::of(dialect, &[statement]))
        };
        let postgres = PostgreSqlDialect {};
        let from = "UPDATE users SET plan = s.v, note = now() FROM s WHERE s.id = users.id";
        assert_eq!(of(&postgres, from), Some(vec![0, 1]));
        let with = "WITH s AS (SELECT 1 AS v) UPDATE users SET plan = s.v FROM s";
        assert_eq!(of(&postgres, with), Some(vec![0, 1]));
        let changes = "WITH s AS (UPDATE other SET a = 1 RETURNING a) UPDATE users SET plan = 'a'";
        assert_eq!(of(&postgres, changes), Some(vec![0, 1, 2, 3]));
        let upsert = "INSERT INTO users (id, plan) SELECT id, v FROM s ON CONFLICT (id) DO UPDATE SET note = excluded.plan, seen = now()";
        assert_eq!(of(&postgres, upsert), Some(vec![0, 1, 2]));
        let join = "UPDATE users JOIN s ON s.id = users.id SET plan = s.v";
        assert_eq!(of(&MySqlDialect {}, join), Some(vec![0, 1, 2, 3]));
        let hidden = "UPDATE users SET plan = /*! (SELECT v FROM s) + */ 1";
        assert_eq!(of(&MySqlDialect {}, hidden), Some(vec![0, 1, 2, 3]));
    }

    #[test]
    fn without_a_key_all_of_a_record_is_bound() {
        let statement = Statement { sql: "UPDATE t SET a = (SELECT 1 FROM s)".into(), params: Vec::new() };
        let names = ["x", "a"];
        let binding =
            Binding::of(&SQLiteDialect {}, &[statement]).settle([("t", names.into_iter())].into_iter());
        assert_eq!(binding.places(names.into_iter(), None), Some(vec![0, 1]));
        assert_eq!(binding.places(["x", "y"].into_iter(), None), None);
    }
}
