//! What a person wants to know of a note: what it is, who signed, and whether the policy believes it.

use std::{collections::BTreeSet, fmt};

use remit_protocol::{Digest, Timestamp};

use crate::{
    Refusal, TrustPolicy,
    component::ComponentNote,
    job::JobNote,
    log::ProvenLeaf,
    note::{NoteKind, UnverifiedNote},
    run::{ApproveNote, RunNote},
    verdict::VerdictNote,
    verify::{self, Published, Signer},
};

/// The result of looking at a note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteCheck {
    /// The digest of the note's text; absent if it is not a note.
    pub identity: Option<Digest>,
    /// What the note is about, such as `acme/hello@1.4.2`; a claim unless the verdict is good.
    pub subject: Option<String>,
    /// The keys of the policy that have signed it, whether or not they may; empty if a signature is wrong.
    pub signers: Vec<Signer>,
    /// Where a log lists it, if it came with a proof that is good.
    pub logged: Option<ProvenLeaf>,
    /// Whether the policy believes the note. The payload that it names was not looked at.
    pub verdict: Result<(), Refusal>,
}

/// Looks at the bytes of a note that should be of `kind`.
///
/// A proof that comes with it has to be good by the logs of the policy, also where the policy does not require one.
pub fn note<'a>(
    published: impl Into<Published<'a>>,
    kind: NoteKind,
    policy: &TrustPolicy,
    now: Timestamp,
) -> NoteCheck {
    let published = published.into();
    let bytes = published.note;
    let mut check =
        NoteCheck { identity: None, subject: None, signers: Vec::new(), logged: None, verdict: Ok(()) };
    let verdict = || -> Result<(), Refusal> {
        check.identity = UnverifiedNote::parse(bytes).ok().map(|note| note.identity());
        let note = UnverifiedNote::parse_as(kind, bytes)?;
        check.subject = match kind {
            NoteKind::Component => {
                ComponentNote::parse(&note).ok().map(|note| format!("{}@{}", note.name, note.version))
            }
            NoteKind::Job => {
                JobNote::parse(&note).ok().map(|note| format!("{} version {}", note.name, note.version))
            }
            NoteKind::Verdict => VerdictNote::parse(&note).ok().map(|note| {
                format!("{}@{} {} {}", note.name, note.version, note.criteria, note.opinion.as_str())
            }),
            NoteKind::Run => {
                RunNote::parse(&note).ok().map(|note| format!("run {} of {}", note.order.run, note.order.job))
            }
            NoteKind::Approve => ApproveNote::parse(&note)
                .ok()
                .map(|note| format!("gate {} in run {} of {}", note.step, note.order.run, note.order.job)),
            NoteKind::Enrol | NoteKind::Enrolled | NoteKind::Trail | NoteKind::Result | NoteKind::Sealing => {
                None
            }
        };
        check.signers = verify::known_signers(&note, policy)?;
        match kind {
            NoteKind::Component => drop(verify::release(published, policy, now)?),
            NoteKind::Job => drop(verify::job_note(bytes, policy, now)?),
            NoteKind::Verdict => drop(verify::verdict(bytes, policy, now)?),
            NoteKind::Run => drop(verify::run(bytes, policy, now)?),
            NoteKind::Approve => {
                let approval = ApproveNote::parse(&note)?;
                let gate = (&approval.order, approval.step.as_str(), 1);
                verify::approvals([bytes], gate, &BTreeSet::new(), policy, now)?;
            }
            NoteKind::Enrol | NoteKind::Enrolled | NoteKind::Trail | NoteKind::Result | NoteKind::Sealing => {
                return Err(Refusal::syntax(
                    "No policy judges this kind of note: an enrolment is for its two sides, a trail for `remit audit verify`, \
                     a result for the runner that goes on from it, a sealing key for who has pinned its runner.",
                ));
            }
        }
        // What is said about one run goes to its runners, and is in no log.
        if matches!(kind, NoteKind::Run | NoteKind::Approve) {
            return Ok(());
        }
        if published.proof.is_some() || policy.log().required {
            check.logged = Some(verify::proven(&published, policy)?);
        }
        Ok(())
    };
    check.verdict = { verdict }();
    check
}

impl fmt::Display for NoteCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(identity) = self.identity {
            writeln!(f, "note       {identity}")?;
        }
        if let Some(subject) = &self.subject {
            writeln!(f, "about      {subject}")?;
        }
        for signer in &self.signers {
            writeln!(f, "signed by  {} with {}", signer.holder, signer.key)?;
        }
        match &self.verdict {
            Ok(()) => writeln!(f, "believed"),
            Err(refusal) => writeln!(f, "refused    {refusal}"),
        }
    }
}
