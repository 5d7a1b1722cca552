//! What tables look like: columns, keys, foreign keys. Asked of the server each time, since anybody may
//! change them between two uses.

use super::{connect::Session, sql::ident};
use crate::Error;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::sync::LazyLock;
use tokio_postgres::{Row, types::Type};

/// A table, as it is recorded in a snapshot too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Relation {
    /// Its identity; a table that was dropped and made again has another.
    pub(super) oid: u32,
    pub(super) schema: String,
    pub(super) name: String,
    /// The path that policies and people know it by: of a partition, the partitioned table's.
    pub(super) resource: String,
    /// `r` table, `p` partitioned table, `v` view, `f` foreign table, `m` materialised view, `S` sequence.
    pub(super) kind: char,
    pub(super) partition: bool,
    /// The partitioned table at the top, or itself.
    pub(super) root: u32,
    /// Itself, the partitioned tables above it, and its partitions at any depth: a foreign key of one of these
    /// is also its own, at least for some of its rows.
    #[serde(default, skip_serializing)]
    pub(super) family: Vec<u32>,
    /// The tables that inherit from it at any depth: a statement on it reaches their records too.
    #[serde(default, skip_serializing)]
    pub(super) heirs: Vec<u32>,
    /// In the order of the table.
    pub(super) columns: Vec<Column>,
    /// The primary key, or another one that is unique and never null. Empty: none.
    pub(super) key: Vec<Key>,
    /// Triggers of the user's that fire for ordinary sessions.
    #[serde(default)]
    pub(super) triggers: u32,
    /// Rules that rewrite statements on it.
    #[serde(default)]
    pub(super) rules: u32,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Column {
    /// Its identity within the table: stays when the column is renamed, and is never used again.
    pub(super) number: i16,
    pub(super) name: String,
    /// As `format_type` writes it.
    #[serde(rename = "type")]
    pub(super) type_name: String,
    /// The same without length or precision, so that a cast to it changes nothing.
    pub(super) base: String,
    /// Computed from others, so it cannot be written.
    #[serde(default)]
    pub(super) generated: bool,
    /// Filled by the database where a statement says nothing.
    #[serde(default)]
    pub(super) filled: bool,
}

/// A column of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Key {
    pub(super) number: i16,
    /// The operator by which the key's index tells equality, schema included.
    pub(super) equals: String,
}

impl Relation {
    /// Whether a foreign key from or to the table `oid` concerns its rows.
    pub(super) fn is(&self, oid: u32) -> bool {
        self.oid == oid || self.family.contains(&oid)
    }

    /// Its name as SQL.
    pub(super) fn sql(&self) -> String {
        format!("{}.{}", ident(&self.schema), ident(&self.name))
    }

    /// For FROM: a partitioned table stands for its partitions, any other table for itself alone.
    pub(super) fn from(&self) -> String {
        if self.kind == 'p' { self.sql() } else { format!("ONLY {}", self.sql()) }
    }

    /// For FROM, as a statement that names it reaches it: with the tables that inherit from it.
    pub(super) fn reached(&self) -> String {
        if self.heirs.is_empty() { self.from() } else { self.sql() }
    }

    /// The column with this number.
    pub(super) fn column(&self, number: i16) -> Option<&Column> {
        self.columns.iter().find(|column| column.number == number)
    }

    /// Its columns as SQL, each of `alias`.
    pub(super) fn list(&self, alias: &str) -> String {
        list(self.columns.iter().map(|column| column.name.as_str()), alias)
    }

    /// The names of the key's columns.
    pub(super) fn key_names(&self) -> impl Iterator<Item = &str> {
        self.key.iter().filter_map(|key| self.column(key.number)).map(|column| column.name.as_str())
    }

    /// Equality of the keys of two aliases, as SQL.
    pub(super) fn same_key(&self, a: &str, b: &str) -> String {
        let terms = self.key.iter().filter_map(|key| {
            let name = ident(&self.column(key.number)?.name);
            Some(format!("{a}.{name} {} {b}.{name}", key.equals))
        });
        terms.collect::<Vec<_>>().join(" AND ")
    }
}

/// Names as a list of `alias.name`.
pub(super) fn list<'n>(names: impl Iterator<Item = &'n str>, alias: &str) -> String {
    names.map(|name| format!("{alias}.{}", ident(name))).collect::<Vec<_>>().join(", ")
}

/// A foreign key.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct ForeignKey {
    pub(super) name: String,
    /// The table that refers.
    pub(super) child: u32,
    /// The table that is referred to.
    pub(super) parent: u32,
    /// The columns that refer, and those referred to, with the operator `parent = child`.
    pub(super) columns: Vec<(String, String, String)>,
    /// What follows the removal of a parent: `a` nothing (refused), `r` refused, `c` cascade, `n` set null,
    /// `d` set default.
    pub(super) on_delete: char,
    /// What follows the change of the parent's key.
    pub(super) on_update: char,
    /// `f` full, `s` simple.
    #[serde(rename = "match")]
    pub(super) matching: char,
    /// Whether a violation counts only at the end of the transaction.
    pub(super) deferrable: bool,
}

impl ForeignKey {
    /// That the child `c` refers to the parent `p`, as SQL.
    pub(super) fn refers(&self, p: &str, c: &str) -> String {
        let terms = self
            .columns
            .iter()
            .map(|(child, parent, op)| format!("{p}.{} {op} {c}.{}", ident(parent), ident(child)));
        terms.collect::<Vec<_>>().join(" AND ")
    }
}

const OPERATOR: &str = "pg_catalog.format('OPERATOR(%I.%s)', \
    (SELECT nspname FROM pg_catalog.pg_namespace WHERE oid = o.oprnamespace), o.oprname)";

/// As SQL: the table `oid`, the partitioned tables above it and its partitions.
fn family(oid: &str) -> String {
    format!(
        "SELECT {oid} AS oid UNION SELECT relid::pg_catalog.oid FROM pg_catalog.pg_partition_ancestors({oid}) a(relid) \
         UNION SELECT t.relid::pg_catalog.oid FROM pg_catalog.pg_partition_tree({oid}) t"
    )
}

static RELATIONS: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT (pg_catalog.json_build_object('oid', c.oid::bigint, 'schema', n.nspname, 'name', c.relname, \
           'resource', (SELECT m.nspname || '.' || r.relname FROM pg_catalog.pg_class r \
              JOIN pg_catalog.pg_namespace m ON m.oid = r.relnamespace WHERE r.oid = root.oid), \
           'kind', c.relkind, 'partition', c.relispartition, 'root', root.oid::bigint, \
           'family', (SELECT pg_catalog.json_agg(f.oid::bigint) FROM ({}) f), \
           'heirs', CASE WHEN c.relhassubclass AND c.relkind <> 'p' THEN (WITH RECURSIVE h(oid) AS ( \
                SELECT i.inhrelid FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid \
                UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN h ON i.inhparent = h.oid) \
              SELECT coalesce(pg_catalog.json_agg(h.oid::bigint), '[]') FROM h) ELSE '[]' END, \
           'columns', (SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object('number', a.attnum, \
                'name', a.attname, 'type', pg_catalog.format_type(a.atttypid, a.atttypmod), \
                'base', pg_catalog.format_type(a.atttypid, -1), \
                'generated', a.attgenerated <> '', 'filled', a.atthasdef OR a.attidentity <> '') \
                ORDER BY a.attnum), '[]') FROM pg_catalog.pg_attribute a \
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), \
           'key', coalesce((SELECT k.key FROM pg_catalog.pg_index i, LATERAL (SELECT \
                pg_catalog.json_agg(pg_catalog.json_build_object('number', u.att, 'equals', {OPERATOR}) ORDER BY u.ord) AS key, \
                pg_catalog.bool_and(a.attnotnull) AS never_null, pg_catalog.count(*) AS n \
              FROM ROWS FROM (pg_catalog.unnest(i.indkey::int2[]), pg_catalog.unnest(i.indclass::oid[])) WITH ORDINALITY AS u(att, class, ord) \
                JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = u.att \
                JOIN pg_catalog.pg_opclass oc ON oc.oid = u.class \
                JOIN pg_catalog.pg_amop ao ON ao.amopfamily = oc.opcfamily AND ao.amopstrategy = 3 \
                  AND ao.amoplefttype = oc.opcintype AND ao.amoprighttype = oc.opcintype \
                JOIN pg_catalog.pg_operator o ON o.oid = ao.amopopr WHERE u.ord <= i.indnkeyatts) k \
              WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL \
                AND k.never_null AND k.n = i.indnkeyatts \
              ORDER BY i.indisprimary DESC, i.indnkeyatts, i.indexrelid LIMIT 1), '[]'), \
           'triggers', (SELECT pg_catalog.count(*) FROM pg_catalog.pg_trigger g \
              WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgenabled <> 'D'), \
           'rules', (SELECT pg_catalog.count(*) FROM pg_catalog.pg_rewrite w \
              WHERE w.ev_class = c.oid AND w.ev_type <> '1' AND w.ev_enabled <> 'D')))::text \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace, \
           LATERAL (SELECT CASE WHEN c.relispartition THEN coalesce(pg_catalog.pg_partition_root(c.oid)::oid, c.oid) \
             ELSE c.oid END AS oid) root \
         WHERE c.oid = ANY ($1) ORDER BY c.oid",
        family("c.oid")
    )
});

static FOREIGN_KEYS: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT (pg_catalog.json_build_object('name', f.conname, 'child', f.conrelid::bigint, \
           'parent', f.confrelid::bigint, 'on_delete', f.confdeltype, 'on_update', f.confupdtype, \
           'match', f.confmatchtype, 'deferrable', f.condeferrable, 'columns', \
           (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(ca.attname, pa.attname, {OPERATOR}) ORDER BY u.ord) \
            FROM ROWS FROM (pg_catalog.unnest(f.conkey), pg_catalog.unnest(f.confkey), pg_catalog.unnest(f.conpfeqop)) WITH ORDINALITY AS u(c, p, op, ord) \
              JOIN pg_catalog.pg_attribute ca ON ca.attrelid = f.conrelid AND ca.attnum = u.c \
              JOIN pg_catalog.pg_attribute pa ON pa.attrelid = f.confrelid AND pa.attnum = u.p \
              JOIN pg_catalog.pg_operator o ON o.oid = u.op)))::text \
         FROM pg_catalog.pg_constraint f, (SELECT pg_catalog.array_agg(a.oid) AS oids FROM \
           pg_catalog.unnest($1) o, LATERAL ({}) a) t \
         WHERE f.contype = 'f' AND f.conparentid = 0 AND (f.conrelid = ANY (t.oids) OR f.confrelid = ANY (t.oids)) ORDER BY f.oid",
        family("o")
    )
});

/// The tables with these numbers. Those that are gone are left out.
pub(super) async fn relations(
    session: &Session,
    oids: impl IntoIterator<Item = u32>,
) -> Result<Vec<Relation>, tokio_postgres::Error> {
    let oids: Vec<u32> = oids.into_iter().collect();
    Ok(read(&session.look_up(&RELATIONS, &[(&oids, Type::OID_ARRAY)]).await?))
}

/// The foreign keys from or to these tables, those that they are partitions of, and their partitions
/// ([`Relation::is`]). One of a partitioned table stands for those that its partitions have of it.
pub(super) async fn foreign_keys(
    session: &Session,
    oids: impl IntoIterator<Item = u32>,
) -> Result<Vec<ForeignKey>, tokio_postgres::Error> {
    let oids: Vec<u32> = oids.into_iter().collect();
    Ok(read(&session.look_up(&FOREIGN_KEYS, &[(&oids, Type::OID_ARRAY)]).await?))
}

/// What `json_build_object` made. A text that cannot be read would be a mistake of ours; leaving it out makes
/// the callers refuse, since they miss what they asked for.
fn read<T: DeserializeOwned>(rows: &[Row]) -> Vec<T> {
    rows.iter().filter_map(|row| serde_json::from_str(row.try_get(0).ok()?).ok()).collect()
}

/// All of `oids`, or an error that names what is missing.
pub(super) fn all(found: Vec<Relation>, oids: &[u32]) -> Result<Vec<Relation>, Error> {
    match oids.iter().find(|oid| !found.iter().any(|relation| relation.oid == **oid)) {
        None => Ok(found),
        Some(oid) => {
            Err(Error::Internal(format!("the table with number {oid} could not be looked up; try again")))
        }
    }
}
