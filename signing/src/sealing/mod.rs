//! Typed secrets: sealed to the key of one runner, for one place in one run, until a time.
//!
//! HPKE in base mode (RFC 9180) with DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and ChaCha20-Poly1305; its `info` is a text
//! that names what the value is for ([`Purpose`]), so that it opens there and nowhere else. A runner's [`SealingKey`] is
//! vouched for by its identity key ([`SealingNote`]), and that by whoever has pinned it.
//!
//! Base mode does not say who sealed: whoever knows the public key can seal a value of his own. Where that matters, the note
//! of a signed run names the sealed values ([`RunNote`](crate::run::RunNote)).
//!
//! *Invariant:* nothing is opened for another run, job document, option values, node set, option, path or runner than it was
//! sealed for, nor after its time.

mod key;
mod note;

use hpke::{
    Deserializable as _, OpModeR, OpModeS, Serializable as _, aead::ChaCha20Poly1305, kdf::HkdfSha256,
};
use remit_protocol::{
    OptionName, RefusalCode, RunnerId, SecretPath, Timestamp,
    sealed::{LONGEST_VALIDITY, Sealed, SealedBytes},
};
use zeroize::Zeroizing;

pub use key::{SealingKey, SealingPublic};
pub use note::{NotSealable, SealingNote};

use self::key::{Kem, Seeded};
use crate::{Refusal, note::TextWriter, run::Order};

/// Bytes of the encapsulated key.
const ENCAPSULATED: usize = 32;

/// What a value is sealed for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purpose<'a> {
    /// Which run, of which document, with which option values and nodes.
    pub order: &'a Order,
    /// For which option.
    pub option: &'a OptionName,
    /// As the secret of which path.
    pub path: &'a SecretPath,
    /// For which runner.
    pub runner: RunnerId,
    /// Since when, to the second.
    pub issued: Timestamp,
    /// Until when, to the second.
    pub expires: Timestamp,
}

/// Nothing can be sealed like that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotSeal {
    /// Its times.
    #[error("a secret is sealed to the second, for at most a day")]
    Validity,
    /// Its length.
    #[error("a secret that is sealed has at most 64 KiB")]
    Long,
    /// The runner's key.
    #[error("the runner's sealing key cannot be used")]
    Key,
}

impl Purpose<'_> {
    /// What `sealed` says that it is for, in the run `order`.
    pub fn of<'a>(order: &'a Order, sealed: &'a Sealed) -> Purpose<'a> {
        Purpose {
            order,
            option: &sealed.option,
            path: &sealed.path,
            runner: sealed.runner,
            issued: sealed.issued,
            expires: sealed.expires,
        }
    }

    /// The text that is bound: one spelling for each purpose.
    fn text(&self) -> String {
        self.order
            .write(TextWriter::headed("remit/secret/v1"))
            .line("option", self.option)
            .line("path", self.path)
            .line("runner", self.runner)
            .time("issued", self.issued)
            .time("expires", self.expires)
            .finish()
    }

    /// Seals `value` to `key`. `seed` is 32 random bytes that are used for nothing else.
    ///
    /// # Errors
    /// [`CannotSeal`].
    pub fn seal(&self, key: &SealingPublic, value: &[u8], seed: [u8; 32]) -> Result<Sealed, CannotSeal> {
        if !is_valid(self.issued, self.expires) {
            return Err(CannotSeal::Validity);
        }
        let (encapsulated, ciphertext) =
            hpke::single_shot_seal_with_rng::<ChaCha20Poly1305, HkdfSha256, Kem>(
                &OpModeS::Base,
                &key.0,
                self.text().as_bytes(),
                value,
                &[],
                &mut Seeded::new(seed),
            )
            .map_err(|_| CannotSeal::Key)?;
        let mut bytes = encapsulated.to_bytes().to_vec();
        bytes.extend_from_slice(&ciphertext);
        Ok(Sealed {
            option: self.option.clone(),
            path: self.path.clone(),
            runner: self.runner,
            issued: self.issued,
            expires: self.expires,
            value: SealedBytes::new(bytes).map_err(|_| CannotSeal::Long)?,
        })
    }
}

/// To the second, not empty, and not too long.
fn is_valid(issued: Timestamp, expires: Timestamp) -> bool {
    let whole = |time: Timestamp| time.as_millis().is_multiple_of(1000);
    whole(issued)
        && whole(expires)
        && expires > issued
        && expires.since(issued) <= LONGEST_VALIDITY.duration()
}

fn refused(detail: impl std::fmt::Display) -> Refusal {
    Refusal::new(RefusalCode::Sealed, detail)
}

/// Looks at what `sealed` says of itself, before anybody tries to open it.
///
/// # Errors
/// `E_SEALED`: it is for another runner, its time is over or not of its form.
pub fn check(sealed: &Sealed, runner: RunnerId, now: Timestamp) -> Result<(), Refusal> {
    let Sealed { path, option, issued, expires, .. } = sealed;
    if sealed.runner != runner {
        return Err(refused(format_args!(
            "What was typed for {option} is for the runner {}.",
            sealed.runner
        )));
    }
    if !is_valid(*issued, *expires) {
        let detail =
            format!("What was typed for {option} is good from {issued} to {expires}, which cannot be.");
        return Err(refused(detail));
    }
    if now >= *expires {
        let until = expires.to_seconds_text();
        return Err(refused(format_args!("What was typed for {option} ({path}) was good until {until}.")));
    }
    Ok(())
}

/// Opens what was sealed to `key` for the runner `runner` and the run `order`. The value is wiped when it is dropped.
///
/// # Errors
/// As [`check`]; and `E_SEALED` if it was sealed for anything else, or changed.
pub fn open(
    sealed: &Sealed,
    order: &Order,
    (runner, key): (RunnerId, &SealingKey),
    now: Timestamp,
) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    check(sealed, runner, now)?;
    let wrong = || {
        refused(format_args!(
            "What was typed for {} does not open: it was sealed for another run, job, option or runner, or it was changed.",
            sealed.option
        ))
    };
    let (encapsulated, ciphertext) =
        sealed.value.as_bytes().split_at_checked(ENCAPSULATED).ok_or_else(wrong)?;
    let encapsulated = <Kem as hpke::Kem>::EncappedKey::from_bytes(encapsulated).map_err(|_| wrong())?;
    let opened = hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, Kem>(
        &OpModeR::Base,
        &key.private,
        &encapsulated,
        Purpose::of(order, sealed).text().as_bytes(),
        ciphertext,
        &[],
    );
    opened.map(Zeroizing::new).map_err(|_| wrong())
}
