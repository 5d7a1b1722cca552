//! What is meant, and how it is counted.

use super::{Shop, paths};
use checkrein_targets::{Affected, Error, How, Selection, Statement};
use serde_json::{Map, Value, json};

fn records(resource: &str, ids: Value, delete: bool) -> Selection {
    let Value::Array(ids) = ids else { panic!("a list") };
    Selection::Records { resource: resource.into(), ids, delete }
}

fn glob(resource: &str, pattern: &str) -> Selection {
    let filter = Map::from_iter([("glob".to_owned(), json!(pattern))]);
    Selection::Where { resource: resource.into(), filter, delete: true }
}

async fn count(shop: &Shop, what: &Selection) -> Vec<(String, How, u64)> {
    let counted = shop.target.count(what).await.unwrap();
    counted.affected.into_iter().map(|Affected { resource, how, records }| (resource, how, records)).collect()
}

fn furnished() -> Shop {
    let shop = Shop::new();
    for path in ["top.csv", "a/one.csv", "a/two.txt", "a/b/three.csv", "c/four.csv"] {
        shop.put(path, path);
    }
    shop
}

#[tokio::test]
async fn folders_count_with_everything_in_them() {
    let shop = furnished();
    let root = shop.root.to_str().unwrap();
    let a = |how, n| ("a".to_owned(), how, n);
    let b = |how, n| ("a/b".to_owned(), how, n);
    for what in [
        records("", json!(["a"]), true),
        records(".", json!(["./a/", "a/b", "a"]), true),
        records("a", json!(["."]), true),
        records("", json!([format!("{root}/a")]), true),
        records("c", json!([format!("{root}/a")]), true),
        Selection::Where { resource: "a".into(), filter: Map::new(), delete: true },
    ] {
        assert_eq!(count(&shop, &what).await, [a(How::Delete, 3), b(How::Delete, 2)], "{what:?}");
    }
    let absent = json!(["a/absent", "a/one.csv"]);
    assert_eq!(
        count(&shop, &records("", absent.clone(), false)).await,
        [a(How::Insert, 1), a(How::Update, 1)]
            .map(|(resource, how, n)| (resource, how, n))
            .into_iter()
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>()
    );
    assert_eq!(count(&shop, &records("", absent, true)).await, [a(How::Delete, 1)]);
    assert_eq!(count(&shop, &records("a", json!([]), true)).await, []);
}

#[tokio::test]
async fn patterns_match_below_the_resource() {
    let shop = furnished();
    let sum = |found: Vec<(String, How, u64)>| found.iter().map(|(.., n)| n).sum::<u64>();
    for (resource, pattern, number) in [
        ("", "**/*.csv", 4),
        ("", "*.csv", 1),
        ("a", "*.csv", 1),
        ("a", "**/*.csv", 2),
        ("", "a", 5),
        ("", "*/*.{csv,txt}", 3),
        ("", "nothing*", 0),
    ] {
        assert_eq!(sum(count(&shop, &glob(resource, pattern)).await), number, "{resource} {pattern}");
    }
    for pattern in ["/etc/*", "../*", "a/../../*", "", "{", "\0", &"*".repeat(2000)] {
        let error = shop.target.count(&glob("", pattern)).await.unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{pattern}: {error}");
    }
    let other = Selection::Where {
        resource: String::new(),
        filter: Map::from_iter([("name".to_owned(), json!("x"))]),
        delete: true,
    };
    assert!(matches!(shop.target.count(&other).await, Err(Error::Invalid(_))));
}

#[tokio::test]
async fn no_path_leads_out() {
    let shop = furnished();
    std::os::unix::fs::symlink("/etc", shop.at("link")).unwrap();
    std::os::unix::fs::symlink("a", shop.at("inner")).unwrap();
    for id in [
        json!("../x"),
        json!("/etc/passwd"),
        json!("a/../../x"),
        json!("a\0b"),
        json!(".checkrein/x"),
        json!("link/passwd"),
        json!("inner/one.csv"),
        json!("top.csv/x"),
        json!(""),
        json!(7),
        json!({"hex": "2f6574"}),
        json!({"hex": "zz"}),
    ] {
        let what = records("", json!([id]), true);
        let error = shop.target.count(&what).await.unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{id}: {error}");
        assert!(shop.capture(&what).await.is_err(), "{id}");
    }
    assert_eq!(count(&shop, &records("", json!(["link"]), true)).await, [(".".to_owned(), How::Delete, 1)]);
}

#[tokio::test]
async fn so_many_folders_that_they_are_counted_together_is_said() {
    let shop = Shop::new();
    for n in 0..300 {
        shop.put(&format!("a/{n}/file"), "x");
    }
    let counted = shop.target.count(&super::all()).await.unwrap();
    assert_eq!(counted.records(), 602);
    assert!(counted.affected.len() < 10);
    assert_eq!(counted.at_least.len(), 1);
}

#[tokio::test]
async fn new_files_that_match_are_found_when_sealing() {
    let shop = furnished();
    let taken = shop.take(&glob("", "**/*.csv")).await;
    shop.put("a/new.csv", "agent");
    shop.put("a/new.txt", "somebody");
    std::fs::remove_file(shop.at("a/one.csv")).unwrap();
    let snapshot = shop.seal(taken).await;
    shop.undo(&snapshot).await.unwrap();
    assert!(!shop.at("a/new.csv").exists());
    assert_eq!((shop.get("a/one.csv"), shop.get("a/new.txt")), ("a/one.csv".into(), "somebody".into()));
}

#[tokio::test]
async fn the_digest_is_that_of_what_stands_there() {
    let shop = furnished();
    let digest = async || shop.capture(&paths(["a"])).await.unwrap().1.digest.unwrap();
    let first = digest().await;
    shop.put("c/other", "x");
    assert_eq!(digest().await, first);
    shop.put("a/one.csv", "a/ONE.csv");
    assert_ne!(digest().await, first);
}

#[tokio::test]
async fn limits_hold() {
    let mut shop = furnished();
    shop.limits = (2, 1 << 20);
    assert!(matches!(shop.capture(&super::all()).await, Err(Error::TooLarge(_))));
    shop.limits = (1_000, 10);
    assert!(matches!(shop.capture(&super::all()).await, Err(Error::TooLarge(_))));
    assert_eq!(std::fs::read_dir(shop.folder.path().join("snapshots")).unwrap().count(), 0);
}

#[tokio::test]
async fn an_export_shows_everything() {
    let shop = furnished();
    use std::os::unix::ffi::OsStrExt as _;
    std::fs::write(shop.root.join(std::ffi::OsStr::from_bytes(b"\xff")), b"\xfe").unwrap();
    let (snapshot, _) = shop.take(&super::all()).await;
    let mut blocks = snapshot.blocks();
    let mut records = Vec::new();
    while let Some(block) = blocks.next().await.unwrap() {
        let table = &snapshot.tables(block.part).unwrap()[usize::try_from(block.table).unwrap()];
        records.extend(shop.target.decode(table, &block.data).unwrap());
    }
    let find = |key: &str, value: Value| records.iter().find(|r| r.get(key) == Some(&value)).unwrap();
    let file = find("path", json!("a/one.csv"));
    assert_eq!((&file["kind"], &file["size"]), (&json!("file"), &json!(9)));
    let content =
        records.iter().find(|r| r.contains_key("offset") && r["content"] == file["content"]).unwrap();
    assert_eq!(content["bytes"], json!("a/one.csv"));
    assert_eq!(find("path", json!({"hex": "ff"}))["size"], json!(1));
    assert_eq!(find("bytes", json!({"hex": "fe"}))["offset"], json!(0));
    let hash = blake3::hash(b"a/one.csv").to_hex().to_string();
    assert_eq!(file["blake3"], json!(hash));
}

#[tokio::test]
async fn it_says_what_it_can_do_and_runs_no_statements() {
    let shop = furnished();
    let before = super::tree::read(&shop.root);
    let report = shop.target.test().await.unwrap();
    assert!(report.privileges.iter().all(|p| p.ok), "{report:#?}");
    assert_eq!(super::tree::differences(&before, &super::tree::read(&shop.root)), Vec::<String>::new());
    assert!(shop.target.grants("check'rein").await.contains("u:'check'\\''rein':rwX"));
    assert!(!shop.target.grants("x\nrm -rf /").await.lines().any(|line| line.starts_with("rm")));
    let statement = Statement { sql: "SELECT 1".into(), params: vec![] };
    assert!(matches!(shop.target.read(&statement).await, Err(Error::Unsupported(_))));
    assert!(matches!(
        shop.target.execute(std::slice::from_ref(&statement)).await.map(drop),
        Err(Error::Unsupported(_))
    ));
    assert!(matches!(
        shop.target.count(&Selection::Statements(vec![statement])).await,
        Err(Error::Unsupported(_))
    ));
    std::fs::remove_dir_all(&shop.root).unwrap();
    assert!(matches!(shop.target.test().await, Err(Error::Unreachable(_))));
}

#[tokio::test]
async fn a_sample_is_of_names() {
    let shop = furnished();
    let some = async |what: &Selection| {
        let sampled = shop.target.sample(what, 2).await.unwrap();
        assert_eq!((sampled.len(), sampled[0].columns.as_slice()), (1, ["path".to_owned()].as_slice()));
        sampled[0].rows.iter().map(|row| row[0].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(some(&glob("", "**/*.csv")).await.len(), 2, "no more than that");
    assert_eq!(some(&records("a", json!(["two.txt", "gone"]), false)).await, ["a/two.txt"]);
    assert!(shop.target.sample(&records("", json!(["../up"]), true), 2).await.is_err());
}
