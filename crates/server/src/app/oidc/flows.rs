//! Sign-ins that were begun and not ended: each belongs to one browser and is good for one answer.

use super::{super::random, Error, PATIENCE};
use sha2::{Digest as _, Sha256};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Sign-ins at a time; the oldest goes first. Whoever fills this keeps others from signing in so, not with keys.
const MAX_FLOWS: usize = 20_000;
/// How often those are looked for that nobody ended in time.
const TIDY: Duration = Duration::from_mins(1);
/// Longest path to lead to afterwards, in bytes.
const MAX_NEXT: usize = 1024;

/// What a browser and the provider are told. Each is 256 random bits.
pub(super) struct Secrets {
    /// Comes back in the address: which sign-in an answer belongs to.
    pub(super) state: String,
    /// Comes back in the signed token: it was made for this sign-in.
    pub(super) nonce: String,
    /// Shows that whoever has the code also began the sign-in (PKCE).
    pub(super) verifier: String,
    /// The browser's cookie.
    pub(super) browser: String,
}

/// What is kept of a sign-in.
pub(super) struct Flow {
    pub(super) nonce: String,
    pub(super) verifier: String,
    pub(super) next: String,
    browser: [u8; 32],
    began: Instant,
}

impl Flow {
    fn over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.began) >= PATIENCE
    }
}

/// All of them.
#[derive(Default)]
pub(super) struct Flows(Mutex<Open>);

#[derive(Default)]
struct Open {
    /// By the hash of their state.
    flows: HashMap<[u8; 32], Flow>,
    tidied: Option<Instant>,
}

impl Flows {
    /// Begins one at `now`, that leads to `next`.
    pub(super) fn begin(&self, next: &str, now: Instant) -> Result<Secrets, Error> {
        let made = Secrets { state: random()?, nonce: random()?, verifier: random()?, browser: random()? };
        let flow = Flow {
            nonce: made.nonce.clone(),
            verifier: made.verifier.clone(),
            next: if next.len() <= MAX_NEXT { next.to_owned() } else { "/".to_owned() },
            browser: hash(&made.browser),
            began: now,
        };
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Open { flows, tidied } = &mut *open;
        if tidied.is_none_or(|tidied| now.saturating_duration_since(tidied) >= TIDY) {
            flows.retain(|_, flow| !flow.over(now));
            *tidied = Some(now);
        }
        if flows.len() >= MAX_FLOWS
            && let Some(oldest) = flows.iter().min_by_key(|(_, flow)| flow.began).map(|(state, _)| *state)
        {
            flows.remove(&oldest);
        }
        flows.insert(hash(&made.state), flow);
        Ok(made)
    }

    /// The sign-in of this state, once, for the browser that began it and for no other, unless it is over at `now`.
    pub(super) fn take(&self, state: &str, browser: &str, now: Instant) -> Option<Flow> {
        let flow = self.0.lock().unwrap_or_else(PoisonError::into_inner).flows.remove(&hash(state))?;
        (flow.browser == hash(browser) && !flow.over(now)).then_some(flow)
    }
}

/// Hashed, so that comparing takes as long whatever is sent.
fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_in_is_one_browsers_and_ends_once() {
        let (flows, now) = (Flows::default(), Instant::now());
        let made = flows.begin("/approvals", now).unwrap();
        let flow = flows.take(&made.state, &made.browser, now).unwrap();
        assert_eq!(
            (&flow.nonce, &flow.verifier, flow.next.as_str()),
            (&made.nonce, &made.verifier, "/approvals")
        );
        assert!(flows.take(&made.state, &made.browser, now).is_none(), "used");
        let (ours, theirs) = (flows.begin("/", now).unwrap(), flows.begin("/", now).unwrap());
        assert!(flows.take(&theirs.state, &ours.browser, now).is_none(), "begun in another browser");
        assert!(flows.take(&theirs.state, &theirs.browser, now).is_none(), "and lost to whoever began it");
        assert!(flows.take(&ours.state, &ours.browser, now).is_some());
        assert!(flows.take("", "", now).is_none());
        let far = flows.begin(&"/x".repeat(MAX_NEXT), now).unwrap();
        assert_eq!(flows.take(&far.state, &far.browser, now).unwrap().next, "/");
    }

    #[test]
    fn there_is_room_for_so_many() {
        let (flows, now) = (Flows::default(), Instant::now());
        let first = flows.begin("/", now).unwrap();
        for _ in 0..MAX_FLOWS {
            flows.begin("/", now + Duration::from_millis(1)).unwrap();
        }
        assert_eq!(flows.0.lock().unwrap().flows.len(), MAX_FLOWS);
        assert!(flows.take(&first.state, &first.browser, now).is_none());
    }

    #[test]
    fn nobody_may_take_longer_than_minutes() {
        let (flows, now) = (Flows::default(), Instant::now());
        let [in_time, late, left] = [(); 3].map(|()| flows.begin("/", now).unwrap());
        let end = now + PATIENCE;
        assert!(flows.take(&in_time.state, &in_time.browser, end - Duration::from_millis(1)).is_some());
        assert!(flows.take(&late.state, &late.browser, end).is_none());
        let kept = |flows: &Flows| flows.0.lock().unwrap().flows.len();
        assert_eq!(kept(&flows), 1);
        let next = flows.begin("/", end).unwrap();
        assert_eq!(kept(&flows), 1, "what nobody ended is forgotten");
        assert!(flows.take(&left.state, &left.browser, now).is_none());
        assert!(flows.take(&next.state, &next.browser, end).is_some());
    }

    #[test]
    fn what_is_over_is_looked_for_once_a_minute() {
        let (flows, now) = (Flows::default(), Instant::now());
        let kept = || flows.0.lock().unwrap().flows.len();
        flows.begin("/", now).unwrap();
        flows.begin("/", now + PATIENCE - Duration::from_secs(1)).unwrap();
        flows.begin("/", now + PATIENCE).unwrap();
        assert_eq!(kept(), 3, "it was tidied a second before");
        flows.begin("/", now + PATIENCE - Duration::from_secs(1) + TIDY).unwrap();
        assert_eq!(kept(), 3);
    }
}
