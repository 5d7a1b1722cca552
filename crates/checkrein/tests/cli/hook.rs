//! `checkrein hook`, with a `claude` that says which version it is. What Claude Code makes of the settings is
//! tested with its own binary, in `sdk/python/tests`.

use crate::{common::Run, server::Server};
use serde_json::Value;
use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

const SETTINGS: &str = ".claude/settings.json";

/// A home of its own, and `claude` on the PATH.
fn prepared(run: Run, version: &str) -> Run {
    let bin = run.dir.path().join("bin");
    fs::create_dir_all(&bin).unwrap();
    let claude = bin.join("claude");
    fs::write(&claude, format!("#!/bin/sh\necho '{version}'\n")).unwrap();
    fs::set_permissions(&claude, fs::Permissions::from_mode(0o755)).unwrap();
    let home = run.dir.path().join("home");
    fs::create_dir_all(&home).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    run.env("HOME", home.to_str().unwrap()).env("PATH", &path)
}

fn path(run: &Run) -> PathBuf {
    run.dir.path().join(SETTINGS)
}

#[test]
fn it_goes_in_once_and_out_again() {
    let before = "{\n  \"model\": \"opus\",\n  \"hooks\": {\n    \"Stop\": [{\"hooks\": [{\"type\": \"command\", \"command\": \"x\"}]}]\n  }\n}\n";
    let run = prepared(Run::new().file(SETTINGS, before), "2.1.328 (Claude Code)");
    let dry = run.expect(0, &["hook", "claude-code", "--install", "--dry-run"]);
    assert_eq!(fs::read_to_string(path(&run)).unwrap(), before, "a dry run writes nothing");

    let ran = run.expect(0, &["hook", "claude-code", "--install"]);
    assert!(ran.stdout.contains("before every tool call"), "{}", ran.stdout);
    assert!(
        ran.stderr.contains("export CHECKREIN_API_KEY=") && ran.stderr.contains("--check"),
        "{}",
        ran.stderr
    );
    assert!(!ran.stderr.contains("careful"), "{}", ran.stderr);
    let installed = fs::read_to_string(path(&run)).unwrap();
    assert_eq!(installed, dry.stdout);
    assert!(installed.starts_with(before.split("\n  }\n").next().unwrap()), "{installed}");
    let hook = serde_json::from_str::<Value>(&installed).unwrap();
    let hook = &hook["hooks"]["PreToolUse"][0]["hooks"][0];
    assert_eq!(hook["url"], "http://127.0.0.1:7070/v1/hooks/claude-code?wait=60s");
    assert_eq!(hook["onFailure"], "block");

    assert!(run.expect(0, &["hook", "claude-code", "--install"]).stdout.contains("already"));
    assert_eq!(fs::read_to_string(path(&run)).unwrap(), installed);
    let other = ["--url", "https://c.example/", "--key-env", "HOOK_KEY", "--wait", "0"];
    run.expect(0, &[&["hook", "claude-code", "--install"], &other[..]].concat());
    let moved = fs::read_to_string(path(&run)).unwrap();
    assert!(
        moved.contains("\"https://c.example/v1/hooks/claude-code\"") && moved.contains("Bearer $HOOK_KEY")
    );
    assert!(!moved.contains("7070"), "{moved}");

    assert!(run.expect(0, &["hook", "claude-code", "--uninstall"]).stdout.contains("no longer"));
    assert_eq!(fs::read_to_string(path(&run)).unwrap(), before);
    assert!(run.expect(0, &["hook", "claude-code", "--uninstall"]).stdout.contains("does not have"));
    let left = fs::read_dir(run.dir.path().join(".claude")).unwrap().count();
    assert_eq!(left, 1, "nothing is left behind");
}

#[test]
fn it_goes_where_it_was_told() {
    let run = prepared(Run::new().file("shop/readme", ""), "2.1.100 (Claude Code)");
    let ran = run.expect(0, &["hook", "claude-code", "--install", "--user", "--json"]);
    assert_eq!(ran.json()["changed"], true);
    assert!(ran.stderr.contains("careful") && ran.stderr.contains("2.1.295"), "{}", ran.stderr);
    assert!(run.dir.path().join("home").join(SETTINGS).exists() && !path(&run).exists());
    run.expect(0, &["hook", "claude-code", "--install", "--project", "shop"]);
    assert!(run.dir.path().join("shop").join(SETTINGS).exists());
    let elsewhere = run.env("CLAUDE_CONFIG_DIR", "elsewhere");
    elsewhere.expect(0, &["hook", "claude-code", "--install", "--user"]);
    assert!(elsewhere.dir.path().join("elsewhere/settings.json").exists());
    elsewhere.expect(1, &["hook", "claude-code", "--install", "--project", "nowhere"]);
    elsewhere.expect(0, &["hook", "claude-code", "--uninstall"]);
    assert!(!path(&elsewhere).exists(), "nothing is made to take something out");
}

#[test]
fn malformed_settings_are_left_alone() {
    for text in
        ["{\"hooks\": {},}", "// mine\n{}", "{\"hooks\": []}", "\u{feff}{}", "{\"disableAllHooks\": true}"]
    {
        let run = prepared(Run::new().file(SETTINGS, text), "2.1.328");
        let ran = run.expect(1, &["hook", "claude-code", "--install"]);
        assert!(
            ran.stderr.contains("Nothing was changed") && ran.stderr.contains(SETTINGS),
            "{}",
            ran.stderr
        );
        assert_eq!(fs::read_to_string(path(&run)).unwrap(), text);
    }
    let run = prepared(Run::new().file(SETTINGS, b"\xff\xfe"), "2.1.328");
    run.expect(1, &["hook", "claude-code", "--install"]);
    for wrong in [
        &["--install", "--uninstall"][..],
        &[],
        &["--install", "--user", "--project", "."],
        &["--install", "--wait", "571"],
        &["--install", "--key-env", "A-B"],
        &["--install", "--url", "127.0.0.1:7070"],
        &["--check", "--dry-run"],
    ] {
        run.expect(2, &[&["hook", "claude-code"], wrong].concat());
    }
}

#[test]
fn a_link_that_leads_nowhere_is_refused() {
    let run = prepared(Run::new().file(".claude/x", ""), "2.1.328");
    std::os::unix::fs::symlink("nowhere.json", path(&run)).unwrap();
    let ran = run.expect(1, &["hook", "claude-code", "--install"]);
    assert!(ran.stderr.contains("leads nowhere"), "{}", ran.stderr);
    assert!(path(&run).is_symlink());
}

#[test]
fn it_says_whether_all_is_well() {
    const CHECK: [&str; 3] = ["hook", "claude-code", "--check"];
    let server = Server::start();
    let key = server.json(&["keys", "create", "--role", "agent", "--name", "c", "--agent", "coder"]);
    let key = key["key"].as_str().unwrap();
    let mut server = server;
    server.cli = prepared(std::mem::replace(&mut server.cli, Run::new()), "2.1.328 (Claude Code)");
    let ran = server.expect(1, &CHECK);
    assert!(ran.stdout.contains("--install"), "{}", ran.stdout);
    server.expect(0, &["hook", "claude-code", "--install"]);
    let ran = server.expect(6, &CHECK);
    assert!(ran.stdout.contains("may approve"), "{}", ran.stdout);

    server.cli = std::mem::replace(&mut server.cli, Run::new()).env("CHECKREIN_API_KEY", key);
    let ran = server.expect(0, &CHECK);
    assert_eq!(ran.stdout.matches("ok     ").count(), 3, "{}", ran.stdout);
    assert_eq!(server.json(&CHECK)["ok"], true);

    let settings = path(&server.cli);
    let good = fs::read_to_string(&settings).unwrap();
    for (from, to, problem) in [
        ("\"block\"", "\"allow\"", "install it again"),
        ("\"*\"", "\"Bash\"", "install it again"),
        ("Bearer $", "Bearer ", "install it again"),
        ("\"onFailure\"", "\"once\": true, \"onFailure\"", "install it again"),
        ("{\n", "{\n  \"env\": {\"CLAUDE_CODE_SIMPLE\": \"1\"},\n", "turns all hooks off"),
        ("{\n", "{\n  \"disableAllHooks\": true,\n", "turns all hooks off"),
        ("{\n", "{\n  \"allowedHttpHookUrls\": [\"https://x/*\"],\n", "leaves out"),
        ("{\n", "{\n  \"httpHookAllowedEnvVars\": [\"X\"],\n", "leaves out"),
        ("{\n", "{,\n", "ignores the whole file"),
    ] {
        fs::write(&settings, good.replacen(from, to, 1)).unwrap();
        let ran = server.expect(1, &CHECK);
        assert!(ran.stdout.contains(problem), "{to}: {}", ran.stdout);
    }
    // A project that wants another secret, or wants it elsewhere, gets none.
    let thief = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/v1/hooks", thief.local_addr().unwrap());
    let url = good.split('"').find(|text| text.contains("/v1/hooks")).unwrap();
    let named = url.split("/v1/hooks").next().unwrap();
    for stolen in
        [good.replace(&format!("{named}/v1/hooks"), &address), good.replace("CHECKREIN_API_KEY", "HOME")]
    {
        fs::write(&settings, stolen).unwrap();
        let ran = server.expect(1, &CHECK);
        assert!(ran.stdout.contains("a hook sends"), "{}", ran.stdout);
    }
    thief.set_nonblocking(true).unwrap();
    assert!(thief.accept().is_err(), "nobody came");
    fs::write(&settings, &good).unwrap();
    let local = settings.with_file_name("settings.local.json");
    fs::write(&local, "{\"disableAllHooks\": true}").unwrap();
    server.expect(1, &CHECK);
    fs::remove_file(&local).unwrap();
    fs::write(server.cli.dir.path().join("bin/claude"), "#!/bin/sh\necho 2.1.294\n").unwrap();
    assert!(server.expect(1, &CHECK).stdout.contains("2.1.295"));
    fs::write(server.cli.dir.path().join("bin/claude"), "#!/bin/sh\necho 2.1.295\n").unwrap();
    let run = server.stop();
    run.expect(5, &CHECK);
    run.env("CHECKREIN_API_KEY", "").expect(6, &CHECK);
}
