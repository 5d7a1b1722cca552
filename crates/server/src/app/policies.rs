//! Policies through the API: each change is validated with the whole set, put on record, then in force.

use super::{App, Caller, Error, Rules, rules};
use checkrein_api::{PolicyChanges, PolicyList, ReplayRequest};
use checkrein_core::{
    approval::Actor,
    event::{Checked, Event},
    policy::{
        Facts, Policy, PolicySet, parse_list,
        replay::{Replay, ReplayReport},
    },
    time::Timestamp,
};
use checkrein_store::{EntryFilter, StoreError};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    sync::{PoisonError, atomic::Ordering},
};

/// Checks read at a time when the past is replayed.
const PAGE: usize = 500;

/// What putting one policy did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is new.
    Created,
    /// It was there with other content.
    Replaced,
    /// It was there already.
    Unchanged,
}

impl App {
    /// The policies in force.
    pub fn list_policies(&self) -> PolicyList {
        let rules = self.rules();
        PolicyList {
            policies: rules.policies.policies().iter().map(Policy::to_value).collect(),
            sources: rules.sources(),
        }
    }

    /// One policy in force.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn policy(&self, name: &str) -> Result<Value, Error> {
        let rules = self.rules();
        let found = rules.policies.policies().iter().find(|p| p.name == name);
        found.map(Policy::to_value).ok_or_else(|| no_policy(name))
    }

    /// Creates a policy. The same content again is no error; other content under a used name is.
    ///
    /// # Errors
    /// When it does not compile together with the others, or the name is taken.
    pub async fn create_policy(&self, by: &Caller, value: &Value) -> Result<Put, Error> {
        self.put_policy(by, Policy::parse(value)?, false).await
    }

    /// Creates or replaces the policy `name`.
    ///
    /// # Errors
    /// When it does not compile together with the others, or comes from a file.
    pub async fn replace_policy(&self, by: &Caller, name: &str, value: &Value) -> Result<Put, Error> {
        let policy = Policy::parse(value)?;
        if policy.name != name {
            return Err(Error::Invalid(format!(
                "the policy's name is `{}`, the path says `{name}`",
                policy.name
            )));
        }
        self.put_policy(by, policy, true).await
    }

    async fn put_policy(&self, by: &Caller, policy: Policy, replace: bool) -> Result<Put, Error> {
        let _one_at_a_time = self.changing.lock().await;
        let rules = self.rules();
        if let Some(file) = rules.file_of(&policy.name) {
            let same = rules.from_files.iter().any(|(p, _)| *p == policy);
            return if same { Ok(Put::Unchanged) } else { Err(from_file(&policy.name, file)) };
        }
        let put = match rules.from_api.get(&policy.name) {
            Some(before) if *before == policy => return Ok(Put::Unchanged),
            Some(_) if !replace => {
                return Err(Error::Conflict(format!(
                    "a policy `{0}` with other content exists; replace it with PUT /v1/policies/{0}, or choose another name",
                    policy.name
                )));
            }
            Some(_) => Put::Replaced,
            None => Put::Created,
        };
        let mut from_api = rules.from_api.clone();
        from_api.insert(policy.name.clone(), policy.clone());
        self.change(&rules, from_api, vec![put_event(&policy, &by.actor())]).await?;
        Ok(put)
    }

    /// Deletes a policy.
    ///
    /// # Errors
    /// When there is none, it comes from a file, or the others do not compile without it.
    pub async fn delete_policy(&self, by: &Caller, name: &str) -> Result<(), Error> {
        let _one_at_a_time = self.changing.lock().await;
        let rules = self.rules();
        if let Some(file) = rules.file_of(name) {
            return Err(from_file(name, file));
        }
        let mut from_api = rules.from_api.clone();
        if from_api.remove(name).is_none() {
            return Err(no_policy(name));
        }
        let event = Event::PolicyDeleted { name: name.to_owned(), by: by.actor() };
        self.change(&rules, from_api, vec![event]).await
    }

    /// Puts a whole set in place of all that came through the API: all of it, or nothing.
    ///
    /// # Errors
    /// When the set does not compile, or holds a file's policy with other content.
    pub async fn apply_policies(&self, by: &Caller, values: &Value) -> Result<PolicyChanges, Error> {
        let wanted = parse_list(values)?;
        let _one_at_a_time = self.changing.lock().await;
        let rules = self.rules();
        let (mut changes, mut events, mut from_api) = (PolicyChanges::default(), Vec::new(), BTreeMap::new());
        for policy in wanted {
            let name = policy.name.clone();
            if let Some(file) = rules.file_of(&name) {
                if rules.from_files.iter().any(|(p, _)| *p == policy) {
                    changes.unchanged.push(name);
                    continue;
                }
                return Err(from_file(&name, file));
            }
            let list = match rules.from_api.get(&name) {
                Some(before) if *before == policy => &mut changes.unchanged,
                Some(_) => {
                    events.push(put_event(&policy, &by.actor()));
                    &mut changes.replaced
                }
                None => {
                    events.push(put_event(&policy, &by.actor()));
                    &mut changes.created
                }
            };
            list.push(name.clone());
            if from_api.insert(name.clone(), policy).is_some() {
                return Err(Error::Invalid(format!("the set holds two policies `{name}`")));
            }
        }
        for name in rules.from_api.keys().filter(|name| !from_api.contains_key(*name)) {
            changes.deleted.push(name.clone());
            events.push(Event::PolicyDeleted { name: name.clone(), by: by.actor() });
        }
        if !events.is_empty() {
            self.change(&rules, from_api, events).await?;
        }
        Ok(changes)
    }

    /// Compile, record, swap: a set that does not compile or cannot be recorded changes nothing.
    async fn change(
        &self,
        rules: &Rules,
        from_api: BTreeMap<String, Policy>,
        events: Vec<Event>,
    ) -> Result<(), Error> {
        let next = rules.with_api(from_api)?;
        let recorded = self.append(events).await;
        if matches!(recorded, Err(Error::InDoubt(_))) {
            self.policies_in_doubt.store(true, Ordering::Relaxed);
        }
        recorded?;
        self.put_in_force(next);
        Ok(())
    }

    /// After a change that may or may not be on record: puts into force what is.
    pub(super) async fn settle_policies(&self) -> Result<(), Error> {
        if !self.policies_in_doubt.load(Ordering::Relaxed) {
            return Ok(());
        }
        let _one_at_a_time = self.changing.lock().await;
        let rules = self.rules();
        // Entries are written in order: once this one is on record, the change is, or never will be.
        self.append(vec![rules.loaded_event()]).await?;
        self.put_in_force(rules.with_api(rules::by_name(self.store.policies().await?)?)?);
        self.policies_in_doubt.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Puts a new configuration's catalogue and file policies into force.
    ///
    /// # Errors
    /// When they do not compile or cannot be recorded; the ones before stay in force then.
    pub async fn reload(&self, config: &crate::config::Config) -> Result<(), Error> {
        let _one_at_a_time = self.changing.lock().await;
        let next = self.rules().reloaded(config)?;
        self.append(vec![next.loaded_event()]).await?;
        self.put_in_force(next);
        self.reload_oidc(config.oidc.as_ref());
        self.reload_sinks(config).await
    }

    /// Judges the recorded past with a candidate set (or the one in force) and tells what would differ.
    ///
    /// # Errors
    /// When the candidates do not compile or the log cannot be read.
    pub async fn replay(&self, request: ReplayRequest) -> Result<ReplayReport, Error> {
        let policies = match &request.policies {
            Some(values) => parse_list(&Value::Array(values.clone()))?,
            None => self.rules().policies.policies().to_vec(),
        };
        let mut replay = Replay::new(PolicySet::compile(policies)?);
        let checks_only = checks_since(request.since);
        let (until, mut after) = (request.until, 0);
        loop {
            let entries = self.store.entries(after, PAGE, checks_only.clone()).await?;
            let Some(last) = entries.last() else { break };
            after = last.seq;
            for entry in &entries {
                if until.is_some_and(|until| entry.at >= until) {
                    return Ok(replay.finish());
                }
                if let Ok(Event::Check(checked)) = Event::from_parts(&entry.kind, &entry.body) {
                    replay.feed(&checked);
                }
            }
        }
        Ok(replay.finish())
    }

    /// Fills the windows of `rate_exceeds` from the log, so that a restart forgets nothing.
    pub(super) async fn warm_windows(&self) -> Result<(), Error> {
        let rules = self.rules();
        let set: &PolicySet = &rules.policies;
        let Some(period) = set.needs().rate_period_seconds else { return Ok(()) };
        let since = self.clock.now().plus_seconds(-i64::from(period));
        let recent = checks_since(Some(since));
        let mut after = 0;
        // Page by page and oldest first: a period may hold more checks than fit into memory.
        loop {
            let entries = self.store.entries(after, PAGE, recent.clone()).await?;
            let Some(last) = entries.last() else { break };
            after = last.seq;
            let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
            for entry in &entries {
                let checked: Checked = serde_json::from_str(&entry.body)
                    .map_err(|e| StoreError::Entry { seq: entry.seq, cause: e.to_string() })?;
                let facts = Facts::of(&checked.action, checked.check.details(), checked.decision.logged_at);
                set.observe(&facts, &mut windows);
            }
        }
        Ok(())
    }
}

fn checks_since(since: Option<Timestamp>) -> EntryFilter {
    EntryFilter { kinds: vec!["check".to_owned()], since, ..EntryFilter::default() }
}

fn put_event(policy: &Policy, by: &Actor) -> Event {
    Event::PolicyPut { name: policy.name.clone(), policy: policy.to_value(), by: by.clone() }
}

fn no_policy(name: &str) -> Error {
    Error::NotFound("policy", name.chars().take(128).collect())
}

fn from_file(name: &str, file: &str) -> Error {
    Error::Conflict(format!(
        "the policy `{name}` comes from {file} and is read-only here; change it there and reload"
    ))
}
