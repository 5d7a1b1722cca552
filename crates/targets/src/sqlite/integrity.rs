//! Foreign keys that hold, before and after.
//!
//! Not by `PRAGMA foreign_key_check`: it compares values of another affinity than the parent's differently
//! than the enforcement does.

use super::{
    connect::Fault,
    schema::{Catalog, ForeignKey, Shape, foreign_keys, quoted},
    select::key_names,
    value,
};
use rusqlite::Connection;

/// A table that was changed.
pub(super) struct Concern<'a> {
    pub(super) table: &'a str,
    /// A temporary table whose `k` names the records that were put back; none: look at all of them.
    pub(super) put_back: Option<&'a str>,
    /// Whether a value is gone that others may refer to.
    pub(super) lost: bool,
}

/// References from or to one of `tables` that are broken in the new state and were not in the old one, in
/// words; the first `most`.
pub(super) fn new_violations(
    (old, new): (&Connection, &Connection),
    tables: &[Concern<'_>],
    most: usize,
) -> Result<Vec<String>, Fault> {
    let mut broken_now = Vec::new();
    let catalog = Catalog::load(new)?;
    let concern = |name: &str| tables.iter().find(|t| t.table.eq_ignore_ascii_case(name));
    for key in foreign_keys(new, &catalog)? {
        let shape = catalog.shape(new, &key.child)?;
        let whole = format!("main.{} AS c", quoted(&key.child));
        let from = match (concern(&key.child), concern(&key.parent)) {
            (_, Some(Concern { lost: true, .. })) => whole.clone(),
            (Some(Concern { put_back: Some(temp), .. }), _) if shape.rowid().is_some() => {
                format!("temp.{temp} AS d CROSS JOIN {whole} ON {} = d.k", key_names(&shape, "c").join(""))
            }
            (Some(_), _) => whole.clone(),
            (None, _) => continue,
        };
        let Some(broken) = broken(&catalog, new, &key)? else { continue };
        let cells = shape.key.len();
        let mut now =
            new.prepare(&format!("SELECT {} FROM {from} {broken}", key_names(&shape, "c").join(", ")))?;
        let mut before = old.prepare(&format!("SELECT 1 FROM {whole} {broken} AND {}", is(&shape)))?;
        let mut rows = now.query([])?;
        while let Some(row) = rows.next()? {
            let id = value::encode(row, 0, cells)?;
            for (index, cell) in value::cells(&id)?.iter().enumerate() {
                value::bind_cell(&mut before, index + 1, cell)?;
            }
            if before.raw_query().next()?.is_none() {
                let id: Vec<String> = (0..cells)
                    .map(|c| row.get_ref(c).map(|v| value::json(v).to_string()))
                    .collect::<Result<_, _>>()?;
                broken_now.push(format!(
                    "the record {} of {} refers to one of {} that is not there",
                    id.join(", "),
                    key.child,
                    key.parent
                ));
                if broken_now.len() >= most {
                    return Ok(broken_now);
                }
            }
        }
    }
    Ok(broken_now)
}

/// The condition for records `c` that refer to nothing; none when the key cannot be judged, because what it refers to
/// is no table with such columns (SQLite refuses to write there while it enforces foreign keys).
fn broken(catalog: &Catalog, connection: &Connection, key: &ForeignKey) -> Result<Option<String>, Fault> {
    let Some(parent) = catalog.name(&key.parent) else { return Ok(None) };
    let mut known = connection.prepare("SELECT name FROM pragma_table_xinfo(?1)")?;
    let known: Vec<String> = known.query_map([parent], |row| row.get(0))?.collect::<Result<_, _>>()?;
    if !key.columns.iter().all(|(_, to)| known.iter().any(|name| name.eq_ignore_ascii_case(to))) {
        return Ok(None);
    }
    let there: Vec<_> =
        key.columns.iter().map(|(from, _)| format!("c.{} IS NOT NULL", quoted(from))).collect();
    // The parent's column decides on collation (it stands first) and affinity (the plus takes the child's
    // away), as in the enforcement.
    let same: Vec<_> =
        key.columns.iter().map(|(from, to)| format!("p.{} = +c.{}", quoted(to), quoted(from))).collect();
    Ok(Some(format!(
        "WHERE {} AND NOT EXISTS (SELECT 1 FROM main.{} AS p WHERE {})",
        there.join(" AND "),
        quoted(parent),
        same.join(" AND ")
    )))
}

fn is(shape: &Shape) -> String {
    let names = key_names(shape, "c").into_iter().enumerate();
    names.map(|(n, name)| format!("{name} = ?{}", n + 1)).collect::<Vec<_>>().join(" AND ")
}
