//! Counting and guarded execution.

use super::common::{Shop, said, statement};
use checkrein_core::rollback::OnConflict;
use checkrein_targets::{Error, Selection, Settled, Statement};
use checkrein_testbed::servers::mariadb::is_mysql;
use serde_json::json;

const SHOP: &str = "CREATE TABLE users(id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(40), team INT); \
    CREATE TABLE orders(id INT PRIMARY KEY AUTO_INCREMENT, user_id INT, note VARCHAR(40), \
        FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE ON UPDATE CASCADE); \
    CREATE TABLE tickets(id INT PRIMARY KEY AUTO_INCREMENT, order_id INT, \
        FOREIGN KEY (order_id) REFERENCES orders(id) ON DELETE SET NULL); \
    INSERT INTO users(name, team) VALUES ('ann', 1), ('bob', 1), ('eve', 2); \
    INSERT INTO orders(user_id, note) VALUES (1, 'a'), (1, 'b'), (2, 'c'); \
    INSERT INTO tickets(order_id) VALUES (1), (2), (2), (3)";

#[tokio::test]
async fn counts_what_would_follow_and_measures_what_did() {
    let mut shop = Shop::new(SHOP).await;
    let before = shop.dump(&["users", "orders", "tickets"]).await;
    for (sql, counted) in [
        ("DELETE FROM users WHERE id = 1", "users delete 1, orders cascade 2, tickets unlink 3"),
        ("DELETE FROM users", "users delete 3, orders cascade 3, tickets unlink 4"),
        ("UPDATE users SET team = 9 WHERE team = 1", "users update 2"),
        (
            "UPDATE users u JOIN orders o ON o.user_id = u.id SET u.team = 5, o.note = 'x' WHERE o.note <> 'c'",
            "orders update 2, users update 1",
        ),
        (
            "DELETE o FROM orders o JOIN users u ON o.user_id = u.id WHERE u.name = 'ann'",
            "orders delete 2, tickets unlink 3",
        ),
        ("UPDATE orders SET note = 'z' ORDER BY id DESC LIMIT 1", "orders update 1"),
        ("INSERT INTO users(name) VALUES ('x'), ('O''Brien')", "users insert 2"),
        ("INSERT INTO users(name) SELECT note FROM orders", "users insert 3"),
    ] {
        let count = shop.target.count(&Selection::Statements(vec![statement(sql)])).await.unwrap();
        assert_eq!(said(&count.affected), counted, "{sql}");
        let pending = shop.execute(sql).await.unwrap();
        let mut measured = pending.measured().affected.clone();
        measured.sort_by_key(|a| !counted.starts_with(&a.resource));
        assert_eq!(said(&measured), counted, "{sql}");
        assert!(pending.measured().exact);
        pending.rollback().await;
        assert_eq!(shop.dump(&["users", "orders", "tickets"]).await, before, "{sql}");
    }
}

#[tokio::test]
async fn runs_with_parameters_and_returns_rows() {
    let mut shop = Shop::new(SHOP).await;
    let pending = shop
        .target
        .execute(&[Statement {
            sql: "UPDATE users SET name = ? WHERE name = 'it''s' OR id = ?".into(),
            params: vec![json!("O'Brien \\ \"x\""), json!(2)],
        }])
        .await
        .unwrap();
    assert_eq!(pending.results()[0].affected, 1);
    let (_, snapshot) = shop.keep(pending).await.unwrap();
    assert!(snapshot.is_sealed());
    let read = Statement { sql: "SELECT name, team FROM users WHERE id = ?".into(), params: vec![json!(2)] };
    let rows = shop.target.read(&read).await.unwrap();
    assert_eq!(rows.columns, ["name", "team"]);
    assert_eq!(rows.rows, [vec![json!("O'Brien \\ \"x\""), json!(1)]]);
    assert_eq!(shop.number("SELECT COUNT(*) FROM users WHERE name LIKE 'O%'").await, 1);
}

#[tokio::test]
async fn the_digest_is_of_the_records_and_not_of_the_try() {
    let mut shop = Shop::new(SHOP).await;
    let mut digests = Vec::new();
    for _ in 0..2 {
        let mut pending = shop.execute("INSERT INTO users(name) VALUES ('x')").await.unwrap();
        let (mut out, _) = shop.writer();
        pending.bind();
        digests.push(pending.capture(&mut out).await.unwrap().digest.unwrap());
        pending.rollback().await;
    }
    assert_eq!(digests[0], digests[1], "what AUTO_INCREMENT gives does not matter");
    let mut digests = Vec::new();
    for change in ["DO 0", "DO 0", "UPDATE orders SET note = 'q' WHERE id = 2"] {
        shop.run(change).await;
        let mut pending = shop.execute("DELETE FROM users WHERE id = 1").await.unwrap();
        let (mut out, _) = shop.writer();
        pending.bind();
        digests.push(pending.capture(&mut out).await.unwrap().digest.unwrap());
        pending.rollback().await;
    }
    assert_eq!(digests[0], digests[1]);
    assert_ne!(digests[0], digests[2], "a cascaded record has changed");
}

#[tokio::test]
async fn knows_what_became_of_a_transaction() {
    let mut shop = Shop::new(SHOP).await;
    let mut pending = shop.execute("UPDATE users SET team = 7 WHERE id < 3").await.unwrap();
    let (mut out, path) = shop.writer();
    pending.capture(&mut out).await.unwrap();
    out.finish(&path).await.unwrap();
    let snapshot = checkrein_targets::snapshot::Snapshot::open(&[path], None).await.unwrap();
    let token = pending.token().to_owned();
    assert_eq!(shop.target.resolve(&token, &snapshot).await.unwrap(), Settled::Running);
    pending.rollback().await;
    assert_eq!(shop.target.resolve(&token, &snapshot).await.unwrap(), Settled::NotCommitted);
    shop.run("UPDATE users SET team = 7 WHERE id < 3").await;
    assert_eq!(shop.target.resolve(&token, &snapshot).await.unwrap(), Settled::Committed);
    shop.run("UPDATE users SET team = 8 WHERE id < 3").await;
    assert!(matches!(shop.target.resolve(&token, &snapshot).await.unwrap(), Settled::Unknown(_)));
}

#[tokio::test]
async fn refuses_what_cannot_be_measured() {
    let mut shop = Shop::new(SHOP).await;
    shop.run("CREATE TABLE old(id INT PRIMARY KEY) ENGINE=MyISAM").await;
    shop.run("CREATE VIEW v AS SELECT * FROM users").await;
    let kind = if is_mysql() { "ENGINE = MEMORY" } else { "WITH SYSTEM VERSIONING" };
    shop.run(&format!("CREATE TABLE versions(id INT PRIMARY KEY) {kind}")).await;
    shop.run(if is_mysql() { "DO 0" } else { "CREATE SEQUENCE s" }).await;
    let before = shop.dump(&["users", "orders", "tickets", "old"]).await;
    for sql in [
        "TRUNCATE users",
        "DROP TABLE users",
        "ALTER TABLE users ADD x INT",
        "CREATE TABLE x(id INT)",
        "LOCK TABLES users WRITE",
        "LOAD DATA INFILE '/etc/passwd' INTO TABLE users",
        "SELECT * FROM users INTO OUTFILE '/tmp/x'",
        "GRANT ALL ON *.* TO x",
        "COMMIT",
        "START TRANSACTION",
        "SET foreign_key_checks = 0",
        "SET GLOBAL max_connections = 1",
        "CALL p()",
        "DO SLEEP(1)",
        "UPDATE users SET team = 1 /*! , name = 'x' */",
        "UPDATE users SET team = 1 /*M!100100 , name = 'x' */",
        "DELETE FROM users; DELETE FROM orders",
        "DELETE FROM old",
        "UPDATE v SET team = 1",
        "INSERT INTO versions VALUES (1)",
        "UPDATE users SET team = NEXTVAL(s)",
        "UPDATE users SET team = GET_LOCK('x', 1)",
        "UPDATE users SET team = (@x := 1)",
        "SELECT * FROM users FOR UPDATE",
        "DELETE FROM users WHERE RAND() < 0.5 AND id > 0 OR RAND() < 0.5",
        "HANDLER users OPEN",
        "WITH some AS (SELECT id FROM users) UPDATE users SET team = 1 WHERE id IN (SELECT id FROM some)",
        "WITH some AS (SELECT id FROM users) DELETE FROM users WHERE id IN (SELECT id FROM some)",
        "UPDATE /*+ SET_VAR(foreign_key_checks = OFF) */ users SET id = id + 100",
        "SELECT id FROM users FOR UPDATE SKIP LOCKED",
        "SET PERSIST max_connections = 1",
        "IMPORT TABLE FROM '/tmp/t.sdi'",
        "ALTER INSTANCE RELOAD TLS",
        "KILL 1",
        "",
        "   ",
        "sdf sdf",
        "UPDATE users SET team = 1 WHERE name = _latin1'\\''",
    ] {
        match shop.execute(sql).await {
            Err(Error::Unmeasurable(_)) => {}
            Err(other) => panic!("{sql}: {other:?}"),
            Ok(pending) => {
                // A random condition may happen to choose the same records twice.
                assert!(sql.contains("RAND"), "{sql} ran: {:?}", pending.measured());
                pending.rollback().await;
            }
        }
        assert_eq!(shop.dump(&["users", "orders", "tickets", "old"]).await, before, "{sql}");
    }
}

#[tokio::test]
async fn names_of_any_kind_and_other_databases() {
    let mut shop = Shop::new("").await;
    let other = format!("{}_o-t $é", shop.name);
    shop.run(&format!(
        "CREATE DATABASE `{other}`; CREATE TABLE `pär-é$ 1`(`i d` INT PRIMARY KEY, v INT); \
         CREATE TABLE `{other}`.`kïnd.x`(id INT PRIMARY KEY, `p d` INT, \
         FOREIGN KEY (`p d`) REFERENCES {}.`pär-é$ 1`(`i d`) ON DELETE CASCADE); \
         INSERT INTO `pär-é$ 1` VALUES (1, 1), (2, 2); INSERT INTO `{other}`.`kïnd.x` VALUES (1, 1), (2, 1), (3, 2)",
        shop.name
    ))
    .await;
    let tables = ["`pär-é$ 1`".to_owned(), format!("`{other}`.`kïnd.x`")];
    let tables = [tables[0].as_str(), tables[1].as_str()];
    let before = shop.dump(&tables).await;
    let (captured, snapshot) = shop.change("DELETE FROM `pär-é$ 1` WHERE `i d` = 1").await.unwrap();
    let mut affected = captured.affected;
    affected.sort_by_key(|a| a.records);
    assert_eq!(said(&affected), format!("pär-é$ 1 delete 1, {other}.kïnd.x cascade 2"));
    shop.undo(&snapshot, OnConflict::Refuse).await.unwrap();
    assert_eq!(shop.dump(&tables).await, before);
    shop.run(&format!("DROP DATABASE `{other}`")).await;
}

#[tokio::test]
async fn several_statements_are_one_transaction() {
    let mut shop = Shop::new(SHOP).await;
    let before = shop.dump(&["users", "orders", "tickets"]).await;
    let pending = shop
        .target
        .execute(&[
            statement("UPDATE users SET team = team + 1"),
            statement("UPDATE users SET team = team + 1 WHERE id = 1"),
            statement("INSERT INTO orders(user_id, note) VALUES (3, 'new')"),
            statement("SELECT COUNT(*) AS n FROM orders"),
        ])
        .await
        .unwrap();
    assert_eq!(said(&pending.measured().affected), "orders insert 1, users update 3");
    assert_eq!(pending.results()[3].rows, [vec![json!(4)]]);
    let (_, snapshot) = shop.keep(pending).await.unwrap();
    shop.undo(&snapshot, OnConflict::Refuse).await.unwrap();
    assert_eq!(shop.dump(&["users", "orders", "tickets"]).await, before);
    // One that fails takes all with it.
    let failed = shop
        .target
        .execute(&[statement("UPDATE users SET team = 0"), statement("INSERT INTO users(id) VALUES (1)")])
        .await;
    assert!(matches!(failed.err().unwrap(), Error::Statement { .. }));
    assert_eq!(shop.dump(&["users", "orders", "tickets"]).await, before);
}

#[tokio::test]
async fn functions_of_owners_hide_nowhere() {
    let mut shop = Shop::new(SHOP).await;
    shop.run("CREATE TABLE old(id INT) ENGINE=MyISAM; INSERT INTO old VALUES (1)").await;
    shop.run(
        "CREATE FUNCTION f() RETURNS INT NOT DETERMINISTIC MODIFIES SQL DATA BEGIN DELETE FROM old; RETURN 1; END",
    )
    .await;
    shop.run("CREATE VIEW w AS SELECT f() AS id").await;
    for sql in [
        "UPDATE users SET team = f()",
        "UPDATE users SET team = 1 WHERE id IN (SELECT id FROM w)",
        "INSERT INTO users(team) SELECT id FROM w",
        "UPDATE users SET team = `f`()",
    ] {
        let error = shop.execute(sql).await.err().unwrap();
        assert!(matches!(error, Error::Unmeasurable(_)), "{sql}: {error:?}");
        let counted = shop.target.count(&Selection::Statements(vec![statement(sql)])).await;
        assert!(counted.is_err() || sql.contains("FROM w"), "{sql}");
    }
    // Whether it is read or written to, the way out is the same.
    for sql in [
        "INSERT INTO users(team) SELECT id FROM w",
        "UPDATE w JOIN users ON users.id = w.id SET users.team = 1",
    ] {
        let error = shop.execute(sql).await.err().unwrap().to_string();
        assert!(error.contains("names the view w") && error.contains("name the tables"), "{sql}: {error}");
    }
    assert!(shop.target.read(&statement("SELECT * FROM w")).await.is_err(), "a read-only transaction");
    assert_eq!(shop.number("SELECT COUNT(*) FROM old").await, 1);
}

#[tokio::test]
async fn a_trigger_made_meanwhile_waits() {
    let mut shop = Shop::new(SHOP).await;
    let pending = shop.execute("UPDATE users SET team = 4 WHERE id = 1").await.unwrap();
    shop.run("SET SESSION lock_wait_timeout = 1").await;
    let trigger = "CREATE TRIGGER late AFTER UPDATE ON users FOR EACH ROW DELETE FROM tickets";
    assert!(shop.sql_result(trigger).await.is_err(), "the open transaction keeps the table as it is");
    pending.commit().await.unwrap();
    shop.run(trigger).await;
}

/// What is found beforehand is not what is changed: that is noticed, whatever the reason.
#[tokio::test]
async fn records_that_were_not_foreseen_are_noticed() {
    let mut shop = Shop::new(SHOP).await;
    let before = shop.dump(&["users", "orders", "tickets"]).await;
    // Of three records, the second look chooses those that the first did not.
    for sql in [
        "UPDATE users SET team = team + 10 WHERE UUID_SHORT() % 2 = 0",
        "DELETE FROM users WHERE UUID_SHORT() % 2 = 0",
    ] {
        let error = shop.execute(sql).await.err().unwrap();
        assert!(matches!(&error, Error::Unmeasurable(why) if why.contains("unseen")), "{sql}: {error:?}");
        assert_eq!(shop.dump(&["users", "orders", "tickets"]).await, before, "{sql}");
    }
}

/// To the server `K1` and `k1` are one key: what a REPLACE puts in another's place is not an insertion.
#[tokio::test]
async fn what_is_replaced_under_another_spelling_of_its_key_comes_back() {
    for partitions in ["", " PARTITION BY HASH(id) PARTITIONS 3"] {
        let mut shop = Shop::new(&format!(
            "CREATE TABLE t(id INT, k VARCHAR(9) CHARACTER SET latin1, v INT, s VARCHAR(9), PRIMARY KEY (k, id)){partitions}; \
             INSERT INTO t VALUES (1, 'K1', 1, 'a'), (2, 'k2', 2, 'b'), (3, 'K3 ', 3, NULL), (4, 'k4', 4, 'd')"
        ))
        .await;
        let before = shop.dump(&["t"]).await;
        let sql = "REPLACE INTO t(id, k, v) VALUES (1, 'k1', 9), (2, 'k2', 2), (3, 'k3', 3), (7, 'k7', 7)";
        let (captured, snapshot) = shop.change(sql).await.unwrap();
        // Two under another spelling, one under the same, one new.
        assert_eq!(said(&captured.affected), "t insert 3, t update 1, t delete 2");
        let after = shop.dump(&["t"]).await;
        let (_, undone) = shop.undo(&snapshot, OnConflict::Refuse).await.unwrap();
        assert_eq!(shop.dump(&["t"]).await, before);
        shop.undo(&undone.unwrap(), OnConflict::Refuse).await.unwrap();
        assert_eq!(shop.dump(&["t"]).await, after);
    }
}

#[tokio::test]
async fn a_sample_shows_the_first_and_what_follows_from_them() {
    let mut shop = Shop::new(SHOP).await;
    let odd = "CREATE TABLE odd (a BIT(4), b JSON, c POLYGON, d TIMESTAMP(6), e INET6, f VARBINARY(9), g ENUM('x', 'y'), \
            h LONGTEXT, i DECIMAL(20, 2), j BIGINT UNSIGNED, k TIME); \
         INSERT INTO odd VALUES (b'101', '{\"a\": 1}', ST_GeomFromText('POLYGON((0 0,1 0,1 1,0 0))'), \
            '2024-01-01 00:00:00.000001', '::1', X'00FF', 'y', REPEAT('é', 9000), 1.50, 18446744073709551615, '-12:00:00')";
    shop.run(&odd.replace("INET6", if is_mysql() { "CHAR(3)" } else { "INET6" })).await;
    let before = shop.dump(&["users", "orders", "tickets", "odd"]).await;
    let some = async |sql: &str| shop.target.sample(&Selection::Statements(vec![statement(sql)]), 2).await;
    let sampled = some("DELETE FROM users WHERE id <= 2").await.unwrap();
    let names: Vec<_> = sampled.iter().map(|s| (s.resource.as_str(), s.rows.len())).collect();
    assert_eq!(names, [("users", 2), ("orders", 2), ("tickets", 2)]);
    assert_eq!(sampled[0].columns, ["id", "name", "team"]);
    assert_eq!(sampled[0].rows[0], [json!("1"), json!("ann"), json!("1")]);
    let sampled = some("UPDATE odd SET k = NULL").await.unwrap();
    let row = &sampled[0].rows[0];
    assert_eq!(row[7].as_str().map(|t| t.chars().count()), Some(checkrein_targets::SAMPLE_CHARS + 1));
    assert_eq!((&row[4], &row[6], &row[8]), (&json!("::1"), &json!("y"), &json!("1.50")), "{row:?}");
    for sql in [
        "UPDATE orders SET note = 'z' ORDER BY id DESC LIMIT 1",
        "DELETE o FROM orders o JOIN users u ON o.user_id = u.id WHERE u.name = 'bob'",
    ] {
        let sampled = some(sql).await.unwrap();
        assert_eq!(sampled[0].rows, [[json!("3"), json!("2"), json!("c")]], "{sql}");
    }
    let what = Selection::Records { resource: "users".into(), ids: vec![json!(3), json!(77)], delete: false };
    assert_eq!(shop.target.sample(&what, 2).await.unwrap()[0].rows, [[json!("3"), json!("eve"), json!("2")]]);
    for nothing in
        ["INSERT INTO users(name) VALUES ('x')", "SELECT * FROM users", "DELETE FROM users WHERE FALSE"]
    {
        assert_eq!(some(nothing).await.unwrap(), [], "{nothing}");
    }
    for wrong in ["DELETE FROM nothing", "DROP TABLE users", "DELETE FROM users WHERE SLEEP(20)"] {
        assert!(some(wrong).await.is_err(), "{wrong}");
    }
    assert_eq!(shop.dump(&["users", "orders", "tickets", "odd"]).await, before);
}
