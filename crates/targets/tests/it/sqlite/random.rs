//! Any schema, any statements: what was measured is the true difference, and the rollback brings every bit
//! back.

use super::{
    harness::{Fixture, statement},
    recipe::{Case, Recipe},
};
use checkrein_targets::{Affected, Counted, How, Selection, Settled};
use proptest::{
    collection::vec,
    prelude::any,
    test_runner::{Config, FileFailurePersistence, TestCaseError, TestRunner},
};
use rusqlite::{Connection, types::Value};
use std::collections::BTreeMap;

/// Every record by table and key.
type State = BTreeMap<(String, Vec<String>), Vec<String>>;

fn state(db: &Connection) -> State {
    let mut names = db
        .prepare("SELECT name, wr FROM pragma_table_list WHERE schema = 'main' AND type = 'table'")
        .unwrap();
    let tables: Vec<(String, bool)> =
        names.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect();
    let mut state = State::new();
    for (table, without) in tables.into_iter().filter(|(name, _)| !name.starts_with("sqlite_")) {
        let quoted = table.replace('"', "\"\"");
        let mut key = db.prepare("SELECT name FROM pragma_table_xinfo(?1) WHERE pk > 0 ORDER BY pk").unwrap();
        let key: Vec<String> =
            key.query_map([&table], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        let key = if without { key.join(", ") } else { "rowid".to_owned() };
        let keys = if without { key.split(", ").count() } else { 1 };
        let mut rows = db.prepare(&format!("SELECT {key}, * FROM \"{quoted}\"")).unwrap();
        let columns = rows.column_count();
        let mut rows = rows.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let cell = |c: usize| match row.get_ref(c).unwrap() {
                rusqlite::types::ValueRef::Real(r) => format!("{:x}", r.to_bits()),
                rusqlite::types::ValueRef::Text(t) => format!("{t:x?}"),
                other => format!("{:?}", Value::try_from(other).unwrap()),
            };
            let id = (table.clone(), (0..keys).map(cell).collect());
            state.insert(id, (keys..columns).map(cell).collect());
        }
    }
    state
}

/// Inserted, updated, deleted by table.
type Numbers = BTreeMap<String, (u64, u64, u64)>;

fn true_difference(before: &State, after: &State) -> Numbers {
    let mut numbers = Numbers::new();
    for (key, row) in after {
        match before.get(key) {
            None => numbers.entry(key.0.clone()).or_default().0 += 1,
            Some(old) if old != row => numbers.entry(key.0.clone()).or_default().1 += 1,
            Some(_) => {}
        }
    }
    for key in before.keys().filter(|key| !after.contains_key(*key)) {
        numbers.entry(key.0.clone()).or_default().2 += 1;
    }
    numbers
}

fn numbers(affected: &[Affected]) -> Numbers {
    let mut numbers = Numbers::new();
    for a in affected {
        let entry = numbers.entry(a.resource.clone()).or_default();
        match a.how {
            How::Insert => entry.0 += a.records,
            How::Update | How::Unlink => entry.1 += a.records,
            How::Delete | How::Cascade => entry.2 += a.records,
            How::Read => panic!("a write was measured as a read"),
        }
    }
    numbers
}

/// A count that calls itself exact is never too small, and is right about what is deleted.
fn compare(counted: &Counted, measured: &[Affected]) {
    if !counted.at_least.is_empty() {
        return;
    }
    assert_eq!(counted.refusals, Vec::<String>::new(), "it was done all the same");
    let (before, after) = (numbers(&counted.affected), numbers(measured));
    for (table, (inserted, updated, deleted)) in after {
        let counted = before.get(&table).copied().unwrap_or_default();
        // An update that changes a record's key is counted as one and measured as one gone and one that is new.
        let moved = inserted.min(deleted).min(counted.1);
        assert!(counted.0 + moved >= inserted, "{table}: {inserted} inserted, {} counted", counted.0);
        assert!(
            counted.0 > inserted || (counted.2 <= deleted && counted.2 + moved >= deleted),
            "{table}: {deleted} deleted, {} counted",
            counted.2
        );
        assert!(counted.1 + counted.0 >= updated, "{table}: {updated} updated, {} counted", counted.1);
    }
}

/// SQLite itself leaves references behind when a column refers to one of another affinity: its cascade does not
/// find them. A rollback into such a state is refused, so such a case ends there.
fn is_broken(db: &Connection) -> bool {
    db.prepare("PRAGMA foreign_key_check").unwrap().exists([]).unwrap()
}

/// How many of the transactions took place.
async fn check(case: &Case) -> Result<usize, TestCaseError> {
    let file = Fixture::new(case.mode, "");
    {
        let db = file.other();
        db.pragma_update(None, "foreign_keys", true).unwrap();
        for sql in case.schema.iter().chain(&case.rows) {
            // A random table may be nonsense, and a random row may be refused.
            let _may_fail = db.execute_batch(sql);
        }
    }
    let mut done = Vec::new();
    if is_broken(&file.other()) {
        return Ok(0);
    }
    for transaction in &case.transactions {
        let (dump, before) = (file.dump(), state(&file.other()));
        let statements: Vec<_> = transaction.iter().map(|sql| statement(sql)).collect();
        let counted = file.target.count(&Selection::Statements(statements.clone())).await;
        assert_eq!(file.dump(), dump, "counting changes nothing");
        let Ok(ran) = file.try_run(&statements).await else {
            assert_eq!(file.dump(), dump, "an error means that nothing was changed");
            continue;
        };
        if let Ok(counted) = counted {
            compare(&counted, &ran.measured.affected);
        }
        let truth = true_difference(&before, &state(&file.other()));
        assert_eq!(numbers(&ran.measured.affected), truth, "measured");
        assert_eq!(ran.measured.affected, ran.captured.affected, "captured");
        assert_eq!(file.target.resolve(&ran.token, &ran.snapshot).await.unwrap(), Settled::Committed);
        if is_broken(&file.other()) {
            return Ok(done.len());
        }
        done.push((dump, ran));
    }
    let transactions = done.len();
    let mut undos = Vec::new();
    for (dump, ran) in done.iter().rev() {
        let after = file.dump();
        if *dump == after {
            continue;
        }
        undos.push((after, file.undo(&ran.snapshot).await));
        assert_eq!(&file.dump(), dump, "rolled back");
        if ran.measured.records() > 0 {
            let settled = file.target.resolve(&ran.token, &ran.snapshot).await.unwrap();
            assert_eq!(settled, Settled::NotCommitted);
        }
    }
    for (after, undo) in undos.iter().rev() {
        file.undo(undo).await;
        assert_eq!(&file.dump(), after, "the rollback rolled back");
    }
    let integrity: String = file.other().query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(integrity, "ok");
    Ok(transactions)
}

#[test]
fn any_statement_on_any_schema_is_measured_and_undone() {
    let soak = std::env::var("CHECKREIN_SOAK").ok().and_then(|n| n.parse().ok()).unwrap_or(1_u32);
    let cases = 300 * soak.max(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let done = std::cell::Cell::new(0);
    let kept = FileFailurePersistence::Direct("tests/it/sqlite/random.regressions");
    let config = Config {
        cases,
        max_shrink_iters: 400,
        failure_persistence: Some(Box::new(kept)),
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    let result = runner.run(&vec(any::<u8>(), 0..400), |bytes| {
        let case = Recipe::new(&bytes).case();
        let outcome =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(check(&case))));
        match outcome {
            Ok(number) => {
                done.set(done.get() + number?);
                Ok(())
            }
            Err(panic) => {
                let why = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                Err(TestCaseError::fail(format!("{why}\n{case:#?}")))
            }
        }
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    // Refused statements prove little: most must have taken place.
    assert!(done.get() > cases as usize, "only {} transactions took place", done.get());
}
