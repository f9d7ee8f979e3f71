//! What people ask about executions, and what they want to be done.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

use super::ExecutionState;
use crate::{
    ArtifactName, IdempotencyKey, JobName, NodeIndex, ProjectName, StepIndex, Tag,
    operator::{self, SignedRun},
};

/// Which executions are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
pub struct ExecutionQuery {
    /// Only of this project; without it, of all projects that the token may see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(value_type = Option<String>))]
    pub project: Option<ProjectName>,
    /// Only of this job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(value_type = Option<String>))]
    pub job: Option<JobName>,
    /// Only in this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(value_type = Option<String>))]
    pub state: Option<ExecutionState>,
    /// Only with this outcome, by the word without detail: `succeeded`, `refused` …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// `next` of the part before; the newest come first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// How many entries at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

impl ExecutionQuery {
    /// The number of entries to answer with.
    pub fn entries(&self) -> u32 {
        operator::entries(self.limit)
    }
}

/// How a node ended on which a job is run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum NodeFate {
    /// Badly, and it is known how.
    Failed,
    /// Its runner was lost or restarted: it may have run to its end.
    Unknown,
    /// Something of it was never begun, and nothing of it went wrong.
    NotStarted,
}

impl NodeFate {
    /// What is run again where nothing else is asked for: what is known not to be done.
    pub const USUAL: [Self; 2] = [Self::Failed, Self::NotStarted];
}

impl fmt::Display for NodeFate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::NotStarted => "not-started",
        })
    }
}

/// Run the job of an execution again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Rerun {
    /// On the nodes that ended so; none: on those that failed or were not started.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub nodes: BTreeSet<NodeFate>,
    /// Other runner tags than it had, if the job allows that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_tags: Option<BTreeSet<Tag>>,
    /// The same key in the same job means the same execution, for 24 hours at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<IdempotencyKey>,
    /// The new run as the caller signed it: a signature is about one run, so the earlier one does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<SignedRun>,
}

/// Go on with an execution that ended badly, from its first step that did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Resume {
    /// Other runner tags than it had, if the job allows that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_tags: Option<BTreeSet<Tag>>,
    /// The same key in the same job means the same execution, for 24 hours at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<IdempotencyKey>,
}

/// Which nodes of a step are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
pub struct NodesQuery {
    /// Only nodes with this outcome, by the word without detail; `open`: those without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// `next` of the part before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// How many entries at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

impl NodesQuery {
    /// The number of entries to answer with.
    pub fn entries(&self) -> u32 {
        operator::entries(self.limit)
    }
}

/// Which artifacts are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
pub struct ArtifactsQuery {
    /// Only of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<ArtifactName>,
    /// `next` of the part before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// How many entries at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

impl ArtifactsQuery {
    /// The number of entries to answer with.
    pub fn entries(&self) -> u32 {
        operator::entries(self.limit)
    }
}

/// Whose artifact is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
pub struct ArtifactQuery {
    /// The node's place in the execution's node set, for what a node step kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeIndex>,
}

/// Which log entries are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
pub struct LogQuery {
    /// From this number on; absent: from the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// How many at most, up to [`operator::MAX_LOG_PAGE`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Only of this step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(value_type = Option<u32>))]
    pub step: Option<StepIndex>,
    /// Only of this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(value_type = Option<u32>))]
    pub node: Option<NodeIndex>,
}

impl LogQuery {
    /// The number of entries to answer with.
    pub fn entries(&self) -> u32 {
        self.limit.unwrap_or(operator::MAX_PAGE).clamp(1, operator::MAX_LOG_PAGE)
    }
}

/// How an execution is to be cancelled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum CancelMode {
    /// Tell the runners, and wait for their word.
    #[default]
    Ask,
    /// End it now, whatever becomes of what runs: for runners that cannot be reached.
    Force,
}

/// Cancel an execution.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Cancel {
    /// Ask or force.
    #[serde(default)]
    pub mode: CancelMode,
}

/// What a person decides about a held section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Decision {
    /// It did what it should: go on.
    Done,
    /// It did not.
    Failed,
    /// Run again what is not known to have ended.
    Rerun,
}

/// Answer at a gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Answer {
    /// Yes or no.
    pub agrees: bool,
    /// The approver's signed note, `remit/approve/v1`: what runners believe whose owner wants to see one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Why not, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// Decide about a held section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Decide {
    /// What.
    pub decision: Decision,
}

/// Whose queue is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
pub struct QueueQuery {
    /// Only of this project; without it, of all projects that the token may see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(value_type = Option<String>))]
    pub project: Option<ProjectName>,
}
