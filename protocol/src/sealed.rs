//! A secret that somebody typed, sealed to the key of one runner: what an orchestrator carries and cannot open.
//!
//! What it is sealed *for* (run, job, option, path, runner, until when) is bound into the seal by `remit-signing`; here is
//! its form alone.

use std::fmt;

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

use crate::{ExecutionId, OptionName, RunnerId, SecretPath, Span, Timestamp, digest, limits::MAX_SECRET};

/// Most sealed values of one run: its typed options, each for every runner that it may go to.
pub const MAX_SEALED: usize = 256;
/// Most bytes of all of them together, as they travel: an assignment and a request are no larger than 512 KiB.
pub const MAX_SEALED_BYTES: usize = 256 << 10;
/// Most options of a job that are typed.
pub const MAX_TYPED: usize = 16;
/// How long a value can be opened if nobody says.
pub const USUAL_VALIDITY: Span = Span::from_secs(3600);
/// How long at most.
pub const LONGEST_VALIDITY: Span = Span::from_secs(24 * 3600);

/// Bytes that a seal adds: an encapsulated key and a tag.
const OVERHEAD: usize = 32 + 16;

/// An encapsulated key with the ciphertext behind it: standard base64 of at most 64 KiB and 48 bytes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SealedBytes(Vec<u8>);

/// A text that is no sealed value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a sealed value: standard base64 of an encapsulated key and a ciphertext, at most 64 KiB of it")]
pub struct InvalidSealed;

impl SealedBytes {
    /// Takes the bytes.
    ///
    /// # Errors
    /// They are fewer than a seal alone has, or more than one of the largest value.
    pub fn new(bytes: Vec<u8>) -> Result<Self, InvalidSealed> {
        let fits = (OVERHEAD..=MAX_SECRET + OVERHEAD).contains(&bytes.len());
        if fits { Ok(Self(bytes)) } else { Err(InvalidSealed) }
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Digest and length of the bytes: what a note about a run names.
    pub fn sized(&self) -> digest::Sized {
        digest::Sized::of(&self.0)
    }

    /// How many bytes they take as they travel.
    pub fn travels_as(&self) -> usize {
        BASE64.encode_len(self.0.len())
    }
}

impl fmt::Debug for SealedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedBytes({} bytes)", self.0.len())
    }
}

impl TryFrom<String> for SealedBytes {
    type Error = InvalidSealed;
    fn try_from(text: String) -> Result<Self, InvalidSealed> {
        Self::new(BASE64.decode(text.as_bytes()).map_err(|_| InvalidSealed)?)
    }
}

impl From<SealedBytes> for String {
    fn from(sealed: SealedBytes) -> Self {
        BASE64.encode(&sealed.0)
    }
}

/// A value that was typed for an option of one run, sealed to one runner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Sealed {
    /// For which option.
    pub option: OptionName,
    /// As the secret of which path it arrives.
    pub path: SecretPath,
    /// Who can open it.
    pub runner: RunnerId,
    /// When it was sealed, to the second.
    pub issued: Timestamp,
    /// From then on it is not opened any more; to the second, at most a day later.
    pub expires: Timestamp,
    /// The encapsulated key and the ciphertext, in base64.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub value: SealedBytes,
}

/// Typed secrets of a run, with everything of the run that they are sealed for: the plan says what that is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SealedRun {
    /// The id of the execution, as the plan gave it.
    pub execution: ExecutionId,
    /// The exact bytes of the job document.
    pub definition: digest::Sized,
    /// The very text of the option values.
    pub options: String,
    /// The exact bytes of the node set; none for a job without nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<digest::Sized>,
    /// One for each typed option and each runner that the run may go to.
    pub values: Vec<Sealed>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_bytes_have_one_text_and_bounds() {
        fn check(length: usize, expect: bool) {
            let made = SealedBytes::new(vec![7; length]);
            assert_eq!(made.is_ok(), expect, "{length}");
            if let Ok(made) = made {
                let text = String::from(made.clone());
                assert_eq!(text.len(), made.travels_as());
                assert_eq!(SealedBytes::try_from(text), Ok(made));
            }
        }
        check(0, false);
        check(47, false);
        check(48, true);
        check(65_536 + 48, true);
        check(65_536 + 49, false);
        let text = String::from(SealedBytes::new(vec![0; 49]).unwrap());
        // Bits behind the last byte, no padding, another alphabet.
        for bad in
            [text.replace("AA==", "AB=="), text.replace('=', ""), text.replace('A', "-"), String::new()]
        {
            assert_eq!(SealedBytes::try_from(bad.clone()), Err(InvalidSealed), "{bad}");
        }
    }

    #[test]
    fn what_is_sealed_is_not_shown() {
        let sealed = SealedBytes::new(vec![65; 60]).unwrap();
        assert_eq!(format!("{sealed:?}"), "SealedBytes(60 bytes)");
    }
}
