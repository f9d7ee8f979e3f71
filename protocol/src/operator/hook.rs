//! Webhooks: other programs run a job by a signed call, with options that come out of what they send.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ShownOnce;
use crate::{HookName, JobName, OptionName, Span, Timestamp};

/// Largest payload of a call, in bytes.
pub const MAX_PAYLOAD: u64 = 256 << 10;
/// How far the time of a call may be from the orchestrator's, before or behind.
pub const HOOK_WINDOW: Span = Span::from_secs(300);
/// Longest time for which two secrets are good.
pub const LONGEST_OVERLAP: Span = Span::from_secs(7 * 86_400);

/// Where the value of an option comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HookMapping {
    /// Out of the payload, by JSON pointer (RFC 6901): `/repository/name`. What is not there, or null, is left out.
    Payload(String),
    /// Always this.
    Value(Value),
}

/// A webhook to be made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewHook {
    /// Its name in the project.
    pub name: HookName,
    /// The job that it runs.
    pub job: JobName,
    /// Where options come from. Nothing else of the payload goes anywhere.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub options: BTreeMap<OptionName, HookMapping>,
}

/// A webhook.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HookView {
    /// Its name.
    pub name: HookName,
    /// The job.
    pub job: JobName,
    /// Where options come from.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub options: BTreeMap<OptionName, HookMapping>,
    /// Where it is called.
    pub url: String,
    /// When it was made.
    pub created: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// Since when its secret is what it is.
    pub rotated: Timestamp,
    /// Until when the secret before is good as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_until: Option<Timestamp>,
}

/// A webhook with its secret, which is shown this once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HookCreated {
    /// `whsec_…`: what calls are signed with.
    pub secret: ShownOnce,
    /// The webhook.
    pub hook: HookView,
}

/// Another secret is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RotateHook {
    /// How long the present one is good as well, up to [`LONGEST_OVERLAP`]; absent: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<Span>,
}
