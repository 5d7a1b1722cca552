//! Signing in with the organisation's provider of OpenID Connect.
//!
//! The authorization code flow with PKCE. What is trusted, and why:
//!
//! - the provider's endpoints and keys, because its own address named them over verified TLS;
//! - an answer in the browser, because it comes to the browser that asked ([`flows`]), once, and within minutes;
//! - who somebody is, because the provider signed it for us, for this one sign-in ([`token`]);
//! - what they may do, because the operator's configuration says so of a claim ([`person`]).
//!
//! Whatever else happens, nobody comes in, and signing in with a key works as before.

mod flows;
mod person;
mod provider;
mod signature;
mod token;

use super::{App, Caller, Error};
use crate::config;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use checkrein_core::approval::OIDC_PREFIX;
use checkrein_signals::text::{Medium, fit};
use flows::Flows;
pub(crate) use person::Person;
use provider::Provider;
use sha2::{Digest as _, Sha256};
use std::{
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;
use url::Url;

/// How long somebody may take to sign in at the provider.
pub(crate) const PATIENCE: Duration = Duration::from_mins(10);
/// Sign-ins that the provider is asked about at a time. What comes from outside must not become a flood to there.
const AT_A_TIME: usize = 64;
/// How long somebody waits until it is their turn.
const TURN: Duration = Duration::from_secs(5);
/// Longest code that is taken, in bytes.
const MAX_CODE: usize = 4096;
/// Longest token that goes into an address, in bytes. Without it a provider asks who wants to sign out.
const MAX_HINT: usize = 4096;
/// The most that is shown of what the provider says, in characters.
const SHOWN: usize = 300;

/// Why somebody does not come in. What it shows of the provider's words is escaped and cut.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// This sign-in is not one that was begun here, is over, or was used.
    #[error("{0}")]
    Again(&'static str),
    /// Too many end a sign-in at this moment. This one was not used.
    #[error("too many people sign in at this moment; reload this page in a minute, or begin again")]
    Busy,
    /// The provider could not be asked, or what it said cannot be believed.
    #[error("{0}")]
    Provider(String),
    /// The provider, or the configuration, says no to this person.
    #[error("{0}")]
    Person(String),
}

/// A sign-in that begins.
pub(crate) struct Begun {
    /// Where the browser goes.
    pub(crate) url: String,
    /// What its cookie holds meanwhile.
    pub(crate) cookie: String,
}

/// What the browser brings back from the provider.
#[derive(Debug, Default)]
pub(crate) struct Brought {
    /// The code that says who it is.
    pub(crate) code: Option<String>,
    /// Which sign-in it belongs to.
    pub(crate) state: Option<String>,
    /// Who says so (RFC 9207).
    pub(crate) iss: Option<String>,
    /// Why there is no code.
    pub(crate) error: Option<String>,
    /// The same in words.
    pub(crate) error_description: Option<String>,
}

/// Somebody who may come in.
pub(crate) struct SignedIn {
    /// Who.
    pub(crate) caller: Arc<Caller>,
    /// For how long at most.
    pub(crate) life: Duration,
    /// The page that was asked for.
    pub(crate) next: String,
    /// How they sign out at the provider later.
    pub(crate) leave: Option<Leave>,
}

/// How somebody signs out at the provider, too.
pub(crate) struct Leave {
    /// What people call it.
    pub(crate) name: String,
    /// Where the browser goes.
    pub(crate) url: String,
}

/// The organisation's provider, as one configuration describes it.
pub(crate) struct Oidc {
    config: config::Oidc,
    provider: Provider,
    flows: Flows,
    places: Semaphore,
}

impl Oidc {
    fn new(config: config::Oidc) -> Self {
        signature::install();
        let places = Semaphore::new(AT_A_TIME);
        Self { provider: Provider::default(), flows: Flows::default(), places, config }
    }

    /// What people call the provider.
    pub(crate) fn name(&self) -> &str {
        &self.config.name
    }

    /// Whether people reach this server over TLS.
    pub(crate) fn over_tls(&self) -> bool {
        self.config.redirect.scheme() == "https"
    }

    /// Begins a sign-in that leads to `next`, a path of this server.
    ///
    /// # Errors
    /// When the provider cannot be asked where that is done.
    pub(crate) async fn begin(&self, next: &str) -> Result<Begun, Refused> {
        let provider = self.provider.metadata(&self.config).await.map_err(Refused::Provider)?;
        let begun = self.flows.begin(next, Instant::now()).map_err(|e| Refused::Provider(e.to_string()))?;
        let mut url = provider.authorization.clone();
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.config.client_id)
            .append_pair("redirect_uri", self.config.redirect.as_str())
            .append_pair("scope", &self.config.scopes.join(" "))
            .append_pair("state", &begun.state)
            .append_pair("nonce", &begun.nonce)
            .append_pair("code_challenge", &URL_SAFE_NO_PAD.encode(Sha256::digest(&begun.verifier)))
            .append_pair("code_challenge_method", "S256");
        Ok(Begun { url: url.into(), cookie: begun.browser })
    }

    async fn finish(self: &Arc<Self>, brought: &Brought, browser: Option<&str>) -> Result<SignedIn, Refused> {
        let (Some(state), Some(browser)) = (&brought.state, browser) else {
            return Err(Refused::Again(
                "this browser has begun no sign-in here, or it took too long; begin again",
            ));
        };
        // Before the sign-in is used up: whoever sends codes that lead nowhere must not cost others theirs.
        let Ok(Ok(_place)) = tokio::time::timeout(TURN, self.places.acquire()).await else {
            return Err(Refused::Busy);
        };
        let began = Instant::now();
        let flow = self.flows.take(state, browser, began).ok_or(Refused::Again(
            "this sign-in was used before, took too long, or was begun in another browser; begin again",
        ))?;
        let name = self.name();
        let provider = self.provider.metadata(&self.config).await.map_err(Refused::Provider)?;
        let said = brought.iss.as_deref();
        if said.is_some_and(|said| said != self.config.issuer) || (said.is_none() && provider.names_itself) {
            return Err(Refused::Provider(format!(
                "the answer does not come from {name}, so nobody was signed in"
            )));
        }
        if let Some(error) = &brought.error {
            let words = brought.error_description.as_deref().unwrap_or_default();
            return Err(Refused::Person(format!(
                "{name} did not sign you in: {}",
                shown(&format!("{error} {words}"))
            )));
        }
        let code = brought.code.as_deref().filter(|code| (1..=MAX_CODE).contains(&code.len()));
        let code = code.ok_or_else(|| Refused::Provider(format!("{name} sent no code to sign in with")))?;
        let tokens =
            provider.exchange(&self.config, code, &flow.verifier).await.map_err(Refused::Provider)?;
        let expected = token::Expected {
            issuer: &self.config.issuer,
            client_id: &self.config.client_id,
            nonce: &flow.nonce,
        };
        let keys = self.provider.keys(&self.config, &provider, None).await.map_err(Refused::Provider)?;
        let claims = match token::verify(&tokens.id_token, &keys, &expected) {
            // It may have changed its keys since they were read.
            Err(token::Wrong::UnknownKey) => {
                let keys = self.provider.keys(&self.config, &provider, Some(began)).await;
                token::verify(&tokens.id_token, &keys.map_err(Refused::Provider)?, &expected)
            }
            other => other,
        };
        let mut claims = claims.map_err(|wrong| {
            Refused::Provider(format!("what {name} says of you cannot be believed: {wrong}"))
        })?;
        if person::lacks_something(&self.config, &claims) {
            provider
                .complete(&self.config, &mut claims, tokens.access_token)
                .await
                .map_err(Refused::Provider)?;
        }
        let person = person::of(&self.config, &claims).map_err(Refused::Person)?;
        let life = self.config.session_ends_after;
        let caller = Caller::of_person(person, Arc::clone(self));
        let leave = provider.end_session.clone().map(|url| self.leave(url, &tokens.id_token));
        Ok(SignedIn { caller: Arc::new(caller), life, next: flow.next, leave })
    }

    /// No address to come back to: the provider would have to know it, and shows an error instead of signing
    /// anybody out where it does not.
    fn leave(&self, mut url: Url, id_token: &str) -> Leave {
        url.query_pairs_mut().append_pair("client_id", &self.config.client_id);
        if id_token.len() <= MAX_HINT {
            url.query_pairs_mut().append_pair("id_token_hint", id_token);
        }
        Leave { name: self.name().to_owned(), url: url.into() }
    }
}

/// What somebody else said, as one line that means nothing to whoever shows it.
fn shown(text: &str) -> String {
    fit(text.trim(), Medium::Plain, SHOWN)
}

impl App {
    /// The provider that people sign in with, where there is one.
    pub(crate) fn oidc(&self) -> Option<Arc<Oidc>> {
        self.oidc.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends a sign-in: whoever it is may come in.
    ///
    /// # Errors
    /// When not, and why.
    pub(crate) async fn finish_sign_in(
        &self,
        oidc: &Arc<Oidc>,
        brought: &Brought,
        browser: Option<&str>,
    ) -> Result<SignedIn, Refused> {
        let done = oidc.finish(brought, browser).await;
        match &done {
            Ok(SignedIn { caller, .. }) => {
                let actor = caller.actor();
                tracing::info!(person = %actor.name, id = %actor.key_id, role = actor.role.as_str(), "signed in");
            }
            Err(refused) => tracing::warn!(reason = %refused, "a sign-in by OpenID Connect was refused"),
        }
        done
    }

    /// Takes over what `config` says. Who signed in by what it said before has to do so again.
    pub(super) fn reload_oidc(&self, config: Option<&config::Oidc>) {
        let mut current = self.oidc.write().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().map(|oidc| &oidc.config) != config {
            *current = open(config);
        }
    }
}

/// What a configuration says of it. Nothing is connected to.
pub(super) fn open(config: Option<&config::Oidc>) -> Option<Arc<Oidc>> {
    config.cloned().map(Oidc::new).map(Arc::new)
}

/// A name that is not that of somebody who signed in.
///
/// # Errors
/// When it looks like one.
pub(super) fn not_a_sign_in(field: &str, name: &str) -> Result<(), Error> {
    if checkrein_core::approval::is_oidc_name(name) {
        return Err(Error::Invalid(format!(
            "{field}: `{OIDC_PREFIX}` is what the names of those begin with who sign in by OpenID Connect; leave it away"
        )));
    }
    Ok(())
}
