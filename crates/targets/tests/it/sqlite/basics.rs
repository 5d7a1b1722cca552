//! The way of an ordinary action: measured, captured, committed, rolled back.

use super::harness::{Fixture, brief};
use checkrein_targets::How;

const SHOP: &str = "
    CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, plan TEXT);
    CREATE TABLE orders (id INTEGER PRIMARY KEY, user_id INT REFERENCES users ON DELETE CASCADE, total REAL);
    CREATE TABLE notes (id INTEGER PRIMARY KEY, user_id INT REFERENCES users ON DELETE SET NULL, text TEXT);
    CREATE TABLE log (what TEXT);
    CREATE TRIGGER gone AFTER DELETE ON orders BEGIN INSERT INTO log VALUES ('gone ' || old.id); END;
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100)
    INSERT INTO users SELECT i, 'user ' || i, 'free' FROM n;
    INSERT INTO orders SELECT id * 10 + 1, id, id / 3.0 FROM users;
    INSERT INTO orders SELECT id * 10 + 2, id, -0.0 FROM users;
    INSERT INTO notes SELECT id, id, 'note' FROM users;
";

#[tokio::test]
async fn measures_and_undoes_cascades_and_triggers() {
    for mode in ["wal", "delete"] {
        let shop = Fixture::new(mode, SHOP);
        let before = shop.dump();
        let ran = shop.run("DELETE FROM users WHERE id <= 12").await;
        assert_eq!(
            brief(&ran.measured.affected),
            [
                ("users", How::Delete, 12),
                ("log", How::Insert, 24),
                ("notes", How::Unlink, 12),
                ("orders", How::Cascade, 24)
            ]
        );
        assert_eq!(ran.measured.affected, ran.captured.affected);
        assert!(ran.measured.exact);
        let after = shop.dump();
        assert_ne!(after, before);
        let undo = shop.undo(&ran.snapshot).await;
        assert_eq!(shop.dump(), before);
        shop.undo(&undo).await;
        assert_eq!(shop.dump(), after, "a rollback can be rolled back");
    }
}

#[tokio::test]
async fn what_is_not_committed_did_not_happen() {
    for mode in ["wal", "delete"] {
        let shop = Fixture::new(mode, SHOP);
        let before = shop.dump();
        let pending =
            shop.target.execute(&[super::harness::statement("UPDATE users SET plan = 'x'")]).await.unwrap();
        assert_eq!(pending.measured().records(), 100);
        assert_eq!(shop.dump(), before, "readers are not kept waiting, and see nothing of it");
        pending.rollback().await;
        assert_eq!(shop.dump(), before);
        drop(shop.target.execute(&[super::harness::statement("DELETE FROM users")]).await.unwrap());
        shop.run("UPDATE users SET plan = 'y' WHERE id = 1").await;
    }
}
