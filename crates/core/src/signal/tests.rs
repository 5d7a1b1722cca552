use super::*;
use crate::name::Pattern;

const SECOND: i64 = 1_000_000;
const START: i64 = 1_700_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros((START + seconds) * SECOND)
}

fn signal(kind: &str, condition: &str, agent: &str, seconds: i64) -> Signal {
    let status = if kind.starts_with("approval.") { Status::Resolved } else { Status::Firing };
    serde_json::from_value(serde_json::json!({
        "id": "", "kind": kind, "severity": "warning", "status": status, "condition": condition,
        "at": at(seconds), "summary": "s", "agent": agent, "environment": "production", "policies": ["Limit"],
    }))
    .unwrap()
}

fn routing(sinks: &[&str]) -> Routing {
    let sinks: Vec<String> = sinks.iter().map(|s| (*s).to_owned()).collect();
    Routing { routes: vec![Route { sinks: sinks.clone(), ..Route::default() }], sinks, ..Routing::default() }
}

/// Feeds signals, delivers at once whatever is due, and writes down what was sent and when.
#[derive(Default)]
struct Desk {
    groups: Groups,
    seq: u64,
    sent: Vec<(i64, Outgoing)>,
    down: bool,
    held_back: Vec<String>,
}

impl Desk {
    fn take(&mut self, routing: &Routing, signal: &Signal, seconds: i64) {
        self.seq += 1;
        self.groups.take(Place { seq: self.seq, n: 0 }, signal, routing, at(seconds));
        self.tick(routing, seconds);
    }

    fn tick(&mut self, routing: &Routing, seconds: i64) {
        loop {
            let (due, wake) = self.groups.due(routing, at(seconds));
            assert!(wake.is_none_or(|wake| wake > at(seconds)), "what is due is given at once");
            if due.is_empty() {
                return;
            }
            for message in due {
                let id = message.notification.delivery_id.clone();
                assert!(message.notification.dedup_key.len() <= 255 && id.len() <= 255);
                assert!((1..=5).contains(&message.notification.signals.len()));
                self.sent.push((seconds, message));
                if self.down { self.held_back.push(id) } else { self.groups.settled(&id) }
            }
        }
    }

    fn up(&mut self, routing: &Routing, seconds: i64) {
        self.down = false;
        for id in std::mem::take(&mut self.held_back) {
            self.groups.settled(&id);
        }
        self.tick(routing, seconds);
    }

    fn told(&self) -> Vec<(i64, Status, u64)> {
        self.sent.iter().map(|(at, m)| (*at, m.notification.status, m.notification.count)).collect()
    }
}

#[test]
fn one_condition_is_one_message_an_interval_with_the_count() {
    let (routing, mut desk) = (routing(&["team"]), Desk::default());
    for second in 0..700 {
        desk.take(&routing, &signal("action.blocked", "blocked/bot/limit", "bot", second), second);
    }
    let firing = Status::Firing;
    assert_eq!(desk.told(), [(0, firing, 1), (300, firing, 301), (600, firing, 601)]);
    desk.tick(&routing, 900);
    assert_eq!(desk.told().last(), Some(&(900, firing, 700)), "nothing is kept back for ever");
    let keys: std::collections::HashSet<_> =
        desk.sent.iter().map(|(_, m)| m.notification.dedup_key.clone()).collect();
    let ids: std::collections::HashSet<_> =
        desk.sent.iter().map(|(_, m)| m.notification.delivery_id.clone()).collect();
    assert_eq!((keys.len(), ids.len()), (1, 4));
    desk.tick(&routing, 900 + 4 * 3600);
    assert!(desk.groups.is_empty() && desk.sent.len() == 4, "a quiet one is closed without a word");
}

#[test]
fn what_becomes_worse_is_told_at_once() {
    let (routing, mut desk) = (routing(&["team"]), Desk::default());
    desk.take(&routing, &signal("action.blocked", "c", "bot", 0), 0);
    let mut worse = signal("action.blocked", "c", "bot", 5);
    worse.severity = Severity::Critical;
    desk.take(&routing, &worse, 5);
    assert_eq!(desk.sent.len(), 2);
    assert_eq!(desk.sent[1].1.notification.severity, Severity::Critical);
}

#[test]
fn ten_thousand_signals_of_one_agent_are_a_handful_of_messages() {
    for kind in ["action.blocked", "action.held"] {
        let (routing, mut desk) = (routing(&["team"]), Desk::default());
        // The worst case: each is a condition of its own, and each hold expires after an hour.
        for n in 0..10_000_i64 {
            desk.take(&routing, &signal(kind, &format!("approval/apr_{n}"), "bot", n / 50), n / 50);
        }
        for n in 0..10_000_i64 {
            let over = signal("approval.expired", &format!("approval/apr_{n}"), "bot", 250 + n / 50);
            desk.take(&routing, &over, 250 + n / 50);
        }
        desk.tick(&routing, 3_600);
        let total: u64 = desk
            .sent
            .iter()
            .filter(|(_, m)| m.condition.starts_with("flood/"))
            .map(|(_, m)| m.notification.count)
            .max()
            .unwrap();
        assert!(total >= 10_000 - 5, "all are counted: {total}");
        assert!(desk.sent.len() <= 14, "{kind}: {} messages", desk.sent.len());
        assert!(desk.groups.len() <= 6, "and all but what still holds is forgotten: {}", desk.groups.len());
    }
}

#[test]
fn another_agent_is_heard_beside_a_flood() {
    let (routing, mut desk) = (routing(&["team"]), Desk::default());
    for n in 0..1_000 {
        desk.take(&routing, &signal("action.held", &format!("approval/{n}"), "runaway", 1), 1);
    }
    let before = desk.sent.len();
    desk.take(&routing, &signal("action.held", "approval/x", "other", 2), 2);
    assert_eq!(desk.sent.len(), before + 1);
    assert_eq!(desk.sent[before].1.condition, "approval/x");
    // Names that one agent makes up do not get around it.
    for n in 0..1_000 {
        desk.take(&routing, &signal("action.held", &format!("approval/y{n}"), &format!("fake-{n}"), 3), 3);
    }
    assert!(desk.sent.len() < 60, "{}", desk.sent.len());
}

#[test]
fn a_hold_that_is_answered_is_resolved_where_it_was_told() {
    let mut routing = routing(&["team"]);
    routing.routes[0].matcher.kinds = vec![Pattern::new("action.*").unwrap()];
    let mut desk = Desk::default();
    desk.take(&routing, &signal("action.held", "approval/1", "bot", 0), 0);
    desk.tick(&routing, 4 * 3600);
    assert_eq!(desk.sent.len(), 2, "it still waits: said again");
    desk.take(&routing, &signal("approval.approved", "approval/1", "bot", 15_000), 15_000);
    assert_eq!(desk.sent[2].1.notification.status, Status::Resolved);
    assert_eq!(desk.sent[2].1.notification.dedup_key, desk.sent[0].1.notification.dedup_key);
    assert!(desk.groups.is_empty());
    // Of one that it was never told of it hears nothing.
    desk.take(&routing, &signal("approval.approved", "approval/2", "bot", 15_001), 15_001);
    assert_eq!(desk.sent.len(), 3);
}

#[test]
fn a_sink_that_is_down_gets_one_message_a_condition_and_then_the_rest_in_order() {
    let (routing, mut desk) = (routing(&["team"]), Desk { down: true, ..Desk::default() });
    for second in 0..3_600 {
        desk.take(&routing, &signal("action.blocked", "c", "bot", second), second);
    }
    desk.take(&routing, &signal("action.held", "approval/1", "bot", 3_600), 3_600);
    desk.take(&routing, &signal("approval.denied", "approval/1", "bot", 3_601), 3_601);
    assert_eq!(desk.sent.len(), 2);
    desk.up(&routing, 3_602);
    let told: Vec<_> = desk.told().into_iter().map(|(_, status, count)| (status, count)).collect();
    assert_eq!(
        told,
        [(Status::Firing, 1), (Status::Firing, 1), (Status::Firing, 3_600), (Status::Resolved, 2)]
    );
}

#[test]
fn silence_holds_back_and_does_not_lose_what_lasts() {
    let mut routing = routing(&["team"]);
    routing.silences.push(Silence {
        id: "sil_1".into(),
        matcher: Matcher { agent: Some(Pattern::new("bot").unwrap()), ..Matcher::default() },
        owner: "eve".into(),
        comment: String::new(),
        from: at(0),
        until: at(100),
    });
    let mut desk = Desk::default();
    desk.take(&routing, &signal("action.blocked", "c", "bot", 10), 10);
    desk.take(&routing, &signal("action.held", "approval/1", "bot", 10), 10);
    desk.take(&routing, &signal("action.held", "approval/2", "bot", 10), 10);
    desk.take(&routing, &signal("approval.denied", "approval/2", "bot", 11), 11);
    desk.take(&routing, &signal("action.blocked", "d", "other", 12), 12);
    assert_eq!(desk.told(), [(12, Status::Firing, 1)]);
    desk.tick(&routing, 100);
    assert_eq!(desk.sent.len(), 2);
    assert_eq!(desk.sent[1].1.condition, "approval/1", "it still waits for an answer");
}

/// A silence for holds of whoever, as long as any of these tests lasts.
fn holds_are_silent() -> Routing {
    let matcher = Matcher { kinds: vec![Pattern::new("action.held").unwrap()], ..Matcher::default() };
    let (id, owner, comment) = ("sil_1".into(), "eve".into(), String::new());
    let silence = Silence { id, matcher, owner, comment, from: at(0), until: at(1_000_000) };
    Routing { silences: vec![silence], ..routing(&["team"]) }
}

#[test]
fn what_is_silent_hides_nothing_that_is_not() {
    let (routing, mut desk) = (holds_are_silent(), Desk::default());
    // Six conditions make a flood; a message is on its way while the worst happens, and then come silent ones.
    for n in 0..6 {
        desk.take(&routing, &signal("action.blocked", &format!("blocked/bot/{n}"), "bot", n), n);
    }
    desk.sent.clear();
    let busy = Place { seq: 90, n: 0 };
    let mut worst = signal("snapshot.failed", "snapshot/shop", "bot", 7);
    worst.severity = Severity::Critical;
    desk.down = true;
    desk.groups.take(busy, &worst, &routing, at(7));
    for n in 8..40 {
        let held = signal("action.held", &format!("approval/{n}"), "bot", n);
        desk.groups.take(Place { seq: 90 + n.unsigned_abs(), n: 0 }, &held, &routing, at(n));
    }
    desk.tick(&routing, 41);
    let [(41, told)] = desk.sent.as_slice() else { panic!("{:?}", desk.told()) };
    assert_eq!(told.notification.severity, Severity::Critical);
    let kinds: Vec<_> = told.notification.signals.iter().map(|s| s.kind.as_str()).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "snapshot.failed").count(), 1, "{kinds:?}");
}

#[test]
fn an_open_breaker_is_told_beside_the_flood_of_its_agent() {
    let (routing, mut desk) = (routing(&["team"]), Desk::default());
    let mut worst = signal("snapshot.failed", "snapshot/shop", "bot", 0);
    worst.severity = Severity::Critical;
    for n in 0..50 {
        worst.condition = format!("snapshot/{n}");
        desk.take(&routing, &worst, 0);
    }
    desk.sent.clear();
    let mut opened = signal("breaker.opened", "breaker/agent:bot", "bot", 1);
    opened.severity = Severity::Critical;
    desk.take(&routing, &opened, 1);
    let told: Vec<_> = desk.sent.iter().map(|(_, m)| (m.condition.as_str(), m.notification.count)).collect();
    assert_eq!(told, [("breaker/agent:bot", 1)]);
    let flood = desk.groups.open.keys().find(|(condition, _)| condition.starts_with("flood/")).unwrap();
    assert!(speak_for(&worst).contains(&flood.0) && !speak_for(&opened).contains(&flood.0));
}

#[test]
fn a_restart_changes_nothing() {
    let routing = routing(&["team", "oncall"]);
    let (mut one, mut other) = (Desk::default(), Desk::default());
    for n in 0..400_i64 {
        let signal = signal("action.blocked", &format!("c{}", n % 7), "bot", n * 10);
        one.take(&routing, &signal, n * 10);
        other.take(&routing, &signal, n * 10);
        let kept: Vec<Group> = other.groups.open.values().cloned().collect();
        let text = serde_json::to_string(&kept).unwrap();
        let opened = std::mem::take(&mut other.groups.opened);
        other.groups = Groups::load(serde_json::from_str(&text).unwrap());
        other.groups.opened = opened;
    }
    assert_eq!(one.sent, other.sent);
}

#[test]
fn changes_are_what_a_store_needs() {
    use std::collections::BTreeMap;
    let (routing, mut desk, mut kept) = (routing(&["team"]), Desk::default(), BTreeMap::new());
    for n in 0..2_000_i64 {
        let c = format!("c{}", n * 7919 % 13);
        let kind = if n % 3 == 0 { "approval.denied" } else { "action.held" };
        desk.down = n % 5 < 2;
        desk.take(&routing, &signal(kind, &c, &format!("bot{}", n % 4), n * 37), n * 37);
        if n % 11 == 0 {
            desk.up(&routing, n * 37);
        }
        for (key, group) in desk.groups.changes() {
            match group {
                Some(group) => kept.insert(key, group),
                None => kept.remove(&key),
            };
        }
        assert_eq!(kept, desk.groups.open);
    }
}

#[test]
fn every_signal_is_told_or_counted() {
    // Whatever the order of firing, resolving and time: a condition that fires while nothing silences it is in
    // the count of a message.
    let routing = routing(&["team"]);
    let mut desk = Desk::default();
    let mut state = 1_u64;
    let (mut fired, mut now) = (0_u64, 0);
    for _ in 0..5_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let c = format!("c{}", (state >> 33) % 3);
        now += i64::try_from((state >> 40) % 90).unwrap();
        desk.down = (state >> 50).is_multiple_of(4);
        let kind = if (state >> 45).is_multiple_of(4) { "approval.denied" } else { "action.held" };
        fired += u64::from(kind == "action.held");
        desk.take(&routing, &signal(kind, &c, "bot", now), now);
    }
    desk.up(&routing, now + 1);
    desk.tick(&routing, now + 1_000);
    let mut last = std::collections::HashMap::new();
    for (_, m) in &desk.sent {
        let m = &m.notification;
        let before = last.insert(m.dedup_key.clone(), m.count).unwrap_or_default();
        assert!(m.count >= before);
    }
    let told: u64 = last.values().sum();
    assert!(told >= fired, "{told} of {fired}");
}

#[test]
fn a_sink_is_not_told_of_its_own_failure() {
    let mut routing = routing(&["slack", "pager"]);
    routing.routes[0].matcher.kinds = vec![Pattern::new("action.*").unwrap()];
    let failing = signal("sink.failing", "sink/slack", "", 0);
    let to: Vec<_> = routing.to(&failing).into_iter().map(|(sink, _)| sink).collect();
    assert_eq!(to, ["pager"], "somebody else hears of it, whatever the routes say");
}

#[test]
fn the_first_route_that_names_a_sink_decides() {
    let mut routing = routing(&["slack", "pager"]);
    let slow = Timing { interval: 3600, ..Timing::default() };
    routing
        .routes
        .insert(0, Route { sinks: vec!["slack".into(), "gone".into()], timing: slow, ..Route::default() });
    let to = routing.to(&signal("action.blocked", "c", "bot", 0));
    assert_eq!(to, [("slack", slow), ("pager", Timing::default())]);
    let matcher = Matcher {
        policy: Some(Pattern::new("LIM*").unwrap()),
        severity_at_most: Some(Severity::Warning),
        environment: Some(Environment::Production),
        ..Matcher::default()
    };
    assert!(matcher.matches(&signal("action.blocked", "c", "bot", 0)));
    let mut critical = signal("action.blocked", "c", "bot", 0);
    critical.severity = Severity::Critical;
    assert!(!matcher.matches(&critical));
}

#[test]
fn windows_of_a_week_open_and_close() {
    // 2026-11-22 is a Sunday.
    let t = |text: &str| Timestamp::parse(text).unwrap();
    let mut days = [false; 7];
    days[6] = true;
    let night = Mute { matcher: Matcher::default(), days, from: 22 * 3600, to: 6 * 3600, offset: 3600 };
    assert_eq!(night.until(t("2026-11-22T20:59:59Z")), None);
    assert_eq!(night.until(t("2026-11-22T21:00:00Z")), Some(t("2026-11-23T05:00:00Z")));
    assert_eq!(night.until(t("2026-11-23T04:59:59Z")), Some(t("2026-11-23T05:00:00Z")));
    assert_eq!(night.until(t("2026-11-23T05:00:00Z")), None);
    assert_eq!(night.until(t("2026-11-23T22:00:00Z")), None, "Monday's night is none of it");
    let noon = Mute { from: 12 * 3600, to: 13 * 3600, offset: 0, ..night };
    assert_eq!(noon.until(t("2026-11-22T12:30:00Z")), Some(t("2026-11-22T13:00:00Z")));
    assert_eq!(noon.until(t("2026-11-22T13:00:00Z")), None);
    assert_eq!(noon.until(t("1969-12-28T12:00:00Z")), Some(t("1969-12-28T13:00:00Z")));
}

#[test]
fn places_are_ids() {
    for (seq, n, id) in [(7, 0, "sig_7"), (7, 2, "sig_7_2")] {
        assert_eq!(Place { seq, n }.id(), id);
        assert_eq!(Place::of(id), Some(Place { seq, n }));
    }
    for bad in ["", "sig_", "sig_7_0", "sig_07", "7", "sig_-1", "sig_7_2_1", "sig_+7"] {
        assert_eq!(Place::of(bad), None, "{bad}");
    }
}

fn checked(change: impl FnOnce(&mut serde_json::Value)) -> crate::event::Event {
    let radius = serde_json::json!({
        "records": 12, "systems": 1, "recipients": 0, "basis": "declared", "declared": 12, "by_resource": [],
    });
    let mut value = serde_json::json!({
        "key_id": "key_1", "check": {"agent": "bot", "action": "update", "resource": "shop.users"},
        "action": {"payload_bytes": 2}, "fingerprint": "00",
        "decision": {
            "id": "chk_1", "verdict": "allow", "reason": "No policy matched.", "policies": [], "category": "write",
            "environment": "production", "blast_radius": radius, "logged_at": at(0),
        },
    });
    change(&mut value);
    crate::event::Event::Check(Box::new(serde_json::from_value(value).unwrap()))
}

fn found(event: &crate::event::Event) -> Vec<(String, Severity, String)> {
    let signals = derive(7, at(1), event, About::Nothing);
    for (n, signal) in (0..).zip(&signals) {
        assert_eq!(signal.id, Place { seq: 7, n }.id());
        assert!(signal.condition.len() <= 200 && signal.condition.bytes().all(|b| b.is_ascii_graphic()));
        assert!(signal.summary.len() <= 512);
    }
    signals.into_iter().map(|s| (s.kind, s.severity, s.condition)).collect()
}

#[test]
fn half_a_secret_does_not_leave() {
    let redactor = crate::redact::Redactor::new(&[], false).unwrap();
    for before in 400..520 {
        let event = checked(|v| {
            v["decision"]["verdict"] = "block".into();
            let password = "hunter2hunter2".repeat(10);
            v["decision"]["reason"] =
                format!("{} postgres://u:{password}@db/x", "y ".repeat(before / 2)).into();
        });
        let mut signal = derive(7, at(1), &event, About::Nothing).remove(0);
        redactor.signal(&mut signal);
        assert!(!signal.summary.contains("hunter2") && signal.summary.len() <= 512, "{}", signal.summary);
    }
}

fn policy(rule: &str, mode: &str) -> serde_json::Value {
    serde_json::json!([{"name": "Limit", "rule": rule, "mode": mode, "reason": "over 25"}])
}

#[test]
fn what_is_allowed_is_no_news() {
    assert_eq!(found(&checked(|_| {})), []);
    for (rule, mode) in [("allow", "enforce"), ("block", "shadow"), ("alert", "shadow")] {
        assert_eq!(found(&checked(|v| v["decision"]["policies"] = policy(rule, mode))), [], "{rule} {mode}");
    }
}

#[test]
fn a_check_causes_what_a_team_must_know() {
    let blocked = |v: &mut serde_json::Value| {
        v["decision"]["verdict"] = "block".into();
        v["decision"]["policies"] = policy("block", "enforce");
    };
    let one = |kind: &str, severity, condition: &str| vec![(kind.to_owned(), severity, condition.to_owned())];
    assert_eq!(found(&checked(blocked)), one("action.blocked", Severity::Warning, "blocked/bot/Limit"));
    let sandbox = |v: &mut serde_json::Value| {
        blocked(v);
        v["decision"]["environment"] = "sandbox".into();
    };
    assert_eq!(found(&checked(sandbox)), one("action.blocked", Severity::Notice, "blocked/bot/Limit"));
    let held = |v: &mut serde_json::Value| {
        v["decision"]["verdict"] = "hold".into();
        v["decision"]["approval_id"] = "apr_1".into();
    };
    assert_eq!(found(&checked(held)), one("action.held", Severity::Warning, "approval/apr_1"));
    let alert = |v: &mut serde_json::Value| v["decision"]["policies"] = policy("alert", "enforce");
    assert_eq!(found(&checked(alert)), one("policy.alert", Severity::Warning, "alert/bot/Limit"));
    let snapshot = |v: &mut serde_json::Value| {
        v["decision"]["verdict"] = "block".into();
        v["decision"]["reason"] = format!("{}: disk full", crate::decision::NO_SNAPSHOT).into();
    };
    assert_eq!(found(&checked(snapshot)), one("snapshot.failed", Severity::Critical, "snapshot/shop"));
    let all = |v: &mut serde_json::Value| {
        blocked(v);
        v["decision"]["blast_radius"]["understated"] = true.into();
        v["decision"]["drift"] = serde_json::json!({
            "score": 6.2, "severity": "warning", "channel": "burst", "reason": "38 calls", "expected": 2.0, "seen": 38.0,
        });
    };
    let kinds: Vec<_> =
        found(&checked(all)).into_iter().map(|(kind, _, condition)| (kind, condition)).collect();
    let expected = [
        ("action.blocked", "blocked/bot/Limit"),
        ("blast_radius.understated", "understated/bot"),
        ("drift.burst", "drift/bot/rate"),
    ];
    assert_eq!(kinds, expected.map(|(kind, condition)| (kind.to_owned(), condition.to_owned())));
}

#[test]
fn what_agents_name_is_bounded_and_cannot_pose_as_another_condition() {
    let named = |agent: &str| {
        let event = checked(|v| {
            v["check"]["agent"] = agent.into();
            v["decision"]["verdict"] = "block".into();
            v["decision"]["reason"] = "x".repeat(5_000).into();
        });
        found(&event).remove(0).2
    };
    let names = ["a/b", "a", "a~b", "ä", "ö", "日本", &"x".repeat(300), &"x".repeat(301), "a b"];
    let conditions: std::collections::HashSet<_> = names.iter().map(|name| named(name)).collect();
    assert_eq!(conditions.len(), names.len());
    assert!(conditions.iter().all(|c| c.split('/').count() == 3), "{conditions:?}");
}

#[test]
fn a_sink_and_a_breaker_say_how_they_are() {
    use crate::event::{Event, SinkHealth};
    let sink = |health| Event::SinkChanged { sink: "team".into(), health, reason: "no".into() };
    let all = [SinkHealth::Failing, SinkHealth::Recovered, SinkHealth::Full, SinkHealth::Gap];
    let told: Vec<_> =
        all.into_iter().map(|health| derive(1, at(0), &sink(health), About::Nothing).remove(0)).collect();
    assert!(told.iter().all(|s| s.condition == "sink/team" && s.summary.contains("team")));
    let status: Vec<_> = told.iter().map(|s| s.status == Status::Firing).collect();
    assert_eq!(status, [true, false, true, true]);
    let agent = crate::name::Name::new("bot").unwrap();
    let ended = Event::DriftEnded { agent, channel: crate::drift::Channel::Burst };
    let ended = derive(1, at(0), &ended, About::Nothing).remove(0);
    assert_eq!((ended.condition.as_str(), ended.status), ("drift/bot/rate", Status::Resolved));
}
