//! An attempt as the runner receives it: one section of one execution, with what it needs to evaluate its steps itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    AttemptId, Epoch, ExecutionId, JobName, NodeName, Origin, Outcome, ProjectName, Revision, SectionNumber,
    Span, StepIndex, StepName, capability::Effect, digest, json, report::SignedResult, sealed::Sealed,
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
    pub options: OptionValues,
    /// The execution's whole node set, if it has nodes, whether or not this section does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_set: Option<digest::Sized>,
    /// The signed note of who wants this run, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_note: Option<String>,
    /// What runners signed about the sections before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub results: Vec<SignedResult>,
    /// The signed notes of who agreed at gates before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<String>,
    /// What was typed for options that steps of this section use, sealed to the runner that is to run it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sealed: Vec<Sealed>,
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
    /// What expressions see as `project.NAME`, as it was when the execution was made.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub variables: Map<String, Value>,
    /// Its trigger.
    #[serde(default, skip_serializing_if = "Origin::is_operator")]
    pub origin: Origin,
    /// For which step of another execution it is, if a job that runs jobs began it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub child_of: Option<ChildOf>,
    /// Where runs are signed, the executions of its family on which it depends, in any order: those above it, and those
    /// that jobs before it have run. At most [`MAX_KIN`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub family: Vec<Kin>,
}

/// Most executions of a family that come with one assignment.
pub const MAX_KIN: usize = 500;

/// For what a child execution is: a step of its parent, and an item of that step's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChildOf {
    /// The parent.
    pub execution: ExecutionId,
    /// The step of the parent that runs the job.
    pub step: StepIndex,
    /// For which item of the step's list; zero without a list.
    pub item: u32,
}

/// Another execution of the same family, which is in one project: what a runner needs to see for itself what it came to, or
/// why it wanted the next one. Nothing of it is believed that nobody signed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kin {
    /// The execution.
    pub execution: ExecutionId,
    /// Its job.
    pub job: JobName,
    /// The job document, a blob.
    pub document: digest::Sized,
    /// The signed note on the document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_note: Option<String>,
    /// Option values.
    #[serde(default)]
    pub options: OptionValues,
    /// Its whole node set, if it has nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_set: Option<digest::Sized>,
    /// The signed note of who wants it, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_note: Option<String>,
    /// What runners signed about its sections.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub results: Vec<SignedResult>,
    /// The signed notes of who agreed at its gates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<String>,
    /// What its gates came to: counts only where approvals need no signature.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub gates: BTreeMap<StepName, StepView>,
    /// Its trigger.
    #[serde(default, skip_serializing_if = "Origin::is_operator")]
    pub origin: Origin,
    /// For which step of another execution it is; absent for the one with which the family began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub child_of: Option<ChildOf>,
}

/// Option values with the very text that they were read from: what a note about a run names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OptionValues {
    text: String,
    values: Map<String, Value>,
}

impl OptionValues {
    /// Most bytes of their text.
    pub const MOST: usize = 256 << 10;

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Digest and length of the text.
    pub fn sized(&self) -> digest::Sized {
        digest::Sized::of(self.text.as_bytes())
    }
}

impl Default for OptionValues {
    fn default() -> Self {
        Map::new().into()
    }
}

impl From<Map<String, Value>> for OptionValues {
    fn from(values: Map<String, Value>) -> Self {
        // A map of values always has a text.
        let text = serde_json::to_string(&values).unwrap_or_default();
        Self { text, values }
    }
}

impl TryFrom<String> for OptionValues {
    type Error = json::InvalidJson;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let values = json::from_slice(text.as_bytes(), Self::MOST)?;
        Ok(Self { text, values })
    }
}

impl From<OptionValues> for String {
    fn from(values: OptionValues) -> Self {
        values.text
    }
}

impl std::ops::Deref for OptionValues {
    type Target = Map<String, Value>;
    fn deref(&self) -> &Self::Target {
        &self.values
    }
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
