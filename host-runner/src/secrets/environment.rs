//! The provider `environment`: secrets that came in as environment variables and were taken out of it at start.

use std::collections::BTreeMap;

use async_trait::async_trait;
use remit_protocol::SecretPath;

use super::{Resolve, SecretError, SecretValue};

/// A fixed mapping of paths to values that were read once, at start.
///
/// Removing the variables from the process's environment is the duty of the shell that reads them.
pub struct Environment {
    values: BTreeMap<SecretPath, SecretValue>,
}

impl Environment {
    /// Takes the values by path.
    pub fn new(values: BTreeMap<SecretPath, SecretValue>) -> Self {
        Self { values }
    }
}

#[async_trait]
impl Resolve for Environment {
    async fn resolve(&self, path: &SecretPath) -> Result<SecretValue, SecretError> {
        self.values.get(path).map(SecretValue::duplicate).ok_or_else(|| SecretError::Missing {
            path: path.clone(),
            place: "the runner's environment".to_owned(),
            remedy: "name its variable under `variables` of the provider and restart the runner with it"
                .to_owned(),
        })
    }
}
