//! What leaves holds no secret, and is otherwise as it was.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use checkrein_core::redact::{MAX_TEXT, REDACTED, Redactor};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::LazyLock;

fn redactor() -> &'static Redactor {
    static REDACTOR: LazyLock<Redactor> = LazyLock::new(|| {
        let fields = ["ssn", "customer.card.*", "Home-Address"].map(str::to_owned);
        Redactor::new(&fields, true).unwrap()
    });
    &REDACTOR
}

/// Put together here, so that nobody who looks through this file for secrets finds one.
fn secrets() -> Vec<(String, String)> {
    let (hex, mixed) = ("0123456789abcdef".repeat(4), "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG5".repeat(2));
    let part = |text: &str, length: usize| text.chars().take(length).collect::<String>();
    let whole = |secret: String| (secret.clone(), secret);
    let jwt = format!("eyJ{}.eyJ{}.{}", part(&mixed, 20), part(&mixed, 30), part(&mixed, 43));
    let pem = |kind: &str| {
        let mark = "-".repeat(5);
        format!("{mark}BEGIN {kind}PRIVATE KEY{mark}\n{mixed}\n{mixed}\n{mark}END {kind}PRIVATE KEY{mark}")
    };
    vec![
        whole(format!("AKIA{}", "ABCDEFGH12345678")),
        whole(format!("ghp_{}", part(&mixed, 36))),
        whole(format!("github_pat_{}", part(&mixed, 60))),
        whole(format!("glpat-{}", part(&mixed, 20))),
        whole(format!("xoxb-123456789012-{}", part(&mixed, 24))),
        whole(format!("sk-proj-{}", part(&mixed, 48))),
        whole(format!("sk-ant-api03-{}", part(&mixed, 48))),
        whole(format!("sk_live_{}", part(&mixed, 24))),
        whole(format!("whsec_{}", part(&mixed, 32))),
        whole(format!("AIza{}", part(&mixed, 35))),
        whole(format!("npm_{}", part(&mixed, 36))),
        whole(format!("hf_{}", part(&mixed, 34))),
        whole(format!("hvs.{}", part(&mixed, 30))),
        whole(format!("ck_agent_{hex}")),
        whole(jwt),
        whole(pem("")),
        whole(pem("RSA ")),
        whole(pem("OPENSSH ")),
        ("https://hooks.slack.com/services/T0/B0/XYZXYZXYZ1".to_owned(), "T0/B0/XYZXYZXYZ1".to_owned()),
        ("postgres://app:hunter2@db.example/shop".to_owned(), "hunter2".to_owned()),
        ("Authorization: Bearer abcdef0123456789".to_owned(), "abcdef0123456789".to_owned()),
        ("authorization: basic dXNlcjpwYXNzd29yZDE=".to_owned(), "dXNlcjpwYXNzd29yZDE".to_owned()),
        ("password=hunter2".to_owned(), "hunter2".to_owned()),
        ("token:password=hunter".to_owned(), "hunter".to_owned()),
        ("password=' password=hunter2 AKIAABCDEFGH12345678".to_owned(), "hunter2".to_owned()),
        ("password=[redactedhunter2".to_owned(), "hunter2".to_owned()),
        (r#"{"password": "correct horse"}"#.to_owned(), "correct horse".to_owned()),
        (r#"{\"api_key\":\"hunter two\"}"#.to_owned(), "hunter two".to_owned()),
        ("https://x.example/?a=1&token=abcDEF&b=2".to_owned(), "abcDEF".to_owned()),
        ("login --password hunter2 --host db".to_owned(), "hunter2".to_owned()),
        whole("4111 1111 1111 1111".to_owned()),
        whole("4111-1111-1111-1111".to_owned()),
        whole("5555555555554444".to_owned()),
        whole("3782 822463 10005".to_owned()),
        whole("6011111111111117".to_owned()),
        ("1234 4111 1111 1111 1111".to_owned(), "4111 1111 1111 1111".to_owned()),
        whole("alice.o'neil+x@mail.example.org".replace('\'', "")),
        whole("jürgen@bücher.example".to_owned()),
    ]
}

#[test]
fn secrets_are_found_wherever_they_stand() {
    let redactor = redactor();
    for (text, secret) in secrets() {
        for (before, after) in
            [("", ""), ("see ", " there"), ("(", ")"), ("x=\"", "\""), ("\n", "\n"), ("é ", ", and")]
        {
            let text = format!("{before}{text}{after}");
            let redacted = redactor.text(&text).into_owned();
            assert!(!redacted.contains(&secret), "{text} left {redacted}");
            assert!(redacted.contains(REDACTED) && redacted.starts_with(before), "{text} became {redacted}");
        }
    }
    let kept = redactor.text("postgres://app:hunter2@db.example/shop").into_owned();
    assert_eq!(kept, "postgres://app:[redacted]@db.example/shop");
}

#[test]
fn what_is_no_secret_stays() {
    let redactor = redactor();
    for text in [
        "chk_0192f0c1d2e3740480a1b2c3d4e5f607",
        "apr_0192f0c1-d2e3-7404-80a1-b2c3d4e5f607",
        "12345678-1234-4123-8123-123456789012",
        "41111111-1111-4111-8111-111111111111",
        "4111111111111112",
        "1795338605123456",
        "order 1234567890123456 of 2026-11-22T09:10:05.123456Z",
        "0.4111111111111111",
        "x4111111111111111",
        "1234 5678 9012 3456 7890, 4111 1111 1111",
        "4111111111111111111111111111111",
        "billing-bot was blocked: delete on production.users touches 62310 records, over 25",
        "SELECT token, secret FROM sessions WHERE password IS NULL",
        "the token: expired; max_tokens=4096, token=17, tokens: 5, token_count=12",
        "basic understanding of bearer bonds",
        "a task-force-for-something-very-long-indeed, a disk-based-something-rather-long",
        "https://host:8080/path and http://[::1]:7070/v1/checks?cursor=abc",
        "git@ and @mention and a@b",
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        "eyJhbGciOiJIUzI1NiJ9",
        "[redacted]",
        "password=[redacted]",
        "",
    ] {
        assert_eq!(redactor.text(text), text);
        assert!(matches!(redactor.text(text), std::borrow::Cow::Borrowed(_)), "{text}");
    }
    assert_eq!(Redactor::new(&[], false).unwrap().text("alice@mail.example"), "alice@mail.example");
}

#[test]
fn fields_are_found_by_name_and_path_at_any_depth() {
    let mut value = json!({
        "SSN": "123", "s_s-n": 5, "nested": [{ "ssn": { "a": [1] } }, [{ "PassWord": 1234 }]],
        "customer": { "card": { "number": "x", "month": 7, "valid": true, "none": null } },
        "card": { "number": "x" },
        "homeaddress": "x", "home_address": ["x"], "address": "x",
        "password": null, "token": false, "tokens": 5,
        "4111111111111111": 4_111_111_111_111_111_u64, "note": "password=hunter2", "id": 1_795_338_605_123_456_u64,
    });
    redactor().value(&mut value);
    assert_eq!(
        value,
        json!({
            "SSN": REDACTED, "s_s-n": REDACTED, "nested": [{ "ssn": REDACTED }, [{ "PassWord": REDACTED }]],
            "customer": { "card": { "number": REDACTED, "month": REDACTED, "valid": true, "none": null } },
            "card": { "number": "x" },
            "homeaddress": REDACTED, "home_address": REDACTED, "address": "x",
            "password": null, "token": false, "tokens": 5,
            REDACTED: REDACTED, "note": "password=[redacted]", "id": 1_795_338_605_123_456_u64,
        })
    );
    for bad in ["", "a..b", ".", "_"] {
        let error = Redactor::new(&[bad.to_owned()], false).unwrap_err();
        assert!(error.contains(&format!("`{bad}`")), "{error}");
    }
    assert!(Redactor::new(&vec!["x".to_owned(); 1001], false).is_err());
}

#[test]
fn what_is_too_large_is_cut_and_what_is_too_deep_hidden() {
    let redactor = redactor();
    let long = format!("{} password=hunter2", "word ".repeat(MAX_TEXT / 5));
    let text = redactor.text(&long);
    assert!(text.len() <= MAX_TEXT + 10 && text.ends_with('…') && !text.contains("hunter2"));
    assert_eq!(redactor.text(&"é".repeat(MAX_TEXT)), "…");
    let mut deep = json!("secret");
    for _ in 0..300 {
        deep = json!([deep]);
    }
    redactor.value(&mut deep);
    assert!(!deep.to_string().contains("secret") && deep.to_string().contains(REDACTED));
}

fn texts() -> impl Strategy<Value = String> {
    let secrets: Vec<_> = secrets().into_iter().map(|(text, _)| text).collect();
    let marks = [
        "",
        " ",
        "-",
        "_",
        ".",
        ":",
        "@",
        "=",
        "\"",
        "'",
        "\\",
        "password=",
        "bearer ",
        "eyJ",
        "4",
        "://",
        "/",
    ];
    let piece = prop_oneof![
        prop::sample::select(secrets),
        prop::sample::select(marks.map(str::to_owned).to_vec()),
        "[a-z0-9]{0,8}",
        ".{0,6}",
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn again_changes_nothing(text in texts()) {
        let redactor = redactor();
        let once = redactor.text(&text).into_owned();
        prop_assert_eq!(redactor.text(&once), once.as_str());
    }

    #[test]
    fn a_secret_between_spaces_never_stays(before in texts(), after in texts(), at in 0..38_usize) {
        let (text, secret) = secrets().remove(at);
        let redacted = redactor().text(&format!("{before} {text} {after}")).into_owned();
        prop_assume!(!before.contains(&secret) && !after.contains(&secret));
        prop_assert!(!redacted.contains(&secret), "{redacted}");
    }

    #[test]
    fn values_again_change_nothing(keys in prop::collection::vec(texts(), 0..4), text in texts()) {
        let mut value: Value = json!({ "list": [text.clone(), { "x": text }] });
        for key in keys {
            value = json!({ key: value });
        }
        let redactor = redactor();
        redactor.value(&mut value);
        let once = value.clone();
        redactor.value(&mut value);
        prop_assert_eq!(value, once);
    }
}

#[test]
fn a_message_keeps_its_ids_and_loses_its_secrets() {
    let secret = "password=hunter2";
    let message = json!({
        "delivery_id": "dlv_1", "dedup_key": "grp_1", "status": "firing", "severity": "critical", "count": 1,
        "first_at": "2026-11-22T09:10:05Z", "last_at": "2026-11-22T09:10:05Z", "link": null,
        "signals": [{
            "id": "sig_1", "kind": "action.blocked", "severity": "critical", "status": "firing", "condition": "blocked:x",
            "at": "2026-11-22T09:10:05Z", "summary": secret, "agent": secret, "session": "s", "action": secret,
            "resource": secret, "tool": secret, "policies": [secret], "check_id": "chk_1", "by": secret, "next": secret,
            "blast_radius": {
                "records": 1, "systems": 1, "recipients": 0, "basis": "counted", "declared": null,
                "by_resource": [{ "resource": secret, "records": 1 }],
            },
        }],
    });
    let mut message: checkrein_core::signal::Notification = serde_json::from_value(message).unwrap();
    let before = message.clone();
    Redactor::new(&["session".to_owned()], false).unwrap().notification(&mut message);
    let text = serde_json::to_string(&message).unwrap();
    assert!(!text.contains("hunter2"), "{text}");
    let (signal, was) = (message.signals.first().unwrap(), before.signals.first().unwrap());
    assert_eq!(signal.session.as_deref(), Some(REDACTED));
    assert_eq!((&signal.id, &signal.condition, &signal.check_id), (&was.id, &was.condition, &was.check_id));
    assert_eq!((message.dedup_key, message.delivery_id), (before.dedup_key, before.delivery_id));
}
