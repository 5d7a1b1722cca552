//! The snapshot's rows in temporary tables, typed as the tables are now.

use super::{
    super::{
        connect::Session,
        copy::{Sink, cells, copy_out, lines},
        images::{NUMBER, alike_after, alike_before, all_numbered},
        schema::{self, Relation},
        sql::{ask, ident},
        values::Trouble,
    },
    in_place::InPlace,
};
use crate::{
    Error, Progress,
    snapshot::{Side, Snapshot, SnapshotWriter},
};
use bytes::Bytes;
use futures_util::SinkExt as _;
use std::{collections::BTreeMap, pin::Pin, sync::atomic::Ordering};
use tokio::sync::Mutex;
use tokio_postgres::CopyInSink;

/// Types of which each value has one form in bytes and one as a text, as `format_type` writes them where nothing
/// but the server's own names need no schema.
const PLAIN: [&str; 12] = [
    "boolean",
    "smallint",
    "integer",
    "bigint",
    "oid",
    "text",
    "character varying",
    "bytea",
    "date",
    "timestamp without time zone",
    "timestamp with time zone",
    "uuid",
];

/// One table of a snapshot.
pub(super) struct Staged {
    /// As it is now.
    pub(super) now: Relation,
    /// As it was recorded.
    then: Relation,
    /// The recorded columns under the names that they have now, in the recorded order.
    pub(super) columns: Vec<String>,
    /// Those of them that can be written.
    pub(super) writable: Vec<String>,
    /// Columns that were added since.
    pub(super) added: Vec<String>,
    /// Whether after-images are there.
    pub(super) sealed: bool,
    /// Whether records are told apart by a key.
    pub(super) keyed: bool,
    /// Whether the action was to change its records and to remove none.
    pub(super) stays: bool,
    /// How many records were like one of those recorded before, where there is no key and this is known.
    pub(super) alike: Option<u64>,
    /// How many records the action left that are like one of those recorded after, where the same holds.
    pub(super) left: Option<u64>,
    /// The number of the action's transaction, where it is known.
    pub(super) made_by: Option<u64>,
    /// Whether the server wrote that number on each record that the action left.
    pub(super) all_numbered: bool,
    /// What a person should know.
    pub(super) notes: Vec<String>,
    /// How its records are written over in place, where they are.
    pub(super) in_place: Option<InPlace>,
    number: usize,
    /// Its numbers in the parts of the snapshot.
    places: Vec<(usize, u32)>,
}

impl Staged {
    /// For FROM: the before-images `b` that come back, by the codes of their records.
    pub(super) fn chosen(&self, codes: &str) -> String {
        if self.in_place.is_some() {
            return format!("{} b WHERE true", self.before());
        }
        format!("{} b JOIN {} w ON w.b = b.ctid WHERE w.code = ANY ({codes})", self.before(), self.work())
    }

    /// Whether it is this table of a part of the snapshot.
    pub(super) fn is(&self, part: usize, table: u32) -> bool {
        self.places.contains(&(part, table))
    }

    /// How many before- and after-images of it the snapshot holds.
    pub(super) fn totals(&self, snapshot: &Snapshot) -> (u64, u64) {
        let mut totals = (0, 0);
        for (part, table) in &self.places {
            let Ok(footer) = snapshot.footer(*part) else { continue };
            let table = usize::try_from(*table).ok().and_then(|table| footer.tables.get(table));
            totals.0 += table.map_or(0, |table| table.before);
            totals.1 += table.map_or(0, |table| table.after);
        }
        totals
    }

    /// The columns that are loaded.
    fn loaded(&self) -> Vec<&str> {
        let Some(place) = &self.in_place else { return self.columns.iter().map(String::as_str).collect() };
        place.loaded.iter().filter_map(|at| self.columns.get(*at)).map(String::as_str).collect()
    }

    /// The temporary table with the before-images.
    pub(super) fn before(&self) -> String {
        format!("pg_temp.checkrein_before_{}", self.number)
    }

    /// The temporary table with the after-images.
    pub(super) fn after(&self) -> String {
        format!("pg_temp.checkrein_after_{}", self.number)
    }

    /// The temporary table with what is to be done.
    pub(super) fn work(&self) -> String {
        format!("pg_temp.checkrein_work_{}", self.number)
    }

    /// The temporary table with rows that will be removed, as far as others refer to them.
    pub(super) fn removed(&self) -> String {
        format!("pg_temp.checkrein_removed_{}", self.number)
    }

    /// The temporary table with the values of columns that were added since.
    pub(super) fn kept(&self) -> String {
        format!("pg_temp.checkrein_kept_{}", self.number)
    }

    /// Whether values of this column read the same exactly when they lie there in the same bytes.
    pub(super) fn is_plain(&self, name: &str) -> bool {
        self.now.columns.iter().any(|column| column.name == name && PLAIN.contains(&column.base.as_str()))
    }

    /// The recorded columns of an alias as one text, which is alike exactly when all of them are.
    pub(super) fn image(&self, alias: &str) -> String {
        format!("ROW({})::text", schema::list(self.columns.iter().map(String::as_str), alias))
    }

    /// The recorded columns of an alias.
    pub(super) fn list(&self, alias: &str) -> String {
        schema::list(self.columns.iter().map(String::as_str), alias)
    }
}

/// Loads what is needed of `snapshot` into temporary tables. So does `outside`, of tables that are written over.
pub(super) async fn load(
    inside: &Session,
    outside: Option<&Session>,
    snapshot: &Snapshot,
    staged: &[Staged],
    progress: &Progress,
) -> Result<(), Trouble> {
    for one in staged {
        let columns = schema::list(one.loaded().into_iter(), "t");
        for name in [one.before(), one.after()] {
            let make = format!(
                "CREATE TEMPORARY TABLE {name} ON COMMIT DROP AS SELECT {columns} FROM ONLY {} t WITH NO DATA",
                one.now.sql()
            );
            ask(inside, &make).await?;
            if let (Some(outside), Some(_)) = (outside, &one.in_place) {
                ask(outside, &make).await?;
            }
        }
    }
    copy_in(inside, outside, snapshot, staged, progress).await?;
    // Tells the planner what was loaded: how many, and how the keys are spread. A few of them show that.
    for one in staged.iter().filter(|one| one.in_place.is_none() && one.keyed) {
        let key = one.now.key_names().map(ident).collect::<Vec<_>>().join(", ");
        let analyse = format!(
            "SET LOCAL default_statistics_target = 10; ANALYZE {} ({key}); ANALYZE {} ({key})",
            one.before(),
            one.after()
        );
        ask(inside, &analyse).await?;
    }
    Ok(())
}

/// The tables of `snapshot`, as they are now.
pub(super) async fn describe(session: &Session, snapshot: &Snapshot) -> Result<Vec<Staged>, Trouble> {
    super::super::same_system(session, snapshot)?;
    let (recorded, places) = recorded(snapshot)?;
    let present = schema::relations(session, recorded.keys().copied()).await?;
    let mut staged = Vec::with_capacity(recorded.len());
    for (number, then) in recorded.values().enumerate() {
        let now = present.iter().find(|now| now.oid == then.oid).ok_or_else(|| {
            Error::Irreversible(format!(
                "the table {} was dropped or made anew since the snapshot was taken",
                then.resource
            ))
        })?;
        let said = |name: &str| snapshot.footer(0).ok()?.system.get("alike")?.get(name);
        let known = |name: &str| said(name)?.as_u64();
        let (alike, left) = (known(&alike_before(then.oid)), known(&alike_after(then.oid)));
        let made_by = known(NUMBER);
        let all_numbered = said(&all_numbered(then.oid)).and_then(serde_json::Value::as_bool) == Some(true);
        let places = places.iter().filter(|(_, oid)| **oid == then.oid).map(|(place, _)| *place).collect();
        let one = fit(number, then, now, snapshot.is_sealed())?;
        let stays = snapshot.stays(&then.resource);
        staged.push(Staged { alike, left, made_by, all_numbered, places, stays, ..one });
    }
    Ok(staged)
}

/// Which table a block belongs to: by part and number.
type Places = BTreeMap<(usize, u32), u32>;

/// The tables of all parts, by their identity, as they were recorded first.
fn recorded(snapshot: &Snapshot) -> Result<(BTreeMap<u32, Relation>, Places), Error> {
    let (mut relations, mut places) = (BTreeMap::<u32, Relation>::new(), BTreeMap::new());
    for part in 0..snapshot.parts() {
        for table in snapshot.tables(part)? {
            let relation: Relation = serde_json::from_value(table.shape.clone()).map_err(|e| {
                Error::Snapshot(format!("the snapshot's description of {}: {e}", table.resource))
            })?;
            places.insert((part, table.index), relation.oid);
            let first = relations.entry(relation.oid).or_insert_with(|| relation.clone());
            if first.columns != relation.columns {
                return Err(Error::Irreversible(format!(
                    "the columns of {} changed between the snapshot and its sealing",
                    relation.resource
                )));
            }
        }
    }
    Ok((relations, places))
}

/// How a recorded table fits the present one.
fn fit(number: usize, then: &Relation, now: &Relation, sealed: bool) -> Result<Staged, Error> {
    let changed = |what: String| {
        Error::Irreversible(format!(
            "the table {} has changed since the snapshot was taken: {what}",
            now.resource
        ))
    };
    if now.kind != then.kind {
        return Err(changed("it is another kind of table".to_owned()));
    }
    let mut notes = Vec::new();
    if (&now.schema, &now.name) != (&then.schema, &then.name) {
        notes.push(format!("{}.{} is called {}.{} now", then.schema, then.name, now.schema, now.name));
    }
    let (mut columns, mut writable) = (Vec::new(), Vec::new());
    for column in &then.columns {
        let present = now
            .column(column.number)
            .ok_or_else(|| changed(format!("the column {} was dropped", column.name)))?;
        if present.type_name != column.type_name {
            return Err(changed(format!(
                "the column {} was of type {} and is of type {}",
                column.name, column.type_name, present.type_name
            )));
        }
        if present.generated != column.generated {
            return Err(changed(format!("whether the column {} is computed", column.name)));
        }
        if present.name != column.name {
            notes
                .push(format!("{}: the column {} is called {} now", now.resource, column.name, present.name));
        }
        columns.push(present.name.clone());
        if !present.generated {
            writable.push(present.name.clone());
        }
    }
    let added: Vec<_> = now
        .columns
        .iter()
        .filter(|column| then.column(column.number).is_none())
        .map(|column| column.name.clone())
        .collect();
    for name in &added {
        notes.push(format!(
            "{}: the column {name} was added since; records that still exist keep their value in it, others get its default",
            now.resource
        ));
    }
    // A key that was made from columns added since says nothing about the recorded rows.
    let keyed =
        !now.key.is_empty() && now.key_names().all(|name| columns.iter().any(|column| column == name));
    let generated_added = |name: &String| now.columns.iter().any(|c| c.name == *name && c.generated);
    let added = added.into_iter().filter(|name| !generated_added(name)).collect();
    Ok(Staged {
        alike: None,
        left: None,
        made_by: None,
        all_numbered: false,
        in_place: None,
        now: now.clone(),
        then: then.clone(),
        columns,
        writable,
        added,
        sealed,
        keyed,
        stays: false,
        notes,
        number,
        places: Vec::new(),
    })
}

/// A COPY under way.
type CopyIn = Pin<Box<CopyInSink<Bytes>>>;

/// Copies in what is needed of all images.
async fn copy_in(
    inside: &Session,
    outside: Option<&Session>,
    snapshot: &Snapshot,
    staged: &[Staged],
    progress: &Progress,
) -> Result<(), Trouble> {
    let mut total = 0;
    for part in 0..snapshot.parts() {
        total += snapshot.footer(part)?.tables.iter().map(|t| t.before + t.after).sum::<u64>();
    }
    progress.total.store(total, Ordering::Relaxed);
    let mut blocks = snapshot.blocks();
    let mut open: Option<(String, Vec<CopyIn>)> = None;
    let mut loaded = 0;
    while let Some(block) = blocks.next().await? {
        let one = staged.iter().find(|one| one.is(block.part, block.table));
        let one = one.ok_or_else(|| Error::Snapshot("rows of a table that is not described".to_owned()))?;
        let name = match block.side {
            Side::Before => one.before(),
            Side::After => one.after(),
        };
        loaded += block.rows;
        progress.done.store(loaded, Ordering::Relaxed);
        let data = match (&one.in_place, block.side) {
            (Some(_), Side::After) => continue,
            (Some(place), Side::Before) if place.loaded.len() < one.columns.len() => {
                cut(&block.data, &place.loaded)
            }
            _ => block.data,
        };
        if open.as_ref().is_none_or(|(known, _)| *known != name) {
            finish(open.take()).await?;
            let columns = one.loaded().into_iter().map(ident).collect::<Vec<_>>().join(", ");
            let columns = if columns.is_empty() { columns } else { format!("({columns})") };
            let copy = format!("COPY {name} {columns} FROM STDIN (FORMAT text)");
            let mut sinks = vec![Box::pin(inside.copy_in(&copy).await?)];
            if let (Some(outside), Some(_)) = (outside, &one.in_place) {
                sinks.push(Box::pin(outside.copy_in(&copy).await?));
            }
            open = Some((name, sinks));
        }
        let data = Bytes::from(data);
        for sink in open.iter_mut().flat_map(|(_, sinks)| sinks) {
            sink.send(data.clone()).await?;
        }
    }
    finish(open).await?;
    if loaded != total {
        return Err(Error::Snapshot("the snapshot ended before its last record".to_owned()).into());
    }
    Ok(())
}

async fn finish(open: Option<(String, Vec<CopyIn>)>) -> Result<(), Trouble> {
    for mut sink in open.into_iter().flat_map(|(_, sinks)| sinks) {
        sink.as_mut().finish().await?;
    }
    Ok(())
}

/// These columns of rows.
fn cut(rows: &[u8], columns: &[usize]) -> Vec<u8> {
    let mut out = Vec::with_capacity(rows.len());
    let mut all = Vec::new();
    for line in lines(rows) {
        cells(line, &mut all);
        for (number, cell) in columns.iter().filter_map(|at| all.get(*at)).enumerate() {
            if number > 0 {
                out.push(b'\t');
            }
            out.extend_from_slice(cell);
        }
        out.push(b'\n');
    }
    out
}

/// Writes the records of an unsealed snapshot as they stand now into `out`, found by their keys.
pub(in super::super) async fn seal(
    session: &Session,
    snapshot: &Snapshot,
    progress: &Progress,
    out: &mut SnapshotWriter,
) -> Result<(), Trouble> {
    if snapshot.is_sealed() {
        return Err(Error::Invalid("the snapshot is sealed already".to_owned()).into());
    }
    let staged = describe(session, snapshot).await?;
    load(session, None, snapshot, &staged, progress).await?;
    for one in &staged {
        if !one.keyed {
            return Err(Error::Unsupported(format!(
                "{} has no primary key, so its records cannot be found again to be sealed; send the change as an execution, which captures both sides",
                one.now.resource
            ))
            .into());
        }
        let shape = serde_json::to_value(&one.then).map_err(|e| Error::Internal(e.to_string()))?;
        let table = out.table(&one.now.resource, shape).await?;
        let mut sink = Sink { out: &Mutex::new(out), table, side: Side::After, digest: None };
        let same = one.now.same_key("n", "b");
        let select = format!(
            "SELECT {} FROM {} b JOIN ONLY {} n ON {same}",
            one.list("n"),
            one.before(),
            one.now.sql()
        );
        copy_out(session, &select, &mut sink).await?;
    }
    Ok(())
}
