//! `[console.oidc]`: people sign in to the console with the organisation's provider of OpenID Connect.

use super::{Env, HOUR, SECOND, document::Section};
use checkrein_core::key::Role;
use checkrein_signals::http::{Endpoint, Http, HttpConfig};
use secrecy::{ExposeSecret as _, SecretString};
use std::{collections::BTreeMap, time::Duration};
use url::{Host, Url};

/// Where a provider describes itself, after its issuer.
const DISCOVERY: &str = "/.well-known/openid-configuration";
/// Where a provider sends people back to, after `public_url`.
pub(crate) const CALLBACK: &str = "/sign-in/oidc/callback";
/// How long a session lasts. Roles are asked for when it begins, so this is how long one lasts that was taken away.
const LIFE: Duration = HOUR;
/// The longest that one may last.
const MAX_LIFE: Duration = Duration::from_hours(8);
/// How long the provider has for each answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest issuer, in bytes: it is part of every name on record.
const MAX_ISSUER: usize = 256;
/// Longest name of a claim, of a value of one and of the provider, in bytes.
const MAX_NAME: usize = 256;

/// The organisation's provider, and what its people may do.
#[derive(Clone, Debug)]
pub struct Oidc {
    /// The provider, exactly as it calls itself.
    pub issuer: String,
    /// Where it describes itself.
    pub discovery: Endpoint,
    /// What this server is called there.
    pub client_id: String,
    /// What proves that; without one, the provider must take it for a public client.
    pub client_secret: Option<SecretString>,
    /// What people call the provider.
    pub name: String,
    /// What is asked for; `openid` is among it.
    pub scopes: Vec<String>,
    /// The claim, or JSON pointer into the claims, with the name that goes on record.
    pub person_claim: String,
    /// The claim, or JSON pointer into the claims, that `roles` reads.
    pub roles_claim: String,
    /// Its values, and the role of whoever has them. The highest counts; nobody without one comes in.
    pub roles: BTreeMap<String, Role>,
    /// How long a session lasts at most.
    pub session_ends_after: Duration,
    /// Where the provider sends people back to.
    pub redirect: Url,
    /// The way to the provider.
    pub http: Http,
    way: HttpConfig,
}

impl PartialEq for Oidc {
    fn eq(&self, other: &Self) -> bool {
        let shown = |secret: &Option<SecretString>| secret.as_ref().map(|s| s.expose_secret().to_owned());
        let parts = |o: &Self| {
            let way = (shown(&o.way.proxy), o.way.ca_file.clone(), o.way.allow_private);
            let times = (o.way.connect_timeout, o.way.timeout, o.session_ends_after);
            let client = (o.issuer.clone(), o.client_id.clone(), shown(&o.client_secret), o.redirect.clone());
            let claims = (o.person_claim.clone(), o.roles_claim.clone(), o.roles.clone(), o.scopes.clone());
            (client, claims, way, times, o.name.clone())
        };
        parts(self) == parts(other)
    }
}

impl Eq for Oidc {}

/// Reads and checks the section. `None` when something is wrong with it.
pub(super) fn read(mut section: Section<'_>, public_url: Option<&str>, env: Option<Env<'_>>) -> Option<Oidc> {
    let mut way = HttpConfig {
        allow_private: section.flag("allow_private").unwrap_or_default(),
        ca_file: section.path("ca_file"),
        proxy: section.secret("proxy", env),
        timeout: TIMEOUT,
        ..HttpConfig::default()
    };
    if let Some(timeout) = section.duration("timeout", (Duration::from_millis(100), 60 * SECOND)) {
        way.timeout = timeout;
    }
    let http = Http::new(&way).map_err(|e| section.problem("", e)).ok();
    let issuer = required(
        &mut section,
        "issuer",
        "the address of the provider, e.g. https://accounts.google.com",
        issuer,
    );
    let discovery = issuer.as_deref().zip(http.as_ref()).and_then(|(issuer, http)| {
        http.endpoint(issuer, DISCOVERY).map_err(|e| section.problem("issuer", e)).ok()
    });
    let client_id = required(&mut section, "client_id", "what the provider calls this server", plain);
    let client_secret = section.secret("client_secret", env);
    let name = section.text("name", plain);
    let scopes = scopes(&mut section);
    let person_claim = section.text("person_claim", plain);
    let roles_claim = required(
        &mut section,
        "roles_claim",
        "the claim that says what people may do, e.g. \"groups\"",
        plain,
    );
    let roles = roles(&mut section);
    let life = section.duration("session_ends_after", (60 * SECOND, MAX_LIFE));
    let redirect = redirect(public_url).map_err(|e| section.problem("", e)).ok();
    section.finish();
    let host = issuer.as_deref().and_then(|text| Url::parse(text).ok()?.host_str().map(str::to_owned));
    Some(Oidc {
        discovery: discovery?,
        issuer: issuer?,
        client_id: client_id?,
        client_secret,
        name: name.or(host)?,
        scopes,
        person_claim: person_claim.unwrap_or_else(|| "email".to_owned()),
        roles_claim: roles_claim?,
        roles,
        session_ends_after: life.unwrap_or(LIFE),
        redirect: redirect?,
        http: http?,
        way,
    })
}

fn required<T>(
    section: &mut Section<'_>,
    key: &'static str,
    what: &str,
    read: impl FnOnce(&str) -> Result<T, String>,
) -> Option<T> {
    let found = section.text(key, read);
    if section.line_of(key).is_none() {
        section.problem(key, format!("is missing; it is {what}"));
    }
    found
}

fn issuer(text: &str) -> Result<String, String> {
    let url = Url::parse(text).map_err(|e| format!("{text:?} is no URL: {e}"))?;
    // The rest is judged with where it leads.
    if url.query().is_some()
        || url.fragment().is_some()
        || text.len() > MAX_ISSUER
        || text.contains(char::is_whitespace)
    {
        return Err(format!(
            "{text:?} is no issuer; take it from the provider's …{DISCOVERY}, at most {MAX_ISSUER} bytes"
        ));
    }
    if text.ends_with(DISCOVERY) {
        return Err(format!("leave {DISCOVERY} away: the issuer is what stands before it"));
    }
    Ok(text.to_owned())
}

fn plain(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > MAX_NAME || text.chars().any(checkrein_core::name::is_invisible) {
        return Err(format!("must be 1 to {MAX_NAME} bytes that can be read"));
    }
    Ok(text.to_owned())
}

fn scopes(section: &mut Section<'_>) -> Vec<String> {
    let scopes = section.texts("scopes");
    if section.line_of("scopes").is_none() {
        return ["openid", "email", "profile"].map(str::to_owned).to_vec();
    }
    let fits = |scope: &String| {
        !scope.is_empty() && scope.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\')
    };
    if !scopes.iter().all(fits) || scopes.len() > 32 {
        section.problem("scopes", "is a list of at most 32 words");
    } else if !scopes.iter().any(|scope| scope == "openid") {
        section.problem(
            "scopes",
            "must have \"openid\" among them, or the provider says nothing about who somebody is",
        );
    }
    scopes
}

fn roles(section: &mut Section<'_>) -> BTreeMap<String, Role> {
    let mut roles = BTreeMap::new();
    for (value, role) in section.entries("roles") {
        match (plain(&value), role.as_str()) {
            (Ok(value), "operator") => drop(roles.insert(value, Role::Operator)),
            (Ok(value), "admin") => drop(roles.insert(value, Role::Admin)),
            (Ok(_), other) => {
                let other = other.escape_debug();
                section.problem(
                    "roles",
                    format!("`{other}` is no role of people; write \"operator\" or \"admin\""),
                );
            }
            (Err(e), _) => section.problem("roles", e),
        }
    }
    if section.line_of("roles").is_none() {
        section.problem(
            "roles",
            "is missing, so nobody could come in; write { \"group of the provider\" = \"operator\" }",
        );
    } else if roles.is_empty() {
        section.problem("roles", "names nobody; write { \"group of the provider\" = \"operator\" }");
    }
    roles
}

/// Where the provider sends people back to. What it sends along must not be read on the way.
fn redirect(public_url: Option<&str>) -> Result<Url, String> {
    let Some(base) = public_url else {
        return Err(
            "needs [server] public_url, so that the provider knows where to send people back to".to_owned()
        );
    };
    let url = Url::parse(&format!("{base}{CALLBACK}")).map_err(|e| format!("[server] public_url: {e}"))?;
    let here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    if url.scheme() != "https" && !here {
        return Err(format!(
            "[server] public_url must begin with https:// for this: the provider sends people back to {url}, and \
             whoever reads that on the way could sign in"
        ));
    }
    Ok(url)
}
