//! Jobs and how they are begun.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Digest, ExecutionId, IdempotencyKey, JobName, OptionName, ProjectName, Revision, RunnerId, RunnerName,
    SecretName, SecretPath, Span, StepName, Tag, Timestamp,
    capability::Effect,
    digest,
    endpoint::Fault,
    operator::{RunnerStatus, StepKind},
    sealed::SealedRun,
};

/// What to do with a job file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ApplyMode {
    /// Compile and save it.
    #[default]
    Save,
    /// Compile and compare only.
    Check,
}

/// A job file to be compiled and saved as the newest revision of the job that it names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Apply {
    /// The YAML, exactly; at most [`crate::limits::MAX_JOB`] bytes.
    pub source: String,
    /// Save or only check.
    #[serde(default)]
    pub mode: ApplyMode,
    /// Accept that a step may do more than in the newest revision.
    #[serde(default)]
    pub accept_wider: bool,
    /// What the author signed, for runners that want signed jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<SignedJob>,
}

/// A job document as its author signed it. The source has to compile to exactly this document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SignedJob {
    /// The document, exactly.
    pub document: String,
    /// The `remit/job/v1` note on it, exactly.
    pub note: String,
}

/// What saving came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Change {
    /// The job is new.
    Created,
    /// There is a new revision.
    Updated,
    /// The document is the same as before: no new revision.
    Unchanged,
    /// Nothing was saved, as asked.
    Checked,
}

/// Something that a step may do from this revision on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Wider {
    /// Which step.
    pub step: StepName,
    /// The permission in words.
    pub permission: String,
}

impl std::fmt::Display for Wider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "step {} may now {}", self.step, self.permission)
    }
}

/// The job is saved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Applied {
    /// Its project.
    pub project: ProjectName,
    /// Its name.
    pub job: JobName,
    /// The newest revision; for a check the one that saving would make.
    pub revision: Revision,
    /// What happened.
    pub change: Change,
    /// Digest and length of the document.
    pub digest: digest::Sized,
    /// The compiled document.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub document: Value,
    /// What steps may do that they could not before.
    pub wider: Vec<Wider>,
    /// Why no runner that is there could run a step: what the ceilings lack, a sentence each. The job is saved all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// A job as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobSummary {
    /// Its project.
    pub project: ProjectName,
    /// Its name.
    pub job: JobName,
    /// `ops/web`, or empty.
    pub group: String,
    /// For people.
    pub description: String,
    /// The newest revision.
    pub revision: Revision,
    /// When that was saved.
    pub saved: Timestamp,
    /// Who saved it.
    pub saved_by: String,
}

/// A job, whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobView {
    /// Name and revision.
    pub summary: JobSummary,
    /// What its author wrote.
    pub source: String,
    /// Digest and length of the document.
    pub digest: digest::Sized,
    /// The compiled document.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub document: Value,
    /// The note on it, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A job to be run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Trigger {
    /// Option values; what is left out has its default.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub options: BTreeMap<OptionName, Value>,
    /// A node filter instead of the job's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Runner tags instead of the job's, if it allows that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_tags: Option<BTreeSet<Tag>>,
    /// The same key in the same job means the same execution, for 24 hours at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<IdempotencyKey>,
    /// Not before this time, at most [`LATEST_START`] ahead; absent or past: now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// The run as the caller signed it. Options are then those of the signed text, nodes those of the note.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<SignedRun>,
    /// What was typed for options, sealed. The execution is then the one of this id, with these option values and nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<SealedRun>,
}

/// A command that is run once, without a job: on nodes over SSH, or on a runner's host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Command {
    /// The program and its arguments, each as it is to arrive: at most [`Command::MOST_ARGUMENTS`].
    pub argv: Vec<String>,
    /// Where it runs.
    pub on: CommandPlace,
    /// All of these tags does its runner carry; none: the local runner.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub runner_tags: BTreeSet<Tag>,
    /// How long it may take; on nodes on each of them. At most what the component may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// The same key means the same execution, for 24 hours at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<IdempotencyKey>,
}

/// Where a command runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum CommandPlace {
    /// On the runner's host, if its owner has named the program.
    Runner,
    /// On each node that a filter selects, over SSH.
    Nodes {
        /// The filter, or `@NAME` for one that the project keeps.
        filter: String,
        /// The SSH key that logs in.
        key: SecretPath,
        /// On how many nodes at once.
        threads: u32,
        /// Goes on with other nodes after one failed.
        keep_going: bool,
    },
}

impl Command {
    /// Most arguments, the program included.
    pub const MOST_ARGUMENTS: usize = 256;
    /// Most bytes of all arguments together.
    pub const MOST_BYTES: usize = 64 << 10;
    /// What its execution calls its job; no job can be called so.
    pub const JOB: &str = "adhoc_command";
}

/// A run as somebody signed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SignedRun {
    /// The note, `remit/run/v1`.
    pub note: String,
    /// The very text of the option values that it names.
    pub options: String,
}

/// What a run of a job would be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Plan {
    /// The id that the execution would have: sign this one, or it gets another.
    pub execution: ExecutionId,
    /// The project.
    pub project: ProjectName,
    /// The job.
    pub job: JobName,
    /// Its revision.
    pub revision: Revision,
    /// The exact bytes of the job document.
    pub definition: digest::Sized,
    /// The exact text of the option values, defaults filled in.
    pub options: String,
    /// The options among them whose value has to be typed, and sealed to runners.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub typed: Vec<PlannedSecret>,
    /// The nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<PlannedNodes>,
    /// The runners that carry the tags and work for the project.
    pub runners: Vec<PlannedRunner>,
    /// The steps, in order.
    pub steps: Vec<PlannedStep>,
}

/// A typed secret of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PlannedSecret {
    /// The option.
    pub option: OptionName,
    /// As the secret of which path it arrives.
    pub path: SecretPath,
}

/// The nodes of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PlannedNodes {
    /// The exact bytes of the set.
    pub set: digest::Sized,
    /// The very text of the set, attributes and all.
    pub text: String,
    /// How many at once.
    pub threads: u32,
    /// How many nodes each tier has, if there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tiers: Vec<u32>,
    /// Over how many runners they are split, if they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split_over: Option<u32>,
}

/// A runner of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PlannedRunner {
    /// Its id.
    pub id: RunnerId,
    /// Its name.
    pub name: RunnerName,
    /// How it is doing.
    pub status: RunnerStatus,
    /// Its `remit/sealing/v1` note, where the job has options that are typed: believe it by a key that you have pinned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealing: Option<String>,
}

/// A step of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PlannedStep {
    /// Its name.
    pub name: StepName,
    /// What it does.
    pub does: StepKind,
    /// Once for each node.
    pub per_node: bool,
    /// What may be repeated without asking.
    pub effect: Effect,
    /// The components that it may run, by digest, with what each may do.
    pub components: Vec<PlannedComponent>,
}

/// A component of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PlannedComponent {
    /// `namespace/name@version`.
    pub component: String,
    /// Its own bytes.
    pub digest: Digest,
    /// What the job gives it.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub grant: Value,
    /// The paths of its secrets.
    pub secrets: BTreeMap<SecretName, Vec<SecretPath>>,
}

/// How far ahead a run may be asked for.
pub const LATEST_START: crate::Span = crate::Span::from_secs(400 * 86_400);

/// The execution that a trigger made, or had made before under the same key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Triggered {
    /// The execution.
    pub execution: ExecutionId,
    /// False if the key was known and nothing new was begun.
    pub created: bool,
}

/// What has been chosen so far, for options that depend on it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OptionsAsked {
    /// Option values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub options: BTreeMap<OptionName, Value>,
}

/// What a job asks when it is run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobOptions {
    /// The job.
    pub job: JobName,
    /// Its newest revision.
    pub revision: Revision,
    /// Its options, in the order in which they are asked.
    pub options: Vec<OptionView>,
    /// What was chosen and is no option of the job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
}

/// An option as it stands now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OptionView {
    /// Its name.
    pub name: OptionName,
    /// Its type: `string`, `integer`, `boolean`, `list`, `date`, `secret`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its value is typed and sealed to runners, and arrives as the secret of this path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub typed: Option<SecretPath>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// It has to have a value.
    pub required: bool,
    /// Its rule in words; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rule: String,
    /// Other values than the ones below are accepted, too.
    #[serde(default)]
    pub open: bool,
    /// The values to choose from; none: any that fits the rule.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// The value that it has: chosen, or by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub value: Option<Value>,
    /// What stands in the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
}
