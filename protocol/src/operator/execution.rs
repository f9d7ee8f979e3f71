//! Executions: how they stand, what their steps came to, their log, and what happens to them right now.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    ArtifactName, AttemptId, ComponentName, ComponentVersion, Digest, Epoch, ExecutionId, IdempotencyKey,
    JobName, LogLimit, NodeIndex, NodeName, Origin, Outcome, ProjectName, Revision, RunnerName,
    SectionNumber, StepIndex, StepName, Tag, Timestamp,
    capability::Effect,
    operator::SignedRun,
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
        super::entries(self.limit)
    }
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
        super::entries(self.limit)
    }
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
        super::entries(self.limit)
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

/// Which log entries are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
pub struct LogQuery {
    /// From this number on; absent: from the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// How many at most, up to [`super::MAX_LOG_PAGE`].
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
        self.limit.unwrap_or(super::MAX_PAGE).clamp(1, super::MAX_LOG_PAGE)
    }
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

/// Where a reader of live events is: the number of the last event and of the next log entry. Text: `12-340`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Place {
    /// The last event that was seen; 0: none.
    pub event: u64,
    /// The log entry that is wanted next.
    pub entry: u64,
}

/// A text that is not a place among live events.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a place among live events: expected two numbers such as 12-340")]
pub struct InvalidPlace;

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.event, self.entry)
    }
}

impl FromStr for Place {
    type Err = InvalidPlace;
    fn from_str(text: &str) -> Result<Self, InvalidPlace> {
        let number = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            if plain { digits.parse().map_err(|_| InvalidPlace) } else { Err(InvalidPlace) }
        };
        let (event, entry) = text.split_once('-').ok_or(InvalidPlace)?;
        Ok(Self { event: number(event)?, entry: number(entry)? })
    }
}

impl TryFrom<String> for Place {
    type Error = InvalidPlace;
    fn try_from(text: String) -> Result<Self, InvalidPlace> {
        text.parse()
    }
}

impl From<Place> for String {
    fn from(place: Place) -> Self {
        place.to_string()
    }
}

/// From where live events are wanted; `Last-Event-ID` says the same and wins.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
pub struct EventsQuery {
    /// The id of the last event that was seen; absent: from the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(value_type = Option<String>))]
    pub after: Option<Place>,
}

/// The data of one server-sent event; its id is a [`Place`]. After `end` the orchestrator closes the stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum LiveEvent {
    /// The execution stands differently.
    Execution {
        /// How it stands now.
        execution: ExecutionSummary,
    },
    /// A section stands differently.
    Section {
        /// How it stands now.
        section: SectionView,
    },
    /// A step ended, as a whole or on one node.
    StepEnded {
        /// Which step.
        step: StepIndex,
        /// Its name.
        name: StepName,
        /// On which node; absent: as a whole.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<NodeName>,
        /// How.
        outcome: Outcome,
        /// Why, in words.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        message: String,
    },
    /// A step said how far it is.
    Progress {
        /// Which step.
        step: StepIndex,
        /// On which node.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<NodeIndex>,
        /// How far.
        progress: Progress,
    },
    /// Log entries.
    Log {
        /// In the log's order.
        lines: Vec<LogLine>,
    },
    /// The execution has ended and everything was said.
    End {
        /// How it ended.
        outcome: Outcome,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_one_text() {
        fn check(text: &str, expect: Option<Place>) {
            assert_eq!(text.parse().ok(), expect, "{text:?}");
        }
        check("12-340", Some(Place { event: 12, entry: 340 }));
        check("0-0", Some(Place::default()));
        check("12", None);
        check("-1", None);
        check("+1-2", None);
        check("1-99999999999999999999999", None);
    }
}
