//! Unique and exclusion constraints that may wait for the end of the transaction, looked at again: the server does so
//! by triggers of its own, which do not run while records are put back.

use super::{
    super::{
        connect::Session,
        sql::{ask, ask_one},
        values::Trouble,
    },
    compare::Compared,
    stage::Staged,
};
use crate::Error;

/// Each such constraint of the table `$1`: its name, what it compares, its condition, and how two records that it
/// forbids together compare.
const CONSTRAINTS: &str = "SELECT k.conname, e.expressions, coalesce(pg_catalog.pg_get_expr(i.indpred, i.indrelid), 'true'), e.clash \
    FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_index i ON i.indexrelid = k.conindid, LATERAL ( \
      SELECT pg_catalog.string_agg(pg_catalog.format('(%s)%s AS k%s', pg_catalog.pg_get_indexdef(i.indexrelid, u.ord::int, false), \
          (SELECT pg_catalog.format(' COLLATE %I.%I', n.nspname, c.collname) FROM pg_catalog.pg_collation c \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace WHERE c.oid = u.coll), u.ord), ', ' ORDER BY u.ord) AS expressions, \
        pg_catalog.string_agg(pg_catalog.format(CASE WHEN (pg_catalog.to_jsonb(i) ->> 'indnullsnotdistinct')::bool \
            THEN '(a.k%1$s OPERATOR(%2$I.%3$s) b.k%1$s OR a.k%1$s IS NULL AND b.k%1$s IS NULL)' \
            ELSE 'a.k%1$s OPERATOR(%2$I.%3$s) b.k%1$s' END, u.ord, n.nspname, o.oprname), ' AND ' ORDER BY u.ord) AS clash \
      FROM ROWS FROM (pg_catalog.unnest(i.indclass::oid[]), pg_catalog.unnest(i.indcollation::oid[]), pg_catalog.unnest(k.conexclop)) \
          WITH ORDINALITY AS u(class, coll, op, ord) \
        JOIN pg_catalog.pg_opclass oc ON oc.oid = u.class \
        JOIN pg_catalog.pg_operator o ON o.oid = coalesce(u.op, (SELECT ao.amopopr FROM pg_catalog.pg_amop ao \
          WHERE ao.amopfamily = oc.opcfamily AND ao.amopstrategy = 3 AND ao.amoplefttype = oc.opcintype AND ao.amoprighttype = oc.opcintype)) \
        JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace WHERE u.ord <= i.indnkeyatts) e \
    WHERE k.contype IN ('p', 'u', 'x') AND k.condeferrable AND k.conrelid = ";

/// Refuses when a record that was put back stands beside one that must not be there together with it. And what
/// others let wait for the end of the transaction happens now, so that it is seen.
pub(super) async fn check(
    session: &Session,
    staged: &[Staged],
    compared: &[Compared],
) -> Result<(), Trouble> {
    for (one, done) in staged.iter().zip(compared) {
        if done.restored().is_empty() {
            continue;
        }
        for row in ask(session, &format!("{CONSTRAINTS}{}", one.now.oid)).await? {
            let [Some(name), Some(expressions), Some(condition), Some(clash)] = row.as_slice() else {
                return Err(Error::Internal(format!(
                    "a deferrable constraint of {} cannot be looked up",
                    one.now.resource
                ))
                .into());
            };
            let all = |more: &str| {
                format!(
                    "(SELECT ctid AS checkrein_place, {expressions} FROM ONLY {} WHERE ({condition}){more})",
                    one.now.sql()
                )
            };
            // Nobody else can have written to the table since it was locked.
            let twice = format!(
                "SELECT 1 FROM {} a JOIN {} b ON a.checkrein_place <> b.checkrein_place AND {clash} LIMIT 1",
                all(" AND pg_catalog.age(xmin) <= 0"),
                all("")
            );
            if ask_one(session, &twice).await?.is_some() {
                return Err(Error::Irreversible(format!(
                    "a record of {} would come back beside another one that has taken its place since ({name}): remove or change that one first; nothing was changed",
                    one.now.resource
                ))
                .into());
            }
        }
    }
    session.batch_execute("SET CONSTRAINTS ALL IMMEDIATE").await?;
    Ok(())
}
