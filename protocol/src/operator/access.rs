//! API tokens and what they may do. Deny by default: a token does what its role says and nothing else.

use serde::{Deserialize, Serialize};

use super::ShownOnce;
use crate::{ProjectName, Span, Timestamp, TokenId, TokenName};

/// What somebody may do in one project; each role includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ProjectRole {
    /// Sees jobs, nodes, executions and logs.
    Viewer,
    /// Runs, cancels, decides.
    Operator,
    /// Changes jobs and nodes.
    Editor,
    /// Changes node sources and who may do what here.
    Admin,
}

/// What somebody may do in the whole installation. These do not include one another, but `admin` includes everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum InstanceRole {
    /// Everything: projects, runners, tokens, and every project's contents.
    Admin,
    /// Publishes components.
    Publisher,
    /// Reads the metrics.
    Metrics,
}

/// One role and where it holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "scope", rename_all = "lowercase", deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Access {
    /// In one project.
    Project {
        /// Which.
        project: ProjectName,
        /// As what.
        role: ProjectRole,
    },
    /// In the whole installation.
    Instance {
        /// As what.
        role: InstanceRole,
    },
}

/// A token to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewToken {
    /// For people; it appears as `started_by` of executions.
    pub name: TokenName,
    /// What it may do.
    pub access: Access,
    /// How long it is good; absent: 90 days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<Span>,
}

/// The token was made. Its text is not kept: this is the only answer that has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TokenCreated {
    /// The token's text.
    pub token: ShownOnce,
    /// Everything else about it.
    pub view: TokenView,
}

/// A token as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TokenView {
    /// Its id, which is also part of its text.
    pub id: TokenId,
    /// Its name.
    pub name: TokenName,
    /// What it may do.
    pub access: Access,
    /// When it was made.
    pub created: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// Good until; absent: until it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Timestamp>,
    /// When it was last used, to the minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<Timestamp>,
}
