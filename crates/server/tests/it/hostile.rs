//! Bad input is normal: every one of these gets a clear answer, and the server goes on.

use super::common::{ADMIN, Server};
use serde_json::json;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

#[tokio::test]
async fn bodies_that_make_no_sense() {
    let server = Server::start().await;
    let deep = format!(r#"{{"action":"a","resource":"b","payload":{}{}}}"#, "[".repeat(100), "]".repeat(100));
    let very_deep = format!(r#"{{"action":"a","resource":"b","payload":{}"#, "[".repeat(100_000));
    let long = "x".repeat(10_240);
    let cases: Vec<(String, &str)> = vec![
        (String::new(), "ends too early"),
        ("{".into(), "ends too early"),
        (r#"{"action":"update","resource":"us"#.into(), "ends too early"),
        ("null".into(), ""),
        ("[]".into(), "sequence"),
        (r#"[null,null,"update","users",null]"#.into(), "sequence"),
        (r#"{"action":"u","resource":"x"} {}"#.into(), "trailing"),
        ("\"x\"".into(), ""),
        ("{}".into(), ""),
        (r#"{"action":"update","action":"read","resource":"x"}"#.into(), "duplicate"),
        (r#"{"action":"u","resource":"x","payload":{"record_count":1,"record_count":9}}"#.into(), "twice"),
        (r#"{"action":"u","resource":"x","colour":"red"}"#.into(), "colour"),
        (r#"{"action":7,"resource":"x"}"#.into(), ""),
        (r#"{"action":"u","resource":["x"]}"#.into(), ""),
        (r#"{"action":"","resource":"x"}"#.into(), "action"),
        (r#"{"action":"u","resource":"  "}"#.into(), "resource"),
        (r#"{"action":"u"}"#.into(), "resource"),
        (r#"{"resource":"u"}"#.into(), "action"),
        (r#"{"action":"u","resource":"x","tool":"t"}"#.into(), "tool"),
        (format!(r#"{{"action":"{long}","resource":"x"}}"#), "512"),
        ("{\"action\":\"dele\u{202e}te\",\"resource\":\"x\"}".into(), "202E"),
        ("{\"action\":\"de\u{200b}lete\",\"resource\":\"x\"}".into(), "200B"),
        (r#"{"action":"de\u0000lete","resource":"x"}"#.into(), "0000"),
        ("{\"agent\":\"a\u{feff}b\",\"action\":\"u\",\"resource\":\"x\"}".into(), "FEFF"),
        (r#"{"action":"u","resource":"x","payload":{"record_count":-1}}"#.into(), "record_count"),
        (r#"{"action":"u","resource":"x","payload":{"record_count":1.5}}"#.into(), "record_count"),
        (r#"{"action":"u","resource":"x","payload":{"record_count":"many"}}"#.into(), "record_count"),
        (r#"{"action":"u","resource":"x","payload":{"record_count":NaN}}"#.into(), ""),
        (
            r#"{"action":"u","resource":"x","payload":{"record_count":99999999999999999999999}}"#.into(),
            "string",
        ),
        (r#"{"action":"u","resource":"x","payload":{"record_count":1e999}}"#.into(), ""),
        (r#"{"action":"u","resource":"x","record_ids":"all"}"#.into(), "record_ids"),
        (r#"{"action":"u","resource":"x","record_ids":[{"id":1}]}"#.into(), "record_ids"),
        (r#"{"action":"u","resource":"x","timestamp":"yesterday"}"#.into(), "yesterday"),
        (
            format!(r#"{{"action":"u","resource":"x","idempotency_key":"{}"}}"#, "k".repeat(257)),
            "idempotency_key",
        ),
        (deep, "deep"),
        (very_deep, ""),
        ("\u{feff}{}".into(), ""),
    ];
    for (body, says) in cases {
        let reply = server.send("POST", "/v1/checks", ADMIN, &body).await;
        let shown: String = body.chars().take(90).collect();
        assert_eq!(reply.status, 400, "{shown}: {reply:?}");
        assert_eq!(reply.problem(), "invalid-request", "{shown}");
        assert!(reply.body.contains(says), "{shown} should mention `{says}`: {}", reply.body);
    }
    let key = server.send("POST", "/v1/keys", ADMIN, r#"["admin","mallory",null]"#).await;
    assert_eq!(key.status, 400, "{key:?}");
    assert_eq!(
        server.get("/v1/checks").await.json()["checks"],
        json!([]),
        "nothing of it is on record as a check"
    );
}

#[tokio::test]
async fn bytes_that_are_no_text_and_bodies_that_are_too_large() {
    let server = Server::with("[limits]\nbody = \"64KiB\"").await;
    let head = |n: usize| {
        format!(
            "POST /v1/checks HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {ADMIN}\r\ncontent-length: {n}\r\n\r\n"
        )
    };
    let mut bytes = head(4).into_bytes();
    bytes.extend([0xff, 0xfe, 0x00, 0x80]);
    assert_eq!(server.raw(&bytes).await.status, 400);
    let large = format!(r#"{{"action":"u","resource":"x","payload":"{}"}}"#, "x".repeat(80_000));
    assert_eq!(server.send("POST", "/v1/checks", ADMIN, &large).await.problem(), "too-large");
    assert_eq!(server.raw(head(99_999_999_999).as_bytes()).await.problem(), "too-large");
    let chunked = format!(
        "POST /v1/checks HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {ADMIN}\r\ntransfer-encoding: chunked\r\n\r\n{}",
        format!("2000\r\n{}\r\n", "x".repeat(0x2000)).repeat(20)
    );
    assert_eq!(server.raw(chunked.as_bytes()).await.status, 413);
}

/// Who sends too much is read for a moment, so that they hear why it was refused; and for no longer.
#[tokio::test]
async fn whoever_sends_too_much_hears_so_however_they_send_it() {
    const MIB: usize = 1024 * 1024;
    let server = Server::with("[limits]\nbody = \"64KiB\"").await;
    let begin = async |announced: usize| {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        let head = format!(
            "POST /v1/checks HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {ADMIN}\r\n\
             content-length: {announced}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.into_split()
    };
    let hears = async |reading: &mut tokio::net::tcp::OwnedReadHalf, who: &str| {
        let mut answer = [0; 12];
        let read = tokio::time::timeout(Duration::from_secs(60), reading.read_exact(&mut answer)).await;
        read.unwrap_or_else(|_| panic!("{who} heard nothing for 60 s")).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 413", "{who}");
    };

    let (mut reading, mut writing) = begin(MIB).await;
    writing.write_all(&vec![b'x'; MIB]).await.unwrap();
    hears(&mut reading, "one who sends all of it before reading").await;
    // The whole answer, and then the end: not a connection that breaks off.
    let mut rest = String::new();
    let end = tokio::time::timeout(Duration::from_secs(60), reading.read_to_string(&mut rest)).await;
    end.expect("the end of the answer in 60 s").unwrap();
    assert!(rest.contains("too-large"), "{rest}");

    let (mut reading, _writing) = begin(MIB).await;
    hears(&mut reading, "one who never begins").await;

    let (mut reading, mut writing) = begin(16 * MIB).await;
    let drips = tokio::spawn(async move {
        while writing.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    hears(&mut reading, "one who never stops").await;
    drop(reading);
    let gone = tokio::time::timeout(Duration::from_secs(60), drips).await;
    gone.expect("the connection of one who never stops ends within 60 s").unwrap();

    let (mut reading, _writing) = begin(16 * MIB + 1).await;
    hears(&mut reading, "one of whom nothing is read").await;
    assert_eq!(server.check(json!({"action": "read", "resource": "x"})).await["verdict"], "allow");
}

#[tokio::test]
async fn requests_that_are_no_requests() {
    let server = Server::start().await;
    assert_eq!(server.raw(b"\r\n\r\nHELO\r\n\r\n").await.status, 400);
    assert_eq!(server.get("/nothing/here").await.problem(), "not-found");
    assert_eq!(server.send("PATCH", "/v1/checks", ADMIN, "").await.problem(), "method-not-allowed");
    assert_eq!(server.get("/v1/checks/chk_%00%2e%2e").await.problem(), "not-found");
    let id = "x".repeat(5000);
    assert_eq!(server.get(&format!("/v1/checks/{id}")).await.problem(), "not-found");
    assert_eq!(server.get("/v1/checks/chk_1?wait=soon").await.problem(), "invalid-request");
    let header = format!(
        "GET /v1/checks HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Basic {ADMIN}\r\n\r\n"
    );
    assert_eq!(server.raw(header.as_bytes()).await.problem(), "unauthenticated");
    let long = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(1_000_000));
    assert!(matches!(server.raw(long.as_bytes()).await.status, 0 | 431), "refused or cut off");
    assert_eq!(server.get("/healthz").await.status, 200, "and the server goes on");
}

#[tokio::test]
async fn a_client_that_breaks_off_decides_nothing() {
    let server = Server::start().await;
    for _ in 0..20 {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        let text = format!(
            "POST /v1/checks HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADMIN}\r\ncontent-length: 500\r\n\r\n{{\"action\":\"u\""
        );
        stream.write_all(text.as_bytes()).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(server.get("/v1/checks").await.json()["checks"], json!([]));
}

#[tokio::test]
async fn policies_that_cannot_be() {
    let server = Server::start().await;
    let block = |condition: serde_json::Value| json!({"name": "p", "rule": "block", "condition": condition});
    let chain = format!("payload{}", ".a".repeat(8000));
    let sum = format!("1{} > 0", "+1".repeat(2000));
    let nested = "[1,2,3,4,5,6,7,8,9].all(a, [1,2,3,4,5,6,7,8,9].all(b, [1,2,3,4,5,6,7,8,9].all(c, true)))";
    for policy in [
        json!({}),
        json!([]),
        json!({"name": "p", "rule": "block"}),
        json!({"name": "", "rule": "block", "condition": {}}),
        json!({"name": "p\u{202e}", "rule": "block", "condition": {}}),
        json!({"name": "p", "rule": "obstruct", "condition": {}}),
        block(json!({"record_count_exceeds": -1})),
        block(json!({"record_count_exceeds": "25"})),
        block(json!({"record_count_exceeds": 2.5})),
        block(json!({"colour": "red"})),
        block(json!({"any_of": []})),
        block(json!({"resource_pattern": "a\u{200b}b"})),
        block(json!({"rate_exceeds": {"count": 1, "period": "soon"}})),
        block(json!({"when": "records > 5"})),
        block(json!({"action": "a", "when": "records >"})),
        block(json!({"action": "a", "when": "unknown_thing > 5"})),
        block(json!({"action": "a", "when": chain})),
        block(json!({"action": "a", "when": sum})),
        block(json!({"action": "a", "when": nested})),
        block(json!({"action": "a", "when": format!("{}1{}", "(".repeat(500), ")".repeat(500))})),
    ] {
        let reply = server.post("/v1/policies", policy.clone()).await;
        assert_eq!(reply.status, 422, "{policy}: {reply:?}");
        assert_eq!(reply.problem(), "policy-does-not-compile", "{policy}");
        assert!(!reply.json()["errors"].as_array().unwrap().is_empty(), "{reply:?}");
    }
    let twice = r#"{"name":"p","rule":"block","rule":"allow","condition":{}}"#;
    assert_eq!(server.send("POST", "/v1/policies", ADMIN, twice).await.status, 400);
    assert_eq!(server.get("/v1/policies").await.json()["policies"], json!([]));
}

#[tokio::test]
async fn an_agent_that_asks_too_often_is_slowed_down() {
    let server = Server::with("[limits]\nagent_checks_per_second = 5").await;
    let key = server.key("agent", Some("loop-bot")).await;
    let body = json!({"action": "read", "resource": "x"}).to_string();
    let replies =
        futures_util::future::join_all((0..40).map(|_| server.send("POST", "/v1/checks", &key, &body))).await;
    let slowed: Vec<_> = replies.iter().filter(|r| r.status == 429).collect();
    assert!(slowed.len() >= 20 && slowed.len() < 40, "{}", slowed.len());
    assert!(slowed.iter().all(|r| r.problem() == "too-many-requests" && r.headers.contains("retry-after")));
}

#[tokio::test]
async fn the_stream_resumes_where_it_was() {
    let server = Server::start().await;
    for n in 0..3 {
        server.check(json!({"action": "read", "resource": format!("r.{n}")})).await;
    }
    let open = async |extra: &str| {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        let text = format!(
            "GET /v1/stream?kind=check&after=0 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADMIN}\r\n{extra}\r\n"
        );
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    };
    let read_until = async |stream: &mut TcpStream, what: &str| {
        let mut text = String::new();
        let mut buffer = vec![0; 65536];
        while !text.contains(what) {
            let read = tokio::time::timeout(Duration::from_secs(60), stream.read(&mut buffer)).await;
            let n = read.unwrap_or_else(|_| panic!("no `{what}` in {text}")).unwrap();
            assert!(n > 0, "ended: {text}");
            text.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
        text
    };
    let mut first = open("").await;
    let text = read_until(&mut first, "r.2").await;
    let ids: Vec<u64> =
        text.lines().filter_map(|l| l.strip_prefix("id: ")).map(|id| id.parse().unwrap()).collect();
    assert_eq!(ids.len(), 3, "{text}");
    let mut resumed = open(&format!("last-event-id: {}\r\n", ids[1])).await;
    let text = read_until(&mut resumed, "r.2").await;
    assert!(!text.contains("r.1"), "{text}");
    server.check(json!({"action": "read", "resource": "r.live"})).await;
    read_until(&mut resumed, "r.live").await;

    let made = server.post("/v1/keys", json!({"role": "operator", "name": "gone"})).await.json();
    let mut theirs = TcpStream::connect(server.addr).await.unwrap();
    let text = format!(
        "GET /v1/stream?after=0 HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {}\r\n\r\n",
        made["key"].as_str().unwrap()
    );
    theirs.write_all(text.as_bytes()).await.unwrap();
    read_until(&mut theirs, "r.live").await;
    let revoke = format!("/v1/keys/{}", made["id"].as_str().unwrap());
    assert_eq!(server.send("DELETE", &revoke, ADMIN, "").await.status, 204);
    server.check(json!({"action": "read", "resource": "r.secret"})).await;
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(60), theirs.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the stream of a revoked key ends");
    assert!(!String::from_utf8_lossy(&rest).contains("r.secret"));
}

#[tokio::test]
async fn metrics_and_description_are_open() {
    let server = Server::start().await;
    server.check(json!({"action": "read", "resource": "x"})).await;
    let metrics = server.send("GET", "/metrics", "", "").await;
    assert!(
        metrics.body.contains(r#"checkrein_checks_total{verdict="allow",category="read"} 1"#),
        "{}",
        metrics.body
    );
    let doc = server.send("GET", "/openapi.json", "", "").await.json();
    assert!(doc["paths"]["/v1/checks"]["post"].is_object());
    assert_eq!(server.send("GET", "/readyz", "", "").await.status, 200);
}
