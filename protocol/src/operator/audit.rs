//! The record of who did what, and the signed ends of runners' own records.

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// The orchestrator's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditView {
    /// Whose it is, as its signed end says.
    pub keeper: String,
    /// The verification key of its end.
    pub key: String,
    /// How many entries it has.
    pub entries: u64,
    /// Its end, a `remit/trail/v1` note.
    pub head: String,
}

/// Which lines are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
pub struct AuditPart {
    /// `last` of the part before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
}

/// A part of the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditLines {
    /// The lines, the oldest first, without newlines: linked as `remit audit verify` checks.
    pub lines: Vec<String>,
    /// What to go on behind; absent: there was nothing more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<u64>,
}

/// The end of a runner's own record, as the runner signed and sent it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TrailView {
    /// How many entries it has.
    pub entries: u64,
    /// When it came.
    pub at: Timestamp,
    /// The signed note, exactly.
    pub note: String,
    /// The runner still uses the key that signed it.
    pub current: bool,
    /// A signed end that came later and does not fit to it: the record was cut off or rewritten. The first of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against: Option<String>,
}
