//! X25519 keys: to which secrets are sealed, and with which they are opened.

use std::{convert::Infallible, fmt};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hpke::{
    Deserializable as _, Serializable as _,
    kem::X25519HkdfSha256,
    rand_core::{TryCryptoRng, TryRng},
};
use zeroize::Zeroizing;

use crate::key::strict_base64;

pub(super) type Kem = X25519HkdfSha256;

/// A text that is no sealing key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a sealing key: standard base64 of 32 bytes")]
pub struct InvalidSealingKey;

/// The public half.
#[derive(Clone, PartialEq, Eq)]
pub struct SealingPublic(pub(super) <Kem as hpke::Kem>::PublicKey);

impl SealingPublic {
    /// The standard base64 of its 32 bytes.
    pub fn to_base64(&self) -> String {
        STANDARD.encode(self.0.to_bytes())
    }
}

impl fmt::Debug for SealingPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingPublic({})", self.to_base64())
    }
}

impl fmt::Display for SealingPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_base64())
    }
}

impl std::str::FromStr for SealingPublic {
    type Err = InvalidSealingKey;
    fn from_str(text: &str) -> Result<Self, InvalidSealingKey> {
        let bytes = strict_base64(text).ok_or(InvalidSealingKey)?;
        <Kem as hpke::Kem>::PublicKey::from_bytes(&bytes).map(Self).map_err(|_| InvalidSealingKey)
    }
}

/// The private half. It is wiped when dropped, and has neither `Debug`, `Clone` nor `Serialize`.
pub struct SealingKey {
    pub(super) private: <Kem as hpke::Kem>::PrivateKey,
}

impl SealingKey {
    /// The key of a 32-byte seed; the caller wipes its own copy.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self { private: <Kem as hpke::Kem>::derive_keypair(seed).0 }
    }

    /// The public half.
    pub fn public(&self) -> SealingPublic {
        SealingPublic(<Kem as hpke::Kem>::sk_to_pk(&self.private))
    }

    /// Standard base64 of the 32 private bytes. Keep it in a file that only its holder reads.
    pub fn to_private_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([0; 32]);
        self.private.write_exact(&mut bytes[..]);
        let mut text = Zeroizing::new(String::with_capacity(44));
        STANDARD.encode_string(&bytes[..], &mut text);
        text
    }

    /// Reads what [`Self::to_private_text`] wrote.
    ///
    /// # Errors
    /// [`InvalidSealingKey`].
    pub fn from_private_text(text: &str) -> Result<Self, InvalidSealingKey> {
        let bytes = Zeroizing::new(strict_base64(text).ok_or(InvalidSealingKey)?);
        let private = <Kem as hpke::Kem>::PrivateKey::from_bytes(&bytes).map_err(|_| InvalidSealingKey)?;
        Ok(Self { private })
    }
}

/// Gives the bytes of a seed, once: sealing asks for as many as a private key has. Were it ever asked for more, it would give
/// the digest of what it gave before, and never the same bytes twice.
pub(super) struct Seeded {
    next: Zeroizing<[u8; 32]>,
    used: usize,
}

impl Seeded {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        Self { next: Zeroizing::new(seed), used: 0 }
    }

    fn byte(&mut self) -> u8 {
        if self.used == self.next.len() {
            *self.next = *remit_protocol::Digest::of(&self.next[..]).as_bytes();
            self.used = 0;
        }
        let byte = self.next[self.used];
        self.used += 1;
        byte
    }
}

impl TryRng for Seeded {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, wanted: &mut [u8]) -> Result<(), Infallible> {
        wanted.iter_mut().for_each(|byte| *byte = self.byte());
        Ok(())
    }
}

impl TryCryptoRng for Seeded {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_and_its_halves_belong_together() {
        let key = SealingKey::from_seed(&[7; 32]);
        let again = SealingKey::from_private_text(&key.to_private_text()).ok().unwrap();
        assert_eq!(again.public(), key.public());
        assert_eq!(key.public().to_base64().parse(), Ok(key.public()));
        assert_ne!(SealingKey::from_seed(&[8; 32]).public(), key.public());
        let text = key.public().to_base64();
        for bad in [&text[..40], "", &text.replace('=', ""), &format!("{text}\n")] {
            assert_eq!(bad.parse::<SealingPublic>(), Err(InvalidSealingKey), "{bad}");
            assert!(SealingKey::from_private_text(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_byte_of_a_seed_is_given_twice() {
        let mut seeded = Seeded::new([7; 32]);
        let mut bytes = [0; 96];
        let Ok(()) = seeded.try_fill_bytes(&mut bytes);
        let [first, second, third] = [0, 32, 64].map(|at| &bytes[at..at + 32]);
        assert_eq!(first, [7; 32]);
        assert!(first != second && second != third && first != third);
    }
}
