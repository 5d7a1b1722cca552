//! What the server says of its tables: columns, keys, triggers, and the foreign keys between them.
//!
//! Read anew for each piece of work, inside its transaction: the metadata locks of the transaction then keep
//! it from changing under way. Foreign keys come from InnoDB's own dictionary, which shows all of them
//! whatever the account may see; that is what cascades follow too.

use super::connect::{Db, Session};
use crate::Error;
use mysql_async::{Row, Value, prelude::FromValue};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};

/// How a column's values are carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Sort {
    /// Exact in the binary protocol: numbers, DECIMAL, dates, YEAR.
    Plain,
    /// DECIMAL: compared as such, or it would be compared as DOUBLE.
    Decimal,
    Text,
    Bytes,
    Json,
    Enum,
    /// SET and BIT: a number.
    Bits,
    /// As seconds since 1970, which no time zone changes.
    Timestamp,
    Net,
    Uuid,
    Geometry,
}

/// A column whose content a snapshot keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Column {
    pub(super) name: String,
    /// As the server declares it: `varchar(20)`.
    pub(super) declared: String,
    pub(super) sort: Sort,
    pub(super) charset: Option<String>,
    pub(super) collation: Option<String>,
    /// Computed by the server, and kept only because the key needs it.
    pub(super) generated: bool,
    /// AUTO_INCREMENT.
    pub(super) auto: bool,
    /// ON UPDATE CURRENT_TIMESTAMP: set by the server unless it is said what it is.
    pub(super) stamped: bool,
}

/// A table that may be written. In a snapshot, its shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Table {
    pub(super) schema: String,
    pub(super) name: String,
    /// The path within the target.
    #[serde(skip)]
    pub(super) resource: String,
    pub(super) columns: Vec<Column>,
    /// The places of the key's columns; of all columns where there is no key.
    pub(super) key: Vec<usize>,
    /// Whether there is a key: a primary key, or a unique index without NULL.
    pub(super) keyed: bool,
    /// Unique indexes beside the key; an index on an expression counts as all columns.
    #[serde(skip)]
    pub(super) uniques: Vec<Vec<usize>>,
    #[serde(skip)]
    pub(super) triggers: Vec<Trigger>,
}

/// A trigger of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trigger {
    pub(super) name: String,
    pub(super) event: String,
    pub(super) body: String,
}

/// What happens to a record when the one that it refers to is deleted or changes its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Restrict,
    Cascade,
    SetNull,
}

/// A foreign key.
#[derive(Clone, Debug)]
pub(super) struct Foreign {
    pub(super) child: (String, String),
    pub(super) parent: (String, String),
    /// Column of the child, column of the parent.
    pub(super) columns: Vec<(String, String)>,
    pub(super) on_delete: Action,
    pub(super) on_update: Action,
}

/// The tables that one piece of work has met.
#[derive(Default)]
pub(super) struct Schema {
    tables: BTreeMap<(String, String), Arc<Table>>,
    children: BTreeMap<(String, String), Arc<Vec<Foreign>>>,
}

impl Schema {
    /// A table that may be written.
    ///
    /// # Errors
    /// [`Error::Unmeasurable`] for everything that is not an ordinary InnoDB table.
    pub(super) async fn table(
        &mut self,
        db: &Db,
        session: &mut Session,
        schema: &str,
        name: &str,
    ) -> Result<Arc<Table>, Error> {
        let id = (schema.to_owned(), name.to_owned());
        if let Some(table) = self.tables.get(&id) {
            return Ok(Arc::clone(table));
        }
        let (table, children) = load(db, session, schema, name).await?;
        let table = Arc::new(table);
        self.children.insert(id.clone(), Arc::new(children));
        self.tables.insert(id, Arc::clone(&table));
        Ok(table)
    }

    /// The foreign keys that refer to a table that was asked for before.
    pub(super) fn children(&self, table: &Table) -> Result<Arc<Vec<Foreign>>, Error> {
        let list = self.children.get(&table.id()).cloned();
        list.ok_or_else(|| Error::Internal(format!("{} was never looked at", table.resource)))
    }
}

impl Table {
    pub(super) fn id(&self) -> (String, String) {
        (self.schema.clone(), self.name.clone())
    }

    /// As SQL names it.
    pub(super) fn sql(&self) -> String {
        format!("{}.{}", quote(&self.schema), quote(&self.name))
    }

    pub(super) fn key_columns(&self) -> impl Iterator<Item = &Column> {
        self.key.iter().filter_map(|i| self.columns.get(*i))
    }

    pub(super) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name.eq_ignore_ascii_case(name))
    }

    /// Whether the key has this column.
    pub(super) fn in_key(&self, name: &str) -> bool {
        self.key_columns().any(|c| c.name.eq_ignore_ascii_case(name))
    }

    /// All columns, as a list that loses nothing.
    pub(super) fn list(&self, alias: &str) -> String {
        join(self.columns.iter().map(|c| c.read(alias)))
    }

    /// The key's columns, as a list that loses nothing.
    pub(super) fn key_list(&self, alias: &str) -> String {
        join(self.key_columns().map(|c| c.read(alias)))
    }

    /// A condition that is true of the records with `count` given keys; see [`Table::key_params`].
    pub(super) fn with_keys(&self, alias: &str, count: usize) -> String {
        let columns: Vec<_> = self.key_columns().collect();
        let repeat = |one: &str, with: &str| vec![one; count].join(with);
        if !self.keyed {
            let one = columns
                .iter()
                .map(|c| format!("{} <=> {}", c.exactly(alias), c.given(true)))
                .collect::<Vec<_>>()
                .join(" AND ");
            return format!("({})", repeat(&format!("({one})"), " OR "));
        }
        let left = join(columns.iter().map(|c| c.compared(alias)));
        let right = join(columns.iter().map(|c| c.given(false)));
        if columns.len() == 1 {
            return format!("{left} IN ({})", repeat(&right, ", "));
        }
        format!("({left}) IN ({})", repeat(&format!("({right})"), ", "))
    }

    /// The parameters for [`Table::with_keys`].
    pub(super) fn key_params(&self, key: &[u8], into: &mut Vec<Value>) -> Result<(), Error> {
        let values = super::value::decode(key)?;
        into.extend(self.key_columns().zip(values).map(|(c, v)| c.param(v)));
        Ok(())
    }
}

impl Column {
    fn at(&self, alias: &str) -> String {
        if alias.is_empty() { quote(&self.name) } else { format!("{alias}.{}", quote(&self.name)) }
    }

    /// An expression whose value in the binary protocol is the column's, bit for bit.
    pub(super) fn read(&self, alias: &str) -> String {
        let at = self.at(alias);
        match self.sort {
            Sort::Text | Sort::Net | Sort::Uuid => format!("CAST({at} AS BINARY)"),
            Sort::Enum | Sort::Bits => format!("CAST({at} AS UNSIGNED)"),
            Sort::Timestamp => format!("UNIX_TIMESTAMP({at})"),
            Sort::Plain | Sort::Decimal | Sort::Bytes | Sort::Json | Sort::Geometry => at,
        }
    }

    /// The left side of a comparison with [`Column::given`], as an index can serve it.
    pub(super) fn compared(&self, alias: &str) -> String {
        let at = self.at(alias);
        match self.sort {
            Sort::Enum | Sort::Bits => format!("{at} + 0"),
            Sort::Timestamp => format!("UNIX_TIMESTAMP({at})"),
            _ => at,
        }
    }

    /// The left side where every bit counts and not the collation.
    fn exactly(&self, alias: &str) -> String {
        match self.sort {
            Sort::Text | Sort::Json => format!("CAST({} AS BINARY)", self.at(alias)),
            Sort::Geometry => format!("UNHEX(HEX({}))", self.at(alias)),
            _ => self.compared(alias),
        }
    }

    /// The right side: a placeholder, made independent of the session's character set.
    pub(super) fn given(&self, exactly: bool) -> String {
        match self.sort {
            Sort::Text if !exactly => match (&self.charset, &self.collation) {
                (Some(charset), Some(collation)) => {
                    format!("CONVERT(UNHEX(?) USING {charset}) COLLATE {collation}")
                }
                _ => "UNHEX(?)".to_owned(),
            },
            Sort::Text | Sort::Bytes | Sort::Json | Sort::Geometry => "UNHEX(?)".to_owned(),
            Sort::Uuid | Sort::Net => format!("CAST(UNHEX(?) AS {})", self.declared),
            Sort::Decimal => {
                let end = self.declared.find(')').map_or(self.declared.len(), |i| i + 1);
                format!("CAST(? AS {})", self.declared.get(..end).unwrap_or("DECIMAL(65,30)"))
            }
            Sort::Plain | Sort::Enum | Sort::Bits | Sort::Timestamp => "?".to_owned(),
        }
    }

    /// The placeholder that a value is written through, in the session of a rollback: texts are sent as the
    /// bytes that they are stored as.
    pub(super) fn written(&self) -> String {
        match self.sort {
            Sort::Uuid | Sort::Net => format!("CAST(? AS {})", self.declared),
            Sort::Json => "CONVERT(? USING utf8mb4)".to_owned(),
            _ => "?".to_owned(),
        }
    }

    /// The parameter for [`Column::written`].
    pub(super) fn to_write(&self, value: Value) -> Value {
        let text = if self.sort == Sort::Timestamp { super::value::timestamp(&value) } else { None };
        text.map_or(value, |text| Value::Bytes(text.into_bytes()))
    }

    /// The parameter for [`Column::given`].
    pub(super) fn param(&self, value: Value) -> Value {
        match (self.sort, value) {
            (
                Sort::Text | Sort::Bytes | Sort::Json | Sort::Geometry | Sort::Uuid | Sort::Net,
                Value::Bytes(b),
            ) => Value::Bytes(b.iter().fold(String::new(), |t, b| t + &format!("{b:02x}")).into_bytes()),
            (_, value) => value,
        }
    }
}

pub(super) fn quote(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A text, whatever the session's character set is.
pub(super) fn literal(text: &str) -> String {
    format!("_utf8mb4'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

pub(super) fn join(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}

/// The value at a place; a missing one is an error of the server's.
pub(super) fn get<T: FromValue>(row: &Row, place: usize) -> Result<T, Error> {
    match row.get_opt(place) {
        Some(Ok(value)) => Ok(value),
        _ => Err(Error::Internal(format!("the server's answer has nothing useful in column {place}"))),
    }
}

/// A table, and the foreign keys that refer to it, in one round trip.
async fn load(
    db: &Db,
    session: &mut Session,
    schema: &str,
    name: &str,
) -> Result<(Table, Vec<Foreign>), Error> {
    let resource = db.resource(schema, name);
    let of = |prefix: &str| {
        format!("{prefix}_SCHEMA = {} AND {prefix}_TABLE = {}", literal(schema), literal(name))
    };
    let is = format!("TABLE_SCHEMA = {} AND TABLE_NAME = {}", literal(schema), literal(name));
    // The first takes a metadata lock, so that what the others say stays true until the transaction ends.
    let sql = format!(
        "SELECT 1 FROM {}.{} LIMIT 0; \
         SELECT COALESCE(ENGINE, ''), TABLE_TYPE FROM information_schema.TABLES WHERE {is}; \
         SELECT COLUMN_NAME, COLUMN_TYPE, DATA_TYPE, CHARACTER_SET_NAME, COLLATION_NAME, EXTRA, \
         COALESCE(GENERATION_EXPRESSION, '') FROM information_schema.COLUMNS WHERE {is} ORDER BY ORDINAL_POSITION; \
         SELECT INDEX_NAME, COLUMN_NAME, COALESCE(NULLABLE, '') FROM information_schema.STATISTICS \
         WHERE {is} AND NON_UNIQUE = 0 ORDER BY INDEX_NAME, SEQ_IN_INDEX; \
         SELECT TRIGGER_NAME, EVENT_MANIPULATION, ACTION_STATEMENT FROM information_schema.TRIGGERS \
         WHERE {} ORDER BY TRIGGER_NAME; {}",
        quote(schema),
        quote(name),
        of("EVENT_OBJECT"),
        foreign_sql(session.mariadb, schema, name, "REF_NAME"),
    );
    let sets = session.several(&sql).await.map_err(|e| needs_process(e, &resource))?;
    let [_, kind, rows, indexes, triggers, foreign] = sets.as_slice() else {
        return Err(Error::Internal(format!("the server says {} things of {resource}", sets.len())));
    };
    let Some(row) = kind.first() else {
        return Err(Error::Invalid(format!("there is no table {resource}, or this account may not see it")));
    };
    let (engine, sort): (String, String) = (get(row, 0)?, get(row, 1)?);
    if sort != "BASE TABLE" {
        return Err(Error::Unmeasurable(format!(
            "{resource} is no ordinary table ({}): what a change of it does cannot be measured; change the tables themselves",
            sort.to_lowercase()
        )));
    }
    if !engine.eq_ignore_ascii_case("InnoDB") {
        return Err(Error::Unmeasurable(format!(
            "{resource} is stored by {engine}, which has no transactions: a change cannot be taken back; convert it with ALTER TABLE … ENGINE=InnoDB"
        )));
    }
    let mut columns = rows.iter().map(|row| column(row, &resource)).collect::<Result<Vec<_>, _>>()?;
    let indexes = indexes_of(indexes)?;
    let whole = |i: &&Index| i.parts.iter().all(|p| p.0.is_some() && !p.1);
    let key = indexes.iter().find(|i| i.name == "PRIMARY").or_else(|| indexes.iter().find(whole));
    let key: Vec<String> =
        key.map(|k| k.parts.iter().filter_map(|p| p.0.clone()).collect()).unwrap_or_default();
    columns.retain(|c| !c.generated || key.contains(&c.name));
    let place = |name: &String| columns.iter().position(|c| &c.name == name);
    let all: Vec<usize> = (0..columns.len()).collect();
    let uniques = indexes
        .iter()
        .filter(|i| i.parts.iter().filter_map(|p| p.0.as_ref()).ne(key.iter()))
        .map(|i| i.parts.iter().map(|p| p.0.as_ref().and_then(place)).collect::<Option<Vec<_>>>())
        .map(|places| places.unwrap_or_else(|| all.clone()))
        .collect();
    let places: Vec<usize> = key.iter().filter_map(place).collect();
    let keyed = !places.is_empty() && places.len() == key.len();
    let triggers = triggers
        .iter()
        .map(|r| Ok(Trigger { name: get(r, 0)?, event: get(r, 1)?, body: get(r, 2)? }))
        .collect::<Result<_, Error>>()?;
    let table = Table {
        schema: schema.to_owned(),
        name: name.to_owned(),
        resource,
        key: if keyed { places } else { all },
        keyed,
        uniques,
        triggers,
        columns,
    };
    Ok((table, foreign_of(foreign)?))
}

fn column(row: &Row, resource: &str) -> Result<Column, Error> {
    let (extra, generation): (String, String) = (get(row, 5)?, get(row, 6)?);
    let (kind, extra): (String, String) = (get(row, 2)?, extra.to_ascii_lowercase());
    Ok(Column {
        name: get(row, 0)?,
        declared: get(row, 1)?,
        sort: sort_of(&kind).ok_or_else(|| {
            Error::Unmeasurable(format!("{resource} has a column of the type {kind}, which is not known"))
        })?,
        charset: get(row, 3)?,
        collation: get(row, 4)?,
        generated: !generation.is_empty(),
        auto: extra.contains("auto_increment"),
        stamped: extra.contains("on update"),
    })
}

fn sort_of(kind: &str) -> Option<Sort> {
    Some(match kind.to_ascii_lowercase().as_str() {
        "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "float" | "double" | "date"
        | "datetime" | "time" | "year" => Sort::Plain,
        "decimal" => Sort::Decimal,
        "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => Sort::Text,
        "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => Sort::Bytes,
        "json" => Sort::Json,
        "enum" => Sort::Enum,
        "set" | "bit" => Sort::Bits,
        "timestamp" => Sort::Timestamp,
        "inet4" | "inet6" => Sort::Net,
        "uuid" => Sort::Uuid,
        "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring"
        | "multipolygon" | "geometrycollection" | "geomcollection" => Sort::Geometry,
        _ => return None,
    })
}

struct Index {
    name: String,
    /// Column (none: an expression), and whether it may be NULL.
    parts: Vec<(Option<String>, bool)>,
}

/// The unique indexes, in the order of their names.
fn indexes_of(rows: &[Row]) -> Result<Vec<Index>, Error> {
    let mut indexes: Vec<Index> = Vec::new();
    for row in rows {
        let (name, nullable): (String, String) = (get(row, 0)?, get(row, 2)?);
        let part = (get(row, 1)?, nullable.eq_ignore_ascii_case("YES"));
        match indexes.last_mut().filter(|i| i.name == name) {
            Some(index) => index.parts.push(part),
            None => indexes.push(Index { name, parts: vec![part] }),
        }
    }
    Ok(indexes)
}

/// The foreign keys by which `table` refers to others.
pub(super) async fn parents(session: &mut Session, table: &Table) -> Result<Vec<Foreign>, Error> {
    let sql = foreign_sql(session.mariadb, &table.schema, &table.name, "FOR_NAME");
    let sets = session.several(&sql).await.map_err(|e| needs_process(e, &table.resource))?;
    foreign_of(sets.first().map(Vec::as_slice).unwrap_or_default())
}

fn needs_process(error: Error, resource: &str) -> Error {
    match error {
        Error::Forbidden(why) if why.contains("PROCESS") => Error::Forbidden(format!(
            "{why}. Foreign keys that refer to {resource} can only be known with it: GRANT PROCESS ON *.* TO this account"
        )),
        other => other,
    }
}

/// Asks for the foreign keys of which a table is the child (`FOR_NAME`) or the parent (`REF_NAME`).
fn foreign_sql(mariadb: bool, schema: &str, name: &str, side: &str) -> String {
    // InnoDB writes names as it writes file names; MySQL 8 no longer does.
    let (keys, columns) = if mariadb {
        ("INNODB_SYS_FOREIGN", "INNODB_SYS_FOREIGN_COLS")
    } else {
        ("INNODB_FOREIGN", "INNODB_FOREIGN_COLS")
    };
    let plain = |name: &str, part: i8| {
        let part = format!("SUBSTRING_INDEX(f.{name}, '/', {part})");
        if mariadb {
            format!("CONVERT(CONVERT(CAST({part} AS BINARY) USING filename) USING utf8mb4)")
        } else {
            part
        }
    };
    let file = |value: &str| {
        let value = literal(value);
        if mariadb {
            format!("CONVERT(CAST(CONVERT({value} USING filename) AS BINARY) USING utf8mb4)")
        } else {
            value
        }
    };
    format!(
        "SELECT f.ID, {}, {}, {}, {}, f.TYPE, c.FOR_COL_NAME, c.REF_COL_NAME \
         FROM information_schema.{keys} f JOIN information_schema.{columns} c ON c.ID = f.ID \
         WHERE f.{side} = CONCAT({}, '/', {}) ORDER BY f.ID, c.POS",
        plain("FOR_NAME", 1),
        plain("FOR_NAME", -1),
        plain("REF_NAME", 1),
        plain("REF_NAME", -1),
        file(schema),
        file(name),
    )
}

fn foreign_of(rows: &[Row]) -> Result<Vec<Foreign>, Error> {
    let mut list: Vec<(String, Foreign)> = Vec::new();
    for row in rows {
        let id: String = get(row, 0)?;
        let pair = (get(row, 6)?, get(row, 7)?);
        if let Some((_, last)) = list.last_mut().filter(|(last, _)| *last == id) {
            last.columns.push(pair);
            continue;
        }
        let bits: u64 = get(row, 5)?;
        let action = |cascade: u64, null: u64| match (bits & cascade != 0, bits & null != 0) {
            (true, _) => Action::Cascade,
            (_, true) => Action::SetNull,
            _ => Action::Restrict,
        };
        list.push((
            id,
            Foreign {
                child: (get(row, 1)?, get(row, 2)?),
                parent: (get(row, 3)?, get(row, 4)?),
                columns: vec![pair],
                on_delete: action(1, 2),
                on_update: action(4, 8),
            },
        ));
    }
    Ok(list.into_iter().map(|(_, f)| f).collect())
}
