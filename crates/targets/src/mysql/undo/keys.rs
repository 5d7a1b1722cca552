//! Foreign keys, which are switched off while records are put back, checked again in both directions.

use super::{States, Today};
use crate::{
    Error,
    mysql::{
        connect::Session,
        footprint::CHUNK,
        schema::{Foreign, Schema, Table, join, quote},
        value::{Image, pick},
    },
};
use mysql_async::{Params, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of values that may be kept.
const MOST_BYTES: usize = 128 << 20;

/// Values that records referred to and that a rollback takes away.
#[derive(Default)]
pub(super) struct Gone {
    /// By parent and number of the foreign key.
    values: BTreeMap<((String, String), usize), BTreeSet<Image>>,
    bytes: usize,
}

impl Gone {
    /// Notes what the rollback takes away with the record as it is now.
    pub(super) fn note(&mut self, schema: &Schema, table: &Table, state: &States) -> Result<(), Error> {
        let Some((now, _)) = &state.now else { return Ok(()) };
        let list = schema.children(table)?;
        for (number, foreign) in list.iter().enumerate() {
            let places = places(table, foreign.columns.iter().map(|(_, parent)| parent))?;
            let values = pick(now, &places)?;
            let stays = match &state.before {
                Some((before, _)) => pick(before, &places)? == values,
                None => false,
            };
            if stays {
                continue;
            }
            self.bytes += values.len() + 48;
            if self.bytes > MOST_BYTES {
                return Err(Error::TooLarge(
                    "too many records of a rollback are referred to by others".to_owned(),
                ));
            }
            self.values.entry((table.id(), number)).or_default().insert(values);
        }
        Ok(())
    }

    /// Whether nothing refers any more to what is gone.
    pub(super) async fn check(
        &self,
        session: &mut Session,
        schema: &Schema,
        today: &Today,
    ) -> Result<(), Error> {
        for ((parent, number), values) in &self.values {
            let Some(parent) = today.get(parent) else { continue };
            let list = schema.children(parent)?;
            let Some(foreign) = list.get(*number) else { continue };
            let values: Vec<&Image> = values.iter().collect();
            for part in values.chunks(CHUNK) {
                let columns: Vec<_> =
                    foreign.columns.iter().filter_map(|(_, name)| parent.column(name)).collect();
                let mut params: Vec<Value> = Vec::new();
                for value in part {
                    let values = crate::mysql::value::decode(value)?;
                    params.extend(columns.iter().zip(values).map(|(c, v)| c.param(v)));
                }
                let left = join(foreign.columns.iter().zip(&columns).map(|((child, _), column)| {
                    let mut of_child = (*column).clone();
                    of_child.name.clone_from(child);
                    of_child.compared("c")
                }));
                let one = format!("({})", join(columns.iter().map(|c| c.given(false))));
                let condition = format!("({left}) IN ({})", vec![one; part.len()].join(", "));
                orphans(session, foreign, &condition, params, |child| {
                    format!(
                        "a record of {child} refers to one of {} that the rollback would remove; remove or change that record first",
                        parent.resource
                    )
                })
                .await?;
            }
        }
        Ok(())
    }
}

/// Whether the records with these keys refer only to what is there.
pub(super) async fn have_parents(
    session: &mut Session,
    table: &Table,
    foreign: &[Foreign],
    keys: &[&Image],
) -> Result<(), Error> {
    for foreign in foreign {
        for part in keys.chunks(CHUNK) {
            let mut params = Vec::new();
            for key in part {
                table.key_params(key, &mut params)?;
            }
            let condition = table.with_keys("c", part.len());
            orphans(session, foreign, &condition, params, |child| {
                format!(
                    "a record of {child} would refer to one of {}.{} that is gone; restore that first",
                    foreign.parent.0, foreign.parent.1
                )
            })
            .await?;
        }
    }
    Ok(())
}

/// Looks for records of the child that refer to nothing. What is found to be there is kept there.
async fn orphans(
    session: &mut Session,
    foreign: &Foreign,
    condition: &str,
    params: Vec<Value>,
    say: impl Fn(&str) -> String,
) -> Result<(), Error> {
    let name = |(schema, table): &(String, String)| format!("{}.{}", quote(schema), quote(table));
    let on: Vec<_> =
        foreign.columns.iter().map(|(c, p)| format!("c.{} = p.{}", quote(c), quote(p))).collect();
    let set: Vec<_> = foreign.columns.iter().map(|(c, _)| format!("c.{} IS NOT NULL", quote(c))).collect();
    let first = foreign.columns.first().map(|(_, p)| format!("p.{}", quote(p))).unwrap_or_default();
    let sql = format!(
        "SELECT 1 FROM {} AS c LEFT JOIN {} AS p ON {} WHERE {condition} AND {} AND {first} IS NULL LIMIT 1 \
         LOCK IN SHARE MODE",
        name(&foreign.child),
        name(&foreign.parent),
        on.join(" AND "),
        set.join(" AND "),
    );
    if session.rows(&sql, Params::Positional(params)).await?.is_empty() {
        return Ok(());
    }
    Err(Error::Irreversible(say(&foreign.child.1)))
}

fn places<'a>(table: &Table, names: impl Iterator<Item = &'a String>) -> Result<Vec<usize>, Error> {
    let place = |name: &String| table.columns.iter().position(|c| c.name.eq_ignore_ascii_case(name));
    names.map(place).collect::<Option<Vec<_>>>().ok_or_else(|| {
        Error::Irreversible(format!("a foreign key refers to a computed column of {}", table.resource))
    })
}
