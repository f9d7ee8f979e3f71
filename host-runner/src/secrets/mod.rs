//! Secrets: the names come with the work, the values stay in this room until the moment of use.
//!
//! [`Resolve`] is what capabilities hold: a path in, a [`SecretValue`] out, read anew at each use, or after a short life
//! where that costs a call, so that a rotated value needs no restart. [`Providers`] is the runner's list of places, by the
//! longest matching mount.
//!
//! *Must not know:* the requests, logins and programs that values are used in, the sandbox, who asked and why (that was
//! decided when the remit was computed).
//! *Invariant:* a value can be neither printed, serialised nor cloned, and is overwritten when it is dropped.

mod cache;
pub mod directory;
pub mod environment;
mod mount;
mod program;
pub mod providers;
pub mod store;
pub mod trial;
mod typed;
mod value;
mod vault;

use async_trait::async_trait;
use remit_protocol::{RefusalCode, SecretPath, capability::Remit};

use crate::report::redact::Redactor;

pub use mount::Mount;
pub(crate) use program::VARIABLES as PROGRAM_VARIABLES;
pub use providers::{ProviderConfig, Providers};
pub use typed::TypedSecrets;
pub(crate) use typed::WithTyped;
pub use value::{InvalidSecret, SecretValue};

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
    /// It was typed for something else, or its time is over.
    #[error("the secret {path} that was typed cannot be opened. {why}")]
    Sealed {
        /// The path.
        path: SecretPath,
        /// What is wrong with it.
        why: String,
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
    /// The value at `path`, as it is now or was a short life ago.
    async fn resolve(&self, path: &SecretPath) -> Result<SecretValue, SecretError>;

    /// The value at `path` as it is now: asked once when an attempt begins, so that what was rotated before is used in it.
    async fn fresh(&self, path: &SecretPath) -> Result<SecretValue, SecretError> {
        self.resolve(path).await
    }

    /// Keeps alive what ends without use, such as a provider's own login. Does not return.
    async fn keep(&self) {
        std::future::pending::<()>().await;
    }
}

impl SecretError {
    /// The refusal that this comes to, before anything was run.
    pub fn code(&self) -> RefusalCode {
        match self {
            Self::Sealed { .. } => RefusalCode::Sealed,
            Self::NoProvider { .. }
            | Self::Missing { .. }
            | Self::Invalid { .. }
            | Self::Unreadable { .. } => RefusalCode::Secret,
        }
    }
}

/// Makes what `remit` can use known to redaction, each as it is now, and says early if one cannot be had. Of several paths
/// for one name only the node's own is needed later, so there none is missed here.
///
/// # Errors
/// The first that cannot be had.
pub async fn know(remit: &Remit, secrets: &dyn Resolve, redactor: &Redactor) -> Result<(), SecretError> {
    let bound = remit.secrets();
    for secret in &bound {
        match secrets.fresh(&secret.path).await {
            Ok(value) => redactor.add([(&secret.path, &value)]),
            Err(SecretError::Missing { .. })
                if bound.iter().any(|other| other.name == secret.name && other.path != secret.path) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
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
