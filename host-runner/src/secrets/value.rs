//! The value of a secret, and what bytes can be one.

use remit_protocol::limits::{MAX_SECRET, MIN_SECRET};
use zeroize::Zeroizing;

/// The value of a secret.
///
/// It has no `Debug`, `Display`, `Serialize` or `Clone` on purpose, and is overwritten when dropped. Call
/// [`expose`](Self::expose) only where the value is used.
pub struct SecretValue(Zeroizing<Vec<u8>>);

/// Why bytes are not acceptable as a secret. Never says anything of the bytes but their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecret {
    /// Too short to be redacted.
    #[error(
        "it has {0} bytes; a secret has at least {MIN_SECRET}, because shorter values cannot be kept out of logs"
    )]
    Short(usize),
    /// Too long.
    #[error("it has {0} bytes or more; a secret has at most {MAX_SECRET}")]
    Long(usize),
}

impl SecretValue {
    /// Takes the bytes, or says why they cannot be a secret. They are overwritten in both cases.
    pub fn new(bytes: Vec<u8>) -> Result<Self, InvalidSecret> {
        Self::from_zeroizing(Zeroizing::new(bytes))
    }

    /// As [`new`](Self::new), for bytes that are already held with care.
    pub fn from_zeroizing(bytes: Zeroizing<Vec<u8>>) -> Result<Self, InvalidSecret> {
        match bytes.len() {
            length if length < MIN_SECRET => Err(InvalidSecret::Short(length)),
            length if length > MAX_SECRET => Err(InvalidSecret::Long(length)),
            _ => Ok(Self(bytes)),
        }
    }

    /// The bytes, for the one place that uses them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// A second holder of the same value. Not `Clone`, so that a copy is always written out.
    pub(crate) fn duplicate(&self) -> Self {
        Self(Zeroizing::new(self.0.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_has_a_length_that_can_be_redacted() {
        fn check(length: usize, expect: Option<InvalidSecret>) {
            assert_eq!(SecretValue::new(vec![b'x'; length]).err(), expect, "{length}");
        }
        check(0, Some(InvalidSecret::Short(0)));
        check(7, Some(InvalidSecret::Short(7)));
        check(8, None);
        check(MAX_SECRET, None);
        check(MAX_SECRET + 1, Some(InvalidSecret::Long(MAX_SECRET + 1)));
    }
}
