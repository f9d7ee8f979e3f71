//! Seeing the value of a secret. Most steps do not want this.
//!
//! A secret that `step.toml` binds to an `[[http]]`, `[[ssh]]` or `[[exec]]` rule is used by the runner and never comes
//! here. Only a protocol that the runner does not speak needs the value; it takes a `[[reveal]]` of its own, which
//! reviewers see and which is recorded at every run.

use std::hint::black_box;

use crate::{Refusal, host};

/// A secret's value. It cannot be printed, and is overwritten when it is dropped.
pub struct Secret(String);

impl Secret {
    /// The value. What is made of it is no longer protected: the runner redacts the value and its usual encodings, and
    /// nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.0).into_bytes();
        bytes.fill(0);
        black_box(&bytes);
    }
}

/// The value of the secret that the job bound to `name`.
pub fn reveal(name: &str) -> Result<Secret, Refusal> {
    host::reveal(name).map(Secret)
}
