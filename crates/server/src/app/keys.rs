//! Keys: who is asking, and for whom it may ask.

use super::{
    App, Error,
    oidc::{Oidc, Person, not_a_sign_in},
};
use checkrein_api::{CreatedKey, KeyView, NewKey};
use checkrein_core::{
    approval::{Actor, Via},
    event::Event,
    fingerprint::hex,
    key::{KeyRecord, Role},
    name::{Name, Pattern},
};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter, clock::Clock as _};
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{Arc, PoisonError, RwLock},
};
use tokio::sync::{Semaphore, SemaphorePermit};

/// The id of the admin key that `CHECKREIN_ADMIN_KEY` gives.
pub const ENV_KEY_ID: &str = "key_env";

/// What a request may have for its body; each time that much more counts as one more request.
const BYTES_OF_ONE: u64 = 16 * 1024;
/// Requests of one key that wait for a person at a time.
const MAX_WAITS: usize = 256;
/// Longest name of a key, in bytes.
const MAX_KEY_NAME: usize = 128;

/// Who is asking.
pub struct Caller {
    record: KeyRecord,
    binding: Option<Pattern>,
    limiter: Option<(DefaultDirectRateLimiter, u32)>,
    /// How many more requests may wait for a person at a time.
    waits: Semaphore,
    /// Who said who it is, where that is no key.
    provider: Option<Arc<Oidc>>,
}

impl Caller {
    fn new(record: KeyRecord, agent_limit: u32) -> Result<Self, Error> {
        let binding = match (&record.agent, record.role) {
            (Some(agent), Role::Agent) => {
                Some(Pattern::new(agent).map_err(|e| Error::Invalid(format!("agent: {e}")))?)
            }
            (None, Role::Agent) => {
                return Err(Error::Invalid(
                    "an agent's key needs `agent`: the name of the agent that it speaks for, or a pattern"
                        .to_owned(),
                ));
            }
            (Some(_), _) => {
                return Err(Error::Invalid(format!(
                    "a key of role {} is bound to no agent",
                    record.role.as_str()
                )));
            }
            (None, _) => None,
        };
        let limiter = match (record.role, NonZeroU32::new(agent_limit)) {
            (Role::Agent, Some(limit)) => {
                let burst = limit.saturating_mul(NonZeroU32::new(2).unwrap_or(limit));
                Some((RateLimiter::direct(Quota::per_second(limit).allow_burst(burst)), agent_limit))
            }
            _ => None,
        };
        Ok(Self { record, binding, limiter, waits: Semaphore::new(MAX_WAITS), provider: None })
    }

    /// Somebody who signed in without a key. They see all agents and speak for none.
    pub(super) fn of_person(person: Person, provider: Arc<Oidc>) -> Self {
        let Person { id, name, role } = person;
        let record = KeyRecord { id, role, name, agent: None, sha256: String::new() };
        Self {
            record,
            binding: None,
            limiter: None,
            waits: Semaphore::new(MAX_WAITS),
            provider: Some(provider),
        }
    }

    /// The key's id.
    pub fn key_id(&self) -> &str {
        &self.record.id
    }

    /// Who is asking, for the record.
    pub fn actor(&self) -> Actor {
        Actor {
            key_id: self.record.id.clone(),
            name: self.record.name.clone(),
            role: self.record.role,
            via: if self.provider.is_some() { Via::Oidc } else { Via::Key },
            made_by: None,
        }
    }

    /// # Errors
    /// When the key's role is below `role`.
    pub fn require(&self, role: Role) -> Result<(), Error> {
        if self.record.role >= role {
            return Ok(());
        }
        let (wanted, name, has) = (role.as_str(), &self.record.name, self.record.role.as_str());
        Err(Error::Forbidden(if self.provider.is_some() {
            format!("this needs the role {wanted}; `{name}` has the role {has}")
        } else {
            format!(
                "this needs a key of role {wanted}; `{name}` has the role {has}. An admin makes one: \
                 checkrein keys create --role {wanted} --name NAME"
            )
        }))
    }

    /// # Errors
    /// When the key has asked more often than it may.
    pub(super) fn within_limit(&self) -> Result<(), Error> {
        let Some((limiter, limit)) = &self.limiter else { return Ok(()) };
        limiter.check().map_err(|until| {
            let wait = until.wait_time_from(limiter.clock().now());
            Error::TooMany { limit: *limit, retry_after_seconds: wait.as_secs() + 1 }
        })
    }

    /// Counts a long body as several requests: all of it goes into the log, which has the room that the disk has.
    ///
    /// # Errors
    /// As [`Caller::within_limit`].
    pub(crate) fn within_bytes(&self, bytes: u64) -> Result<(), Error> {
        let Some((limiter, limit)) = &self.limiter else { return Ok(()) };
        let more = u32::try_from(bytes / BYTES_OF_ONE).unwrap_or(u32::MAX).min(*limit);
        let Some(more) = NonZeroU32::new(more) else { return Ok(()) };
        let Ok(Err(until)) = limiter.check_n(more) else { return Ok(()) };
        let wait = until.wait_time_from(limiter.clock().now());
        Err(Error::TooMany { limit: *limit, retry_after_seconds: wait.as_secs() + 1 })
    }

    /// A place to wait for a person. None when this key waits in so many places that each decision would have to
    /// wake them all: then it is told how things stand, and can ask again.
    pub(super) fn may_wait(&self) -> Option<SemaphorePermit<'_>> {
        self.waits.try_acquire().ok()
    }

    /// The agent that this caller speaks for when it names `named`.
    ///
    /// # Errors
    /// When the key is bound to another agent, or to several and none is named.
    pub(super) fn agent(&self, named: Option<&str>) -> Result<Name, Error> {
        let named =
            named.map(|n| Name::new(n).map_err(|e| Error::Invalid(format!("agent: {e}")))).transpose()?;
        let agent = match (&self.binding, named) {
            (None, None) => Ok(Name::default_agent()),
            (None, Some(name)) => Ok(name),
            // All together are called by a pattern: nobody passes for them.
            (Some(_), Some(name)) if name.contains('*') => {
                Err(Error::Invalid(format!("agent: `{name}` is a pattern; say which agent it is")))
            }
            (Some(binding), Some(name)) if binding.matches(&name) => Ok(name),
            (Some(binding), Some(name)) => Err(Error::Forbidden(format!(
                "this key speaks for `{binding}`, not for `{name}`; use that agent's own key"
            ))),
            (Some(binding), None) => binding.literal().cloned().ok_or_else(|| {
                Error::Invalid(format!("this key speaks for `{binding}`; say which agent it is in `agent`"))
            }),
        }?;
        // Browsers and clients take these out of an address: nobody could look at the agent, or stop it there.
        if matches!(agent.as_str(), "." | "..") {
            return Err(Error::Invalid("agent: `.` and `..` stand for folders; use another name".to_owned()));
        }
        Ok(agent)
    }

    /// The agents that this caller sees when it asks for `asked`.
    ///
    /// # Errors
    /// When it asks for agents that its key does not speak for.
    pub(super) fn visible_agents(&self, asked: Option<Pattern>) -> Result<Option<Pattern>, Error> {
        match (&self.binding, asked) {
            (None, asked) => Ok(asked),
            (Some(binding), None) => Ok(Some(binding.clone())),
            (Some(binding), Some(asked)) if asked == *binding => Ok(Some(asked)),
            (Some(binding), Some(asked)) => match asked.literal() {
                Some(name) if binding.matches(name) => Ok(Some(asked)),
                _ => Err(Error::Forbidden(format!("this key sees the actions of `{binding}` only"))),
            },
        }
    }

    /// Whether this caller may see what `agent` did.
    pub(super) fn may_see(&self, agent: &str) -> bool {
        self.binding.as_ref().is_none_or(|binding| binding.matches(agent))
    }
}

/// The keys in force, by hash.
pub(super) struct Keys {
    by_hash: RwLock<HashMap<String, Arc<Caller>>>,
    /// By the id of each key that stands for several agents, its pattern. Those of revoked keys stay: what was asked
    /// with them may still be going on.
    patterns: RwLock<HashMap<String, Name>>,
    agent_limit: u32,
}

impl Keys {
    pub(super) fn load(records: Vec<KeyRecord>, agent_limit: u32) -> Result<Self, Error> {
        let keys = Self { by_hash: RwLock::default(), patterns: RwLock::default(), agent_limit };
        for record in records {
            keys.insert(Caller::new(record, agent_limit)?);
        }
        Ok(keys)
    }

    fn insert(&self, caller: Caller) {
        if let Some(pattern) = caller.binding.as_ref().filter(|binding| binding.literal().is_none()) {
            let mut patterns = self.patterns.write().unwrap_or_else(PoisonError::into_inner);
            patterns.insert(caller.record.id.clone(), pattern.name().clone());
        }
        let mut map = self.by_hash.write().unwrap_or_else(PoisonError::into_inner);
        map.insert(caller.record.sha256.clone(), Arc::new(caller));
    }

    /// The pattern of the key with this id, where it stands for several agents.
    pub(super) fn pattern(&self, id: &str) -> Option<Name> {
        self.patterns.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// All of these.
    pub(super) fn patterns(&self) -> HashMap<String, Name> {
        self.patterns.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn all(&self) -> Vec<KeyRecord> {
        let map = self.by_hash.read().unwrap_or_else(PoisonError::into_inner);
        let mut records: Vec<_> = map.values().map(|c| c.record.clone()).collect();
        records.sort_by(|a, b| a.id.cmp(&b.id));
        records
    }
}

/// SHA-256 of a whole key. Keys are random, so equal time matters only for the hash, and a hash tells
/// nothing about the key.
fn hash(key: &str) -> String {
    hex(&Sha256::digest(key.as_bytes()))
}

/// A fresh key: `ck_<role>_` and 256 random bits.
fn generate(role: Role) -> Result<String, Error> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes)
        .map_err(|e| Error::NotRecorded(format!("this machine gives no random numbers for a key: {e}")))?;
    Ok(format!("ck_{}_{}", role.as_str(), hex(&bytes)))
}

impl App {
    /// Who holds `key`.
    ///
    /// # Errors
    /// When nobody does.
    pub fn caller(&self, key: &str) -> Result<Arc<Caller>, Error> {
        let map = self.keys.by_hash.read().unwrap_or_else(PoisonError::into_inner);
        map.get(&hash(key)).cloned().ok_or(Error::Unauthenticated(
            "this key is not known here; it may have been revoked, or belongs to another server. An admin sees \
             which there are: checkrein keys list",
        ))
    }

    /// Whether the caller's key has not been revoked since, or who they are comes from the provider in force.
    pub(crate) fn in_force(&self, caller: &Caller) -> bool {
        if let Some(provider) = &caller.provider {
            return self.oidc().is_some_and(|current| Arc::ptr_eq(&current, provider));
        }
        let map = self.keys.by_hash.read().unwrap_or_else(PoisonError::into_inner);
        map.get(&caller.record.sha256).is_some_and(|c| c.record.id == caller.record.id)
    }

    /// The operator or admin whose key has this id, if it is in force.
    pub(super) fn operator(&self, key_id: &str) -> Option<Actor> {
        let map = self.keys.by_hash.read().unwrap_or_else(PoisonError::into_inner);
        map.values().find(|c| c.record.id == key_id && c.record.role >= Role::Operator).map(|c| c.actor())
    }

    /// Makes sure that there is an admin key: the one that the operator gave, or else, if there is none at
    /// all, a new one, which is returned to be shown once.
    ///
    /// # Errors
    /// When it cannot be recorded.
    pub async fn ensure_admin_key(&self, given: Option<&str>) -> Result<Option<String>, Error> {
        let records = self.keys.all();
        if let Some(key) = given {
            let record = KeyRecord {
                id: ENV_KEY_ID.to_owned(),
                role: Role::Admin,
                name: "CHECKREIN_ADMIN_KEY".to_owned(),
                agent: None,
                sha256: hash(key),
            };
            match records.iter().find(|r| r.id == ENV_KEY_ID) {
                Some(before) if *before == record => {}
                before => {
                    if before.is_some() {
                        self.forget_key(ENV_KEY_ID, None).await?;
                    }
                    self.add_key(record, None).await?;
                }
            }
            return Ok(None);
        }
        // A key that the environment gave once and no longer gives must not live on.
        if records.iter().any(|r| r.id == ENV_KEY_ID) {
            self.forget_key(ENV_KEY_ID, None).await?;
        }
        if records.iter().any(|r| r.role == Role::Admin && r.id != ENV_KEY_ID) {
            return Ok(None);
        }
        let created = self
            .make_key(NewKey { role: Role::Admin, name: "first admin".to_owned(), agent: None }, None)
            .await?;
        Ok(Some(created.key))
    }

    /// Makes a key.
    ///
    /// # Errors
    /// When the request makes no sense or cannot be recorded.
    pub async fn create_key(&self, by: &Caller, new: NewKey) -> Result<CreatedKey, Error> {
        self.make_key(new, Some(by.actor())).await
    }

    async fn make_key(&self, new: NewKey, by: Option<Actor>) -> Result<CreatedKey, Error> {
        let name = new.name.trim();
        if name.is_empty()
            || name.len() > MAX_KEY_NAME
            || name.chars().any(checkrein_core::name::is_invisible)
        {
            return Err(Error::Invalid(format!(
                "name: 1 to {MAX_KEY_NAME} bytes without invisible characters, so that people know whose key it is"
            )));
        }
        not_a_sign_in("name", name)?;
        let key = generate(new.role)?;
        let record = KeyRecord {
            id: format!("key_{}", uuid::Uuid::now_v7().simple()),
            role: new.role,
            name: name.to_owned(),
            agent: new.agent,
            sha256: hash(&key),
        };
        self.add_key(record.clone(), by).await?;
        Ok(CreatedKey { id: record.id, key, role: record.role, name: record.name, agent: record.agent })
    }

    async fn add_key(&self, record: KeyRecord, by: Option<Actor>) -> Result<(), Error> {
        let caller = Caller::new(record.clone(), self.keys.agent_limit)?;
        self.append(vec![Event::KeyCreated { key: record, by }]).await?;
        self.keys.insert(caller);
        Ok(())
    }

    /// The keys in force, without their secrets.
    pub fn list_keys(&self) -> Vec<KeyView> {
        self.keys
            .all()
            .into_iter()
            .map(|r| KeyView { id: r.id, role: r.role, name: r.name, agent: r.agent })
            .collect()
    }

    /// Revokes a key.
    ///
    /// # Errors
    /// When there is none, or it is the last admin key.
    pub async fn revoke_key(&self, by: &Caller, id: &str) -> Result<(), Error> {
        // One after the other, or two admins who revoke each other at once would leave none.
        let _one_at_a_time = self.changing.lock().await;
        let records = self.keys.all();
        let Some(record) = records.iter().find(|r| r.id == id) else {
            // Dead here, but perhaps not on record: then its revocation could not be recorded before.
            if self.store.keys().await?.iter().any(|r| r.id == id) {
                return self.forget_key(id, Some(by.actor())).await;
            }
            return Err(Error::NotFound("key", id.chars().take(64).collect()));
        };
        let admins = records.iter().filter(|r| r.role == Role::Admin).count();
        if record.role == Role::Admin && admins == 1 {
            return Err(Error::Conflict(
                "this is the last admin key; make another one first, or nobody could change anything"
                    .to_owned(),
            ));
        }
        if id == ENV_KEY_ID {
            return Err(Error::Conflict(
                "this key comes from CHECKREIN_ADMIN_KEY; unset it there and restart the server".to_owned(),
            ));
        }
        self.forget_key(id, Some(by.actor())).await
    }

    /// The key stops working before its revocation is on record: if recording fails, it stays dead until
    /// the next start, which is the safe side, and can be revoked again.
    async fn forget_key(&self, id: &str, by: Option<Actor>) -> Result<(), Error> {
        self.keys.by_hash.write().unwrap_or_else(PoisonError::into_inner).retain(|_, c| c.record.id != id);
        self.append(vec![Event::KeyRevoked { id: id.to_owned(), by }]).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(role: Role, agent: Option<&str>) -> Caller {
        let record = KeyRecord {
            id: "key_1".into(),
            role,
            name: "n".into(),
            agent: agent.map(str::to_owned),
            sha256: hash("secret"),
        };
        Caller::new(record, 2).unwrap()
    }

    #[test]
    fn an_agents_key_speaks_for_its_agent_only() {
        let one = caller(Role::Agent, Some("billing-bot"));
        assert_eq!(one.agent(None).unwrap().as_str(), "billing-bot");
        assert_eq!(one.agent(Some("Billing-Bot")).unwrap().as_str(), "billing-bot");
        assert!(matches!(one.agent(Some("admin-bot")), Err(Error::Forbidden(_))));
        assert!(matches!(one.agent(Some("billing-bot\u{200B}")), Err(Error::Invalid(_))));
        let many = caller(Role::Agent, Some("billing-*"));
        assert!(matches!(many.agent(None), Err(Error::Invalid(_))));
        assert_eq!(many.agent(Some("billing-2")).unwrap().as_str(), "billing-2");
        for pattern in ["billing-*", "billing-1*", "*"] {
            assert!(matches!(many.agent(Some(pattern)), Err(Error::Invalid(_))), "{pattern}");
        }
        assert!(!many.may_see("support-1"));
        let any = caller(Role::Agent, Some("*"));
        assert!(
            [".", "..", " .. "].iter().all(|name| matches!(any.agent(Some(name)), Err(Error::Invalid(_))))
        );
        assert!(matches!(caller(Role::Agent, Some("..")).agent(None), Err(Error::Invalid(_))));
        let operator = caller(Role::Operator, None);
        assert_eq!(operator.agent(None).unwrap().as_str(), "default");
        assert_eq!(operator.agent(Some("anyone")).unwrap().as_str(), "anyone");
    }

    #[test]
    fn an_agents_key_is_bound_and_limited() {
        let record = |role, agent: Option<&str>| KeyRecord {
            id: "k".into(),
            role,
            name: "n".into(),
            agent: agent.map(str::to_owned),
            sha256: String::new(),
        };
        assert!(Caller::new(record(Role::Agent, None), 0).is_err());
        assert!(Caller::new(record(Role::Admin, Some("x")), 0).is_err());
        let agent = caller(Role::Agent, Some("a"));
        let refused = (0..10).filter(|_| agent.within_limit().is_err()).count();
        assert_eq!(refused, 6, "2 a second with a burst of 4");
        let long = caller(Role::Agent, Some("a"));
        assert!((0..100).all(|_| long.within_bytes(BYTES_OF_ONE - 1).is_ok()), "short bodies cost nothing");
        let refused = (0..10).filter(|_| long.within_bytes(64 * BYTES_OF_ONE).is_err()).count();
        assert_eq!(refused, 8, "2 a second with a burst of 4, and no body counts for more than a second's");
        let waiting: Vec<_> = (0..MAX_WAITS).map(|_| agent.may_wait()).collect();
        assert!(waiting.iter().all(Option::is_some) && agent.may_wait().is_none());
        drop(waiting);
        assert!(agent.may_wait().is_some());
        let admin = caller(Role::Admin, None);
        assert!((0..10).all(|_| admin.within_limit().is_ok()));
        assert!(agent.require(Role::Operator).is_err());
        assert!(admin.require(Role::Operator).is_ok());
    }

    #[test]
    fn keys_are_random_and_named_after_their_role() {
        let (a, b) = (generate(Role::Agent).unwrap(), generate(Role::Agent).unwrap());
        assert_ne!(a, b);
        assert!(a.starts_with("ck_agent_") && a.len() == 9 + 64);
    }
}
