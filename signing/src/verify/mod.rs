//! The one way to belief: bytes, a policy and a time in, a `Verified…` or a refusal out.
//!
//! The order of the checks is fixed: form, length, digest, signatures, threshold, scope, validity, minimum, revocation,
//! review, log, and only then is the payload looked into. The verified values hold the very bytes that were checked, and
//! nothing outside this room can make one.

mod component;
mod job;
mod review;
mod run;
mod signers;

use remit_protocol::{Digest, RefusalCode, Timestamp, digest::Sized};

pub use component::{
    Published, VerifiedComponent, VerifiedRelease, check_wasm, component, logged, proven, release,
};
pub use job::{VerifiedJob, VerifiedJobNote, job, job_note};
pub(crate) use review::against;
pub use review::{Standing, VerifiedVerdict, verdict};
pub use run::{VerifiedResult, VerifiedRun, approvals, result, run};
pub use signers::{Signer, known_signers};

use crate::{Refusal, TrustPolicy, note::UnverifiedNote};

/// Refuses bytes that are not exactly what the note names: length first, so that nothing too long is hashed.
fn check_bytes(what: &str, bytes: &[u8], signed: &Sized) -> Result<Digest, Refusal> {
    if bytes.len() as u64 != signed.length {
        return Err(Refusal::new(
            RefusalCode::Length,
            format_args!("The {what} has {} bytes, signed are {}.", bytes.len(), signed.length),
        ));
    }
    let digest = Digest::of(bytes);
    if digest != signed.digest {
        return Err(Refusal::new(
            RefusalCode::Digest,
            format_args!("The {what} is {digest}, signed is {}.", signed.digest),
        ));
    }
    Ok(digest)
}

/// Refuses a note outside its validity. `now` is the runner's own clock, never one that the orchestrator told.
fn check_window(not_before: Timestamp, expires: Timestamp, now: Timestamp) -> Result<(), Refusal> {
    if now < not_before || now >= expires {
        return Err(Refusal::new(
            RefusalCode::Window,
            format_args!(
                "The note is valid from {} until {}; it is {}.",
                not_before.to_seconds_text(),
                expires.to_seconds_text(),
                now.to_seconds_text()
            ),
        ));
    }
    Ok(())
}

fn check_note_revoked(note: &UnverifiedNote, policy: &TrustPolicy) -> Result<(), Refusal> {
    let identity = note.identity();
    if policy.revoked().notes.contains(&identity) {
        return Err(Refusal::new(RefusalCode::RevokedNote, format_args!("Note {identity}.")));
    }
    Ok(())
}
