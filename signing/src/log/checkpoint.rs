//! A log's signed head, `c2sp.org/tlog-checkpoint`: origin, size, root. Extension lines are refused.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use remit_protocol::Digest;

use super::proof::InvalidProof;
use crate::{
    Refusal, SigningKey, Vkey,
    key::strict_base64,
    note::{Envelope, number, sign_any},
};

/// The head of a log whose signature was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    origin: String,
    size: u64,
    root: Digest,
    log: Vkey,
    note: String,
}

impl Checkpoint {
    /// The log's name, which is its key's.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// How many leaves the log has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root over them.
    pub fn root(&self) -> Digest {
        self.root
    }

    /// The key that signed it.
    pub fn log(&self) -> &Vkey {
        &self.log
    }

    /// The signed note, exactly: evidence of what the log said.
    pub fn note(&self) -> &str {
        &self.note
    }

    /// Verifies a checkpoint by one of `logs`. Lines of witnesses and other unknown keys are passed over.
    ///
    /// # Errors
    /// An [`InvalidProof`] if it is malformed, by an unknown log, or a signature is wrong.
    pub fn verify(bytes: &[u8], logs: &[Vkey]) -> Result<Self, InvalidProof> {
        let envelope = Envelope::parse(bytes).map_err(|refusal| InvalidProof::Note(refusal.detail))?;
        let mut lines = envelope.lines();
        let (origin, size, root) = (lines.next(), lines.next(), lines.next());
        let (Some(origin), Some(size), Some(root), None) = (origin, size, root, lines.next()) else {
            return Err(InvalidProof::Checkpoint);
        };
        let size = number(size).ok_or(InvalidProof::Checkpoint)?;
        let root = hash(root).ok_or(InvalidProof::Checkpoint)?;
        let log = logs.iter().find(|log| log.name().as_str() == origin).ok_or(InvalidProof::UnknownLog)?;
        match envelope.signed_by([log]) {
            Ok(signed) if signed.len() == 1 => {
                let note = String::from_utf8_lossy(bytes).into_owned();
                Ok(Self { origin: origin.to_owned(), size, root, log: log.clone(), note })
            }
            Ok(_) => Err(InvalidProof::UnknownLog),
            Err(refusal) => Err(InvalidProof::Note(refusal.detail)),
        }
    }
}

/// One hash in standard base64.
pub(super) fn hash(text: &str) -> Option<Digest> {
    strict_base64(text)?.try_into().ok().map(Digest::from_bytes)
}

/// Signs the head of the log that `key` is named after. The caller never signs two roots for one size.
///
/// # Errors
/// `E_SYNTAX` if the key's name cannot stand in a note; none can be so.
pub fn sign_checkpoint(key: &SigningKey, size: u64, root: &Digest) -> Result<Vec<u8>, Refusal> {
    sign_any(&format!("{}\n{size}\n{}\n", key.name(), STANDARD.encode(root.as_bytes())), key)
}
