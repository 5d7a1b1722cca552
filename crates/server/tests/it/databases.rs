//! Checks on real PostgreSQL and MariaDB servers.

use super::common::Server;
use checkrein_testbed::servers::{mariadb::Mariadb, postgres::Postgres};
use mysql_async::prelude::Queryable as _;
use serde_json::{Value, json};

pub(crate) const SHOP: &str = "
    CREATE TABLE users (id INT PRIMARY KEY, country VARCHAR(2));
    CREATE TABLE orders (id INT PRIMARY KEY, user_id INT NOT NULL,
        FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE);
    CREATE TABLE notes (id INT PRIMARY KEY, user_id INT, FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE SET NULL);
    INSERT INTO users VALUES (1, 'DE'), (2, 'DE'), (3, 'US');
    INSERT INTO orders VALUES (1, 1), (2, 1), (3, 2);
    INSERT INTO notes VALUES (1, 1), (2, 3);
";

pub(crate) async fn server(kind: &str, url: &str) -> Server {
    with_count(kind, url, "30s").await
}

/// One that gives a count so long.
async fn with_count(kind: &str, url: &str, count: &str) -> Server {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("shop.url"), url).unwrap();
    let config = format!(
        "[targets.shop]\nkind = '{kind}'\nurl = {{ file = 'shop.url' }}\nenvironment = 'staging'\n\
         [targets.shop.limits]\ncount = '{count}'\nconnect = '10s'\n\
         [drift]\nmode = 'alert'\n"
    );
    Server::on(dir, &config).await
}

/// What every database has to make of the same actions. `main` goes before the tables' names.
async fn counts(server: &Server, main: &str) {
    server
        .policy(json!({"name": "keep_orders", "rule": "block",
                       "condition": {"action": "delete", "resource_pattern": "shop.orders"}}))
        .await;
    server
        .policy(json!({"name": "limit", "rule": "block", "condition": {"record_count_exceeds": 1000}}))
        .await;
    let delete = json!({"action": "delete", "resource": "shop.users", "payload": {"record_count": 0},
                        "statement": "DELETE FROM users WHERE country = 'DE'"});
    let decision = server.check(delete).await;
    let radius = &decision["blast_radius"];
    assert_eq!((&decision["verdict"], &radius["records"]), (&json!("block"), &json!(6)), "{decision}");
    assert_eq!((&radius["basis"], &radius["understated"]), (&json!("counted"), &json!(true)), "{decision}");
    assert_eq!(decision["policies"][0]["name"], "keep_orders", "{decision}");
    let mut parts: Vec<_> = radius["by_resource"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| (p["resource"].clone(), p["how"].clone(), p["records"].clone()))
        .collect();
    parts.sort_by_key(|p| p.0.to_string());
    let part = |table: &str, how: &str, n: u64| (json!(format!("shop.{main}{table}")), json!(how), json!(n));
    assert_eq!(parts, [part("notes", "unlink", 1), part("orders", "cascade", 3), part("users", "delete", 2)]);

    for (body, records) in [
        (json!({"action": "delete", "resource": "shop.users", "record_ids": [3]}), json!(2)),
        (
            json!({"action": "update", "resource": format!("SHOP.{main}users"), "where": {"country": ["DE", null]}}),
            json!(2),
        ),
        (json!({"action": "update", "resource": "shop.users", "where": {"no_such": 1}}), Value::Null),
        (json!({"action": "update", "resource": "shop.gone", "where": {}}), Value::Null),
        (
            json!({"tool": "mcp__shop__query", "arguments": {"sql": "UPDATE users SET country = 'FR'"}}),
            json!(3),
        ),
        (json!({"tool": "mcp__shop__query", "arguments": {"sql": "TRUNCATE TABLE users"}}), Value::Null),
        (
            json!({"tool": "mcp__shop__query", "arguments": {"sql": "UPDATE users SET country = 'FR'; DELETE FROM users"}}),
            Value::Null,
        ),
    ] {
        let decision = server.check(body).await;
        assert_eq!(decision["blast_radius"]["records"], records, "{decision}");
        assert_eq!(decision["verdict"], if records.is_null() { "block" } else { "allow" }, "{decision}");
    }
    let test = server.post("/v1/targets/shop/test", json!({})).await.json();
    assert!(
        test["system"].as_str().is_some_and(|system| system.contains("SQL") || system.contains("MariaDB")),
        "{test}"
    );
    assert!(
        test["privileges"].as_array().is_some_and(|found| found.iter().any(|p| p["needed_for"] == "count"))
    );
}

/// A count beyond its time is unknown.
async fn unknown(kind: &str, url: &str, slow: &str) {
    let server = with_count(kind, url, "500ms").await;
    server
        .policy(json!({"name": "limit", "rule": "block", "condition": {"record_count_exceeds": 1000}}))
        .await;
    let body = json!({"action": "update", "resource": "shop.users", "statement": slow, "payload": {"record_count": 1}});
    let decision = server.check(body).await;
    assert_eq!(
        (&decision["verdict"], &decision["blast_radius"]["records"]),
        (&json!("block"), &Value::Null),
        "{decision}"
    );
    let reason = decision["reason"].as_str().unwrap();
    assert!(reason.contains("could not be counted") && reason.contains("took longer than 500ms"), "{reason}");
}

/// And so is one on a server that has gone.
async fn gone(server: &Server) {
    let decision =
        server.check(json!({"action": "update", "resource": "shop.users", "record_ids": [1]})).await;
    assert_eq!(
        (&decision["verdict"], &decision["blast_radius"]["records"]),
        (&json!("block"), &Value::Null),
        "{decision}"
    );
    let test = server.post("/v1/targets/shop/test", json!({})).await.json();
    assert_eq!((&test["ok"], &test["system"]), (&json!(false), &Value::Null));
    assert!(!test["error"].as_str().unwrap().is_empty());
}

#[tokio::test]
async fn postgres_counts() {
    let database = Postgres::start(&[]).unwrap();
    let url = database.database().unwrap();
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(SHOP).await.unwrap();
    let server = server("postgres", &url).await;
    counts(&server, "public.").await;
    unknown("postgres", &url, "UPDATE users SET country = 'FR' WHERE id IN (SELECT 1 FROM pg_sleep(30))")
        .await;
    let params = json!({"action": "delete", "resource": "shop.users",
                        "statement": "DELETE FROM users WHERE id = $1", "params": [3]});
    assert_eq!(server.check(params).await["blast_radius"]["records"], 2);
    let left = client.query_one("SELECT count(*) FROM users WHERE country <> 'FR'", &[]).await.unwrap();
    assert_eq!(left.get::<_, i64>(0), 3, "counting changes nothing");
    database.kill().unwrap();
    gone(&server).await;
}

#[tokio::test]
async fn mariadb_counts() {
    let database = Mariadb::start(&[]).unwrap();
    let name = database.name();
    let user = checkrein_testbed::servers::mariadb::SUPERUSER;
    let mut client = mysql_async::Conn::from_url(database.url(user, "mysql")).await.unwrap();
    client.query_drop(format!("CREATE DATABASE {name}")).await.unwrap();
    client.query_drop(format!("USE {name}")).await.unwrap();
    for statement in SHOP.split(';').filter(|s| !s.trim().is_empty()) {
        client.query_drop(statement).await.unwrap();
    }
    let url = database.url(user, &name);
    let server = server("mysql", &url).await;
    counts(&server, "").await;
    client.query_drop("LOCK TABLES users WRITE").await.unwrap();
    unknown("mysql", &url, "UPDATE users SET country = 'FR'").await;
    client.query_drop("UNLOCK TABLES").await.unwrap();
    let params = json!({"action": "delete", "resource": "shop.users",
                        "statement": "DELETE FROM users WHERE id = ?", "params": [3]});
    assert_eq!(server.check(params).await["blast_radius"]["records"], 2);
    let left: Option<u64> =
        client.query_first("SELECT count(*) FROM users WHERE country <> 'FR'").await.unwrap();
    assert_eq!(left, Some(3), "counting changes nothing");
    database.kill().unwrap();
    gone(&server).await;
}

/// However many people look at records of a slow database, checks are counted on it.
#[tokio::test]
async fn samples_leave_connections_to_counts() {
    let database = Postgres::start(&[]).unwrap();
    let url = database.database().unwrap();
    let (mut client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(SHOP).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("shop.url"), &url).unwrap();
    // Two of the connections look on.
    let config = "[targets.shop]\nkind = 'postgres'\nurl = { file = 'shop.url' }\nenvironment = 'staging'\n\
                  [targets.shop.limits]\nconnections = 4\nconnect = '1s'\nlock = '20s'\ncount = '20s'\n";
    let server = std::sync::Arc::new(Server::on(dir, config).await);
    server
        .policy(json!({"name": "ask", "rule": "require_approval", "condition": {"action": "delete"}}))
        .await;
    let held = server.check(json!({"action": "delete", "resource": "shop.users", "record_ids": [1]})).await;
    let path = format!("/v1/approvals/{}/sample", held["approval_id"].as_str().unwrap());
    let lock = client.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let looks: Vec<_> = (0..4)
        .map(|_| {
            let (server, path) = (std::sync::Arc::clone(&server), path.clone());
            tokio::spawn(async move { server.get(&path).await.status })
        })
        .collect();
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
    while lock.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    // All that were let through have taken their connection by now.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let counted =
        server.check(json!({"action": "update", "resource": "shop.notes", "record_ids": [1]})).await;
    assert_eq!(counted["blast_radius"]["basis"], "counted", "{counted}");
    assert_eq!(counted["blast_radius"]["records"], 1, "{counted}");
    lock.rollback().await.unwrap();
    for look in looks {
        assert_eq!(look.await.unwrap(), 200, "each has its turn");
    }
}

/// What changes nothing and returns records has read them: also where the parser does not know how it is spelt.
#[tokio::test]
async fn what_an_execution_reads_counts_however_it_is_spelt() {
    let url = Postgres::shared().database().unwrap();
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(SHOP).await.unwrap();
    let server = server("postgres", &url).await;
    let run = async |sql: &str| server.try_execute(json!({"target": "shop", "statement": sql})).await.json();
    let reads = ["TABLE users", "(TABLE users)", "SELECT * FROM ONLY (users)", "SELECT * FROM users *"];
    for sql in reads {
        let ran = run(sql).await;
        assert_eq!(
            (&ran["verdict"], ran["rows"].as_array().map(Vec::len)),
            (&json!("allow"), Some(3)),
            "{ran}"
        );
    }
    server.policy(json!({"name": "few", "rule": "block", "condition": {"record_count_exceeds": 2}})).await;
    for sql in reads {
        let ran = run(sql).await;
        assert_eq!((&ran["verdict"], &ran["executed"]), (&json!("block"), &json!(false)), "{sql}: {ran}");
        assert_eq!(ran["blast_radius"]["records"], 3, "{sql}: {ran}");
    }
    let few = run("TABLE users LIMIT 2").await;
    assert_eq!((&few["verdict"], &few["blast_radius"]["records"]), (&json!("allow"), &json!(2)), "{few}");
    let condition = json!({"category": "read", "resource_pattern": "shop.orders"});
    server.policy(json!({"name": "no_orders", "rule": "block", "condition": condition})).await;
    for sql in
        ["TABLE orders LIMIT 1", "SELECT 1 FROM ONLY orders o LIMIT 1", "SELECT * FROM orders * LIMIT 1"]
    {
        let ran = run(sql).await;
        let matched = ran["policies"].as_array().unwrap().iter().any(|policy| policy["name"] == "no_orders");
        assert!(ran["verdict"] == "block" && matched, "{sql}: {ran}");
    }
}
