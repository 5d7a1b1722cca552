//! Targets, from the command line: the file that describes them, and what they are like.

use crate::{common::Run, server::Server};
use serde_json::json;
use std::{fs, process::Command, time::Duration};

const FILE: &str =
    "# ours\n[server] # here\nadmin_key = { env = \"NOT_SET\" }\n\n[limits]\n# how many\nconnections = 5\n";

fn text(run: &Run) -> String {
    fs::read_to_string(run.dir.path().join("checkrein.toml")).unwrap()
}

#[test]
fn a_target_is_added_and_removed_without_touching_the_rest() {
    let run = Run::new().file("checkrein.toml", FILE);
    let add = ["target", "add", "shop", "--kind", "postgres", "--environment", "staging"];
    let ran = run.expect(0, &[&add[..], &["--url-env", "SHOP_URL"]].concat());
    assert_eq!(ran.stdout, "shop is in checkrein.toml\n");
    for said in ["export SHOP_URL=", "checkrein target test shop", "SIGHUP"] {
        assert!(ran.stderr.contains(said), "{}", ran.stderr);
    }
    let added =
        "\n[targets.shop]\nkind = \"postgres\"\nurl = { env = \"SHOP_URL\" }\nenvironment = \"staging\"\n";
    assert_eq!(text(&run), format!("{FILE}{added}"));

    let again = run.expect(1, &[&add[..], &["--url-env", "OTHER"]].concat());
    assert!(again.stderr.contains("already"), "{}", again.stderr);
    let json =
        ["target", "add", "notes", "--kind", "sqlite", "--environment", "sandbox", "--path", "notes.db"];
    let ran = run.expect(0, &[&json[..], &["--snapshot-when", "10", "--json"]].concat());
    assert_eq!(ran.json(), json!({ "added": "notes", "file": "checkrein.toml" }));
    assert!(text(&run).ends_with(
        "path = \"notes.db\"\nenvironment = \"sandbox\"\nsnapshot_when = { records_exceed = 10 }\n"
    ));

    let ran = run.expect(0, &["target", "remove", "NOTES"]);
    assert_eq!(ran.stdout, "notes is no longer in checkrein.toml\n");
    run.expect(0, &["target", "remove", "shop"]);
    assert_eq!(text(&run).trim_end(), FILE.trim_end());
    assert!(run.expect(1, &["target", "remove", "shop"]).stderr.contains("no target `shop`"));
    assert!(Run::new().expect(1, &["target", "remove", "shop"]).stderr.contains("--config"));
}

#[test]
fn what_would_not_be_good_is_not_written() {
    let run = Run::new().file("checkrein.toml", FILE);
    let postgres = ["target", "add", "shop", "--environment", "staging", "--kind", "postgres"];
    let secret = "postgres://app:hunter2@127.0.0.1/shop";
    for (flags, says) in [
        (&["--url", secret][..], "--url-env"),
        (&["--url-env", secret], "--url-env takes the name"),
        (&["--url-file", secret], "--url-file takes the path"),
        (&[], "--url-env NAME"),
        (&["--path", "x.db"], "--url-env NAME"),
        (&["--url-env", "A", "--url-file", "b"], "cannot be used with"),
        (&["--url-env", "A", "--snapshot-when", "often"], "always, never"),
        (&["--url-env", "A", "--snapshot-when", "-1"], ""),
    ] {
        let ran = run.expect(2, &[&postgres[..], flags].concat());
        assert!(ran.stderr.contains(says), "{}", ran.stderr);
        assert!(!ran.stdout.contains("hunter2"));
        assert_eq!(text(&run), FILE);
    }
    let sqlite = ["target", "add", "a", "--kind", "sqlite", "--environment", "sandbox"];
    run.expect(2, &sqlite);
    run.expect(2, &[&sqlite[..], &["--url-env", "A"]].concat());
    run.expect(1, &["target", "add", "a*", "--kind", "sqlite", "--environment", "sandbox", "--path", "x"]);
    run.expect(
        1,
        &["target", "add", "a\u{200b}", "--kind", "sqlite", "--environment", "sandbox", "--path", "x"],
    );
    assert_eq!(text(&run), FILE);

    let broken = format!("{FILE}limts = 3\n");
    let run = Run::new().file("checkrein.toml", &broken);
    let ran = run.expect(1, &[&postgres[..], &["--url-env", "A"]].concat());
    assert!(ran.stderr.contains("checkrein.toml:8: limits.limts: unknown key"), "{}", ran.stderr);
    assert_eq!(text(&run), broken);
}

#[test]
fn without_a_file_one_is_made_and_paths_hold_where_it_is() {
    let run = Run::new();
    run.expect(0, &["target", "add", "a", "--kind", "files", "--environment", "sandbox", "--path", "papers"]);
    assert_eq!(text(&run), "[targets.a]\nkind = \"files\"\npath = \"papers\"\nenvironment = \"sandbox\"\n");
    let checked = run.expect(0, &["config", "check"]);
    assert!(checked.stdout.contains("targets   1\n    a  files, sandbox\n"), "{}", checked.stdout);
    let checked = run.expect(0, &["config", "check", "--json"]).json();
    assert_eq!(checked["connected"], json!([{ "name": "a", "kind": "files", "environment": "sandbox" }]));
    assert_eq!((&checked["targets"], &checked["snapshots_encrypted"]), (&json!(1), &json!(false)));
    fs::create_dir(run.dir.path().join("etc")).unwrap();
    let elsewhere = ["--config", "etc/c.toml", "--path", "notes.db"];
    let add = ["target", "add", "notes", "--kind", "sqlite", "--environment", "sandbox"];
    run.expect(0, &[&add[..], &elsewhere].concat());
    fs::write(run.dir.path().join("notes.db"), "").unwrap();
    run.expect(0, &["target", "test", "notes", "--config", "etc/c.toml"]);
}

#[test]
fn a_target_is_tested_and_its_grants_printed_without_a_server() {
    let config = format!(
        "{FILE}[targets.notes]\nkind='sqlite'\npath='notes.db'\nenvironment='sandbox'\n\
                          [targets.shop]\nkind='postgres'\nurl={{env='GONE'}}\nenvironment='staging'\n\
                          [targets.crm]\nkind='other'\nenvironment='staging'\n"
    );
    let run = Run::new().file("checkrein.toml", config).file("notes.db", "");
    let test = ["target", "test", "Notes", "--config", "checkrein.toml"];
    let ran = run.expect(0, &test);
    assert!(ran.stdout.contains("SQLite 3"), "{}", ran.stdout);
    let report = run.expect(0, &[&test[..], &["--json"]].concat()).json();
    assert_eq!(report["ok"], true);
    assert!(report["privileges"].as_array().is_some_and(|p| p.iter().all(|p| p["ok"] == true)), "{report}");

    fs::remove_file(run.dir.path().join("notes.db")).unwrap();
    let ran = run.expect(1, &[&test[..], &["--json"]].concat());
    let report = ran.json();
    assert_eq!((&report["ok"], &report["system"]), (&json!(false), &json!(null)));
    assert!(report["error"].as_str().unwrap().contains("notes.db"), "{report}");
    let ran = run.expect(1, &test);
    assert!(ran.stdout.contains("notes.db"), "{}", ran.stdout);

    let missing = run.expect(1, &["target", "test", "shop", "--config", "checkrein.toml"]);
    assert!(missing.stderr.contains("GONE is not set"), "{}", missing.stderr);
    for none in ["crm", "other"] {
        let ran = run.expect(1, &["target", "grants", none]);
        assert!(ran.stderr.contains("connects to no target"), "{}", ran.stderr);
    }
    let ran = run.expect(0, &["target", "grants", "notes", "--account", "agent-guard"]);
    assert!(!ran.stdout.is_empty());
}

#[test]
fn a_running_server_takes_targets_over_on_sighup() {
    let server = Server::start();
    assert_eq!(server.json(&["target", "list"]), json!({ "targets": [] }));
    let folder = server.cli.dir.path();
    fs::write(folder.join("notes.db"), "").unwrap();
    fs::write(folder.join("checkrein.toml"), "").unwrap();
    server.expect(
        0,
        &["target", "add", "notes", "--kind", "sqlite", "--environment", "sandbox", "--path", "notes.db"],
    );
    server.expect(1, &["target", "test", "notes"]);
    let listed = |expected: usize| {
        let hung_up = Command::new("kill").args(["-HUP", &server.child.id().to_string()]).status().unwrap();
        assert!(hung_up.success());
        for _ in 0..200 {
            let list = server.json(&["target", "list"]);
            if list["targets"].as_array().unwrap().len() == expected {
                return list;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("the server never listed {expected} targets");
    };
    let expected = json!({ "targets": [{ "name": "notes", "kind": "sqlite", "environment": "sandbox" }] });
    assert_eq!(listed(1), expected);
    assert!(server.expect(0, &["target", "list"]).stdout.contains("notes  sqlite  sandbox"));
    assert!(server.expect(0, &["target", "test", "notes"]).stdout.contains("SQLite 3"));

    server.expect(0, &["target", "remove", "notes"]);
    listed(0);
    server.stop();
}

#[test]
fn a_check_shows_what_was_counted() {
    let config = "[targets.papers]\nkind = 'files'\npath = 'papers'\nenvironment = 'sandbox'\n";
    let run = Run::new().file("checkrein.toml", config).file("papers/a.txt", "a").file("papers/b.txt", "b");
    let server = Server::start_in(run);
    let filter = r#"{"glob": "*.txt"}"#;
    let check = ["check", "--action", "delete", "--resource", "papers", "--where", filter];
    let ran = server.expect(0, &check);
    assert!(ran.stdout.contains("2 records as counted"), "{}", ran.stdout);
    assert!(ran.stdout.contains(": 2 delete"), "{}", ran.stdout);
    server.expect(2, &["check", "--action", "delete", "--resource", "papers", "--where", "[1]"]);
    server.expect(2, &["check", "--tool", "x", "--where", "{}"]);
    server.expect(2, &["check", "--action", "delete", "--resource", "papers", "--params", "[1]"]);
}
