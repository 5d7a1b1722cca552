//! What the server says of its tables: columns, keys, triggers, and the foreign keys between them.
//!
//! Asked anew by each piece of work, inside its transaction; see `dictionary`.

use super::{
    connect::{Db, Session},
    dictionary::{Described, load},
    value::{Image, cells, decode, encode},
};
use crate::Error;
use mysql_async::{Row, Value, prelude::FromValue};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};

/// What stands after a JSON document that could not be put back as it is.
pub(super) const INEXACT: u8 = 0;

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
    /// MySQL's own, which is more than its text. MariaDB's is a text.
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
    /// Computed by the server, which nobody else can write. Kept where it is stored, since it is not always what
    /// its expression gives, or where the key needs it.
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
    /// The places of the key's columns; where there is no key, of all columns that are not computed.
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
    /// BEFORE: it may change what is written.
    pub(super) before: bool,
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
        let Described { table, children } = load(db, session, schema, name).await?;
        self.children.insert(id.clone(), children);
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

    /// Whether its records are given back their content one by one, only the columns that differ: triggers on INSERT are not
    /// to fire, and what a JSON document is beside its text would be lost where it is written for no reason.
    pub(super) fn one_by_one(&self) -> bool {
        !self.triggers.is_empty() || self.columns.iter().any(|c| c.sort == Sort::Json)
    }

    /// Whether a record that was `before` can be given back all that `after` has no longer.
    ///
    /// # Errors
    /// [`Error::Unmeasurable`] where a document of it is [`INEXACT`].
    pub(super) fn can_come_back(&self, before: &[u8], after: Option<&[u8]>) -> Result<(), Error> {
        if self.columns.iter().all(|c| c.sort != Sort::Json) {
            return Ok(());
        }
        let before = cells(before)?;
        // A record that is removed and inserted again is written as a whole.
        let after = after.filter(|_| self.keyed && self.uniques.is_empty()).map(cells).transpose()?;
        for (place, column) in self.columns.iter().enumerate().filter(|(_, c)| c.sort == Sort::Json) {
            let stays = after.as_ref().is_some_and(|after| after.get(place) == before.get(place));
            let inexact = before.get(place).is_some_and(|cell| cell.bytes.last() == Some(&INEXACT));
            if inexact && !stays {
                return Err(Error::Unmeasurable(format!(
                    "the column {} of {} holds a JSON document with a value of a kind that no text of it says (a decimal, a date, …), \
                     so it could not be put back as it is; leave that record or column alone, or have a person change it",
                    column.name, self.resource
                )));
            }
        }
        Ok(())
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
            // By a unique index with NULLs in it, MySQL would find one of several records.
            let part = |place: &usize| {
                let column = self.columns.get(*place)?;
                let same = format!("{} <=> {}", column.exactly(alias), column.given(true));
                let unique = self.uniques.iter().any(|unique| unique.contains(place));
                Some(if unique { format!("({same}) IS TRUE") } else { same })
            };
            let one = self.key.iter().filter_map(part).collect::<Vec<_>>().join(" AND ");
            return format!("({})", repeat(&format!("({one})"), " OR "));
        }
        let left = join(columns.iter().map(|c| c.compared(alias)));
        let right = join(columns.iter().map(|c| c.given(false)));
        if columns.len() == 1 {
            return format!("{left} IN ({})", repeat(&right, ", "));
        }
        format!("({left}) IN ({})", repeat(&format!("({right})"), ", "))
    }

    /// The key of a record, of which these are all values.
    pub(super) fn key_of(&self, values: &[Value]) -> Image {
        encode(self.key.iter().filter_map(|place| values.get(*place)))
    }

    /// The first and the last of these different keys, where they are whole numbers of one column and at most
    /// `gaps` times as many lie between them.
    pub(super) fn span<K: AsRef<[u8]>>(
        &self,
        keys: &[K],
        gaps: usize,
    ) -> Result<Option<(&Column, Value, Value)>, Error> {
        let ([place], true) = (self.key.as_slice(), self.keyed && keys.len() > 2) else { return Ok(None) };
        let Some(column) = self.columns.get(*place).filter(|c| c.sort == Sort::Plain) else {
            return Ok(None);
        };
        let (mut first, mut last) = (i128::MAX, i128::MIN);
        for key in keys {
            let number = match decode(key.as_ref())?.as_slice() {
                [Value::Int(n)] => i128::from(*n),
                [Value::UInt(n)] => i128::from(*n),
                _ => return Ok(None),
            };
            (first, last) = (first.min(number), last.max(number));
        }
        let most = i128::try_from(keys.len().saturating_mul(gaps)).unwrap_or(0);
        if last - first >= most {
            return Ok(None);
        }
        let value = |n: i128| {
            i64::try_from(n).map_or_else(|_| u64::try_from(n).map(Value::UInt), |n| Ok(Value::Int(n)))
        };
        Ok(value(first).ok().zip(value(last).ok()).map(|(first, last)| (column, first, last)))
    }

    /// The parameters for [`Table::with_keys`].
    pub(super) fn key_params(&self, key: &[u8], into: &mut Vec<Value>) -> Result<(), Error> {
        let values = decode(key)?;
        into.extend(self.key_columns().zip(values).map(|(c, v)| c.param(v)));
        Ok(())
    }
}

impl Column {
    /// Whether it holds whole numbers or dates: values that are the same to the server have the same bytes.
    pub(super) fn is_whole(&self) -> bool {
        self.sort == Sort::Plain
            && !self.declared.starts_with("float")
            && !self.declared.starts_with("double")
    }

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
            Sort::Json => json(&at),
            Sort::Plain | Sort::Decimal | Sort::Bytes | Sort::Geometry => at,
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
            Sort::Text => format!("CAST({} AS BINARY)", self.at(alias)),
            Sort::Json => self.read(alias),
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

/// The text of a JSON document of MySQL; with [`INEXACT`] after it where it holds what a text cannot say: a decimal or
/// a date, say, which would come back as a double or a string.
fn json(at: &str) -> String {
    let inexact = ["$**[*]", "$**.*"].map(|path| {
        format!(
            "EXISTS(SELECT 1 FROM JSON_TABLE(JSON_ARRAY({at}), _utf8mb4'{path}' COLUMNS(v JSON PATH _utf8mb4'$')) AS part \
             WHERE JSON_TYPE(part.v) NOT IN ('OBJECT', 'ARRAY', 'BOOLEAN', 'NULL', 'INTEGER', 'DOUBLE', 'STRING') \
             AND NOT (JSON_TYPE(part.v) = 'UNSIGNED INTEGER' AND part.v > 9223372036854775807))"
        )
    });
    format!("CONCAT(CAST(CONVERT({at} USING utf8mb4) AS BINARY), IF({}, X'00', ''))", inexact.join(" OR "))
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
