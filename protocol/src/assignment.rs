//! An attempt as the runner receives it: one section of one execution, with what it needs to evaluate its steps itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    AttemptId, Epoch, ExecutionId, JobName, NodeName, Origin, Outcome, ProjectName, Revision, SectionNumber,
    Span, StepIndex, StepName, capability::Effect, digest,
};

/// Whether the runner asks before it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StartMode {
    /// The hand-out was recorded as the start: only for the classes `pure` and `read`.
    Fast,
    /// Ask with `start`, begin when it is granted.
    Guarded,
}

/// One section, handed to one runner under one epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assignment {
    /// This hand-out.
    pub attempt: AttemptId,
    /// Its fencing number.
    pub epoch: Epoch,
    /// The execution.
    pub execution: ExecutionId,
    /// The project.
    pub project: ProjectName,
    /// The job.
    pub job: JobName,
    /// The job's revision.
    pub revision: Revision,
    /// The job document, a blob.
    pub document: digest::Sized,
    /// The signed note on the document, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_note: Option<String>,
    /// The section's place in the plan.
    pub section: SectionNumber,
    /// The first step of the section.
    pub first_step: StepIndex,
    /// How many steps it has.
    pub steps: u32,
    /// Whether to ask before beginning.
    pub start: StartMode,
    /// The highest retry class of the section's steps.
    pub effect: Effect,
    /// Option values, checked by the orchestrator.
    #[serde(default)]
    pub options: Map<String, Value>,
    /// What earlier steps came to.
    #[serde(default)]
    pub earlier: BTreeMap<StepName, StepView>,
    /// The nodes, if this section's steps run once per node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodeWork>,
    /// What is left of the job's time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_left: Option<Span>,
    /// Who or what began the execution.
    pub started_by: String,
    /// Its trigger.
    #[serde(default, skip_serializing_if = "Origin::is_operator")]
    pub origin: Origin,
}

/// The nodes of a section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeWork {
    /// The execution's whole node set, a blob.
    pub set: digest::Sized,
    /// The part of it that this attempt runs, as ranges `[first, end)` of node indices, ascending.
    pub ranges: Vec<(u32, u32)>,
    /// How many nodes at once.
    pub threads: u32,
    /// Go on after a node failed.
    pub keep_going: bool,
    /// In which order steps and nodes are run.
    pub strategy: Strategy,
}

/// In which order the node steps of a section are run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Strategy {
    /// All steps on a node, then the next node.
    #[default]
    NodeFirst,
    /// A step on all nodes, then the next step.
    StepFirst,
    /// All steps at once on each node.
    Parallel,
}

/// What an expression sees of a step that ended: `steps.x`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepView {
    /// How it ended; for a node step the roll-up of its nodes.
    pub outcome: Outcome,
    /// A workflow step's output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs: Option<Value>,
    /// A node step's nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodesView>,
}

/// `steps.x.nodes`, seen from a workflow step.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodesView {
    /// Nodes where it succeeded.
    pub succeeded: Vec<NodeName>,
    /// Nodes where it did not.
    pub failed: Vec<NodeName>,
}
