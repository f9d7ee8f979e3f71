//! Notes about a run: who began it, who agreed, and what runners say that it came to.

use std::collections::BTreeSet;

use remit_protocol::{Digest, RefusalCode, Timestamp};

use super::{Signer, check_bytes, check_note_revoked, check_window, signers};
use crate::{
    Refusal, TrustPolicy, Vkey,
    note::{NoteKind, UnverifiedNote},
    run::{ApproveNote, Order, ResultNote, RunNote},
};

/// A run that initiators of the policy want.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct VerifiedRun {
    note: RunNote,
    identity: Digest,
    signers: BTreeSet<Signer>,
}

impl VerifiedRun {
    /// What the note says.
    pub fn note(&self) -> &RunNote {
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

/// Verifies the note of a run.
///
/// # Errors
/// A [`Refusal`] with `E_SYNTAX`, `E_SIG`, `E_THRESHOLD`, `E_SCOPE`, `E_WINDOW` or `E_REVOKED_*`.
pub fn run(note: &[u8], policy: &TrustPolicy, now: Timestamp) -> Result<VerifiedRun, Refusal> {
    let note = UnverifiedNote::parse_as(NoteKind::Run, note)?;
    let parsed = RunNote::parse(&note)?;
    let signed = signers::known(&note, policy)?;
    let project = &parsed.order.job.project;
    let Some(quorum) = policy.initiator(project) else {
        return Err(Refusal::new(
            RefusalCode::Scope,
            format_args!("The project {:?} has no initiator.", project.as_str()),
        ));
    };
    let signers = signers::enough(&signed, quorum, policy, now)?;
    check_window(parsed.issued, parsed.expires, now)?;
    check_note_revoked(&note, policy)?;
    Ok(VerifiedRun { identity: note.identity(), note: parsed, signers })
}

/// Verifies that enough approvers of the policy agree at the gate `step` of the run `order`: `needed` different ones, or as
/// many as the policy wants, whichever is more. Where the policy wants others than the initiators, those do not count.
///
/// # Errors
/// A [`Refusal`] as of [`run`], or `E_GATE`.
pub fn approvals<'n>(
    notes: impl IntoIterator<Item = &'n [u8]>,
    gate: (&Order, &str, u32),
    initiators: &BTreeSet<Signer>,
    policy: &TrustPolicy,
    now: Timestamp,
) -> Result<BTreeSet<Signer>, Refusal> {
    let (order, step, needed) = gate;
    let project = &order.job.project;
    let Some(approver) = policy.approver(project) else {
        return Err(Refusal::new(
            RefusalCode::Scope,
            format_args!("The project {:?} has no approver.", project.as_str()),
        ));
    };
    let mut agreed: BTreeSet<Signer> = BTreeSet::new();
    for bytes in notes {
        let note = UnverifiedNote::parse_as(NoteKind::Approve, bytes)?;
        let parsed = ApproveNote::parse(&note)?;
        if parsed.order != *order || parsed.step.as_str() != step {
            let detail = format!("An approval is about the gate {} of another run.", parsed.step);
            return Err(Refusal::new(RefusalCode::Gate, detail));
        }
        let signed = signers::known(&note, policy)?;
        check_window(parsed.issued, parsed.expires, now)?;
        check_note_revoked(&note, policy)?;
        agreed.extend(signers::counted(&signed, &approver.quorum, policy, now));
    }
    let began: BTreeSet<_> = initiators.iter().map(|signer| &signer.holder).collect();
    let others = |signer: &&Signer| !approver.another || !began.contains(&signer.holder);
    let holders: BTreeSet<_> = agreed.iter().filter(others).map(|signer| &signer.holder).collect();
    let needed = approver.quorum.threshold.get().max(needed) as usize;
    if holders.len() < needed {
        let own = if agreed.iter().filter(others).count() < agreed.len() {
            " Who began the run does not count."
        } else {
            ""
        };
        let detail = format!("{} of {needed} needed approvers agree at {step}.{own}", holders.len());
        return Err(Refusal::new(RefusalCode::Gate, detail));
    }
    Ok(agreed)
}

/// What a section came to, as a believed runner signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct VerifiedResult {
    note: ResultNote,
    steps: Vec<u8>,
}

impl VerifiedResult {
    /// What the note says.
    pub fn note(&self) -> &ResultNote {
        &self.note
    }

    /// The very bytes that say what each step came to.
    pub fn steps(&self) -> &[u8] {
        &self.steps
    }
}

/// Verifies the note of a runner about a section of the run `order`: by `own` key, or by a peer of the policy.
///
/// # Errors
/// A [`Refusal`] with `E_SYNTAX`, `E_LENGTH`, `E_DIGEST`, `E_SIG`, `E_THRESHOLD`, `E_ORDER` or `E_REVOKED_*`.
pub fn result(
    note: &[u8],
    steps: &[u8],
    order: &Order,
    own: &Vkey,
    policy: &TrustPolicy,
) -> Result<VerifiedResult, Refusal> {
    let note = UnverifiedNote::parse_as(NoteKind::Result, note)?;
    let parsed = ResultNote::parse(&note)?;
    check_bytes("result", steps, &parsed.steps)?;
    let peers = policy.peers().filter(|peer| !policy.revokes(peer.public()));
    let signed = note.signed_by(std::iter::once(own).chain(peers))?;
    if signed.is_empty() {
        let detail = "Neither this runner nor a [[peer]] of the policy has signed a result.";
        return Err(Refusal::new(RefusalCode::Threshold, detail));
    }
    check_note_revoked(&note, policy)?;
    if parsed.order != *order {
        let detail = format!("A result is of another run, {}.", parsed.order.run);
        return Err(Refusal::new(RefusalCode::Order, detail));
    }
    Ok(VerifiedResult { note: parsed, steps: steps.to_vec() })
}
