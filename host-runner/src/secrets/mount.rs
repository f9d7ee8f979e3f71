//! Which paths a provider answers for.

use remit_protocol::{InvalidId, SecretPath};
use serde::Deserialize;

/// The paths that a provider answers for: `keys` or `keys/…`, by whole segments.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Mount(String);

impl Mount {
    /// The prefix, without a trailing slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True if `path` lies below it.
    pub fn holds(&self, path: &SecretPath) -> bool {
        path.as_str().strip_prefix(&self.0).is_some_and(|rest| rest.starts_with('/'))
    }
}

impl TryFrom<String> for Mount {
    type Error = InvalidId;
    fn try_from(text: String) -> Result<Self, InvalidId> {
        if text != "keys" {
            SecretPath::new(text.as_str())?;
        }
        Ok(Self(text))
    }
}
