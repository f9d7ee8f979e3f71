//! Secrets: the names come with the work, the values stay in this room until the moment of use.
//!
//! [`Resolve`] is what capabilities hold: a path in, a [`SecretValue`] out, read anew at each use so that a rotated value
//! needs no restart. [`Providers`] is the runner's list of places, by the longest matching mount.
//!
//! *Must not know:* HTTP, SSH, the sandbox, who asked and why (that was decided when the remit was computed).
//! *Invariant:* a value can be neither printed, serialised nor cloned, and is overwritten when it is dropped.

pub mod directory;
pub mod environment;
pub mod providers;
pub mod store;

use async_trait::async_trait;
use remit_protocol::SecretPath;
use zeroize::Zeroizing;

pub use providers::{ProviderConfig, Providers};

/// Fewest bytes of a secret: shorter values could not be redacted without harming ordinary text.
pub const MIN_SECRET: usize = 8;
/// Most bytes of a secret: a bundle of keys and certificates fits.
pub const MAX_SECRET: usize = 64 << 10;

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

/// Why a secret could not be had. The text names path and remedy, never a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// No provider is mounted above the path.
    #[error(
        "no secrets provider of this runner holds {path}: add a [[provider]] whose `mount` is a prefix of it to runner.toml"
    )]
    NoProvider {
        /// The path.
        path: SecretPath,
    },
    /// The provider does not have it.
    #[error("the secret {path} is not in {place}: {remedy}")]
    Missing {
        /// The path.
        path: SecretPath,
        /// The provider in words.
        place: String,
        /// How to put it there.
        remedy: String,
    },
    /// It is there, and its bytes cannot be a secret.
    #[error("the secret {path} in {place} cannot be used: {why}")]
    Invalid {
        /// The path.
        path: SecretPath,
        /// The provider in words.
        place: String,
        /// What is wrong with its length.
        why: InvalidSecret,
    },
    /// The provider failed.
    #[error("the secret {path} could not be read from {place}: {why}")]
    Unreadable {
        /// The path.
        path: SecretPath,
        /// The provider in words.
        place: String,
        /// What happened.
        why: String,
    },
}

/// Whatever turns the path of a secret into its value.
#[async_trait]
pub trait Resolve: Send + Sync {
    /// The value at `path` as it is now.
    async fn resolve(&self, path: &SecretPath) -> Result<SecretValue, SecretError>;
}

/// Cuts one newline (`\n` or `\r\n`) off the end: editors and `echo` add it.
pub(crate) fn trim_newline(bytes: &mut Vec<u8>) {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
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

    #[test]
    fn one_newline_is_trimmed() {
        fn check(text: &str, expect: &str) {
            let mut bytes = text.as_bytes().to_vec();
            trim_newline(&mut bytes);
            assert_eq!(String::from_utf8(bytes).unwrap(), expect);
        }
        check("a", "a");
        check("a\n", "a");
        check("a\r\n", "a");
        check("a\n\n", "a\n");
        check("a\r", "a\r");
        check("", "");
    }
}
