//! Signed links: how somebody answers one approval from a mail, Teams or PagerDuty, without a key.
//!
//! A link is `/approve/<token>`. The token says which approval, which person, until when, and whose key made
//! it, and holds an HMAC of that under a secret of this installation. It is good for one answer: the state of
//! the approval sees to that. It dies with the key that made it.

use super::{App, Caller, Error, approvals::said, oidc::not_a_sign_in};
use crate::config;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use checkrein_api::{ApprovalDecision, ApprovalView, LinkView, NewLink};
use checkrein_core::{
    approval::{Actor, Transition, Via},
    key::Role,
    time::Timestamp,
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

/// The file of the secret, in the data folder.
const FILE: &str = "links.secret";
/// What keeps these signatures from being good for anything else.
const PURPOSE: &[u8] = b"checkrein.link.v1\0";
/// Longest token, in bytes.
const MAX_TOKEN: usize = 2048;
/// Longest name of a person, in bytes.
const MAX_PERSON: usize = 128;

/// What a link says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Link {
    /// `apr_…`.
    #[serde(rename = "a")]
    pub(crate) approval: String,
    /// For whom.
    #[serde(rename = "p")]
    pub(crate) person: String,
    /// The key that made it.
    #[serde(rename = "k")]
    key_id: String,
    /// Until when, in microseconds since 1970.
    #[serde(rename = "e")]
    until: i64,
}

/// Makes and knows links.
pub(super) struct Signer([u8; 32]);

impl Signer {
    /// With the secret of the data folder; makes one where there is none.
    ///
    /// # Errors
    /// When it cannot be read or made.
    pub(super) fn open(data: &Path) -> Result<Self, Error> {
        let path = data.join(FILE);
        let wrong = |e: &dyn std::fmt::Display| {
            Error::Invalid(format!("the secret for links {} cannot be used: {e}", path.display()))
        };
        let mut secret = [0_u8; 32];
        match fs::File::open(&path) {
            Ok(mut file) => {
                file.read_exact(&mut secret).map_err(|e| {
                    wrong(&format!("{e}; remove it to make a new one, which ends the links that were made"))
                })?;
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {
                getrandom::fill(&mut secret).map_err(|e| wrong(&e))?;
                // Whole or not at all: a torn one would be refused for ever.
                let draft = data.join(format!("{FILE}.new"));
                let write = || -> std::io::Result<()> {
                    let options =
                        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).clone();
                    let mut file = options.open(&draft)?;
                    file.write_all(&secret)?;
                    file.sync_all()?;
                    fs::rename(&draft, &path)
                };
                write().map_err(|e| wrong(&e))?;
            }
            Err(e) => return Err(wrong(&e)),
        }
        Ok(Self(secret))
    }

    fn mac(&self, said: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        mac.update(PURPOSE);
        mac.update(said);
        Some(mac)
    }

    fn token(&self, link: &Link) -> Option<String> {
        let said = serde_json::to_vec(link).ok()?;
        let mac = self.mac(&said)?.finalize().into_bytes();
        Some(format!("{}.{}", URL_SAFE_NO_PAD.encode(&said), URL_SAFE_NO_PAD.encode(mac)))
    }

    /// What a token says, if it was made here.
    fn read(&self, token: &str) -> Option<Link> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        let (said, mac) = token.split_once('.')?;
        let said = URL_SAFE_NO_PAD.decode(said).ok()?;
        let mac = URL_SAFE_NO_PAD.decode(mac).ok()?;
        // In constant time.
        self.mac(&said)?.verify_slice(&mac).ok()?;
        serde_json::from_slice(&said).ok()
    }
}

impl App {
    /// Makes a link by which `new.person` can answer an approval until it expires.
    ///
    /// # Errors
    /// When the caller is an agent, the request makes no sense, or the approval waits for nobody.
    pub async fn make_link(&self, caller: &Caller, id: &str, new: NewLink) -> Result<LinkView, Error> {
        caller.require(Role::Operator)?;
        let person = new.person.trim();
        if person.is_empty() || person.len() > MAX_PERSON || person.contains('\n') {
            return Err(Error::Invalid(format!(
                "for: 1 to {MAX_PERSON} bytes on one line: the name that the answer goes on record under"
            )));
        }
        said("for", person)?;
        not_a_sign_in("for", person)?;
        let missing = || Error::NotFound("approval", id.chars().take(64).collect());
        let approval = self.store.approval(id).await?.ok_or_else(missing)?;
        let mut until = approval.expires_at;
        if let Some(lasting) = &new.lasting {
            let lasting = config::duration(lasting).map_err(|e| Error::Invalid(format!("lasting: {e}")))?;
            let seconds = i64::try_from(lasting.as_secs()).unwrap_or(i64::MAX);
            if seconds < 1 {
                return Err(Error::Invalid("lasting: at least 1s".to_owned()));
            }
            until = until.min(self.clock.now().plus_seconds(seconds));
        }
        let link = Link {
            approval: id.to_owned(),
            person: person.to_owned(),
            key_id: caller.key_id().to_owned(),
            until: until.as_micros(),
        };
        let unsigned = || Error::NotRecorded("the link could not be signed".to_owned());
        let path = format!("/approve/{}", self.links.token(&link).ok_or_else(unsigned)?);
        let transition = Transition::Link { person: person.to_owned(), by: caller.actor(), until };
        self.change_approval(id, transition).await?;
        let url = self.public_url.as_ref().map(|base| format!("{base}{path}"));
        Ok(LinkView { url, path, person: link.person, expires_at: until })
    }

    /// What a link is for, and how that stands.
    ///
    /// # Errors
    /// When it was not made here, is over, or the key that made it is gone.
    pub(crate) async fn open_link(&self, token: &str) -> Result<(Link, ApprovalView), Error> {
        let (link, _, approval) = self.read_link(token).await?;
        Ok((link, approval))
    }

    /// The same, with whose key made it.
    async fn read_link(&self, token: &str) -> Result<(Link, Actor, ApprovalView), Error> {
        let missing = || Error::NotFound("link", String::new());
        let link = self.links.read(token).ok_or_else(missing)?;
        if self.clock.now() >= Timestamp::from_micros(link.until) {
            return Err(Error::Forbidden("this link is over; ask for another one".to_owned()));
        }
        let maker = self.operator(&link.key_id).ok_or_else(|| {
            Error::Forbidden("the key that made this link was revoked, and the link with it".to_owned())
        })?;
        let approval = self.store.approval(&link.approval).await?.ok_or_else(missing)?;
        Ok((link, maker, self.approval_view(approval)))
    }

    /// Answers an approval by a link, in the name of the person whom it was made for.
    ///
    /// # Errors
    /// As [`App::open_link`], and when the approval is no longer pending.
    pub(crate) async fn answer_by_link(
        &self,
        token: &str,
        answer: ApprovalDecision,
    ) -> Result<ApprovalView, Error> {
        let (Link { approval, person, key_id, .. }, maker, _) = self.read_link(token).await?;
        let made_by = Some(maker.name);
        let by = Actor { key_id, name: person, role: Role::Operator, via: Via::Link, made_by };
        self.answer_approval(by, &approval, answer).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_made_here_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let signer = Signer::open(dir.path()).unwrap();
        let link = Link { approval: "apr_1".into(), person: "ann".into(), key_id: "key_1".into(), until: 7 };
        let token = signer.token(&link).unwrap();
        assert_eq!(Signer::open(dir.path()).unwrap().read(&token), Some(link.clone()), "after a restart too");
        let elsewhere = Signer([7; 32]);
        assert_eq!(elsewhere.read(&token), None);
        let (said, mac) = token.split_once('.').unwrap();
        let bob = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&Link { person: "bob".into(), ..link }).unwrap());
        for forged in [
            format!("{bob}.{mac}"),
            said.to_owned(),
            format!("{said}."),
            format!("{said}.{}", mac.get(..20).unwrap()),
            format!("{said}.{mac}A"),
            format!("{said}=.{mac}"),
            ".".to_owned(),
            String::new(),
            "x".repeat(5000),
        ] {
            assert_eq!(signer.read(&forged), None, "{forged:.60}");
        }
    }
}
