//! What each record was, what the action left and what it is now, and what that means.

use super::{
    super::{
        connect::Session,
        schema,
        sql::{ask, ask_one},
        values::Trouble,
    },
    stage::Staged,
};
use crate::{CONFLICTS_SHOWN, Conflict, Plan, stay};
use checkrein_core::rollback::{OnConflict, States, Step};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

// What a record's code says: which of its states exist, and which are alike.
const BEFORE: u8 = 1;
const AFTER: u8 = 2;
const NOW: u8 = 4;
const BEFORE_IS_NOW: u8 = 8;
const AFTER_IS_NOW: u8 = 16;
/// Without a key: an after-image that is not there any more.
const CHANGED: u8 = BEFORE + AFTER;
/// Without a key: one of which it cannot be told whether the record that is like it is the action's.
const UNTOLD: u8 = AFTER + NOW;

/// A table's records by their code, and what is done with each code.
pub(super) struct Compared {
    records: BTreeMap<u8, u64>,
    sealed: bool,
    /// Whether the action was to change these records and to remove none.
    stays: bool,
    on_conflict: OnConflict,
    keyed: bool,
    /// Without a key one record cannot be left out: which other one belongs to it is not known.
    left_alone: bool,
}

/// What a rollback that does no harm does with records of this code: the server compared, the rule decides.
fn step(code: u8, sealed: bool, stays: bool) -> Step {
    stay::step(&states(code, sealed), stays)
}

fn states(code: u8, sealed: bool) -> States<u8> {
    let has = |bit: u8| code & bit != 0;
    States {
        before: has(BEFORE).then_some(u8::from(!has(BEFORE_IS_NOW))),
        after: sealed.then(|| has(AFTER).then_some(if has(AFTER_IS_NOW) { 0 } else { 2 })),
        now: has(NOW).then_some(0),
    }
}

impl Compared {
    /// All records are as the action left them: of `after` that it left, all but `kept` come back as they were, and
    /// the rest of `before` comes back from nothing.
    pub(super) fn as_left(before: u64, after: u64, kept: u64) -> Self {
        let left = BEFORE + AFTER + NOW + AFTER_IS_NOW;
        let codes = [
            (left, after.saturating_sub(kept)),
            (left + BEFORE_IS_NOW, kept),
            (BEFORE, before.saturating_sub(after)),
        ];
        let records = codes.into_iter().filter(|(_, records)| *records > 0).collect();
        Self {
            records,
            sealed: true,
            stays: false,
            on_conflict: OnConflict::Refuse,
            keyed: true,
            left_alone: false,
        }
    }

    /// Each step, what is really done for it, and its number of records.
    pub(super) fn steps(&self) -> impl Iterator<Item = (Step, Step, u64)> {
        let each = |(code, records): (&u8, &u64)| {
            (step(*code, self.sealed, self.stays), self.taken(*code), *records)
        };
        self.records.iter().map(each)
    }

    /// What is really done with records of this code.
    fn taken(&self, code: u8) -> Step {
        match step(code, self.sealed, self.stays) {
            _ if self.left_alone => Step::Keep,
            // Without a key its before-image is another one's, which comes back by itself; there is nothing to remove.
            Step::Conflict(_) if !self.keyed && code == CHANGED => Step::Keep,
            Step::Conflict(_) if self.on_conflict == OnConflict::Force => {
                states(code, self.sealed).overwrite()
            }
            Step::Conflict(_) => Step::Keep,
            step => step,
        }
    }

    fn codes(&self, wanted: impl Fn(Step) -> bool) -> Vec<u8> {
        self.records.keys().copied().filter(|code| wanted(self.taken(*code))).collect()
    }

    /// Codes of which the present record goes away.
    pub(super) fn removed(&self) -> Vec<u8> {
        self.codes(|step| matches!(step, Step::Update | Step::Delete))
    }

    /// Codes of which the old record comes back.
    pub(super) fn restored(&self) -> Vec<u8> {
        self.codes(|step| matches!(step, Step::Update | Step::Insert))
    }

    /// Codes of which both happens.
    pub(super) fn replaced(&self) -> Vec<u8> {
        self.codes(|step| step == Step::Update)
    }

    /// How many records have these codes.
    pub(super) fn number(&self, codes: &[u8]) -> u64 {
        codes.iter().filter_map(|code| self.records.get(code)).sum()
    }

    /// Whether there is nothing to do.
    pub(super) fn nothing(&self) -> bool {
        self.removed().is_empty() && self.restored().is_empty()
    }

    fn in_conflict(&self) -> Vec<u8> {
        let conflict = |code: &u8| matches!(step(*code, self.sealed, self.stays), Step::Conflict(_));
        self.records.keys().copied().filter(conflict).collect()
    }

    /// What a person should know.
    pub(super) fn notes(&self, staged: &Staged) -> Vec<String> {
        let name = &staged.now.resource;
        let mut notes = Vec::new();
        if self.left_alone {
            notes.push(stay::left_alone(name));
        }
        if !self.keyed && self.records.contains_key(&UNTOLD) {
            let why = if staged.left.is_some() {
                "neither as many as the action left nor as many as there were before"
            } else {
                "an unknown number of them, as the snapshot does not say how many there were"
            };
            notes.push(format!(
                "{name} has no key, and of records like those that the action made there are {why}: whether this was rolled back already cannot be told; with `force` they are removed"
            ));
        }
        let gone = |code: &u8| code & NOW == 0 && self.in_conflict().contains(code);
        if !self.left_alone && self.stays && self.records.keys().any(gone) {
            notes.push(stay::note(name));
        }
        notes
    }
}

/// A list of codes for SQL; none where it is empty.
pub(super) fn list(codes: &[u8]) -> String {
    super::super::sql::numbers(codes) + "::int[]"
}

/// Compares and writes down, for each record, its code and where its states are.
pub(super) async fn compare(
    session: &Session,
    staged: &Staged,
    on_conflict: OnConflict,
) -> Result<Compared, Trouble> {
    let select = if staged.keyed { by_key(staged) } else { by_content(staged) };
    let work = staged.work();
    let rows = ask(
        session,
        &format!(
            "CREATE TEMPORARY TABLE {work} ON COMMIT DROP AS {select}; ANALYZE {work}; \
             SELECT code, pg_catalog.count(*) FROM {work} GROUP BY code"
        ),
    )
    .await?;
    let number = |cell: &Option<String>| cell.as_deref().and_then(|n| n.parse::<u64>().ok());
    let records = rows.iter().filter_map(|row| match row.as_slice() {
        [code, records] => Some((u8::try_from(number(code)?).ok()?, number(records)?)),
        _ => None,
    });
    let records: BTreeMap<u8, u64> = records.collect();
    let (sealed, stays, keyed) = (staged.sealed, staged.stays, staged.keyed);
    let mut compared = Compared { records, sealed, stays, on_conflict, keyed, left_alone: false };
    compared.left_alone =
        !staged.keyed && on_conflict != OnConflict::Force && !compared.in_conflict().is_empty();
    Ok(compared)
}

fn by_key(staged: &Staged) -> String {
    let (before, after, now) = (staged.before(), staged.after(), staged.now.sql());
    // The one of the two that exists names the record.
    let terms = staged.now.key.iter().filter_map(|key| {
        let name = super::super::sql::ident(&staged.now.column(key.number)?.name);
        Some(format!("n.{name} {} coalesce(b.{name}, a.{name})", key.equals))
    });
    let here = terms.collect::<Vec<_>>().join(" AND ");
    let same = staged.now.same_key("b", "a");
    // What lies there in the same bytes reads the same; the other way round it may not be so.
    let alike = |one: &str| {
        let row =
            |names: &[&str], alias: &str| format!("ROW({})", schema::list(names.iter().copied(), alias));
        let bytes =
            |names: &[&str]| format!("pg_catalog.record_image_eq({}, {})", row(names, one), row(names, "n"));
        let all: Vec<&str> = staged.columns.iter().map(String::as_str).collect();
        let (plain, others): (Vec<&str>, Vec<&str>) = all.iter().partition(|name| staged.is_plain(name));
        if others.is_empty() {
            return bytes(&all);
        }
        format!(
            "({} OR ({} AND {}::text = {}::text))",
            bytes(&all),
            bytes(&plain),
            row(&others, one),
            row(&others, "n")
        )
    };
    let (b, a) = (alike("b"), alike("a"));
    format!(
        "SELECT (CASE WHEN b.ctid IS NULL THEN 0 ELSE {BEFORE} END) + (CASE WHEN a.ctid IS NULL THEN 0 ELSE {AFTER} END) \
         + (CASE WHEN n.ctid IS NULL THEN 0 ELSE {NOW} + (CASE WHEN b.ctid IS NOT NULL AND {b} THEN {BEFORE_IS_NOW} ELSE 0 END) \
         + (CASE WHEN a.ctid IS NOT NULL AND {a} THEN {AFTER_IS_NOW} ELSE 0 END) END) AS code, \
         b.ctid AS b, a.ctid AS a, n.ctid AS n \
         FROM {before} b FULL JOIN {after} a ON {same} LEFT JOIN ONLY {now} n ON {here}"
    )
}

/// Without a key records are alike or not, and alike ones are counted: what both images have is left out; of
/// the rest, before-images come back and after-images must still be there as often as they were made. What is
/// missing of those somebody changed, if the action changed records here rather than only made some; unless
/// everything already is as it was.
///
/// What is there may also be another record that is like it, and the action's own gone. On its own the server wrote
/// the action's number. On those of savepoints it wrote others: then there must be as many as the action left.
fn by_content(staged: &Staged) -> String {
    let (before, after, now) = (staged.before(), staged.after(), staged.now.sql());
    let numbered = |table: &str, alias: &str, own: &str, condition: &str| {
        let image = staged.image(alias);
        format!(
            "SELECT {alias}.ctid AS place, {image} AS image, {own} AS own, \
             pg_catalog.row_number() OVER (PARTITION BY {image} ORDER BY {own} DESC, {alias}.ctid) AS n FROM {table} {alias}{condition}"
        )
    };
    // Such a number is given again after four thousand million others.
    let is_young = |number: u64| {
        format!(
            "pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::numeric < {number} + 2000000000::numeric"
        )
    };
    let own = staged.made_by.map_or("false".to_owned(), |number| {
        let mark = number & u64::from(u32::MAX);
        format!("(n.xmin = '{mark}'::pg_catalog.xid AND {})", is_young(number))
    });
    let numbers_tell = staged.made_by.filter(|_| staged.all_numbered).map_or("false".to_owned(), is_young);
    let image = staged.image("n");
    let among = format!(
        " WHERE {image} IN (SELECT {i} FROM {before} w UNION ALL SELECT {i} FROM {after} w)",
        i = staged.image("w")
    );
    let with = format!(
        "WITH b AS ({}), a AS ({}), n AS ({})",
        numbered(&before, "b", "false", ""),
        numbered(&after, "a", "false", ""),
        numbered(&format!("ONLY {now}"), "n", &own, &among)
    );
    if !staged.sealed {
        let (same, other) = (BEFORE + NOW + BEFORE_IS_NOW, BEFORE);
        return format!(
            "{with} SELECT CASE WHEN n.place IS NULL THEN {other} ELSE {same} END AS code, \
             b.place AS b, NULL::tid AS a, n.place AS n FROM b LEFT JOIN n ON n.image = b.image AND n.n = b.n"
        );
    }
    let there = AFTER + NOW + AFTER_IS_NOW;
    let restored = BEFORE + NOW + BEFORE_IS_NOW;
    // Everything is as it was when nothing that was made is there, and of what was there as much as then.
    let done = match staged.alike {
        Some(number) => {
            format!("{number} = (SELECT pg_catalog.count(*) FROM n WHERE n.image IN (SELECT image FROM b))")
        }
        None => "EXISTS (SELECT 1 FROM gone) AND NOT EXISTS (SELECT 1 FROM back LEFT JOIN n \
            ON n.image = back.image AND n.n = back.m WHERE n.place IS NULL)"
            .to_owned(),
    };
    // Of what is like an after-image: how many the action added, whether there are as many as without those, and
    // whether there are as many as with them.
    let more = "((SELECT pg_catalog.count(*) FROM a) - (SELECT pg_catalog.count(*) FROM b WHERE b.image IN (SELECT image FROM a)))";
    let missing = "NOT EXISTS (SELECT 1 FROM gone JOIN n ON n.image = gone.image AND n.n = gone.m)";
    let (without, with_them) = match staged.left {
        Some(left) => {
            let now = "(SELECT pg_catalog.count(*) FROM n WHERE n.image IN (SELECT image FROM a))";
            (
                format!("CASE WHEN {more} = 0 THEN {missing} ELSE {now} = {left} - {more} END"),
                format!("{now} = {left}"),
            )
        }
        None => (missing.to_owned(), "EXISTS (SELECT 1 FROM b)".to_owned()),
    };
    format!(
        "{with}, back AS (SELECT b.*, pg_catalog.row_number() OVER (PARTITION BY b.image ORDER BY b.place) AS m \
           FROM b LEFT JOIN a ON a.image = b.image AND a.n = b.n WHERE a.place IS NULL), \
         gone AS (SELECT a.*, pg_catalog.row_number() OVER (PARTITION BY a.image ORDER BY a.place) AS m \
           FROM a LEFT JOIN b ON b.image = a.image AND b.n = a.n WHERE b.place IS NULL), \
         done AS (SELECT {done} AND {without} AS done, NOT {numbers_tell} AND {with_them} AS as_left) \
         SELECT CASE WHEN done THEN {restored} ELSE {BEFORE} END AS code, back.place AS b, NULL::tid AS a, NULL::tid AS n FROM back, done \
         UNION ALL SELECT CASE WHEN done THEN {AFTER} WHEN n.own OR n.place IS NOT NULL AND as_left THEN {there} \
             WHEN n.place IS NOT NULL THEN {UNTOLD} WHEN EXISTS (SELECT 1 FROM back) THEN {CHANGED} ELSE {AFTER} END, \
           NULL, gone.place, n.place FROM done, gone LEFT JOIN n ON n.image = gone.image AND n.n = gone.m"
    )
}

/// Takes records in conflict into the digest of the plan, and shows some, until there are [`CONFLICTS_SHOWN`].
pub(super) async fn conflicts(
    session: &Session,
    staged: &Staged,
    compared: &Compared,
    plan: &mut Plan,
) -> Result<(), Trouble> {
    let codes = compared.in_conflict();
    if codes.is_empty() {
        return Ok(());
    }
    let from = format!(
        "FROM {} w LEFT JOIN {} b ON b.ctid = w.b LEFT JOIN {} a ON a.ctid = w.a \
         LEFT JOIN ONLY {} n ON n.ctid = w.n WHERE w.code = ANY ({})",
        staged.work(),
        staged.before(),
        staged.after(),
        staged.now.sql(),
        list(&codes)
    );
    // The server digests what nobody is shown: a few bytes a record there, and a line for us.
    let each = format!(
        "pg_catalog.sha256(pg_catalog.convert_to(ROW(w.code, {}, {}, {})::text, pg_catalog.getdatabaseencoding()))",
        staged.image("b"),
        staged.image("a"),
        staged.image("n")
    );
    let digest = ask_one(
        session,
        &format!(
            "SELECT pg_catalog.encode(pg_catalog.sha256(pg_catalog.string_agg(d, ''::bytea ORDER BY d)), 'hex') \
             FROM (SELECT {each} AS d {from}) AS digests"
        ),
    )
    .await?;
    plan.take_in(&[Some(staged.now.resource.as_bytes()), digest.as_deref().map(str::as_bytes)]);
    let shown = &mut plan.conflicts;
    let room = CONFLICTS_SHOWN.saturating_sub(shown.len());
    if room == 0 {
        return Ok(());
    }
    let columns = |alias: &str| {
        staged
            .columns
            .iter()
            .map(|c| c.as_str())
            .map(|c| format!("{alias}.{}", super::super::sql::ident(c)))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let parts: Vec<String> =
        ["b", "a", "n"].iter().map(|alias| columns(alias)).filter(|list| !list.is_empty()).collect();
    let more = if parts.is_empty() { String::new() } else { format!(", {}", parts.join(", ")) };
    let select = format!(
        "SELECT w.code, b.ctid IS NOT NULL, a.ctid IS NOT NULL, n.ctid IS NOT NULL{more} {from} \
         ORDER BY w.b, w.a LIMIT {room}"
    );
    for row in ask(session, &select).await? {
        let mut cells = row.into_iter();
        let code = cells.next().flatten().and_then(|code| code.parse().ok()).unwrap_or(0);
        let there: Vec<bool> = cells.by_ref().take(3).map(|cell| cell.as_deref() == Some("t")).collect();
        let mut records = there.into_iter().map(|there| {
            let record: Map<String, Value> = staged
                .columns
                .iter()
                .map(|name| (name.clone(), cells.next().flatten().map_or(Value::Null, Value::String)))
                .collect();
            there.then_some(record)
        });
        let (before, after, now) =
            (records.next().flatten(), records.next().flatten(), records.next().flatten());
        drop(records);
        let Step::Conflict(kind) = step(code, compared.sealed, compared.stays) else { continue };
        let whole = before.as_ref().or(after.as_ref()).or(now.as_ref()).cloned().unwrap_or_default();
        let key = if staged.keyed {
            let names: Vec<&str> = staged.now.key_names().collect();
            whole.into_iter().filter(|(name, _)| names.contains(&name.as_str())).collect()
        } else {
            whole
        };
        shown.push(Conflict { resource: staged.now.resource.clone(), key, kind, before, after, now });
    }
    Ok(())
}
