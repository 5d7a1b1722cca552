//! `[snapshots]`: how long snapshots are kept, and with which key they are sealed.

use super::{DAY, Env, HOUR, document::Section};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use checkrein_targets::snapshot::SnapshotKey;
use secrecy::{ExposeSecret as _, SecretString};
use std::time::Duration;

/// Snapshots.
#[derive(Clone, Debug)]
pub struct Snapshots {
    /// How long one is kept; `None` for ever.
    pub keep_for: Option<Duration>,
    /// Bytes that all of them together may take; beyond it those that were asked for go first. `None` for no
    /// limit.
    pub keep_bytes: Option<u64>,
    /// Bytes that those which one agent asked for may take. `None` for a quarter of `keep_bytes`, if there is
    /// such a limit.
    pub agent_bytes: Option<u64>,
    /// How long after it was taken a snapshot can be sealed.
    pub seal_within: Duration,
    /// They are encrypted with this.
    pub encryption_key: Option<SnapshotKey>,
}

impl Default for Snapshots {
    fn default() -> Self {
        Self {
            keep_for: None,
            keep_bytes: None,
            agent_bytes: None,
            seal_within: Duration::from_secs(15 * 60),
            encryption_key: None,
        }
    }
}

/// Reads and checks the section.
pub(super) fn read(mut section: Section<'_>, env: Option<Env<'_>>) -> Snapshots {
    let default = Snapshots::default();
    let mut snapshots = Snapshots {
        keep_for: section.duration("keep_for", (HOUR, 36_500 * DAY)),
        keep_bytes: section.size("keep_bytes", (1 << 20, 1 << 50)),
        agent_bytes: section.size("agent_bytes", (1 << 10, 1 << 50)),
        seal_within: section
            .duration("seal_within", (Duration::from_secs(1), 30 * DAY))
            .unwrap_or(default.seal_within),
        encryption_key: None,
    };
    if let (Some(each), Some(all)) = (snapshots.agent_bytes, snapshots.keep_bytes)
        && each > all
    {
        section.problem("agent_bytes", "is more than `keep_bytes`, which is for all agents together");
    }
    match section.secret("encryption_key", env).as_ref().map(key).transpose() {
        Ok(key) => snapshots.encryption_key = key,
        Err(e) => section.problem("encryption_key", e),
    }
    section.finish();
    snapshots
}

/// 64 hexadecimal digits, or base64 of 32 bytes.
fn key(secret: &SecretString) -> Result<SnapshotKey, &'static str> {
    let text = secret.expose_secret();
    from_hex(text)
        .or_else(|| STANDARD.decode(text).ok())
        .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
        .map(SnapshotKey::new)
        .ok_or(
            "the key for snapshots is 64 hexadecimal digits, or base64 of 32 bytes; make one with \
             `openssl rand -hex 32`",
        )
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let pair = |pair: &[u8]| match pair {
        [high, low] => {
            let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
            Some(digit(*high)? << 4 | digit(*low)?)
        }
        _ => None,
    };
    (text.len() == 64).then(|| text.as_bytes().chunks(2).map(pair).collect()).flatten()
}
