//! A generic webhook, signed as Standard Webhooks has it (<https://www.standardwebhooks.com>, `v1`).
//!
//! Contract: `POST` of `{"type":"signal","timestamp":…,"data":…}` with `webhook-id` (the delivery's id: the
//! same however often it is sent), `webhook-timestamp` (seconds, of this attempt) and `webhook-signature`
//! (`v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`; two of them, while a secret is changed). 2xx takes
//! it; the answer's body is not looked at. The stream of all actions goes the same way, as `actions`.

use crate::{
    http::{Endpoint, HeaderName, HeaderValue, Http, Rules, headers},
    sink::{Failure, Record, Sink},
};
use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use checkrein_core::{signal::Notification, time::Timestamp};
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use serde_json::{Value, json};
use sha2::Sha256;
use std::time::{SystemTime, UNIX_EPOCH};

/// How a webhook is set up.
#[derive(Clone, Debug)]
pub struct WebhookConfig {
    /// Where to: `https://…`. Never shown beyond its host.
    pub url: SecretString,
    /// What messages are signed with: `whsec_` and the base64 of 24 to 64 random bytes.
    pub secret: SecretString,
    /// The secret before it: while it is given, messages carry a signature of each.
    pub previous_secret: Option<SecretString>,
    /// Further headers, e.g. `Authorization`.
    pub headers: Vec<(String, SecretString)>,
    /// The most records of the stream of all actions in one message: 1 to 1,000. Without it, 100.
    pub batch: Option<usize>,
}

/// A webhook.
pub struct Webhook {
    http: Http,
    to: Endpoint,
    secrets: Vec<Secret>,
    headers: Vec<(HeaderName, HeaderValue)>,
    batch: usize,
}

const RULES: Rules = Rules {
    receiver: "the webhook",
    later: &[],
    advice: |status| match status {
        401 | 403 => "Does it verify with the secret that is set here?",
        404 => "Is `url` the whole address?",
        410 => "It says that it wants no more messages: take the sink out of the configuration",
        413 => "It takes less than it was sent: raise its limit, or set a smaller `batch`",
        _ => "See what its own log says",
    },
};

/// A secret as it was given, and the key in it.
struct Secret {
    text: SecretString,
    key: SecretSlice<u8>,
}

/// The longest text of a message, in characters.
const TEXT: usize = 2000;
/// The longest list of a message.
const ITEMS: usize = 100;

/// Headers that are this sink's own.
const RESERVED: [&str; 3] = ["webhook-id", "webhook-timestamp", "webhook-signature"];

impl Webhook {
    /// A webhook that is set up by `config` and connects by `http`.
    ///
    /// # Errors
    /// Names the field that is wrong, and how it would be right.
    pub fn new(config: &WebhookConfig, http: Http) -> Result<Self, String> {
        let to = http.endpoint(config.url.expose_secret(), "").map_err(|e| format!("`url`: {e}"))?;
        let mut secrets = vec![signing(&config.secret).map_err(|e| format!("`secret`: {e}"))?];
        if let Some(previous) = &config.previous_secret {
            secrets.push(signing(previous).map_err(|e| format!("`previous_secret`: {e}"))?);
        }
        let headers = headers(&config.headers, &RESERVED)?;
        let batch = config.batch.unwrap_or(100);
        if !(1..=1000).contains(&batch) {
            return Err(format!("`batch` is 1 to 1000, not {batch}"));
        }
        Ok(Self { http, to, secrets, headers, batch })
    }

    async fn post(&self, id: &str, body: &Value) -> Result<(), Failure> {
        let body = body.to_string();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let signed: Vec<_> = self.secrets.iter().map(|secret| sign(&secret.key, id, now, &body)).collect();
        let plain =
            |text: &str| HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("-"));
        let mut request = self.http.post(&self.to);
        for (name, value) in &self.headers {
            request = request.secret_header(name.clone(), value);
        }
        for secret in &self.secrets {
            request = request.secret(&secret.text);
        }
        request
            .header(HeaderName::from_static("webhook-id"), plain(id))
            .header(HeaderName::from_static("webhook-timestamp"), HeaderValue::from(now))
            .header(HeaderName::from_static("webhook-signature"), plain(&signed.join(" ")))
            .body("application/json; charset=utf-8", body.into_bytes())
            .send()
            .await?
            .taken(&RULES)?;
        Ok(())
    }
}

#[async_trait]
impl Sink for Webhook {
    async fn notify(&self, message: &Notification) -> Result<(), Failure> {
        let mut body = json!({ "type": "signal", "timestamp": message.last_at, "data": message });
        shorten(&mut body);
        self.post(&message.delivery_id, &body).await
    }

    fn feed_batch(&self) -> usize {
        self.batch
    }

    async fn feed(&self, records: &[Record]) -> Result<(), Failure> {
        let (Some(first), Some(last)) = (records.first(), records.last()) else { return Ok(()) };
        let item = |r: &Record| json!({ "seq": r.seq, "at": r.at, "kind": r.kind, "body": r.body });
        let data: Vec<Value> = records.iter().map(item).collect();
        let at: Timestamp = last.at;
        let body = json!({ "type": "actions", "timestamp": at, "data": { "records": data } });
        self.post(&format!("actions_{}_{}", first.seq, last.seq), &body).await
    }
}

/// Cuts what is too long: texts after [`TEXT`] characters, lists after [`ITEMS`].
fn shorten(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Some((end, _)) = text.char_indices().nth(TEXT) {
                text.truncate(end);
                text.push('…');
            }
        }
        Value::Array(items) => {
            items.truncate(ITEMS);
            items.iter_mut().for_each(shorten);
        }
        Value::Object(members) => members.values_mut().for_each(shorten),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Reads `whsec_<base64>`.
fn signing(secret: &SecretString) -> Result<Secret, String> {
    let text = secret.expose_secret().trim();
    let make = "make one with: echo whsec_$(openssl rand -base64 32)";
    let key = STANDARD.decode(text.strip_prefix("whsec_").unwrap_or(text));
    let key = key.map_err(|_| format!("it is no base64; {make}"))?;
    if !(24..=64).contains(&key.len()) {
        return Err(format!("it holds {} bytes instead of 24 to 64; {make}", key.len()));
    }
    Ok(Secret { text: SecretString::from(text), key: key.into() })
}

fn sign(secret: &SecretSlice<u8>, id: &str, timestamp: u64, body: &str) -> String {
    // A key of any length will do.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.expose_secret()) else { return String::new() };
    for part in [id, ".", &timestamp.to_string(), ".", body] {
        mac.update(part.as_bytes());
    }
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}
