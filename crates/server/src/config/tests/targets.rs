//! `[targets.NAME]` and `[snapshots]`.

use super::*;
use checkrein_core::action::Environment;
use checkrein_targets::{Kind, Place};

const SHOP: &str = "[targets.shop]\nkind = 'postgres'\nenvironment = 'staging'\n";

fn with_env(text: &str, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
    load_with(&folder(&[("checkrein.toml", text)]), Overrides::default(), env)
}

#[test]
fn every_kind_is_read() {
    let dir = folder(&[
        (
            "checkrein.toml",
            r#"
[targets.shop]
kind = "postgres"
url = { env = "SHOP_URL" }
environment = "production"
snapshot_when = "always"
resources = ["https://shop.example/*"]
[targets.shop.limits]
connect = "1s"
lock = "20ms"
count = "500ms"
execute = "1m"
snapshot = "1h"
snapshot_rows = 7
snapshot_bytes = "1MiB"
result_rows = 8
result_bytes = "2KiB"
connections = 3
[targets.old]
kind = "mysql"
url = { file = "old.url" }
environment = "staging"
snapshot_when = "never"
[targets.notes]
kind = "sqlite"
path = "notes.db"
environment = "sandbox"
snapshot_when = { records_exceed = 12 }
[targets.invoices]
kind = "files"
path = "/srv/invoices"
environment = "sandbox"
[targets.crm]
kind = "other"
environment = "staging"
"#,
        ),
        ("old.url", "mysql://app:hunter2@127.0.0.1:3306/old\n"),
        ("notes.db", ""),
    ]);
    let url = "postgres://app:hunter2@127.0.0.1:5432/shop";
    let config = load_with(&dir, Overrides::default(), &[("SHOP_URL", url)]).unwrap();
    let known: Vec<_> = config.catalogue.targets.iter().map(|t| (t.name.as_str(), t.environment)).collect();
    let environments =
        [Environment::Staging, Environment::Sandbox, Environment::Sandbox, Environment::Staging];
    assert_eq!(known.len(), 5);
    for (name, environment) in ["crm", "invoices", "notes", "old"].into_iter().zip(environments) {
        assert!(known.contains(&(name, environment)), "{name}: {known:?}");
    }
    let target = |name: &str| config.targets.iter().find(|t| t.config.name == name).unwrap();
    assert_eq!(config.targets.len(), 4);
    let shop = target("shop");
    assert_eq!((shop.environment, shop.snapshot_when), (Environment::Production, SnapshotWhen::Always));
    assert!(matches!(&shop.config.place, Place::Postgres(secret) if secret.expose_secret() == url));
    assert_eq!(
        shop.config.limits,
        checkrein_targets::Limits {
            connect: SECOND,
            lock: Duration::from_millis(20),
            count: Duration::from_millis(500),
            execute: 60 * SECOND,
            snapshot: HOUR,
            snapshot_rows: 7,
            snapshot_bytes: 1 << 20,
            result_rows: 8,
            result_bytes: 2_048,
            connections: 3,
        }
    );
    assert_eq!(target("old").snapshot_when, SnapshotWhen::Never);
    assert_eq!(target("old").config.place.kind(), Kind::Mysql);
    assert_eq!(target("notes").snapshot_when, SnapshotWhen::RecordsExceed(12));
    let notes = dir.path().join("notes.db");
    assert!(matches!(&target("notes").config.place, Place::Sqlite(path) if *path == notes));
    assert_eq!(target("invoices").snapshot_when, SnapshotWhen::RecordsExceed(1), "the default");
    assert_eq!(target("invoices").config.limits, checkrein_targets::Limits::default());
    assert!(!format!("{config:?}").contains("hunter2"), "no secret in Debug");
}

#[test]
fn mistakes_name_their_place() {
    let one = |text: &str, start: &str, contains: &str| {
        let env = [("U", "postgres://a@127.0.0.1/shop")];
        let problems = with_env(text, &env).expect_err("it should be refused").problems;
        let texts: Vec<_> = problems
            .iter()
            .map(|p| format!("{}: {}: {}", p.line.unwrap_or_default(), p.at, p.message))
            .collect();
        assert_eq!(texts.len(), 1, "{texts:#?}");
        assert!(texts[0].starts_with(start) && texts[0].contains(contains), "{texts:#?}");
    };
    one(
        "[targets.shop]\nkind = 'oracle'\nurl = 'x'\n",
        "2: targets.shop.kind:",
        "postgres, mysql, sqlite, files, other",
    );
    one(SHOP, "1: targets.shop.url:", "is missing; write url = { env = \"SHOP_URL\" }");
    one(&format!("{SHOP}path = 'x'\nurl = {{ env = 'U' }}\n"), "4: targets.shop.path:", "unknown key");
    one(&format!("{SHOP}url = {{ env = 'GONE' }}\n"), "4: targets.shop.url:", "GONE is not set");
    one("[targets.n]\nkind = 'sqlite'\nenvironment = 'sandbox'\n", "1: targets.n.path:", "is missing");
    one(
        "[targets.n]\nkind = 'sqlite'\nenvironment = 'sandbox'\npath = ''\n",
        "4: targets.n.path:",
        "cannot be empty",
    );
    one(
        "[targets.n]\nkind = 'other'\nenvironment = 'sandbox'\npath = 'x'\n",
        "4: targets.n.path:",
        "unknown key",
    );
    let shop = format!("{SHOP}url = {{ env = 'U' }}\n");
    one(&format!("{shop}snapshot_wen = 'always'\n"), "5: ", "did you mean `snapshot_when`?");
    one(&format!("{shop}snapshot_when = 'often'\n"), "5: targets.shop.snapshot_when:", "records_exceed");
    one(&format!("{shop}snapshot_when = 3\n"), "5: targets.shop.snapshot_when:", "text in quotes");
    one(&format!("{shop}snapshot_when = {{}}\n"), "5: targets.shop.snapshot_when.records_exceed:", "missing");
    one(&format!("{shop}snapshot_when = {{ records_exceed = -1 }}\n"), "5: ", "whole number from 0");
    one(
        &format!("{shop}snapshot_when = {{ record_exceeds = 1, records_exceed = 1 }}\n"),
        "5: ",
        "did you mean `records_exceed`",
    );
    let limits = format!("{shop}[targets.shop.limits]\n");
    one(&format!("{limits}count = '5h'\n"), "6: targets.shop.limits.count:", "outside 10ms to 1m");
    one(&format!("{limits}lock = 2\n"), "6: targets.shop.limits.lock:", "text in quotes");
    one(&format!("{limits}snapshot_rows = 0\n"), "6: targets.shop.limits.snapshot_rows:", "from 1");
    one(&format!("{limits}snapshot_byte = '1MiB'\n"), "6: ", "did you mean `snapshot_bytes`?");
    one("[snapshots]\nkeep = '1d'\n", "2: snapshots.keep:", "did you mean `keep_for`?");
    one("[snapshots]\nkeep_bytes = '1kB'\n", "2: snapshots.keep_bytes:", "outside 1MiB");
}

#[test]
fn an_address_is_never_in_the_file_nor_in_a_message() {
    for text in [
        format!("{SHOP}url = 'postgres://app:hunter2@127.0.0.1/shop'\n"),
        format!("{SHOP}url = 'postgres://127.0.0.1/shop'\n"),
    ] {
        let error = with_env(&text, &[]).expect_err("it should be refused").to_string();
        assert!(error.contains("is not written into the configuration"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    let text = format!("{SHOP}url = {{ env = 'U' }}\n");
    for bad in ["no url, but hunter2", "https://app:hunter2@h/x", "postgres://app:hunter2@[::/x"] {
        if let Err(error) = with_env(&text, &[("U", bad)]) {
            assert!(!error.to_string().contains("hunter2"), "{error}");
            assert_eq!(error.problems[0].at, "targets.shop.url");
        }
    }
}

#[test]
fn the_catalogue_alone_does_not_look_for_addresses() {
    let text = format!(
        "{SHOP}url = {{ env = 'NOT_SET' }}\n[targets.n]\nkind='sqlite'\nenvironment='sandbox'\npath='x'\n"
    );
    let dir = folder(&[("c.toml", &text), ("d.toml", SHOP)]);
    assert_eq!(read_catalogue(&dir.path().join("c.toml")).unwrap().targets.len(), 2);
    let error = read_catalogue(&dir.path().join("d.toml")).unwrap_err().to_string();
    assert!(error.contains("d.toml:1: targets.shop.url: is missing"), "{error}");
}

#[test]
fn snapshots_are_kept_and_sealed_as_told() {
    let text = "[snapshots]\nkeep_for = '30d'\nkeep_bytes = '10GiB'\nencryption_key = { env = 'KEY' }\n";
    let hex = "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF";
    let base64 = "ABEiM0RVZneImaq7zN3u/wARIjNEVWZ3iJmqu8zd7v8=";
    for key in [hex, base64] {
        let config = with_env(text, &[("KEY", key)]).unwrap();
        assert_eq!(config.snapshots.keep_for, Some(30 * DAY));
        assert_eq!(config.snapshots.keep_bytes, Some(10 << 30));
        assert!(config.snapshots.encryption_key.is_some());
        assert!(!format!("{config:?}").contains("0011"), "no secret in Debug");
    }
    for bad in [
        "short",
        hex.trim_start_matches("00"),
        &format!("{hex}0"),
        &hex.replace('0', "g"),
        base64.trim_start_matches("ABEi"),
        "é".repeat(32).as_str(),
    ] {
        let error = with_env(text, &[("KEY", bad)]).expect_err(bad).to_string();
        assert!(error.contains(":4: snapshots.encryption_key:") && error.contains("openssl rand"), "{error}");
        assert!(!error.contains(bad), "{error}");
    }
    assert_one("[snapshots]\nencryption_key = 'x'\n", "2: snapshots.encryption_key:", "is not written");
    let text = "[snapshots]\nkeep_bytes = '1GiB'\nagent_bytes = '10MiB'\nseal_within = '5m'\n";
    let given = load(text).unwrap().snapshots;
    assert_eq!((given.agent_bytes, given.seal_within), (Some(10 << 20), Duration::from_secs(300)));
    assert_one("[snapshots]\nseal_within = '0s'\n", "2: snapshots.seal_within:", "outside 1s");
    let text = "[snapshots]\nkeep_bytes = '1GiB'\nagent_bytes = '2GiB'\n";
    assert_one(text, "3: snapshots.agent_bytes:", "more than `keep_bytes`");
    let none = load("").unwrap().snapshots;
    assert_eq!((none.agent_bytes, none.seal_within), (None, Duration::from_secs(900)));
    assert!(none.keep_for.is_none() && none.keep_bytes.is_none() && none.encryption_key.is_none());
}
