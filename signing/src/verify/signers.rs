//! Who signed, and whether those are enough.

use std::collections::BTreeSet;

use remit_protocol::{RefusalCode, Timestamp};

use crate::{
    KeyName, Refusal, TrustPolicy,
    note::UnverifiedNote,
    policy::{Holder, Quorum, TrustedKey},
};

/// One signature that counted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signer {
    /// Who.
    pub holder: Holder,
    /// With which key.
    pub key: KeyName,
}

impl Signer {
    fn of(key: &TrustedKey) -> Self {
        Self { holder: key.holder.clone(), key: key.vkey.name().clone() }
    }
}

/// The keys of the policy that have signed `note`, whatever they may sign.
pub(super) fn known<'p>(
    note: &UnverifiedNote,
    policy: &'p TrustPolicy,
) -> Result<Vec<&'p TrustedKey>, Refusal> {
    let signed = note.signed_by(policy.keys().map(|key| &key.vkey))?;
    Ok(signed.into_iter().filter_map(|vkey| policy.key(vkey.name())).collect())
}

/// The keys of the policy that have signed `note`, by holder, each once.
///
/// # Errors
/// `E_SIG` if a signature by a known key is wrong.
pub fn known_signers(note: &UnverifiedNote, policy: &TrustPolicy) -> Result<Vec<Signer>, Refusal> {
    let mut signers: Vec<Signer> = known(note, policy)?.into_iter().map(Signer::of).collect();
    signers.sort();
    Ok(signers)
}

fn holders<'p>(keys: impl Iterator<Item = &'p TrustedKey>) -> BTreeSet<&'p Holder> {
    keys.map(|key| &key.holder).collect()
}

/// The signers of a note that count toward `quorum`, however few.
pub(super) fn counted<'p>(
    signed: &'p [&'p TrustedKey],
    quorum: &'p Quorum,
    policy: &'p TrustPolicy,
    now: Timestamp,
) -> impl Iterator<Item = Signer> + 'p {
    let counts = move |key: &&&TrustedKey| {
        quorum.keys.contains(key.vkey.name()) && !policy.revokes(key.vkey.public()) && key.valid_at(now)
    };
    signed.iter().filter(counts).map(|key| Signer::of(key))
}

/// The signers of a note that count toward `quorum`, if their distinct holders reach its threshold.
///
/// The keys of a quorum are of its kind: the policy's reader saw to that. A revoked key, a key out of its time and a key of
/// another publisher or author count for nothing; where one of them is what is missing, the refusal says so.
pub(super) fn enough(
    signed: &[&TrustedKey],
    quorum: &Quorum,
    policy: &TrustPolicy,
    now: Timestamp,
) -> Result<BTreeSet<Signer>, Refusal> {
    let in_scope = |key: &TrustedKey| quorum.keys.contains(key.vkey.name());
    let revoked = |key: &TrustedKey| policy.revokes(key.vkey.public());
    let own: Vec<&TrustedKey> = signed.iter().copied().filter(|key| in_scope(key)).collect();
    let counted = |key: &&TrustedKey| !revoked(key) && key.valid_at(now);
    let found = holders(own.iter().copied().filter(counted));
    let needed = quorum.threshold.get() as usize;
    if found.len() >= needed {
        return Ok(own.into_iter().filter(counted).map(Signer::of).collect());
    }
    let reached = |keys: &BTreeSet<&Holder>| keys.len() >= needed;
    let names = |test: &dyn Fn(&TrustedKey) -> bool| {
        let names: Vec<&str> =
            signed.iter().filter(|key| test(key)).map(|key| key.vkey.name().as_str()).collect();
        names.join(", ")
    };
    let (code, why) = if reached(&holders(own.iter().copied().filter(|key| key.valid_at(now)))) {
        (RefusalCode::RevokedKey, format!("revoked: {}", names(&revoked)))
    } else if reached(&holders(own.iter().copied())) {
        (RefusalCode::Window, format!("keys out of their time: {}", names(&|key| !key.valid_at(now))))
    } else if reached(&holders(signed.iter().copied())) {
        (RefusalCode::Scope, format!("keys that may not sign this: {}", names(&|key| !in_scope(key))))
    } else if signed.is_empty() {
        (RefusalCode::Threshold, "no signature is by a key of the trust policy".to_owned())
    } else {
        (RefusalCode::Threshold, format!("known keys that signed: {}", names(&|_| true)))
    };
    let detail = format!("{} of {needed} needed holders have signed; {why}.", found.len());
    Err(Refusal::new(code, detail))
}
