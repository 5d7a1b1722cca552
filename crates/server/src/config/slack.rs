//! `[approvals.slack]`: who answers by Slack's buttons, and how its clicks are known to be its.

use super::{Env, document::Section};
use secrecy::{ExposeSecret as _, SecretString};
use std::collections::BTreeMap;

/// Where Slack takes what is said about a click.
const SLACK: &str = "https://hooks.slack.com";

/// Slack's buttons.
#[derive(Clone, Debug)]
pub struct Slack {
    /// What Slack signs its requests with.
    pub signing_secret: SecretString,
    /// The one workspace whose people may answer: `T…`.
    pub workspace: String,
    /// Slack's users (`U…`, `W…`), and what they are called on record. They are operators.
    pub people: BTreeMap<String, String>,
    /// The origin of the addresses by which a message can be changed.
    pub url: String,
}

impl PartialEq for Slack {
    fn eq(&self, other: &Self) -> bool {
        let parts = |s: &Self| {
            let secret = s.signing_secret.expose_secret().to_owned();
            (secret, s.workspace.clone(), s.people.clone(), s.url.clone())
        };
        parts(self) == parts(other)
    }
}

impl Eq for Slack {}

/// Reads and checks the section. `None` when something is wrong with it, or no secret was looked up.
pub(super) fn read(mut section: Section<'_>, env: Option<Env<'_>>) -> Option<Slack> {
    let signing_secret = section.secret("signing_secret", env);
    if section.line_of("signing_secret").is_none() {
        section.problem("signing_secret", "is missing; Slack shows it under Basic Information of the app");
    }
    let workspace = section.text("workspace", |text| id(text, &["T", "E"]));
    if section.line_of("workspace").is_none() {
        section.problem("workspace", "is missing; it is the T… in the address of your Slack in a browser");
    }
    let mut people = BTreeMap::new();
    for (user, name) in section.entries("people") {
        let readable = !name.trim().is_empty()
            && name.len() <= 128
            && !name.chars().any(checkrein_core::name::is_invisible)
            && !checkrein_core::approval::is_oidc_name(&name);
        match id(&user, &["U", "W"]) {
            Ok(user) if readable => drop(people.insert(user, name.trim().to_owned())),
            Ok(_) => section.problem(
                "people",
                "a person's name has 1 to 128 bytes that can be read, and does not begin with `oidc:`",
            ),
            Err(e) => section.problem("people", e),
        }
    }
    if people.is_empty() && section.line_of("people").is_some() {
        section.problem("people", "names nobody; write { U0123456 = \"ann@example.com\" }");
    }
    if section.line_of("people").is_none() {
        section
            .problem("people", "is missing; write { U0123456 = \"ann@example.com\" } for whoever may answer");
    }
    let url = section.text("url", |text| {
        let url = url::Url::parse(text).map_err(|e| format!("{text:?} is no URL: {e}"))?;
        match (url.scheme(), url.path(), url.has_host()) {
            ("https" | "http", "/" | "", true) => Ok(url.origin().ascii_serialization()),
            _ => Err(format!("{text:?} is no origin; write e.g. \"{SLACK}\"")),
        }
    });
    section.finish();
    Some(Slack {
        signing_secret: signing_secret?,
        workspace: workspace?,
        people,
        url: url.unwrap_or_else(|| SLACK.to_owned()),
    })
}

fn id(text: &str, first: &[&str]) -> Result<String, String> {
    let fits = first.iter().any(|f| text.starts_with(f))
        && (2..=32).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    if fits {
        Ok(text.to_owned())
    } else {
        Err(format!("`{}` is no id of Slack; those begin with {}", text.escape_debug(), first.join(" or ")))
    }
}
