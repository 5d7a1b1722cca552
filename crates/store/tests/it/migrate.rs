//! A folder that an older version wrote.

use crate::common::*;
use checkrein_core::chain::{Hash, link};
use checkrein_store::CheckFilter;
use rusqlite::{Connection, params};
use std::fs;

/// A check as version 1 of the schema has it: everything written out.
const CHECK: &str = r#"{"key_id":"key_env","check":{"action":"update","resource":"shop.users","payload":{"record_count":12}},"action":{"agent":"default","action":"update","resource":"shop.users","category":"write","environment":"production","effects":[{"names":["update"],"category":"write","resource":"shop.users","environment":"production"}],"records":12,"declared":12,"systems":1,"recipients":0,"domains":{"known":[],"unknown":false},"payload_bytes":19},"fingerprint":"971c14726728e4bfd013ce0e6f8862fff4a64c418e2bf8aa930f9fb6d60f4406","decision":{"id":"chk_1","verdict":"allow","reason":"Allowed; no policy objects.","policies":[],"category":"write","environment":"production","blast_radius":{"records":12,"systems":1,"recipients":0,"basis":"declared","declared":12,"by_resource":[{"resource":"shop.users","records":12}]},"logged_at":"2026-11-22T13:07:40.491787Z"}}"#;

#[tokio::test]
async fn entries_of_schema_1_are_read_and_verified() {
    let dir = tempfile::tempdir().unwrap();
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/src/schema/");
    let file = |name: &str| fs::read_to_string(format!("{schema}{name}")).unwrap();
    let db = Connection::open(dir.path().join("checkrein.db")).unwrap();
    db.execute_batch(
        "PRAGMA journal_mode = wal; PRAGMA application_id = 0x43686b52; PRAGMA user_version = 1",
    )
    .unwrap();
    db.execute_batch(&(file("1.sql") + &file("1-projections.sql"))).unwrap();
    let hash = link(&Hash::default(), 1, at(0), "check", "chk_1", "default", CHECK);
    db.execute(
        "INSERT INTO log VALUES (1, ?1, 'check', 'chk_1', 'default', ?2, ?3)",
        params![at(0).as_micros(), CHECK, hash.0],
    )
    .unwrap();
    db.execute("UPDATE chain SET seq = 1, hash = ?1 WHERE mark = 'head'", [hash.0]).unwrap();
    drop(db);

    let store = open(dir.path());
    let row = store.check("chk_1").await.unwrap().unwrap();
    assert_eq!((&*row.checked.action.action, &*row.checked.action.resource), ("update", "shop.users"));
    store.append(vec![check("chk_2")], at(1)).await.unwrap();
    let resource = |r: &str| CheckFilter { resource: Some(pattern(r)), ..CheckFilter::default() };
    assert_eq!(store.checks(resource("shop.*"), None, 9).await.unwrap().rows, [row]);
    assert_eq!(store.checks(resource("*users"), None, 9).await.unwrap().rows.len(), 2);
    store.close().await;
    assert_eq!(verified(dir.path()), 2);
    let db = Connection::open(dir.path().join("checkrein.db")).unwrap();
    let seen: Vec<(String, String)> = db
        .prepare("SELECT action, resource FROM checks ORDER BY seq")
        .unwrap()
        .query_map([], |r| Ok((r.get(0)?, r.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(seen, [pair("update", "shop.users"), pair("update", "production.users")]);
}

fn pattern(text: &str) -> checkrein_core::name::Pattern {
    checkrein_core::name::Pattern::new(text).unwrap()
}
