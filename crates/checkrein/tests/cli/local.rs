//! Commands that need no server.

use crate::common::{Run, repository};

#[test]
fn help_is_what_it_was() {
    let run = Run::new();
    let groups = ["policy", "approvals", "log", "keys", "target", "snapshot", "hook", "config", "drift"];
    let mut pages = vec![vec![]];
    pages.extend(groups.iter().map(|g| vec![*g]));
    for command in ["serve", "check", "execute", "rollback", "mcp", "classify", "openapi"] {
        pages.push(vec![command]);
    }
    for (group, commands) in groups.iter().zip([
        &["list", "apply", "validate", "delete", "test", "replay"][..],
        &["list", "show", "approve", "deny"],
        &["tail", "show", "export", "verify"],
        &["list", "create", "revoke"],
        &["add", "list", "test", "remove", "grants"],
        &["list", "show", "export", "seal", "take"],
        &["claude-code"],
        &["check"],
        &["replay", "score", "explain"],
    ]) {
        pages.extend(commands.iter().map(|c| vec![*group, *c]));
    }
    let text = pages.iter().fold(String::new(), |text, page| {
        let ran = run.expect(0, &[page.as_slice(), &["--help"]].concat());
        assert!(ran.stderr.is_empty(), "{}", ran.stderr);
        text + &format!(
            "$ checkrein {}--help\n{}\n",
            page.iter().map(|p| format!("{p} ")).collect::<String>(),
            ran.stdout
        )
    });
    insta::assert_snapshot!("help", text);
}

#[test]
fn version_and_wrong_usage() {
    let run = Run::new();
    assert_eq!(run.expect(0, &["--version"]).stdout, format!("checkrein {}\n", env!("CARGO_PKG_VERSION")));
    for wrong in [
        &[][..],
        &["sevre"],
        &["log"],
        &["log", "verify", "--anchor", "12:xyz"],
        &["keys", "create", "--role", "agent", "--name", "x"],
        &["keys", "create", "--role", "root", "--name", "x"],
        &["check", "--action", "delete"],
        &["check", "--action", "delete", "--tool", "x", "--resource", "y"],
        &["policy", "replay", "p.toml", "--since", "yesterday"],
        &["serve", "--listen", "localhost"],
    ] {
        let ran = run.expect(2, wrong);
        assert!(!ran.stderr.is_empty() && ran.stdout.is_empty(), "{wrong:?}");
    }
    assert!(run.run(&["sevre"]).stderr.contains("serve"));
}

#[test]
fn the_examples_are_good() {
    let run = Run::new();
    let (config, policies, tests) = (
        repository("examples/checkrein.toml"),
        repository("examples/policies.toml"),
        repository("examples/policy-tests.json"),
    );
    let checked = run.expect(0, &["config", "check", "--config", &config, "--json"]).json();
    assert_eq!(
        (&checked["policies"], &checked["tools"], &checked["targets"]),
        (&7.into(), &3.into(), &2.into())
    );
    assert_eq!(run.expect(0, &["policy", "validate", &policies]).stdout, "7 policies are valid\n");
    let tested = run.expect(0, &["policy", "test", &tests, "--policies", &policies]);
    assert!(tested.stdout.ends_with("11 examples, 0 failed\n"), "{}", tested.stdout);
}

#[test]
fn a_wrong_configuration_names_file_line_and_next_step() {
    let run = Run::new().file("checkrein.toml", "[server]\nlissten = '127.0.0.1:1'\n[limits]\nbody = 7\n");
    for command in [&["config", "check"][..], &["serve"]] {
        let ran = run.expect(1, command);
        assert!(
            ran.stderr.contains("checkrein.toml:2: server.lissten: unknown key; did you mean `listen`?"),
            "{}",
            ran.stderr
        );
        assert!(ran.stderr.contains("checkrein.toml:4: limits.body: must be a text"), "{}", ran.stderr);
        assert!(ran.stdout.is_empty());
    }
    let ran = Run::new().expect(1, &["config", "check", "--config", "gone.toml"]);
    assert!(ran.stderr.contains("gone.toml: there is no such file"), "{}", ran.stderr);
    let ran = Run::new().expect(1, &["serve", "--listen", "0.0.0.0:0"]);
    assert!(ran.stderr.contains("--insecure-listen"), "{}", ran.stderr);
    let ran = Run::new().env("CHECKREIN_ADMIN_KEY", "short").expect(1, &["serve"]);
    assert!(ran.stderr.contains("at least 20"), "{}", ran.stderr);
    Run::new().env("CHECKREIN_CONFIG", "gone.toml").expect(1, &["config", "check"]);
    Run::new().expect(0, &["config", "check"]);
}

#[test]
fn classify_explains() {
    let run = Run::new();
    let sql = r#"{"tool":"run_sql","arguments":{"sql":"DELETE FROM production.users"}}"#;
    let ran = run.expect(0, &["classify", sql]);
    assert!(ran.stdout.contains("delete on "), "{}", ran.stdout);
    assert!(ran.stdout.contains("records     unknown"), "{}", ran.stdout);
    assert!(ran.stdout.starts_with("- "), "it says how it came to that: {}", ran.stdout);
    let json = Run::new().input(sql).expect(0, &["classify", "-", "--json"]).json();
    assert_eq!(json["action"]["category"], "delete");
    assert!(json["steps"].as_array().is_some_and(|steps| !steps.is_empty()));

    let tool = r#"{"tool":"crm_sync","arguments":{"object":"contacts","contact_ids":[1,2,3]}}"#;
    let config = repository("examples/checkrein.toml");
    let json = run.expect(0, &["classify", tool, "--config", &config, "--json"]).json();
    assert_eq!(json["action"]["resource"], "crm.contacts");
    assert_eq!(json["action"]["records"], 3);

    for bad in ["", "7", "{", r#"{"tol":"x"}"#, r#"{"tool":"a","tool":"b"}"#] {
        run.expect(2, &["classify", bad]);
    }
    run.expect(1, &["classify", "{}"]);
}

#[test]
fn nothing_from_outside_reaches_the_terminal_raw() {
    let run = Run::new();
    let hostile = "{\"action\":\"read\",\"resource\":\"https://x.example/\\u001b[2J\\u202e\"}";
    let ran = run.run(&["classify", hostile]);
    for text in [&ran.stdout, &ran.stderr] {
        assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
    }
    let policy = "[[policies]]\nname = \"a\\u001b[31m\"\nrule = 'block'\ncondition = {}\n";
    let ran = Run::new().file("p.toml", policy).expect(1, &["policy", "validate", "p.toml"]);
    assert!(!ran.stderr.contains('\u{1b}'), "{:?}", ran.stderr);
}

#[test]
fn policies_are_validated_as_a_set() {
    let good = "[[policies]]\nname = 'a'\nrule = 'block'\ncondition = { action = 'x' }\n";
    let run = Run::new()
        .file("p/a.toml", good)
        .file("p/b.json", r#"[{"name":"b","rule":"alert","condition":{"action":"y"}}]"#)
        .file("twice.toml", good)
        .file(
            "wrong.toml",
            "[[policies]]\nname = 'w'\nrule = 'block'\ncondition = { resorce_pattern = 'x' }\n",
        )
        .file("none.toml", "");
    let json = run.expect(0, &["policy", "validate", "p", "--json"]).json();
    assert_eq!(json["policies"], serde_json::json!(["a", "b"]));
    let ran = run.expect(1, &["policy", "validate", "p", "wrong.toml"]);
    assert!(ran.stderr.contains("wrong.toml:4: policy w: condition.resorce_pattern"), "{}", ran.stderr);
    assert!(ran.stderr.contains("did you mean `resource_pattern`?"), "{}", ran.stderr);
    let ran = run.expect(1, &["policy", "validate", "p", "twice.toml"]);
    assert!(ran.stderr.contains("twice.toml:2: policy a: name: 2 policies have this name"), "{}", ran.stderr);
    run.expect(1, &["policy", "validate", "none.toml"]);
    run.expect(1, &["policy", "validate", "gone.toml"]);
    let from_stdin = Run::new().input(r#"[{"name":"b","rule":"alert","condition":{"action":"y"}}]"#);
    from_stdin.expect(0, &["policy", "validate", "-"]);
}

#[test]
fn a_failing_example_is_told_and_fails_the_run() {
    let run = Run::new()
        .file("p.toml", "[[policies]]\nname = 'a'\nrule = 'block'\ncondition = { action = 'update', record_count_exceeds = 5 }\n")
        .file("t.json", r#"[{"name":"six","check":{"action":"update","resource":"t","payload":{"record_count":6}},"expect":"allow"}]"#)
        .file("none.json", "[]")
        .file("bad.json", r#"[{"check":{"action":"x"},"expct":"allow"}]"#);
    let ran = run.expect(1, &["policy", "test", "t.json", "--policies", "p.toml"]);
    assert!(ran.stdout.contains("FAILED  six (block)"), "{}", ran.stdout);
    assert!(ran.stdout.contains("expected allow, got block"), "{}", ran.stdout);
    assert!(ran.stdout.ends_with("1 example, 1 failed\n"), "{}", ran.stdout);
    let json = run.expect(1, &["policy", "test", "t.json", "--policies", "p.toml", "--json"]).json();
    assert_eq!((&json["passed"], &json["failed"]), (&0.into(), &1.into()));
    assert!(
        run.expect(1, &["policy", "test", "none.json", "--policies", "p.toml"])
            .stderr
            .contains("no examples")
    );
    assert!(run.expect(1, &["policy", "test", "bad.json", "--policies", "p.toml"]).stderr.contains("expct"));
}

#[test]
fn the_log_needs_a_data_folder() {
    let ran = Run::new().expect(1, &["log", "verify"]);
    assert!(ran.stderr.contains("there is no Checkrein store in ./checkrein-data"), "{}", ran.stderr);
    let ran = Run::new().env("CHECKREIN_DATA", "elsewhere").expect(1, &["log", "tail"]);
    assert!(ran.stderr.contains("elsewhere"), "{}", ran.stderr);
}

#[test]
fn no_server_and_no_key_have_codes_of_their_own() {
    let run = Run::new().env("CHECKREIN_URL", "http://127.0.0.1:9");
    let ran = run.expect(6, &["keys", "list"]);
    assert!(ran.stderr.contains("CHECKREIN_API_KEY"), "{}", ran.stderr);
    let run = run.env("CHECKREIN_API_KEY", "some-key");
    let ran = run.expect(5, &["check", "--action", "delete", "--resource", "x"]);
    assert!(
        ran.stderr.contains("http://127.0.0.1:9") && ran.stderr.contains("checkrein serve"),
        "{}",
        ran.stderr
    );
    run.expect(2, &["keys", "list", "--url", "127.0.0.1:9"]);
    run.expect(6, &["keys", "list", "--api-key-file", "gone"]);
    let run = Run::new().env("CHECKREIN_API_KEY", "bad\u{7}key");
    assert!(!run.expect(6, &["keys", "list"]).stderr.contains("bad"));
}

#[test]
fn a_closed_pipe_is_no_error() {
    let run = Run::new();
    let mut command = run.command(&["policy", "--help"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command.stdout(writer).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));

    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = run.command(&["config", "check"]).stdout(writer).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}
