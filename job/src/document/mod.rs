//! The job document: a compiled job in strict JSON. Its bytes carry the digest that is signed, stored and run.
//!
//! Everything is explicit here: components by digest, grants in full, retry classes computed. A runner does not trust
//! the orchestrator, so [`Document::from_slice`] repeats every check that compile makes and that needs no component.

mod log;
mod share;
mod step;

use std::{collections::BTreeSet, ops::Range};

use remit_protocol::{
    JobName, LogLimit, ProjectName, SecretPath, Span, StepIndex, StepName, Tag, assignment::Strategy,
    endpoint::Fault, json, limits::MAX_JOB, manifest::Kind,
};
use serde::{Deserialize, Serialize};

pub use log::{InvalidLinePattern, LinePattern, Reading, StepLog};
pub use share::{InvalidShare, Percent, Share};
pub use step::{
    Action, Approvers, ComponentAction, Gate, Halt, HaltOutcome, JobAction, OnError, Per, Retry,
    RetryOutcome, Step, When,
};

use crate::{
    check,
    expression::Expression,
    filter::{FilterTemplate, Rank},
    notify::Notify,
    options::OptionDefinition,
    schedule::Schedule,
};

/// The form of the document that this version writes and reads.
pub const VERSION: u32 = 1;

/// A compiled job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// The form of this document: [`VERSION`].
    pub v: u32,
    /// The project that the job belongs to.
    pub project: ProjectName,
    /// The job's name.
    pub job: JobName,
    /// Where lists show it: names joined by `/`; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// What it is for, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Which runners may run it.
    #[serde(default)]
    pub runner: RunnerSelection,
    /// What is asked when it is run, in the order in which it is asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<OptionDefinition>,
    /// On which nodes its node steps run; absent if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Nodes>,
    /// In which order node steps are run.
    #[serde(default)]
    pub strategy: Strategy,
    /// How long an execution may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Timeout>,
    /// How many executions of it go on at once; absent: as many as there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// How much log an execution keeps; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_limit: Option<LogLimit>,
    /// Whether another execution follows one that ended badly; not for one that another job began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// At which times it is run without being asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schedules: Vec<Schedule>,
    /// What of its executions is made known, and to whom.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notify: Vec<Notify>,
    /// What is done, in this order.
    pub steps: Vec<Step>,
}

/// Which runners may run a job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunnerSelection {
    /// The runner has to carry all of them; none: the local runner.
    #[serde(default)]
    pub tags: BTreeSet<Tag>,
    /// Whoever runs the job may choose other tags.
    #[serde(default, rename = "override")]
    pub may_override: bool,
}

/// How many executions of a job go on at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Concurrency {
    /// At most so many: 1 to [`Concurrency::MOST`].
    pub limit: u32,
    /// What becomes of one more.
    pub when_full: WhenFull,
    /// At most so many wait for their turn: 1 to [`Concurrency::MOST_QUEUED`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most_queued: Option<u32>,
    /// Whoever has waited for so long ends as `timed-out`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Span>,
}

impl Concurrency {
    /// Highest limit.
    pub const MOST: u32 = 1000;
    /// Longest queue.
    pub const MOST_QUEUED: u32 = 10_000;
    /// How many wait where the job says nothing.
    pub const QUEUED: u32 = 100;

    /// How many may wait for their turn.
    pub fn queue(&self) -> u32 {
        match self.when_full {
            WhenFull::Queue => self.most_queued.unwrap_or(Self::QUEUED),
            WhenFull::Refuse => 0,
        }
    }
}

/// What becomes of an execution for which there is no room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhenFull {
    /// It waits for its turn, the oldest first.
    #[default]
    Queue,
    /// It is not made.
    Refuse,
}

/// On which nodes the node steps run, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nodes {
    /// The node filter; values may hold `${…}`.
    pub filter: FilterTemplate,
    /// How many nodes at once.
    pub threads: Threads,
    /// Go on with other nodes after one failed.
    pub keep_going: bool,
    /// In which order nodes are taken; absent: by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<Rank>,
    /// Only so many of them, the first in that order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Share>,
    /// The nodes are gone through in tiers, one after the other; absent: in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tiers: Option<Tiers>,
    /// No further tier is begun once more nodes than this did not end well; absent: none may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_failures: Option<Share>,
    /// What becomes of an execution without nodes.
    #[serde(default, skip_serializing_if = "OnEmpty::is_usual")]
    pub on_empty: OnEmpty,
    /// The nodes are split over all runners that match, instead of being run by one of them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub spread: bool,
}

/// How nodes are gone through in tiers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tiers {
    /// So many in each, shares of all; the last tier is the rest.
    Sizes(Vec<Share>),
    /// Nodes with the same value of the attribute that ranks them are a tier.
    Rank,
}

impl Tiers {
    /// Most tiers; what would be more belongs to the last.
    pub const MOST: usize = 100;
}

/// What becomes of an execution whose filter selects no node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnEmpty {
    /// Its node steps are skipped.
    #[default]
    Succeed,
    /// Its node steps fail.
    Fail,
}

impl OnEmpty {
    fn is_usual(&self) -> bool {
        *self == Self::Succeed
    }
}

/// A number of nodes: fixed, or an expression that is evaluated when the job is triggered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Threads {
    /// So many.
    Fixed(u32),
    /// So many of a hundred of the nodes.
    Percent(Percent),
    /// What the expression comes to.
    Expression(Expression),
}

/// A span of time: fixed, or an expression that comes to its text when the job is triggered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Timeout {
    /// So long.
    Fixed(Span),
    /// A text such as `30m`, by expression.
    Expression(Expression),
}

impl TryFrom<String> for Timeout {
    type Error = String;
    /// A text that begins with a digit is a duration; anything else an expression.
    fn try_from(text: String) -> Result<Self, String> {
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            return text
                .parse()
                .map(Self::Fixed)
                .map_err(|e: remit_protocol::time::InvalidSpan| e.to_string());
        }
        Expression::new(&text).map(Self::Expression).map_err(|invalid| invalid.to_string())
    }
}

impl From<Timeout> for String {
    fn from(timeout: Timeout) -> Self {
        match timeout {
            Timeout::Fixed(span) => span.to_string(),
            Timeout::Expression(expression) => expression.into(),
        }
    }
}

/// Bytes that are not an acceptable job document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the job document is not acceptable: {}", first(.0))]
pub struct InvalidDocument(pub Vec<Fault>);

fn first(faults: &[Fault]) -> String {
    faults.first().map(|fault| format!("{}: {}", fault.place, fault.message)).unwrap_or_default()
}

impl Document {
    /// Parses and checks a document: strict JSON, and every rule that compile checks and that needs no component.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, InvalidDocument> {
        let document: Self = json::from_slice(bytes, MAX_JOB).map_err(|invalid| {
            InvalidDocument(vec![Fault {
                line: None,
                column: None,
                place: "document".to_owned(),
                message: invalid.to_string(),
                remedy: "apply the job again with a `remit` of the same version".to_owned(),
            }])
        })?;
        let faults = check::document(&document);
        if faults.is_empty() { Ok(document) } else { Err(InvalidDocument(faults)) }
    }

    /// True for the document of a node source: a single step, which discovers.
    pub fn is_discovery(&self) -> bool {
        let discovers = |step: &Step| match &step.action {
            Action::Component(component) => component.kind == Kind::NodeSource && step.per == Per::Once,
            Action::Gate(_) | Action::Halt(_) | Action::Job(_) => false,
        };
        matches!(&self.steps[..], [step] if discovers(step))
            && self.options.is_empty()
            && self.nodes.is_none()
    }

    /// The bytes that are stored, signed and sent.
    pub fn to_vec(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Whether a step knows what an earlier one came to: not if they stand side by side.
    pub fn sees(&self, step: StepIndex, earlier: StepIndex) -> bool {
        let group = |index: StepIndex| {
            self.steps.get(usize::try_from(index.0).unwrap_or(usize::MAX)).and_then(|step| step.group)
        };
        earlier < step && (group(step).is_none() || group(step) != group(earlier))
    }

    /// Whether one of these steps may use the secret at `path`.
    pub fn uses_secret(&self, steps: Range<usize>, path: &SecretPath) -> bool {
        let components = self.steps.get(steps).unwrap_or_default().iter().flat_map(Step::components);
        components.flat_map(|component| component.secrets.values()).flatten().any(|own| own == path)
    }

    /// The step of this name and its place.
    pub fn step(&self, name: &StepName) -> Option<(usize, &Step)> {
        self.steps.iter().enumerate().find(|(_, step)| step.name == *name)
    }
}
