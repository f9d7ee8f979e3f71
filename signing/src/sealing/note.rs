//! The sealing note, `remit/sealing/v1`: a runner's identity key stands for the key to which secrets for it are sealed.

use remit_protocol::{Digest, RunnerId, RunnerName, Timestamp};

use super::SealingPublic;
use crate::{
    Refusal, SigningKey,
    key::{KeyName, PublicKey},
    note::{self, Fields, NoteKind, TextWriter, UnverifiedNote},
};

/// The name under which a runner's identity key signs the note.
const RUNNER: &str = "runner/sealing";

/// What a sealing note says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealingNote {
    /// The runner.
    pub runner: RunnerId,
    /// Its name when it enrolled.
    pub name: RunnerName,
    /// Its identity key, which signs this.
    pub identity: PublicKey,
    /// The key to which secrets for it are sealed.
    pub key: SealingPublic,
    /// When that key was made.
    pub issued: Timestamp,
}

/// Why nothing is sealed by a note.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotSealable {
    /// Not of the exact form, or not signed by the key that it names.
    #[error("the runner's sealing note is not good: {0}")]
    Note(String),
    /// By another key than was pinned.
    #[error("the runner has the identity key {found}, and {pinned} is pinned")]
    Identity {
        /// The fingerprint of the key that signed.
        found: Digest,
        /// The one that is pinned.
        pinned: Digest,
    },
    /// About another runner.
    #[error("the sealing note is about the runner {0} ({1})")]
    Other(RunnerName, RunnerId),
}

impl SealingNote {
    /// The note's bytes, signed with the runner's identity key.
    ///
    /// # Errors
    /// `E_SYNTAX` if one of the values cannot stand in a note; none of the parsed types can be so.
    pub fn sign(
        identity: &SigningKey,
        (runner, name): (RunnerId, &RunnerName),
        key: &SealingPublic,
        issued: Timestamp,
    ) -> Result<Vec<u8>, Refusal> {
        let text = TextWriter::new(NoteKind::Sealing)
            .line("runner", runner)
            .line("name", name)
            .line("identity", identity.public().to_base64())
            .line("key", key)
            .time("issued", issued)
            .finish();
        note::sign(&text, &[&identity.renamed(KeyName::fixed(RUNNER.to_owned()))])
    }

    /// Reads a note and verifies that the identity key that it names has signed it. Whether that is the runner's is for the
    /// caller to say: an orchestrator knows the runner's key, everybody else has pinned it.
    ///
    /// # Errors
    /// [`NotSealable::Note`].
    pub fn read(bytes: &[u8]) -> Result<Self, NotSealable> {
        let wrong = |refusal: Refusal| NotSealable::Note(refusal.detail);
        let note = UnverifiedNote::parse_as(NoteKind::Sealing, bytes).map_err(wrong)?;
        let mut fields = Fields::of(&note);
        let read = Self {
            runner: fields.parsed("runner").map_err(wrong)?,
            name: fields.parsed("name").map_err(wrong)?,
            identity: PublicKey::from_base64(fields.text("identity").map_err(wrong)?)
                .map_err(|error| NotSealable::Note(error.to_string()))?,
            key: fields.parsed("key").map_err(wrong)?,
            issued: fields.time("issued").map_err(wrong)?,
        };
        fields.finish().map_err(wrong)?;
        let key = read.identity.named(KeyName::fixed(RUNNER.to_owned()));
        match note.signed_by([&key]) {
            Ok(signed) if signed.len() == 1 => Ok(read),
            _ => Err(NotSealable::Note("it is not signed by the runner that it names".to_owned())),
        }
    }

    /// Reads the note of the runner `name` with the id `runner`, whose identity key was pinned by its fingerprint.
    ///
    /// # Errors
    /// [`NotSealable`].
    pub fn believe(
        bytes: &[u8],
        (runner, name): (RunnerId, &RunnerName),
        pinned: Digest,
    ) -> Result<Self, NotSealable> {
        let read = Self::read(bytes)?;
        let found = read.identity.fingerprint();
        if found != pinned {
            return Err(NotSealable::Identity { found, pinned });
        }
        if read.runner != runner || read.name != *name {
            return Err(NotSealable::Other(read.name, read.runner));
        }
        Ok(read)
    }
}
