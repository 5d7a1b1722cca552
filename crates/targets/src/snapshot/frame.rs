//! Frames: compressed, numbered and sealed.

use super::SnapshotKey;
use crate::Error;
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};

pub(super) const MAGIC: &[u8; 8] = b"CHKRSNP1";
pub(super) const SALT_BYTES: usize = 32;
pub(super) const TAG_BYTES: usize = 16;
/// The largest payload of one frame, before and after compression.
pub(super) const MAX_PAYLOAD: usize = 64 << 20;
/// Fast; text rows shrink to a third or less.
const LEVEL: i32 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameKind {
    Header = 1,
    Table = 2,
    Rows = 3,
    Footer = 4,
}

impl FrameKind {
    pub(super) const fn read(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Header,
            2 => Self::Table,
            3 => Self::Rows,
            4 => Self::Footer,
            _ => return None,
        })
    }
}

/// Seals and opens the frames of one file, in order.
pub(super) struct Sealer {
    cipher: Option<Box<XChaCha20Poly1305>>,
    check: [u8; 32],
    number: u64,
    // Kept from frame to frame: to make them anew costs more than a small frame does.
    compress: Option<zstd::bulk::Compressor<'static>>,
    decompress: Option<zstd::bulk::Decompressor<'static>>,
}

impl Sealer {
    pub(super) fn new(key: Option<&SnapshotKey>, salt: &[u8]) -> Self {
        let cipher = key.map(|key| {
            let mut input = Vec::with_capacity(64);
            input.extend_from_slice(&key.0);
            input.extend_from_slice(salt);
            let own = blake3::derive_key("checkrein 2026-11-22 snapshot encryption", &input);
            Box::new(XChaCha20Poly1305::new(&own.into()))
        });
        let check = blake3::derive_key("checkrein 2026-11-22 snapshot check", salt);
        Self { cipher, check, number: 0, compress: None, decompress: None }
    }

    fn nonce(&self) -> XNonce {
        let mut nonce = XNonce::default();
        for (to, from) in nonce.iter_mut().zip(self.number.to_le_bytes()) {
            *to = from;
        }
        nonce
    }

    fn tag(&self, kind: FrameKind, packed: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.check);
        hasher.update(&self.number.to_le_bytes()).update(&[kind as u8]).update(packed);
        hasher.finalize()
    }

    /// The sealed payload of the next frame.
    pub(super) fn seal(&mut self, kind: FrameKind, payload: &[u8]) -> Result<Vec<u8>, Error> {
        if payload.len() > MAX_PAYLOAD {
            return Err(Error::TooLarge("a record is larger than a snapshot can hold (64 MiB)".to_owned()));
        }
        let problem = |e| Error::Internal(format!("the snapshot cannot be compressed: {e}"));
        let compressor = match &mut self.compress {
            Some(compressor) => compressor,
            none => none.insert(zstd::bulk::Compressor::new(LEVEL).map_err(problem)?),
        };
        let mut packed = compressor.compress(payload).map_err(problem)?;
        let sealed = match &self.cipher {
            Some(cipher) => cipher
                .encrypt(&self.nonce(), Payload { msg: &packed, aad: &[kind as u8] })
                .map_err(|_| Error::Internal("the snapshot cannot be encrypted".to_owned()))?,
            None => {
                let tag = self.tag(kind, &packed);
                packed.extend(tag.as_bytes().iter().take(TAG_BYTES));
                packed
            }
        };
        self.number += 1;
        Ok(sealed)
    }

    /// The payload of the next frame; `None` when it is not what was sealed.
    pub(super) fn open(&mut self, kind: FrameKind, sealed: &[u8]) -> Option<Vec<u8>> {
        let opened;
        let packed = match &self.cipher {
            Some(cipher) => {
                opened = cipher.decrypt(&self.nonce(), Payload { msg: sealed, aad: &[kind as u8] }).ok()?;
                &opened
            }
            None => {
                let (packed, tag) = sealed.split_at_checked(sealed.len().checked_sub(TAG_BYTES)?)?;
                if self.tag(kind, packed).as_bytes().get(..TAG_BYTES)? != tag {
                    return None;
                }
                packed
            }
        };
        self.number += 1;
        let size = zstd::zstd_safe::get_frame_content_size(packed).ok().flatten()?;
        let size = usize::try_from(size).ok().filter(|size| *size <= MAX_PAYLOAD)?;
        let decompressor = match &mut self.decompress {
            Some(decompressor) => decompressor,
            none => none.insert(zstd::bulk::Decompressor::new().ok()?),
        };
        decompressor.decompress(packed, size).ok().filter(|payload| payload.len() == size)
    }
}
