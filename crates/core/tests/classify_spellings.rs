//! Spellings of one thing that databases know and parsers often do not: the table must be seen in all of them.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use checkrein_core::{
    action::{Action, Category, Count, Environment},
    check::Check,
    classify::{Catalogue, CatalogueConfig},
    name::Name,
};
use serde_json::{Value, json};

fn raw(catalogue: &Catalogue, tool: &str, arguments: Value) -> Action {
    let check = Check { tool: Some(tool.into()), arguments: Some(arguments), ..Check::default() };
    catalogue.classify(&check, Name::default_agent()).unwrap()
}

fn run(sql: &str) -> Action {
    raw(&Catalogue::default(), "execute_sql", json!({ "sql": sql }))
}

fn has(action: &Action, category: Category, table: &str) -> bool {
    action.effects.iter().any(|e| e.category == category && e.resource.as_str() == table)
}

#[test]
fn a_table_that_is_read_is_seen_however_it_is_spelt() {
    for sql in [
        "TABLE users",
        "table users;",
        "TABLE \"users\"",
        "(TABLE users)",
        "TABLE ONLY users",
        "TABLE users ORDER BY id LIMIT 5",
        "SELECT 1; TABLE users",
        "WITH x AS (TABLE users) SELECT * FROM x",
        "WITH x AS (SELECT 1) TABLE users",
        "SELECT * FROM (TABLE users) t",
        "SELECT 0, 0, 0 UNION TABLE users",
        "SELECT 1 UNION ALL TABLE users UNION TABLE items",
        "SELECT * FROM ONLY users",
        "SELECT * FROM ONLY users u WHERE u.id = 1",
        "SELECT * FROM ONLY users AS u",
        "SELECT * FROM ONLY (users)",
        "SELECT * FROM a, ONLY (users) u",
        "SELECT * FROM a JOIN ONLY users ON true",
        "SELECT * FROM a LEFT JOIN LATERAL (SELECT * FROM ONLY users) u ON true",
        "SELECT HIGH_PRIORITY * FROM users",
        "SELECT STRAIGHT_JOIN * FROM users",
        "SELECT SQL_NO_CACHE * FROM users",
        "SELECT SQL_CACHE * FROM users",
        "SELECT SQL_CALC_FOUND_ROWS * FROM users",
        "SELECT SQL_BUFFER_RESULT SQL_CACHE name FROM users",
        "SELECT DISTINCT HIGH_PRIORITY * FROM users",
        "SELECT 1 FROM a WHERE id IN (SELECT STRAIGHT_JOIN id FROM users)",
        "EXPLAIN (ANALYZE) TABLE users",
        "COPY (TABLE users) TO STDOUT",
        "DECLARE c CURSOR FOR TABLE users",
        "SELECT * FROM a WHERE x = ANY (TABLE users)",
        "SELECT ARRAY(TABLE users)",
        "VALUES (1) UNION TABLE users",
        "SELECT ALL HIGH_PRIORITY * FROM users",
        "SELECT SQL_CACHE 'x', a FROM users",
        "SELECT * FROM (users)",
    ] {
        let action = run(sql);
        assert_eq!(action.category, Category::Read, "{sql}: {action:?}");
        assert!(has(&action, Category::Read, "users"), "{sql}: {action:?}");
    }
    for sql in [
        "DELETE FROM defs WHERE user_id IN (SELECT id FROM ONLY users)",
        "DELETE FROM defs USING ONLY users WHERE defs.user_id = users.id",
        "UPDATE defs SET a = 1 FROM ONLY users WHERE defs.user_id = users.id",
        "INSERT INTO defs TABLE users",
        "INSERT INTO defs (a, b) TABLE ONLY users",
        "CREATE TABLE copy AS TABLE users",
    ] {
        let action = run(sql);
        assert!(
            action.category > Category::Read && has(&action, Category::Read, "users"),
            "{sql}: {action:?}"
        );
    }
    for (sql, category) in [
        ("UPDATE ONLY users SET a = 1", Category::Write),
        ("UPDATE ONLY (users) u SET a = 1", Category::Write),
        ("DELETE FROM ONLY users u WHERE id = 1", Category::Delete),
        ("TABLE items; DELETE FROM users", Category::Delete),
        ("TABLE items; VACUUM; SELECT 1", Category::Admin),
        ("ALTER TABLE ONLY users ADD a int", Category::Admin),
        ("UPDATE LOW_PRIORITY users SET a = 1", Category::Write),
        ("UPDATE LOW_PRIORITY IGNORE users SET a = 1", Category::Write),
        ("UPDATE IGNORE users SET a = 1", Category::Write),
        ("update ignore users u set u.a = 1", Category::Write),
        ("DELETE LOW_PRIORITY QUICK IGNORE FROM users", Category::Delete),
        ("DELETE QUICK FROM users WHERE id = 1", Category::Delete),
        ("DELETE LOW_PRIORITY users FROM users JOIN items", Category::Delete),
        ("INSERT LOW_PRIORITY INTO users VALUES (1)", Category::Write),
        ("INSERT DELAYED IGNORE INTO users VALUES (1)", Category::Write),
        ("INSERT HIGH_PRIORITY users VALUES (1)", Category::Write),
        ("INSERT IGNORE users VALUES (1)", Category::Write),
        ("INSERT users VALUES (1)", Category::Write),
        ("REPLACE LOW_PRIORITY INTO users VALUES (1)", Category::Write),
        ("REPLACE DELAYED users VALUES (1)", Category::Write),
        ("REPLACE users VALUES (1)", Category::Write),
        ("TRUNCATE ONLY users", Category::Delete),
        ("TRUNCATE TABLE ONLY users", Category::Delete),
        ("TRUNCATE items, ONLY (users)", Category::Delete),
        ("MERGE INTO ONLY users USING items ON true WHEN MATCHED THEN DO NOTHING", Category::Write),
        ("UPDATE TOP (10) users SET a = 1", Category::Write),
        ("DELETE TOP (10) FROM users", Category::Delete),
        ("DELETE TOP (10) users", Category::Delete),
        ("UPDATE OR IGNORE users SET a = 1", Category::Write),
        ("UPDATE users PARTITION (p0) SET a = 1", Category::Write),
        ("DELETE FROM users PARTITION (p0)", Category::Delete),
        ("DELETE FROM users * WHERE id = 1", Category::Delete),
        ("INSERT INTO TABLE users VALUES (1)", Category::Write),
    ] {
        let action = run(sql);
        assert_eq!(action.category, category, "{sql}: {action:?}");
        assert!(category == Category::Admin || has(&action, category, "users"), "{sql}: {action:?}");
    }
    for (sql, table) in [
        ("INSERT INTO only (a) VALUES (1)", "only"),
        ("UPDATE ignore SET a = 1", "ignore"),
        ("UPDATE low_priority l SET a = 1", "low_priority"),
        ("INSERT INTO users (a) VALUES (1) ON DUPLICATE KEY UPDATE ignore = 1, quick = 2", "users"),
    ] {
        assert!(has(&run(sql), Category::Write, table), "{sql}: {:?}", run(sql));
    }
    // A spelling that is not known here is no read, and its words are what it may read.
    for sql in ["SELECT SHINY_NEW_WORD * FROM users", "TABLE users *", "SELECT * FROM users *"] {
        let action = run(sql);
        assert!(action.category > Category::Read && action.records == Count::Unknown, "{sql}: {action:?}");
        assert!(has(&action, Category::Read, "users"), "{sql}: {action:?}");
    }
    // And what only looks like these is what it was.
    for (sql, table) in [
        ("SELECT high_priority, sql_cache FROM jobs", "jobs"),
        ("SELECT sql_cache FROM jobs", "jobs"),
        ("SELECT * FROM jobs FETCH FIRST ROW ONLY", "jobs"),
        ("SELECT \"table\", \"only\" FROM jobs", "jobs"),
        ("SELECT EXTRACT(year FROM day), TRIM(BOTH 'x' FROM name) FROM jobs", "jobs"),
        ("SELECT * FROM \"only\" o", "only"),
        ("SELECT quick, ignore FROM jobs", "jobs"),
        ("SELECT * FROM jobs FOR UPDATE", "jobs"),
    ] {
        let action = run(sql);
        assert_eq!(action.category, Category::Read, "{sql}: {action:?}");
        assert!(has(&action, Category::Read, table), "{sql}: {action:?}");
    }
}

#[test]
fn sql_in_texts_is_executed_and_what_it_names_counts() {
    for sql in [
        "EXEC('delete from users')",
        "EXEC (N'delete from users')",
        "EXECUTE IMMEDIATE 'delete from users'",
        "SELECT query_to_xml('delete from users returning 1', true, true, '')",
        "SELECT * FROM crosstab('delete from users returning 1,2,3') AS t(a int)",
        "SELECT dblink_exec('h', 'delete from users')",
        "SELECT dblink_exec('h', $$delete from users$$)",
        "DO $x$ begin delete from users; end $x$",
    ] {
        let action = run(sql);
        let deletes = action.effects.iter().any(|e| e.category == Category::Delete);
        let executes = action.effects.iter().any(|e| e.category == Category::Execute);
        assert!(deletes && executes && action.records == Count::Unknown, "{sql}: {action:?}");
    }
    for sql in [
        "CALL doit()",
        "DO $x$ begin execute 'del' || 'ete from users'; end $x$",
        "EXEC ('dele' + 'te from users')",
        "EXECUTE stmt",
        "SELECT table_to_xml('users', true, false, '')",
        "SELECT schema_to_xml('public', true, false, '')",
        "SELECT database_to_xml_and_xmlschema(true, false, '')",
        "SELECT pg_catalog.cursor_to_xml('c', 1, true, true, '')",
        "SELECT pg_sleep(1), 'to be deleted'",
    ] {
        let action = run(sql);
        assert_eq!(action.category, Category::Execute, "{sql}: {action:?}");
        assert_eq!(action.records, Count::Unknown, "{sql}");
    }
    // A text that nothing runs is a text.
    assert_eq!(run("SELECT 'delete from users', lower('drop table x')").category, Category::Read);
}

#[test]
fn an_argument_that_names_another_target_is_judged_there_too() {
    let config = json!({"targets": [
        {"name": "pg", "environment": "staging", "sql": true},
        {"name": "prod", "environment": "production", "sql": true},
    ]});
    let catalogue = Catalogue::new(&serde_json::from_value::<CatalogueConfig>(config).unwrap()).unwrap();
    let sql = "delete from users";
    for arguments in [
        json!({"sql": sql, "database": "prod"}),
        json!({"sql": sql, "db": "pg", "database": "prod"}),
        json!({"sql": sql, "target": "Prod"}),
    ] {
        let action = raw(&catalogue, "mcp__pg__query", arguments.clone());
        assert_eq!(action.environment, Environment::Production, "{arguments}");
        let on = |resource: &str, environment: Environment| {
            action.effects.iter().any(|e| {
                e.category == Category::Delete
                    && e.resource.as_str() == resource
                    && e.environment == environment
            })
        };
        assert!(
            on("pg.users", Environment::Staging) && on("prod.users", Environment::Production),
            "{action:?}"
        );
        let check = Check {
            tool: Some("mcp__pg__query".into()),
            arguments: Some(arguments.clone()),
            ..Check::default()
        };
        let understood = catalogue.understand(&check, Name::default_agent()).unwrap();
        assert_eq!(understood.database, None, "{arguments}: where it is to be counted nobody knows");
    }
    // A tool that is nobody's goes by one of them: whichever.
    for arguments in [
        json!({"sql": sql, "database": "scratch", "db": "prod"}),
        json!({"sql": sql, "dataset": "scratch", "connection": "x", "target": "PROD"}),
        json!({"sql": sql, "db": ["scratch", "prod"]}),
        json!({"sql": sql, "database": "", "db": "prod"}),
    ] {
        let action = raw(&catalogue, "execute_sql", arguments.clone());
        assert!(has(&action, Category::Delete, "prod.users"), "{arguments}: {action:?}");
        let plain = raw(&Catalogue::default(), "execute_sql", arguments.clone());
        assert!(has(&plain, Category::Delete, "prod.users"), "{arguments}: {plain:?}");
    }
    for arguments in [json!({"sql": sql, "database": "pg"}), json!({"sql": sql, "database": "app"})] {
        let action = raw(&catalogue, "mcp__pg__query", arguments.clone());
        assert_eq!(action.environment, Environment::Staging, "{arguments}");
        assert!(has(&action, Category::Delete, "pg.users"), "{arguments}");
    }
}
