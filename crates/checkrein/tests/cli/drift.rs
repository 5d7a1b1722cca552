//! `checkrein drift`: on files as they come, good and bad.

use crate::common::Run;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// 2026-03-02, a Monday.
const MONDAY: u64 = 1_772_409_600;

/// Four weeks of a ticket agent, 30 actions an hour from 8 to 18 on weekdays; on the last Tuesday, from 14:00
/// on, 400 an hour for six minutes. The line of the first of those.
fn tickets() -> (String, u64) {
    let (mut lines, mut seq, mut dice) = (String::new(), 0_u64, 1_u64);
    let mut event = |lines: &mut String, t: f64, action: &str, id: u64| {
        seq += 1;
        let line = json!({
            "seq": seq, "agent": "ticket-bot", "ts": t, "action": action, "resource": format!("tickets/{id}"),
            "tool": "crm", "record_count": 1, "outcome": if seq.is_multiple_of(40) { "error" } else { "ok" },
        });
        writeln!(lines, "{line}").unwrap();
        seq
    };
    let mut first = 0;
    for hour in (0..23 * 24).filter(|h| h / 24 % 7 < 5 && (8..18).contains(&(h % 24))) {
        let from = (MONDAY + hour * 3_600) as f64;
        let burst = hour == 22 * 24 + 14;
        let n = if burst { 40 } else { 24 + (hour * 7) % 13 };
        for i in 0..n {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let jitter = (dice >> 40) as f64 / 16_777_216.0;
            let pause = if burst { 9.0 } else { 3_600.0 / n as f64 };
            let t = from + (i as f64 + jitter) * pause;
            let action = if burst {
                "update_ticket"
            } else {
                ["read", "search", "update_ticket"][(dice >> 33) as usize % 3]
            };
            let at = event(&mut lines, t, action, dice >> 20);
            if burst && i == 0 {
                first = at;
            }
        }
    }
    (lines, first)
}

fn alerts(run: &Run, name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(run.dir.path().join(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_burst_is_one_alert_with_a_sentence() {
    let (events, first) = tickets();
    let run = Run::new().file("events.jsonl", &events);
    let args = ["drift", "replay", "--input", "events.jsonl", "--output", "alerts.jsonl"];
    let ran = run.expect(0, &args);
    assert!(ran.stdout.contains("events of 1 agent"), "{}", ran.stdout);
    let found = alerts(&run, "alerts.jsonl");
    let burst: Vec<_> = found.iter().filter(|a| a["kind"] == "burst" || a["kind"] == "rate").collect();
    assert_eq!(burst.len(), 1, "{found:?}");
    let seq = burst[0]["seq"].as_u64().unwrap();
    assert!((first..first + 16).contains(&seq), "{first} {burst:?}");
    assert_eq!(burst[0]["agent"], "ticket-bot");
    assert!(burst[0]["ts"].as_f64().unwrap() > MONDAY as f64 && burst[0]["score"].as_f64().unwrap() >= 5.0);
    let sentence = burst[0]["sentence"].as_str().unwrap();
    assert!(sentence.contains("update_ticket; Tuesdays at 14:00 it normally makes"), "{sentence}");

    // A person may ask for less, or for graver things only; from stdin too.
    let ran = Run::new()
        .input(&events)
        .expect(0, &["drift", "replay", "--input", "-", "--output", "a", "--min-score", "11.9", "--json"]);
    assert_eq!(ran.json()["agents"], 1);
    let all =
        run.expect(0, &["drift", "explain", "ticket-bot", "--input", "events.jsonl", "--svg", "plot.svg"]);
    assert!(all.stdout.contains("update_ticket (crm)") && all.stdout.contains("burst"), "{}", all.stdout);
    let svg = std::fs::read_to_string(run.dir.path().join("plot.svg")).unwrap();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n") && svg.contains("<circle "), "{svg:.300}");
    let json = run.expect(0, &["drift", "explain", "TICKET-bot", "--input", "events.jsonl", "--json"]).json();
    assert_eq!(json["expected_by_hour_of_week"].as_array().unwrap().len(), 168);
    let ran = run.expect(1, &["drift", "explain", "nobody", "--input", "events.jsonl"]);
    assert!(ran.stderr.contains("no events of nobody"), "{}", ran.stderr);
}

#[test]
fn a_line_that_makes_no_sense_ends_it_and_leaves_no_output() {
    let good = r#"{"agent":"a","ts":5,"action":"read"}"#;
    for (bad, why) in [
        ("", "is empty"),
        (r#"{"agent":"a","ts":6,"act"#, "is no event"),
        (r#"{"agent":"a","ts":NaN,"action":"read"}"#, "is no event"),
        (r#"{"agent":"a","ts":"6","action":"read"}"#, "is no event"),
        (r#"{"agent":"a","action":"read"}"#, "missing field `ts`"),
        (r#"{"agent":"a","ts":6,"ts":7,"action":"read"}"#, "duplicate field"),
        (r#"["a",6,"read"]"#, "is no event"),
        (r#"{"agent":"a","ts":-6,"action":"read"}"#, "not a time"),
        (r#"{"agent":"a","ts":1e300,"action":"read"}"#, "not a time"),
        (r#"{"agent":"a","ts":4.9,"action":"read"}"#, "sort the events"),
        (r#"{"agent":"","ts":6,"action":"read"}"#, "bad agent"),
        (r#"{"agent":"a\u202eb","ts":6,"action":"read"}"#, "bad agent"),
        (r#"{"agent":"a","ts":6,"action":""}"#, "bad action"),
        (r#"{"agent":"a","ts":6,"action":"x\u0000"}"#, "bad action"),
        (r#"{"agent":"a","ts":6,"action":"read","record_count":-1}"#, "no count"),
        (r#"{"agent":"a","ts":6,"action":"read","record_count":1.5}"#, "no count"),
        (r#"{"agent":"a","ts":6,"action":"read","payload_bytes":1e99}"#, "no count"),
        (r#"{"agent":"a","ts":6,"action":"read","outcome":"fine"}"#, "ok, error or unknown"),
    ] {
        let run = Run::new().file("e.jsonl", format!("{good}\n{bad}\n{good}\n"));
        let ran = run.expect(1, &["drift", "replay", "--input", "e.jsonl", "--output", "out.jsonl"]);
        assert!(
            ran.stderr.contains("e.jsonl:2: the line") && ran.stderr.contains(why),
            "{bad}: {}",
            ran.stderr
        );
        assert!(!ran.stderr.contains(['\u{202e}', '\0']));
        assert_eq!(std::fs::read_dir(run.dir.path()).unwrap().count(), 1, "{bad} left something behind");
    }
    let run =
        Run::new().file("long", format!(r#"{{"agent":"a","ts":5,"action":"{}"}}"#, "x".repeat(2 << 20)));
    let ran = run.expect(1, &["drift", "replay", "--input", "long", "--output", "out"]);
    assert!(ran.stderr.contains("long:1: the line is longer"), "{}", ran.stderr);
    let run = Run::new().file("binary", b"{\"agent\":\"\xff\"}\n");
    run.expect(1, &["drift", "replay", "--input", "binary", "--output", "out"]);
    run.expect(1, &["drift", "replay", "--input", "gone", "--output", "out"]);
    run.expect(1, &["drift", "replay", "--input", "binary", "--output", "no/such/folder/out"]);
    run.expect(2, &["drift", "replay", "--input", "binary", "--output", "out", "--min-score", "0"]);
}

#[test]
fn only_agent_time_and_action_are_needed() {
    let lines = r#"{"agent":"a","ts":5,"action":"read"}
{"agent":"Ä 漢","ts":5,"action":"löschen","seq":"x-1","extra":{"ignored":[1]},"resource":null,"outcome":null}
{"agent":"a","ts":5.25,"action":"read","record_count":3.0,"payload_bytes":18446744073709551615,"outcome":"unknown"}
{"agent":"a","ts":253402300799,"action":"read","tool":""}"#;
    let run = Run::new().file("e.jsonl", lines);
    let ran = run.expect(0, &["drift", "replay", "--input", "e.jsonl", "--output", "out", "--json"]);
    assert_eq!(ran.json(), json!({ "events": 4, "agents": 2, "alerts": 0, "by_kind": {} }));
    assert_eq!(alerts(&run, "out").len(), 0);
    let run = Run::new().file("e.jsonl", "");
    run.expect(0, &["drift", "replay", "--input", "e.jsonl", "--output", "out"]);
}

#[test]
fn a_series_is_scored_row_by_row() {
    let mut csv = "timestamp,value\n".to_owned();
    for row in 0..2_000_u32 {
        let value = f64::from(row % 48) + f64::from(row * 7 % 5) + if row == 1_500 { 300.0 } else { 0.0 };
        writeln!(csv, "2026-03-{:02} {:02}:{:02}:00,{value}", 2 + row / 288, row / 12 % 24, row % 12 * 5)
            .unwrap();
    }
    let run = Run::new().file("s.csv", &csv);
    let whole = run.expect(0, &["drift", "score", "--csv", "s.csv"]).stdout;
    let lines: Vec<&str> = whole.lines().collect();
    assert_eq!(lines.len(), 2_001);
    assert_eq!(lines[0], "timestamp,value,anomaly_score");
    let scores: Vec<f64> =
        lines[1..].iter().map(|l| l.rsplit(',').next().unwrap().parse().unwrap()).collect();
    assert!(scores.iter().all(|score| (0.0..=1.0).contains(score)));
    let highest = (200..2_000).max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap();
    assert_eq!(highest, 1_500);
    // Nothing from the future.
    let half: String = csv.lines().take(1_201).fold(String::new(), |text, line| text + line + "\n");
    let half = Run::new().input(&half).expect(0, &["drift", "score", "--csv", "-"]).stdout;
    assert!(whole.starts_with(&half));
}

#[test]
fn series_come_in_many_forms() {
    let forms = "timestamp,value,anomaly_score\n";
    for (csv, expected) in [
        (
            "timestamp,value\r\n1772409600,1\r\n1772409660.5,\r\n",
            "1772409600,1,0.000000\n1772409660.5,,0.000000\n",
        ),
        (
            "timestamp,value\n2026-03-02T00:00:00+02:00,1e-300\n2026-03-02T00:01:00Z,NaN\n",
            "2026-03-02T00:00:00+02:00,1e-300,0.000000\n2026-03-02T00:01:00Z,NaN,0.000000\n",
        ),
        ("\u{feff}timestamp,value\n2026-03-02 00:00:00,-5\n", "2026-03-02 00:00:00,-5,0.000000\n"),
    ] {
        let ran = Run::new().file("s.csv", csv).expect(0, &["drift", "score", "--csv", "s.csv"]);
        assert_eq!(ran.stdout, format!("{forms}{expected}"), "{csv:?}");
    }
    let bare = Run::new().input("1772409600,1\n1772409660,2\n").expect(0, &["drift", "score", "--csv", "-"]);
    assert_eq!(bare.stdout, "1772409600,1,0.000000\n1772409660,2,0.000000\n");
    let line = "timestamp,value\n2026-03-02 00:00:00,1\n";
    for (bad, why) in [
        ("2026-03-02 00:05:00", "not `timestamp,value`"),
        ("2026-03-02 00:05:00,1,2", "has 3 columns"),
        ("yesterday,1", "write it like"),
        ("2026-03-02 00:05:00,inf", "finite"),
        ("2026-03-02 00:05:00,1e999", "finite"),
        ("2026-03-02 00:05:00,one", "finite"),
        ("2026-03-02 00:05:00,1\u{1b}[2J", "control"),
        ("", "not `timestamp,value`"),
    ] {
        let ran = Run::new()
            .file("s.csv", format!("{line}{bad}\n"))
            .expect(1, &["drift", "score", "--csv", "s.csv"]);
        assert!(
            ran.stderr.contains("s.csv:3: the line") && ran.stderr.contains(why),
            "{bad}: {}",
            ran.stderr
        );
    }
    Run::new().file("s.csv", "").expect(1, &["drift", "score", "--csv", "s.csv"]);
    Run::new().expect(1, &["drift", "score", "--csv", "gone.csv"]);
}
