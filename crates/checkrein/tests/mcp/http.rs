//! In front of a server that speaks HTTP. It follows a script to the byte, and notes what it gets.

use crate::common::{Front, PING, Server, call, eventually};
use serde_json::{Value, json};
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, mpsc},
    thread,
};

/// What one request is answered with: pieces, each sent when the test says so.
type Act = Box<dyn Fn(&Request) -> Vec<Vec<u8>> + Send + Sync>;

#[derive(Clone, Debug)]
struct Request {
    head: String,
    body: String,
}

/// The scripted server.
struct Upstream {
    addr: SocketAddr,
    got: Arc<Mutex<Vec<Request>>>,
    next: mpsc::Sender<()>,
}

impl Upstream {
    fn start(act: Act) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let got = Arc::new(Mutex::new(Vec::new()));
        let (next, pieces) = mpsc::channel();
        let seen = Arc::clone(&got);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some(request) = read(&stream) else { continue };
                let answer = act(&request);
                seen.lock().unwrap().push(request);
                for (at, piece) in answer.iter().enumerate() {
                    if at > 0 {
                        pieces.recv().unwrap();
                    }
                    let _gone = stream.write_all(piece);
                }
            }
        });
        Self { addr, got, next }
    }

    fn got(&self) -> Vec<Request> {
        self.got.lock().unwrap().clone()
    }

    fn url(&self) -> String {
        format!("http://{}/mcp", self.addr)
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length = head.to_lowercase().lines().find_map(|l| l.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some(Request { head, body: String::from_utf8(body).unwrap() })
}

fn reply(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

fn json_reply(body: &str) -> Vec<u8> {
    reply("200 OK", "content-type: application/json\r\n", body)
}

/// Sends a request and gives the connection back, to read the answer from.
fn begin(at: SocketAddr, headers: &[&str], body: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(at).unwrap();
    let mut head = "POST /mcp HTTP/1.1\r\n".to_owned();
    if !headers.iter().any(|h| h.to_lowercase().starts_with("host:")) {
        head += &format!("host: {at}\r\n");
    }
    if !headers.iter().any(|h| h.to_lowercase().starts_with("content-type:")) {
        head += "content-type: application/json; charset=utf-8\r\n";
    }
    for header in headers {
        head += &format!("{header}\r\n");
    }
    head += &format!("connection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    stream
}

fn post(at: SocketAddr, headers: &[&str], body: impl AsRef<[u8]>) -> (u16, String, String) {
    let mut text = String::new();
    begin(at, headers, body.as_ref()).read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_lowercase(), body.to_owned())
}

fn policies() -> Value {
    json!([{"name": "few_deletes", "rule": "block", "condition": {"category": "delete", "record_count_exceeds": 25}}])
}

fn front(server: &Server, upstream: &Upstream) -> Front {
    server.front(&["--name", "shop", "--upstream", &upstream.url()])
}

#[test]
fn bytes_pass_as_they_are_and_as_they_come() {
    let server = Server::start(&policies());
    let first = "event: message\r\nid: 1\r\ndata: {\"jsonrpc\":\"2.0\", \"method\":\"notifications/progress\"}\r\n\r\n";
    let last = "data: {\"jsonrpc\":\"2.0\",\"id\":1,\ndata: \"result\":{\"content\":[]}}\n\n: bye\n\n";
    let upstream = Upstream::start(Box::new(move |_| {
        let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream\r\nmcp-session-id: s-1\r\n\r\n";
        vec![format!("{head}{first}").into_bytes(), last.as_bytes().to_vec()]
    }));
    let front = front(&server, &upstream);
    let text = r#"{ "jsonrpc" : "2.0", "id":1,"method":"tools\/call","params":{"name":"get_x","arguments":{"n":1.50}}}"#;
    let headers = [
        "accept: application/json, text/event-stream",
        "mcp-session-id: s-1",
        "authorization: Bearer t",
        "accept-encoding: gzip",
        "x-own: 1",
        "connection: x-hop",
        "x-hop: 1",
    ];
    let mut stream = begin(front.addr(), &headers, text.as_bytes());
    let mut seen = Vec::new();
    let mut piece = [0; 4096];
    // The first event is there before the server has sent the second.
    while !String::from_utf8_lossy(&seen).contains("notifications/progress\"}\r\n\r\n") {
        let n = stream.read(&mut piece).unwrap();
        assert!(n > 0);
        seen.extend_from_slice(&piece[..n]);
    }
    upstream.next.send(()).unwrap();
    stream.read_to_end(&mut seen).unwrap();
    let seen = String::from_utf8(seen).unwrap();
    let (head, body) = seen.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("mcp-session-id: s-1") && head.contains("text/event-stream"), "{head}");
    let whole: String = body.split("\r\n").collect();
    assert!(whole.contains(&last.replace("\r\n", "")), "{body}");
    let got = &upstream.got()[0];
    assert_eq!(got.body, text);
    let head = got.head.to_lowercase();
    assert!(
        head.contains("x-own: 1")
            && head.contains("authorization: bearer t")
            && head.contains(&format!("host: {}", upstream.addr)),
        "{head}"
    );
    assert!(!head.contains("x-hop") && !head.contains("accept-encoding"), "{head}");
    assert_eq!(server.log("outcome", 1)[0]["body"]["status"], "ok");
}

#[test]
fn what_is_not_certain_or_not_welcome_is_not_passed_on() {
    let server = Server::start(&policies());
    let upstream = Upstream::start(Box::new(|_| vec![json_reply("{}")]));
    let front = front(&server, &upstream);
    let ping = PING.as_bytes();
    let delete = call(1, "delete_users", &json!({"ids": (0..30).collect::<Vec<_>>()}));
    let get = call(1, "get_users", &json!({}));
    for (status, headers, body) in [
        (403, &["host: evil.example"][..], ping),
        (403, &["origin: https://evil.example"], ping),
        (403, &["origin: null"], ping),
        (415, &["content-encoding: gzip"], ping),
        (415, &["content-type: application/json; charset=utf-7"], ping),
        // Not one ASCII character more, and it cannot be read as a header.
        (415, &["content-type: application/json; charset=utf-7; x=\"é\""], ping),
        (415, &["content-type: application/json", "content-type: application/json; charset=utf-7"], ping),
        (415, &["content-type: text/plain"], ping),
        (415, &["content-type:"], ping),
        (400, &["mcp-method: ping"], get.as_bytes()),
        (400, &["mcp-method: tools/call"], ping),
        (400, &["mcp-method: tools/call", "mcp-name: delete_users"], get.as_bytes()),
        (400, &["mcp-name: =?base64?ZGVsZXRl?="], get.as_bytes()),
        (
            400,
            &[],
            br#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call","params":{"name":"x"}}"#,
        ),
        (400, &[], b"\xff"),
        (200, &[], delete.as_bytes()),
    ] {
        let answer = post(front.addr(), headers, body);
        assert_eq!(answer.0, status, "{headers:?} {answer:?}");
    }
    assert!(upstream.got().is_empty(), "{:?}", upstream.got());
    let name = "mcp-name: =?base64?Z2V0X3VzZXJz?=";
    assert_eq!(
        post(front.addr(), &["mcp-method: tools/call", name, "origin: http://localhost:3000"], &get).0,
        200
    );
    assert_eq!(upstream.got().len(), 1);
    let head = upstream.got()[0].head.to_lowercase();
    assert!(head.contains("content-type: application/json\r\n"), "{head}");
}

/// Headers and bodies in which somebody may find a list of tools.
const HIDDEN: [(&str, &str); 8] = [
    ("content-type: text/plain\r\n", EVIL),
    ("", EVIL),
    ("content-type: application/json\r\ncontent-encoding: gzip\r\n", EVIL),
    ("content-type: text/event-stream\r\ncontent-encoding: gzip\r\n", EVIL),
    ("content-type: application/json; x=\"é\"\r\n", EVIL),
    ("content-type: text/plain\r\ncontent-type: application/json\r\n", EVIL),
    ("content-type: application/json; x=text/event-stream\r\n", EVIL),
    (
        "content-type: application/json\r\n",
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":""},"result":{"tools":[{"name":"evil"}]}}"#,
    ),
];
const EVIL: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"evil"}]}}"#;

#[test]
fn what_a_server_must_not_do() {
    let server = Server::start(&policies());
    let upstream = Upstream::start(Box::new(|request| {
        vec![match request.body.as_str() {
            text if text.contains("redirect") => reply("307 X", "location: http://127.0.0.1:1/mcp\r\n", ""),
            text if text.contains("list") => {
                json_reply(r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"a","name":"b"}]}}"#)
            }
            text if text.contains("hidden") => {
                let at = (0..HIDDEN.len()).find(|at| text.contains(&format!("hidden{at}"))).unwrap();
                reply("200 OK", HIDDEN[at].0, HIDDEN[at].1)
            }
            _ => Vec::new(),
        }]
    }));
    let front = front(&server, &upstream);
    let (status, head, _) = post(front.addr(), &[], call(1, "get_redirect", &json!({})));
    assert!(status == 502 && !head.contains("location"), "{head}");
    // A list in which two readers find two tools.
    let (status, _, body) = post(front.addr(), &[], r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
    assert!(status == 502 && !body.contains("\"name\""), "{body}");
    // And those that a client may read, and the gateway could not look into.
    for (how, hidden) in HIDDEN.iter().enumerate() {
        let list = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"hidden{how}"}}"#);
        let (status, _, body) = post(front.addr(), &[], list);
        assert!(status == 502 && !body.contains("evil"), "{hidden:?} {body}");
    }
    // It has the call, and is gone.
    assert_eq!(post(front.addr(), &[], call(1, "get_gone", &json!({}))).0, 502);
    let outcomes = server.log("outcome", 2);
    let status: Vec<_> = outcomes.iter().map(|o| o["body"]["status"].as_str().unwrap()).collect();
    assert_eq!(status, ["error", "unknown"]);
}

#[test]
fn calls_in_a_batch_are_judged_one_by_one() {
    let server = Server::start(&policies());
    let upstream = Upstream::start(Box::new(|request| {
        let parts: Vec<Value> = serde_json::from_str(&request.body).unwrap();
        let answers =
            parts.iter().map(|part| format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, part["id"]));
        vec![json_reply(&format!("[{}]", answers.collect::<Vec<_>>().join(",")))]
    }));
    let front = front(&server, &upstream);
    let many = call(1, "delete_users", &json!({"ids": (0..30).collect::<Vec<_>>()}));
    let few = call(2, "delete_users", &json!({"ids": [1]}));
    let (status, _, body) = post(front.addr(), &[], format!("[{many},{PING},{few}]"));
    let answers: Vec<Value> = serde_json::from_str(&body).unwrap();
    assert_eq!((status, answers.len()), (200, 3));
    assert!(answers[0]["id"] == 1 && answers[0]["result"]["isError"] == true, "{body}");
    assert_eq!(upstream.got()[0].body, format!("[{PING},{few}]"));
    let untouched = format!("[{few} , {PING}]");
    post(front.addr(), &[], &untouched);
    assert_eq!(upstream.got()[1].body, untouched);
    let (_, _, body) = post(front.addr(), &[], format!("[{many}]"));
    assert!(body.starts_with('[') && upstream.got().len() == 2, "{body}");
}

#[test]
fn several_servers_each_at_its_own_address() {
    let server = Server::start(&policies());
    let upstream = Upstream::start(Box::new(|_| vec![json_reply(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#)]));
    let config = server.dir.path().join("mcp.toml");
    let secret = server.dir.path().join("secret");
    std::fs::write(&secret, "Bearer of-the-gateway\n").unwrap();
    let url = upstream.url();
    let text = format!(
        "[mcp.one]\nurl = '{url}'\nauthorization = {{ file = 'secret' }}\n[mcp.two]\nurl = '{url}'\n"
    );
    std::fs::write(&config, text).unwrap();
    let front = server.front(&["--config", config.to_str().unwrap()]);
    assert_eq!(post(front.addr(), &[], PING).0, 404);
    for name in ["one", "two"] {
        let mut stream = TcpStream::connect(front.addr()).unwrap();
        let body = call(1, "get_x", &json!({}));
        let head = format!(
            "POST /{name}/mcp HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer of-the-client\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let heads: Vec<_> = upstream.got().iter().map(|got| got.head.to_lowercase()).collect();
    assert!(heads[0].contains("bearer of-the-gateway") && !heads[0].contains("of-the-client"), "{heads:?}");
    assert!(heads[1].contains("bearer of-the-client"), "{heads:?}");
    let tools: Vec<_> = server.log("check", 2).iter().map(|c| c["body"]["check"]["tool"].clone()).collect();
    assert_eq!(tools, ["mcp__one__get_x", "mcp__two__get_x"]);
}

#[test]
fn whoever_leaves_while_a_call_waits_ends_it() {
    let server =
        Server::start(&json!([{"name": "all", "rule": "require_approval", "condition": {"tool": "*"}}]));
    let upstream = Upstream::start(Box::new(|_| vec![json_reply("{}")]));
    let front = front(&server, &upstream);
    let stream = begin(front.addr(), &[], call(1, "send_mail", &json!({})).as_bytes());
    let approval = server.pending();
    drop(stream);
    // The gateway has seen it go once it takes the next one; the wait is for its own poll.
    thread::sleep(std::time::Duration::from_secs(1));
    server.admin(&["approvals", "approve", &approval]);
    let other =
        begin(front.addr(), &["mcp-session-id: s"], call(7, "send_mail", &json!({"to": 1})).as_bytes());
    let approval = server.pending();
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#;
    eventually(|| (post(front.addr(), &["mcp-session-id: s"], cancel).0 == 202).then_some(()));
    server.admin(&["approvals", "approve", &approval]);
    drop(other);
    thread::sleep(std::time::Duration::from_secs(1));
    assert!(upstream.got().is_empty(), "{:?}", upstream.got());
}

#[test]
fn a_call_is_checked_in_the_callers_own_trace() {
    let server = Server::start(&policies());
    let upstream = Upstream::start(Box::new(|_| vec![json_reply(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#)]));
    let front = front(&server, &upstream);
    let said = |n: u32| format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333{n}-01");
    let in_meta = |trace: &Value| {
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params":
            {"name": "get_x", "arguments": {}, "_meta": {"traceparent": trace}}})
        .to_string()
    };
    let header = |n| format!("traceparent: {}", said(n));
    let (one, two, plain) = (header(1), header(2), call(1, "get_x", &json!({})));
    let cases = [
        (vec![one.as_str()], plain.clone(), Some(said(1))),
        // What the call itself says is nearer to it than what the request says that brings it.
        (vec![one.as_str()], in_meta(&json!(said(3))), Some(said(3))),
        (vec![], in_meta(&json!(said(4))), Some(said(4))),
        // Of two, none can be believed; and nobody is refused for a trace.
        (vec![one.as_str(), two.as_str()], plain.clone(), None),
        (vec!["traceparent: nonsense"], plain.clone(), None),
        (vec![], in_meta(&json!(7)), None),
        (vec![one.as_str()], in_meta(&json!("nonsense")), Some(said(1))),
    ];
    for (n, (headers, body, expected)) in (1..).zip(cases) {
        assert_eq!(post(front.addr(), &headers, &body).0, 200, "{headers:?} {body}");
        let check = server.log("check", n).pop().unwrap()["body"]["check"].clone();
        assert_eq!(check["traceparent"].as_str(), expected.as_deref(), "{headers:?} {body}");
        let passed = upstream.got().pop().unwrap();
        assert_eq!(passed.body, body, "the server gets what the client sent");
        assert_eq!(passed.head.matches("traceparent").count(), headers.len(), "{}", passed.head);
    }
}
