//! What MySQL has and MariaDB has not. Where the tests run on MariaDB there is nothing to see here.

use super::common::{Shop, limits, open, said, statement};
use checkrein_core::rollback::OnConflict;
use checkrein_targets::Error;
use checkrein_testbed::servers::mariadb::{Mariadb, is_mysql};
use serde_json::json;

/// A key that the server made of itself, and hides.
#[tokio::test]
async fn a_hidden_key_is_a_key() {
    if !is_mysql() {
        return;
    }
    let mut shop =
        Shop::new("SET SESSION sql_generate_invisible_primary_key = ON; CREATE TABLE t(v INT)").await;
    shop.run("SET GLOBAL show_gipk_in_create_table_and_information_schema = OFF").await;
    shop.run("INSERT INTO t(my_row_id, v) VALUES (3, 1), (7, 1), (9, 2)").await;
    let all = "(SELECT my_row_id, v FROM t) AS all_of_t";
    for sql in ["DELETE FROM t WHERE v = 1", "UPDATE t SET v = v + 1", "INSERT INTO t(v) VALUES (4), (5)"] {
        let before = shop.dump(&[all]).await;
        let (_, snapshot) = shop.change(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        assert_ne!(shop.dump(&[all]).await, before, "{sql}");
        shop.undo(&snapshot, OnConflict::Refuse).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        assert_eq!(shop.dump(&[all]).await, before, "{sql}");
    }
}

/// A document holds more than its text: what would be lost is refused, and what stays is not written anew.
#[tokio::test]
async fn documents_come_back_as_they_were_or_are_not_touched() {
    if !is_mysql() {
        return;
    }
    let mut shop = Shop::new(
        "CREATE TABLE t(id INT PRIMARY KEY, n INT, d JSON, v VARCHAR(99) AS (d->>'$.a') VIRTUAL, KEY (v)); \
         INSERT INTO t(id, n, d) VALUES (1, 1, '{\"a\": 1.5, \"b\": [true, null, 18446744073709551615, {\"c\": \"é\"}]}'), \
         (2, 1, JSON_OBJECT('a', CAST(1.50 AS DECIMAL(5, 2)))), (3, 1, '7'), (4, 1, NULL), \
         (5, 1, JSON_ARRAY(JSON_OBJECT('x', JSON_ARRAY(CAST(3 AS UNSIGNED))))), (6, 1, CAST(CAST('2020-01-01' AS DATE) AS JSON))",
    )
    .await;
    let all =
        "(SELECT id, n, d, JSON_TYPE(d), JSON_TYPE(d->'$.a'), JSON_TYPE(d->'$[0].x[0]') FROM t) AS all_of_t";
    let before = shop.dump(&[all]).await;
    for sql in [
        "UPDATE t SET n = n + 1",
        "UPDATE t SET d = JSON_SET(d, '$.a', 'much more than there was'), n = 4 WHERE id = 1",
        "DELETE FROM t WHERE id IN (1, 3, 4)",
        "UPDATE t SET d = JSON_OBJECT('a', 2.5) WHERE id = 3",
        "INSERT INTO t(id, d) VALUES (9, JSON_OBJECT('a', 2.5))",
    ] {
        let (_, snapshot) = shop.change(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        shop.undo(&snapshot, OnConflict::Refuse).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        assert_eq!(shop.dump(&[all]).await, before, "{sql}");
    }
    for id in [2, 5, 6] {
        for sql in [format!("DELETE FROM t WHERE id = {id}"), format!("UPDATE t SET d = '1' WHERE id = {id}")]
        {
            let error = shop.change(&sql).await.err().unwrap_or_else(|| panic!("{sql}"));
            assert!(matches!(&error, Error::Unmeasurable(why) if why.contains("JSON")), "{sql}: {error:?}");
            assert_eq!(shop.dump(&[all]).await, before, "{sql}");
        }
    }
}

#[tokio::test]
async fn indexes_on_expressions_keep_what_is_unique() {
    if !is_mysql() {
        return;
    }
    let mut shop = Shop::new(
        "CREATE TABLE t(id INT PRIMARY KEY, v VARCHAR(9) COLLATE utf8mb4_0900_ai_ci, n INT DEFAULT (1 + 2), d JSON, \
         UNIQUE ((UPPER(v))), UNIQUE ((CAST(d->'$[*]' AS SIGNED ARRAY))), KEY (n) INVISIBLE, CHECK (n > 0)); \
         INSERT INTO t(id, v, d) VALUES (1, 'a', '[1, 2]'), (2, 'b ', '[3]'), (3, 'b', '[4, 5]')",
    )
    .await;
    for sql in [
        "UPDATE t SET v = CASE id WHEN 1 THEN 'B' ELSE 'c' END WHERE id IN (1, 3) ORDER BY id DESC",
        "UPDATE t SET d = CASE id WHEN 1 THEN '[3, 9]' ELSE '[7]' END WHERE id IN (1, 2) ORDER BY id DESC",
        "DELETE FROM t",
        "REPLACE INTO t(id, v, d) VALUES (9, 'A', '[3]')",
        "INSERT INTO t(id, v, d) VALUES (1, 'z', '[77]') AS new ON DUPLICATE KEY UPDATE v = new.v, n = t.n + 1",
        "INSERT INTO t(id, v, d) VALUES (8, 'B ', '[78]') AS new(i, w, e) ON DUPLICATE KEY UPDATE n = 7",
    ] {
        let before = shop.dump(&["t"]).await;
        let (captured, snapshot) = shop.change(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        assert!(!captured.affected.is_empty(), "{sql}");
        assert_ne!(shop.dump(&["t"]).await, before, "{sql}");
        shop.undo(&snapshot, OnConflict::Refuse).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        assert_eq!(shop.dump(&["t"]).await, before, "{sql}");
    }
}

/// What comes of a record that nothing tells from others.
#[tokio::test]
async fn what_is_inserted_without_a_key_is_found() {
    let mut shop = Shop::new(
        "CREATE TABLE t(id INT NOT NULL, k VARCHAR(9) CHARACTER SET latin1 NOT NULL DEFAULT 'k', KEY (id), v INT, \
         s VARCHAR(12) CHARACTER SET utf8mb4, x TIME(3), u INT, UNIQUE (u)); \
         CREATE TABLE s(id INT PRIMARY KEY, k VARCHAR(9), v INT, s VARCHAR(12)); \
         INSERT INTO t VALUES (1, 'k1', 3, 'long text', '00:00:01', 1), (2, 'k2', 1, NULL, '3', NULL); \
         INSERT INTO s VALUES (2, 'k2', 0, ''), (3, 'k1', 5, 'é')",
    )
    .await;
    let before = shop.dump(&["t"]).await;
    let sql = "INSERT INTO t(id, k, v, s) SELECT id + 70, k, v, s FROM s WHERE v <= 0";
    let (captured, snapshot) = shop.change(sql).await.unwrap();
    assert_eq!(said(&captured.affected), "t insert 1");
    shop.undo(&snapshot, OnConflict::Refuse).await.unwrap();
    assert_eq!(shop.dump(&["t"]).await, before);
}

#[tokio::test]
async fn names_with_a_slash_are_followed() {
    if !is_mysql() {
        return;
    }
    let mut shop = Shop::new(
        "CREATE TABLE `p/ä`(id INT PRIMARY KEY); CREATE TABLE `c/ö/x`(id INT PRIMARY KEY, p INT, \
         FOREIGN KEY (p) REFERENCES `p/ä`(id) ON DELETE CASCADE); \
         INSERT INTO `p/ä` VALUES (1); INSERT INTO `c/ö/x` VALUES (1, 1), (2, 1)",
    )
    .await;
    let (captured, snapshot) = shop.change("DELETE FROM `p/ä`").await.unwrap();
    assert_eq!(said(&captured.affected), "c/ö/x cascade 2, p/ä delete 1");
    shop.undo(&snapshot, OnConflict::Refuse).await.unwrap();
    assert_eq!(shop.number("SELECT COUNT(*) FROM `c/ö/x`").await, 2);
}

/// Roles count, what is left out of a grant does not, and names are no patterns where they are not.
#[tokio::test]
async fn grants_are_read_as_the_server_reads_them() {
    if !is_mysql() {
        return;
    }
    let server: &'static Mariadb = Box::leak(Box::new(Mariadb::start(&[("partial-revokes", "1")]).unwrap()));
    let mut shop =
        Shop::on(server, "CREATE TABLE t(id INT PRIMARY KEY, v INT); INSERT INTO t VALUES (1, 1)").await;
    let name = shop.name.clone();
    shop.run(&format!(
        "CREATE ROLE worker; GRANT SELECT, INSERT, UPDATE, DELETE, TRIGGER ON `{name}`.* TO worker; GRANT PROCESS ON *.* TO worker; \
         CREATE USER by_role DEFAULT ROLE worker; CREATE USER idle; GRANT worker TO idle; \
         CREATE USER partly; GRANT SELECT, INSERT, UPDATE, DELETE, TRIGGER, PROCESS ON *.* TO partly; REVOKE INSERT ON `{name}`.* FROM partly; \
         CREATE USER pattern; GRANT PROCESS ON *.* TO pattern; GRANT SELECT, UPDATE, DELETE, TRIGGER ON `{name}`.* TO pattern; \
         GRANT INSERT ON `{}`.* TO pattern",
        name.replace('_', "\\_")
    ))
    .await;
    let update = statement("UPDATE t SET v = 2");
    let result = async |user: &str| {
        open(&server.url(user, &name), limits()).execute(std::slice::from_ref(&update)).await
    };
    result("by_role").await.unwrap().rollback().await;
    assert!(result("idle").await.is_err(), "a role that nobody has switched on");
    for user in ["partly", "pattern"] {
        let error = result(user).await.err().unwrap();
        assert!(matches!(&error, Error::Forbidden(why) if why.contains("INSERT")), "{user}: {error:?}");
    }
    server.kill().unwrap();
}

#[tokio::test]
async fn every_way_to_sign_in_works_in_the_clear_and_in_tls() {
    if !is_mysql() {
        return;
    }
    let mut shop = Shop::new("").await;
    for (name, plugin) in [("sha", "caching_sha2_password"), ("native", "mysql_native_password")] {
        let account = format!("{name}_{}", shop.name);
        shop.run(&format!(
            "CREATE USER {account} IDENTIFIED WITH {plugin} BY 'pä ss'; GRANT SELECT ON {}.* TO {account}",
            shop.name
        ))
        .await;
        // Nobody has signed in yet, so the server knows the password's hash only.
        for query in ["", "?require_ssl=true&verify_ca=false&verify_identity=false", ""] {
            let url = shop.server.url(&format!("{account}:p%C3%A4%20ss"), &shop.name) + query;
            let rows = open(&url, limits()).read(&statement("SELECT 1 AS one")).await;
            assert_eq!(rows.map(|r| r.rows), Ok(vec![vec![json!(1)]]), "{plugin} {query}");
            let wrong = shop.server.url(&format!("{account}:other"), &shop.name) + query;
            let error = open(&wrong, limits()).read(&statement("SELECT 1")).await.unwrap_err();
            assert!(matches!(error, Error::Unreachable(_)), "{plugin} {query}: {error:?}");
        }
    }
}
