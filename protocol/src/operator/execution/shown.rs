//! What is shown of executions: how they stand, what their steps came to, their log, what waits.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::NodeFate;
use crate::{
    ArtifactName, AttemptId, ComponentName, ComponentVersion, Digest, Epoch, ExecutionId, JobName, LogLimit,
    NodeIndex, NodeName, Origin, Outcome, ProjectName, Revision, RunnerName, SectionNumber, StepIndex,
    StepName, Timestamp,
    capability::Effect,
    report::{ArtifactForm, LogEntry, Usage},
};

/// How an execution stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ExecutionState {
    /// Nothing of it has begun.
    Waiting,
    /// A part of it runs.
    Running,
    /// A section waits for a person's decision.
    Held,
    /// It is being cancelled.
    Cancelling,
    /// It has ended; there is an outcome.
    Ended,
}

/// An execution as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ExecutionSummary {
    /// Its id.
    pub id: ExecutionId,
    /// The project.
    pub project: ProjectName,
    /// The job.
    pub job: JobName,
    /// The job's revision.
    pub revision: Revision,
    /// How it stands.
    pub state: ExecutionState,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Who or what began it.
    pub started_by: String,
    /// Its trigger.
    #[serde(default, skip_serializing_if = "Origin::is_operator")]
    pub origin: Origin,
    /// When it was triggered.
    pub created: Timestamp,
    /// When the first part of it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// Why it waits, in words, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<String>,
}

/// How an execution goes back to an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Repeat {
    /// From the beginning, on the nodes that ended so.
    Rerun {
        /// How.
        nodes: BTreeSet<NodeFate>,
    },
    /// From the first step that did not end well; what came before is taken over.
    Resume,
    /// Because the job says so: from the beginning, on all its nodes.
    Retry {
        /// Which try this is: 2 is the first retry.
        attempt: u32,
    },
}

/// To which earlier execution one goes back, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Again {
    /// The earlier one.
    pub execution: ExecutionId,
    /// How.
    pub how: Repeat,
}

impl fmt::Display for Again {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.how {
            Repeat::Rerun { nodes } => {
                let nodes: Vec<String> = nodes.iter().map(ToString::to_string).collect();
                write!(f, "reruns execution {} where it ended as {}", self.execution, nodes.join(" or "))
            }
            Repeat::Retry { attempt } => {
                write!(f, "try {attempt} of the job, after execution {}", self.execution)
            }
            Repeat::Resume => write!(f, "continues execution {}", self.execution),
        }
    }
}

/// An execution with its sections and steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ExecutionView {
    /// State, outcome and times.
    pub summary: ExecutionSummary,
    /// Digest of the job document that it runs.
    pub document: Digest,
    /// The values of all options.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub options: Map<String, Value>,
    /// How many nodes it runs over; 0 if no step runs per node.
    pub nodes: u32,
    /// What is handed out in one piece each.
    pub sections: Vec<SectionView>,
    /// The steps, in order.
    pub steps: Vec<StepResult>,
    /// The exact bytes of the job document.
    pub definition: crate::digest::Sized,
    /// The exact text of the option values: what an approval names.
    pub options_text: String,
    /// The exact bytes of the node set, if it has nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_set: Option<crate::digest::Sized>,
    /// The signed note of who wants this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_note: Option<String>,
    /// For whom what was typed for it is sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<SealedView>,
    /// The command, for people, if it runs no job but a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// It was never begun: until when it waited for its turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waited_until: Option<Timestamp>,
    /// How much log it keeps; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_limit: Option<LogLimit>,
    /// The earlier execution to which it goes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<Again>,
    /// The executions that it began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<ChildView>,
}

/// For whom typed secrets of an execution are sealed. The sealed values themselves are never shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SealedView {
    /// The runners.
    pub runners: Vec<RunnerName>,
    /// Until when they can be opened.
    pub until: Timestamp,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum StepKind {
    /// Runs a component.
    Component {
        /// Its name.
        name: ComponentName,
        /// Its version.
        version: ComponentVersion,
    },
    /// Asks people.
    Gate {
        /// How many have to agree.
        needed: u32,
    },
    /// Ends the execution.
    Halt,
    /// Runs another job.
    Job {
        /// Which.
        name: JobName,
    },
}

impl fmt::Display for StepKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Component { name, version } => write!(f, "{name}@{version}"),
            Self::Gate { .. } => f.write_str("approval"),
            Self::Halt => f.write_str("halt"),
            Self::Job { name } => write!(f, "job {name}"),
        }
    }
}

/// How a section stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum SectionState {
    /// Sections before it have not ended.
    Waiting,
    /// It wants a runner.
    Ready,
    /// A runner has it and has not begun.
    Leased,
    /// A runner has begun.
    Running,
    /// Somebody has to say what becomes of it.
    Held,
    /// It has ended.
    Ended,
}

/// A section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SectionView {
    /// Its place in the plan.
    pub number: SectionNumber,
    /// Its first step.
    pub first_step: StepIndex,
    /// How many steps it has.
    pub steps: u32,
    /// What may be repeated without asking.
    pub effect: Effect,
    /// How it stands.
    pub state: SectionState,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Why it waits or is held, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The newest attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<AttemptId>,
    /// Its epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    /// The runner that has or had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner: Option<RunnerName>,
    /// How many nodes it is run on, if it has nodes: a part of them where they are split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<u32>,
    /// Which tier of the nodes it belongs to, from 0.
    #[serde(default)]
    pub tier: u32,
    /// Who has agreed, at a gate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approved_by: Vec<String>,
}

/// An execution that a section began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChildView {
    /// Which section.
    pub section: SectionNumber,
    /// For which item of its list; 0 without one.
    pub item: u32,
    /// The execution.
    pub execution: ExecutionId,
    /// How it stands.
    pub state: ExecutionState,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

/// How far a step says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Progress {
    /// So much is done,
    pub done: u64,
    /// of so much.
    pub total: u64,
}

/// What a step of an execution came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StepResult {
    /// Its place in the document.
    pub index: StepIndex,
    /// Its name.
    pub name: StepName,
    /// What it does.
    pub does: StepKind,
    /// It runs once per node.
    pub per_node: bool,
    /// How it ended; for a node step the roll-up of its nodes. Absent while it has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// For a node step: how many nodes ended in which way, by the word without detail.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counts: BTreeMap<String, u32>,
    /// For a node step: how many nodes have not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<u32>,
    /// Times, output and message of a workflow step that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<StepRun>,
}

/// One run of one step, ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StepRun {
    /// How often it was run; zero if it never was.
    pub tries: u32,
    /// When the first try began.
    pub started: Timestamp,
    /// When the last one ended.
    pub ended: Timestamp,
    /// Its output document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub output: Option<Value>,
    /// Why, in words, with the remedy of a refusal.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// What was used, of what was allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Box<Usage>>,
    /// Digest of the remit that it ran under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remit: Option<Digest>,
}

/// What a step came to on one node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NodeResult {
    /// The node's place in the execution's node set.
    pub index: NodeIndex,
    /// The node.
    pub node: NodeName,
    /// How it ended; absent while it has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// The run, once it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<StepRun>,
}

/// A file that a step of an execution kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ArtifactView {
    /// Its name.
    pub name: ArtifactName,
    /// The step.
    pub step: StepIndex,
    /// The step's name.
    pub step_name: StepName,
    /// The node's place in the execution's node set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeIndex>,
    /// The node's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<NodeName>,
    /// What its bytes are.
    pub form: ArtifactForm,
    /// The digest of its bytes.
    pub digest: Digest,
    /// How many bytes.
    pub length: u64,
    /// When it was kept.
    pub kept: Timestamp,
}

/// A log entry and its number in the execution's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LogLine {
    /// The number; numbers rise, but where a filter was given not by one.
    pub number: u64,
    /// The step's name.
    pub step_name: StepName,
    /// The node's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<NodeName>,
    /// The job's log limit left no room for what follows: in the whole log, or on this node. It says so in place of the
    /// first entry that was thrown away.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
    /// The entry.
    pub entry: LogEntry,
}

/// A part of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LogPage {
    /// The entries.
    pub lines: Vec<LogLine>,
    /// Send this as `from` for what follows.
    pub next: u64,
    /// Nothing follows and nothing will.
    pub complete: bool,
}

/// A section that waits for a runner or for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct QueueEntry {
    /// The execution.
    pub execution: ExecutionId,
    /// Its project.
    pub project: ProjectName,
    /// Its job.
    pub job: JobName,
    /// The section; absent if the execution as a whole waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section: Option<SectionNumber>,
    /// Ready: it waits for a runner or its time; held: for a person.
    pub state: SectionState,
    /// Since when, as far as is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Why, in words.
    pub reason: String,
}
