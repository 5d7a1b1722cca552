//! What agents share: the prior of their group, and the breakers of groups and of everything.

use super::{agent::By, words};
use checkrein_core::drift::{
    Group,
    breaker::{Breaker, BreakerChange, Change, Rules, Scope, State},
};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

/// The group of all agents that the configuration puts into no other. No group can be called so.
const NO_GROUP: &str = "";

/// What is known of the actions of a group.
pub(super) struct Prior {
    group: Mutex<Group>,
    dirty: AtomicBool,
}

impl Prior {
    fn new(group: Group) -> Arc<Self> {
        Arc::new(Self { group: Mutex::new(group), dirty: AtomicBool::new(false) })
    }

    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Group) -> T) -> T {
        let mut group = self.group.lock().unwrap_or_else(PoisonError::into_inner);
        self.dirty.store(true, Ordering::Relaxed);
        work(&mut group)
    }
}

/// A breaker that several agents share. Only persons open these: what one agent does must not stop its
/// colleagues.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) breaker: Breaker,
    pub(super) revision: u64,
    pub(super) why: String,
}

/// All that agents share.
#[derive(Default)]
pub(super) struct Groups {
    priors: Mutex<HashMap<String, Arc<Prior>>>,
    breakers: RwLock<HashMap<Scope, Shared>>,
    /// How many of them are open: on the way of a check, nearly always 0.
    open: AtomicUsize,
}

impl Groups {
    pub(super) fn prior(&self, group: Option<&str>) -> Arc<Prior> {
        let mut priors = self.priors.lock().unwrap_or_else(PoisonError::into_inner);
        let prior = priors.entry(group.unwrap_or(NO_GROUP).to_owned());
        Arc::clone(prior.or_insert_with(|| Prior::new(Group::new())))
    }

    /// Takes over what was kept. One that cannot be read begins anew: its members only lose what they knew of
    /// each other.
    pub(super) fn restore(&self, saved: Vec<(String, Vec<u8>)>) {
        let mut priors = self.priors.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, body) in saved {
            match Group::restore(&body) {
                Ok(group) => {
                    priors.insert(name, Prior::new(group));
                }
                Err(error) => {
                    tracing::warn!(group = %name.escape_debug(), %error, "what a group has in common begins anew");
                }
            }
        }
    }

    /// Takes over what was learnt anew.
    pub(super) fn replace(&self, groups: HashMap<String, Group>) {
        for (name, group) in groups {
            let prior = self.prior(Some(&name).filter(|name| !name.is_empty()).map(String::as_str));
            prior.with(|known| *known = group);
        }
    }

    /// What changed since the last time, to be kept.
    pub(super) fn to_keep(&self) -> Vec<(String, Vec<u8>)> {
        let priors = self.priors.lock().unwrap_or_else(PoisonError::into_inner);
        priors
            .iter()
            .filter(|(_, prior)| prior.dirty.swap(false, Ordering::Relaxed))
            .map(|(name, prior)| {
                (name.clone(), prior.group.lock().unwrap_or_else(PoisonError::into_inner).save())
            })
            .collect()
    }

    /// It could not be kept.
    pub(super) fn not_kept(&self, names: &[(String, Vec<u8>)]) {
        let priors = self.priors.lock().unwrap_or_else(PoisonError::into_inner);
        for prior in names.iter().filter_map(|(name, _)| priors.get(name)) {
            prior.dirty.store(true, Ordering::Relaxed);
        }
    }

    /// Sets a breaker as it is on record.
    pub(super) fn put(&self, scope: Scope, shared: Shared) {
        let mut breakers = self.breakers.write().unwrap_or_else(PoisonError::into_inner);
        breakers.insert(scope, shared);
        self.count(&breakers);
    }

    fn count(&self, breakers: &HashMap<Scope, Shared>) {
        let open = breakers.values().filter(|shared| shared.breaker.state() != State::Closed).count();
        self.open.store(open, Ordering::SeqCst);
    }

    /// Whether none of them is open.
    pub(super) fn all_closed(&self) -> bool {
        self.open.load(Ordering::SeqCst) == 0
    }

    /// Why an agent of `group` may not act, if one of these breakers is open.
    pub(super) fn refuse(&self, group: Option<&str>, is_read: bool, rules: &Rules) -> Option<String> {
        if is_read && rules.exempt_reads {
            return None;
        }
        let breakers = self.breakers.read().unwrap_or_else(PoisonError::into_inner);
        [Some(Scope::all()), group.map(Scope::group)].into_iter().flatten().find_map(|scope| {
            let shared = breakers.get(&scope).filter(|shared| shared.breaker.state() != State::Closed)?;
            Some(words::refused(&scope, shared.breaker.since(), &shared.why, shared.breaker.until()))
        })
    }

    /// Whether the one of everything is open, or that of this group.
    pub(super) fn any_open<'g>(&self, group: impl FnOnce() -> Option<&'g str>) -> bool {
        if self.all_closed() {
            return false;
        }
        let breakers = self.breakers.read().unwrap_or_else(PoisonError::into_inner);
        let open = |scope: &Scope| breakers.get(scope).is_some_and(|s| s.breaker.state() != State::Closed);
        [Some(Scope::all()), group().map(Scope::group)].iter().flatten().any(open)
    }

    /// Those that are not closed.
    pub(super) fn not_closed(&self) -> Vec<(Scope, Shared)> {
        let breakers = self.breakers.read().unwrap_or_else(PoisonError::into_inner);
        let open = breakers.iter().filter(|(_, shared)| shared.breaker.state() != State::Closed);
        open.map(|(scope, shared)| (scope.clone(), shared.clone())).collect()
    }

    /// How a breaker stands.
    pub(super) fn get(&self, scope: &Scope) -> Shared {
        let breakers = self.breakers.read().unwrap_or_else(PoisonError::into_inner);
        breakers.get(scope).cloned().unwrap_or_else(|| Shared {
            breaker: Breaker::new(),
            revision: 0,
            why: String::new(),
        })
    }

    /// Changes a breaker.
    pub(super) fn change(
        &self,
        scope: &Scope,
        reason: &str,
        by: By<'_>,
        change: impl FnOnce(&mut Breaker) -> Option<Change>,
    ) -> Option<BreakerChange> {
        let mut breakers = self.breakers.write().unwrap_or_else(PoisonError::into_inner);
        let shared = breakers.entry(scope.clone()).or_insert_with(|| Shared {
            breaker: Breaker::new(),
            revision: 0,
            why: String::new(),
        });
        let change = change(&mut shared.breaker)?;
        shared.revision += 1;
        if change.to == State::Open {
            reason.clone_into(&mut shared.why);
        }
        let changed = BreakerChange {
            scope: scope.clone(),
            revision: shared.revision,
            change,
            reason: reason.to_owned(),
            by: by.person.cloned(),
            check_id: None,
            breaker: shared.breaker.clone(),
        };
        self.count(&breakers);
        Some(changed)
    }
}
