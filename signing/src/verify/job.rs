//! From a job note and a job document to a [`VerifiedJob`].

use std::{collections::BTreeSet, sync::Arc};

use remit_protocol::{Digest, RefusalCode, Timestamp, limits::MAX_JOB};

use super::{Signer, check_bytes, check_note_revoked, check_window, signers};
use crate::{
    Refusal, TrustPolicy,
    job::JobNote,
    note::{NoteKind, UnverifiedNote},
};

/// A job note that the policy believes; the document that it names has not been seen.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct VerifiedJobNote {
    note: JobNote,
    identity: Digest,
    signers: BTreeSet<Signer>,
}

/// A job document that authors of the policy stand for: the very bytes that were verified.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct VerifiedJob {
    note: VerifiedJobNote,
    document: Arc<[u8]>,
}

impl VerifiedJobNote {
    /// What the note says.
    pub fn note(&self) -> &JobNote {
        &self.note
    }

    /// The digest of the note's text.
    pub fn identity(&self) -> Digest {
        self.identity
    }

    /// The signatures that counted.
    pub fn signers(&self) -> &BTreeSet<Signer> {
        &self.signers
    }
}

impl VerifiedJob {
    /// What the note says. Whoever parses the document compares its project and name with these.
    pub fn note(&self) -> &JobNote {
        &self.note.note
    }

    /// The digest of the note's text.
    pub fn identity(&self) -> Digest {
        self.note.identity
    }

    /// The signatures that counted.
    pub fn signers(&self) -> &BTreeSet<Signer> {
        &self.note.signers
    }

    /// The bytes of the document.
    pub fn document(&self) -> &Arc<[u8]> {
        &self.document
    }
}

/// Verifies a job note together with its document. The newest version of each job is the caller's to remember
/// ([`crate::policy::TrustMemory::accept_job`]).
///
/// # Errors
/// A [`Refusal`] with `E_SYNTAX`, `E_LENGTH`, `E_DIGEST`, `E_SIG`, `E_THRESHOLD`, `E_SCOPE`, `E_WINDOW` or `E_REVOKED_*`.
pub fn job(
    note: &[u8],
    document: impl Into<Arc<[u8]>>,
    policy: &TrustPolicy,
    now: Timestamp,
) -> Result<VerifiedJob, Refusal> {
    let document = document.into();
    let (note, parsed) = parse(note)?;
    check_bytes("job document", &document, &parsed.definition)?;
    Ok(VerifiedJob { note: believe(&note, parsed, policy, now)?, document })
}

/// Verifies a job note alone.
///
/// # Errors
/// A [`Refusal`] as of [`job`].
pub fn job_note(note: &[u8], policy: &TrustPolicy, now: Timestamp) -> Result<VerifiedJobNote, Refusal> {
    let (note, parsed) = parse(note)?;
    believe(&note, parsed, policy, now)
}

fn parse(note: &[u8]) -> Result<(UnverifiedNote, JobNote), Refusal> {
    let note = UnverifiedNote::parse_as(NoteKind::Job, note)?;
    let parsed = JobNote::parse(&note)?;
    if parsed.definition.length > MAX_JOB as u64 {
        let detail = format!("A job document has at most {MAX_JOB} bytes.");
        return Err(Refusal::new(RefusalCode::Length, detail));
    }
    Ok((note, parsed))
}

fn believe(
    note: &UnverifiedNote,
    parsed: JobNote,
    policy: &TrustPolicy,
    now: Timestamp,
) -> Result<VerifiedJobNote, Refusal> {
    let signed = signers::known(note, policy)?;
    let Some(quorum) = policy.author(&parsed.name.project) else {
        let project = parsed.name.project.as_str();
        return Err(Refusal::new(RefusalCode::Scope, format_args!("The project {project:?} has no author.")));
    };
    let signers = signers::enough(&signed, quorum, policy, now)?;
    check_window(parsed.not_before, parsed.expires, now)?;
    check_note_revoked(note, policy)?;
    Ok(VerifiedJobNote { identity: note.identity(), note: parsed, signers })
}
