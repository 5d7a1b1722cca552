//! A typed client of the HTTP API.

mod approvals;
mod drift;
mod signal;
mod undo;

pub use undo::SnapshotExport;

use crate::{
    Check, CheckPage, CheckView, CreatedKey, Decision, Health, KeyList, NewKey, OutcomeReport, PolicyBundle,
    PolicyChanges, PolicyList, Problem, ReplayRequest, TargetList, TargetReport,
};
use reqwest::{Method, StatusCode};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::time::Duration;

/// The most that is read of an answer, in bytes.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// Speaks to one server with one key. Cheap to clone; connections are reused.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    key: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server said no, and why.
    #[error("{}{}", .0.detail, items(.0))]
    Problem(Box<Problem>),
    /// The server could not be asked.
    #[error("cannot reach Checkrein at {base}: {cause}. {}", next_step(.cause))]
    Unreachable {
        /// Where it was looked for.
        base: String,
        /// What happened.
        cause: String,
        /// A connection had come about and broke: the request may have been read and judged.
        connected: bool,
    },
    /// Something answered that is not Checkrein, or another version of it.
    #[error("{base} answered {status} with something that Checkrein does not say: {cause}")]
    NotCheckrein {
        /// Where.
        base: String,
        /// The HTTP status.
        status: u16,
        /// What did not fit.
        cause: String,
    },
}

fn next_step(cause: &str) -> &'static str {
    if cause.contains("certificate") {
        "If your own authority signed its certificate, name that authority's file in SSL_CERT_FILE"
    } else {
        "Is `checkrein serve` running there? Set CHECKREIN_URL or --url"
    }
}

fn items(problem: &Problem) -> String {
    problem.errors.iter().fold(String::new(), |mut text, item| {
        text.push_str("\n  ");
        for part in [&item.subject, &item.path] {
            if !part.is_empty() {
                text.push_str(part);
                text.push_str(": ");
            }
        }
        text.push_str(&item.message);
        text
    })
}

impl Client {
    /// For the server at `base` (`http://127.0.0.1:7070`).
    ///
    /// # Errors
    /// When the TLS set-up of this machine cannot be used.
    pub fn new(base: &str, key: &str) -> Result<Self, ClientError> {
        let base = base.trim_end_matches('/').to_owned();
        // Another part of the process may have installed a provider already; that one serves as well.
        let _installed_before = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(Duration::from_secs(5))
            .timeout(Duration::from_secs(90))
            .build()
            .map_err(|e| ClientError::Unreachable {
                base: base.clone(),
                cause: chain(&e),
                connected: false,
            })?;
        Ok(Self { http, base, key: key.to_owned() })
    }

    /// Asks whether an action may run.
    ///
    /// # Errors
    /// As every call: [`ClientError`].
    pub async fn check(&self, check: &Check) -> Result<Decision, ClientError> {
        self.send(Method::POST, "/v1/checks", Some(check)).await
    }

    /// A check as it stands, after at most `wait` seconds if it is held.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn get_check(&self, id: &str, wait: u64) -> Result<CheckView, ClientError> {
        self.get(&format!("/v1/checks/{}?wait={wait}s", path(id))).await
    }

    /// A page of checks. `query` as in the API: `agent`, `verdict`, `since`, `cursor`, `limit`, …
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn checks(&self, query: &[(&str, String)]) -> Result<CheckPage, ClientError> {
        self.get(&with_query("/v1/checks", query)).await
    }

    /// Reports what became of an action.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn outcome(&self, id: &str, report: &OutcomeReport) -> Result<OutcomeReport, ClientError> {
        self.send(Method::POST, &format!("/v1/checks/{}/outcome", path(id)), Some(report)).await
    }

    /// The policies in force.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn policies(&self) -> Result<PolicyList, ClientError> {
        self.get("/v1/policies").await
    }

    /// Puts a whole set into force in place of all that came through the API.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn apply_policies(&self, policies: Vec<Value>) -> Result<PolicyChanges, ClientError> {
        self.send(Method::PUT, "/v1/policies", Some(&PolicyBundle { policies })).await
    }

    /// Deletes a policy.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn delete_policy(&self, name: &str) -> Result<(), ClientError> {
        self.nothing(Method::DELETE, &format!("/v1/policies/{}", path(name))).await
    }

    /// Replays a candidate set on the recorded past.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn replay<T: DeserializeOwned>(&self, request: &ReplayRequest) -> Result<T, ClientError> {
        self.send(Method::POST, "/v1/policies/replay", Some(request)).await
    }

    /// The keys in force.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn keys(&self) -> Result<KeyList, ClientError> {
        self.get("/v1/keys").await
    }

    /// Makes a key.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn create_key(&self, key: &NewKey) -> Result<CreatedKey, ClientError> {
        self.send(Method::POST, "/v1/keys", Some(key)).await
    }

    /// Revokes a key.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn revoke_key(&self, id: &str) -> Result<(), ClientError> {
        self.nothing(Method::DELETE, &format!("/v1/keys/{}", path(id))).await
    }

    /// The systems that the server is connected to.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn targets(&self) -> Result<TargetList, ClientError> {
        self.get("/v1/targets").await
    }

    /// Has the server connect to a target and look whether everything that it needs is there.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn test_target(&self, name: &str) -> Result<TargetReport, ClientError> {
        self.send(Method::POST, &format!("/v1/targets/{}/test", path(name)), None::<&()>).await
    }

    /// Whether the server is ready for checks.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn ready(&self) -> Result<Health, ClientError> {
        self.get("/readyz").await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.send(Method::GET, path, None::<&()>).await
    }

    async fn nothing(&self, method: Method, path: &str) -> Result<(), ClientError> {
        let (status, body) = self.exchange(method, path, None::<&()>, None).await?;
        if status.is_success() { Ok(()) } else { Err(self.problem(status, &body)) }
    }

    async fn send<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<T, ClientError> {
        let answer = self.exchange(method, path, body, None).await?;
        self.read(answer)
    }

    /// The same, for what may take longer than other requests.
    async fn send_patiently<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
        patience: Duration,
    ) -> Result<T, ClientError> {
        let answer = self.exchange(method, path, body, Some(patience)).await?;
        self.read(answer)
    }

    fn read<T: DeserializeOwned>(&self, (status, body): (StatusCode, Vec<u8>)) -> Result<T, ClientError> {
        if !status.is_success() {
            return Err(self.problem(status, &body));
        }
        serde_json::from_slice(&body).map_err(|e| self.not_checkrein(status, &e.to_string()))
    }

    fn unreachable(&self, error: &reqwest::Error) -> ClientError {
        ClientError::Unreachable {
            base: self.base.clone(),
            cause: chain(error),
            connected: !error.is_connect(),
        }
    }

    async fn exchange<B: Serialize>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
        patience: Option<Duration>,
    ) -> Result<(StatusCode, Vec<u8>), ClientError> {
        let unreachable = |e: reqwest::Error| self.unreachable(&e);
        let mut request = self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.key);
        if let Some(body) = body {
            request = request.json(body);
        }
        if let Some(patience) = patience {
            request = request.timeout(patience);
        }
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if bytes.len() + chunk.len() > MAX_ANSWER {
                return Err(self.not_checkrein(status, "the answer is larger than 64 MiB"));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok((status, bytes))
    }

    fn problem(&self, status: StatusCode, body: &[u8]) -> ClientError {
        match serde_json::from_slice(body) {
            Ok(problem) => ClientError::Problem(Box::new(problem)),
            Err(e) => self.not_checkrein(status, &e.to_string()),
        }
    }

    fn not_checkrein(&self, status: StatusCode, cause: &str) -> ClientError {
        ClientError::NotCheckrein {
            base: self.base.clone(),
            status: status.as_u16(),
            cause: cause.to_owned(),
        }
    }
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

/// `text` as one segment of a path or one value of a query.
fn path(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::with_capacity(text.len()), |mut out, b| {
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(b));
        } else {
            let _infallible = write!(out, "%{b:02X}");
        }
        out
    })
}

fn with_query(base: &str, query: &[(&str, String)]) -> String {
    query.iter().enumerate().fold(base.to_owned(), |mut out, (i, (key, value))| {
        out.push(if i == 0 { '?' } else { '&' });
        out.push_str(key);
        out.push('=');
        out.push_str(&path(value));
        out
    })
}
