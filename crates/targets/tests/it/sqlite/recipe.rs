//! Random files and random statements, read off a string of bytes: the shorter and smaller the bytes, the
//! simpler the case, so that a failure shrinks.

use std::fmt::Write as _;

pub(super) struct Recipe<'a>(std::slice::Iter<'a, u8>);

/// A case: how to make the file, and what an agent does, one transaction after the other.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) mode: &'static str,
    pub(super) schema: Vec<String>,
    pub(super) rows: Vec<String>,
    pub(super) transactions: Vec<Vec<String>>,
}

struct Table {
    name: String,
    columns: Vec<&'static str>,
    /// Something may refer to its `id`, which is of this type.
    parent: Option<&'static str>,
}

const VALUES: &[&str] = &[
    "1",
    "2",
    "3",
    "4",
    "5",
    "NULL",
    "'a'",
    "'A'",
    "'b'",
    "0",
    "-1",
    "1.0",
    "2.5",
    "-0.0",
    "9e999",
    "-9e999",
    "5e-324",
    "9223372036854775807",
    "-9223372036854775808",
    "9007199254740993",
    "''",
    "x''",
    "x'00ff'",
    "CAST(x'ffc061' AS TEXT)",
    "'1'",
    "'1.0'",
    "CAST(x'610062' AS TEXT)",
    "'ä€𝄞'",
    "zeroblob(70)",
    "1e300",
];
const STRICT_VALUES: &[&str] = &["1", "2", "3", "4", "NULL", "5", "9223372036854775807"];
const TYPES: &[&str] = &["", "INTEGER", "TEXT", "REAL", "BLOB", "NUMERIC", "TEXT COLLATE NOCASE", "BOOLEAN"];
const ACTIONS: &[&str] = &["CASCADE", "SET NULL", "SET DEFAULT", "NO ACTION", "RESTRICT"];
const OR: &[&str] = &["", "", "OR REPLACE", "OR IGNORE", "OR FAIL", "OR ABORT"];

impl<'a> Recipe<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes.iter())
    }

    fn below(&mut self, most: usize) -> usize {
        self.0.next().map_or(0, |byte| usize::from(*byte) % most)
    }

    /// True in one of `n`; never once the recipe is at its end.
    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == n - 1
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    pub(super) fn case(mut self) -> Case {
        let mode = self.of(&["wal", "delete", "truncate"]);
        let mut tables: Vec<Table> = Vec::new();
        let mut schema = vec!["CREATE TABLE log (what, n)".to_owned()];
        for number in 0..1 + self.below(4) {
            let (table, sql) = self.table(number, &tables);
            tables.push(table);
            schema.extend(sql);
        }
        for number in 0..self.below(4) {
            schema.push(self.trigger(number, &tables));
        }
        let mut rows = Vec::new();
        for _ in 0..4 + self.below(20) {
            let table = self.below(tables.len());
            rows.push(self.insert(&tables[table], "OR IGNORE"));
        }
        let transactions = (0..1 + self.below(3))
            .map(|_| (0..1 + self.below(3)).map(|_| self.statement(&tables)).collect())
            .collect();
        Case { mode, schema, rows, transactions }
    }

    fn table(&mut self, number: usize, others: &[Table]) -> (Table, Vec<String>) {
        let name = format!("{}t{number}", if self.one_in(6) { "odd \"name " } else { "" });
        let strict = self.one_in(6);
        let (key, tail, parent) = self.of(&[
            ("id INTEGER PRIMARY KEY", "", true),
            ("id INTEGER PRIMARY KEY AUTOINCREMENT", "", true),
            ("id TEXT PRIMARY KEY", "", true),
            ("id INT", "", false),
            ("id INTEGER PRIMARY KEY DESC", "", true),
            ("id INT UNIQUE", "", true),
            ("id INT UNIQUE ON CONFLICT REPLACE", "", true),
            ("id TEXT PRIMARY KEY", "WITHOUT ROWID", true),
            ("id INT NOT NULL", "WITHOUT ROWID", false),
            ("id TEXT COLLATE NOCASE PRIMARY KEY", "WITHOUT ROWID", true),
        ]);
        let composite = tail == "WITHOUT ROWID" && !parent;
        let parent = parent.then_some(if key.contains("TEXT") { "TEXT" } else { "INTEGER" });
        let sort = |r: &mut Self| if strict { r.of(&["ANY", "INTEGER", "ANY"]) } else { r.of(TYPES) };
        let (a, b) = (sort(self), sort(self));
        let mut sql = format!("CREATE TABLE \"{}\" ({key}, a {a}", name.replace('"', "\"\""));
        sql.push_str(self.of(&["", "", " UNIQUE", " DEFAULT 7", " NOT NULL DEFAULT 'd'"]));
        let _ = write!(sql, ", b {b}");
        let mut columns = vec!["id", "a", "b"];
        let parents: Vec<_> = others.iter().filter_map(|t| Some((t.name.clone(), t.parent?))).collect();
        let own = parent.map(|sort| (name.clone(), sort));
        let parents: Vec<_> = parents.into_iter().chain(own).collect();
        if !parents.is_empty() && !self.one_in(3) {
            let (to, sort) = &parents[self.below(parents.len())];
            let other = self.one_in(6);
            let _ = write!(
                sql,
                ", p {} DEFAULT {} REFERENCES \"{}\" (id) ON DELETE {} ON UPDATE {} {}",
                if other && strict {
                    "ANY"
                } else if other {
                    ""
                } else {
                    sort
                },
                self.of(&["NULL", "1"]),
                to.replace('"', "\"\""),
                self.of(ACTIONS),
                self.of(ACTIONS),
                self.of(&["", "", "DEFERRABLE INITIALLY DEFERRED"])
            );
            columns.push("p");
        }
        sql.push_str(self.of(&[
            "",
            "",
            ", g ANY AS (id || '-' || a) STORED",
            ", g ANY AS (typeof(b)) VIRTUAL",
        ]));
        if composite {
            sql.push_str(", PRIMARY KEY (id, a)");
        }
        let _ = write!(sql, ") {tail}");
        if strict {
            sql = sql.replace("id INT ", "id INTEGER ").replace("id INT,", "id INTEGER,");
            sql.push_str(if tail.is_empty() { "STRICT" } else { ", STRICT" });
        }
        let quoted = format!("\"{}\"", name.replace('"', "\"\""));
        let mut all = vec![sql];
        if self.one_in(3) {
            all.push(format!("CREATE INDEX i{number} ON {quoted} (lower(a)) WHERE b IS NOT NULL"));
        }
        if self.one_in(8) {
            all.push(format!("CREATE VIEW v{number} AS SELECT * FROM {quoted}"));
            all.push(format!(
                "CREATE TRIGGER vt{number} INSTEAD OF DELETE ON v{number} BEGIN DELETE FROM {quoted} WHERE id = old.id; END"
            ));
        }
        (Table { name: quoted.trim_matches('"').replace("\"\"", "\""), columns, parent }, all)
    }

    fn trigger(&mut self, number: usize, tables: &[Table]) -> String {
        let quoted = |t: &Table| format!("\"{}\"", t.name.replace('"', "\"\""));
        let on = quoted(&tables[self.below(tables.len())]);
        let to = quoted(&tables[self.below(tables.len())]);
        let (event, row) = self.of(&[("INSERT", "new"), ("UPDATE", "new"), ("DELETE", "old")]);
        let time = self.of(&["AFTER", "BEFORE"]);
        let body = match self.below(5) {
            0 | 1 => format!("INSERT INTO log VALUES ('{event}', {row}.id)"),
            2 => format!("UPDATE {to} SET b = 'by trigger' WHERE id = {row}.id"),
            3 => format!("DELETE FROM {to} WHERE a = {row}.a AND id > 2"),
            _ => format!("INSERT OR REPLACE INTO {to} (id, a) VALUES ({row}.id, {row}.b)"),
        };
        format!("CREATE TRIGGER g{number} {time} {event} ON {on} BEGIN {body}; END")
    }

    fn value(&mut self) -> &'static str {
        if self.one_in(2) { self.of(VALUES) } else { self.of(STRICT_VALUES) }
    }

    fn insert(&mut self, table: &Table, or: &str) -> String {
        let values: Vec<_> = table.columns.iter().map(|_| self.value()).collect();
        format!(
            "INSERT {or} INTO \"{}\" ({}) VALUES ({})",
            table.name.replace('"', "\"\""),
            table.columns.join(", "),
            values.join(", ")
        )
    }

    fn condition(&mut self, table: &Table) -> String {
        let column = self.of(&table.columns);
        match self.below(5) {
            0 => "1".to_owned(),
            1 => format!("{column} = {}", self.value()),
            2 => format!("{column} > {}", self.value()),
            3 => format!("{column} IS NOT {}", self.value()),
            _ => format!("typeof({column}) <> 'integer'"),
        }
    }

    fn statement(&mut self, tables: &[Table]) -> String {
        let table = &tables[self.below(tables.len())];
        let name = format!("\"{}\"", table.name.replace('"', "\"\""));
        let or = self.of(OR);
        match self.below(8) {
            0 => format!("DELETE FROM {name}"),
            1 => format!("DELETE FROM {name} WHERE {}", self.condition(table)),
            2 | 3 => {
                let (column, value) = (self.of(&table.columns), self.value());
                let value = if self.one_in(2) {
                    value.to_owned()
                } else {
                    self.of(&["id + 1", "-id", "3 - id", "upper(a)", "b"]).to_owned()
                };
                format!("UPDATE {or} {name} SET {column} = {value} WHERE {}", self.condition(table))
            }
            4 => self.insert(table, or),
            5 => {
                format!("{} ON CONFLICT DO UPDATE SET a = excluded.a, b = 'upserted'", self.insert(table, ""))
            }
            6 => {
                let other = &tables[self.below(tables.len())];
                format!(
                    "INSERT {or} INTO {name} (id, a) SELECT id, b FROM \"{}\" WHERE {}",
                    other.name.replace('"', "\"\""),
                    self.condition(other)
                )
            }
            _ => format!("UPDATE {or} {name} SET id = id + 10, a = b, b = a WHERE {}", self.condition(table)),
        }
    }
}
