use super::*;
use proptest::prelude::*;

const INNER: &str = r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"x"}}"#;

fn is_call(text: &str) -> bool {
    matches!(read(text.as_bytes()), Ok(Incoming::One(Message { kind: Kind::Call(_), .. })))
}

fn refused(bytes: &[u8]) -> Unreadable {
    read(bytes).map(|read| panic!("{} was read as {read:?}", String::from_utf8_lossy(bytes))).unwrap_err()
}

#[test]
fn what_could_be_read_as_a_call_is_one_or_is_refused() {
    // However it is written, one call.
    for call in [
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{"a":1}}}"#,
        r#" {"params":{"name":"x"},"method":"tools\/call","id":"a","jsonrpc":"2.0"} "#,
        r#"{"jsonrpc":"2.0","id":1,"\u006dethod":"\u0074ools/call","params":{"\u006eame":"x","arguments":null}}"#,
        "{\"jsonrpc\":\"2.0\",\n\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"x\"}}\r",
    ] {
        assert!(is_call(call), "{call}");
    }
    let deep = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}{}}}"#,
        "[".repeat(200),
        "]".repeat(200)
    );
    let smuggled = format!("{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\",\"params\":\r{INNER}\r}}");
    for text in [
        // Two readers, two methods.
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call","params":{"name":"x"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","\u006dethod":"tools/call","params":{"name":"x"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call","params":{"name":"x"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"METHOD":"tools/call","params":{"name":"x"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","paramſ":{"name":"x"}}"#,
        // A lenient server's calls.
        r#"{"jsonrpc":"2.0","id":1,"method":"Tools/Call","params":{"name":"x"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call ","params":{"name":"x"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"/tools//call","params":{"name":"x"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools\u0000/call","params":{"name":"x"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools\u200b/call","params":{"name":"x"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":["tools/call"],"params":{"name":"x"}}"#,
        // Two tools, two sets of arguments.
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get","name":"delete"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get","Name":"delete"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get","argument\u017f":{}}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{"a":1,"a":2}}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{"path":"/a","PATH":"/b"}}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{"n":18446744073709551617}}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{"s":"\ud800"}}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":["x"]}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":1}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#,
        deep.as_str(),
        // Nobody could be told what came of it.
        r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"x"}}"#,
        r#"{"jsonrpc":"2.0","id":null,"method":"tools/call","params":{"name":"x"}}"#,
        r#"{"jsonrpc":"2.0","id":1.5,"method":"tools/call","params":{"name":"x"}}"#,
        r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#,
        // Not of this protocol.
        r#"{"id":1,"method":"ping"}"#,
        r#"{"jsonrpc":2.0,"id":1,"method":"ping"}"#,
        r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","jsonrpc":"2.0","id":1,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":""}}"#,
        r#"{"jsonrpc":"2.0","id":1}"#,
        r#"["2.0",1,"tools/call",{"name":"x"}]"#,
        // No JSON to everybody.
        r#"{"jsonrpc":"2.0","id":1,"method":"ping",}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping"/**/}"#,
        "{'jsonrpc':'2.0','id':1,'method':'ping'}",
        r#"{"jsonrpc":"2.0","id":1,"method":"ping"} {"jsonrpc":"2.0"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":NaN}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping""#,
        "\u{feff}{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}",
        "[]",
        "[[]]",
        "null",
        "1",
        // A line within a line.
        smuggled.as_str(),
    ] {
        refused(text.as_bytes());
    }
    refused(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"params\":\"\xff\"}");
    refused(format!("[{}]", vec![INNER; MAX_BATCH + 1].join(",")).as_bytes());
}

#[test]
fn what_is_no_call_is_left_alone() {
    let deep = "[".repeat(10_000) + &"]".repeat(10_000);
    for params in [r#"{"a":1,"a":2}"#, "1e999", r#""\ud800""#, r#"{"method":"tools/call"}"#, deep.as_str()] {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"x/y","params":{params}}}"#);
        let Ok(Incoming::One(message)) = read(text.as_bytes()) else { panic!("{params:.80}") };
        assert_eq!(message.raw, text);
        assert!(matches!(message.kind, Kind::Request { .. }));
    }
}

#[test]
fn who_is_asked_is_told_by_the_request() {
    let ask = |rest: &str| {
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":"\u0061","method":"tools/call","params":{{"name":"x"{rest}}}}}"#
        );
        match read(text.as_bytes()).unwrap() {
            Incoming::One(Message { kind: Kind::Call(call), .. }) => *call,
            other => panic!("{other:?}"),
        }
    };
    let old = ask("");
    assert_eq!((old.id.0.as_str(), old.modern, old.elicits), ("\"a\"", false, false));
    let version = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28""#;
    let able = |elicitation: &str| {
        ask(&format!(
            r#","_meta":{{{version},"io.modelcontextprotocol/clientCapabilities":{{{elicitation}}}}}"#
        ))
    };
    assert!(able("").modern && !able("").elicits);
    assert!(able(r#""elicitation":{}"#).elicits && able(r#""elicitation":{"form":{}}"#).elicits);
    assert!(!able(r#""elicitation":{"url":{}}"#).elicits);

    let detour = ask(
        r#","arguments":{"b":[1.50,"\u0061"]},"requestState":"checkrein:1","inputResponses":{"checkrein":{"action":"accept"}}"#,
    );
    assert_eq!(
        detour.without_detour(Some("\"theirs\""), None).unwrap(),
        r#"{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"x","arguments":{"b":[1.50,"\u0061"]},"requestState":"theirs"}}"#
    );
}

proptest! {
    /// Whatever is put into a call: it is still a call, or refused; never something else that is passed on.
    #[test]
    fn no_edit_turns_a_call_into_something_else(at in 0usize..120, byte in any::<u8>(), insert in any::<bool>()) {
        let mut bytes = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{"a":1}}}"#.to_vec();
        let at = at % bytes.len();
        if insert { bytes.insert(at, byte) } else { bytes[at] = byte }
        if let Ok(Incoming::One(message)) = read(&bytes) {
            let other_method = matches!(&message.kind, Kind::Request { method, .. } if
                method.bytes().filter(u8::is_ascii_alphanumeric).map(|b| b.to_ascii_lowercase()).ne(*b"toolscall"));
            prop_assert!(matches!(message.kind, Kind::Call(_)) || other_method);
        }
    }
}
