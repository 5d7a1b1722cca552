//! Whatever a statement does to whatever schema: the images are exactly the difference, and a rollback gives
//! back every byte; as does the rollback of the rollback.

use super::{Shop, model, rows, statement};
use checkrein_targets::{
    Error, How, Selection, UndoOptions,
    snapshot::{Side, Snapshot},
};
use proptest::test_runner::{Config, FileFailurePersistence, TestCaseError, TestRunner};
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

/// Cases of an ordinary run.
const CASES: u32 = 150;

/// Rows by table, each as often as it is there.
type Content = BTreeMap<String, BTreeMap<String, i64>>;

static DONE: AtomicU32 = AtomicU32::new(0);

#[test]
fn every_change_can_be_undone_to_the_byte() {
    let soak: u32 = std::env::var("CHECKREIN_SOAK").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let mut runner = TestRunner::new(Config {
        cases: CASES * soak,
        max_shrink_iters: 300,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(
            "tests/it/postgres/regressions.txt",
        ))),
        ..Config::default()
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let shop = runtime.block_on(Shop::new("create table nothing ()"));
    let number = AtomicU32::new(0);
    let result = runner.run(&model::case(), |case| {
        let name = format!("s{}", number.fetch_add(1, Relaxed));
        runtime.block_on(check(&shop, &name, &case))
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    assert!(DONE.load(Relaxed) > CASES * soak / 3, "too few of the random statements run at all");
}

async fn check(shop: &Shop, schema: &str, case: &model::Case) -> Result<(), TestCaseError> {
    // The target's connections find the tables of this case.
    shop.sql(&format!(
        "create schema {schema}; set search_path = {schema}; alter role postgres in database {} set search_path = {schema}",
        shop.ask("select current_database()").await
    ))
    .await;
    let made = shop.client.batch_execute(&case.schema()).await;
    let result = match made {
        Ok(()) => undone(&shop.fresh().await, schema, case).await,
        // The rows do not fit the keys.
        Err(error) if error.code().is_some_and(|c| c.code().starts_with("23")) => Ok(()),
        Err(error) => Err(TestCaseError::fail(format!("{error:?}\n{}", case.schema()))),
    };
    shop.sql(&format!("drop schema {schema} cascade")).await;
    result.map_err(|error| match error {
        TestCaseError::Fail(reason) => {
            TestCaseError::fail(format!("{reason}\n{}{}", case.schema(), case.statements().join(";\n")))
        }
        other => other,
    })
}

macro_rules! ensure {
    ($condition:expr, $($why:tt)*) => {
        if !$condition {
            return Err(TestCaseError::fail(format!($($why)*)));
        }
    };
}

async fn undone(shop: &Shop, schema: &str, case: &model::Case) -> Result<(), TestCaseError> {
    let fail = |what: &str, error: Error| TestCaseError::fail(format!("{what}: {error:?}"));
    let before = content(shop, schema).await;
    let statements: Vec<_> = case.statements().iter().map(|sql| statement(sql)).collect();
    let counted = match shop.target.count(&Selection::Statements(statements.clone())).await {
        Ok(counted) => Some(counted),
        Err(Error::Unmeasurable(_)) => None,
        Err(error) => return Err(fail("counting", error)),
    };
    ensure!(content(shop, schema).await == before, "counting changed something");
    let mut pending = match shop.target.execute(&statements).await {
        Ok(pending) => pending,
        Err(Error::Statement { code, .. })
            if code.starts_with("23") || code == "27000" || code == "21000" =>
        {
            ensure!(content(shop, schema).await == before, "a statement that failed changed something");
            return Ok(());
        }
        Err(error) => return Err(fail("executing", error)),
    };
    DONE.fetch_add(1, Relaxed);
    let measured = pending.measured().clone();
    let (captured, snapshot) = shop.captured(&mut pending).await;
    pending.commit().await.map_err(|e| TestCaseError::fail(format!("{e:?}")))?;
    let after = content(shop, schema).await;

    // The images are the difference, and nothing but it.
    let images = images(&snapshot).await;
    let mut replayed = before.clone();
    for (table, changes) in &images {
        for (row, n) in changes {
            *replayed.entry(table.clone()).or_default().entry(row.clone()).or_default() += n;
        }
    }
    replayed.values_mut().for_each(|rows| rows.retain(|_, n| *n != 0));
    ensure!(replayed == after, "the images are not the difference:\n{images:?}\n{before:?}\n{after:?}");

    // What was measured is what was captured where it says that it is exact, and never less.
    let sum = |list: &[checkrein_targets::Affected]| list.iter().map(|a| a.records).sum::<u64>();
    let (seen, taken) = (sum(&measured.affected), sum(&captured.affected));
    ensure!(
        seen == taken || (!measured.exact && seen > taken),
        "measured {measured:?}, captured {captured:?}"
    );
    // A count of a plain statement is what then happens.
    if let (Some(counted), [_], true) = (&counted, statements.as_slice(), measured.exact) {
        let only_deletes =
            measured.affected.iter().all(|a| matches!(a.how, How::Delete | How::Cascade | How::Unlink));
        if counted.at_least.is_empty() && only_deletes && !measured.affected.is_empty() {
            ensure!(
                super::affected(&counted.affected) == super::affected(&measured.affected),
                "counted {counted:?}, measured {measured:?}"
            );
            ensure!(counted.refusals.is_empty(), "{counted:?}");
        }
    }

    let (plan, undo) =
        shop.undo(&snapshot, &UndoOptions::default()).await.map_err(|e| fail("rolling back", e))?;
    ensure!(plan.conflict_count == 0, "conflicts: {plan:?}");
    let restored = content(shop, schema).await;
    ensure!(restored == before, "not restored:\n{before:?}\n{restored:?}\n{plan:?}");
    let Some(undo) = undo else {
        ensure!(before == after, "there was something to do: {plan:?}");
        return Ok(());
    };
    let (plan, redo) =
        shop.undo(&undo, &UndoOptions::default()).await.map_err(|e| fail("undoing that", e))?;
    ensure!(content(shop, schema).await == after, "the rollback was not undone: {plan:?}");
    let Some(redo) = redo else { return Err(TestCaseError::fail("nothing to undo")) };
    shop.undo(&redo, &UndoOptions::default()).await.map_err(|e| fail("undoing it again", e))?;
    ensure!(content(shop, schema).await == before, "the rollback of the rollback was not undone");
    Ok(())
}

/// All rows of a schema, in the form of the snapshot.
async fn content(shop: &Shop, schema: &str) -> Content {
    let tables = rows(
        &shop.client,
        &format!(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = '{schema}'::regnamespace"
        ),
    )
    .await;
    let mut content = Content::new();
    for table in tables {
        let mut counts = BTreeMap::new();
        for line in super::copy(&shop.client, &format!("{schema}.{}", table[0])).await {
            *counts.entry(line).or_default() += 1;
        }
        content.insert(table[0].clone(), counts);
    }
    content
}

/// What a snapshot takes away (before) and adds (after), by table.
async fn images(snapshot: &Snapshot) -> Content {
    let tables = snapshot.tables(0).unwrap();
    let mut blocks = snapshot.blocks();
    let mut images = Content::new();
    while let Some(block) = blocks.next().await.unwrap() {
        let table = tables[block.table as usize].shape["name"].as_str().unwrap().to_owned();
        let rows = images.entry(table).or_default();
        for line in String::from_utf8(block.data).unwrap().split_inclusive('\n') {
            let sign = if block.side == Side::Before { -1 } else { 1 };
            *rows.entry(line.to_owned()).or_default() += sign;
        }
    }
    images
}
