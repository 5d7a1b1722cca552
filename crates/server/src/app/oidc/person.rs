//! From claims to a person and what they may do.

use crate::config;
use checkrein_core::{approval::OIDC_PREFIX, key::Role, name::is_invisible};
use serde_json::{Map, Value};

/// Longest name of a person, and subject, in bytes.
const MAX_NAME: usize = 255;
/// Values of the claim with roles that are looked at.
const MAX_VALUES: usize = 10_000;

/// Somebody who signed in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Person {
    /// `oidc:<issuer>#<subject>`: theirs for ever, whatever they are called.
    pub(crate) id: String,
    /// `oidc:<name>`.
    pub(crate) name: String,
    /// What they may do.
    pub(crate) role: Role,
}

/// Whether the token leaves something open that decides: then the provider is asked for the rest.
pub(super) fn lacks_something(config: &config::Oidc, claims: &Map<String, Value>) -> bool {
    let wanted = [config.person_claim.as_str(), config.roles_claim.as_str()];
    wanted.iter().any(|at| claim(claims, at).is_none())
        || (wanted.iter().any(|at| is_email(at)) && !claims.contains_key("email_verified"))
}

/// Who it is.
///
/// # Errors
/// When they may not come in; one sentence for them.
pub(super) fn of(config: &config::Oidc, claims: &Map<String, Value>) -> Result<Person, String> {
    let (provider, at) = (&config.name, &config.person_claim);
    if [at, &config.roles_claim].into_iter().any(|at| is_email(at))
        && claims.get("email_verified") != Some(&Value::Bool(true))
    {
        return Err(format!(
            "{provider} does not say that your address of e-mail was verified (`email_verified`), so it proves nothing"
        ));
    }
    let readable = |text: &str| (1..=MAX_NAME).contains(&text.len()) && !text.chars().any(is_invisible);
    let subject = claims.get("sub").and_then(Value::as_str).filter(|sub| readable(sub));
    let subject = subject.ok_or_else(|| format!("{provider} does not say who you are (`sub`)"))?;
    let name = claim(claims, at).and_then(Value::as_str).map(str::trim).filter(|name| readable(name));
    let name = name.ok_or_else(|| {
        format!("{provider} does not say what you are called, in `{at}`; `person_claim` and `scopes` in [console.oidc] say what is asked for")
    })?;
    let role = role(config, claims).ok_or_else(|| {
        format!(
            "{} has no role here: nothing that {provider} says in `{}` is among `roles` in [console.oidc]. Whoever runs Checkrein can add it",
            super::shown(name),
            config.roles_claim
        )
    })?;
    Ok(Person {
        id: format!("{OIDC_PREFIX}{}#{subject}", config.issuer),
        name: format!("{OIDC_PREFIX}{name}"),
        role,
    })
}

/// The highest role of any value. Only texts count: a map has no order to read it in.
fn role(config: &config::Oidc, claims: &Map<String, Value>) -> Option<Role> {
    let role = |value: &Value| config.roles.get(value.as_str()?).copied();
    match claim(claims, &config.roles_claim)? {
        Value::Array(values) => values.iter().take(MAX_VALUES).filter_map(role).max(),
        value => role(value),
    }
}

/// A claim by its name, or by a JSON pointer where that begins with `/`.
fn claim<'a>(claims: &'a Map<String, Value>, at: &str) -> Option<&'a Value> {
    let Some(path) = at.strip_prefix('/') else { return claims.get(at) };
    let (first, rest) = path
        .split_once('/')
        .map_or((path, ""), |(first, _)| (first, path.get(first.len()..).unwrap_or_default()));
    claims.get(&first.replace("~1", "/").replace("~0", "~"))?.pointer(rest)
}

fn is_email(at: &str) -> bool {
    matches!(at, "email" | "/email")
}
