//! What is kept of an execution: its head, sections and attempts; the changes to them; what people are told.

use std::collections::{BTreeMap, BTreeSet};

use remit_job::document::Share;
use remit_protocol::{
    AttemptId, Digest, Epoch, ExecutionId, JobName, LogLimit, NodeIndex, Origin, Outcome, ProjectName,
    Revision, RunnerId, RunnerName, SectionNumber, Session, SourceName, Span, StepIndex, Tag, Timestamp,
    assignment::{OptionValues, Strategy},
    capability::Effect,
    digest,
    operator::{Again, Decision},
    report::{Event, SignedResult, StepEnded},
};
use serde::{Deserialize, Serialize};

use super::notice::Notice;
use super::state::{AttemptState, ExecutionState, Hold, SectionState};

/// What an execution is of, fixed when it is made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// The project.
    pub project: ProjectName,
    /// The job.
    pub job: JobName,
    /// The job's revision; zero for a node source.
    pub revision: Revision,
    /// The job document, a blob.
    pub document: digest::Sized,
    /// The note on the document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Why it runs.
    #[serde(default)]
    pub purpose: Purpose,
    /// Option values, checked.
    #[serde(default)]
    pub options: OptionValues,
    /// The files among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<digest::Sized>,
    /// The signed note of who wants this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_note: Option<String>,
    /// For whom what was typed for it is sealed. The sealed values are kept elsewhere, until it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<SealedTo>,
    /// Who or what began it.
    pub started_by: String,
    /// Its trigger.
    #[serde(default, skip_serializing_if = "Origin::is_operator")]
    pub origin: Origin,
    /// What expressions see as `project.NAME`, as it was then.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub variables: serde_json::Map<String, serde_json::Value>,
    /// The runner has to carry all of them; none: the local runner.
    #[serde(default)]
    pub tags: BTreeSet<Tag>,
    /// The nodes of its node steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodeSelection>,
    /// How long it may take from its beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// Not before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// At most so many executions of this job at once; the others queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_once: Option<u32>,
    /// At most so many of them wait for their turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most_queued: Option<u32>,
    /// If it still waits for its turn then, it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued_until: Option<Timestamp>,
    /// How much log it keeps; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_limit: Option<LogLimit>,
    /// How often the job was tried before, by its own rule.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: u32,
    /// The section for which it runs, if another execution began it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// The earlier execution to which it goes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<Again>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// For whom typed secrets are sealed: nobody else can run what they are for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedTo {
    /// The digest of the sealed values, by which the same request is known again.
    pub digest: Digest,
    /// The runners, with their names then.
    pub runners: BTreeMap<RunnerId, RunnerName>,
    /// From then on not all of them can be opened any more.
    pub until: Timestamp,
}

/// For what another execution began this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// The other execution.
    pub execution: ExecutionId,
    /// Its section.
    pub section: SectionNumber,
    /// For which item of its list; zero without a list.
    pub item: u32,
    /// There is a list.
    pub many: bool,
}

/// Why an execution runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// For its own sake.
    #[default]
    Job,
    /// For its own sake, and it is no job's: somebody wanted a command to be run once.
    Command,
    /// To refresh this node source.
    Source(SourceName),
}

/// The nodes of an execution, and how they are gone through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSelection {
    /// The set, a blob.
    pub set: digest::Sized,
    /// How many nodes.
    pub count: u32,
    /// How many at once.
    pub threads: u32,
    /// Go on after a node failed.
    pub keep_going: bool,
    /// In which order.
    pub strategy: Strategy,
    /// Where its tiers end, ascending; none: it is gone through in one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tiers: Vec<u32>,
    /// How many may not end well before no further tier is begun; none may where it says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_failures: Option<Share>,
    /// Without nodes, node steps fail instead of being skipped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fail_if_empty: bool,
    /// Over how many runners a tier is split; 0 and 1: it is not.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lanes: u32,
}

/// What a section does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// Steps that one runner runs in one piece: one workflow step, or node steps over a part of the nodes.
    Steps {
        /// The first of them.
        first: StepIndex,
        /// How many.
        count: u32,
        /// The highest retry class.
        effect: Effect,
        /// The part of the node set, as ranges `[first, end)`; none for a workflow step.
        nodes: Option<Vec<(u32, u32)>>,
    },
    /// Other jobs: child executions, until all have ended.
    Jobs {
        /// The step that names them.
        step: StepIndex,
    },
    /// Waits for an approval.
    Gate {
        /// The step that is the gate.
        step: StepIndex,
    },
    /// Ends the execution.
    Halt {
        /// The step that says so.
        step: StepIndex,
    },
}

/// A place in the plan of an execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Its number.
    pub number: SectionNumber,
    /// The sections that have to end before it is due. Sections without a path between them run side by side.
    pub after: Vec<SectionNumber>,
    /// What it does.
    pub work: Work,
    /// Which tier of its nodes this is, from 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tier: u32,
    /// How many of its nodes at once, where it is one of several parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<u32>,
}

impl Place {
    /// The steps that it covers.
    pub fn steps(&self) -> std::ops::Range<u32> {
        match &self.work {
            Work::Steps { first, count, .. } => first.0..first.0.saturating_add(*count),
            Work::Jobs { step } | Work::Gate { step } | Work::Halt { step } => {
                step.0..step.0.saturating_add(1)
            }
        }
    }
}

/// A section as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SectionRecord {
    /// What it is, fixed when it is planned.
    pub place: Place,
    /// Its state.
    pub state: SectionState,
    /// The newest epoch; zero before the first attempt.
    pub epoch: Epoch,
    /// How often it was begun and its runner then lost.
    pub losses: u32,
    /// Not handed out before this time; a gate is closed for good at this time.
    pub not_before: Option<Timestamp>,
}

/// A person's yes at a gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// The gate.
    pub section: SectionNumber,
    /// Whose.
    pub by: String,
    /// When it was heard.
    pub at: Timestamp,
    /// The approver's signed note, for runners that want to see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// An attempt as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRecord {
    /// Which.
    pub id: AttemptId,
    /// Of which section.
    pub section: SectionNumber,
    /// Its fencing number.
    pub epoch: Epoch,
    /// Who runs it.
    pub runner: RunnerId,
    /// The session that took it over last.
    pub session: Session,
    /// The nodes that it runs, as ranges; empty for a workflow step.
    pub ranges: Vec<(u32, u32)>,
    /// Its state.
    pub state: AttemptState,
    /// The number with which the runner asked to begin.
    pub nonce: Option<u64>,
    /// The highest event number that was applied.
    pub events: u64,
    /// When it was handed out.
    pub leased: Timestamp,
    /// When it began.
    pub began: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Why it ended so, in words.
    pub message: String,
    /// What its runner signed about its end, for runners that go on from there.
    pub result: Option<SignedResult>,
}

/// A change to what is kept, in the order in which it is made. Everything of one operation is one transaction.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// The execution moved.
    Execution {
        /// Where to.
        state: ExecutionState,
        /// When it began.
        began: Option<Timestamp>,
        /// When it ended.
        ended: Option<Timestamp>,
        /// Why it is being stopped: `cancelled`, `timed-out`, or as its job's log limit says.
        stop: Option<Outcome>,
    },
    /// A section was planned.
    Planned(SectionRecord),
    /// A section moved.
    Section(SectionRecord),
    /// An attempt was handed out.
    HandedOut(AttemptRecord),
    /// An attempt moved.
    Attempt(AttemptRecord),
    /// Somebody agreed at a gate.
    Approved(Approval),
    /// Nodes are about to be begun.
    Dispatched {
        /// By which attempt.
        attempt: AttemptId,
        /// Number of the event.
        number: u64,
        /// Which.
        nodes: Vec<NodeIndex>,
    },
    /// A step ended.
    StepEnded {
        /// In which attempt; none if it was never handed out.
        attempt: Option<AttemptId>,
        /// How.
        ended: Box<StepEnded>,
    },
    /// What steps came to in an earlier execution counts in this one.
    TakenOver {
        /// Which execution.
        from: ExecutionId,
        /// Which steps, `[first, end)`.
        steps: (StepIndex, StepIndex),
        /// On which nodes, as ranges `[first, end)`; none for a workflow step.
        nodes: Option<Vec<(u32, u32)>>,
    },
    /// A step ended on all nodes, by this roll-up.
    StepConcluded {
        /// Which.
        step: StepIndex,
        /// How.
        outcome: Outcome,
    },
    /// A node source was refreshed, or was not.
    SourceNodes {
        /// Which.
        name: SourceName,
        /// The nodes (a blob, and how many), or why there are none.
        found: Result<(digest::Sized, u32), String>,
    },
    /// The job is to be tried again, as another execution, not before this time.
    Retry(Timestamp),
    /// Something is to be made known outside.
    Notice(Notice),
    /// Something came from an attempt that no longer counts.
    Evidence {
        /// Which.
        attempt: AttemptId,
        /// Number of the event.
        number: u64,
        /// What.
        event: Box<Event>,
    },
}

/// Something that people who follow an execution are told. Its number is its place in the execution's feed, from 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Happening {
    /// The execution moved.
    Execution {
        /// Where to.
        state: ExecutionState,
    },
    /// A section moved.
    Section {
        /// Which.
        section: SectionNumber,
        /// Where to.
        state: SectionState,
        /// What it waits for, if for a person.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hold: Option<Hold>,
        /// Which attempt this concerns.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        attempt: Option<AttemptId>,
        /// On which runner.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        runner: Option<RunnerId>,
        /// Why, in words.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        message: String,
    },
    /// Steps ended, each on one node or (workflow steps) as such.
    Results {
        /// Which, and how.
        results: Vec<ResultLine>,
    },
    /// A step ended on all its nodes.
    Step {
        /// Which.
        step: StepIndex,
        /// How.
        outcome: Outcome,
    },
    /// A step said how far it is.
    Progress {
        /// Which.
        step: StepIndex,
        /// On which node.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<NodeIndex>,
        /// So much is done,
        done: u64,
        /// of so much.
        total: u64,
    },
    /// A person decided.
    Decided {
        /// On which section.
        section: SectionNumber,
        /// What.
        decision: Decision,
        /// Who.
        by: String,
    },
    /// Somebody agreed at a gate.
    Approved {
        /// Which.
        section: SectionNumber,
        /// Who.
        by: String,
        /// How many more have to.
        missing: u32,
    },
    /// An attempt that no longer counts reported that it did something: it may have been done twice.
    Doubled {
        /// Which.
        attempt: AttemptId,
    },
}

/// A step's end in a [`Happening`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ResultLine {
    /// Which step.
    pub step: StepIndex,
    /// On which node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeIndex>,
    /// How it ended.
    pub outcome: Outcome,
}
