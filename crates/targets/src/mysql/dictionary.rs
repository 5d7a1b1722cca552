//! Asks the server what it knows of a table.
//!
//! Inside the transaction of the work: its metadata locks keep everything from changing under way. Foreign
//! keys come from InnoDB's own dictionary, which shows all of them whatever the account may see; that is what
//! cascades follow too.
//!
//! What a table is like is remembered under a fingerprint of all that could tell otherwise: its definition as
//! the server writes it, its triggers with their bodies, the foreign keys that refer to it, what the account
//! may see. That is asked for each time; what is put together from slower tables, only when it is another.

use super::{
    connect::{Db, Session},
    schema::{Action, Column, Foreign, Sort, Table, Trigger, get, literal, quote},
};
use crate::Error;
use mysql_async::{Row, Value};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Tables that are remembered.
const MOST_KNOWN: usize = 1_000;

/// A table, and the foreign keys that refer to it.
#[derive(Clone)]
pub(super) struct Described {
    pub(super) table: Arc<Table>,
    pub(super) children: Arc<Vec<Foreign>>,
}

/// What tables are like, by database and name, each with its fingerprint.
#[derive(Default)]
pub(super) struct Known(Mutex<HashMap<(String, String), (blake3::Hash, Described)>>);

impl Known {
    fn get(&self, id: &(String, String), print: blake3::Hash) -> Option<Described> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(id).filter(|(of, _)| *of == print).map(|(_, described)| described.clone())
    }

    fn put(&self, id: (String, String), print: blake3::Hash, described: Described) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_KNOWN {
            known.clear();
        }
        known.insert(id, (print, described));
    }
}

/// A table as it is now.
pub(super) async fn load(
    db: &Db,
    session: &mut Session,
    schema: &str,
    name: &str,
) -> Result<Described, Error> {
    let resource = db.resource(schema, name);
    // The first takes a metadata lock, so that what the others say stays true until the transaction ends.
    let sql = format!(
        "SELECT 1 FROM {0}.{1} LIMIT 0; SHOW CREATE TABLE {0}.{1}; \
         SELECT TRIGGER_NAME, EVENT_MANIPULATION, ACTION_STATEMENT, ACTION_TIMING FROM information_schema.TRIGGERS \
         WHERE EVENT_OBJECT_SCHEMA = {2} AND EVENT_OBJECT_TABLE = {3}; {4}",
        quote(schema),
        quote(name),
        literal(schema),
        literal(name),
        foreign_sql(session.files, schema, name, "REF_NAME"),
    );
    let sets = session.several(&sql).await.map_err(|e| needs_process(e, &resource))?;
    let [_, create, triggers, foreign] = sets.as_slice() else {
        return Err(Error::Internal(format!("the server says {} things of {resource}", sets.len())));
    };
    let print = fingerprint(session, create, &[triggers, foreign])?;
    let id = (schema.to_owned(), name.to_owned());
    if let Some(described) = db.known.get(&id, print) {
        return Ok(described);
    }
    let table = describe(session, resource, schema, name, triggers).await?;
    let described = Described { table: Arc::new(table), children: Arc::new(foreign_of(foreign)?) };
    db.known.put(id, print, described.clone());
    Ok(described)
}

fn fingerprint(session: &Session, create: &[Row], others: &[&Vec<Row>]) -> Result<blake3::Hash, Error> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(session.grants.hash().as_bytes());
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    for row in create {
        let text: Vec<u8> = get(row, 1)?;
        part(without_counter(&String::from_utf8_lossy(&text)).as_bytes());
    }
    for rows in others {
        part(&(rows.len() as u64).to_le_bytes());
        for row in *rows {
            for place in 0..row.len() {
                match row.as_ref(place) {
                    Some(Value::Bytes(bytes)) => part(bytes),
                    value => part(format!("{value:?}").as_bytes()),
                }
            }
        }
    }
    Ok(hasher.finalize())
}

/// A definition without the next number of AUTO_INCREMENT, which stands among the options in its last lines.
fn without_counter(create: &str) -> String {
    let Some((columns, options)) = create.rsplit_once("\n) ENGINE") else { return create.to_owned() };
    let Some((before, after)) = options.split_once(" AUTO_INCREMENT=") else { return create.to_owned() };
    format!("{columns}\n) ENGINE{before}{}", after.trim_start_matches(|c: char| c.is_ascii_digit()))
}

/// What the server says of a table, beside its triggers.
async fn describe(
    session: &mut Session,
    resource: String,
    schema: &str,
    name: &str,
    triggers: &[Row],
) -> Result<Table, Error> {
    let is = format!("TABLE_SCHEMA = {} AND TABLE_NAME = {}", literal(schema), literal(name));
    let sql = format!(
        "SELECT COALESCE(ENGINE, ''), TABLE_TYPE FROM information_schema.TABLES WHERE {is}; \
         SELECT COLUMN_NAME, COLUMN_TYPE, DATA_TYPE, CHARACTER_SET_NAME, COLLATION_NAME, EXTRA \
         FROM information_schema.COLUMNS WHERE {is} ORDER BY ORDINAL_POSITION; \
         SELECT INDEX_NAME, COLUMN_NAME, COALESCE(NULLABLE, '') FROM information_schema.STATISTICS \
         WHERE {is} AND NON_UNIQUE = 0 ORDER BY INDEX_NAME, SEQ_IN_INDEX",
    );
    let sets = session.several(&sql).await?;
    let [kind, rows, indexes] = sets.as_slice() else {
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
    let columns = rows.iter().map(|row| column(row, &resource)).collect::<Result<Vec<_>, _>>()?;
    let indexes = indexes_of(indexes)?;
    let whole = |i: &&Index| i.parts.iter().all(|p| p.0.is_some() && !p.1);
    let key = indexes.iter().find(|i| i.name == "PRIMARY").or_else(|| indexes.iter().find(whole));
    let key: Vec<String> =
        key.map(|k| k.parts.iter().filter_map(|p| p.0.clone()).collect()).unwrap_or_default();
    let kept = columns.into_iter().filter(|(c, on_reading)| !on_reading || key.contains(&c.name));
    let columns: Vec<Column> = kept.map(|(c, _)| c).collect();
    let place = |name: &String| columns.iter().position(|c| &c.name == name);
    // A DELETE computes anew what it compares; that may not be what is stored.
    let all: Vec<usize> =
        columns.iter().enumerate().filter(|(_, c)| !c.generated).map(|(at, _)| at).collect();
    let uniques = indexes
        .iter()
        .filter(|i| i.parts.iter().filter_map(|p| p.0.as_ref()).ne(key.iter()))
        .map(|i| i.parts.iter().map(|p| p.0.as_ref().and_then(place)).collect::<Option<Vec<_>>>())
        .map(|places| places.unwrap_or_else(|| all.clone()))
        .collect();
    let places: Vec<usize> = key.iter().filter_map(place).collect();
    let keyed = !places.is_empty() && places.len() == key.len();
    let mut triggers = triggers
        .iter()
        .map(|r| {
            Ok(Trigger {
                name: get(r, 0)?,
                event: get(r, 1)?,
                body: get(r, 2)?,
                before: get::<String>(r, 3)? == "BEFORE",
            })
        })
        .collect::<Result<Vec<_>, Error>>()?;
    triggers.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Table {
        schema: schema.to_owned(),
        name: name.to_owned(),
        resource,
        key: if keyed { places } else { all },
        keyed,
        uniques,
        triggers,
        columns,
    })
}

/// A column, and whether it is computed each time it is read.
fn column(row: &Row, resource: &str) -> Result<(Column, bool), Error> {
    let (kind, extra): (String, String) = (get(row, 2)?, get(row, 5)?);
    let extra = extra.to_ascii_lowercase();
    let says = |word: &str| extra.split([' ', ',']).any(|other| other == word);
    let on_reading = says("virtual");
    let column = Column {
        name: get(row, 0)?,
        declared: get(row, 1)?,
        sort: sort_of(&kind).ok_or_else(|| {
            Error::Unmeasurable(format!("{resource} has a column of the type {kind}, which is not known"))
        })?,
        charset: get(row, 3)?,
        collation: get(row, 4)?,
        generated: on_reading || says("stored") || says("persistent"),
        auto: extra.contains("auto_increment"),
        stamped: extra.contains("on update"),
    };
    Ok((column, on_reading))
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
    let sql = foreign_sql(session.files, &table.schema, &table.name, "FOR_NAME");
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
fn foreign_sql(files: bool, schema: &str, name: &str, side: &str) -> String {
    // InnoDB writes names as it writes file names; MySQL no longer does from 8 on, where a table's name may have a
    // slash in it.
    let (keys, columns) = if files {
        ("INNODB_SYS_FOREIGN", "INNODB_SYS_FOREIGN_COLS")
    } else {
        ("INNODB_FOREIGN", "INNODB_FOREIGN_COLS")
    };
    let parts = |name: &str| {
        let of_files = |part: i8| {
            let part = format!("SUBSTRING_INDEX(f.{name}, '/', {part})");
            format!("CONVERT(CONVERT(CAST({part} AS BINARY) USING filename) USING utf8mb4)")
        };
        if files {
            format!("{}, {}", of_files(1), of_files(-1))
        } else {
            format!("SUBSTRING_INDEX(f.{name}, '/', 1), SUBSTRING(f.{name}, LOCATE('/', f.{name}) + 1)")
        }
    };
    let file = |value: &str| {
        format!("CONVERT(CAST(CONVERT({} USING filename) AS BINARY) USING utf8mb4)", literal(value))
    };
    let whole = if files {
        format!("CONCAT({}, '/', {})", file(schema), file(name))
    } else {
        // Put together by the server, it would be of another collation than the column.
        literal(&format!("{schema}/{name}"))
    };
    format!(
        "SELECT f.ID, {}, {}, f.TYPE, c.FOR_COL_NAME, c.REF_COL_NAME, c.POS \
         FROM information_schema.{keys} f JOIN information_schema.{columns} c ON c.ID = f.ID \
         WHERE f.{side} = {whole}",
        parts("FOR_NAME"),
        parts("REF_NAME"),
    )
}

fn foreign_of(rows: &[Row]) -> Result<Vec<Foreign>, Error> {
    let mut list: Vec<(String, Foreign)> = Vec::new();
    let place = |row: &Row| Ok::<_, Error>((get::<String>(row, 0)?, get::<u64>(row, 8)?));
    let mut rows = rows.iter().map(|row| Ok((place(row)?, row))).collect::<Result<Vec<_>, Error>>()?;
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    for ((id, _), row) in rows {
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

#[cfg(test)]
mod tests {
    use super::without_counter;

    #[test]
    fn the_counter_is_no_part_of_a_definition() {
        let with = |options: &str| {
            format!("CREATE TABLE `t` (\n  `a` int COMMENT ' AUTO_INCREMENT=3'\n) ENGINE=InnoDB{options}")
        };
        assert_eq!(
            without_counter(&with(" AUTO_INCREMENT=17 DEFAULT CHARSET=x")),
            with(" DEFAULT CHARSET=x")
        );
        assert_eq!(without_counter(&with(" DEFAULT CHARSET=x")), with(" DEFAULT CHARSET=x"));
        assert_eq!(without_counter("anything AUTO_INCREMENT=3"), "anything AUTO_INCREMENT=3");
    }
}
