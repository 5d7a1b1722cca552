//! What the provider says of itself, and what it is asked. Everything is bounded in time and size, nothing is followed
//! elsewhere, and only its own endpoints are asked.

use crate::config;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use checkrein_signals::{
    http::{Answer, Endpoint, HeaderName, Method, Request, secret_value},
    sink::Retry,
};
use jsonwebtoken::jwk::Jwk;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Mutex;
use url::Url;

/// How long what the provider says of itself, and its keys, are believed.
const KEEP: Duration = Duration::from_hours(1);
/// How long an error is: people who wait for one answer do not each wait for another one.
const KEEP_ERROR: Duration = Duration::from_secs(5);
/// Keys of a provider that are looked at.
const MAX_KEYS: usize = 100;

/// Something that was asked, and when.
struct Kept<T> {
    at: Instant,
    found: Result<Arc<T>, String>,
}

impl<T> Kept<T> {
    /// Whether it can be used, by somebody who needs it to be younger than `since`.
    fn holds(&self, since: Option<Instant>) -> bool {
        let keep = if self.found.is_ok() { KEEP } else { KEEP_ERROR };
        since.map_or(self.at.elapsed() < keep, |since| self.at >= since)
    }
}

/// What is known of the provider. Asked for when somebody signs in, one at a time.
#[derive(Default)]
pub(super) struct Provider {
    metadata: Mutex<Option<Kept<Metadata>>>,
    keys: Mutex<Option<Kept<Vec<Jwk>>>>,
}

/// Where the provider does what.
pub(super) struct Metadata {
    /// Where people sign in.
    pub(super) authorization: Url,
    /// Where they sign out, where it says so.
    pub(super) end_session: Option<Url>,
    /// It names itself in what the browser brings back (RFC 9207).
    pub(super) names_itself: bool,
    token: Endpoint,
    jwks: Endpoint,
    userinfo: Option<Endpoint>,
    /// The secret goes into the form: the provider takes it nowhere else.
    secret_in_form: bool,
}

/// What a code was exchanged for.
#[derive(Deserialize)]
pub(super) struct Tokens {
    pub(super) id_token: String,
    pub(super) access_token: Option<SecretString>,
}

/// The provider's description, as far as it is read.
#[derive(Deserialize)]
struct Described {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    userinfo_endpoint: Option<String>,
    end_session_endpoint: Option<String>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

impl Provider {
    /// Where it does what.
    pub(super) async fn metadata(&self, config: &config::Oidc) -> Result<Arc<Metadata>, String> {
        let mut kept = self.metadata.lock().await;
        if let Some(kept) = kept.as_ref().filter(|kept| kept.holds(None)) {
            return kept.found.clone();
        }
        let found = describe(config).await.map(Arc::new);
        *kept = Some(Kept { at: Instant::now(), found: found.clone() });
        found
    }

    /// Its keys, read after `since` if that is asked for.
    pub(super) async fn keys(
        &self,
        config: &config::Oidc,
        metadata: &Metadata,
        since: Option<Instant>,
    ) -> Result<Arc<Vec<Jwk>>, String> {
        let mut kept = self.keys.lock().await;
        if let Some(kept) = kept.as_ref().filter(|kept| kept.holds(since)) {
            return kept.found.clone();
        }
        let asked = config.http.request(Method::GET, &metadata.jwks);
        // Those that are not understood are somebody else's.
        let understood = |set: KeySet| {
            set.keys.into_iter().take(MAX_KEYS).filter_map(|key| serde_json::from_value(key).ok()).collect()
        };
        let found = ask::<KeySet>(config, "its keys", asked).await.map(|set| Arc::new(understood(set)));
        *kept = Some(Kept { at: Instant::now(), found: found.clone() });
        found
    }
}

async fn describe(config: &config::Oidc) -> Result<Metadata, String> {
    let asked = config.http.request(Method::GET, &config.discovery);
    understand(config, ask(config, "its description", asked).await?)
}

/// What the provider says of itself, as far as it can be used.
fn understand(config: &config::Oidc, said: Described) -> Result<Metadata, String> {
    let name = &config.name;
    if said.issuer != config.issuer {
        return Err(format!(
            "{name} calls itself `{}`, and `issuer` in [console.oidc] is `{}`; they must be the same, letter by letter",
            super::shown(&said.issuer),
            config.issuer
        ));
    }
    let endpoint = |what: &str, address: &str| {
        let wrong = |e: &str| format!("{name} names a {what} that cannot be used: {e}");
        // A provider may be without TLS (`allow_private`); one that has it sends nothing of ours elsewhere without.
        if over_tls(&config.issuer) && !over_tls(address) {
            return Err(wrong("it does not begin with https:// as the issuer does"));
        }
        config.http.endpoint(address, "").map_err(|e| wrong(&e))
    };
    // The browser goes there: judged as if we did, or a provider could send people into a private network.
    endpoint("authorization_endpoint", &said.authorization_endpoint)?;
    let methods = said.token_endpoint_auth_methods_supported;
    // Basic is what is meant where nothing is said.
    let takes = |method: &str| {
        methods.as_ref().map_or(method == "client_secret_basic", |m| m.iter().any(|m| m == method))
    };
    if config.client_secret.is_some() && !takes("client_secret_basic") && !takes("client_secret_post") {
        return Err(format!(
            "{name} takes no `client_secret` at its token_endpoint, neither in a header nor in a form"
        ));
    }
    // One that cannot be used keeps nobody from signing in, nor out of here.
    let leaves = |address: &String| endpoint("end_session_endpoint", address).is_ok();
    let end_session = said.end_session_endpoint.filter(leaves).and_then(|address| Url::parse(&address).ok());
    Ok(Metadata {
        end_session,
        authorization: Url::parse(&said.authorization_endpoint).map_err(|e| e.to_string())?,
        names_itself: said.authorization_response_iss_parameter_supported,
        token: endpoint("token_endpoint", &said.token_endpoint)?,
        jwks: endpoint("jwks_uri", &said.jwks_uri)?,
        userinfo: said
            .userinfo_endpoint
            .map(|address| endpoint("userinfo_endpoint", &address))
            .transpose()?,
        secret_in_form: !takes("client_secret_basic"),
    })
}

fn over_tls(address: &str) -> bool {
    Url::parse(address).is_ok_and(|url| url.scheme() == "https")
}

impl Metadata {
    /// Exchanges the code that the browser brought for what the provider says of whoever it is.
    pub(super) async fn exchange(
        &self,
        config: &config::Oidc,
        code: &str,
        verifier: &str,
    ) -> Result<Tokens, String> {
        let request = self.exchanging(config, code, verifier)?;
        ask(config, "who you are", request).await
    }

    fn exchanging(&self, config: &config::Oidc, code: &str, verifier: &str) -> Result<Request, String> {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "authorization_code")
            .append_pair("code", code)
            .append_pair("redirect_uri", config.redirect.as_str())
            .append_pair("code_verifier", verifier);
        let mut request = config.http.post(&self.token).secret(&code.into()).secret(&verifier.into());
        match &config.client_secret {
            Some(secret) if self.secret_in_form => {
                form.append_pair("client_id", &config.client_id)
                    .append_pair("client_secret", secret.expose_secret());
                request = request.secret(secret);
            }
            Some(secret) => {
                request = request.secret(secret).secret_header(AUTHORIZATION, &basic(config, secret)?);
            }
            None => drop(form.append_pair("client_id", &config.client_id)),
        }
        Ok(request.body("application/x-www-form-urlencoded", form.finish().into_bytes()))
    }

    /// Adds what the token does not say and the provider does when it is asked (`userinfo_endpoint`).
    pub(super) async fn complete(
        &self,
        config: &config::Oidc,
        claims: &mut Map<String, Value>,
        access_token: Option<SecretString>,
    ) -> Result<(), String> {
        let (Some(userinfo), Some(token)) = (&self.userinfo, access_token) else { return Ok(()) };
        let bearer = secret_value("Bearer ", &token)?;
        let request = config.http.request(Method::GET, userinfo).secret_header(AUTHORIZATION, &bearer);
        let more: Map<String, Value> = ask(config, "more about you", request).await?;
        // Its answer is not signed for us: it may be somebody else's.
        if !more.contains_key("sub") || more.get("sub") != claims.get("sub") {
            return Err(format!("{} answers for somebody else at its userinfo_endpoint", config.name));
        }
        add(claims, more);
        Ok(())
    }
}

/// Adds to what was signed, which counts, what else the provider says. An address of e-mail and that it was verified are
/// taken from one and the same: one address does not verify another.
fn add(claims: &mut Map<String, Value>, more: Map<String, Value>) {
    if !claims.contains_key("email") && more.contains_key("email") {
        claims.remove("email_verified");
    }
    let same_email = !claims.contains_key("email") || more.get("email") == claims.get("email");
    for (name, value) in more {
        if same_email || name != "email_verified" {
            claims.entry(name).or_insert(value);
        }
    }
}

const AUTHORIZATION: HeaderName = HeaderName::from_static("authorization");

/// RFC 6749, 2.3.1: both are form-encoded first.
fn basic(
    config: &config::Oidc,
    secret: &SecretString,
) -> Result<checkrein_signals::http::HeaderValue, String> {
    let encoded = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = format!("{}:{}", encoded(&config.client_id), encoded(secret.expose_secret()));
    secret_value("Basic ", &STANDARD.encode(pair).into())
}

/// Asks the provider for `what`, which is JSON.
async fn ask<T: for<'de> Deserialize<'de>>(
    config: &config::Oidc,
    what: &str,
    request: Request,
) -> Result<T, String> {
    let name = &config.name;
    let failed = |reason: String| format!("{name} could not be asked for {what}: {reason}");
    let answer = request.send().await.map_err(|failure| failed(failure.reason))?;
    let refused = |answer: &Answer, advice: &str| failed(answer.failure("it", Retry::Never, advice).reason);
    match answer.status {
        200 => {}
        300..=399 => return Err(refused(&answer, "It redirects, which is not followed")),
        _ => return Err(refused(&answer, "")),
    }
    if let Some(cut) = &answer.cut {
        return Err(failed(format!("its answer was not read to its end: {cut}")));
    }
    serde_json::from_str(&answer.body)
        .map_err(|_| failed("its answer is not what OpenID Connect says".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Overrides};
    use serde_json::json;

    fn config(issuer: &str, allow_private: bool) -> config::Oidc {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("checkrein.toml");
        let toml = format!(
            "[server]\npublic_url = 'https://checkrein.example.com'\n[console.oidc]\nissuer = '{issuer}'\nname = 'Corp'\n\
             client_id = 'checkrein'\nroles_claim = 'groups'\nroles = {{ ops = 'operator' }}\n\
             allow_private = {allow_private}\n"
        );
        std::fs::write(&file, toml).unwrap();
        let overrides = Overrides { config: Some(file), ..Overrides::default() };
        Config::load(&overrides, &|_: &str| None).unwrap().oidc.unwrap()
    }

    /// What comes of a provider that differs from a good one in these.
    fn understood(config: &config::Oidc, odd: &[(&str, &str)]) -> Result<Metadata, String> {
        let base = &config.issuer;
        let mut said = json!({
            "issuer": base, "authorization_endpoint": format!("{base}/auth"),
            "token_endpoint": format!("{base}/token"), "jwks_uri": format!("{base}/jwks"),
            "userinfo_endpoint": format!("{base}/me"),
        });
        for (name, value) in odd {
            said[name] = json!(value);
        }
        understand(config, serde_json::from_value(said).unwrap())
    }

    const ENDPOINTS: [&str; 4] =
        ["authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint"];

    #[test]
    fn a_provider_with_tls_does_everything_with_tls() {
        for allow_private in [true, false] {
            let config = config("https://idp.example.com", allow_private);
            assert!(understood(&config, &[]).is_ok());
            for name in ENDPOINTS {
                for address in
                    ["http://idp.example.com/x", "HTTP://idp.example.com/x", "http://127.0.0.1/x", "//x"]
                {
                    let wrong = understood(&config, &[(name, address)]).err().unwrap_or_default();
                    assert!(wrong.contains(name) && wrong.contains("https://"), "{name} {address}: {wrong}");
                }
            }
        }
        let plain = config("http://127.0.0.1:9", true);
        assert!(understood(&plain, &[]).is_ok(), "one without may be used where that is permitted");
        assert!(understood(&plain, &[("jwks_uri", "https://127.0.0.1:9/jwks")]).is_ok());
    }

    #[test]
    fn an_address_is_verified_by_whoever_says_it() {
        let (ann, bob) = ("ann@example.com", "bob@example.com");
        for (signed, more, email, verified) in [
            (json!({"email_verified": true}), json!({"email": bob}), bob, None),
            (
                json!({"email_verified": true}),
                json!({"email": bob, "email_verified": false}),
                bob,
                Some(false),
            ),
            (
                json!({"email_verified": false}),
                json!({"email": bob, "email_verified": true}),
                bob,
                Some(true),
            ),
            (json!({"email": ann}), json!({"email": ann, "email_verified": true}), ann, Some(true)),
            (json!({"email": ann}), json!({"email": bob, "email_verified": true}), ann, None),
            (json!({"email": ann}), json!({"email_verified": true}), ann, None),
            (
                json!({"email": ann, "email_verified": false}),
                json!({"email": ann, "email_verified": true}),
                ann,
                Some(false),
            ),
            (json!({"email": ann, "email_verified": true}), json!({"email": bob}), ann, Some(true)),
        ] {
            let [mut claims, more] = [signed, more].map(|said| said.as_object().unwrap().clone());
            let shown = format!("{claims:?} and {more:?}");
            add(&mut claims, more);
            assert_eq!(claims["email"], email, "{shown}");
            assert_eq!(claims.get("email_verified").and_then(Value::as_bool), verified, "{shown}");
        }
    }

    #[test]
    fn a_provider_leads_nobody_into_a_private_network() {
        for name in ENDPOINTS {
            for address in
                ["https://127.0.0.1/x", "https://10.0.0.7/x", "https://[::1]/x", "https://169.254.169.254/"]
            {
                let odd = [(name, address)];
                let wrong =
                    understood(&config("https://idp.example.com", false), &odd).err().unwrap_or_default();
                assert!(
                    wrong.contains(name) && wrong.contains("not a public address"),
                    "{name} {address}: {wrong}"
                );
                assert!(understood(&config("https://idp.example.com", true), &odd).is_ok());
            }
        }
    }
}
