//! Sign-ins that were begun and not ended: each belongs to one browser and is good for one answer.

use super::{super::random, Error, PATIENCE};
use sha2::{Digest as _, Sha256};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// Sign-ins at a time; the oldest goes first. Whoever fills this keeps others from signing in so, not with keys.
const MAX_FLOWS: usize = 20_000;
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

/// All of them, by the hash of their state.
#[derive(Default)]
pub(super) struct Flows(Mutex<HashMap<[u8; 32], Flow>>);

impl Flows {
    pub(super) fn begin(&self, next: &str) -> Result<Secrets, Error> {
        let made = Secrets { state: random()?, nonce: random()?, verifier: random()?, browser: random()? };
        let flow = Flow {
            nonce: made.nonce.clone(),
            verifier: made.verifier.clone(),
            next: if next.len() <= MAX_NEXT { next.to_owned() } else { "/".to_owned() },
            browser: hash(&made.browser),
            began: Instant::now(),
        };
        let mut flows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if flows.len() >= MAX_FLOWS {
            flows.retain(|_, flow| flow.began.elapsed() < PATIENCE);
        }
        if flows.len() >= MAX_FLOWS
            && let Some(oldest) = flows.iter().min_by_key(|(_, flow)| flow.began).map(|(state, _)| *state)
        {
            flows.remove(&oldest);
        }
        flows.insert(hash(&made.state), flow);
        Ok(made)
    }

    /// The sign-in of this state, once, for the browser that began it and for no other.
    pub(super) fn take(&self, state: &str, browser: &str) -> Option<Flow> {
        let flow = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&hash(state))?;
        (flow.browser == hash(browser) && flow.began.elapsed() < PATIENCE).then_some(flow)
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
        let flows = Flows::default();
        let made = flows.begin("/approvals").unwrap();
        let flow = flows.take(&made.state, &made.browser).unwrap();
        assert_eq!(
            (&flow.nonce, &flow.verifier, flow.next.as_str()),
            (&made.nonce, &made.verifier, "/approvals")
        );
        assert!(flows.take(&made.state, &made.browser).is_none(), "used");
        let (ours, theirs) = (flows.begin("/").unwrap(), flows.begin("/").unwrap());
        assert!(flows.take(&theirs.state, &ours.browser).is_none(), "begun in another browser");
        assert!(flows.take(&theirs.state, &theirs.browser).is_none(), "and lost to whoever began it");
        assert!(flows.take(&ours.state, &ours.browser).is_some());
        assert!(flows.take("", "").is_none());
        let far = flows.begin(&"/x".repeat(MAX_NEXT)).unwrap();
        assert_eq!(flows.take(&far.state, &far.browser).unwrap().next, "/");
    }

    #[test]
    fn there_is_room_for_so_many() {
        let flows = Flows::default();
        let first = flows.begin("/").unwrap();
        for _ in 0..MAX_FLOWS {
            flows.begin("/").unwrap();
        }
        assert_eq!(flows.0.lock().unwrap().len(), MAX_FLOWS);
        assert!(flows.take(&first.state, &first.browser).is_none());
    }
}
