//! What an account may do, and how it is connected.

use super::common::{Shop, limits, open, said, statement};
use checkrein_core::rollback::OnConflict;
use checkrein_targets::Error;
use checkrein_testbed::servers::mariadb::{Mariadb, is_mysql};

#[tokio::test]
async fn the_account_needs_what_grants_says_and_no_more() {
    let mut shop = Shop::new(
        "CREATE TABLE p(id INT PRIMARY KEY, v INT); CREATE TABLE c(id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES p(id) ON DELETE CASCADE); \
         INSERT INTO p VALUES (1, 1); INSERT INTO c VALUES (1, 1)",
    )
    .await;
    let name = shop.name.clone();
    let account = format!("agent_{name}");
    let url = Mariadb::shared().url(&account, &name);
    shop.run(&format!("CREATE USER {account}; GRANT SELECT, UPDATE, DELETE ON {name}.* TO {account}")).await;
    let target = open(&url, limits());
    let error = target.execute(&[statement("DELETE FROM p")]).await.err().unwrap();
    assert!(matches!(&error, Error::Forbidden(why) if why.contains("PROCESS")), "{error:?}");
    shop.run(&format!("GRANT PROCESS ON *.* TO {account}")).await;
    // Connections keep what they were granted when they began.
    let target = open(&url, limits());
    let error = target.execute(&[statement("DELETE FROM p")]).await.err().unwrap();
    assert!(matches!(&error, Error::Forbidden(why) if why.contains("TRIGGER")), "{error:?}");
    let report = target.test().await.unwrap();
    let system = if is_mysql() { "MySQL 8" } else { "MariaDB 1" };
    assert!(report.system.starts_with(system), "{}", report.system);
    let missing: Vec<_> = report.privileges.iter().filter(|p| !p.ok).map(|p| p.message.clone()).collect();
    assert!(
        missing.iter().any(|m| m.contains("TRIGGER")) && missing.iter().any(|m| m.contains("INSERT")),
        "{missing:?}"
    );
    shop.run(&format!("DROP USER {account}")).await;
    let grants = target.grants(&account).await;
    assert!(!grants.contains("ALL") && !grants.contains("SUPER"), "{grants}");
    let grants = grants.replace(" IDENTIFIED BY 'choose-a-password'", "");
    shop.run(&grants).await;
    let target = open(&url, limits());
    assert!(target.test().await.unwrap().privileges.iter().all(|p| p.ok));
    let before = shop.dump(&["p", "c"]).await;
    shop.target = target;
    let (captured, snapshot) = shop.change("DELETE FROM p").await.unwrap();
    assert_eq!(said(&captured.affected), "c cascade 1, p delete 1");
    shop.undo(&snapshot, OnConflict::Refuse).await.unwrap();
    assert_eq!(shop.dump(&["p", "c"]).await, before);
    shop.run(&format!("DROP USER {account}")).await;
}

const NEEDED: [&str; 5] = ["SELECT", "INSERT", "UPDATE", "DELETE", "TRIGGER"];

/// A table, a trigger that writes another, and an account without any right to it yet.
async fn audited() -> (Shop, String, String) {
    let mut shop = Shop::new(
        "CREATE TABLE t(id INT PRIMARY KEY, v INT); CREATE TABLE log(id INT PRIMARY KEY AUTO_INCREMENT, v INT); \
         INSERT INTO t VALUES (1, 1), (2, 2); CREATE TRIGGER tr AFTER UPDATE ON t FOR EACH ROW INSERT INTO log(v) VALUES (OLD.v)",
    )
    .await;
    let account = format!("agent_{}", shop.name);
    shop.run(&format!("CREATE USER {account}; GRANT PROCESS ON *.* TO {account}")).await;
    let url = Mariadb::shared().url(&account, &shop.name);
    (shop, account, url)
}

/// One target all along, so that its connections are older than what is granted and taken away.
#[tokio::test]
async fn what_is_revoked_is_missed_at_once_and_what_is_granted_is_seen_at_once() {
    let (mut shop, account, url) = audited().await;
    let update = statement("UPDATE t SET v = v + 1 WHERE id = 1");
    for scope in [format!("{}.*", shop.name), "*.*".to_owned(), format!("{}.t", shop.name)] {
        if scope.ends_with(".t") {
            shop.run(&format!("GRANT {} ON {}.log TO {account}", NEEDED.join(", "), shop.name)).await;
        }
        shop.run(&format!("GRANT {} ON {scope} TO {account}", NEEDED.join(", "))).await;
        let target = open(&url, limits());
        for privilege in NEEDED {
            let pending = target.execute(std::slice::from_ref(&update)).await.unwrap();
            assert_eq!(said(&pending.measured().affected), "log insert 1, t update 1", "{scope} {privilege}");
            pending.rollback().await;
            shop.run(&format!("REVOKE {privilege} ON {scope} FROM {account}")).await;
            let error = target.execute(std::slice::from_ref(&update)).await.err().unwrap();
            let named = error.to_string();
            assert!(
                matches!(&error, Error::Forbidden(why) if why.contains("target grants")),
                "{scope} {privilege}: {error:?}"
            );
            assert!(named.contains(privilege), "{scope} {privilege}: {named}");
            shop.run(&format!("GRANT {privilege} ON {scope} TO {account}")).await;
        }
        assert_eq!(shop.number("SELECT SUM(v) FROM t").await, 3);
        shop.run(&format!("REVOKE {} ON {scope} FROM {account}", NEEDED.join(", "))).await;
    }
    shop.run(&format!("DROP USER {account}")).await;
}

/// A table changes its shape, its triggers and its children between two executions of one target.
#[tokio::test]
async fn what_is_remembered_of_a_table_is_never_an_old_truth() {
    let mut shop =
        Shop::new("CREATE TABLE t(id INT PRIMARY KEY, v INT); INSERT INTO t VALUES (1, 1), (2, 2)").await;
    for (change, measured) in [
        ("DO 0", "t delete 1"),
        ("ALTER TABLE t ADD COLUMN w VARCHAR(9) DEFAULT 'x'", "t delete 1"),
        ("ALTER TABLE t MODIFY v BIGINT", "t delete 1"),
        (
            "CREATE TABLE c(id INT PRIMARY KEY, t INT, FOREIGN KEY (t) REFERENCES t(id) ON DELETE CASCADE); INSERT INTO c VALUES (7, 1)",
            "c cascade 1, t delete 1",
        ),
        (
            "DROP TABLE c; CREATE TABLE c(id INT PRIMARY KEY, t INT, FOREIGN KEY (t) REFERENCES t(id) ON DELETE SET NULL); INSERT INTO c VALUES (7, 1)",
            "c unlink 1, t delete 1",
        ),
        (
            "CREATE TABLE log(id INT PRIMARY KEY AUTO_INCREMENT, v INT); \
             CREATE TRIGGER tr AFTER DELETE ON t FOR EACH ROW INSERT INTO log(v) VALUES (OLD.v)",
            "c unlink 1, log insert 1, t delete 1",
        ),
        (
            "DROP TRIGGER tr; CREATE TRIGGER tr AFTER DELETE ON t FOR EACH ROW INSERT INTO log(v) VALUES (1), (2)",
            "c unlink 1, log insert 2, t delete 1",
        ),
        (
            "DROP TRIGGER tr; DROP TABLE c; ALTER TABLE t DROP PRIMARY KEY, ADD PRIMARY KEY (v, id)",
            "t delete 1",
        ),
    ] {
        shop.run(change).await;
        let before = shop.dump(&["t"]).await;
        let (captured, snapshot) = shop.change("DELETE FROM t WHERE id = 1").await.unwrap();
        let mut affected = captured.affected;
        affected.sort_by(|a, b| a.resource.cmp(&b.resource));
        assert_eq!(said(&affected), measured, "{change}");
        shop.undo(&snapshot, OnConflict::Refuse).await.unwrap();
        assert_eq!(shop.dump(&["t"]).await, before, "{change}");
    }
    shop.run("ALTER TABLE t ENGINE=MyISAM").await;
    assert!(matches!(shop.execute("DELETE FROM t").await, Err(Error::Unmeasurable(_))));
    shop.run("DROP TABLE t; CREATE VIEW t AS SELECT 1 AS id").await;
    assert!(matches!(shop.execute("DELETE FROM t").await, Err(Error::Unmeasurable(_))));
}

#[tokio::test]
async fn certificates_are_checked_as_asked() {
    let folder = tempfile::tempdir().unwrap();
    crate::certificates(folder.path());
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (cert, key, ca, other) = (path("server.pem"), path("server.key"), path("ca.pem"), path("other.pem"));
    let server = Mariadb::start(&[("ssl-cert", &cert), ("ssl-key", &key)]).unwrap();
    let url = server.url("root", "mysql");
    let cipher = async |host: &str, query: &str| {
        let target = open(&format!("{}?{query}", url.replace("127.0.0.1", host)), limits());
        let schema = if is_mysql() { "performance_schema" } else { "information_schema" };
        let sql =
            format!("SELECT VARIABLE_VALUE FROM {schema}.SESSION_STATUS WHERE VARIABLE_NAME = 'Ssl_cipher'")
                .replace("SESSION_STATUS", if is_mysql() { "session_status" } else { "SESSION_STATUS" });
        let rows = target.read(&statement(&sql)).await.map(|result| result.rows)?;
        Ok::<_, Error>(rows[0][0] != serde_json::json!(""))
    };
    assert_eq!(cipher("127.0.0.1", "").await, Ok(false), "in the clear unless it is asked for");
    let checks = "require_ssl=true&verify_ca=true&verify_identity=true";
    assert_eq!(cipher("localhost", &format!("{checks}&ssl_ca={ca}")).await, Ok(true));
    assert_eq!(cipher("127.0.0.1", "require_ssl=true&verify_ca=false&verify_identity=false").await, Ok(true));
    for (host, query) in [
        ("localhost", format!("{checks}&ssl_ca={other}")),
        ("localhost", "require_ssl=true".to_owned()),
        ("127.0.0.1", format!("{checks}&ssl_ca={ca}")),
        // Whoever has the authority checked has the name checked, too.
        ("127.0.0.1", format!("require_ssl=true&verify_ca=true&verify_identity=false&ssl_ca={ca}")),
        ("localhost", format!("{checks}&ssl_ca={}", path("missing"))),
    ] {
        let answer = cipher(host, &query).await;
        assert!(
            matches!(answer, Err(Error::Unreachable(_) | Error::Config(_))),
            "{host} {query}: {answer:?}"
        );
    }
    // A server without TLS is not spoken to in the clear when TLS is required.
    let plain = is_mysql().then(|| Mariadb::start(&[("tls-version", "")]).unwrap());
    let plain = plain.as_ref().unwrap_or_else(|| Mariadb::shared()).url("root", "mysql");
    let target = open(&format!("{plain}?require_ssl=true&verify_ca=false&verify_identity=false"), limits());
    assert!(matches!(target.read(&statement("SELECT 1")).await, Err(Error::Unreachable(_))));
}

/// INSERT IGNORE answers only for what it has made.
#[tokio::test]
async fn what_was_there_already_is_not_taken_for_new() {
    let mut shop = Shop::new("CREATE TABLE t(id INT PRIMARY KEY, v INT); INSERT INTO t VALUES (1, 1)").await;
    let before = shop.dump(&["t"]).await;
    let (captured, snapshot) = shop.change("INSERT IGNORE INTO t VALUES (1, 5), (2, 5)").await.unwrap();
    assert_eq!(said(&captured.affected), "t insert 1");
    shop.undo(&snapshot, OnConflict::Refuse).await.unwrap();
    assert_eq!(shop.dump(&["t"]).await, before);
}
