//! Tools that change, and a server of Checkrein that is there but does not answer.

use crate::common::{Echo, Gateway, PING, Server, call, eventually, result};
use serde_json::json;
use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    thread,
};

/// What `tee` says back: a list of one tool.
fn list(tool: &str, schema: &str) -> String {
    json!({"jsonrpc": "2.0", "id": "nobody", "result": {"tools": [
        {"name": tool, "description": "Mails.", "inputSchema": {"description": schema}},
    ]}})
    .to_string()
}

fn show(gateway: &mut Gateway, tool: &str, schema: &str) {
    gateway.send(list(tool, schema));
    assert_eq!(gateway.line(), list(tool, schema));
}

#[test]
fn no_list_and_no_policy_takes_a_change_back() {
    let server =
        Server::start(&json!([{"name": "all", "rule": "allow", "condition": {"action": "tool_changed"}}]));
    let echo = Echo::within(server.dir.path());
    let mut gateway = server.gateway(&["--name", "shop"], &echo.command());
    for schema in ["old", "evil", "old"] {
        show(&mut gateway, "get_x", schema);
    }
    gateway.send(call(1, "get_x", &json!({})));
    let (error, text) = result(&gateway.json());
    assert!(error && text.contains("its inputSchema changed"), "{text}");
    // What is no message, or more than one to some readers, does not reach the client.
    let cr = r#"{"jsonrpc":"2.0","method":"x","params":"#;
    let script =
        format!("printf '%s\\n' hello '\u{feff}{PING}'; printf '{cr}\\r1}}\\n'; printf '%s\\n' '{PING}'");
    let other = server.gateway(&["--name", "other"], &["sh", "-c", &script]);
    assert_eq!(other.line(), PING);
}

#[test]
fn an_approval_is_of_one_change() {
    let server = Server::start(&json!([
        {"name": "changes", "rule": "require_approval", "condition": {"action": "tool_changed"}},
        {"name": "mails", "rule": "require_approval", "condition": {"tool": "*send_mail"}},
    ]));
    let echo = Echo::within(server.dir.path());
    let mut gateway = server.gateway(&["--name", "shop", "--wait", "60"], &echo.command());
    show(&mut gateway, "get_x", "1");
    show(&mut gateway, "get_x", "2");
    let second = server.pending();
    let get = call(1, "get_x", &json!({}));
    gateway.send(&get);
    server.log("check", 2);
    show(&mut gateway, "get_x", "3");
    server.log("check", 3);
    server.admin(&["approvals", "approve", &second]);
    let third = eventually(|| Some(server.pending()).filter(|id| *id != second));
    server.log("check", 4);
    gateway.send(PING);
    assert_eq!(gateway.line(), PING, "the call did not run");
    server.admin(&["approvals", "approve", &third]);
    assert_eq!(gateway.line(), get);

    // A call that waits for a person while its tool changes.
    show(&mut gateway, "send_mail", "1");
    gateway.send(call(2, "send_mail", &json!({})));
    let mail = server.pending();
    show(&mut gateway, "send_mail", "2");
    server.admin(&["approvals", "approve", &mail]);
    let (error, text) = result(&gateway.json());
    assert!(error && text.contains("its inputSchema changed"), "{text}");
    assert!(!String::from_utf8(echo.got()).unwrap().contains(r#""name":"send_mail","arguments""#));
}

#[test]
fn a_server_that_answers_badly_can_be_reached() {
    let dir = tempfile::tempdir().unwrap();
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"id\":\"chk_1\",\"verdict\":\"bl";
    for answer in ["HTTP/1.1 503 X\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", "", half, "hang up"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        thread::spawn(move || {
            let mut silent = Vec::new();
            for mut stream in listener.incoming().map_while(Result::ok) {
                let _request = stream.read(&mut [0; 65_536]);
                let _gone = stream.write_all(answer.strip_prefix("hang up").unwrap_or(answer).as_bytes());
                // Without an answer the connection stays open.
                silent.extend(answer.is_empty().then_some(stream));
            }
        });
        let echo = Echo::within(dir.path());
        let flags = ["--timeout", "1", "--on-unreachable", "allow-reads"];
        let key = "ck_agent_0123456789abcdef0123456789abcdef";
        let mut gateway = Gateway::start(&url, key, dir.path(), &flags, &echo.command());
        // More than are asked at a time, so that some wait for their turn.
        for id in 0..200 {
            gateway.send(call(id, "get_users", &json!({})));
        }
        for _ in 0..200 {
            let (error, text) = result(&gateway.json());
            assert!(error && text.contains("could not be checked"), "{text}");
        }
        assert!(echo.got().is_empty());
    }
}
