mod drift;
mod mcp;
mod oidc;
mod targets;

use super::*;
use std::fs;

/// A folder with the given files.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

fn load_with(
    dir: &tempfile::TempDir,
    overrides: Overrides,
    env: &[(&str, &str)],
) -> Result<Config, ConfigError> {
    let config = Some(dir.path().join("checkrein.toml"));
    let lookup = |name: &str| env.iter().find(|(k, _)| *k == name).map(|(_, v)| (*v).to_owned());
    Config::load(&Overrides { config, ..overrides }, &lookup)
}

fn load(text: &str) -> Result<Config, ConfigError> {
    load_with(&folder(&[("checkrein.toml", text)]), Overrides::default(), &[])
}

/// What is wrong with a file that is given as text, as `line: at: message`.
fn wrong(text: &str) -> Vec<String> {
    let of = |p: ConfigProblem| format!("{}: {}: {}", p.line.unwrap_or_default(), p.at, p.message);
    load(text).expect_err("it should be refused").problems.into_iter().map(of).collect()
}

#[track_caller]
fn assert_one(text: &str, start: &str, contains: &str) {
    let problems = wrong(text);
    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert!(problems[0].starts_with(start) && problems[0].contains(contains), "{problems:#?}");
}

#[test]
fn an_empty_file_gives_the_documented_defaults() {
    let config = load("").unwrap();
    assert_eq!(config.listen, "127.0.0.1:7070".parse().unwrap());
    assert_eq!(config.data, Path::new("checkrein-data"));
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.approvals.expire_after, DAY);
    assert_eq!(config.log.keep_for, None);
    assert!(config.tls.is_none() && config.admin_key.is_none() && config.file_policies.is_empty());
}

#[test]
fn every_key_is_read() {
    let dir = folder(&[
        ("cert.pem", ""),
        ("key.pem", ""),
        ("policies/b.json", r#"{"policies":[{"name":"third","rule":"block","condition":{"action":"c"}}]}"#),
        ("policies/a.toml", "[[policies]]\nname='second'\nrule='block'\ncondition={action='b'}\n"),
        ("policies/.hidden.toml", "not toml"),
        ("policies/notes.txt", "not toml"),
        ("admin.key", "0123456789abcdef0123456789abcdef\n"),
        (
            "checkrein.toml",
            r#"
policy_files = ["policies"]
[server]
listen = "127.0.0.1:0"
data = "state"
insecure_listen = true
tls = { cert = "cert.pem", key = "key.pem" }
admin_key = { file = "admin.key" }
[limits]
body = "64KiB"
connections = 100
request_timeout = "2s"
agent_checks_per_second = 0
[approvals]
expire_after = "2h"
[log]
keep_for = "90d"
[[policies]]
name = "fourth"
rule = "block"
condition = { action = "d" }
"#,
        ),
    ]);
    let config = load_with(&dir, Overrides::default(), &[]).unwrap();
    assert_eq!(config.listen.port(), 0);
    assert_eq!(config.data, dir.path().join("state"));
    assert!(config.insecure_listen);
    assert_eq!(config.tls, Some(Tls { cert: dir.path().join("cert.pem"), key: dir.path().join("key.pem") }));
    assert_eq!(
        config.limits,
        Limits {
            body_bytes: 65_536,
            connections: 100,
            request_timeout: 2 * SECOND,
            agent_checks_per_second: 0
        }
    );
    assert_eq!((config.approvals.expire_after, config.log.keep_for), (2 * HOUR, Some(90 * DAY)));
    assert_eq!(config.admin_key.as_ref().unwrap().expose_secret(), "0123456789abcdef0123456789abcdef");
    let files: Vec<_> =
        config.file_policies.iter().map(|(_, file)| file.rsplit('/').next().unwrap()).collect();
    assert_eq!(files, ["a.toml", "b.json", "checkrein.toml"]);
    assert!(!format!("{config:?}").contains("0123456789abcdef"), "no secret in Debug");
}

#[test]
fn flag_wins_over_environment_wins_over_file() {
    let dir = folder(&[("checkrein.toml", "[server]\nlisten='127.0.0.1:1'\ndata='file'\n")]);
    let env = [("CHECKREIN_LISTEN", "127.0.0.1:2"), ("CHECKREIN_DATA", "env")];
    let config = load_with(&dir, Overrides::default(), &env).unwrap();
    assert_eq!((config.listen.port(), config.data.as_path()), (2, Path::new("env")));
    let flags = Overrides {
        listen: Some("127.0.0.1:3".parse().unwrap()),
        data: Some("flag".into()),
        ..Overrides::default()
    };
    let config = load_with(&dir, flags, &env).unwrap();
    assert_eq!((config.listen.port(), config.data.as_path()), (3, Path::new("flag")));

    let named = |name: &str| {
        (name == "CHECKREIN_CONFIG").then(|| dir.path().join("checkrein.toml").display().to_string())
    };
    assert_eq!(Config::load(&Overrides::default(), &named).unwrap().listen.port(), 1);
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_one_and_the_line() {
    assert_one("\n[server]\nlissten = '127.0.0.1:1'\n", "3: server.lissten:", "did you mean `listen`?");
    assert_one("[sever]\n", "1: sever:", "did you mean `server`?");
    assert_one("[limits]\nzzz = 1\n", "2: limits.zzz:", "known here: body, connections");
}

#[test]
fn all_problems_are_reported_at_once() {
    let problems = wrong(
        "[server]\nlisten = 7070\n[limits]\nbody = '1'\nconnections = 0\nrequest_timeout = '1y'\n[log]\nkeep_for = '1s'\n",
    );
    assert_eq!(problems.len(), 5, "{problems:#?}");
    for (problem, start) in problems.iter().zip([
        "2: server.listen",
        "4: limits.body",
        "5: limits.conn",
        "6: limits.req",
        "8: log.keep",
    ]) {
        assert!(problem.starts_with(start), "{problems:#?}");
    }
}

#[test]
fn files_that_are_none_are_named() {
    let fails = |path: &Path| {
        let overrides = Overrides { config: Some(path.to_owned()), ..Overrides::default() };
        let error = Config::load(&overrides, &|_| None).expect_err("it should be refused");
        assert_eq!(error.problems.len(), 1, "{error}");
        assert!(error.to_string().contains(&*path.display().to_string()), "{error}");
        error.to_string()
    };
    let dir = folder(&[
        ("large.toml", &"#".repeat(4 * 1024 * 1024 + 1)),
        ("syntax.toml", "[server]\nlisten = \n"),
        ("nested.toml", &format!("a = {}1{}", "[".repeat(100_000), "]".repeat(100_000))),
        ("dotted.toml", &format!("{}x = 1", "a.".repeat(100_000))),
        ("twice.toml", "[server]\n[server]\n"),
    ]);
    fs::write(dir.path().join("latin1.toml"), b"# ok\n# caf\xe9\n").unwrap();
    let at = |name: &str| dir.path().join(name);
    assert!(fails(&at("missing.toml")).contains("no such file"));
    assert!(fails(dir.path()).contains("is a folder"));
    assert!(fails(Path::new("/dev/zero")).contains("not a regular file"));
    assert!(fails(&at("large.toml")).contains("larger than 4MiB"));
    assert!(fails(&at("latin1.toml")).contains("latin1.toml:2: is not UTF-8"));
    assert!(fails(&at("syntax.toml")).contains("syntax.toml:2: is not TOML"));
    fails(&at("twice.toml"));
    for deep in ["nested.toml", "dotted.toml"] {
        let overrides = Overrides { config: Some(at(deep)), ..Overrides::default() };
        assert!(Config::load(&overrides, &|_| None).is_err(), "{deep}");
    }
}

#[test]
fn listening_beyond_this_machine_without_tls_has_to_be_insisted_on() {
    for open in ["0.0.0.0:7070", "[::]:7070", "192.0.2.1:7070", "[::ffff:192.0.2.1]:1"] {
        assert_one(&format!("[server]\nlisten = '{open}'\n"), "0: server.listen:", "--insecure-listen");
        assert!(load(&format!("[server]\nlisten = '{open}'\ninsecure_listen = true\n")).is_ok());
    }
    assert!(load("[server]\nlisten = '[::1]:7070'\n").is_ok());
    assert!(load("[server]\nlisten = '[::ffff:127.0.0.1]:7070'\n").is_ok());
    let dir = folder(&[
        ("checkrein.toml", "[server]\nlisten='0.0.0.0:1'\ntls={cert='c',key='k'}\n"),
        ("c", ""),
        ("k", ""),
    ]);
    assert!(load_with(&dir, Overrides::default(), &[]).is_ok());
}

#[test]
fn tls_needs_both_files() {
    let problems = wrong("[server]\ntls = { cert = 'no.pem' }\n");
    assert!(problems[0].contains("there is no file") && problems[1].contains("is missing"), "{problems:#?}");
}

#[test]
fn secrets_are_named_never_written_nor_shown() {
    let problems = wrong("[server]\nadmin_key = 'hunter2-hunter2-hunter2'\n");
    assert!(problems[0].contains("is not written into the configuration"), "{problems:#?}");
    assert!(!problems[0].contains("hunter2"));
    assert_one("[server]\nadmin_key = { env = 'NOT_SET' }\n", "2: server.admin_key:", "NOT_SET is not set");
    assert_one("[server]\nadmin_key = { file = 'gone' }\n", "2: server.admin_key:", "no such file");
    assert_one("[server]\nadmin_key = {}\n", "2: server.admin_key:", "write { env");
    assert!(
        wrong("[server]\nadmin_key = { path = 'x' }\n")[0].contains("server.admin_key.path: unknown key")
    );

    let dir = folder(&[("checkrein.toml", "[server]\nadmin_key = { env = 'MY_KEY' }\n")]);
    let load_env = |name, key| {
        load_with(&dir, Overrides::default(), &[("MY_KEY", "from-the-file-0123456789"), (name, key)])
    };
    let admin_key = |config: Config| config.admin_key.unwrap().expose_secret().to_owned();
    assert_eq!(admin_key(load_env("X", "").unwrap()), "from-the-file-0123456789");
    assert_eq!(
        admin_key(load_env("CHECKREIN_ADMIN_KEY", "01234567890123456789").unwrap()),
        "01234567890123456789"
    );
    for bad in ["", "short", "0123456789012345678", "with a space 0123456789", "with-é-01234567890123456789"]
    {
        let error = load_env("CHECKREIN_ADMIN_KEY", bad).expect_err(bad).to_string();
        assert!(error.contains("CHECKREIN_ADMIN_KEY"), "{error}");
        assert!(bad.is_empty() || !error.contains(bad), "{error}");
    }
}

#[test]
fn policies_that_do_not_compile_refuse_the_whole_with_their_place() {
    let dir = folder(&[
        (
            "more.toml",
            "# first line\n\n[[policies]]\nname = 'x'\nrule = 'blok'\ncondition = { action = 'a' }\n",
        ),
        (
            "checkrein.toml",
            "policy_files = ['more.toml', 'gone.toml']\n[[policies]]\nrule = 'block'\ncondition = {}\n",
        ),
    ]);
    let error = load_with(&dir, Overrides::default(), &[]).expect_err("it should be refused").to_string();
    assert!(error.contains("more.toml:5: policy x"), "{error}");
    assert!(error.contains("gone.toml: there is no such file"), "{error}");
    assert!(error.contains("checkrein.toml:2: policies[0]: name: missing"), "{error}");

    assert_one("policies = [2e999]\n", "1: policies:", "not finite");
    assert_one("policies = 'block'\n", "1: policies:", "[[policies]]");
    assert_one("policy_files = 'a.toml'\n", "1: policy_files:", "list of texts");
    let dir = folder(&[("checkrein.toml", "policy_files = ['empty']\n"), ("empty/readme.txt", "")]);
    let error = load_with(&dir, Overrides::default(), &[]).expect_err("it should be refused").to_string();
    assert!(error.contains("holds no .toml or .json file"), "{error}");
}

#[test]
fn policy_files_in_json() {
    let read = |text: &str| parse_policies(Path::new("p.json"), text);
    assert_eq!(read(r#"[{"name":"a"}]"#).unwrap().len(), 1);
    assert_eq!(read(r#"{"policies":[{"name":"a"},{"name":"b"}],"sources":{"a":"api"}}"#).unwrap().len(), 2);
    for bad in ["", "7", "{}", r#"{"policies":{}}"#, r#"{"polices":[]}"#, r#"[{"a":1,"a":2}]"#, "[1e999]"] {
        let error = read(bad).expect_err(bad).to_string();
        assert!(error.starts_with("p.json"), "{error}");
    }
    assert!(read(r#"{"polices":[]}"#).unwrap_err().to_string().contains("did you mean `policies`?"));
    let misspelt =
        read("[\n{\"name\": \"a\", \"rule\": \"block\",\n \"condition\": {\"acton\": \"x\"}}]").unwrap();
    let error = compile_policies(&misspelt).unwrap_err().to_string();
    assert!(error.starts_with("p.json:3: policy a: condition.acton: unknown key"), "{error}");
}

#[test]
fn targets_and_tools_make_the_catalogue() {
    let config = load(
        "[targets.shop]\nkind = 'other'\nenvironment = 'staging'\nresources = ['https://shop.example/*']\n\
         [[tools]]\ntool = ['crm_*']\nresource = 'crm.{object}'\nrecords = 'ids'\n",
    )
    .unwrap();
    assert_eq!((config.catalogue.targets.len(), config.catalogue.tools.len()), (1, 1));
    assert_eq!(config.catalogue.targets[0].name, "shop");

    assert_one("[targets.shop]\nenvironment = 'staging'\n", "1: targets.shop.kind:", "is missing");
    assert_one("[targets.shop]\nkind = 'other'\n", "1: targets.shop.environment:", "is missing");
    assert_one("[targets.s]\nkind='other'\nenvironment='prod'\n", "3: targets.s.environment:", "production");
    assert_one(
        "[targets.s]\nkind='other'\nenvironment='staging'\nresource='x'\n",
        "4:",
        "did you mean `resources`?",
    );
    assert_one("[targets.'s*']\nkind='other'\nenvironment='staging'\n", "1: targets[0].name:", "patterns");
    assert_one("\n[[tools]]\ntool = 'x'\nresorce = 'y'\n", "2: tools:", "resorce");
    assert_one(
        "[[tools]]\ntool='x'\n[[tools]]\ntool='y'\nresource='a.{'\n",
        "3: tools[1].resource:",
        "never closed",
    );
}

#[test]
fn the_catalogue_alone_needs_no_secrets() {
    let dir = folder(&[(
        "c.toml",
        "[server]\nadmin_key = { env = 'NOT_SET' }\n[targets.s]\nkind = 'other'\nenvironment = 'sandbox'\n",
    )]);
    assert_eq!(read_catalogue(&dir.path().join("c.toml")).unwrap().targets.len(), 1);
    let dir = folder(&[("c.toml", "[targets.s]\nkind = 'what'\n")]);
    assert!(
        read_catalogue(&dir.path().join("c.toml"))
            .unwrap_err()
            .to_string()
            .contains("c.toml:2: targets.s.kind")
    );
}
