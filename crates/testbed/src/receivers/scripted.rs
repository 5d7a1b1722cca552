//! A receiver over HTTP that keeps a contract strictly, and breaks it where a script says so.
//!
//! Each request is read whole (gzip undone) and kept. If the script has an act for it, that happens; else the
//! contract answers. It lives in threads of the test process and ends with it.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The most that a request may have: a client without limits would fill the memory of the tests.
const MAX_BODY: usize = 64 * 1024 * 1024;

/// A request, as it was understood.
#[derive(Clone, Debug)]
pub struct Request {
    /// `POST`
    pub method: String,
    /// The path, with its query.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, decompressed.
    pub body: Vec<u8>,
}

impl Request {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    ///
    /// # Panics
    /// If it is no UTF-8.
    #[expect(clippy::expect_used, reason = "a test stops at what no receiver would read")]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is UTF-8")
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it is none.
    #[expect(clippy::expect_used, reason = "a test stops at what no receiver would read")]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }
}

/// What a receiver answers.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Headers besides the necessary ones.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Reply {
    /// With this status and body.
    pub fn new(status: u16, body: impl Into<String>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    /// With a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// What happens to a request instead of what the contract says.
#[derive(Clone, Debug)]
pub enum Act {
    /// It is answered so.
    Reply(Reply),
    /// These bytes are sent, and the connection is closed.
    Raw(Vec<u8>),
    /// Nothing is said for so long, then the connection is closed.
    Hang(Duration),
    /// The contract answers, a byte at a time with this pause between two.
    Slow(Duration),
    /// The connection is closed at once.
    Close,
}

type Contract = dyn Fn(&Request) -> Reply + Send + Sync;

struct Shared {
    script: Mutex<VecDeque<Act>>,
    seen: Mutex<Vec<Request>>,
    contract: Box<Contract>,
}

/// A running receiver.
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Receiver {
    /// Starts one that answers as `contract` says.
    ///
    /// # Panics
    /// If loopback has no free port.
    #[expect(clippy::expect_used, reason = "a test cannot go on without its receiver")]
    pub fn start(contract: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            script: Mutex::default(),
            seen: Mutex::default(),
            contract: Box::new(contract),
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&serving);
                std::thread::spawn(move || {
                    let _gone = serve(&stream, &shared);
                });
            }
        });
        Self { address, shared }
    }

    /// `http://127.0.0.1:…`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What happens to the next requests.
    pub fn script(&self, acts: impl IntoIterator<Item = Act>) {
        self.shared.script.lock().unwrap_or_else(PoisonError::into_inner).extend(acts);
    }

    /// The next requests are answered with these.
    pub fn answers(&self, replies: impl IntoIterator<Item = Reply>) {
        self.script(replies.into_iter().map(Act::Reply));
    }

    /// What has come since the last call, in order.
    pub fn take(&self) -> Vec<Request> {
        std::mem::take(&mut *self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn serve(stream: &TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut reader, mut writer) = (BufReader::new(stream), stream);
    loop {
        let Some(request) = read(&mut reader)? else { return Ok(()) };
        shared.seen.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
        let act = shared.script.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        match act {
            None => writer.write_all(&written(&(shared.contract)(&request)))?,
            Some(Act::Reply(reply)) => writer.write_all(&written(&reply))?,
            Some(Act::Raw(bytes)) => return writer.write_all(&bytes),
            Some(Act::Close) => return Ok(()),
            Some(Act::Hang(pause)) => {
                std::thread::sleep(pause);
                return Ok(());
            }
            Some(Act::Slow(pause)) => {
                for byte in written(&(shared.contract)(&request)) {
                    writer.write_all(&[byte])?;
                    std::thread::sleep(pause);
                }
            }
        }
    }
}

fn read(reader: &mut BufReader<&TcpStream>) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (method, path) = (method.to_owned(), path.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.push((name.to_lowercase(), value.trim().to_owned())),
            None => break,
        }
    }
    let mut request = Request { method, path, headers, body: Vec::new() };
    let length = request.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0_usize);
    request.body = vec![0; length.min(MAX_BODY)];
    reader.read_exact(&mut request.body)?;
    if request.header("content-encoding") == Some("gzip") {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(request.body.as_slice())
            .take(MAX_BODY as u64)
            .read_to_end(&mut plain)?;
        request.body = plain;
    }
    Ok(Some(request))
}

fn written(reply: &Reply) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {} Said\r\ncontent-length: {}\r\n", reply.status, reply.body.len());
    for (name, value) in &reply.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text.push_str(&reply.body);
    text.into_bytes()
}
