//! What enforcement points need that speak another protocol than ours: an answer in one request, and outcomes
//! by the name that they have for a call.

use super::{App, Caller, Error};
use checkrein_api::{Check, Decision, OutcomeReport, Role, Verdict};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// Calls of hooks that are remembered; of the oldest beyond that no allow is given out again.
const CALLS: usize = 4_096;
/// Two settings that have the hook ask about one call at the same time. Later it is another call.
const TOGETHER: Duration = Duration::from_secs(2);

/// To which calls of hooks, by key and their own name, an allow was given out, and when: a name stands for one
/// call, and models use names again. Kept in memory only: of a call that was asked about before a restart
/// nobody knows whether it ran, so it does not.
#[derive(Default)]
pub(super) struct Calls(Mutex<Given>);

/// When the allow of each was given out, if it was; and the names, oldest first.
type Given = (HashMap<Name, Option<Instant>>, VecDeque<Name>);

/// The id of the key, and the call.
type Name = (String, String);

impl Calls {
    fn knows(&self, name: &Name) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.contains_key(name)
    }

    fn begin(&self, name: &Name) {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (given, order) = &mut *calls;
        if given.contains_key(name) {
            return;
        }
        given.insert(name.clone(), None);
        order.push_back(name.clone());
        while order.len() > CALLS {
            if let Some(oldest) = order.pop_front() {
                given.remove(&oldest);
            }
        }
    }

    /// Whether an allow may be given out for this call now; from then on it has been.
    fn give(&self, name: &Name, now: Instant) -> bool {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match calls.0.get_mut(name) {
            None => false,
            Some(Some(at)) => now.saturating_duration_since(*at) < TOGETHER,
            Some(given) => {
                *given = Some(now);
                true
            }
        }
    }

    /// It ran.
    fn end(&self, name: &Name) {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if calls.0.remove(name).is_some() {
            calls.1.retain(|other| other != name);
        }
    }
}

const REUSED: &str = "a call of this name was asked about before, and may have run: one answer stands for one call; \
    make the call again under another tool_use_id";

impl Caller {
    /// Whether this key could approve what it asks for itself.
    pub(crate) fn may_approve(&self) -> bool {
        self.require(Role::Operator).is_ok()
    }
}

impl App {
    /// Asks as [`App::check`] does, and waits up to `wait` for a person's answer to a hold. The decision is
    /// as it then stands.
    ///
    /// # Errors
    /// As [`App::check`]. The action must not run then.
    pub(crate) async fn check_and_wait(
        self: &Arc<Self>,
        caller: &Caller,
        check: Check,
        wait: Duration,
    ) -> Result<Decision, Error> {
        let decision = Box::pin(self.check(caller, check)).await?.decision;
        if decision.verdict != Verdict::Hold {
            return Ok(decision);
        }
        let end = Instant::now() + wait;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let now = Box::pin(self.view_check(caller, &decision.id, left)).await?.decision;
            if now.verdict != Verdict::Hold || left.is_zero() || *self.stopping().borrow() {
                return Ok(now);
            }
        }
    }

    /// Asks for one call of a hook, which its idempotency key names, as [`App::check_and_wait`] does. An allow
    /// stands for one call: it is given out once, or to settings that ask at the same time.
    ///
    /// # Errors
    /// As [`App::check`]; also when an allow for this name was given out before, may have been, or the call has
    /// its outcome.
    pub(crate) async fn check_once(
        self: &Arc<Self>,
        caller: &Caller,
        check: Check,
        wait: Duration,
    ) -> Result<Decision, Error> {
        let name = (caller.key_id().to_owned(), check.idempotency_key.clone().unwrap_or_default());
        if !self.calls.knows(&name)
            && Box::pin(self.store.by_idempotency_key(&name.0, &name.1)).await?.is_some()
            // Whoever asks at the same time may have been first.
            && !self.calls.knows(&name)
        {
            return Err(Error::Invalid(REUSED.to_owned()));
        }
        self.calls.begin(&name);
        let decision = self.check_and_wait(caller, check, wait).await?;
        if decision.verdict == Verdict::Allow && !self.calls.give(&name, Instant::now()) {
            return Err(Error::Invalid(REUSED.to_owned()));
        }
        Ok(decision)
    }

    /// Puts on record what became of the action that this caller asked for under `idempotency_key`.
    ///
    /// # Errors
    /// When it never asked under that name, or another outcome is on record.
    pub(crate) async fn report_outcome_of(
        &self,
        caller: &Caller,
        idempotency_key: &str,
        report: OutcomeReport,
    ) -> Result<(), Error> {
        self.calls.end(&(caller.key_id().to_owned(), idempotency_key.to_owned()));
        let asked = self.store.by_idempotency_key(caller.key_id(), idempotency_key).await?;
        let asked = asked.ok_or_else(|| {
            Error::NotFound("check of the call", idempotency_key.chars().take(128).collect())
        })?;
        self.report_outcome(caller, &asked.decision.id, report).await.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(call: usize) -> Name {
        ("key".to_owned(), call.to_string())
    }

    #[test]
    fn an_allow_is_given_out_once() {
        let (calls, now) = (Calls::default(), Instant::now());
        assert!(!calls.give(&name(1), now), "nobody asked");
        calls.begin(&name(1));
        assert!(calls.give(&name(1), now) && calls.give(&name(1), now), "two settings ask together");
        calls.begin(&name(1));
        assert!(!calls.give(&name(1), now + TOGETHER));
        calls.begin(&name(2));
        calls.end(&name(2));
        assert!(!calls.give(&name(2), now), "it ran");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let calls = Calls::default();
        for call in 0..=CALLS {
            calls.begin(&name(call));
        }
        assert!(!calls.knows(&name(0)) && calls.knows(&name(1)));
        assert_eq!(calls.0.lock().unwrap().1.len(), CALLS);
    }
}
