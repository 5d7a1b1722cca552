//! Splunk HEC: the contract, and everything that can go wrong with it.

use crate::samples::{client, hostile, http, message, records};
use checkrein_core::signal::Status;
use checkrein_signals::{
    Retry, Sink,
    sinks::splunk::{Splunk, SplunkConfig},
};
use checkrein_testbed::receivers::{
    scripted::{Act, Reply},
    splunk::{Hec, Setup, TOKEN, said},
};
use secrecy::SecretString;
use std::time::{Duration, Instant};

const PLAIN: Setup = Setup { acknowledges_after: None, max_content_length: 1_000_000 };

fn config(hec: &Hec) -> SplunkConfig {
    SplunkConfig::new(hec.receiver.url(), SecretString::from(TOKEN))
}

fn sink(hec: &Hec) -> Splunk {
    Splunk::new(config(hec), http()).unwrap()
}

#[tokio::test]
async fn a_message_is_an_alert_of_the_data_model() {
    let hec = Hec::start(PLAIN);
    let config = SplunkConfig { index: Some("agents".into()), host: Some("rein-1".into()), ..config(&hec) };
    let message = message();
    Splunk::new(config, http()).unwrap().notify(&message).await.unwrap();
    let indexed = hec.indexed();
    let [whole] = indexed.as_slice() else { panic!("{indexed:?}") };
    assert_eq!((&whole["index"], &whole["host"]), (&"agents".into(), &"rein-1".into()));
    assert_eq!((&whole["sourcetype"], &whole["source"]), (&"checkrein:signal".into(), &"checkrein".into()));
    #[expect(clippy::cast_precision_loss, reason = "exact to the microsecond")]
    let at = message.last_at.as_micros() as f64 / 1e6;
    assert_eq!(whole["time"], at);
    let event = &whole["event"];
    for (name, value) in [
        ("type", "alert"),
        ("app", "checkrein"),
        ("severity", "high"),
        ("signature", "action.blocked"),
        ("signature_id", "blocked:billing-bot:no_production_deletes"),
        ("id", "ntf_1_1"),
        ("user", "billing-bot"),
        ("dest", "production.users"),
        ("status", "firing"),
        ("subject", "delete on production.users was blocked by no_production_deletes"),
    ] {
        assert_eq!(event[name], value, "{name}");
    }
    assert_eq!(event["count"], 38);

    let over = checkrein_core::signal::Notification { status: Status::Resolved, ..message };
    sink(&hec).notify(&over).await.unwrap();
    assert_eq!(hec.indexed()[0]["event"]["status"], "resolved");
}

#[tokio::test]
async fn actions_are_changes_of_the_data_model_in_order_and_in_bounds() {
    let hec = Hec::start(Setup { max_content_length: 400_000, ..PLAIN });
    let config = SplunkConfig { batch_bytes: 400_000, ..config(&hec) };
    let sink = Splunk::new(config, http()).unwrap();
    let records = records(u64::try_from(sink.feed_batch()).unwrap());
    sink.feed(&records).await.unwrap();
    let requests = hec.receiver.take();
    assert!(requests.len() > 1);
    for request in &requests {
        assert_eq!(request.header("content-encoding"), Some("gzip"));
        assert!(request.body.len() <= 400_000);
    }
    let indexed = hec.indexed();
    let numbers: Vec<_> = indexed.iter().map(|event| event["event"]["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=1000).collect::<Vec<_>>());
    let event = &indexed[0]["event"];
    for (name, value) in [
        ("action", "deleted"),
        ("vendor_action", "delete_user"),
        ("status", "failure"),
        ("change_type", "delete"),
        ("object", "production.users"),
        ("dest", "production"),
        ("user", "billing-bot"),
        ("vendor_product", "Checkrein"),
        ("verdict", "block"),
    ] {
        assert_eq!(event[name], value, "{name}");
    }
    assert_eq!(indexed[0]["sourcetype"], "checkrein:action");
}

#[tokio::test]
async fn what_is_too_large_for_it_is_divided() {
    let hec = Hec::start(Setup { max_content_length: 20_000, ..PLAIN });
    sink(&hec).feed(&records(200)).await.unwrap();
    let indexed = hec.indexed();
    let numbers: Vec<_> = indexed.iter().map(|event| event["event"]["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=200).collect::<Vec<_>>());

    let tiny = Hec::start(Setup { max_content_length: 20, ..PLAIN });
    let failure = sink(&tiny).feed(&records(3)).await.unwrap_err();
    assert_eq!(failure.retry, Retry::Never);
    assert!(failure.reason.contains("max_content_length"), "{failure}");
}

#[tokio::test]
async fn delivered_means_indexed_where_it_acknowledges() {
    let hec = Hec::start(Setup { acknowledges_after: Some(2), ..PLAIN });
    let acknowledge = SplunkConfig { acknowledge: true, ..config(&hec) };
    let sink = Splunk::new(acknowledge.clone(), http()).unwrap();
    sink.notify(&message()).await.unwrap();
    assert_eq!(hec.indexed().len(), 1, "not before it is indexed");
    let requests = hec.receiver.take();
    assert_eq!(requests.len(), 4, "one event, and asked three times");
    let channels: Vec<_> = requests.iter().map(|r| r.header("x-splunk-request-channel")).collect();
    assert!(channels.windows(2).all(|two| two[0] == two[1]), "{channels:?}");
    assert_eq!(requests[3].text(), r#"{"acks":[0]}"#);

    let never = Hec::start(Setup { acknowledges_after: Some(u32::MAX), ..PLAIN });
    let short = SplunkConfig {
        url: never.receiver.url(),
        acknowledge_timeout: Duration::from_millis(600),
        ..acknowledge.clone()
    };
    let failure = Splunk::new(short, http()).unwrap().notify(&message()).await.unwrap_err();
    assert_eq!(failure.retry, Retry::Later);
    assert!(failure.reason.contains("did not index"), "{failure}");

    let without = Hec::start(PLAIN);
    let config = SplunkConfig { url: without.receiver.url(), ..acknowledge };
    let failure = Splunk::new(config, http()).unwrap().notify(&message()).await.unwrap_err();
    assert_eq!(failure.retry, Retry::Never);
    assert!(failure.reason.contains("acknowledge = false"), "{failure}");
}

#[tokio::test]
async fn each_code_means_what_the_contract_says() {
    let hec = Hec::start(PLAIN);
    let sink = sink(&hec);
    let refused = [(403, 1), (401, 2), (401, 3), (403, 4), (400, 7)].map(|said| (said, Retry::Refused));
    let later = [(500, 8), (503, 9), (503, 18), (503, 20), (503, 23), (429, 26)];
    let never =
        [(400, 5), (400, 6), (400, 10), (400, 11), (400, 12), (400, 13), (400, 14), (400, 15), (400, 16)];
    let all = later.map(|said| (said, Retry::Later)).into_iter();
    let all = all.chain(refused).chain(never.map(|said| (said, Retry::Never)));
    for ((status, code), retry) in all {
        hec.receiver.answers([said(status, code, "words of theirs")]);
        let failure = sink.notify(&message()).await.unwrap_err();
        assert_eq!(failure.retry, retry, "{code}: {failure}");
        assert!(failure.reason.contains("words of theirs"), "{failure}");
        assert!(hec.indexed().is_empty());
    }
    // A proxy before it speaks for itself.
    for (status, retry) in
        [(404, Retry::Refused), (302, Retry::Refused), (502, Retry::Later), (401, Retry::Refused)]
    {
        hec.receiver.answers([Reply::new(status, "<html>").header("location", "http://127.0.0.1:1/")]);
        assert_eq!(sink.notify(&message()).await.unwrap_err().retry, retry, "{status}");
    }
    hec.receiver.answers([said(503, 9, "Server is busy").header("retry-after", "7")]);
    assert_eq!(sink.notify(&message()).await.unwrap_err().retry, Retry::After(Duration::from_secs(7)));
}

#[tokio::test]
async fn what_is_not_its_answer_is_no_delivery() {
    let hec = Hec::start(PLAIN);
    let sink = Splunk::new(config(&hec), client(Duration::from_millis(700))).unwrap();
    let acts = [
        Act::Reply(Reply::new(200, "<html>all is well</html>")),
        Act::Reply(Reply::new(200, "")),
        Act::Reply(Reply::new(204, "")),
        Act::Reply(Reply::new(200, "{\"text\":\"Success\"}")),
        Act::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{\"text\":".to_vec()),
        Act::Raw(b"\x00\xff\xfe rubbish\r\n\r\n".to_vec()),
        Act::Close,
        Act::Hang(Duration::from_secs(2)),
        Act::Slow(Duration::from_millis(50)),
    ];
    for act in acts {
        hec.receiver.script([act.clone()]);
        let began = Instant::now();
        let failure = sink.notify(&message()).await.unwrap_err();
        assert_eq!(failure.retry, Retry::Later, "{act:?}: {failure}");
        assert!(began.elapsed() < Duration::from_secs(10), "{act:?}");
    }
    drop(hec.receiver.take());
    sink.notify(&message()).await.unwrap();
}

#[tokio::test]
async fn no_secret_is_told_and_no_text_breaks_out() {
    let hec = Hec::start(PLAIN);
    let sink = sink(&hec);
    hec.receiver.answers([Reply::new(403, format!("Splunk {TOKEN} is unknown"))]);
    let failure = sink.notify(&message()).await.unwrap_err();
    assert!(!failure.reason.contains(TOKEN), "{failure}");
    assert!(!format!("{sink:?}").contains(TOKEN));

    sink.notify(&hostile()).await.unwrap();
    let request = hec.receiver.take().pop().unwrap();
    assert_eq!(request.text().lines().count(), 1, "one event is one line");
}

#[test]
fn a_configuration_that_cannot_work_is_refused() {
    let new = |change: fn(&mut SplunkConfig)| {
        let mut config = SplunkConfig::new("https://splunk.example:8088", SecretString::from(TOKEN));
        change(&mut config);
        Splunk::new(config, http()).unwrap_err()
    };
    assert!(new(|c| c.token = SecretString::from("a\nb")).contains("`token`"));
    assert!(new(|c| c.channel = Some("one".into())).contains("`channel`"));
    assert!(new(|c| c.batch_bytes = 10).contains("`batch_bytes`"));
    assert!(new(|c| c.url = "ftp://splunk.example".into()).contains("https"));
}
