//! Calls that were sent back to the client to be made again, once a person has answered (2026-07-28).
//!
//! The client gets a token and returns it. What it stands for stays here and is taken out when it comes back,
//! so that one approval lets one call run. After a restart nothing is known of it, and the call is a new one:
//! the server finds the approval, if there is one, by what the call does.

use super::{
    message::{self, Call},
    recent::Recent,
    watch::Change,
    words::QUESTION,
};
use crate::gate::Held;
use checkrein_core::{fingerprint::hex, json::write_canonical};
use sha2::{Digest as _, Sha256};
use std::sync::{Mutex, PoisonError};

/// Detours that are remembered; what is forgotten is asked about anew.
const REMEMBERED: usize = 1_000;
/// Bytes of the state, and of the answers, that are kept for one call.
const KEPT: usize = 64 * 1024;
/// Bytes of them that are kept for all.
const KEPT_IN_ALL: usize = 16 * 1024 * 1024;
const PREFIX: &str = "checkrein:";

/// What was asked about.
#[derive(Clone, Debug)]
pub(super) enum About {
    /// The call itself.
    Call,
    /// The tool, which is not what it was.
    Change(Change),
}

/// A call on its detour.
#[derive(Debug)]
pub(super) struct Detour {
    pub(super) about: About,
    pub(super) held: Held,
    /// How often it has been sent back.
    pub(super) rounds: u32,
    /// Of tool and arguments: another call does not use this one's token.
    digest: String,
    /// What the server itself wanted to have back, as JSON.
    state: Option<String>,
    responses: Option<String>,
}

impl Detour {
    /// Of `call`, which may have been on one before.
    /// None where the client wants more to be kept than is.
    pub(super) fn of(
        call: &Call,
        about: About,
        held: Held,
        rounds: u32,
        before: Option<Self>,
    ) -> Option<Self> {
        let (state, responses) = match before {
            Some(before) => (before.state, before.responses),
            None if ours(call).is_some() => (None, None),
            None => (
                call.state.as_ref().and_then(|state| serde_json::to_string(state).ok()),
                call.responses.as_ref().and_then(|responses| serde_json::to_string(responses).ok()),
            ),
        };
        let fits = |text: &Option<String>| text.as_ref().is_none_or(|text| text.len() <= KEPT);
        let both = fits(&state) && fits(&responses);
        both.then(|| Self { about, held, rounds, digest: digest(call), state, responses })
    }

    fn size(&self) -> usize {
        [&self.state, &self.responses].into_iter().flatten().map(String::len).sum()
    }
}

/// Every call that is on a detour, by its token.
#[derive(Debug)]
pub(super) struct Detours(Mutex<Recent<String, Detour>>);

impl Default for Detours {
    fn default() -> Self {
        Self(Mutex::new(Recent::new(REMEMBERED)))
    }
}

impl Detours {
    /// Remembers a detour; what the client has to return.
    pub(super) fn keep(&self, detour: Detour) -> String {
        let token = format!("{PREFIX}{}", uuid::Uuid::now_v7().simple());
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(token.clone(), detour);
        let mut size: usize = known.values().map(Detour::size).sum();
        while size > KEPT_IN_ALL
            && let Some(forgotten) = known.forget_oldest()
        {
            size = size.saturating_sub(forgotten.size());
        }
        token
    }

    /// The detour that `call` comes back from. `Err`: the client's user does not want to wait any longer.
    pub(super) fn take(&self, call: &Call) -> Result<Option<Detour>, Held> {
        let Some(token) = ours(call) else { return Ok(None) };
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&token.to_owned());
        let Some(detour) = taken else { return Ok(None) };
        if detour.digest != digest(call) {
            return Ok(None);
        }
        match call.responses.as_ref().and_then(|responses| responses.get(QUESTION)) {
            Some(answer) if !message::accepted(Some(answer)) => Err(detour.held),
            _ => Ok(Some(detour)),
        }
    }

    /// The message that the server would have got without the detour; `None` where that is what came.
    pub(super) fn original(call: &Call, from: Option<Detour>) -> Option<Option<String>> {
        if ours(call).is_none() {
            return Some(None);
        }
        let (state, responses) = from.map_or((None, None), |detour| (detour.state, detour.responses));
        call.without_detour(state.as_deref(), responses.as_deref()).map(Some)
    }
}

/// The gateway's own token, if that is what the client returns.
fn ours(call: &Call) -> Option<&str> {
    call.state.as_deref().filter(|state| state.starts_with(PREFIX))
}

fn digest(call: &Call) -> String {
    let mut canonical = Vec::new();
    write_canonical(&serde_json::Value::from(call.tool.as_str()), &mut canonical);
    write_canonical(&call.arguments, &mut canonical);
    hex(&Sha256::digest(&canonical))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::message::{Incoming, Kind, read};
    use serde_json::json;

    fn detour(state: usize) -> Option<Detour> {
        let params = json!({"name": "x", "requestState": "s".repeat(state)});
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).to_string();
        let Ok(Incoming::One(message)) = read(call.as_bytes()) else { panic!("{call}") };
        let Kind::Call(call) = message.kind else { panic!("no call") };
        let held = Held { check: String::new(), approval: String::new(), reason: String::new() };
        Detour::of(&call, About::Call, held, 1, None)
    }

    #[test]
    fn what_clients_want_kept_is_bounded() {
        // It is kept as JSON, so with two quotes.
        assert!(detour(KEPT - 2).is_some() && detour(KEPT - 1).is_none());
        let detours = Detours::default();
        for _ in 0..KEPT_IN_ALL / KEPT + 50 {
            detours.keep(detour(KEPT - 2).unwrap());
        }
        let known = detours.0.lock().unwrap();
        assert_eq!(known.values().map(Detour::size).sum::<usize>(), KEPT_IN_ALL);
    }
}
