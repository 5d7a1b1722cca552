//! Random schemas and statements, as data that shrinks, and their SQL.

use proptest::prelude::*;
use std::fmt::Write as _;

/// A schema and what is done to it, in one transaction.
#[derive(Clone, Debug)]
pub(super) struct Case {
    tables: Vec<TableSpec>,
    statements: Vec<Change>,
}

#[derive(Clone, Debug)]
struct TableSpec {
    key: KeyKind,
    /// To the table with this number, modulo those that exist by then; the table itself among them.
    references: Vec<Reference>,
    generated: bool,
    unique: Option<bool>,
    partitioned: bool,
    trigger: TriggerKind,
    types: Vec<usize>,
    rows: u8,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum KeyKind {
    None,
    Plain,
    Always,
    Composite,
    Text,
}

#[derive(Clone, Copy, Debug)]
struct Reference {
    to: usize,
    on_delete: usize,
    on_update: usize,
    deferred: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum TriggerKind {
    None,
    /// Changes the row on its way in.
    Stamp,
    /// Writes into another table.
    Log,
    /// Runs at the end of the transaction.
    Late,
}

#[derive(Clone, Debug)]
struct Change {
    table: usize,
    kind: usize,
    modulus: u8,
    rest: u8,
}

const ACTIONS: [&str; 5] = ["no action", "restrict", "cascade", "set null", "set default"];

/// A type and an expression over `i` for a value of it.
const TYPES: [(&str, &str); 14] = [
    ("numeric", "(i * 1.10)::numeric(12,3)"),
    (
        "float8",
        "case i % 4 when 0 then '-0' when 1 then 'NaN' when 2 then '-Infinity' else '1e-300' end::float8",
    ),
    ("json", "('{\"a\": ' || i || ',  \"a\":null}')::json"),
    ("jsonb", "case when i % 3 = 0 then 'null' else '{\"k\": [1.10, true]}' end::jsonb"),
    ("text", "e'tab\\there\\nline \\\\N \\\\. \\r' || i"),
    ("bytea", "decode(lpad(to_hex(i), 8, '0'), 'hex')"),
    ("text[]", "('[2:3]={\"a b\",' || case when i % 2 = 0 then 'NULL' else '\"\"' end || '}')::text[]"),
    ("timestamptz", "'1883-11-18 12:00:01+00'::timestamptz + i * interval '1.000001 s'"),
    ("interval", "make_interval(months => i, days => -i, secs => 0.5)"),
    ("int4range", "int4range(i, i + 3, '(]')"),
    ("char(7)", "('c' || i)::char(7)"),
    ("varbit", "i::bit(5)::varbit"),
    ("inet", "('10.0.0.' || i % 250 || '/8')::inet"),
    ("point", "point(-0.0, i)"),
];

fn reference() -> impl Strategy<Value = Reference> {
    (0..4_usize, 0..5_usize, 0..5_usize, any::<bool>())
        .prop_map(|(to, on_delete, on_update, deferred)| Reference { to, on_delete, on_update, deferred })
}

fn table() -> impl Strategy<Value = TableSpec> {
    let key = prop_oneof![
        1 => Just(KeyKind::None),
        3 => Just(KeyKind::Plain),
        1 => Just(KeyKind::Always),
        1 => Just(KeyKind::Composite),
        1 => Just(KeyKind::Text),
    ];
    let trigger = prop_oneof![
        6 => Just(TriggerKind::None),
        1 => Just(TriggerKind::Stamp),
        1 => Just(TriggerKind::Log),
        1 => Just(TriggerKind::Late),
    ];
    (
        key,
        prop::collection::vec(reference(), 0..3),
        any::<bool>(),
        prop::option::of(any::<bool>()),
        prop::bool::weighted(0.2),
        trigger,
        prop::collection::vec(0..TYPES.len(), 0..3),
        0..25_u8,
    )
        .prop_map(|(key, references, generated, unique, partitioned, trigger, types, rows)| TableSpec {
            key,
            references,
            generated,
            unique,
            partitioned,
            trigger,
            types,
            rows,
        })
}

fn change() -> impl Strategy<Value = Change> {
    (0..4_usize, 0..12_usize, 1..6_u8, 0..6_u8).prop_map(|(table, kind, modulus, rest)| Change {
        table,
        kind,
        modulus,
        rest,
    })
}

/// Any case.
pub(super) fn case() -> impl Strategy<Value = Case> {
    (prop::collection::vec(table(), 1..5), prop::collection::vec(change(), 1..4))
        .prop_map(|(tables, statements)| Case { tables, statements })
}

impl TableSpec {
    /// Whether others can refer to it by one whole number.
    fn is_parent(&self) -> bool {
        !self.partitioned && matches!(self.key, KeyKind::Plain | KeyKind::Always)
    }
}

impl Case {
    /// What `references` of the table `number` mean: the table, or none.
    fn parent(&self, number: usize, reference: Reference) -> Option<usize> {
        let to = reference.to % (number + 1);
        self.tables[to].is_parent().then_some(to)
    }

    /// The tables and their rows.
    pub(super) fn schema(&self) -> String {
        let mut sql = String::from("create table log (what text, id int);\n");
        for (number, table) in self.tables.iter().enumerate() {
            self.table(&mut sql, number, table);
        }
        sql
    }

    fn table(&self, sql: &mut String, number: usize, table: &TableSpec) {
        let name = format!("t{number}");
        let id = match table.key {
            KeyKind::Always => "id int generated always as identity (start with 500)",
            _ => "id int",
        };
        // A column that goes again leaves a gap in the numbering.
        let mut columns =
            vec![id.to_owned(), "gap int".into(), "v int not null default 0".into(), "note text".into()];
        for (i, reference) in table.references.iter().enumerate() {
            columns.push(format!("r{i} int"));
            if let Some(to) = self.parent(number, *reference) {
                columns.push(format!(
                    "foreign key (r{i}) references t{to} (id) on delete {} on update {}{}",
                    ACTIONS[reference.on_delete],
                    ACTIONS[reference.on_update],
                    // Only what is not done at once can be put off.
                    if reference.deferred { " deferrable initially deferred" } else { "" },
                ));
            }
        }
        if table.generated {
            columns.push("twice int generated always as (v * 2) stored".into());
        }
        for (i, ty) in table.types.iter().enumerate() {
            columns.push(format!("x{i} {}", TYPES[*ty].0));
        }
        if let (Some(deferred), false) = (table.unique, table.partitioned) {
            columns.push(format!(
                "u int unique{}",
                if deferred { " deferrable initially deferred" } else { "" }
            ));
        }
        let key = match (table.key, table.partitioned) {
            (KeyKind::None, _) => None,
            (KeyKind::Composite, false) => Some("primary key (v, id)"),
            (KeyKind::Composite, true) => Some("primary key (part, v, id)"),
            (KeyKind::Text, false) => Some("primary key (k)"),
            (KeyKind::Text, true) => Some("primary key (part, k)"),
            (_, false) => Some("primary key (id)"),
            (_, true) => Some("primary key (id, part)"),
        };
        if table.key == KeyKind::Text {
            columns.push("k text".into());
        }
        if table.partitioned {
            columns.push("part int not null".into());
        }
        columns.extend(key.map(str::to_owned));
        let by = if table.partitioned { " partition by list (part)" } else { "" };
        let _ = writeln!(sql, "create table {name} ({}){by};", columns.join(", "));
        if table.partitioned {
            for part in 0..3 {
                let _ =
                    writeln!(sql, "create table {name}_{part} partition of {name} for values in ({part});");
            }
        }
        let _ = writeln!(sql, "alter table {name} drop column gap;");
        self.trigger(sql, &name, table.trigger);
        self.rows(sql, number, table);
    }

    fn trigger(&self, sql: &mut String, name: &str, kind: TriggerKind) {
        let (body, when) = match kind {
            TriggerKind::None => return,
            TriggerKind::Stamp => ("new.note := 'stamped ' || new.v; return new;", "before update"),
            TriggerKind::Log => {
                ("insert into log values (tg_op, old.id); return old;", "after update or delete")
            }
            TriggerKind::Late => {
                ("insert into log values (tg_op, coalesce(new.id, old.id)); return null;", "late")
            }
        };
        let _ = writeln!(
            sql,
            "create function {name}_trigger() returns trigger language plpgsql set search_path from current as $$ begin {body} end $$;"
        );
        let when = if when == "late" {
            format!(
                "create constraint trigger x after insert or update or delete on {name} deferrable initially deferred"
            )
        } else {
            format!("create trigger x {when} on {name}")
        };
        let _ = writeln!(sql, "{when} for each row execute function {name}_trigger();");
    }

    fn rows(&self, sql: &mut String, number: usize, table: &TableSpec) {
        let (names, values) = self.values(number, table);
        let _ = writeln!(
            sql,
            "insert into t{number} ({}) overriding system value select {} from generate_series(1, {}) i;",
            names.join(", "),
            values.join(", "),
            table.rows
        );
        if table.key == KeyKind::None {
            // Some rows are there more than once.
            let _ = writeln!(
                sql,
                "insert into t{number} ({}) select {} from generate_series(1, {}) i where i % 3 = 0;",
                names.join(", "),
                values.join(", ").replace("i * 7", "null::int"),
                table.rows
            );
        }
    }

    /// Columns that can be written, and expressions over `i` for them.
    fn values(&self, number: usize, table: &TableSpec) -> (Vec<String>, Vec<String>) {
        let mut names = vec!["id".to_owned(), "v".to_owned(), "note".to_owned()];
        let mut values = vec!["i".to_owned(), "i % 7".to_owned(), "'note ' || i".to_owned()];
        for (r, reference) in table.references.iter().enumerate() {
            names.push(format!("r{r}"));
            values.push(match self.parent(number, *reference) {
                // Of itself: a chain.
                Some(to) if to == number => "nullif(i / 2, 0)".to_owned(),
                Some(to) if self.tables[to].rows > 0 => format!("1 + i % {}", self.tables[to].rows),
                Some(_) => "null::int".to_owned(),
                None => "i".to_owned(),
            });
        }
        for (x, ty) in table.types.iter().enumerate() {
            names.push(format!("x{x}"));
            values.push(TYPES[*ty].1.to_owned());
        }
        if table.unique.is_some() && !table.partitioned {
            names.push("u".into());
            values.push("i * 7".to_owned());
        }
        if table.key == KeyKind::Text {
            names.push("k".into());
            values.push("'key ' || i".to_owned());
        }
        if table.partitioned {
            names.push("part".into());
            values.push("i % 3".to_owned());
        }
        (names, values)
    }

    /// The statements.
    pub(super) fn statements(&self) -> Vec<String> {
        self.statements.iter().map(|change| self.change(change)).collect()
    }

    fn change(&self, change: &Change) -> String {
        let number = change.table % self.tables.len();
        let table = &self.tables[number];
        let (name, m, r) = (format!("t{number}"), change.modulus, change.rest % change.modulus);
        let some = format!("where (v + coalesce(length(note), 0)) % {m} = {r}");
        match change.kind {
            0 | 1 => format!("delete from {name} {some}"),
            2 => format!("update {name} set v = v + 1, note = note || '!' {some}"),
            3 => format!("update {name} set note = note {some}"),
            4 if table.key != KeyKind::Always => format!("update {name} set id = id + 1000 {some}"),
            5 if table.key != KeyKind::Always => format!("update {name} set id = {} - id", table.rows + 1),
            6 if table.unique.is_some() && !table.partitioned => {
                format!("update {name} set u = {} - u", (u32::from(table.rows) + 1) * 7)
            }
            7 if table.partitioned => format!("update {name} set part = (part + {m}) % 3 {some}"),
            8 if !table.references.is_empty() => {
                format!("update {name} set r0 = {} {some}", if r == 0 { "null" } else { "1" })
            }
            9 => format!(
                "with gone as (delete from {name} {some} returning v) update t0 set note = 'with ' || gone.v from gone where t0.v = gone.v"
            ),
            10 => {
                format!("update {name} a set note = b.note from {name} b where a.v = b.v and b.v % {m} = {r}")
            }
            _ => {
                let (names, values) = self.values(number, table);
                format!(
                    "insert into {name} ({}) overriding system value select {} from generate_series(101, 100 + {m}) i",
                    names.join(", "),
                    values.join(", ")
                )
            }
        }
    }
}
