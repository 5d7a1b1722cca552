//! Foreign keys, looked at again in both directions: nothing else did while the records were put back.

use super::{
    super::{
        connect::Session,
        schema::{self, ForeignKey, Relation},
        sql::{ask_one, ident},
        values::Trouble,
    },
    compare::{self, Compared},
    stage::Staged,
};
use crate::Error;

/// Refuses when a record would refer to one that is not there.
pub(super) async fn check(
    session: &Session,
    staged: &[Staged],
    compared: &[Compared],
    keys: &[ForeignKey],
) -> Result<(), Trouble> {
    let tables = schema::relations(session, keys.iter().flat_map(|key| [key.child, key.parent])).await?;
    let table = |oid: u32| tables.iter().find(|table| table.oid == oid);
    for key in keys {
        let (Some(child), Some(parent)) = (table(key.child), table(key.parent)) else {
            return Err(Error::Internal(format!("the foreign key {} cannot be looked up", key.name)).into());
        };
        for (one, done) in staged.iter().zip(compared) {
            if one.now.is(key.child) {
                parents_are_there(session, key, one, done, parent).await?;
            }
            if one.now.is(key.parent) {
                nobody_refers(session, key, one, done, child, parent).await?;
            }
        }
    }
    Ok(())
}

/// Of every record that comes back, what it refers to is there, and stays there until the end.
async fn parents_are_there(
    session: &Session,
    key: &ForeignKey,
    one: &Staged,
    done: &Compared,
    parent: &Relation,
) -> Result<(), Trouble> {
    let restored = done.restored();
    if restored.is_empty() {
        return Ok(());
    }
    let chosen = one.chosen(&compare::list(&restored));
    let refers = key.refers("p", "b");
    // As the database itself does when a record is inserted.
    let lock = format!(
        "SELECT pg_catalog.count(*) FROM (SELECT 1 FROM {} p WHERE EXISTS (SELECT 1 FROM {chosen} AND {refers}) FOR KEY SHARE OF p) l",
        parent.from()
    );
    ask_one(session, &lock).await?;
    let set = key.columns.iter().map(|(child, _, _)| format!("b.{} IS NOT NULL", ident(child)));
    let set = set.collect::<Vec<_>>().join(" AND ");
    let orphans = format!(
        "SELECT pg_catalog.count(*) FROM {chosen} AND {set} AND NOT EXISTS (SELECT 1 FROM {} p WHERE {refers})",
        parent.from()
    );
    match ask_one(session, &orphans).await?.as_deref() {
        Some("0") => Ok(()),
        number => Err(Error::Irreversible(format!(
            "{} records of {} would refer to records of {} that are not there any more ({}): put those back first; nothing was changed",
            number.unwrap_or("some"), one.now.resource, parent.resource, key.name
        ))
        .into()),
    }
}

/// Nobody refers to a record that goes away.
async fn nobody_refers(
    session: &Session,
    key: &ForeignKey,
    one: &Staged,
    done: &Compared,
    child: &Relation,
    parent: &Relation,
) -> Result<(), Trouble> {
    // What is written over in place keeps all that is referred to.
    if done.removed().is_empty() || one.in_place.is_some() {
        return Ok(());
    }
    let orphans = format!(
        "SELECT pg_catalog.count(*) FROM {} c WHERE EXISTS (SELECT 1 FROM {} d WHERE {}) \
         AND NOT EXISTS (SELECT 1 FROM {} p WHERE {})",
        child.from(),
        one.removed(),
        key.refers("d", "c"),
        parent.from(),
        key.refers("p", "c"),
    );
    match ask_one(session, &orphans).await?.as_deref() {
        Some("0") => Ok(()),
        number => Err(Error::Irreversible(format!(
            "{} records of {} refer to records of {} that the rollback would remove ({}): remove or change those first; nothing was changed",
            number.unwrap_or("some"), child.resource, one.now.resource, key.name
        ))
        .into()),
    }
}
