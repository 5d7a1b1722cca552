//! Guarded execution: what a statement may touch is found and locked, it runs, and nothing is believed that
//! does not add up to the number of rows that InnoDB itself says were changed.

use super::{
    compare::{Outside, tally},
    connect::{Db, Purpose, Session},
    effects,
    footprint::{Before, Footprint, Seen, keys_of, look, look_again},
    measure::rows_modified,
    open::{Open, Proof},
    result,
    schema::{Action, Column, Schema, Table, get, literal, quote},
    sql::{NewRows, Parsed, Work},
    value::Image,
    walk::{Fate, Walk, Watch, consequence},
};
use crate::{Affected, Error, How, Measured, Pending, ResultSet, Statement};
use std::{collections::HashSet, sync::Arc};

/// Runs the statements; the transaction stays open.
pub(super) async fn execute(db: &Arc<Db>, statements: &[Statement]) -> Result<Box<dyn Pending>, Error> {
    // Whatever cannot be understood is refused before anything runs.
    let parsed = statements.iter().map(Parsed::read).collect::<Result<Vec<_>, _>>()?;
    db.within(Purpose::Execute, async {
        let mut run = Run {
            db: Arc::clone(db),
            session: db.begin(Purpose::Execute).await?,
            schema: Schema::default(),
            found: Footprint::default(),
            changed: Vec::new(),
            triggers: false,
            several: parsed.len() > 1,
            often: false,
        };
        let mut results = Vec::with_capacity(parsed.len());
        for statement in &parsed {
            results.push(run.statement(statement).await?);
        }
        run.finish(results, statements).await
    })
    .await
}

/// What one statement is known to have changed.
struct Changed {
    resource: String,
    how: How,
    /// As the server says.
    rows: u64,
    /// Whether nothing but the statement's own tables can have changed, so that this is all.
    alone: bool,
    /// Whether it changed as many records as were found for it.
    agrees: bool,
    /// Whether it is proved that every record that it changed itself was found: the server says of each, the whole
    /// table was compared, or as many of those found are not what they were as it says that it changed.
    covered: bool,
}

struct Run {
    db: Arc<Db>,
    session: Session,
    schema: Schema,
    found: Footprint,
    changed: Vec<Changed>,
    /// Whether triggers may have fired.
    triggers: bool,
    several: bool,
    /// Whether something can change a record any number of times: all of it is found then by other means.
    often: bool,
}

/// What is known of a statement before it runs.
struct Plan {
    sql: String,
    params: Vec<mysql_async::Value>,
    /// Columns that were added to what it returns.
    own: usize,
    watch: Vec<Watch>,
}

impl Run {
    async fn statement(&mut self, parsed: &Parsed) -> Result<ResultSet, Error> {
        self.no_views(parsed).await?;
        match &parsed.work {
            Work::Read => {
                let (sql, params) = parsed.bind(&parsed.sql)?;
                Ok(result::run(&mut self.session, &self.db, &sql, params, 0).await?.set)
            }
            Work::Update(change) | Work::Delete(change) => {
                let deletes = matches!(parsed.work, Work::Delete(_));
                let mut walk =
                    Walk::new(&self.db, &mut self.session, &mut self.schema, &mut self.found, true);
                // What a later statement finds may be the work of an earlier one.
                walk.keep = self.changed.is_empty();
                walk.several = self.several;
                let again = walk.found.again;
                let named = walk.change(parsed, change, deletes).await?;
                let targets = walk.targets(change, deletes).await?;
                let cascaded = targets.iter().any(|(_, t, _)| walk.cascaded.contains(&t.id()));
                let prove = self.several || !walk.triggers.is_empty() || walk.found.again > again;
                let records = walk.named;
                let watch: Vec<Watch> = walk.watch.into_values().collect();
                let mut alone = walk.triggers.is_empty();
                self.triggers |= !alone;
                let whole = targets.iter().all(|(_, t, _)| watch.iter().any(|w| w.table.id() == t.id()));
                for (_, table, fate) in &targets {
                    let list = self.schema.children(table)?;
                    alone &= !list
                        .iter()
                        .any(|f| consequence(table, f, fate).is_some_and(|a| a != Action::Restrict));
                    // A changed key is a deletion and an insertion to InnoDB.
                    alone &= match fate {
                        Fate::Deleted => true,
                        Fate::Changed(c) => !table.keyed || !c.iter().any(|c| table.in_key(c)),
                    };
                }
                let (sql, params) = parsed.bind(&parsed.sql)?;
                let plan = Plan { sql, params, own: 0, watch };
                let answer = self.run(plan).await?;
                let seen = if deletes { answer.set.affected } else { answer.matched.unwrap_or(u64::MAX) };
                let rows = answer.set.affected;
                let proved = !whole && !cascaded && prove && self.changed(&records, deletes).await? == rows;
                let how = if deletes { How::Delete } else { How::Update };
                let single = if let [(_, table, _)] = targets.as_slice() { Some(table) } else { None };
                self.changed.push(Changed {
                    resource: single.map(|t| t.resource.clone()).unwrap_or_default(),
                    how,
                    rows,
                    alone,
                    agrees: whole || seen == named,
                    covered: whole || proved,
                });
                Ok(answer.set)
            }
            Work::Insert(new) => self.insert(parsed, new).await,
        }
    }

    /// How many of these records are gone, or not what they were.
    async fn changed(&self, records: &[super::walk::Hashed], deletes: bool) -> Result<u64, Error> {
        let mut outside = Outside::of(&self.db, &self.session);
        let mut changed = 0;
        for (table, records) in records {
            for part in records.chunks(4096) {
                let keys: Vec<&Image> = part.iter().map(|(key, _)| key).collect();
                let now = outside.latest(table, &keys).await?;
                for (key, was) in part {
                    let is = now.get(key);
                    let differs = is.is_none_or(|(row, _)| !deletes && blake3::hash(row) != *was);
                    changed += u64::from(differs);
                }
            }
        }
        Ok(changed)
    }

    /// A view may call functions of its owner's, which may write where no rollback reaches.
    async fn no_views(&mut self, parsed: &Parsed) -> Result<(), Error> {
        if parsed.relations.len() < 2 {
            return Ok(());
        }
        let schema = |s: &Option<String>| literal(s.as_deref().unwrap_or(&self.db.database));
        let names: Vec<String> =
            parsed.relations.iter().map(|(s, t)| format!("({}, {})", schema(s), literal(t))).collect();
        let sql = format!(
            "SELECT TABLE_NAME FROM information_schema.TABLES \
             WHERE TABLE_TYPE = 'VIEW' AND (TABLE_SCHEMA, TABLE_NAME) IN ({})",
            names.join(", ")
        );
        let sets = self.session.several(&sql).await?;
        let Some(view) = sets.first().and_then(|rows| rows.first()) else { return Ok(()) };
        Err(Error::Unmeasurable(format!(
            "it names the view {}, of which nobody knows what its functions do; name the tables that it is made of instead",
            get::<String>(view, 0)?
        )))
    }

    async fn insert(&mut self, parsed: &Parsed, new: &NewRows) -> Result<ResultSet, Error> {
        let mut walk = Walk::new(&self.db, &mut self.session, &mut self.schema, &mut self.found, true);
        let table = walk.table(&new.table).await?;
        let children = walk.schema.children(&table)?;
        let mut events = vec!["INSERT"];
        let mut risky = false;
        if let Some(columns) = &new.updates {
            events.push("UPDATE");
            let refers = |c: &String| {
                let follows = |(_, p): &(String, String)| p.eq_ignore_ascii_case(c);
                children.iter().any(|f| f.on_update != Action::Restrict && f.columns.iter().any(follows))
            };
            let by_triggers = effects::assigned(&table.triggers);
            risky |= !table.keyed || columns.iter().chain(&by_triggers).any(|c| table.in_key(c) || refers(c));
        }
        if new.replace {
            events.extend(["UPDATE", "DELETE"]);
            risky |= !table.keyed || !table.uniques.is_empty() || !children.is_empty();
        }
        let returning = walk.session.returning;
        let look = if returning { None } else { look_up(new, &table) };
        risky |= !returning && (look.is_none() || (!table.uniques.is_empty() && events.len() > 1));
        if risky {
            walk.anything(&table).await?;
        } else {
            walk.fire(&table, &events).await?;
        }
        let (watch, triggers) = (walk.watch.into_values().collect(), !walk.triggers.is_empty());
        self.triggers |= triggers;
        let mut text = parsed.sql.clone();
        let own = if returning { table.key.len() } else { 0 };
        if returning {
            text.push_str(if new.returning { ", " } else { " RETURNING " });
            text.push_str(&table.key_list(""));
        }
        let (sql, params) = parsed.bind(&text)?;
        let mut answer = self.run(Plan { sql, params, own, watch }).await?;
        if let Some(look) = look {
            let first = self.session.conn.last_insert_id().unwrap_or(0);
            let (sql, params) = parsed.bind(&look.replace("{first}", &first.to_string()))?;
            let own = &mut answer.own;
            keys_of(&mut self.session, &sql, params, |key| {
                own.push(key);
                Ok(())
            })
            .await?;
        }
        if new.replace && table.keyed {
            self.replaced(&table, &answer.own).await?;
        }
        let rows = answer.set.affected;
        let found = answer.own.len() as u64;
        let twice = new.replace || new.updates.is_some();
        self.often |= twice;
        for key in answer.own {
            let absent = returning && table.keyed && !twice && self.changed.is_empty();
            let before = if absent { Before::Absent } else { Before::Unknown };
            self.found.add(&table, key, How::Insert, before)?;
        }
        self.changed.push(Changed {
            resource: table.resource.clone(),
            how: How::Insert,
            rows,
            alone: !triggers && !twice,
            agrees: risky || found >= rows,
            covered: risky || returning || (!twice && found == rows),
        });
        Ok(answer.set)
    }

    /// What stood under these keys and is replaced may spell its own in another way, which is the same to the server:
    /// `K1` and `k1`. To us it is another record.
    async fn replaced(&mut self, table: &Arc<Table>, keys: &[Image]) -> Result<(), Error> {
        if table.key_columns().all(Column::is_whole) {
            return Ok(());
        }
        let stood = Outside::of(&self.db, &self.session).committed(table, keys).await?;
        let keys: HashSet<&Image> = keys.iter().collect();
        for key in stood.into_keys().filter(|key| !keys.contains(key)) {
            if self.found.add(table, key, How::Delete, Before::Unknown)? {
                self.found.spelled += 1;
            }
        }
        Ok(())
    }

    async fn run(&mut self, plan: Plan) -> Result<result::Answer, Error> {
        let mut before: Vec<(Watch, Seen)> = Vec::with_capacity(plan.watch.len());
        let mut outside = Outside::of(&self.db, &self.session);
        for watch in plan.watch {
            self.often |= !watch.appended;
            let seen = look(&mut self.session, &mut outside, &watch).await?;
            before.push((watch, seen));
        }
        let answer = result::run(&mut self.session, &self.db, &plan.sql, plan.params, plan.own).await?;
        for (watch, was) in &before {
            let how = if watch.cascade { How::Cascade } else { How::Update };
            for key in look_again(&mut self.session, &mut outside, watch, was).await? {
                self.found.add(&watch.table, key, how, Before::Unknown)?;
            }
        }
        Ok(answer)
    }

    /// Adds up what was changed, and refuses what does not.
    async fn finish(
        mut self,
        results: Vec<ResultSet>,
        statements: &[Statement],
    ) -> Result<Box<dyn Pending>, Error> {
        let alone = self.changed.iter().all(|c| c.alone);
        let rows = if alone {
            self.changed.iter().map(|c| c.rows).sum()
        } else {
            rows_modified(&mut self.session).await?
        };
        let surplus = match self.changed.iter().all(|c| c.covered) {
            false => 0,
            true if self.often => u64::MAX,
            // Changed there and back, a record is none that was changed.
            true => self.found.again.saturating_mul(2),
        };
        let proof = Proof { rows, surplus, spelled: self.found.spelled };
        let measured = match self.changed.as_slice() {
            [] => Measured { affected: Vec::new(), exact: true },
            // The server's own number for the only table that can have changed.
            [one] if alone && one.agrees && !one.resource.is_empty() => {
                let one = Affected { resource: one.resource.clone(), how: one.how, records: rows };
                Measured { affected: if rows == 0 { Vec::new() } else { vec![one] }, exact: true }
            }
            _ => {
                let tally = tally(&self.session, &self.db, &self.found).await?;
                proof.check(&tally)?;
                Measured { exact: true, affected: tally.affected() }
            }
        };
        let open =
            Open::new(self.db, self.session, self.found, proof, measured, results, statements.to_vec());
        Ok(Box::new(if self.triggers { open } else { open.plain() }))
    }
}

/// A query for the keys of what was inserted, for servers without INSERT … RETURNING; `{first}` is the first
/// value that AUTO_INCREMENT gave. Rows that others inserted and committed meanwhile may be among them: those are
/// found not to differ.
fn look_up(new: &NewRows, table: &Table) -> Option<String> {
    let given = |name: &str| new.columns.iter().position(|c| c.eq_ignore_ascii_case(name));
    let select = format!("SELECT {} FROM {} AS t WHERE ", table.key_list("t"), table.sql());
    if let Some(auto) = table.key_columns().find(|c| c.auto)
        && !new.columns.is_empty()
        && given(&auto.name).is_none()
    {
        return Some(format!("{select}t.{} >= {{first}}", quote(&auto.name)));
    }
    let rows = new.rows.as_ref()?;
    let places: Vec<(&str, usize)> = table
        .key_columns()
        .map(|c| Some((c.name.as_str(), given(&c.name)?)))
        .collect::<Option<_>>()
        .filter(|_| table.keyed)?;
    let row = |values: &Vec<String>| {
        let parts: Option<Vec<_>> = places
            .iter()
            .map(|(name, place)| Some(format!("t.{} = ({})", quote(name), values.get(*place)?)))
            .collect();
        Some(format!("({})", parts?.join(" AND ")))
    };
    let rows: Option<Vec<_>> = rows.iter().map(row).collect();
    Some(select + &rows?.join(" OR "))
}
