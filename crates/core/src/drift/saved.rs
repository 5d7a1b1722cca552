//! State as it is kept: a version, the fields, a checksum.

use super::{codec::Packed, hash};

/// Written before saved state; a new form gets a new number.
const VERSION: u16 = 6;

/// Why saved bytes cannot be restored. Build the state anew from the action log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// Written by another version.
    #[error(
        "saved drift state of version {0}, where version {VERSION} is understood; rebuild it from the action log"
    )]
    Version(u16),
    /// Cut off, too long, or holding what cannot have been saved.
    #[error("saved drift state is damaged; rebuild it from the action log")]
    Damaged,
}

/// The saved form, bit for bit.
pub(super) fn save(state: &impl Packed) -> Vec<u8> {
    let mut out = Vec::with_capacity(4_096);
    VERSION.pack(&mut out);
    state.pack(&mut out);
    hash::of_bytes(0, &out).pack(&mut out);
    out
}

/// What [`save`] wrote.
pub(super) fn restore<T: Packed>(bytes: &[u8]) -> Result<T, RestoreError> {
    let (mut bytes, sum) = bytes.split_last_chunk().ok_or(RestoreError::Damaged)?;
    let whole = hash::of_bytes(0, bytes) == u64::from_le_bytes(*sum);
    let version = u16::unpack(&mut bytes).ok_or(RestoreError::Damaged)?;
    if version != VERSION {
        return Err(RestoreError::Version(version));
    }
    T::unpack(&mut bytes).filter(|_| whole && bytes.is_empty()).ok_or(RestoreError::Damaged)
}
