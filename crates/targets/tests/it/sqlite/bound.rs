//! What an approval is bound to: the records as they were, and values that come from elsewhere.

use super::harness::{Fixture, statement};
use checkrein_targets::Digest;

async fn digest(file: &Fixture, sql: &str) -> Digest {
    let mut pending = file.target.execute(&[statement(sql)]).await.unwrap();
    let (mut out, _) = file.writer();
    pending.bind();
    let digest = pending.capture(&mut out).await.unwrap().digest.unwrap();
    pending.rollback().await;
    digest
}

#[tokio::test]
async fn values_from_elsewhere_are_bound_and_those_of_the_clock_are_not() {
    let file = Fixture::new(
        "wal",
        "CREATE TABLE users (id INTEGER PRIMARY KEY, plan, seen); INSERT INTO users VALUES (1, 'a', 0), (2, 'b', 0);
         CREATE TABLE s (id INTEGER PRIMARY KEY, v); INSERT INTO s VALUES (1, 'x'), (2, 'y');
         CREATE TABLE log (what, at); CREATE TRIGGER told AFTER UPDATE ON users BEGIN INSERT INTO log VALUES (new.plan, random()); END;
         CREATE VIEW people AS SELECT id, plan AS p FROM users;
         CREATE TRIGGER people_told INSTEAD OF UPDATE ON people BEGIN UPDATE users SET plan = new.p WHERE id = new.id; END",
    );
    for (sql, bound) in [
        ("UPDATE users SET plan = 'x', seen = random() WHERE id IN (SELECT id FROM s)", false),
        ("INSERT INTO users VALUES (9, 'z', random())", false),
        ("UPDATE users SET plan = (SELECT v FROM s WHERE s.id = 1), seen = random()", true),
        ("UPDATE users SET plan = (SELECT v FROM s WHERE s.id = users.id)", true),
        ("UPDATE users SET plan = s.v, seen = random() FROM s WHERE s.id = users.id", true),
        ("INSERT INTO users (id, plan, seen) SELECT id + 10, v, random() FROM s", true),
        ("INSERT INTO users SELECT id + 10, v, 0 FROM s", true),
    ] {
        let first = digest(&file, sql).await;
        assert_eq!(digest(&file, sql).await, first, "an approval of it could never be used: {sql}");
        // The same values, given to others.
        file.sql("UPDATE s SET v = iif(id = 1, 'y', 'x')");
        assert_eq!(digest(&file, sql).await != first, bound, "{sql}");
        file.sql("UPDATE s SET v = iif(id = 1, 'x', 'y')");
        assert_eq!(digest(&file, sql).await, first, "{sql}");
    }
    // What a name that is no table's stands for is not known, so everything is bound, the trigger's numbers too.
    let view = "UPDATE people SET p = (SELECT v FROM s WHERE s.id = 1)";
    assert_ne!(digest(&file, view).await, digest(&file, view).await);
}
