//! What a body is, as its headers say: so that everybody reads it as the same text.

use hyper::{HeaderMap, header};

/// What the gateway looks into, and what it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// JSON in UTF-8.
    Json,
    /// A stream of events in UTF-8.
    Events,
    /// Something that no reader takes for one of these.
    Other,
}

/// A header that two readers could understand differently.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unclear;

/// What the one `Content-Type` says; `None` without it.
pub(super) fn kind(headers: &HeaderMap) -> Result<Option<Content>, Unclear> {
    let mut given = headers.get_all(header::CONTENT_TYPE).iter();
    let Some(first) = given.next() else { return Ok(None) };
    if given.next().is_some() {
        return Err(Unclear);
    }
    let text = first.to_str().map_err(|_| Unclear)?.to_ascii_lowercase();
    let mut parts = text.split(';').map(str::trim);
    let content = match parts.next().unwrap_or_default() {
        "application/json" => Content::Json,
        "text/event-stream" => Content::Events,
        // Some readers only look whether the word is in it.
        _ if text.contains("application/json") || text.contains("event-stream") => return Err(Unclear),
        _ => return Ok(Some(Content::Other)),
    };
    let plain = |part: &str| matches!(part, "" | "charset=utf-8" | "charset=\"utf-8\"" | "charset=utf8");
    if parts.all(plain) { Ok(Some(content)) } else { Err(Unclear) }
}

/// Whether the body is compressed, or anything else that one has to undo before reading it.
pub(super) fn coded(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
    codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn of(values: &[&[u8]]) -> Result<Option<Content>, Unclear> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::CONTENT_TYPE, HeaderValue::from_bytes(value).unwrap());
        }
        kind(&headers)
    }

    #[test]
    fn says_what_everybody_reads() {
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&[b"application/problem+json"]), Ok(Some(Content::Other)));
        assert_eq!(of(&[b"text/html; charset=latin1"]), Ok(Some(Content::Other)));
        assert_eq!(of(&[b"text/event-stream"]), Ok(Some(Content::Events)));
        for json in [&b"application/json"[..], b"Application/JSON; charset=UTF-8", b"application/json;"] {
            assert_eq!(of(&[json]), Ok(Some(Content::Json)));
        }
        for unclear in [
            &b"application/json; charset=utf-7"[..],
            b"application/json; charset=utf-7; x=\"\xe9\"",
            b"application/json; x=text/event-stream",
            b"text/plain, application/json",
            b"application/json; charset = utf-7",
        ] {
            assert_eq!(of(&[unclear]), Err(Unclear), "{}", unclear.escape_ascii());
        }
        assert_eq!(of(&[b"text/plain", b"application/json"]), Err(Unclear));
    }
}
