//! A person's answer to a hold: a pure state machine.
//!
//! ```text
//! pending ─► approved ─► (used once, by one check)
//!    │           ├─────► expired   nobody used it in time
//!    │           └─────► withdrawn
//!    ├─────► denied
//!    ├─────► expired               nobody answered in time: not a "no"
//!    └─────► withdrawn
//! ```
//! An approval is bound to the [`Fingerprint`] of one exact action and lets exactly one check through. Where
//! several people must approve, it stays pending until the last of them has; one "no" settles it.

use crate::{
    action::Action, check::Check, decision::BlastRadius, fingerprint::Fingerprint, key::Role, name::Name,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

/// Where an approval stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nobody has answered.
    Pending,
    /// A person said yes.
    Approved,
    /// A person said no.
    Denied,
    /// Time ran out, before an answer or before its use. Not a person's "no".
    Expired,
    /// The agent gave up waiting.
    Withdrawn,
}

impl State {
    /// The word for it, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// A person's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// Yes.
    Approve,
    /// No.
    Deny,
}

/// Comments that one approval holds at most.
pub const MAX_COMMENTS: usize = 100;

/// How a person was recognised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// By a key of their own.
    #[default]
    Key,
    /// By Slack, which signed their click.
    Slack,
    /// By a signed link that was made for them.
    Link,
    /// By signing in with the organisation's provider of OpenID Connect.
    Oidc,
}

impl Via {
    /// The word for it, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Slack => "slack",
            Self::Link => "link",
            Self::Oidc => "oidc",
        }
    }

    const fn is_key(&self) -> bool {
        matches!(self, Self::Key)
    }
}

/// What the name of everybody who signed in by OpenID Connect begins with, on record and in messages. No key has a name
/// that begins so: nobody can be called what another is called who was recognised otherwise.
pub const OIDC_PREFIX: &str = "oidc:";

/// Whether `name` looks like that of somebody who signed in by OpenID Connect.
pub fn is_oidc_name(name: &str) -> bool {
    name.trim_start().get(..OIDC_PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(OIDC_PREFIX))
}

/// Who answered: from the key, the signed click, the signed link or the sign-in, never from a request's body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Actor {
    /// The key's id. By Slack: `slack:<workspace>/<user>`. By a link: the id of the key that made the link. By OpenID
    /// Connect: `oidc:<issuer>#<subject>`.
    pub key_id: String,
    /// What people call it. By OpenID Connect: `oidc:<name>`.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// How they were recognised; absent for a key.
    #[serde(skip_serializing_if = "Via::is_key", default)]
    #[cfg_attr(feature = "schema", schema(required = false))]
    pub via: Via,
    /// By a link: the name of the key that made it, who could have opened it as well.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "schema", schema(required = false))]
    pub made_by: Option<String>,
}

impl Actor {
    /// Whether both may be one person: they share a name, or one key stands behind both. Ann is one person
    /// whether she uses her key, Slack or the organisation's sign-in, and whoever makes links can open them: a link is
    /// also whoever made it. Where one of them signed in by OpenID Connect and the other did not, what stands before an
    /// `@` is compared: `ann` has the key, and `oidc:ann@example.com` signed in.
    pub fn may_be(&self, other: &Self) -> bool {
        let one_signed_in = (self.via == Via::Oidc) != (other.via == Via::Oidc);
        let same = |mine: &str, theirs: &str| {
            same_name(mine, theirs) || (one_signed_in && same_name(mailbox(mine), mailbox(theirs)))
        };
        self.key_id == other.key_id || self.names().any(|mine| other.names().any(|theirs| same(mine, theirs)))
    }

    /// What everybody is called who may stand behind it.
    fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.person()).chain(self.made_by.as_deref())
    }

    /// The name, without what says how they were recognised.
    fn person(&self) -> &str {
        match self.via {
            Via::Oidc => self.name.strip_prefix(OIDC_PREFIX).unwrap_or(&self.name),
            _ => &self.name,
        }
    }
}

fn same_name(a: &str, b: &str) -> bool {
    match (Name::new(a), Name::new(b)) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    }
}

/// `ann` of `ann@example.com`, and of `ann`.
fn mailbox(name: &str) -> &str {
    name.split_once('@').map_or(name, |(mailbox, _)| mailbox)
}

/// One of several people's yes, while others are still to be heard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Given {
    /// Who.
    pub by: Actor,
    /// When.
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub at: Timestamp,
    /// What they said about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "schema", schema(required = false))]
    pub comment: Option<String>,
}

/// What somebody said without answering.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Comment {
    /// Who.
    pub by: Actor,
    /// When.
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub at: Timestamp,
    /// What.
    pub text: String,
}

/// A request for a person's answer, and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Approval {
    /// `apr_…`.
    pub id: String,
    /// The check that was held.
    pub check_id: String,
    /// The key that asked; empty in logs from before it was recorded.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub asked_by: String,
    /// The exact action that this is bound to.
    pub fingerprint: Fingerprint,
    /// What was asked, as it was sent.
    pub check: Check,
    /// What it was taken for.
    pub action: Action,
    /// What it would affect.
    pub blast_radius: BlastRadius,
    /// The policies that ask for this approval.
    pub policies: Vec<String>,
    /// One sentence: why a person is asked.
    pub reason: String,
    /// How many people must approve.
    #[serde(skip_serializing_if = "is_one", default = "one")]
    pub approvals: u8,
    /// Where it stands.
    pub state: State,
    /// Since when it waits.
    pub requested_at: Timestamp,
    /// When it expires, answered or not, unless it has been used.
    pub expires_at: Timestamp,
    /// Who approved before the one who settled it.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub given: Vec<Given>,
    /// Who settled it: the last one needed to approve, or the first to deny.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub decided_by: Option<Actor>,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub decided_at: Option<Timestamp>,
    /// What they said about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub comment: Option<String>,
    /// The check that it let through.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub used_by: Option<String>,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub used_at: Option<Timestamp>,
    /// What people said besides, oldest first; at most [`MAX_COMMENTS`].
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub comments: Vec<Comment>,
}

const fn one() -> u8 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference over")]
const fn is_one(n: &u8) -> bool {
    *n == 1
}

/// Something that happens to an approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "transition")]
pub enum Transition {
    /// A person answers.
    Decide {
        /// Yes or no.
        decision: Answer,
        /// Who.
        by: Actor,
        /// What they say about it.
        comment: Option<String>,
    },
    /// Its time is over.
    Expire,
    /// A check is let through by it.
    Use {
        /// Which check.
        check_id: String,
        /// What that check asks for.
        fingerprint: Fingerprint,
    },
    /// The agent no longer waits.
    Withdraw {
        /// The key that gave up.
        by: Actor,
    },
    /// Somebody says something without answering.
    Comment {
        /// Who.
        by: Actor,
        /// What.
        text: String,
    },
    /// A signed link is made by which a person can answer.
    Link {
        /// For whom.
        person: String,
        /// Who made it.
        by: Actor,
        /// Until when it can be used.
        until: Timestamp,
    },
}

/// Why something cannot happen to an approval.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It was answered, expired or withdrawn before.
    #[error("the approval is already {}", .0.as_str())]
    Settled(State),
    /// Its time is over, though nobody has said so yet.
    #[error("the approval expired at {0}")]
    Late(Timestamp),
    /// Its time is not over.
    #[error("the approval expires only at {0}")]
    Early(Timestamp),
    /// Agents do not approve.
    #[error("an agent's key cannot decide an approval; use an operator's key")]
    Agent,
    /// It let another check through.
    #[error("the approval was already used by {0}")]
    Used(String),
    /// The check asks for something else.
    #[error("the approval is for another action; the one that was approved has changed")]
    OtherAction,
    /// Nobody approved it.
    #[error("the approval is {}, not approved", .0.as_str())]
    NotApproved(State),
    /// Another person is needed.
    #[error(
        "{0} approved it already; somebody else must approve it as well, with a key and a name of their own"
    )]
    SamePerson(String),
    /// Where several people must approve, whoever asked is none of them.
    #[error("{0} asked for this action and is none of the people who can approve it")]
    Asker(String),
    /// There is no room for more comments.
    #[error("the approval has {MAX_COMMENTS} comments, the most that it keeps")]
    Comments,
}

impl Approval {
    /// The approval after `transition` at `now`.
    ///
    /// # Errors
    /// When the transition is not permitted from where it stands. Nothing changes then.
    pub fn after(&self, transition: &Transition, now: Timestamp) -> Result<Self, Refused> {
        let mut next = self.clone();
        match transition {
            Transition::Decide { decision, by, comment } => {
                if by.role == Role::Agent {
                    return Err(Refused::Agent);
                }
                self.pending_at(now)?;
                if *decision == Answer::Approve && self.approvals > 1 {
                    if by.key_id == self.asked_by {
                        return Err(Refused::Asker(by.name.clone()));
                    }
                    if let Some(before) = self.given.iter().find(|given| given.by.may_be(by)) {
                        return Err(Refused::SamePerson(before.by.name.clone()));
                    }
                    if self.given.len() + 1 < usize::from(self.approvals) {
                        next.given.push(Given { by: by.clone(), at: now, comment: comment.clone() });
                        return Ok(next);
                    }
                }
                next.state = match decision {
                    Answer::Approve => State::Approved,
                    Answer::Deny => State::Denied,
                };
                next.decided_by = Some(by.clone());
                next.decided_at = Some(now);
                next.comment.clone_from(comment);
            }
            Transition::Expire => {
                if !self.open() {
                    return Err(self.settled());
                }
                if now < self.expires_at {
                    return Err(Refused::Early(self.expires_at));
                }
                next.state = State::Expired;
            }
            Transition::Use { check_id, fingerprint } => {
                if let Some(user) = &self.used_by {
                    return Err(Refused::Used(user.clone()));
                }
                if self.state != State::Approved {
                    return Err(Refused::NotApproved(self.state));
                }
                if now >= self.expires_at {
                    return Err(Refused::Late(self.expires_at));
                }
                if *fingerprint != self.fingerprint {
                    return Err(Refused::OtherAction);
                }
                next.used_by = Some(check_id.clone());
                next.used_at = Some(now);
            }
            Transition::Withdraw { .. } => {
                if !self.open() {
                    return Err(self.settled());
                }
                next.state = State::Withdrawn;
            }
            Transition::Comment { by, text } => {
                if by.role == Role::Agent {
                    return Err(Refused::Agent);
                }
                if self.comments.len() >= MAX_COMMENTS {
                    return Err(Refused::Comments);
                }
                next.comments.push(Comment { by: by.clone(), at: now, text: text.clone() });
            }
            Transition::Link { .. } => self.pending_at(now)?,
        }
        Ok(next)
    }

    /// Whether something can still come of it: waiting for an answer, or approved and not yet used.
    pub fn open(&self) -> bool {
        match self.state {
            State::Pending => true,
            State::Approved => self.used_by.is_none(),
            State::Denied | State::Expired | State::Withdrawn => false,
        }
    }

    /// How many people have approved.
    pub fn approved_by_people(&self) -> usize {
        self.given.len() + usize::from(self.state == State::Approved)
    }

    fn pending_at(&self, now: Timestamp) -> Result<(), Refused> {
        if self.state != State::Pending {
            return Err(self.settled());
        }
        if now >= self.expires_at {
            return Err(Refused::Late(self.expires_at));
        }
        Ok(())
    }

    fn settled(&self) -> Refused {
        self.used_by.clone().map_or(Refused::Settled(self.state), Refused::Used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actor(key_id: &str, name: &str, via: Via) -> Actor {
        Actor { key_id: key_id.to_owned(), name: name.to_owned(), role: Role::Operator, via, made_by: None }
    }

    fn link(key_id: &str, name: &str, made_by: &str) -> Actor {
        Actor { made_by: Some(made_by.to_owned()), ..actor(key_id, name, Via::Link) }
    }

    #[test]
    fn one_person_is_one_person_however_they_are_recognised() {
        let signed_in = actor("oidc:https://idp#1", "oidc:Ann@example.com", Via::Oidc);
        for same in [
            actor("key_1", "ann@EXAMPLE.com", Via::Key),
            actor("key_1", "ann", Via::Key),
            actor("slack:T1/U1", "ann@example.com", Via::Slack),
            actor("key_9", "ANN", Via::Link),
            actor("oidc:https://idp#1", "oidc:married@example.com", Via::Oidc),
            actor("oidc:https://idp#2", "oidc:ann@example.com", Via::Oidc),
        ] {
            assert!(signed_in.may_be(&same) && same.may_be(&signed_in), "{same:?}");
        }
        for other in [
            actor("key_1", "bob@example.com", Via::Key),
            actor("key_1", "example.com", Via::Key),
            actor("oidc:https://idp#2", "oidc:ann@example.org", Via::Oidc),
        ] {
            assert!(!signed_in.may_be(&other) && !other.may_be(&signed_in), "{other:?}");
        }
        assert!(!actor("1", "ann@a", Via::Key).may_be(&actor("2", "ann@b", Via::Key)));
        assert!(is_oidc_name("oidc:ann") && is_oidc_name(" OIDC:ann") && !is_oidc_name("oidcann"));
        assert!(!is_oidc_name("") && !is_oidc_name("öidc:"));
    }

    #[test]
    fn a_link_is_also_whoever_made_it() {
        let ann_for_bob = link("key_1", "bob", "ann");
        for same in [
            actor("oidc:https://idp#1", "oidc:ANN@example.com", Via::Oidc),
            actor("oidc:https://idp#2", "oidc:bob@example.com", Via::Oidc),
            actor("slack:T1/U1", "ann", Via::Slack),
            actor("key_2", "Ann", Via::Key),
            actor("key_3", "bob", Via::Key),
            link("key_2", "cid", "ann"),
            link("key_3", "ann", "dora"),
            link("key_3", "cid", "bob"),
        ] {
            assert!(ann_for_bob.may_be(&same) && same.may_be(&ann_for_bob), "{same:?}");
        }
        for other in [
            actor("oidc:https://idp#3", "oidc:cid@example.com", Via::Oidc),
            actor("key_4", "cid", Via::Key),
            link("key_4", "dora", "cid"),
        ] {
            assert!(!ann_for_bob.may_be(&other) && !other.may_be(&ann_for_bob), "{other:?}");
        }
        // What was logged before is read, and written as it was.
        let before = r#"{"key_id":"key_1","name":"bob","role":"operator","via":"link"}"#;
        let read: Actor = serde_json::from_str(before).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), before);
    }
}
