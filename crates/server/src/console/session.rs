//! Who is signed in. Sessions are kept here, in memory: signing out ends one at once, a restart ends them all.

use crate::app::{App, Caller, Error, oidc::Leave, random};
use checkrein_core::key::Role;
use sha2::{Digest as _, Sha256};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long the session of a key lasts at most.
const LIFE: Duration = Duration::from_hours(8);
/// How long one lasts that nobody uses.
const IDLE: Duration = Duration::from_hours(1);
/// Sessions at a time, of all people together; the longest unused goes first.
const MAX_SESSIONS: usize = 10_000;

/// Somebody who is signed in.
pub(super) struct Session {
    /// Who, and what they may do.
    pub(super) caller: Arc<Caller>,
    /// What a form must send along, so that no other site can.
    pub(super) token: String,
    /// How they sign out where they signed in.
    pub(super) leave: Option<Leave>,
    began: Instant,
    life: Duration,
    used: Mutex<Instant>,
}

impl Session {
    fn used(&self) -> Instant {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn over(&self, app: &App) -> bool {
        self.began.elapsed() >= self.life || self.used().elapsed() >= IDLE || !app.in_force(&self.caller)
    }

    /// Whether it still holds: its time is not over, and what it was opened by is in force.
    pub(super) fn holds(&self, app: &App) -> bool {
        !self.over(app)
    }
}

/// Everybody who is signed in, by the hash of what their cookie holds.
#[derive(Default)]
pub(super) struct Sessions(Mutex<HashMap<[u8; 32], Arc<Session>>>);

impl Sessions {
    /// Signs in whoever holds `key`. Returns what the cookie holds.
    ///
    /// # Errors
    /// When nobody does, or it is an agent's.
    pub(super) fn sign_in(&self, app: &App, key: &str) -> Result<String, Error> {
        let caller = app.caller(key.trim())?;
        if caller.require(Role::Operator).is_err() {
            return Err(Error::Forbidden(
                "this is an agent's key; the console is for people: sign in with a key of role operator or admin"
                    .to_owned(),
            ));
        }
        self.open(app, caller, LIFE, None)
    }

    /// Signs `caller` in for at most `life`; `leave` is how they sign out elsewhere, too. Returns what the cookie holds.
    ///
    /// # Errors
    /// When this machine gives no random numbers.
    pub(super) fn open(
        &self,
        app: &App,
        caller: Arc<Caller>,
        life: Duration,
        leave: Option<Leave>,
    ) -> Result<String, Error> {
        let (secret, token) = (random()?, random()?);
        let now = Instant::now();
        let session = Arc::new(Session { caller, token, leave, began: now, life, used: Mutex::new(now) });
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| !session.over(app));
        if sessions.len() >= MAX_SESSIONS
            && let Some(oldest) = sessions.iter().min_by_key(|(_, s)| s.used()).map(|(id, _)| *id)
        {
            sessions.remove(&oldest);
        }
        sessions.insert(Sha256::digest(&secret).into(), session);
        Ok(secret)
    }

    /// Whose cookie holds `secret`.
    pub(super) fn find(&self, app: &App, secret: &str) -> Option<Arc<Session>> {
        let id: [u8; 32] = Sha256::digest(secret).into();
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let session = Arc::clone(sessions.get(&id)?);
        if session.over(app) {
            sessions.remove(&id);
            return None;
        }
        drop(sessions);
        *session.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        Some(session)
    }

    /// Ends the session of which the cookie holds `secret`.
    pub(super) fn sign_out(&self, secret: &str) {
        let id: [u8; 32] = Sha256::digest(secret).into();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }
}
