//! What the file looks like: tables, keys, foreign keys.

use super::{connect::Fault, value};
use crate::{Cell, Error, RowWriter};
use rusqlite::{Connection, Row, types::ValueRef};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// A name as we write it into SQL.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A number that becomes another with each change of tables or indexes, and with VACUUM.
pub(super) fn schema_version(connection: &Connection) -> Result<i64, Fault> {
    Ok(connection.pragma_query_value(Some("main"), "schema_version", |row| row.get(0))?)
}

/// What stands behind a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Table,
    View,
    /// A virtual table, a table that one keeps its data in, or a table of SQLite's own.
    Foreign,
}

/// The names of a file, by their lower-case form.
pub(super) struct Catalog {
    names: HashMap<String, (String, Sort)>,
}

impl Catalog {
    pub(super) fn load(connection: &Connection) -> Result<Self, Fault> {
        let mut list =
            connection.prepare("SELECT name, type FROM pragma_table_list WHERE schema = 'main'")?;
        let rows = list.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
        let mut names = HashMap::new();
        for row in rows {
            let (name, sort) = row?;
            let sort = match sort.as_str() {
                _ if is_internal(&name) => Sort::Foreign,
                "table" => Sort::Table,
                "view" => Sort::View,
                _ => Sort::Foreign,
            };
            names.insert(name.to_ascii_lowercase(), (name, sort));
        }
        Ok(Self { names })
    }

    pub(super) fn sort(&self, name: &str) -> Option<Sort> {
        self.names.get(&name.to_ascii_lowercase()).map(|(_, sort)| *sort)
    }

    /// An ordinary table's name, as it is written in the file.
    pub(super) fn name(&self, name: &str) -> Option<&str> {
        let (name, sort) = self.names.get(&name.to_ascii_lowercase())?;
        (*sort == Sort::Table).then_some(name)
    }

    /// The ordinary tables.
    pub(super) fn tables(&self) -> impl Iterator<Item = &str> {
        self.names.values().filter(|(_, sort)| *sort == Sort::Table).map(|(name, _)| name.as_str())
    }

    /// The table of this name, which must be an ordinary one.
    pub(super) fn shape(&self, connection: &Connection, name: &str) -> Result<Shape, Fault> {
        match self.names.get(&name.to_ascii_lowercase()) {
            Some((name, Sort::Table)) => Shape::load(connection, name),
            Some((name, Sort::View)) => {
                Err(Error::Invalid(format!("{name} is a view; name the table whose records are meant")).into())
            }
            Some((name, Sort::Foreign)) => Err(Error::Unmeasurable(format!(
                "{name} is a virtual table or one of SQLite's own, whose records cannot be restored one by one"
            ))
            .into()),
            None => Err(Error::Invalid(format!("there is no table {name} in this file")).into()),
        }
    }
}

/// Whether a name is SQLite's own.
pub(super) fn is_internal(name: &str) -> bool {
    name.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("sqlite_"))
}

/// A column that is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Column {
    pub(super) name: String,
    /// As declared, in upper case.
    pub(super) sort: String,
    /// Its place in the primary key, from 1; 0 when it is not in it.
    pub(super) key: u32,
}

/// How the records of a table are read, named and put back.
///
/// A record is a row of cells: its rowid first where no column holds it, then the columns that are stored
/// (not the generated ones).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Shape {
    pub(super) name: String,
    /// The name under which the rowid can be reached; none in WITHOUT ROWID tables.
    rowid: Option<String>,
    /// The rowid is the first cell, because no column holds it.
    hidden: bool,
    pub(super) columns: Vec<Column>,
    /// The cells that name a record.
    pub(super) key: Vec<usize>,
}

impl Shape {
    pub(super) fn load(connection: &Connection, name: &str) -> Result<Self, Fault> {
        let mut columns = Vec::new();
        let mut all = Vec::new();
        let mut info = connection.prepare("SELECT name, type, pk, hidden FROM pragma_table_xinfo(?1)")?;
        let mut rows = info.query([name])?;
        while let Some(row) = rows.next()? {
            let column: String = row.get(0)?;
            all.push(column.to_ascii_lowercase());
            if row.get::<_, i64>(3)? == 0 {
                let sort = row.get::<_, String>(1)?.to_ascii_uppercase();
                columns.push(Column { name: column, sort, key: row.get(2)? });
            }
        }
        let flag = |sql: &str| connection.query_row(sql, [name], |row| row.get::<_, bool>(0));
        let without = flag("SELECT wr FROM pragma_table_list(?1) WHERE schema = 'main'")?;
        let mut key: Vec<usize> =
            (0..columns.len()).filter(|c| columns.get(*c).is_some_and(|c| c.key > 0)).collect();
        key.sort_by_key(|c| columns.get(*c).map(|c| c.key));
        if without {
            return Ok(Self { name: name.to_owned(), rowid: None, hidden: false, columns, key });
        }
        let rowid = ["rowid", "_rowid_", "oid"].into_iter().find(|name| !all.iter().any(|c| c == name));
        // A single INTEGER PRIMARY KEY is the rowid itself, unless it has an index of its own (DESC).
        let own_index = flag("SELECT count(*) FROM pragma_index_list(?1) WHERE origin = 'pk'")?;
        let alias = match key.as_slice() {
            [only] if !own_index => Some(*only),
            _ => None,
        };
        let (rowid, key) = match (alias.and_then(|a| columns.get(a).map(|c| (a, c))), rowid) {
            (Some((alias, column)), _) => (quoted(&column.name), vec![alias]),
            (None, Some(rowid)) => (rowid.to_owned(), vec![0]),
            (None, None) => {
                return Err(Error::Unmeasurable(format!(
                    "{name} has columns named rowid, _rowid_ and oid, which hide what names its records"
                ))
                .into());
            }
        };
        Ok(Self { name: name.to_owned(), rowid: Some(rowid), hidden: alias.is_none(), columns, key })
    }

    /// For a snapshot.
    pub(super) fn to_json(&self) -> Result<serde_json::Value, Error> {
        serde_json::to_value(self).map_err(|e| Error::Internal(e.to_string()))
    }

    /// From a snapshot.
    pub(super) fn from_json(shape: &serde_json::Value) -> Result<Self, Error> {
        serde_json::from_value(shape.clone())
            .map_err(|e| Error::Snapshot(format!("the snapshot does not describe a table of SQLite: {e}")))
    }

    pub(super) fn quoted(&self) -> String {
        quoted(&self.name)
    }

    /// How the rowid is written in SQL; none in WITHOUT ROWID tables.
    pub(super) fn rowid(&self) -> Option<&str> {
        self.rowid.as_deref()
    }

    /// Whether `column` is what names the records of a rowid table.
    pub(super) fn is_rowid(&self, column: &str) -> bool {
        match self.key.as_slice() {
            _ if self.rowid.is_none() => false,
            _ if self.hidden => ["rowid", "_rowid_", "oid"].iter().any(|n| n.eq_ignore_ascii_case(column)),
            [only] => {
                column.eq_ignore_ascii_case("rowid")
                    || self.columns.get(*only).is_some_and(|c| c.name.eq_ignore_ascii_case(column))
            }
            _ => false,
        }
    }

    /// Whether `column` is part of what names the records.
    pub(super) fn names_records(&self, column: &str) -> bool {
        let in_key = |c: &Column| c.key > 0 && c.name.eq_ignore_ascii_case(column);
        if self.rowid.is_some() { self.is_rowid(column) } else { self.columns.iter().any(in_key) }
    }

    /// Whether nothing but the rowid tells its records apart: VACUUM may give them others then.
    pub(super) fn is_loose(&self, connection: &Connection) -> Result<bool, Fault> {
        let unique = "SELECT count(*) FROM pragma_index_list(?1) WHERE \"unique\" AND NOT partial";
        Ok(self.hidden && !connection.query_row(unique, [&self.name], |row| row.get::<_, bool>(0))?)
    }

    /// Cells of a record.
    pub(super) fn cells(&self) -> usize {
        self.columns.len() + usize::from(self.hidden)
    }

    /// The names of the cells, as they are written in SQL.
    pub(super) fn sql_names(&self) -> Vec<String> {
        let hidden = self.rowid.iter().filter(|_| self.hidden).cloned();
        hidden.chain(self.columns.iter().map(|c| quoted(&c.name))).collect()
    }

    /// The names of the cells, for people.
    pub(super) fn names(&self) -> Vec<String> {
        let hidden = self.rowid.iter().filter(|_| self.hidden).cloned();
        hidden.chain(self.columns.iter().map(|c| c.name.clone())).collect()
    }

    /// `SELECT` of the rowid (where there is one) and of all cells, from `alias` or the table itself.
    pub(super) fn select(&self, alias: Option<&str>) -> String {
        let of = |name: &str| alias.map_or_else(|| name.to_owned(), |a| format!("{a}.{name}"));
        let names = self.rowid.iter().cloned().chain(self.sql_names());
        let list: Vec<_> = names.map(|n| of(&n)).collect();
        format!("SELECT {} FROM main.{} {}", list.join(", "), self.quoted(), alias.unwrap_or_default())
    }

    /// A row of [`Shape::select`] as bytes.
    pub(super) fn encode(&self, row: &Row<'_>) -> rusqlite::Result<Vec<u8>> {
        value::encode(row, usize::from(self.rowid.is_some()), self.cells())
    }

    /// The same, behind what is in `out` already.
    pub(super) fn encode_into(&self, row: &Row<'_>, out: &mut RowWriter) -> rusqlite::Result<()> {
        value::encode_into(row, usize::from(self.rowid.is_some()), self.cells(), out)
    }

    /// The cells that name the record.
    pub(super) fn key_of<'a>(&self, row: &[Cell<'a>]) -> Result<Vec<Cell<'a>>, Error> {
        let cells: Option<Vec<_>> = self.key.iter().map(|k| row.get(*k).copied()).collect();
        cells.ok_or_else(|| Error::Snapshot(format!("a record of {} has too few values", self.name)))
    }

    /// The rowid of a record of a table that has one.
    pub(super) fn rowid_of(&self, row: &[Cell<'_>]) -> Result<i64, Error> {
        let cell = self.key.first().filter(|_| row.len() == self.cells()).and_then(|key| row.get(*key));
        match cell.map(value::value).transpose()? {
            Some(ValueRef::Integer(rowid)) => Ok(rowid),
            _ => Err(Error::Snapshot(format!("a record of {} makes no sense", self.name))),
        }
    }

    /// The condition that finds a record by its key, with `?1`, `?2`, …
    pub(super) fn by_key(&self) -> String {
        match &self.rowid {
            Some(rowid) => format!("{rowid} = ?1"),
            None => {
                let names = self.sql_names();
                let parts = self.key.iter().filter_map(|k| names.get(*k)).enumerate();
                parts.map(|(n, name)| format!("{name} = ?{}", n + 1)).collect::<Vec<_>>().join(" AND ")
            }
        }
    }
}

/// What happens to records when the one that they refer to goes or changes its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Follow {
    Cascade,
    Unlink,
    Refuse,
}

impl Follow {
    fn read(text: &str) -> Self {
        match text {
            "CASCADE" => Self::Cascade,
            "SET NULL" | "SET DEFAULT" => Self::Unlink,
            _ => Self::Refuse,
        }
    }
}

/// A foreign key.
#[derive(Clone, Debug)]
pub(super) struct ForeignKey {
    pub(super) child: String,
    pub(super) parent: String,
    /// Pairs of (child's column, parent's column).
    pub(super) columns: Vec<(String, String)>,
    pub(super) on_delete: Follow,
    pub(super) on_update: Follow,
}

impl ForeignKey {
    /// The foreign keys of one table.
    pub(super) fn of(connection: &Connection, child: &str) -> Result<Vec<Self>, Fault> {
        let mut list = connection.prepare(
            "SELECT id, \"table\", \"from\", \"to\", on_delete, on_update FROM pragma_foreign_key_list(?1) ORDER BY id, seq",
        )?;
        let mut rows = list.query([child])?;
        let mut keys: Vec<(i64, Self)> = Vec::new();
        while let Some(row) = rows.next()? {
            let id: i64 = row.get(0)?;
            let (from, to): (String, Option<String>) = (row.get(2)?, row.get(3)?);
            if keys.last().is_none_or(|(last, _)| *last != id) {
                let on = |index| row.get::<_, String>(index).map(|text| Follow::read(&text));
                let (on_delete, on_update) = (on(4)?, on(5)?);
                let (child, parent) = (child.to_owned(), row.get(1)?);
                keys.push((id, Self { child, parent, columns: Vec::new(), on_delete, on_update }));
            }
            if let Some((_, key)) = keys.last_mut() {
                key.columns.push((from, to.unwrap_or_default()));
            }
        }
        let mut keys: Vec<_> = keys.into_iter().map(|(_, key)| key).collect();
        for key in &mut keys {
            key.name_columns(connection)?;
        }
        Ok(keys)
    }

    /// Without named columns the parent's primary key is meant.
    fn name_columns(&mut self, connection: &Connection) -> Result<(), Fault> {
        if self.columns.iter().any(|(_, to)| !to.is_empty()) {
            return Ok(());
        }
        let mut list =
            connection.prepare("SELECT name FROM pragma_table_xinfo(?1) WHERE pk > 0 ORDER BY pk")?;
        let mut names = list.query([&self.parent])?;
        for (_, to) in &mut self.columns {
            if let Some(row) = names.next()? {
                *to = row.get(0)?;
            }
        }
        Ok(())
    }
}

/// Every foreign key of the file.
pub(super) fn foreign_keys(connection: &Connection, catalog: &Catalog) -> Result<Vec<ForeignKey>, Fault> {
    let mut keys = Vec::new();
    let mut tables: Vec<_> = catalog.tables().collect();
    tables.sort_unstable();
    for table in tables {
        keys.extend(ForeignKey::of(connection, table)?);
    }
    Ok(keys)
}
