//! OpenTelemetry: a collector of others receives it, and everything that can go wrong.

use crate::samples::{checked, client, entry, hostile, http, message, now, records};
use checkrein_core::{signal::Status, time::Timestamp};
use checkrein_signals::{
    Retry, Sink, feed,
    sinks::otlp::{Otlp, OtlpConfig},
};
use checkrein_testbed::{
    receivers::{
        otlp,
        scripted::{Act, Receiver, Reply},
    },
    servers::rotel::Rotel,
};
use secrecy::SecretString;
use serde_json::{Value, json};
use std::time::Duration;

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn sink(url: String) -> Otlp {
    Otlp::new(&OtlpConfig::new(url), http()).unwrap()
}

fn traced(seq: u64, at: Timestamp, trace: &str) -> checkrein_signals::sink::Record {
    feed::record(&checked(seq, at, |body| body["check"]["traceparent"] = trace.into())).unwrap()
}

#[tokio::test]
async fn a_collector_of_others_receives_all_three_kinds() {
    let rotel = Rotel::start().unwrap();
    let mut config = OtlpConfig::new(rotel.url());
    config.resource = vec![("deployment.environment.name".into(), "test".into())];
    let sink = Otlp::new(&config, http()).unwrap();
    let outcome = json!({"check_id": "chk_1", "status": "ok", "records": 3, "key_id": "k"});
    let all = [traced(1, now(), TRACE), feed::record(&entry(2, now(), "outcome", &outcome)).unwrap()];
    sink.feed(&all).await.unwrap();
    sink.notify(&message()).await.unwrap();
    let expected = [
        "Trace ID       : 0af7651916cd43dd8448eb211c80319c",
        "Parent ID      : b7ad6b7169203331",
        "Name           : execute_tool delete_user",
        "gen_ai.operation.name: Str(execute_tool)",
        "gen_ai.tool.name: Str(delete_user)",
        "gen_ai.agent.name: Str(billing-bot)",
        "service.name: Str(checkrein)",
        "deployment.environment.name: Str(test)",
        "checkrein.verdict: Str(block)",
        "checkrein.checks",
        "checkrein.outcomes",
        "checkrein.signal.kind: Str(action.blocked)",
        "action.blocked (38 times)",
    ];
    let said = rotel.said(&expected);
    for part in expected {
        assert!(said.contains(part), "{part} is not in what the collector says:\n{said}");
    }
}

#[tokio::test]
async fn a_check_is_a_span_in_the_agents_own_trace() {
    let receiver = otlp::start();
    let sink = sink(receiver.url());
    let unsampled = TRACE.replace("c-b7", "d-b7").replace("-01", "-00");
    let own = feed::record(&checked(3, now(), |_| {})).unwrap();
    let all = [traced(1, now(), TRACE), traced(2, now(), &unsampled), own];
    for _ in 0..2 {
        sink.feed(&all).await.unwrap();
    }
    let requests = receiver.take();
    let paths: Vec<_> = requests.iter().map(|r| r.path.as_str()).collect();
    assert_eq!(paths[..3], ["/v1/traces", "/v1/logs", "/v1/metrics"]);
    assert_eq!(requests[0].body, requests[3].body, "a repeat says the same");
    let body = requests[0].json();
    let spans = body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap();
    assert_eq!(spans.len(), 2, "what the caller does not record has no span");
    assert_eq!(spans[0]["traceId"], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(spans[0]["parentSpanId"], "b7ad6b7169203331");
    assert_eq!(spans[0]["status"]["code"], 2);
    assert_eq!(spans[1].get("parentSpanId"), None);
    let logs = requests[1].json();
    let logs = logs["resourceLogs"][0]["scopeLogs"][0]["logRecords"].as_array().unwrap();
    assert_eq!(logs.len(), 3);
    assert_eq!((&logs[0]["traceId"], &logs[0]["spanId"]), (&spans[0]["traceId"], &spans[0]["spanId"]));
    let metrics = requests[2].json();
    let points = &metrics["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0]["sum"]["dataPoints"];
    assert_eq!(points[0]["asInt"], "3");
}

#[tokio::test]
async fn only_what_is_wanted_is_sent() {
    let receiver = otlp::start();
    let mut config = OtlpConfig::new(receiver.url());
    (config.logs, config.metrics) = (false, false);
    config.headers = vec![("api-key".into(), SecretString::from("secret-of-mine"))];
    let sink = Otlp::new(&config, http()).unwrap();
    sink.feed(&records(2)).await.unwrap();
    let requests = receiver.take();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].header("api-key"), Some("secret-of-mine"));
    assert_eq!(requests[0].header("content-type"), Some("application/json"));

    receiver.answers([Reply::new(403, "secret-of-mine is not enough")]);
    let failure = sink.feed(&records(2)).await.unwrap_err();
    assert!(failure.retry == Retry::Refused && !failure.reason.contains("secret-of-mine"), "{failure}");
    assert!(!format!("{sink:?}").contains("secret-of-mine"));
}

#[tokio::test]
async fn each_status_means_what_the_standard_says() {
    let receiver = otlp::start();
    let sink = sink(receiver.url());
    let later = [408, 429, 502, 503, 504].map(|s| (s, Retry::Later));
    let refused = [301, 401, 403, 404].map(|s| (s, Retry::Refused));
    let never = [400, 413, 415, 500, 501].map(|s| (s, Retry::Never));
    let all = later.into_iter().chain(refused).chain(never);
    for (status, retry) in all {
        receiver.answers([Reply::new(status, "{\"code\":3,\"message\":\"words of theirs\"}")]);
        let failure = sink.notify(&message()).await.unwrap_err();
        assert_eq!(failure.retry, retry, "{status}: {failure}");
        assert!(failure.reason.contains("words of theirs"), "{failure}");
    }
    for status in [429, 503] {
        receiver.answers([Reply::new(status, "").header("retry-after", "9")]);
        let failure = sink.notify(&message()).await.unwrap_err();
        assert_eq!(failure.retry, Retry::After(Duration::from_secs(9)));
    }
}

#[tokio::test]
async fn what_is_rejected_in_part_is_not_sent_again() {
    let receiver = otlp::start();
    let sink = sink(receiver.url());
    let partial = |rejected: Value| {
        json!({"partialSuccess": {"rejectedLogRecords": rejected, "errorMessage": "words of theirs"}})
            .to_string()
    };
    for rejected in [json!("1"), json!(1)] {
        receiver.answers([Reply::new(200, partial(rejected))]);
        let failure = sink.notify(&message()).await.unwrap_err();
        assert_eq!(failure.retry, Retry::Never);
        assert!(failure.reason.contains("words of theirs"), "{failure}");
    }
    // A warning, and every way to say that all is well.
    for fine in [
        partial(json!("0")),
        partial(json!(0)),
        "{\"partialSuccess\":null}".into(),
        "{}".into(),
        String::new(),
    ] {
        receiver.answers([Reply::new(200, fine)]);
        sink.notify(&message()).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_not_its_answer_is_no_delivery() {
    let receiver: Receiver = otlp::start();
    let sink = Otlp::new(&OtlpConfig::new(receiver.url()), client(Duration::from_millis(700))).unwrap();
    let acts = [
        Act::Reply(Reply::new(200, "<html>all is well</html>")),
        Act::Reply(Reply::new(200, "[]")),
        Act::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{\"half".to_vec()),
        Act::Raw(b"rubbish\r\n\r\n".to_vec()),
        Act::Close,
        Act::Hang(Duration::from_secs(2)),
    ];
    for act in acts {
        receiver.script([act.clone()]);
        let failure = sink.notify(&message()).await.unwrap_err();
        assert_eq!(failure.retry, Retry::Later, "{act:?}: {failure}");
    }
}

#[tokio::test]
async fn large_and_hostile_ones_are_within_the_limit() {
    let receiver = otlp::start();
    let sink = sink(receiver.url());
    sink.notify(&hostile()).await.unwrap();
    let mut over = message();
    over.status = Status::Resolved;
    sink.notify(&over).await.unwrap();
    let long = "x".repeat(5000);
    let large = |seq| {
        let entry = checked(seq, now(), |body| {
            let policy = json!({"name": long, "rule": "block", "mode": "enforce", "reason": ""});
            body["decision"]["policies"] = vec![policy; 5].into();
        });
        feed::record(&entry).unwrap()
    };
    let all: Vec<_> = (1..=500).map(large).collect();
    assert_eq!(sink.feed_batch(), all.len());
    drop(receiver.take());
    sink.feed(&all).await.unwrap();
    let requests = receiver.take();
    assert!(requests.len() > 3, "{}", requests.len());
    assert!(requests.iter().all(|r| r.body.len() <= 4_000_000));
    // What is too large all the same is divided.
    receiver.answers([Reply::new(413, "")]);
    sink.feed(&records(4)).await.unwrap();
    assert_eq!(receiver.take().len(), 5);
}

#[test]
fn a_configuration_that_cannot_work_is_refused() {
    let new = |change: fn(&mut OtlpConfig)| {
        let mut config = OtlpConfig::new("https://otel.example:4318");
        change(&mut config);
        Otlp::new(&config, http()).unwrap_err()
    };
    assert!(new(|c| c.headers = vec![("a b".into(), SecretString::from("x"))]).contains("`a b`"));
    assert!(new(|c| c.headers = vec![("a".into(), SecretString::from("x\ny"))]).contains("`a`"));
    assert!(new(|c| (c.logs, c.traces, c.metrics) = (false, false, false)).contains("at least one"));
    assert!(new(|c| c.url = "otel.example".into()).contains("URL"));
}
