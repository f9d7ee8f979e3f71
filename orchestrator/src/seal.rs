//! The orchestrator's own secrets at rest: keys of webhooks. Never a job's, which live at runners.
//!
//! XChaCha20-Poly1305 under a key in a file of its own, with the place of the secret as associated data: what was sealed
//! for one place does not open at another.

use std::path::Path;

use anyhow::Context as _;
use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use zeroize::Zeroizing;

use crate::tls;

const NONCE: usize = 24;

/// Seals and opens.
pub struct Seal(XChaCha20Poly1305);

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal(…)")
    }
}

/// What was sealed does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the secret of {0} does not open: seal.key in the state directory is another one than it was sealed with"
)]
pub struct Broken(String);

/// The operating system gives no randomness, or the value is too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nothing can be sealed: the operating system gives no randomness")]
pub struct CannotSeal;

impl Seal {
    /// Seals with this key.
    pub fn new(key: &[u8; 32]) -> Self {
        Self(XChaCha20Poly1305::new(key.into()))
    }

    /// Seals with the key in `seal.key` of this directory, which is made if it is absent.
    ///
    /// # Errors
    /// The file cannot be read or made, or is no key.
    pub fn load(state: &Path) -> anyhow::Result<Self> {
        let file = state.join("seal.key");
        match std::fs::read(&file).map(Zeroizing::new) {
            Ok(bytes) => {
                let key = <&[u8; 32]>::try_from(&bytes[..]).ok();
                let key = key.with_context(|| format!("{}: a key has 32 bytes", file.display()))?;
                Ok(Self::new(key))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let mut key = Zeroizing::new([0; 32]);
                getrandom::fill(&mut key[..]).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
                tls::write_private(&file, &key[..])?;
                Ok(Self::new(&key))
            }
            Err(error) => Err(error).with_context(|| file.display().to_string()),
        }
    }

    /// Seals `value` for `place`.
    pub fn seal(&self, place: &str, value: &[u8]) -> Result<Vec<u8>, CannotSeal> {
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(|_| CannotSeal)?;
        let payload = Payload { msg: value, aad: place.as_bytes() };
        let sealed = self.0.encrypt(&XNonce::from(nonce), payload).map_err(|_| CannotSeal)?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// Opens what was sealed for `place`.
    pub fn open(&self, place: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Broken> {
        let broken = || Broken(place.to_owned());
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE>().ok_or_else(broken)?;
        let payload = Payload { msg: sealed, aad: place.as_bytes() };
        self.0.decrypt(&XNonce::from(*nonce), payload).map(Zeroizing::new).map_err(|_| broken())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_at_its_place_and_nowhere_else() {
        let seal = Seal::new(&[7; 32]);
        let sealed = seal.seal("hook ops/deploy", b"whsec").unwrap();
        assert!(!sealed.windows(5).any(|part| part == b"whsec"));
        assert_eq!(&**seal.open("hook ops/deploy", &sealed).unwrap(), b"whsec");
        assert!(seal.open("hook ops/other", &sealed).is_err());
        assert!(Seal::new(&[8; 32]).open("hook ops/deploy", &sealed).is_err());
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert!(seal.open("hook ops/deploy", &altered).is_err(), "{at}");
        }
        assert!(seal.open("hook ops/deploy", &sealed[..20]).is_err());
        assert_ne!(seal.seal("a", b"x").unwrap(), seal.seal("a", b"x").unwrap());
    }

    #[test]
    fn the_key_is_made_once_and_for_its_owner() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let sealed = Seal::load(directory.path()).unwrap().seal("a", b"x").unwrap();
        assert_eq!(&**Seal::load(directory.path()).unwrap().open("a", &sealed).unwrap(), b"x");
        let file = directory.path().join("seal.key");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&file, b"short").unwrap();
        assert!(Seal::load(directory.path()).unwrap_err().to_string().contains("32 bytes"));
    }
}
