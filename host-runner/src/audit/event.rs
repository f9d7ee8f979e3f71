//! What is recorded: a closed list. Secrets stand in it by path, never by value.

use remit_protocol::{
    AttemptId, ComponentName, ComponentVersion, Digest, Epoch, ExecutionId, JobName, Origin, Outcome,
    ProjectName, RefusalCode, Revision, RunnerName, SecretName, SecretPath, Session, StepName,
    capability::{Denial, Remit},
};
use serde::Serialize;

/// Something that this runner did, or refused.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Event {
    /// The process began.
    Began {
        /// The runner.
        runner: RunnerName,
        /// Its program's version.
        version: &'static str,
        /// Bytes of a line that a crash had left unfinished and that were cut off.
        torn: u64,
    },
    /// The orchestrator answered: a session.
    Session {
        /// Its number.
        session: Session,
    },
    /// The trust policy at hand is another one from here on.
    Policy {
        /// Its version.
        version: u64,
    },
    /// A remit that was not seen in this part of the trail before.
    Remit {
        /// Its digest, as later entries name it.
        digest: Digest,
        /// All that it allows.
        remit: Box<Remit>,
    },
    /// Everything of a section was verified and its remits computed: it may begin.
    Accepted(Box<Accepted>),
    /// A section was refused as a whole.
    Refused {
        /// Which attempt.
        attempt: AttemptId,
        /// Of which execution.
        execution: ExecutionId,
        /// Of which project.
        project: ProjectName,
        /// Of which job.
        job: JobName,
        /// The code; absent where the host failed or it was cancelled.
        #[serde(skip_serializing_if = "Option::is_none")]
        code: Option<RefusalCode>,
        /// In words.
        detail: String,
    },
    /// A component asked at run time for what its remit does not allow.
    Denied {
        /// In which attempt.
        attempt: AttemptId,
        /// In which step.
        step: StepName,
        /// On which node.
        #[serde(skip_serializing_if = "Option::is_none")]
        node: Option<String>,
        /// What, and who does not allow it.
        denials: Vec<Denial>,
    },
    /// A component has seen the values of secrets.
    Revealed {
        /// In which attempt.
        attempt: AttemptId,
        /// In which step.
        step: StepName,
        /// On which node.
        #[serde(skip_serializing_if = "Option::is_none")]
        node: Option<String>,
        /// Which.
        secrets: Vec<SecretName>,
    },
    /// An attempt that was accepted has ended.
    Ended {
        /// Which.
        attempt: AttemptId,
        /// How.
        outcome: Outcome,
    },
    /// The process ended in order.
    Stopped,
}

/// A section that was accepted.
#[derive(Debug, Clone, Serialize)]
pub struct Accepted {
    /// The attempt.
    pub attempt: AttemptId,
    /// Its fencing number.
    pub epoch: Epoch,
    /// The execution.
    pub execution: ExecutionId,
    /// The project.
    pub project: ProjectName,
    /// The job.
    pub job: JobName,
    /// Its revision, by the orchestrator's word.
    pub revision: Revision,
    /// The job document.
    pub document: Digest,
    /// Who asked for it, by the orchestrator's word.
    pub started_by: String,
    /// Its trigger, by the orchestrator's word.
    #[serde(skip_serializing_if = "Origin::is_operator")]
    pub origin: Origin,
    /// How many nodes.
    pub nodes: usize,
    /// The steps.
    pub steps: Vec<AcceptedStep>,
}

/// A step of an accepted section.
#[derive(Debug, Clone, Serialize)]
pub struct AcceptedStep {
    /// Its name.
    pub step: StepName,
    /// The component.
    pub component: ComponentName,
    /// Its version.
    pub version: ComponentVersion,
    /// The digest of its bytes, as computed here.
    pub digest: Digest,
    /// The note by which it was believed.
    pub note: Digest,
    /// Whose signatures counted.
    pub signers: Vec<String>,
    /// The reviewers' notes that counted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub verdicts: Vec<Digest>,
    /// Why it ran without a review that the policy asks for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exempt: Vec<String>,
    /// What it may do: see the entry `remit` of this digest.
    pub remit: Digest,
    /// Secrets that it may use.
    pub secrets: Vec<SecretPath>,
    /// Those of them that were typed for this run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub typed: Vec<SecretPath>,
}
