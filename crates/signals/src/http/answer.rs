//! What a receiver answered, and what follows from it.

use super::{MAX_ANSWER, chain};
use crate::{
    sink::{Failure, Retry},
    text::{self, Medium},
};
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use secrecy::{ExposeSecret, SecretString};
use std::time::{Duration, SystemTime};

/// The longest pause that a receiver may ask for: what asks for more is broken, or hostile.
const MAX_PAUSE: Duration = Duration::from_secs(3600);
/// The most of an answer that is shown, in characters.
const SHOWN: usize = 300;

/// How a sink reads statuses. 2xx is taken; tried again is what says that the receiver is not well (408, 425, 429, 5xx)
/// or that a setting is wrong, here or there (3xx, 401, 403, 404, 405, 407, and `later`): most often no message is to blame
/// for that. Everything else refuses the message for good.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Who answers, for the text of a failure: `Slack`.
    pub receiver: &'static str,
    /// Further statuses that a setting mends.
    pub later: &'static [u16],
    /// The next step after a status, for a person: a sentence, or nothing.
    pub advice: fn(u16) -> &'static str,
}

/// An answer, read as far as [`MAX_ANSWER`].
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body; what is no UTF-8 in it is replaced.
    pub body: String,
    /// Why the body is not all there.
    pub cut: Option<String>,
    headers: HeaderMap,
    origin: String,
    secrets: Vec<SecretString>,
}

impl Answer {
    pub(super) async fn read(
        mut response: reqwest::Response,
        origin: String,
        secrets: Vec<SecretString>,
    ) -> Self {
        let (status, headers) = (response.status().as_u16(), std::mem::take(response.headers_mut()));
        let (mut bytes, mut cut) = (Vec::new(), None);
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) => {
                    let room = MAX_ANSWER.saturating_sub(bytes.len());
                    bytes.extend(chunk.iter().take(room));
                    if chunk.len() > room {
                        cut = Some(format!("it is longer than {} KiB", MAX_ANSWER / 1024));
                        break;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    cut = Some(chain(&error.without_url()));
                    break;
                }
            }
        }
        let body = String::from_utf8_lossy(&bytes).into_owned();
        Self { status, body, cut, headers, origin, secrets }
    }

    /// Reads the status by `rules`.
    ///
    /// # Errors
    /// For everything but 2xx.
    pub fn taken(self, rules: &Rules) -> Result<Self, Failure> {
        let retry = match self.status {
            200..=299 => return Ok(self),
            408 | 425 | 429 | 500..=599 => self.pause(),
            // Whenever it says: somebody must hear of it, as of any receiver that takes nothing.
            300..=399 | 401 | 403 | 404 | 405 | 407 => Retry::Refused,
            other if rules.later.contains(&other) => Retry::Refused,
            _ => Retry::Never,
        };
        let advice = match (self.status, (rules.advice)(self.status)) {
            (300..=399, _) => {
                "It redirects, which is not followed: set the address that it redirects to, if that is yours"
            }
            (429, "") => "It wants fewer messages: it is sent to again after a pause",
            (408 | 425 | 500..=599, "") => "It is sent again",
            (_, advice) => advice,
        };
        Err(self.failure(rules.receiver, retry, advice))
    }

    /// A failure that quotes this answer, without any secret of the request.
    pub fn failure(&self, receiver: &str, retry: Retry, advice: &str) -> Failure {
        let said = self.said();
        let colon = if said.is_empty() { "" } else { ": " };
        let stop = if said.ends_with(['.', '!', '?', '…']) { " " } else { ". " };
        let (status, origin) = (self.status, &self.origin);
        let reason = format!("{receiver} ({origin}) answered {status}{colon}{said}{stop}{advice}");
        Failure { retry, reason: reason.trim_end().to_owned() }
    }

    /// The start of the body as one line, without any secret of the request.
    fn said(&self) -> String {
        let mut said = self.body.trim().to_owned();
        for secret in &self.secrets {
            let secret = secret.expose_secret();
            // What is shorter is found by chance, and no secret.
            if secret.len() >= 8 {
                said = said.replace(secret, "[secret]");
            }
        }
        text::fit(&said, Medium::Plain, SHOWN)
    }

    /// When to try again, as the receiver says.
    pub fn pause(&self) -> Retry {
        let now = self.date();
        let asked = self
            .header(RETRY_AFTER.as_str())
            .and_then(|text| seconds(text).or_else(|| until(httpdate::parse_http_date(text).ok()?, now)))
            .or_else(|| {
                let reset = ["x-ratelimit-reset", "ratelimit-reset"];
                let reset = seconds(reset.iter().find_map(|name| self.header(name))?)?;
                // Some say how long, some say when.
                let is_a_time = reset > Duration::from_secs(1_000_000_000);
                if is_a_time { until(SystemTime::UNIX_EPOCH.checked_add(reset)?, now) } else { Some(reset) }
            });
        match asked {
            Some(pause) if !pause.is_zero() => Retry::After(pause.min(MAX_PAUSE)),
            _ => Retry::Later,
        }
    }

    /// The receiver's own time, to the second; ours where it tells none.
    pub fn date(&self) -> SystemTime {
        let date = self.header(DATE.as_str()).and_then(|date| httpdate::parse_http_date(date).ok());
        date.unwrap_or_else(SystemTime::now)
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok().map(str::trim)
    }
}

/// Whole or decimal seconds.
fn seconds(text: &str) -> Option<Duration> {
    let number = text.parse::<f64>().ok().filter(|number| *number >= 0.0)?;
    Duration::try_from_secs_f64(number.min(1e10)).ok()
}

/// By the receiver's own clock, where it tells its time: the two clocks need not agree.
fn until(then: SystemTime, now: SystemTime) -> Option<Duration> {
    then.duration_since(now).ok()
}
