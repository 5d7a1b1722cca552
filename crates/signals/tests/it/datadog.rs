//! Datadog: events, logs and metrics within its limits, and everything that can go wrong.

use crate::samples::{HOSTILE, checked, client, entry, hostile, http, message, now, records};
use checkrein_signals::{
    Retry, Sink, feed,
    sink::Record,
    sinks::datadog::{Datadog, DatadogConfig},
};
use checkrein_testbed::receivers::{
    datadog::{API_KEY, start},
    scripted::{Act, Receiver, Reply},
};
use secrecy::SecretString;
use serde_json::{Value, json};
use std::time::Duration;

fn config(receiver: &Receiver) -> DatadogConfig {
    let mut config = DatadogConfig::new(SecretString::from(API_KEY));
    config.url = Some(receiver.url());
    config.tags = vec!["env:prod".into(), "Team:Agents, Two".into()];
    config.host = Some("rein-1".into());
    config
}

fn sink(receiver: &Receiver) -> Datadog {
    Datadog::new(config(receiver), http()).unwrap()
}

/// The bodies of what came to `path`.
fn at(receiver: &Receiver, path: &str) -> Vec<Value> {
    receiver.take().iter().filter(|r| r.path == path).map(|r| r.json()).collect()
}

#[tokio::test]
async fn a_message_is_an_event() {
    let receiver = start();
    sink(&receiver).notify(&message()).await.unwrap();
    let event = at(&receiver, "/api/v2/events").remove(0);
    let event = &event["data"]["attributes"];
    assert_eq!(
        event["title"],
        "Warning: action.blocked (38 times): billing-bot: delete on production.users was \
        blocked by no_production_deletes"
    );
    assert_eq!(event["aggregation_key"], "blocked:billing-bot:no_production_deletes");
    assert_eq!(event["attributes"]["status"], "error");
    assert_eq!(event["attributes"]["priority"], "2");
    assert_eq!(event["attributes"]["links"][0]["url"], "https://checkrein.example/checks/chk_1");
    assert_eq!(event["attributes"]["custom"]["signals"][0]["check_id"], "chk_1");
    let text = event["message"].as_str().unwrap();
    for line in ["Agent: billing-bot", "Resource: production.users", "Next: checkrein log show 7"] {
        assert!(text.lines().any(|own| own == line), "{line} in {text}");
    }
    for tag in
        ["env:prod", "team:agents__two", "severity:warning", "kind:action.blocked", "agent:billing-bot"]
    {
        assert!(event["tags"].as_array().unwrap().contains(&tag.into()), "{tag}");
    }

    let mut over = message();
    over.status = checkrein_core::signal::Status::Resolved;
    over.last_at = now().plus_seconds(-20 * 3600);
    sink(&receiver).notify(&over).await.unwrap();
    let event = at(&receiver, "/api/v2/events").remove(0);
    assert_eq!(event["data"]["attributes"]["attributes"]["status"], "ok");
    assert_eq!(event["data"]["attributes"].get("timestamp"), None, "too old to be taken with its time");
}

#[tokio::test]
async fn hostile_text_stays_in_bounds_and_mentions_nobody() {
    let receiver = start();
    sink(&receiver).notify(&hostile()).await.unwrap();
    let event = at(&receiver, "/api/v2/events").remove(0);
    let event = &event["data"]["attributes"];
    for text in [&event["title"], &event["message"]] {
        assert!(!text.as_str().unwrap().contains(['@', '\u{202e}', '\u{1b}', '\r']), "{text}");
        assert!(!text.as_str().unwrap().contains("%%%"));
    }
    assert!(!event["message"].as_str().unwrap().lines().any(|line| line.starts_with("forged")));
}

#[tokio::test]
async fn actions_are_logs_and_are_counted() {
    let receiver = start();
    let sink = sink(&receiver);
    let mut all = records(4);
    all.push(
        feed::record(&entry(
            5,
            now(),
            "outcome",
            &json!({"check_id": "chk_1", "status": "ok", "key_id": "k"}),
        ))
        .unwrap(),
    );
    sink.feed(&all).await.unwrap();
    let requests = receiver.take();
    let paths: Vec<_> = requests.iter().map(|r| r.path.as_str()).collect();
    assert_eq!(paths, ["/api/v2/series", "/api/v2/logs"]);
    assert!(requests.iter().all(|r| r.header("content-encoding") == Some("gzip")));
    let series = requests[0].json();
    let checks =
        series["series"].as_array().unwrap().iter().find(|s| s["metric"] == "checkrein.checks").unwrap();
    assert_eq!(checks["points"][0]["value"], 4);
    assert_eq!(checks["type"], 1);
    let tags = checks["tags"].as_array().unwrap();
    for tag in ["verdict:block", "category:delete", "agent:billing-bot", "environment:production"] {
        assert!(tags.contains(&tag.into()), "{tag} in {tags:?}");
    }
    assert_eq!(series["series"].as_array().unwrap().len(), 2);
    let logs = requests[1].json();
    assert_eq!(logs.as_array().unwrap().len(), 5);
    assert_eq!(logs[0]["checkrein"], all[0].body);
    assert_eq!((&logs[0]["status"], &logs[0]["hostname"]), (&"warning".into(), &"rein-1".into()));
    assert_eq!(logs[0]["ddtags"], "env:prod,team:agents__two,kind:check,environment:production");
}

#[tokio::test]
async fn every_limit_is_kept_by_the_largest_that_there_is() {
    let receiver = start();
    let sink = sink(&receiver);
    let long = "x".repeat(3000) + HOSTILE;
    let large = |seq| {
        let entry = checked(seq, now(), |body| {
            body["decision"]["reason"] = long.clone().into();
            body["check"]["agent"] = format!("agent-{seq}").into();
            let policy = json!({"name": long, "rule": "block", "mode": "enforce", "reason": ""});
            body["decision"]["policies"] = vec![policy; 8].into();
        });
        feed::record(&entry).unwrap()
    };
    let records: Vec<Record> = (1..=1000).map(large).collect();
    assert_eq!(sink.feed_batch(), records.len());
    sink.feed(&records).await.unwrap();
    let requests = receiver.take();
    let numbers: Vec<_> = requests
        .iter()
        .filter(|r| r.path == "/api/v2/logs")
        .flat_map(|r| r.json().as_array().unwrap().clone())
        .map(|log| log["checkrein"]["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, (1..=1000).collect::<Vec<_>>());
    assert!(requests.len() > 4, "{}", requests.len());
}

#[tokio::test]
async fn what_is_old_or_ahead_is_sent_as_datadog_takes_it() {
    let receiver = start();
    let sink = sink(&receiver);
    for (hours, timed, counted) in [(-30, false, false), (-5, true, false), (0, true, true), (1, true, false)]
    {
        let at = now().plus_seconds(hours * 3600);
        sink.feed(&[feed::record(&checked(1, at, |_| {})).unwrap()]).await.unwrap();
        let requests = receiver.take();
        let log = requests.iter().find(|r| r.path == "/api/v2/logs").unwrap().json();
        assert_eq!(log[0].get("timestamp").is_some(), timed, "{hours}");
        assert_eq!(log[0]["checkrein"]["at"], at.to_string());
        assert_eq!(requests.iter().any(|r| r.path == "/api/v2/series"), counted, "{hours}");
    }
}

#[tokio::test]
async fn each_status_means_what_the_contract_says() {
    let receiver = start();
    let sink = sink(&receiver);
    let later = [408, 429, 500, 502, 503, 504].map(|s| (s, Retry::Later));
    let refused = [301, 401, 403, 404, 405].map(|s| (s, Retry::Refused));
    let never = [400, 413].map(|s| (s, Retry::Never));
    let all = later.into_iter().chain(refused).chain(never);
    for (status, retry) in all {
        receiver.answers([Reply::new(status, "{\"errors\":[\"words of theirs\"]}")]);
        let failure = sink.notify(&message()).await.unwrap_err();
        assert_eq!(failure.retry, retry, "{status}: {failure}");
        assert!(failure.reason.contains("words of theirs"), "{failure}");
    }
    receiver.answers([Reply::new(429, "").header("x-ratelimit-reset", "11")]);
    let failure = sink.notify(&message()).await.unwrap_err();
    assert_eq!(failure.retry, Retry::After(Duration::from_secs(11)));
}

#[tokio::test]
async fn a_feed_that_fails_half_way_is_a_failure() {
    let receiver = start();
    let sink = sink(&receiver);
    // The metrics are taken, the logs are not.
    receiver.answers([Reply::new(202, "{}"), Reply::new(503, "")]);
    assert_eq!(sink.feed(&records(3)).await.unwrap_err().retry, Retry::Later);
    // Too large by its own count: divided, and taken.
    receiver.answers([Reply::new(202, "{}"), Reply::new(413, "")]);
    drop(receiver.take());
    sink.feed(&records(3)).await.unwrap();
    assert_eq!(receiver.take().len(), 4);
}

#[tokio::test]
async fn what_is_not_its_answer_is_no_delivery() {
    let receiver = start();
    let sink = Datadog::new(config(&receiver), client(Duration::from_millis(700))).unwrap();
    let acts = [
        Act::Reply(Reply::new(200, "<html>all is well</html>")),
        Act::Reply(Reply::new(204, "")),
        Act::Raw(b"rubbish\r\n\r\n".to_vec()),
        Act::Close,
        Act::Hang(Duration::from_secs(2)),
    ];
    for act in acts {
        receiver.script([act.clone()]);
        let failure = sink.notify(&message()).await.unwrap_err();
        assert_eq!(failure.retry, Retry::Later, "{act:?}: {failure}");
    }
    receiver.answers([Reply::new(403, format!("key {API_KEY} is unknown"))]);
    let failure = sink.notify(&message()).await.unwrap_err();
    assert!(!failure.reason.contains(API_KEY), "{failure}");
    assert!(!format!("{sink:?}").contains(API_KEY));
}

#[test]
fn a_configuration_that_cannot_work_is_refused() {
    let new = |change: fn(&mut DatadogConfig)| {
        let mut config = DatadogConfig::new(SecretString::from(API_KEY));
        change(&mut config);
        Datadog::new(config, http()).map(|_| ())
    };
    assert!(new(|c| c.site = "datadoghq.example".into()).unwrap_err().contains("datadoghq.eu"));
    assert!(new(|c| c.api_key = SecretString::from("a\nb")).unwrap_err().contains("`api_key`"));
    assert!(new(|c| c.tags = vec!["a:b".into(); 91]).unwrap_err().contains("`tags`"));
    assert_eq!(new(|c| c.site = "ap2.datadoghq.com".into()), Ok(()));
}
