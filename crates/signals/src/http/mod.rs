//! The one way out over HTTP: what every sink may do, and what none may.
//!
//! TLS is verified. Redirects are not followed. Addresses that are not public are refused unless the sink says
//! otherwise, and it is the address that is connected to which is judged: a name that is looked up a second time
//! cannot turn into another one. Time and the size of answers are bounded. Nothing comes from the environment.
//! What is said about a failure names the server, never the path (which is a secret of some receivers).

mod address;
mod answer;

pub(crate) use address::is_public;
pub use answer::{Answer, Rules};
pub use reqwest::{
    Method,
    header::{HeaderName, HeaderValue},
};

use crate::{
    sink::{Failure, Retry},
    text::{self, Medium},
};
use reqwest::{
    dns::{Addrs, Name, Resolve, Resolving},
    header::HeaderMap,
};
use secrecy::{ExposeSecret, SecretString};
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use url::{Host, Url};

/// The most that is read of an answer, in bytes.
pub const MAX_ANSWER: usize = 64 * 1024;

/// How a sink may connect.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Whether it may connect to addresses that are not public (loopback, private networks, link-local, a cloud's
    /// metadata service), and without TLS.
    pub allow_private: bool,
    /// A PEM file with the only authorities that it trusts, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// A proxy (`http://…`, `https://…`), which may be at a private address, with credentials if it needs them.
    /// Names are looked up there then, so that only addresses given as numbers can be judged here.
    pub proxy: Option<SecretString>,
    /// How long a connection may take, TLS included.
    pub connect_timeout: Duration,
    /// How long the whole exchange may take.
    pub timeout: Duration,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            allow_private: false,
            ca_file: None,
            proxy: None,
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(15),
        }
    }
}

/// An HTTP client of one sink. Cheap to clone; connections are kept and used again.
#[derive(Clone, Debug)]
pub struct Http {
    client: reqwest::Client,
    allow_private: bool,
}

/// Where a sink sends to: an address that was looked at. Shown without its path.
#[derive(Clone)]
pub struct Endpoint {
    url: Url,
    origin: String,
}

impl Endpoint {
    /// The scheme, host and port: no secret.
    pub fn origin(&self) -> &str {
        &self.origin
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin)
    }
}

impl Http {
    /// A client that may do what `config` says.
    ///
    /// # Errors
    /// When the file of authorities cannot be read, or the proxy is none.
    pub fn new(config: &HttpConfig) -> Result<Self, String> {
        Self::with_lookup(config, |host| {
            Box::pin(async move { Ok(tokio::net::lookup_host((host.as_str(), 0)).await?.collect()) })
        })
    }

    fn with_lookup(config: &HttpConfig, lookup: Lookup) -> Result<Self, String> {
        // Another part of the process may have installed a provider already; that one serves as well.
        let _installed_before = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("checkrein/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .connect_timeout(config.connect_timeout)
            .timeout(config.timeout)
            .pool_max_idle_per_host(4);
        let mut exempt = None;
        if let Some(proxy) = &config.proxy {
            let bad = "`proxy` is no address of a proxy; write it like http://proxy.example:3128";
            let url = Url::parse(proxy.expose_secret()).map_err(|_| bad)?;
            exempt = url.host_str().map(str::to_owned);
            builder = builder.proxy(reqwest::Proxy::all(url).map_err(|_| bad)?);
        }
        if let Some(file) = &config.ca_file {
            let shown = file.display();
            let pem = std::fs::read(file).map_err(|e| format!("`ca_file` {shown} cannot be read: {e}"))?;
            let authorities = reqwest::Certificate::from_pem_bundle(&pem)
                .map_err(|e| format!("`ca_file` {shown} is no PEM file: {}", chain(&e)))?;
            if authorities.is_empty() {
                return Err(format!("`ca_file` {shown} holds no certificate in PEM form"));
            }
            builder = builder.tls_certs_only(authorities);
        }
        let resolver = Resolver { allow_private: config.allow_private, exempt, lookup };
        let client = builder
            .dns_resolver(Arc::new(resolver))
            .build()
            .map_err(|e| format!("no HTTP client can be made here: {}", chain(&e)))?;
        Ok(Self { client, allow_private: config.allow_private })
    }

    /// Looks at an address that the operator gave. `path` is put at its end.
    ///
    /// # Errors
    /// When it is no address that this client may connect to. The text shows nothing of it but scheme and host.
    pub fn endpoint(&self, base: &str, path: &str) -> Result<Endpoint, String> {
        let text = format!("{}{path}", if path.is_empty() { base } else { base.trim_end_matches('/') });
        let url = Url::parse(&text).map_err(|e| format!("the address is no URL: {e}"))?;
        let origin = url.origin().ascii_serialization();
        match url.scheme() {
            "https" => {}
            "http" if self.allow_private => {}
            "http" => {
                return Err(format!(
                    "{origin} is without TLS: use https://, or set `allow_private = true` for this sink"
                ));
            }
            other => return Err(format!("`{other}:` is no address over HTTP: use https://")),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(format!(
                "the address {origin} holds a user name or password: give it in a header or as the sink's secret"
            ));
        }
        let number = match url.host() {
            Some(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
            Some(Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
            Some(Host::Domain(_)) => None,
            None => return Err("the address names no host".to_owned()),
        };
        // The resolver never hears of an address that is written as a number.
        if let Some(ip) = number.filter(|ip| !self.allow_private && !is_public(*ip)) {
            return Err(format!("{}: {}", origin, Forbidden(ip)));
        }
        Ok(Endpoint { url, origin })
    }

    /// A request to `to`.
    pub fn request(&self, method: Method, to: &Endpoint) -> Request {
        Request {
            http: self.client.clone(),
            method,
            to: to.clone(),
            headers: HeaderMap::new(),
            secrets: Vec::new(),
            body: Vec::new(),
        }
    }

    /// A request that posts to `to`.
    pub fn post(&self, to: &Endpoint) -> Request {
        self.request(Method::POST, to)
    }
}

/// A request that is being put together. It knows its secrets, so that nothing that is said about it shows one.
#[derive(Debug)]
pub struct Request {
    http: reqwest::Client,
    method: Method,
    to: Endpoint,
    headers: HeaderMap,
    secrets: Vec<SecretString>,
    body: Vec<u8>,
}

impl Request {
    /// With a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// With a header whose value is a secret (see [`secret_value`]).
    #[must_use]
    pub fn secret_header(self, name: HeaderName, value: &HeaderValue) -> Self {
        let text = value.to_str().unwrap_or_default();
        // The token alone, without the word before it, is what a receiver would echo.
        let token = text.rsplit(' ').next().unwrap_or(text);
        self.secret(&SecretString::from(token)).header(name, value.clone())
    }

    /// Says that the body holds this secret.
    #[must_use]
    pub fn secret(mut self, secret: &SecretString) -> Self {
        self.secrets.push(secret.clone());
        self
    }

    /// With this body.
    #[must_use]
    pub fn body(mut self, content_type: &'static str, body: Vec<u8>) -> Self {
        self.headers.insert(reqwest::header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        self.body = body;
        self
    }

    /// With this body, as JSON.
    #[must_use]
    pub fn json(self, body: &serde_json::Value) -> Self {
        self.body("application/json; charset=utf-8", body.to_string().into_bytes())
    }

    /// Sends it and reads the answer, at most [`MAX_ANSWER`] bytes of it.
    ///
    /// # Errors
    /// When there is no answer: [`Retry::Later`].
    pub async fn send(mut self) -> Result<Answer, Failure> {
        // What comes after the origin is the secret of some receivers, so it is of all.
        let path = &self.to.url[url::Position::BeforePath..];
        let values = self.to.url.query_pairs().map(|(_, value)| value.into_owned());
        let parts = self
            .to
            .url
            .path_segments()
            .into_iter()
            .flatten()
            .map(str::to_owned)
            .filter(|part| part.len() > 15);
        self.secrets.extend(
            [path.trim_matches('/').to_owned()]
                .into_iter()
                .chain(values)
                .chain(parts)
                .map(SecretString::from),
        );
        let sent = self
            .http
            .request(self.method, self.to.url.clone())
            .headers(self.headers)
            .body(self.body)
            .send()
            .await;
        match sent {
            Ok(response) => Ok(Answer::read(response, self.to.origin, self.secrets).await),
            Err(error) => Err(unreachable(&self.to.origin, error)),
        }
    }
}

/// A header's value that is a secret: `prefix` and then the secret.
///
/// # Errors
/// When the secret holds what a header cannot.
pub fn secret_value(prefix: &str, secret: &SecretString) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(&format!("{prefix}{}", secret.expose_secret().trim()))
        .map_err(|_| "it holds characters that no header can; is it the whole secret and nothing else?")?;
    value.set_sensitive(true);
    Ok(value)
}

/// Further headers of a sink, with secrets as values; not those that are `reserved` or HTTP's own.
///
/// # Errors
/// Names the field and the header that is wrong.
pub fn headers(
    given: &[(String, SecretString)],
    reserved: &[&str],
) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let own = ["content-type", "content-length", "transfer-encoding", "connection", "host"];
    let header = |(name, value): &(String, SecretString)| {
        let bad = |why: String| format!("`headers`: `{}`: {why}", name.escape_debug());
        let header: HeaderName = name.parse().map_err(|_| bad("it is no name of a header".to_owned()))?;
        if own.iter().chain(reserved).any(|name| header == *name) {
            return Err(bad("this header is set by the sink itself".to_owned()));
        }
        Ok((header, secret_value("", value).map_err(bad)?))
    };
    given.iter().map(header).collect()
}

type Found = std::pin::Pin<Box<dyn Future<Output = std::io::Result<Vec<SocketAddr>>> + Send>>;
type Lookup = fn(String) -> Found;

/// Looks names up and leaves out what may not be connected to. What it returns is what is connected to.
struct Resolver {
    allow_private: bool,
    /// The operator's proxy, which may be anywhere.
    exempt: Option<String>,
    lookup: Lookup,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let anywhere = self.allow_private || self.exempt.as_deref() == Some(name.as_str());
        let found = (self.lookup)(name.as_str().to_owned());
        Box::pin(async move {
            let mut found = found.await?;
            let first = found.first().copied();
            found.retain(|found| anywhere || is_public(found.ip()));
            match first {
                Some(first) if found.is_empty() => Err(Forbidden(first.ip()).into()),
                _ => Ok(Box::new(found.into_iter()) as Addrs),
            }
        })
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{0} is not a public address, and `allow_private` is not set for this sink")]
struct Forbidden(IpAddr);

fn unreachable(origin: &str, error: reqwest::Error) -> Failure {
    let timed_out = error.is_timeout();
    // It may quote what the other side said, its certificate for one.
    let cause = text::fit(&chain(&error.without_url()), Medium::Plain, 300);
    let reason = if timed_out {
        format!(
            "{origin} did not answer in time. Is it overloaded, or does a firewall drop what is sent there?"
        )
    } else if cause.contains("not a public address") {
        format!("{origin} was not connected to: {cause}. If it is yours, set `allow_private = true`")
    } else if cause.contains("certificate") {
        format!("cannot reach {origin}: {cause}. If your own authority signed it, name that in `ca_file`")
    } else {
        format!("cannot reach {origin}: {cause}. Can this machine connect there?")
    };
    Failure { retry: Retry::Later, reason }
}

/// An error with its causes; reqwest alone only says that something failed.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A name that is harmless when it is looked at and not when it is connected to.
    #[tokio::test]
    async fn every_lookup_is_judged_and_only_what_was_judged_is_connected_to() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let lookup: Lookup = |_| {
            let answers: [&[&str]; 4] = [
                &["1.1.1.1:0"],
                &["127.0.0.1:0"],
                &["169.254.169.254:0", "[2606:4700::1]:0", "[::1]:0"],
                &[],
            ];
            let answer = answers[ASKED.fetch_add(1, Ordering::SeqCst)];
            Box::pin(async move { Ok(answer.iter().map(|text| text.parse().unwrap()).collect()) })
        };
        let resolver = Resolver { allow_private: false, exempt: None, lookup };
        let resolve = async || {
            let found = resolver.resolve("rebinding.example".parse().unwrap()).await;
            found
                .map(|found| found.map(|address| address.ip().to_string()).collect::<Vec<_>>())
                .map_err(|e| e.to_string())
        };
        assert_eq!(resolve().await.unwrap(), ["1.1.1.1"]);
        assert!(resolve().await.unwrap_err().starts_with("127.0.0.1 is not a public address"));
        assert_eq!(resolve().await.unwrap(), ["2606:4700::1"]);
        assert_eq!(resolve().await.unwrap(), Vec::<String>::new());
    }
}
