//! The least HTTP/1.1 that a load generator needs: one request at a time on a connection that is kept.

use std::io::{Error, ErrorKind};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Where a request carries something unique; [`Request::stamp`] fills it in.
pub const UNIQUE: &str = "@@@@@@@@@@@@@@@@@@@@";

/// A request as bytes, ready to be sent again and again.
#[derive(Clone, Debug)]
pub struct Request {
    bytes: Vec<u8>,
    unique_at: Vec<usize>,
}

impl Request {
    /// `headers` are whole lines without line ends. A body may contain [`UNIQUE`].
    #[must_use]
    pub fn new(method: &str, path: &str, headers: &[String], body: &str) -> Self {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n");
        for header in headers {
            head.push_str(header);
            head.push_str("\r\n");
        }
        if !body.is_empty() {
            head.push_str(&format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let unique_at = body.match_indices(UNIQUE).map(|(at, _)| head.len() + at).collect();
        head.push_str(body);
        Self { bytes: head.into_bytes(), unique_at }
    }

    /// Writes `number` where the body said [`UNIQUE`].
    pub fn stamp(&mut self, number: u64) {
        let digits = format!("{number:0width$}", width = UNIQUE.len());
        for at in &self.unique_at {
            if let Some(place) = self.bytes.get_mut(*at..*at + UNIQUE.len()) {
                place.copy_from_slice(digits.as_bytes());
            }
        }
    }
}

/// One kept connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer, as long as the connection is not used again.
#[derive(Debug)]
pub struct Response<'c> {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: &'c [u8],
}

impl Connection {
    /// Connects without Nagle's delay.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn open(address: &str) -> Result<Self, Error> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(64 * 1024) })
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// Those of the socket; an answer without `content-length`, or with more bytes than it said.
    pub async fn send(&mut self, request: &Request) -> Result<Response<'_>, Error> {
        self.stream.write_all(&request.bytes).await?;
        self.buffer.clear();
        let (status, head, body) = loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(Error::new(ErrorKind::UnexpectedEof, "the server closed the connection"));
            }
            if let Some(head) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let (status, body) = parse_head(self.buffer.get(..head).unwrap_or_default())?;
                break (status, head + 4, body);
            }
        };
        while self.buffer.len() < head + body {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(Error::new(
                    ErrorKind::UnexpectedEof,
                    "the server closed the connection in an answer",
                ));
            }
        }
        match self.buffer.get(head..) {
            Some(bytes) if bytes.len() == body => Ok(Response { status, body: bytes }),
            _ => Err(bad("an answer is longer than its content-length")),
        }
    }
}

fn bad(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

/// The status and the length of the body.
fn parse_head(head: &[u8]) -> Result<(u16, usize), Error> {
    let head = str::from_utf8(head).map_err(|_| bad("a header is not text"))?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok());
    match (status, length) {
        (Some(status), Some(length)) => Ok((status, length)),
        (None, _) => Err(bad("an answer has no status")),
        (_, None) => Err(bad("an answer has no content-length")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_parsed_or_refused() {
        assert_eq!(parse_head(b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 12").unwrap(), (200, 12));
        assert!(parse_head(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked").is_err());
        assert!(parse_head(b"nonsense\r\ncontent-length: 1").is_err());
    }

    #[test]
    fn each_stamp_replaces_the_last() {
        let mut request =
            Request::new("POST", "/", &[], &format!("{{\"k\":\"{UNIQUE}\",\"l\":\"{UNIQUE}\"}}"));
        request.stamp(u64::MAX);
        request.stamp(7);
        assert!(
            String::from_utf8(request.bytes)
                .unwrap()
                .ends_with("{\"k\":\"00000000000000000007\",\"l\":\"00000000000000000007\"}")
        );
    }
}
