//! Which hosts a text leads to.
//!
//! Only what an action *reaches* counts: an argument that as a whole is a URL, an argument whose name says
//! that it holds one, addresses within commands and code, and what a URL forwards to. A link within a
//! message's text is not reached; it is only spoken of.

use crate::{action::Domains, name::Name};
use url::{Host, Url};

/// Distinct hosts that are kept; beyond, the answer is that not all are known.
const MAX_HOSTS: usize = 256;
/// Texts that are parsed as URLs in one check.
const MAX_PARSED: usize = 2_048;
/// How many forwards within forwards are followed.
const MAX_FORWARDS: usize = 3;

/// Gathers hosts.
#[derive(Default)]
pub(super) struct Hosts {
    pub(super) found: Domains,
    parsed: usize,
}

impl Hosts {
    /// A text whose argument's name says that it is a URL. Without a scheme it is one all the same.
    pub(super) fn url_argument(&mut self, text: &str) {
        let text = clean(text);
        if text.is_empty() || text.starts_with(['#', '?']) {
            return;
        }
        if self.whole(&text) {
            return;
        }
        if let Some(decoded) = decoded_url(&text) {
            self.whole(&decoded);
            return;
        }
        // A path of the tool's own host.
        if text.starts_with('/') {
            return;
        }
        self.parse(&format!("http://{text}"), 0);
    }

    /// A text whose argument may be a path as well as a URL (`endpoint: "users"`).
    pub(super) fn endpoint_argument(&mut self, text: &str) {
        let text = clean(text);
        let head = text.split(['/', '?', '#', '\\']).next().unwrap_or_default();
        let is_host = head.contains(['.', ':', '@', '%', '[']) || !head.is_ascii() || head == "localhost";
        if is_host || text.starts_with("//") || text.starts_with('\\') {
            self.url_argument(&text);
        }
    }

    /// A text whose argument's name says that it is a host, with or without a port.
    pub(super) fn host_argument(&mut self, text: &str) {
        let text = clean(text);
        if text.is_empty() || self.whole(&text) {
            return;
        }
        // A bare IPv6 address.
        if text.parse::<std::net::Ipv6Addr>().is_ok() {
            self.parse(&format!("http://[{text}]"), 0);
        } else {
            self.parse(&format!("http://{}", text.trim_start_matches(['/', '\\'])), 0);
        }
    }

    /// A text that counts if the whole of it is a URL.
    pub(super) fn any_argument(&mut self, text: &str) {
        // Long, or with blanks within: prose.
        if may_be_url(text) {
            let text = clean(text);
            self.whole(&text);
        }
    }

    /// A command or a piece of code: every address in it.
    pub(super) fn embedded(&mut self, text: &str) {
        let stop = |c: char| {
            c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>' | '|' | ';' | ')' | '(' | '}' | ']')
        };
        let mut rest = text;
        while let Some(at) = rest.find("://") {
            let (before, from) = rest.split_at(at);
            let scheme_start = before
                .rfind(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')))
                .map_or(0, |i| i + before.get(i..).and_then(|s| s.chars().next()).map_or(1, char::len_utf8));
            let scheme = before.get(scheme_start..).unwrap_or_default();
            let after = from.get(3..).unwrap_or_default();
            let end = after.find(stop).unwrap_or(after.len());
            // An IPv6 address has the bracket that otherwise ends a URL.
            let end =
                if after.starts_with('[') { after.find(']').map_or(end, |b| (b + 1).max(end)) } else { end };
            let body = after.get(..end).unwrap_or_default();
            if !scheme.is_empty() && !body.is_empty() {
                self.whole(&format!("{scheme}://{body}"));
            }
            rest = after.get(end..).unwrap_or_default();
        }
    }

    /// Takes `text` as a URL if it is written as one. Whether it was.
    fn whole(&mut self, text: &str) -> bool {
        if text.starts_with("//")
            || text.starts_with("\\\\")
            || text.starts_with("/\\")
            || text.starts_with("\\/")
        {
            self.parse(&format!("http:{text}"), 0);
            return true;
        }
        let Some((scheme, rest)) = split_scheme(text) else { return false };
        match scheme.as_str() {
            "http" | "https" | "ws" | "wss" | "ftp" => self.parse(text, 0),
            "mailto" => {
                let addresses = rest.split('?').next().unwrap_or_default();
                for address in addresses.split([',', ';']) {
                    match address.rsplit_once('@') {
                        Some((_, domain)) => self.parse(&format!("http://{domain}"), 0),
                        None => self.found.unknown = true,
                    }
                }
            }
            _ if rest.starts_with("//") => {
                // The rules for hosts are those of http, whatever the scheme.
                if !(scheme == "file" && rest.starts_with("///")) {
                    self.parse(&format!("http:{rest}"), 0);
                }
            }
            "javascript" | "data" | "blob" | "view-source" | "jar" | "feed" | "vbscript" => {
                self.found.unknown = true;
            }
            _ => return false,
        }
        true
    }

    fn parse(&mut self, text: &str, forwards: usize) {
        self.parsed += 1;
        if self.parsed > MAX_PARSED {
            self.found.unknown = true;
            return;
        }
        let Ok(url) = Url::parse(text) else {
            self.found.unknown = true;
            return;
        };
        // `https://good.example\@evil.example`: to a browser the host ends there, to curl the user does.
        self.found.unknown |= text.contains('\\') && splits_hosts(text);
        match url.host() {
            Some(host) => self.add(&host),
            None => self.found.unknown = true,
        }
        if forwards >= MAX_FORWARDS {
            return;
        }
        for (key, value) in url.query_pairs() {
            if forwards_to(&key) {
                self.forward(&value, forwards);
            }
        }
        // Proxies and archives that take the address in their path.
        let path = percent_decode(url.path());
        let path = path.replace("://", ":/");
        if let Some(at) = path.find("/http:/").or_else(|| path.find("/https:/")) {
            self.forward(path.get(at + 1..).unwrap_or_default(), forwards);
        }
    }

    fn forward(&mut self, value: &str, forwards: usize) {
        let mut value = clean(value).into_owned();
        for _ in 0..2 {
            if is_absolute(&value) {
                break;
            }
            let decoded = percent_decode(&value);
            if decoded == value {
                return;
            }
            value = decoded;
        }
        if !is_absolute(&value) {
            return;
        }
        let text = if split_scheme(&value).is_some() { value } else { format!("http:{value}") };
        match split_scheme(&text) {
            Some((scheme, rest)) if !matches!(scheme.as_str(), "http" | "https" | "ws" | "wss" | "ftp") => {
                self.parse(&format!("http:{rest}"), forwards + 1);
            }
            _ => self.parse(&text, forwards + 1),
        }
    }

    fn add(&mut self, host: &Host<&str>) {
        let text = host.to_string();
        // `{host}`, `$HOST`: somebody else puts the host in.
        if text.contains(|c: char| !(c.is_ascii_alphanumeric() || "-._[]:".contains(c))) {
            self.found.unknown = true;
            return;
        }
        let Ok(name) = Name::new(text.trim_end_matches('.')) else {
            self.found.unknown = true;
            return;
        };
        if self.found.known.contains(&name) {
            return;
        }
        if self.found.known.len() >= MAX_HOSTS {
            self.found.unknown = true;
            return;
        }
        self.found.known.push(name);
    }
}

/// Whether a resource says of itself that it is somewhere in a network, understood or not.
pub(super) fn is_address(text: &str) -> bool {
    let others = ["mailto", "javascript", "data", "blob", "view-source", "jar", "feed", "vbscript"];
    text.contains("://")
        || is_absolute(&clean(text))
        || split_scheme(&clean(text)).is_some_and(|(scheme, _)| others.contains(&scheme.as_str()))
}

/// A URL as a resource: canonical host, no user, no fragment; without its query where it would be too long
/// for a name. None for what is no URL.
pub(super) fn as_resource(text: &str) -> Option<Name> {
    let text = clean(text);
    let (scheme, _) = split_scheme(&text)?;
    if !matches!(scheme.as_str(), "http" | "https" | "ws" | "wss" | "ftp") {
        return None;
    }
    let mut url = Url::parse(&text).ok()?;
    url.set_fragment(None);
    // Neither can fail for a URL that has a host.
    let _infallible = (url.set_username(""), url.set_password(None));
    if let Some(host) = url.host_str().map(|h| h.trim_end_matches('.').to_owned())
        && !host.is_empty()
    {
        let _kept = url.set_host(Some(&host));
    }
    Name::new(url.as_str()).ok().or_else(|| {
        url.set_query(None);
        Name::new(url.as_str()).ok().or_else(|| {
            url.set_path("/");
            Name::new(url.as_str()).ok()
        })
    })
}

/// Whether a backslash stands before the path, within what some take for the user and others for the host.
fn splits_hosts(text: &str) -> bool {
    let after = split_scheme(text).map_or(text, |(_, rest)| rest).trim_start_matches(['/', '\\']);
    let authority = after.split(['/', '?', '#']).next().unwrap_or_default();
    authority.split_once('\\').is_some_and(|(_, rest)| rest.contains('@'))
}

/// Whether a text begins like `example.com/…`: labels, the last of them letters only.
pub(super) fn like_an_address(text: &str) -> bool {
    let head = text.trim().split(['/', '?', '#', ':']).next().unwrap_or_default();
    let label = |l: &str| !l.is_empty() && l.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_');
    head.rsplit_once('.').is_some_and(|(before, last)| {
        before.split('.').all(label) && last.chars().count() >= 2 && last.chars().all(char::is_alphabetic)
    })
}

/// As a browser begins: no blanks or control characters at the ends, no tabs or line ends within.
fn clean(text: &str) -> std::borrow::Cow<'_, str> {
    let text = text.trim_matches(|c: char| c <= ' ' || c.is_whitespace());
    if text.contains(['\t', '\n', '\r']) { text.replace(['\t', '\n', '\r'], "").into() } else { text.into() }
}

fn may_be_url(text: &str) -> bool {
    let text = text.trim_start_matches(|c: char| c <= ' ' || c.is_whitespace());
    let head = text.as_bytes();
    head.starts_with(b"//")
        || head.starts_with(b"\\")
        || head.starts_with(b"/\\")
        || head.iter().take(40).any(|b| *b == b':') && !text.trim_end().contains(' ')
}

fn is_absolute(text: &str) -> bool {
    text.starts_with("//")
        || text.starts_with("\\\\")
        || text.starts_with("/\\")
        || text.starts_with("\\/")
        || split_scheme(text).is_some_and(|(scheme, rest)| {
            rest.starts_with("//") || matches!(scheme.as_str(), "http" | "https" | "ws" | "wss" | "ftp")
        })
}

/// `HTTPS://…` → (`https`, `//…`).
fn split_scheme(text: &str) -> Option<(String, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let mut bytes = scheme.bytes();
    let valid = bytes.next().is_some_and(|b| b.is_ascii_alphabetic())
        && scheme.len() <= 32
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    valid.then(|| (scheme.to_ascii_lowercase(), rest))
}

fn decoded_url(text: &str) -> Option<String> {
    let mut text = text.to_owned();
    for _ in 0..2 {
        let decoded = percent_decode(&text);
        if decoded == text {
            return None;
        }
        if is_absolute(&decoded) {
            return Some(decoded);
        }
        text = decoded;
    }
    None
}

fn percent_decode(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    let hex = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    while let Some(b) = bytes.next() {
        let mut ahead = bytes.clone();
        match (b, ahead.next().and_then(hex), ahead.next().and_then(hex)) {
            (b'%', Some(high), Some(low)) => {
                out.push(high * 16 + low);
                bytes = ahead;
            }
            _ => out.push(b),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn forwards_to(key: &str) -> bool {
    let key: String =
        key.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    matches!(
        key.as_str(),
        "url"
            | "uri"
            | "u"
            | "redirect"
            | "redirecturl"
            | "redirecturi"
            | "redir"
            | "next"
            | "nexturl"
            | "return"
            | "returnurl"
            | "returnuri"
            | "returnto"
            | "continue"
            | "continueurl"
            | "dest"
            | "desturl"
            | "destination"
            | "target"
            | "targeturl"
            | "goto"
            | "to"
            | "out"
            | "link"
            | "href"
            | "callback"
            | "callbackurl"
            | "forward"
            | "forwardurl"
            | "site"
            | "image"
            | "imageurl"
            | "img"
            | "src"
            | "feed"
            | "proxy"
            | "proxyurl"
            | "fetch"
            | "host"
            | "domain"
            | "ref"
            | "r"
            | "checkouturl"
            | "success"
            | "successurl"
            | "cancelurl"
            | "webhook"
            | "webhookurl"
            | "endpoint"
            | "file"
            | "page"
            | "load"
            | "q"
    )
}
