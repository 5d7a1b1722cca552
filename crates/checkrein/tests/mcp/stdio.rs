//! In front of a server on its standard input and output. `tee` stands for one: it notes every byte that gets
//! through, and says it back.

use crate::common::{Echo, PING, Server, call, eventually, result};
use serde_json::{Value, json};
use std::{thread, time::Duration};

fn few_deletes() -> Value {
    json!([
        {"name": "few_deletes", "rule": "block", "condition": {"category": "delete", "record_count_exceeds": 25}},
        {"name": "mails", "rule": "require_approval", "condition": {"tool": "*send_mail"}},
    ])
}

#[test]
fn what_is_no_call_passes_byte_for_byte() {
    let server = Server::start(&json!([{"name": "all", "rule": "block", "condition": {"tool": "*"}}]));
    let echo = Echo::within(server.dir.path());
    let mut gateway = server.gateway(&[], &echo.command());
    let large = format!(
        r#"{{"jsonrpc":"2.0","id":7,"result":{{"content":[{{"text":"{}"}}]}}}}"#,
        "x\\u0000".repeat(1_000_000)
    );
    let lines = [
        r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2024-11-05","capabilities":{}}}"#,
        r#"{ "method" : "notifications/initialized" ,"jsonrpc":"2.0"}"#,
        r#"{"jsonrpc":"2.0","id":"ü\u0061","method":"resources/read","params":{"uri":"a","uri":"b","n":1e999}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":0.10}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":99}}"#,
        r#"[{"jsonrpc":"2.0","id":3,"method":"ping"}, {"jsonrpc":"2.0","id":4,"method":"ping"}]"#,
        r#"{"jsonrpc":"2.0","id":5,"error":{"code":-1,"message":"no"}}"#,
        large.as_str(),
        PING,
    ];
    for line in lines {
        gateway.send(line);
    }
    for line in lines {
        assert!(gateway.line() == line, "{line:.100}");
    }
    assert!(echo.got() == (lines.join("\n") + "\n").into_bytes());
    assert_eq!(gateway.end(), (Some(0), vec![]));
}

#[test]
fn what_cannot_be_read_for_certain_is_not_passed_on() {
    let server = Server::start(&json!([]));
    let echo = Echo::within(server.dir.path());
    let mut gateway = server.gateway(&["--max-message", "1"], &echo.command());
    let huge =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":"{}"}}"#, "x".repeat(1024 * 1024));
    for line in [
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call","params":{"name":"x"}}"#.as_bytes(),
        br#"{"jsonrpc":"2.0","id":1,"Method":"tools/call","params":{"name":"x"}}"#,
        b"{\"jsonrpc\":\"2.0\",\"method\":\"x\",\"params\":\r{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\"}\r}",
        b"\xef\xbb\xbf{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"params\":\"\xff\"}",
        br#"[{"jsonrpc":"2.0","id":1,"method":"ping"},{"method":"tools/call"}]"#,
        b"hello",
        huge.as_bytes(),
    ] {
        gateway.send(line);
        let answer = gateway.json();
        assert!(answer["id"].is_null() && answer["error"]["code"].as_i64() < Some(-32_000), "{answer}");
    }
    gateway.send(
        r#"{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"x","arguments":{"a":1,"A":2}}}"#,
    );
    let answer = gateway.json();
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(5), &json!(-32_602)));
    gateway.send(PING);
    assert_eq!(gateway.line(), PING);
    assert_eq!(String::from_utf8(echo.got()).unwrap(), format!("{PING}\n"));
}

#[test]
fn calls_are_judged_and_pass_unchanged() {
    let server = Server::start(&few_deletes());
    let echo = Echo::within(server.dir.path());
    let mut gateway = server.gateway(&["--name", "shop", "--session", "s1"], &echo.command());
    let allowed = r#"{ "jsonrpc":"2.0", "params":{"arguments":{"ids":[1,2.50]},"_meta":{"progressToken":3,"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},"name":"delete_users"},"id":"a","method":"tools\/call"}"#;
    gateway.send(allowed);
    assert_eq!(gateway.line(), allowed);
    let many: Vec<u32> = (0..30).collect();
    gateway.send(call(2, "delete_users", &json!({"ids": many})));
    let (error, text) = result(&gateway.json());
    assert!(error && text.starts_with("NOT RUN: Blocked by few_deletes"), "{text}");
    assert!(text.contains("At most 25 records at a time would be allowed."), "{text}");

    // A batch of 2025-03-26: each call by itself, the rest passes.
    let batch = format!(
        "[{},{PING},{}]",
        call(3, "delete_users", &json!({"ids": many})),
        call(4, "get_users", &json!({}))
    );
    gateway.send(&batch);
    let mut answers: Vec<String> = (0..3).map(|_| gateway.line()).collect();
    answers.sort_by_key(|line| !line.contains("NOT RUN"));
    assert!(answers[0].contains("\"id\":3") && answers[0].contains("NOT RUN"), "{answers:?}");
    assert!(answers.contains(&PING.to_owned()) && answers.contains(&call(4, "get_users", &json!({}))));
    let got = String::from_utf8(echo.got()).unwrap();
    assert!(!got.contains("\"id\":2") && !got.contains("\"id\":3"), "{got}");

    gateway.end();
    let checks = server.log("check", 4);
    let first = &checks[0]["body"]["check"];
    assert_eq!(first["tool"], "mcp__shop__delete_users");
    assert_eq!((&first["arguments"], &first["session"]), (&json!({"ids": [1, 2.5]}), &json!("s1")));
    assert_eq!(first["traceparent"], "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    // `tee` answers nothing, so nobody knows what came of the two that were passed on.
    let outcomes = server.log("outcome", 2);
    assert!(outcomes.iter().all(|o| o["body"]["status"] == "unknown"), "{outcomes:?}");
}

#[test]
fn a_cancelled_call_that_waits_never_runs() {
    let server = Server::start(&few_deletes());
    let echo = Echo::within(server.dir.path());
    let mut gateway = server.gateway(&["--wait", "60"], &echo.command());
    gateway.send(call(1, "send_mail", &json!({"to": "a@example.com"})));
    let approval = server.pending();
    gateway.send(call(1, "get_users", &json!({})));
    assert!(gateway.json()["error"]["message"].as_str().unwrap().contains("under way"));
    gateway.send(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#);
    gateway.send(PING);
    assert_eq!(gateway.line(), PING);
    server.admin(&["approvals", "approve", &approval]);
    thread::sleep(Duration::from_secs(1));
    assert_eq!(String::from_utf8(echo.got()).unwrap(), format!("{PING}\n"));

    // What waits when the client leaves never runs either.
    gateway.send(call(2, "send_mail", &json!({"to": "b@example.com"})));
    let approval = server.pending();
    assert_eq!(gateway.end(), (Some(0), vec![]));
    server.admin(&["approvals", "approve", &approval]);
    assert_eq!(String::from_utf8(echo.got()).unwrap(), format!("{PING}\n"));
}

#[test]
fn the_clients_user_is_asked_where_the_client_can() {
    let server = Server::start(&few_deletes());
    let echo = Echo::within(server.dir.path());
    let mut gateway = server.gateway(&["--wait", "30"], &echo.command());
    gateway.send(r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{"elicitation":{}}}}"#);
    gateway.line();
    let mail = |n: u32| call(n, "send_mail", &json!({"to": format!("{n}@example.com")}));
    let answer = |id: &Value, action: &str| {
        json!({"jsonrpc": "2.0", "id": id, "result": {"action": action}}).to_string()
    };

    gateway.send(mail(1));
    let question = gateway.json();
    assert_eq!(question["method"], "elicitation/create");
    assert!(question["params"]["message"].as_str().unwrap().contains("checkrein approvals approve apr_"));
    gateway.send(answer(&question["id"], "decline"));
    let (error, text) = result(&gateway.json());
    assert!(error && text.contains("declined"), "{text}");
    server.admin(&["approvals", "deny", &server.pending()]);

    // Their yes approves nothing.
    gateway.send(mail(2));
    let question = gateway.json();
    gateway.send(answer(&question["id"], "accept"));
    gateway.send(PING);
    assert_eq!(gateway.line(), PING);
    server.admin(&["approvals", "approve", &server.pending()]);
    assert_eq!(gateway.line(), mail(2));

    // Approved before they answer: the question is withdrawn.
    gateway.send(mail(3));
    let question = gateway.json();
    server.admin(&["approvals", "approve", &server.pending()]);
    let said = [gateway.line(), gateway.line()];
    assert!(said.contains(&mail(3)), "{said:?}");
    assert!(
        said.iter().any(|line| line.contains("cancelled") && line.contains(question["id"].as_str().unwrap()))
    );
    let got = String::from_utf8(echo.got()).unwrap();
    assert!(!got.contains("checkrein") && !got.contains("1@"), "{got}");
}

#[test]
fn a_stateless_client_is_sent_back_to_wait() {
    let server = Server::start(&few_deletes());
    let echo = Echo::within(server.dir.path());
    let mut gateway = server.gateway(&["--wait", "1"], &echo.command());
    let mail = |id: u32, to: &str, more: Value| {
        let mut params = json!({"name": "send_mail", "arguments": {"to": to}, "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}},
        }});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}).to_string()
    };
    let back =
        |state: &Value| json!({"requestState": state, "inputResponses": {"checkrein": {"action": "accept"}}});
    // The server's own state comes back when the call goes on.
    gateway.send(mail(
        1,
        "a",
        json!({"requestState": "theirs", "inputResponses": {"q": {"action": "accept"}}}),
    ));
    let first = gateway.json()["result"].clone();
    assert_eq!(
        (&first["resultType"], &first["inputRequests"]["checkrein"]["method"]),
        (&json!("input_required"), &json!("elicitation/create"))
    );
    // Still nobody: once more. The old token is used up.
    gateway.send(mail(2, "a", back(&first["requestState"])));
    let second = gateway.json()["result"].clone();
    assert_ne!(first["requestState"], second["requestState"]);
    let approval = server.pending();
    server.admin(&["approvals", "approve", &approval]);
    // Another call gets nothing by the token.
    gateway.send(mail(3, "b", back(&second["requestState"])));
    let other = gateway.json();
    assert_eq!(other["result"]["resultType"], "input_required");
    server.admin(&["approvals", "deny", &server.pending()]);
    gateway.send(mail(4, "b", back(&other["result"]["requestState"])));
    let (error, text) = result(&gateway.json());
    assert!(error && text.contains("Denied"), "{text}");
    // And one approval is one call, though the token was lost to the other.
    gateway.send(mail(5, "a", json!({})));
    assert_eq!(gateway.json()["id"], 5);
    gateway.send(mail(6, "a", json!({})));
    assert_eq!(gateway.json()["result"]["resultType"], "input_required");
    let got = String::from_utf8(echo.got()).unwrap();
    assert_eq!(got.lines().count(), 1, "{got}");
    assert!(!got.contains("checkrein:"), "{got}");
}

#[test]
fn nothing_runs_while_nobody_can_judge() {
    let mut server = Server::start(&json!([]));
    let echo = Echo::within(server.dir.path());
    let mut strict = server.gateway(&["--timeout", "1"], &echo.command());
    strict.send(call(1, "get_users", &json!({})));
    strict.line();
    server.kill();
    for (id, tool) in [(2, "get_users"), (3, "delete_users")] {
        strict.send(call(id, tool, &json!({})));
        let (error, text) = result(&strict.json());
        assert!(error && text.contains("could not be checked") && !text.contains("127.0.0.1"), "{text}");
    }
    assert_eq!(String::from_utf8(echo.got()).unwrap().lines().count(), 1);
    drop(strict);

    let mut lenient = server.gateway(&["--timeout", "1", "--on-unreachable", "allow-reads"], &echo.command());
    lenient.send(call(2, "delete_users", &json!({})));
    assert!(result(&lenient.json()).0);
    lenient.send(call(3, "get_users", &json!({"sql": "DELETE FROM users"})));
    assert!(result(&lenient.json()).0);
    lenient.send(call(4, "get_users", &json!({})));
    assert_eq!(lenient.line(), call(4, "get_users", &json!({})));
}

#[test]
fn the_server_ends_with_the_gateway_and_the_gateway_with_the_server() {
    let server = Server::start(&json!([]));
    // It answers nothing and leaves with a code of its own; and it gets no key.
    let script = "test -z \"$CHECKREIN_API_KEY$CHECKREIN_URL\" || exit 9; read line; exit 7";
    let mut gateway = server.gateway(&[], &["sh", "-c", script]);
    gateway.send(call(1, "get_users", &json!({})));
    let (error, text) = result(&gateway.json());
    assert!(error && text.contains("unknown"), "{text}");
    assert_eq!(gateway.ended().0, Some(7));
    assert_eq!(server.log("outcome", 1)[0]["body"]["status"], "unknown");

    let pid = server.dir.path().join("pid");
    let stubborn = format!("echo $$ > {}; trap '' TERM; while :; do sleep 0.2; done", pid.display());
    let gateway = server.gateway(&[], &["sh", "-c", &stubborn]);
    let pid = eventually(|| std::fs::read_to_string(&pid).ok()?.trim().parse::<u32>().ok());
    gateway.signal("-TERM");
    gateway.ended();
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());

    let gateway = server.gateway(&[], &["/nowhere/server"]);
    assert_eq!(gateway.ended().0, Some(1));
}
