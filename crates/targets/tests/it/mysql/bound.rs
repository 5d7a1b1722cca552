//! What an approval is bound to: the records as they were, and values that come from elsewhere.

use super::common::Shop;
use checkrein_targets::Digest;

async fn digest(shop: &mut Shop, sql: &str) -> Digest {
    let mut pending = shop.execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let (mut out, _) = shop.writer();
    pending.bind();
    let digest = pending.capture(&mut out).await.unwrap().digest.unwrap();
    pending.rollback().await;
    digest
}

#[tokio::test]
async fn values_from_elsewhere_are_bound_and_those_of_the_clock_are_not() {
    let mut shop = Shop::new(
        "CREATE TABLE users (id INT PRIMARY KEY AUTO_INCREMENT, plan VARCHAR(9), seen DATETIME(6));
         INSERT INTO users (plan) VALUES ('a'), ('b');
         CREATE TABLE s (id INT PRIMARY KEY, v VARCHAR(9)); INSERT INTO s VALUES (1, 'x'), (2, 'y')",
    )
    .await;
    for (sql, bound) in [
        ("UPDATE users SET plan = 'x', seen = NOW(6) WHERE id IN (SELECT id FROM s)", false),
        ("INSERT INTO users (plan, seen) VALUES ('z', NOW(6))", false),
        ("UPDATE users SET plan = (SELECT v FROM s WHERE s.id = 1), seen = NOW(6)", true),
        ("UPDATE users SET plan = (SELECT v FROM s WHERE s.id = users.id)", true),
        ("UPDATE users JOIN s ON s.id = users.id SET plan = s.v", true),
    ] {
        let first = digest(&mut shop, sql).await;
        assert_eq!(digest(&mut shop, sql).await, first, "an approval of it could never be used: {sql}");
        // The same values, given to others.
        shop.run("UPDATE s SET v = IF(id = 1, 'y', 'x')").await;
        assert_eq!(digest(&mut shop, sql).await != first, bound, "{sql}");
        shop.run("UPDATE s SET v = IF(id = 1, 'x', 'y')").await;
        assert_eq!(digest(&mut shop, sql).await, first, "{sql}");
    }
}
