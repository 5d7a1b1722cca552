//! Whatever the tables and the statement: either it is refused and nothing has changed, or it is measured,
//! captured, and rolled back to the last bit; and that can be rolled back too.

use super::common::{Shop, statement};
use checkrein_core::rollback::OnConflict;
use checkrein_targets::{Affected, Error, Settled};
use checkrein_testbed::servers::mariadb::is_mysql;
use proptest::{
    collection::vec,
    prelude::any,
    test_runner::{Config, TestCaseError, TestError, TestRunner},
};
use std::sync::atomic::{AtomicU64, Ordering};

/// Choices, taken one after the other from what proptest gives; zeros once that is used up, so that
/// shrinking leads to something simple.
struct Dice(std::vec::IntoIter<u16>);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        usize::from(self.0.next().unwrap_or(0)) % most
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) >= 100 - percent
    }
}

/// What is known of a table that was made up.
#[derive(Clone, Debug)]
struct Made {
    name: String,
    /// `id` alone is the key.
    simple: bool,
    refers: bool,
    unique: bool,
}

const TEXTS: [&str; 8] = ["'a'", "'A'", "'b '", "''", "'é'", "NULL", "'long text'", "'o''x'"];
const ACTIONS: [&str; 4] = ["RESTRICT", "CASCADE", "SET NULL", "NO ACTION"];

fn schema(dice: &mut Dice) -> (Vec<Made>, Vec<String>) {
    let (mut tables, mut sql) = (Vec::<Made>::new(), Vec::new());
    let count = 2 + dice.below(3);
    for number in 0..count {
        let name = format!("t{number}");
        let key = dice.below(5);
        let partitioned = dice.chance(15);
        let mut parts = vec![
            "id INT NOT NULL".to_owned(),
            "k VARCHAR(9) CHARACTER SET latin1 NOT NULL DEFAULT 'k'".to_owned(),
        ];
        let simple = matches!(key, 0..=2);
        parts.push(match key {
            0..=2 => "PRIMARY KEY (id)".to_owned(),
            3 => "PRIMARY KEY (k, id)".to_owned(),
            _ => "KEY (id)".to_owned(),
        });
        if key == 1 {
            parts[0].push_str(" AUTO_INCREMENT");
        }
        parts.push("v INT".into());
        parts.push(format!(
            "s VARCHAR(12) CHARACTER SET {}",
            dice.one(&["utf8mb4", "latin1", "utf16", "utf8mb4 COLLATE utf8mb4_bin"])
        ));
        parts.push(
            dice.one(&[
                "x FLOAT",
                "x DECIMAL(12,4)",
                "x DOUBLE",
                "x TIME(3)",
                "x BIT(9)",
                "x ENUM('1','2','3')",
            ])
            .into(),
        );
        let unique = !partitioned && dice.chance(35);
        if unique {
            parts.push("u INT, UNIQUE (u)".into());
        }
        if dice.chance(30) {
            parts.push("g INT AS (v + 1) STORED".into());
        }
        if dice.chance(30) {
            parts.push("h INT AS (v * 3) VIRTUAL".into());
        }
        if dice.chance(30) {
            parts.push("at TIMESTAMP(6) NULL DEFAULT '2001-02-03' ON UPDATE CURRENT_TIMESTAMP(6)".into());
        }
        // To a table before, or to itself.
        let parents: Vec<String> = tables.iter().filter(|t| t.simple).map(|t| t.name.clone()).collect();
        let mut refers = false;
        if !partitioned && dice.chance(75) {
            let itself = simple && (parents.is_empty() || dice.chance(30));
            let parent = if itself {
                Some(name.clone())
            } else if parents.is_empty() {
                None
            } else {
                Some(parents[dice.below(parents.len())].clone())
            };
            if let Some(parent) = parent {
                refers = true;
                parts.push("r INT".into());
                parts.push(format!(
                    "FOREIGN KEY (r) REFERENCES {parent}(id) ON DELETE {} ON UPDATE {}",
                    dice.one(&ACTIONS),
                    dice.one(&ACTIONS)
                ));
            }
        }
        let partition = if partitioned { " PARTITION BY HASH(id) PARTITIONS 3" } else { "" };
        sql.push(format!("CREATE TABLE {name}({}){partition}", parts.join(", ")));
        let rows = 2 + dice.below(5);
        for row in 1..=rows {
            let mut columns = vec!["id", "k", "v", "s", "x"];
            let mut values = vec![
                row.to_string(),
                format!("'k{}'", row % 3),
                dice.below(4).to_string(),
                dice.one(&TEXTS).to_owned(),
                (1 + dice.below(3)).to_string(),
            ];
            if unique {
                columns.push("u");
                values.push(if dice.chance(20) { "NULL".into() } else { row.to_string() });
            }
            if refers {
                columns.push("r");
                // IGNORE drops what refers to nothing.
                values.push(if dice.chance(25) {
                    "NULL".into()
                } else {
                    (1 + dice.below(row.min(4))).to_string()
                });
            }
            sql.push(format!(
                "INSERT IGNORE INTO {name}({}) VALUES ({})",
                columns.join(", "),
                values.join(", ")
            ));
        }
        // Partitioned tables can neither refer nor be referred to.
        tables.push(Made { name, simple: simple && !partitioned, refers, unique });
    }
    sql.push("CREATE TABLE log(n INT PRIMARY KEY AUTO_INCREMENT, what VARCHAR(9), id INT)".into());
    sql.push("CREATE TABLE sums(id INT PRIMARY KEY, n INT)".into());
    sql.push("INSERT INTO sums VALUES (1, 0), (2, 0)".into());
    for table in &tables {
        if dice.chance(30) {
            let event = dice.one(&["INSERT", "UPDATE", "DELETE"]);
            let row = if event == "DELETE" { "OLD" } else { "NEW" };
            let body = dice.one(&["INSERT INTO log(what, id) VALUES ('x', @.id)", "UPDATE sums SET n = n + 1 WHERE id = 1 + @.id % 2", "BEGIN INSERT INTO log(what, id) VALUES ('y', @.v); UPDATE sums SET n = @.id; DELETE FROM log WHERE id = 3; END"]);
            sql.push(format!(
                "CREATE TRIGGER {}_{event} AFTER {event} ON {} FOR EACH ROW {}",
                table.name,
                table.name,
                body.replace('@', row)
            ));
        }
    }
    if dice.chance(25) {
        // It keeps out of a rollback, or what is put back would be changed again.
        let name = &tables[dice.below(tables.len())].name;
        let set =
            dice.one(&["NEW.s = 'trigger'", "NEW.v = OLD.v + 1", "NEW.id = OLD.id + 200", "NEW.k = 'tr'"]);
        sql.push(format!("CREATE TRIGGER {name}_b BEFORE UPDATE ON {name} FOR EACH ROW BEGIN IF @checkrein_rollback IS NULL THEN SET {set}; END IF; END"));
    }
    (tables, sql)
}

fn change(dice: &mut Dice, tables: &[Made]) -> String {
    let table = tables[dice.below(tables.len())].clone();
    let other = tables[dice.below(tables.len())].clone();
    let name = &table.name;
    let n = dice.below(6);
    let condition = match dice.below(7) {
        0 => String::new(),
        1 => format!(" WHERE id = {n}"),
        2 => format!(" WHERE v < {n}"),
        3 => format!(
            " WHERE id IN (SELECT id FROM {} WHERE v >= {n})",
            if other.name == *name { "sums" } else { &other.name }
        ),
        4 => format!(" WHERE s = {} OR id > {n}", dice.one(&TEXTS)),
        5 => format!(" WHERE k = 'K1' ORDER BY id, k LIMIT {}", 1 + n),
        _ => format!(" ORDER BY id DESC, k LIMIT {}", 1 + n),
    };
    match dice.below(14) {
        0 | 1 => format!("DELETE FROM {name}{condition}"),
        2 => format!("UPDATE {name} SET v = v + {n}{condition}"),
        3 => format!("UPDATE {name} SET s = {}, x = 2{condition}", dice.one(&TEXTS)),
        4 => format!(
            "UPDATE {name} SET id = id + {}{}",
            100 + n,
            if condition.contains("SELECT") { "" } else { &condition }
        ),
        5 => format!("UPDATE {name} SET k = UPPER(k){condition}"),
        6 if table.unique => format!("UPDATE {name} SET u = -u{condition}"),
        6 | 7 if table.refers => {
            format!("UPDATE {name} SET r = {}{condition}", dice.one(&["NULL", "1", "2", "id"]))
        }
        6 | 7 => format!("UPDATE {name} SET v = {n}, k = 'z'{condition}"),
        8 => format!(
            "INSERT INTO {name}(id, k, v, s) VALUES ({}, 'n', {n}, {}), ({}, 'm', 1, NULL)",
            50 + n,
            dice.one(&TEXTS),
            60 + n
        ),
        9 => format!(
            "INSERT INTO {name}(id, k, v, s) SELECT id + 70, k, v, s FROM {} WHERE v <= {n}",
            other.name
        ),
        10 => {
            format!("INSERT INTO {name}(id, k, v) VALUES ({n}, 'k1', 7) ON DUPLICATE KEY UPDATE v = v + 10")
        }
        11 => format!("REPLACE INTO {name}(id, k, v) VALUES ({n}, 'k1', 9), ({}, 'k2', 3)", n + 1),
        12 => format!(
            "UPDATE {name} a JOIN {} b ON a.id = b.id SET a.v = b.v + 1, a.s = {}",
            other.name,
            dice.one(&TEXTS)
        ),
        _ => format!("DELETE a FROM {name} a JOIN {} b ON a.id = b.v", other.name),
    }
}

static RAN: AtomicU64 = AtomicU64::new(0);
static REFUSED: AtomicU64 = AtomicU64::new(0);

fn sorted(affected: &[Affected]) -> Vec<Affected> {
    let mut list = affected.to_vec();
    list.sort_by(|a, b| (&a.resource, a.how).cmp(&(&b.resource, b.how)));
    list
}

async fn case(choices: Vec<u16>) -> Result<(), String> {
    let mut dice = Dice(choices.into_iter());
    let (tables, schema) = schema(&mut dice);
    let mut shop = Shop::new("").await;
    for sql in &schema {
        // Some combinations of actions are none that the server takes: then that table is simply not there.
        if shop.sql_result(sql).await.is_err() && sql.starts_with("CREATE TABLE") {
            return Ok(());
        }
    }
    let mut names: Vec<&str> = tables.iter().map(|t| t.name.as_str()).collect();
    names.extend(["log", "sums"]);
    for _ in 0..4 {
        let sql = change(&mut dice, &tables);
        let said = |what: &str| format!("{what}\n{sql};\n\n{};", schema.join(";\n"));
        let before = shop.dump(&names).await;
        let pending = match shop.target.execute(&[statement(&sql)]).await {
            Ok(pending) => pending,
            Err(error) => {
                if matches!(error, Error::Unmeasurable(_)) {
                    REFUSED.fetch_add(1, Ordering::Relaxed);
                } else if !matches!(error, Error::Statement { .. } | Error::Invalid(_)) {
                    return Err(said(&format!("{error:?}")));
                }
                if shop.dump(&names).await != before {
                    return Err(said("refused, and yet changed"));
                }
                continue;
            }
        };
        RAN.fetch_add(1, Ordering::Relaxed);
        let (measured, token) = (sorted(&pending.measured().affected), pending.token().to_owned());
        let (captured, snapshot) = shop.keep(pending).await.map_err(|e| said(&format!("{e}")))?;
        if sorted(&captured.affected) != measured {
            return Err(said(&format!("measured {measured:?}, captured {captured:?}")));
        }
        let after = shop.dump(&names).await;
        let settled = shop.target.resolve(&token, &snapshot).await.map_err(|e| said(&format!("{e}")))?;
        let nothing = measured.is_empty() && matches!(settled, Settled::Unknown(_));
        if settled != Settled::Committed && !nothing {
            return Err(said(&format!("committed, and said to be {settled:?}")));
        }
        let (_, undone) =
            shop.undo(&snapshot, OnConflict::Refuse).await.map_err(|e| said(&format!("undo: {e}")))?;
        let now = shop.dump(&names).await;
        if now != before {
            return Err(said(&format!("not what it was: {:#?}", differ(&before, &now))));
        }
        if let Some(undone) = undone {
            let redone = shop.undo(&undone, OnConflict::Refuse).await;
            let now = shop.dump(&names).await;
            // What the action left the server itself could not make again: see `generated`.
            if matches!(&redone, Err(Error::Irreversible(why)) if why.contains("its expression does not give"))
            {
                let stale = schema.iter().any(|sql| sql.contains(" STORED"))
                    && schema.iter().any(|sql| sql.contains("BEFORE UPDATE"))
                    && sql.contains(" JOIN ");
                if !stale || now != before {
                    return Err(said(&format!("{:?}", redone.err())));
                }
                continue;
            }
            let (plan, _) = redone.map_err(|e| said(&format!("redo: {e}")))?;
            if plan.conflict_count > 0 || now != after {
                return Err(said(&format!("the rollback does not roll back: {:#?}", differ(&after, &now))));
            }
        }
    }
    shop.drop_database().await;
    Ok(())
}

fn differ<'a>(a: &'a [String], b: &'a [String]) -> Vec<(&'static str, &'a String)> {
    let only = |x: &'a [String], y: &'a [String], side| {
        x.iter().filter(|l| !y.contains(l)).map(move |l| (side, l)).collect::<Vec<_>>()
    };
    [only(a, b, "was"), only(b, a, "is")].concat()
}

#[test]
fn everything_comes_back_to_the_last_bit() {
    let soak: u32 = std::env::var("CHECKREIN_SOAK").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    // MySQL takes long to make a table.
    let cases = soak * if is_mysql() { 16 } else { 40 };
    let config = Config { cases, max_shrink_iters: 60, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let result = runner
        .run(&vec(any::<u16>(), 160), |choices| runtime.block_on(case(choices)).map_err(TestCaseError::fail));
    match result {
        Ok(()) => {}
        // The choices themselves say nothing to anybody.
        Err(TestError::Fail(why, _)) => panic!("{why}"),
        Err(error) => panic!("{error}"),
    }
    let (ran, refused) = (RAN.load(Ordering::Relaxed), REFUSED.load(Ordering::Relaxed));
    println!("{ran} ran, {refused} refused as unmeasurable");
    assert!(ran > refused * 8, "{ran} ran, {refused} were refused");
}
